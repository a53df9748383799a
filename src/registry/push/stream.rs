//! Pushing a blob while it is made: its digest and its number of bytes are known at its end.

use std::io;

use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};

use super::{Attempt, is_too_large, unreadable, watch};
use crate::oci::digest::Digest;
use crate::oci::reference::Repository;
use crate::registry::Client;
use crate::registry::auth::scope::Scope;
use crate::registry::error::Error;
use crate::registry::request::{Request, Target};
use crate::registry::transport::body::Body;
use crate::stream::readable::{ByteStream, Producible, Readable};

/// How to send bytes whose number isn't known.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As they come, in one request.
    Stream,
    /// In pieces, each with its length.
    Pieces,
    /// All at once, after they were made a first time to count them.
    Counted,
}

/// Content that was made before, so that its size is known.
struct Counted<'a> {
    content: &'a dyn Producible,
    size: u64,
}

impl Readable for Counted<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    /// Starts at the first byte: nothing else is ever asked for.
    fn open(&self, _first: u64) -> io::Result<ByteStream> {
        self.content.open()
    }
}

impl Client {
    /// Pushes what `content` makes to a repository, and returns its digest and its size in
    /// bytes. `name` stands for it in progress and errors: the digest of what it is made from.
    pub async fn push_stream(
        &self,
        repository: &Repository,
        name: &Digest,
        content: &dyn Producible,
    ) -> Result<(Digest, u64), Error> {
        let target = Target {
            subject: format!("layer `{}`", name.short()),
            ..Target::blob(repository, name, None)
        };
        let subject = &target.subject;
        self.prepare_push(&target)?;
        let request = Request { scope: Scope::push(repository), ..target.request(repository) };
        let (mut attempt, mut way) = (Attempt { failures: 0, in_pieces: false }, Way::Stream);
        loop {
            let error = match self.stream_once(&request, name, content, way).await {
                Ok(made) => return Ok(made),
                Err(error) => error.pushing(subject),
            };
            let other = match (&error, way) {
                (error, Way::Stream | Way::Counted) if is_too_large(error) => Some(Way::Pieces),
                (error, Way::Stream) if refuses_streams(error) => Some(Way::Counted),
                _ => None,
            };
            match other {
                Some(other) => way = other,
                None => self.next_attempt(&request, error, &mut attempt).await?,
            }
        }
    }

    async fn stream_once(
        &self,
        request: &Request<'_>,
        name: &Digest,
        content: &dyn Producible,
        way: Way,
    ) -> Result<(Digest, u64), Error> {
        let failed = |source| unreadable(request, source);
        let unfinished = || failed(io::Error::other("it ended before it was complete"));
        if way == Way::Counted {
            let mut pieces = content.open().map_err(failed)?;
            while let Some(piece) = pieces.next().await {
                piece.map_err(failed)?;
            }
            let (digest, size) = content.outcome().ok_or_else(unfinished)?;
            let Some(session) = self.open_session(request, None).await? else {
                return Err(unfinished());
            };
            let body = Body::Blob(&Counted { content, size });
            self.close_session(request, session, &digest, body).await?;
            return Ok((digest, size));
        }
        // Without a repository to mount from, a session is opened.
        let Some(mut session) = self.open_session(request, None).await? else {
            return Err(unfinished());
        };
        let observer = self.connection.http.shared_observer();
        let open = || {
            let stream = content.open()?;
            Ok(watch(stream, observer.clone(), request.subject, name, None))
        };
        if way == Way::Pieces {
            self.send_pieces(request, &mut session, open().map_err(failed)?).await?;
        } else {
            let url = session.url.clone();
            let sent = (Method::PATCH, Body::Stream(&open));
            let response = self.send_to(request, &session, &url, sent).await?;
            self.follow_session(request, &mut session, &response)?;
        }
        let (digest, size) = content.outcome().ok_or_else(unfinished)?;
        self.close_session(request, session, &digest, Body::Empty).await?;
        let finished = crate::observer::Event::TransferFinished { digest: name, total: size };
        observer.observe(&finished);
        Ok((digest, size))
    }
}

/// Whether a registry doesn't take bytes whose number it isn't told, or knows no PATCH.
fn refuses_streams(error: &Error) -> bool {
    let refusals = [
        StatusCode::BAD_REQUEST,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::LENGTH_REQUIRED,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        StatusCode::NOT_IMPLEMENTED,
    ];
    matches!(error, Error::Status { status, .. } if refusals.contains(status))
}
