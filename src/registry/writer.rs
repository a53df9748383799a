//! Hashing and writing beside the network: while one piece of a blob is hashed and
//! written, the next one arrives.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::oci::digest::Hasher;

/// How many pieces wait at most: each has up to half a megabyte.
const WAITING: usize = 2;
/// How much is hashed and then written, in bytes: it stays in the processor's
/// cache in between, and Linux finds memory for it more easily than for a larger
/// write at once.
const AT_ONCE: usize = 128 << 10;

/// A thread that takes the pieces of a blob.
pub(super) struct Writer {
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<(Hasher, io::Result<()>)>,
}

impl Writer {
    /// Goes on with `hasher`, and behind what was written to `output`.
    pub(super) fn start(mut output: Box<dyn Write + Send>, mut hasher: Hasher) -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(piece) = waiting.blocking_recv() {
                for piece in piece.chunks(AT_ONCE) {
                    hasher.update(piece);
                    if let Err(error) = output.write_all(piece) {
                        return (hasher, Err(error));
                    }
                }
            }
            (hasher, output.flush())
        });
        Self { pieces, thread }
    }

    /// Hands over a piece. `false` where no more are taken: the end says why.
    pub(super) async fn take(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all pieces are written, and gives back the hash of them.
    pub(super) async fn finish(self) -> io::Result<Hasher> {
        drop(self.pieces);
        let (hasher, result) = self.thread.await.map_err(io::Error::other)?;
        result.map(|()| hasher)
    }
}
