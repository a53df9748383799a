//! What the library tells while it works. It prints nothing itself.

use std::time::Duration;

use crate::oci::digest::Digest;

/// Something that happened, for whoever wants to show it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Something the user will want to know, in one line.
    Note(&'a str),
    /// Something that is probably not as the user wants it, in one line.
    Warning(&'a str),
    /// A request was answered.
    Answered {
        /// `GET` or `POST`.
        method: &'a str,
        /// The URL, without what may be secret in it.
        url: &'a str,
        /// The status code.
        status: u16,
        /// From sending the request to the end of the response's head.
        elapsed: Duration,
    },
    /// A registry of this program was asked for something, and answered.
    Served {
        /// `GET` or another method.
        method: &'a str,
        /// The path and the query, as they were asked for.
        target: &'a str,
        /// The status code.
        status: u16,
    },
    /// A registry told how many pulls are left.
    RateLimit {
        /// Who told.
        host: &'a str,
        /// How many there are in a time, as told: `100;w=21600`.
        limit: &'a str,
        /// How many are left, as told.
        remaining: &'a str,
    },
    /// A registry wants a credential, and one was found or not.
    Credential {
        /// What it is for.
        repository: &'a str,
        /// Where it stands; `None` where there is none.
        origin: Option<&'a str>,
    },
    /// A request failed and will be sent again.
    Retrying {
        /// What is being fetched.
        subject: &'a str,
        /// Why it failed.
        reason: &'a str,
        /// How long until it is sent again.
        delay: Duration,
    },
    /// A blob begins to arrive, or begins again at `done`.
    TransferStarted {
        /// What is being fetched.
        subject: &'a str,
        /// The blob.
        digest: &'a Digest,
        /// How many bytes are here already.
        done: u64,
        /// How many bytes it has, where that is known.
        total: Option<u64>,
    },
    /// More of a blob has arrived.
    TransferAdvanced {
        /// The blob.
        digest: &'a Digest,
        /// How many bytes are here now.
        done: u64,
    },
    /// A blob of an image that is pulled is in its place.
    BlobStored {
        /// The blob.
        digest: &'a Digest,
        /// How many bytes it has.
        size: u64,
        /// Whether it was there before.
        was_there: bool,
    },
    /// The blob is whole and verified.
    TransferFinished {
        /// The blob.
        digest: &'a Digest,
        /// How many bytes it has.
        total: u64,
    },
}

/// Receives events. Called on the thread that does the work, so it is to be quick.
pub trait Observer: Send + Sync {
    /// Takes note of one event.
    fn observe(&self, event: &Event<'_>);
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event<'_>) {}
}
