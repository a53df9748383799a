//! Bodies of requests.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use reqwest::header::{HeaderMap, HeaderValue};
use sync_wrapper::SyncWrapper;

use crate::stream::readable::{ByteStream, Readable};

/// How long a server may take no byte of an upload.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to answer once it has all of an upload: some copy a blob to
/// where it belongs, and hash it again, before they say that they have it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(600);

/// What a request carries. It is created again each time the request is sent.
#[derive(Clone, Copy)]
pub(in crate::registry) enum Body<'a> {
    Empty,
    /// A form for a token service, which may hold a secret.
    Form(&'a str),
    /// A document and its media type.
    Document(&'a str, &'a Bytes),
    /// The bytes of a blob.
    Blob(&'a dyn Readable),
}

impl Body<'_> {
    /// The headers that describe the body.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let content_type = match self {
            Self::Empty => return,
            Self::Form(_) => HeaderValue::from_static("application/x-www-form-urlencoded"),
            Self::Document(media_type, _) => match HeaderValue::from_str(media_type) {
                Ok(value) => value,
                Err(_) => return,
            },
            Self::Blob(_) => HeaderValue::from_static("application/octet-stream"),
        };
        headers.insert(reqwest::header::CONTENT_TYPE, content_type);
    }

    /// The body to send, and what it says of its progress if it is a blob's.
    pub(super) fn open(&self) -> io::Result<Option<(reqwest::Body, Option<Progress>)>> {
        Ok(match self {
            Self::Empty => None,
            Self::Form(form) => Some(((*form).to_owned().into(), None)),
            Self::Document(_, bytes) => Some(((*bytes).clone().into(), None)),
            Self::Blob(blob) => {
                let progress = Progress::default();
                let upload = Upload {
                    stream: SyncWrapper::new(blob.open(0)?),
                    left: blob.size(),
                    progress: progress.clone(),
                };
                Some((reqwest::Body::wrap(upload), Some(progress)))
            }
        })
    }
}

/// How far an upload is.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// When the server must have taken more, or answered. `None` while the next bytes are
    /// still being made.
    deadline: Option<Instant>,
    /// Why the bytes could not be read.
    failure: Option<io::Error>,
}

impl Progress {
    fn wait_at_most(&self, timeout: Option<Duration>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.deadline = timeout.map(|timeout| Instant::now() + timeout);
    }

    fn fail(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(error);
        kind.into()
    }

    /// Why the bytes could not be read, if that was it.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure.take()
    }

    /// Returns once the server has kept the upload waiting for too long.
    pub(super) async fn stalled(&self) {
        loop {
            let deadline = self.0.lock().unwrap_or_else(PoisonError::into_inner).deadline;
            let now = Instant::now();
            match deadline {
                Some(deadline) if deadline <= now => return,
                Some(deadline) => tokio::time::sleep(deadline - now).await,
                None => tokio::time::sleep(STALL_TIMEOUT).await,
            }
        }
    }
}

/// A blob on its way to the server.
struct Upload {
    stream: SyncWrapper<ByteStream>,
    left: u64,
    progress: Progress,
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.progress.wait_at_most(None);
        let chunk = ready!(self.stream.get_mut().as_mut().poll_next(context));
        let left = match &chunk {
            Some(Ok(chunk)) => self.left.checked_sub(chunk.len() as u64),
            // Without its last byte, a body is not sent.
            None => (self.left == 0).then_some(0),
            Some(Err(_)) => Some(self.left),
        };
        let chunk = match (chunk.transpose(), left) {
            (Ok(chunk), Some(left)) => {
                self.left = left;
                Ok(chunk)
            }
            (Ok(_), None) => Err(io::Error::other("it has another size than it is said to have")),
            (Err(error), _) => Err(error),
        };
        let chunk = chunk.map_err(|error| self.progress.fail(error));
        let timeout = if self.left == 0 { COMMIT_TIMEOUT } else { STALL_TIMEOUT };
        self.progress.wait_at_most(Some(timeout));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
