//! `inspect --explain`: records and shows how the result was found.

use std::sync::{Arc, Mutex, PoisonError};

use n2c::observer::{Event, Observer};
use n2c::oci::digest::Digest;
use n2c::oci::platform::Platform;
use n2c::resolve::Verdict;
use serde::Serialize;

use crate::cli::report::Report;

/// How the result was found. `--json` prints this too.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// The entries of the index, and whether and why each was taken or skipped.
    pub(crate) entries: Vec<Entry>,
    /// The credentials that were looked for, and where each was found.
    pub(crate) credentials: Vec<Credential>,
    /// The requests, in order.
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) depth: usize,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) platform: Option<Platform>,
    pub(crate) taken: bool,
    pub(crate) reason: String,
}

impl From<Verdict> for Entry {
    fn from(explained: Verdict) -> Self {
        Self {
            depth: explained.depth,
            digest: explained.descriptor.digest,
            media_type: explained.descriptor.media_type,
            platform: explained.platform,
            taken: explained.taken,
            reason: explained.reason,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Credential {
    pub(crate) repository: String,
    /// File and key of the credential; null if none was found.
    pub(crate) origin: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) status: u16,
    /// The time from sending the request to the end of the response's headers.
    pub(crate) milliseconds: u128,
}

/// An observer that records events and passes them on to the report.
pub(crate) struct Recorder {
    report: Arc<Report>,
    explanation: Mutex<Explanation>,
}

impl Recorder {
    pub(crate) fn new(report: Arc<Report>) -> Self {
        Self { report, explanation: Mutex::default() }
    }

    pub(crate) fn explanation(&self) -> Explanation {
        self.explanation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Prints the recorded credentials and requests to stderr, after a failure.
    pub(crate) fn tell(&self) {
        let Explanation { credentials, requests, .. } = self.explanation();
        for found in credentials {
            let origin = found.origin.unwrap_or_else(|| "none".to_owned());
            self.report.note(&format!("credentials for {}: {origin}", found.repository));
        }
        for Request { method, url, status, milliseconds } in requests {
            self.report.note(&format!("{method} {url} {status} ({milliseconds} ms)"));
        }
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        {
            let mut explanation = self.explanation.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Answered { method, url, status, elapsed } => {
                    explanation.requests.push(Request {
                        method: (*method).to_owned(),
                        url: (*url).to_owned(),
                        status: *status,
                        milliseconds: elapsed.as_millis(),
                    });
                }
                Event::Credential { repository, origin } => {
                    explanation.credentials.push(Credential {
                        repository: (*repository).to_owned(),
                        origin: origin.map(str::to_owned),
                    });
                }
                _ => {}
            }
        }
        self.report.observe(event);
    }
}
