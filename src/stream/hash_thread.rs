//! Hashes bytes on a separate thread, while they are produced.

use std::panic;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::{Bytes, BytesMut};

use crate::oci::digest::Hasher;

/// How many pieces may wait at once.
const WAITING: usize = 4;
/// How many bytes are collected into a piece. Passing them on byte by byte would cost
/// more than it saves.
const PIECE: usize = 128 << 10;

/// A hash that is computed while its bytes also go elsewhere. If it is dropped, the
/// hash is discarded.
#[derive(Debug)]
pub struct HashThread {
    before: Hasher,
    gathered: BytesMut,
    /// The thread, which is started when there are bytes for it.
    running: Option<(SyncSender<Bytes>, JoinHandle<Hasher>)>,
}

impl HashThread {
    /// Continues the hash `before`.
    #[must_use]
    pub fn new(before: Hasher) -> Self {
        Self { before, gathered: BytesMut::new(), running: None }
    }

    /// Discards everything that was added.
    pub fn restart(&mut self) {
        self.gathered.clear();
        self.running = None;
    }

    /// Adds a copy of `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.hand_over();
        }
    }

    /// Adds `bytes` without copying them.
    pub fn update_shared(&mut self, bytes: Bytes) {
        self.hand_over();
        self.send(bytes);
    }

    /// Waits until everything is hashed.
    #[must_use]
    pub fn finish(mut self) -> Hasher {
        self.hand_over();
        let Some((pieces, thread)) = self.running else { return self.before };
        drop(pieces);
        match thread.join() {
            Ok(hasher) => hasher,
            Err(panicked) => panic::resume_unwind(panicked),
        }
    }

    fn hand_over(&mut self) {
        if !self.gathered.is_empty() {
            let bytes = self.gathered.split().freeze();
            self.send(bytes);
        }
    }

    fn send(&mut self, bytes: Bytes) {
        let (pieces, _) = self.running.get_or_insert_with(|| start(self.before.clone()));
        // The thread takes everything; if it panicked, `finish` panics too.
        let _ = pieces.send(bytes);
    }
}

fn start(mut hasher: Hasher) -> (SyncSender<Bytes>, JoinHandle<Hasher>) {
    let (pieces, waiting) = sync_channel::<Bytes>(WAITING);
    let thread = thread::spawn(move || {
        for piece in waiting {
            hasher.update(&piece);
        }
        hasher
    });
    (pieces, thread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::{Algorithm, Digest};

    #[test]
    fn a_thread_hashes_as_anybody_does() {
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        for piece in [1, 4096, PIECE - 1, PIECE, usize::MAX] {
            let (start, rest) = bytes.split_at(100_000);
            let mut before = Hasher::new(Algorithm::Sha256);
            before.update(&start[..10]);
            let mut thread = HashThread::new(before);
            thread.update(&start[..piece.min(200)]);
            thread.update_shared(Bytes::from_static(b"forgotten"));
            thread.restart();
            start[10..].chunks(piece).for_each(|piece| thread.update(piece));
            for piece in rest.chunks(piece.max(4096)) {
                thread.update_shared(Bytes::copy_from_slice(piece));
            }
            thread.update(b"end");
            let expected = Digest::sha256(&[&bytes[..], b"end"].concat());
            assert_eq!(thread.finish().finish(), expected, "pieces of {piece}");
        }
    }
}
