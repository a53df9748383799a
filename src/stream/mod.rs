//! Streams of bytes: where they go, and what hashes and decompresses them.

pub mod compress;
pub mod decompress;
pub mod hash_thread;
pub mod readable;
pub mod sink;
pub mod tar;
