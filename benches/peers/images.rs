//! The images that are pulled: bytes that do not compress, as most of a layer's.

use rand::RngExt as _;
use serde_json::json;

use crate::support::images::{Blob, Image};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image of `count` layers with a file of `size` bytes each.
pub(crate) fn image(count: usize, size: usize) -> Image {
    let mut diff_ids = Vec::new();
    let layers = (0..count)
        .map(|_| {
            let (layer, diff_id) = layer(size);
            diff_ids.push(diff_id);
            layer
        })
        .collect();
    let config = json!({
        "os": "linux", "architecture": "amd64", "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    Image::from_parts(&config, layers)
}

fn layer(size: usize) -> (Blob, String) {
    use std::io::Write as _;
    let mut content = vec![0; size];
    rand::rng().fill(&mut content[..]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "content", &content[..]).expect("memory");
    let archive = archive.into_inner().expect("memory");
    let fast = flate2::Compression::fast();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
    gzip.write_all(&archive).expect("memory");
    let diff_id = n2c::oci::digest::Digest::sha256(&archive).to_string();
    (Blob::new(GZIP, gzip.finish().expect("memory")), diff_id)
}
