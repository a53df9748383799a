//! Bytes on their way: where they go, what hashes and decompresses them.

pub mod decompress;
pub mod hash_thread;
pub mod sink;
pub mod tar;
