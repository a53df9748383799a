//! Bytes that can be read more than once.

use std::io;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

/// Chunks of bytes, until the end or an error.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// Bytes of a known number that can be read from the start any number of times, because an
/// upload that failed begins again: a stream that was sent is never replayed.
pub trait Readable: Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Starts reading from the beginning.
    fn open(&self) -> io::Result<ByteStream>;
}

impl Readable for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn open(&self) -> io::Result<ByteStream> {
        Ok(stream::iter([Ok(self.clone())]).boxed())
    }
}
