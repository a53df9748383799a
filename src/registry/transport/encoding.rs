//! `Content-Encoding: gzip` on responses that should not be encoded.
//!
//! n2c requests no encoding. Some servers compress anyway, and some send this header with
//! layers that simply are gzip files. The digest decides: the bytes are first checked as
//! they arrived, and decoded only if those are wrong.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

use flate2::read::MultiGzDecoder;
use reqwest::header::{self, HeaderMap};

use crate::fs;
use crate::oci::digest::{Digest, Hasher};

/// Whether a response says that its body is gzip-encoded for transfer only.
pub(in crate::registry) fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| matches!(value.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip"))
}

/// Decodes `bytes`. Fails if the result is larger than `limit`.
pub(in crate::registry) fn decode(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut decoded = Vec::new();
    MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut decoded)?;
    if decoded.len() as u64 > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(decoded)
}

/// Decodes a file in place if the decoded content has `digest`, and returns its new size.
/// Returns `None` if the file was not changed. If `size` is unknown, content that grows
/// to more than a thousand times its encoded size is rejected.
pub(in crate::registry) fn decode_file(
    file: &mut File,
    digest: &Digest,
    size: Option<u64>,
) -> io::Result<Option<u64>> {
    let limit = match size {
        Some(size) => size,
        None => file.metadata()?.len().saturating_mul(1000),
    };
    file.seek(SeekFrom::Start(0))?;
    let mut whole = fs::unnamed()?;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut decoder = MultiGzDecoder::new(io::BufReader::new(&*file)).take(limit + 1);
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        let count = match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            // Not gzip, or broken, so this is not the blob.
            Err(_) => return Ok(None),
        };
        hasher.update(&buffer[..count]);
        whole.write_all(&buffer[..count])?;
        total += count as u64;
    }
    if hasher.finish() != *digest {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    whole.seek(SeekFrom::Start(0))?;
    io::copy(&mut whole, file)?;
    Ok(Some(total))
}
