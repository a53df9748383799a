//! Hashing and writing beside the network: while one piece of a blob is hashed and
//! goes to the disk, the next one arrives.

use std::fs::File;
use std::io::{self, Write as _};
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::digest::Hasher;

/// How many pieces wait at most: each has up to half a megabyte.
const WAITING: usize = 2;
/// How much is written before the disk is asked to take it, in bytes.
const FLUSH: usize = 32 << 20;

/// A thread that takes the pieces of a blob.
pub(super) struct Writer {
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<(Hasher, io::Result<()>)>,
}

impl Writer {
    /// Goes on with `hasher`, at the end of what is in `file`. What `lasts` goes
    /// to the disk on the way, so that there is less to wait for at the end.
    pub(super) fn start(file: File, lasts: bool, mut hasher: Hasher) -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let thread = tokio::task::spawn_blocking(move || {
            let mut output = Output { file, lasts, dirty: 0, flush: None };
            while let Some(piece) = waiting.blocking_recv() {
                hasher.update(&piece);
                if let Err(error) = output.write(&piece) {
                    return (hasher, Err(error));
                }
            }
            (hasher, output.finish_flush())
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

/// A file on its way to the disk.
struct Output {
    file: File,
    lasts: bool,
    /// How many bytes were written since the last flush began.
    dirty: usize,
    flush: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Output {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.dirty += piece.len();
        let is_idle = self.flush.as_ref().is_none_or(thread::JoinHandle::is_finished);
        if self.lasts && self.dirty >= FLUSH && is_idle {
            self.finish_flush()?;
            let file = self.file.try_clone()?;
            self.flush = Some(thread::spawn(move || file.sync_data()));
            self.dirty = 0;
        }
        Ok(())
    }

    /// The system tells of a failure once, to whoever flushes first: it must not
    /// get lost.
    fn finish_flush(&mut self) -> io::Result<()> {
        let Some(flush) = self.flush.take() else { return Ok(()) };
        flush.join().map_err(|_| io::Error::other("the flush panicked"))?
    }
}
