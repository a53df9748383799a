//! How Nix writes strings, in archives and to its daemon: the length as a 64-bit
//! number, the bytes, and zeros up to a multiple of eight.

use std::io::{self, Write};

/// Returns how many zeros follow a string of `length` bytes.
pub(super) const fn padding(length: usize) -> usize {
    length.next_multiple_of(8) - length
}

/// Writes a string.
pub(super) fn write_bytes(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(&(bytes.len() as u64).to_le_bytes())?;
    writer.write_all(bytes)?;
    writer.write_all(&[0; 8][..padding(bytes.len())])
}
