//! Bodies of requests.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use sync_wrapper::SyncWrapper;

use crate::stream::readable::{ByteStream, Readable};

/// How long a server may take no byte of an upload.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to answer once it has all of an upload: some copy a blob to
/// where it belongs, and hash it again, before they say that they have it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(600);

/// What an error says of content that is not what it is said to be.
pub(in crate::registry) const OTHER_SIZE: &str = "it has another size than it is said to have";
/// How many bytes of an upload are handed to the connection at once.
const PIECE: usize = 128 << 10;

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
    /// A part of a blob, and the number of its first byte.
    Piece(&'a Bytes, u64),
    /// Bytes whose number isn't known before their end.
    Stream(&'a (dyn Fn() -> io::Result<ByteStream> + Sync)),
}

impl Body<'_> {
    /// The headers that describe the body.
    pub(super) fn describe(&self, method: &Method, headers: &mut HeaderMap) {
        let is_empty = match self {
            Self::Empty => !matches!(*method, Method::GET | Method::HEAD),
            Self::Blob(blob) => blob.size() == 0,
            Self::Form(_) | Self::Document(..) | Self::Piece(..) | Self::Stream(_) => false,
        };
        if is_empty {
            // Some servers refuse a request without a length.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let content_type = match self {
            Self::Empty => return,
            Self::Form(_) => HeaderValue::from_static("application/x-www-form-urlencoded"),
            Self::Document(media_type, _) => match HeaderValue::from_str(media_type) {
                Ok(value) => value,
                Err(_) => return,
            },
            Self::Blob(_) | Self::Piece(..) | Self::Stream(_) => {
                HeaderValue::from_static("application/octet-stream")
            }
        };
        headers.insert(CONTENT_TYPE, content_type);
        if let Self::Piece(piece, first) = self {
            // Without a unit or a total, unlike in HTTP (distribution-spec).
            let last = first + (piece.len() as u64).saturating_sub(1);
            let range = HeaderValue::try_from(format!("{first}-{last}"));
            headers.extend(range.map(|range| (CONTENT_RANGE, range)));
        }
    }

    /// The body to send, and what it says of its progress if it is a blob's.
    pub(super) fn open(&self) -> io::Result<Option<(reqwest::Body, Option<Progress>)>> {
        Ok(match self {
            Self::Empty => None,
            // Without a byte, nobody would notice that the server is silent.
            Self::Blob(blob) if blob.size() == 0 => None,
            Self::Form(form) => Some(((*form).to_owned().into(), None)),
            Self::Document(_, bytes) => Some(((*bytes).clone().into(), None)),
            Self::Blob(blob) => Some(upload(blob.open(0)?, Some(blob.size()))),
            Self::Piece(piece, _) => Some(upload(piece.open(0)?, Some(piece.size()))),
            Self::Stream(open) => Some(upload(open()?, None)),
        })
    }
}

/// A body that can be stopped.
fn upload(stream: ByteStream, left: Option<u64>) -> (reqwest::Body, Option<Progress>) {
    let progress = Progress::default();
    let (stream, piece) = (SyncWrapper::new(stream), Bytes::new());
    let upload = Upload { stream, piece, left, progress: progress.clone() };
    (reqwest::Body::wrap(upload), Some(progress))
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
    /// Whether the rest is not wanted any more.
    is_stopped: bool,
}

/// Ends an upload when it is dropped.
#[derive(Clone)]
pub(super) struct StopGuard {
    _stop: Arc<Stop>,
}

struct Stop(Progress);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.state().is_stopped = true;
    }
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the upload when the result is dropped.
    pub(super) fn stop_when_dropped(&self) -> StopGuard {
        StopGuard { _stop: Arc::new(Stop(self.clone())) }
    }

    fn wait_at_most(&self, timeout: Option<Duration>) {
        self.state().deadline = timeout.map(|timeout| Instant::now() + timeout);
    }

    fn fail(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        // Whoever asks again after the first one learns less.
        self.state().failure.get_or_insert(error);
        kind.into()
    }

    /// Why the bytes could not be read, if that was it.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.state().failure.take()
    }

    /// Returns once the server has kept the upload waiting for too long.
    pub(super) async fn stalled(&self) {
        loop {
            let deadline = self.state().deadline;
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
    /// What was read and not sent yet.
    piece: Bytes,
    /// How many bytes are left to send, if that is known.
    left: Option<u64>,
    progress: Progress,
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.progress.state().is_stopped {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let chunk = if self.piece.is_empty() {
            self.progress.wait_at_most(None);
            ready!(self.stream.get_mut().as_mut().poll_next(context))
        } else {
            Some(Ok(mem::take(&mut self.piece)))
        };
        // In pieces, so that progress shows.
        let chunk = chunk.map(|chunk| {
            chunk.map(|mut chunk| {
                self.piece = chunk.split_off(chunk.len().min(PIECE));
                chunk
            })
        });
        let is_end = chunk.is_none();
        let chunk = chunk.transpose().and_then(|chunk| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let left = self.left.map(|left| left.checked_sub(length));
            self.left = match left {
                // Without its last byte, a body is not sent.
                Some(Some(left)) if left == 0 || !is_end => Some(left),
                Some(_) => return Err(io::Error::other(OTHER_SIZE)),
                None => None,
            };
            Ok(chunk)
        });
        let chunk = chunk.map_err(|error| self.progress.fail(error));
        let is_sent = self.left.map_or(is_end, |left| left == 0);
        let timeout = if is_sent { COMMIT_TIMEOUT } else { STALL_TIMEOUT };
        self.progress.wait_at_most(Some(timeout));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
