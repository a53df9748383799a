//! Hashing and writing in parallel with the network: while one piece of a blob is hashed
//! and written, the next one arrives.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::oci::digest::Hasher;

/// How many pieces may be queued. A piece can have up to half a megabyte.
const WAITING: usize = 2;
/// How many bytes are hashed and then written at once. They stay in the CPU cache in
/// between, and Linux allocates memory for them more easily than for a larger write.
const AT_ONCE: usize = 128 << 10;

/// A thread that hashes and writes the pieces of a blob.
pub(super) struct Writer {
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<(Hasher, io::Result<()>)>,
}

impl Writer {
    /// Starts the thread. It continues `hasher`, and writes to `output` at its current position.
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

    /// Hands over a piece. Returns `false` if the thread has stopped; [`Self::finish`]
    /// then returns the error.
    pub(super) async fn take(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all pieces are written, and returns the hasher.
    pub(super) async fn finish(self) -> io::Result<Hasher> {
        drop(self.pieces);
        let (hasher, result) = self.thread.await.map_err(io::Error::other)?;
        result.map(|()| hasher)
    }
}
