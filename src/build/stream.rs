//! A layer made again from its store paths, as a stream.

use std::io::{self, Write};
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::layers::STACK;
use super::{Error, layer, snapshotter};
use crate::formats::layers::{LayerContent, PathRecord};
use crate::oci::digest::Digest;

/// How many pieces of the archive may wait to be read.
const WAITING: usize = 4;

/// A layer's archive while it is made. If it is dropped, the archive isn't finished.
#[derive(Debug)]
pub(crate) struct LayerStream {
    pieces: mpsc::Receiver<Bytes>,
    outcome: oneshot::Receiver<Result<(Digest, u64), Error>>,
}

impl LayerStream {
    /// Starts to make the archive of store paths, or of what stands for them.
    pub(crate) fn start(records: Vec<PathRecord>, content: LayerContent) -> Result<Self, Error> {
        let (sender, pieces) = mpsc::channel(WAITING);
        let (tell, outcome) = oneshot::channel();
        let make = move || {
            let mut sender = Sender(sender);
            let made = if content == LayerContent::Files {
                layer::archive(&records, Some(&mut sender), true)
            } else {
                snapshotter::archive(&records, content, Some(&mut sender))
            };
            // Nobody may be waiting for it any more.
            let _ = tell.send(made.map(|archive| (archive.digest, archive.size)));
        };
        thread::Builder::new().stack_size(STACK).spawn(make).map_err(Error::Write)?;
        Ok(Self { pieces, outcome })
    }

    /// The next piece, or `None` at the end and after an error.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// The digest and the size of the whole archive.
    pub(crate) async fn finish(mut self) -> Result<(Digest, u64), Error> {
        self.pieces.close();
        let ended = |_| Err(Error::Write(io::Error::other("the thread that makes it panicked")));
        self.outcome.await.unwrap_or_else(ended)
    }
}

/// Hands the archive's pieces to the reader.
struct Sender(mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
