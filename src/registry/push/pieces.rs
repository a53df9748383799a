//! Pushing a blob in pieces (distribution-spec, "Pushing a blob in chunks"; protocol rule 79).

use std::mem;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use reqwest::Method;

use super::session::Session;
use super::unreadable;
use crate::registry::Client;
use crate::registry::error::Error;
use crate::registry::request::Request;
use crate::registry::transport::body::Body;
use crate::stream::readable::ByteStream;

/// How many bytes to send at once: the most that GitHub's registry takes.
const PIECE: usize = 4 << 20;

impl Client {
    /// Sends bytes to a session, piece by piece.
    pub(super) async fn send_pieces(
        &self,
        request: &Request<'_>,
        session: &mut Session,
        mut content: ByteStream,
    ) -> Result<(), Error> {
        let length = session.least.max(PIECE);
        let (mut gathered, mut first) = (BytesMut::new(), 0);
        while let Some(bytes) = content.next().await {
            let mut bytes = bytes.map_err(|source| unreadable(request, source))?;
            while !bytes.is_empty() {
                let taken = bytes.split_to(bytes.len().min(length - gathered.len()));
                gathered.extend_from_slice(&taken);
                if gathered.len() == length {
                    let piece = mem::take(&mut gathered).freeze();
                    first = self.send_piece(request, session, piece, first).await?;
                }
            }
        }
        if !gathered.is_empty() {
            self.send_piece(request, session, gathered.freeze(), first).await?;
        }
        Ok(())
    }

    /// Sends a piece, and returns the number of the byte after it.
    async fn send_piece(
        &self,
        request: &Request<'_>,
        session: &mut Session,
        piece: Bytes,
        first: u64,
    ) -> Result<u64, Error> {
        let url = session.url.clone();
        let sent = (Method::PATCH, Body::Piece(&piece, first));
        let response = self.send_to(request, session, &url, sent).await?;
        self.follow_session(request, session, &response)?;
        Ok(first + piece.len() as u64)
    }
}
