//! Events that the library reports while it works. It prints nothing itself.

use std::time::Duration;

use crate::oci::digest::Digest;

/// Something that happened, for an [`Observer`] to show.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Something the user will want to know, in one line.
    Note(&'a str),
    /// Something that is probably not what the user wants, in one line.
    Warning(&'a str),
    /// A request was answered.
    Answered {
        /// `GET` or `POST`.
        method: &'a str,
        /// The URL, without parts that may be secret.
        url: &'a str,
        /// The status code.
        status: u16,
        /// The time from sending the request to receiving the whole response head.
        elapsed: Duration,
    },
    /// This program's own registry server answered a request.
    Served {
        /// `GET` or another method.
        method: &'a str,
        /// The path and query of the request.
        target: &'a str,
        /// The status code.
        status: u16,
    },
    /// A registry said how many pulls are left.
    RateLimit {
        /// The registry's host.
        host: &'a str,
        /// The number of pulls per time window, as the registry sent it: `100;w=21600`.
        limit: &'a str,
        /// How many are left, as the registry sent it.
        remaining: &'a str,
    },
    /// A registry requires a credential, and n2c looked for one.
    Credential {
        /// The repository that it is for.
        repository: &'a str,
        /// Where it was found; `None` if there is none.
        origin: Option<&'a str>,
    },
    /// A request failed and will be sent again.
    Retrying {
        /// What is being fetched.
        subject: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// How long until the request is sent again.
        delay: Duration,
    },
    /// The transfer of a blob starts, or resumes at `done`.
    TransferStarted {
        /// What is being fetched.
        subject: &'a str,
        /// The blob.
        digest: &'a Digest,
        /// How many bytes have been received already.
        done: u64,
        /// The size of the blob in bytes, if known.
        total: Option<u64>,
    },
    /// More of a blob has arrived.
    TransferAdvanced {
        /// The blob.
        digest: &'a Digest,
        /// How many bytes have been received so far.
        done: u64,
    },
    /// A blob of a pulled image is in its final place.
    BlobStored {
        /// The blob.
        digest: &'a Digest,
        /// The size of the blob in bytes.
        size: u64,
        /// Whether it was there before.
        was_there: bool,
    },
    /// A blob of an image is in the repository that it was copied to.
    BlobPushed {
        /// The blob.
        digest: &'a Digest,
        /// The size of the blob in bytes.
        size: u64,
        /// How it got there.
        arrival: Arrival,
    },
    /// A blob is complete and verified.
    TransferFinished {
        /// The blob.
        digest: &'a Digest,
        /// The size of the blob in bytes.
        total: u64,
    },
}

/// How a blob got into a repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// It was there already.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Sent,
    /// It isn't the registry's to hold.
    Foreign,
}

/// Receives events. It is called on the thread that does the work, so it must be quick.
pub trait Observer: Send + Sync {
    /// Handles one event.
    fn observe(&self, event: &Event<'_>);
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event<'_>) {}
}
