//! Files that commands read: nix2container's, and rules for them.

use std::path::{Path, PathBuf};

use n2c::ImageJson;
use n2c::formats::layers::{self, Layer};

use crate::cli::failure::Failure;

/// The largest input that is read, in bytes: graphs have a few hundred bytes for each path.
const SIZE_LIMIT: u64 = 1 << 30;

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(n2c::fs::read(path, SIZE_LIMIT)?)
}

/// Reads an image.json.
pub(crate) fn image(path: &Path) -> Result<ImageJson, Failure> {
    Ok(ImageJson::parse(&path.display().to_string(), &read(path)?)?)
}

/// Reads the layers of several layers.json, in their order.
pub(crate) fn layers(paths: &[PathBuf]) -> Result<Vec<Layer>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(layers::parse(&path.display().to_string(), &read(path)?)?);
    }
    Ok(all)
}
