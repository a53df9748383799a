//! Sends a blob from one registry to another without keeping it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::oci::manifest::Descriptor;
use crate::registry::{self, BlobPush, Client, Pushed};
use crate::source::{self, Blobs};
use crate::stream::readable::{ByteStream, Readable};
use crate::stream::sink::Sink;

/// How many pieces may be on their way. One can have half a megabyte.
const WAITING: usize = 4;

type Piece = io::Result<Bytes>;

/// A blob that is fetched whenever it is read.
struct Relay {
    size: u64,
    /// Asks for the blob once more.
    readers: mpsc::UnboundedSender<mpsc::Sender<Piece>>,
}

impl Readable for Relay {
    fn size(&self) -> u64 {
        self.size
    }

    /// Starts at the first byte: nothing else is ever asked for.
    fn open(&self, _first: u64) -> io::Result<ByteStream> {
        let (sender, pieces) = mpsc::channel(WAITING);
        self.readers.send(sender).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let pieces = stream::unfold(pieces, |mut pieces| async move {
            pieces.recv().await.map(|piece| (piece, pieces))
        });
        Ok(pieces.boxed())
    }
}

/// Passes what is fetched on to a reader, except for the last piece: that follows when
/// everything is verified.
#[derive(Clone)]
struct Passage {
    reader: mpsc::Sender<Piece>,
    held: Arc<Mutex<Option<Bytes>>>,
}

impl Passage {
    fn hold(&self, piece: Option<Bytes>) -> Option<Bytes> {
        std::mem::replace(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner), piece)
    }
}

impl Write for Passage {
    /// Waits for the reader, so this must run on a thread that may.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(before) = self.hold(Some(Bytes::copy_from_slice(bytes))) {
            self.reader.blocking_send(Ok(before)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The place that a download writes to.
struct PassageSink(Passage);

impl Write for PassageSink {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        // Only a body that the server compressed for the transfer is not handed to the writer.
        Err(io::Error::new(io::ErrorKind::Unsupported, "it is encoded for its transfer"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for PassageSink {
    /// What was passed on can't be taken back, so this is for the beginning only.
    fn restart(&mut self) -> io::Result<()> {
        match self.0.hold(None) {
            None => Ok(()),
            Some(_) => Err(io::Error::other("the transfer has to begin again")),
        }
    }

    fn writer(&mut self) -> io::Result<Option<Box<dyn Write + Send>>> {
        Ok(Some(Box::new(self.0.clone())))
    }
}

/// Pushes `blob` while it is fetched from `blobs`. The result says which side failed.
pub(super) async fn relay(
    client: &Client,
    blobs: &dyn Blobs,
    push: BlobPush<'_>,
) -> Result<Result<Pushed, registry::Error>, source::Error> {
    let (readers, mut asked) = mpsc::unbounded_channel();
    let relay = Relay { size: push.blob.size, readers };
    let push = BlobPush { content: &relay, ..push };
    let fetching = async {
        let mut next = asked.recv().await;
        while let Some(reader) = next.take() {
            tokio::select! {
                fetched = fetch(blobs, push.blob, reader) => {
                    fetched?;
                    next = asked.recv().await;
                }
                // The one before was given up.
                another = asked.recv() => next = another,
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        pushed = client.push_blob(&push) => Ok(pushed),
        failed = fetching => failed.map(|()| Ok(Pushed::Present)),
    }
}

async fn fetch(
    blobs: &dyn Blobs,
    blob: &Descriptor,
    reader: mpsc::Sender<Piece>,
) -> Result<(), source::Error> {
    let passage = Passage { reader: reader.clone(), held: Arc::default() };
    let fetched = blobs.fetch_blob(blob, &mut PassageSink(passage.clone())).await;
    match fetched {
        Ok(()) => {
            if let Some(last) = passage.hold(None) {
                // A reader that is gone doesn't need it.
                let _ = reader.send(Ok(last)).await;
            }
            Ok(())
        }
        // The upload was given up, and may begin again.
        Err(_) if reader.is_closed() => Ok(()),
        Err(error) => Err(error),
    }
}
