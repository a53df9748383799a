//! Small images, made in memory.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use n2c::oci::digest::Digest;
use n2c::oci::media_type;
use serde_json::{Value, json};

/// A blob and its media type.
#[derive(Clone, Debug)]
pub struct Blob {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type: media_type.to_owned(), bytes: bytes.into() }
    }

    pub fn json(media_type: &str, value: &Value) -> Self {
        Self::new(media_type, value.to_string())
    }

    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest().to_string(),
            "size": self.bytes.len(),
        })
    }

    /// The index entry for this manifest.
    pub fn entry(&self, platform: &str) -> Value {
        let mut entry = self.descriptor();
        let parts: Vec<&str> = platform.split('/').collect();
        entry["platform"] = json!({ "os": parts[0], "architecture": parts[1] });
        if let Some(variant) = parts.get(2) {
            entry["platform"]["variant"] = json!(variant);
        }
        entry
    }
}

/// An image: its manifest, its config and its layers.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Image {
    /// An image for `platform` with one gzip layer for each text, which holds
    /// a file with that text.
    pub fn new(platform: &str, texts: &[&str]) -> Self {
        let layers: Vec<(Blob, Digest)> = texts.iter().map(|text| layer(text)).collect();
        let parts: Vec<&str> = platform.split('/').collect();
        let mut config = json!({
            "created": "2026-01-02T03:04:05Z",
            "architecture": parts[1],
            "os": parts[0],
            "config": {
                "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
                "Entrypoint": ["/bin/hello"],
                "User": "1000",
                "Labels": { "org.opencontainers.image.version": "1.0" },
                "Healthcheck": { "Test": ["NONE"] },
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect::<Vec<_>>(),
            },
            "history": texts.iter().map(|text| json!({ "created_by": format!("COPY {text} /") }))
                .chain([json!({ "created_by": "ENTRYPOINT", "empty_layer": true })])
                .collect::<Vec<_>>(),
        });
        if let Some(variant) = parts.get(2) {
            config["variant"] = json!(variant);
        }
        Self::from_parts(&config, layers.into_iter().map(|(layer, _)| layer).collect())
    }

    pub fn from_parts(config: &Value, layers: Vec<Blob>) -> Self {
        let config = Blob::json(media_type::OCI_CONFIG, config);
        let manifest = Blob::json(
            media_type::OCI_MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": config.descriptor(),
                "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
            }),
        );
        Self { manifest, config, layers }
    }
}

/// A gzip layer with one file, and its diff ID.
pub fn layer(text: &str) -> (Blob, Digest) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "hello.txt", text.as_bytes())
        .expect("a file is added in memory");
    let archive = archive.into_inner().expect("an archive is finished in memory");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&archive).expect("memory is written");
    let compressed = gzip.finish().expect("memory is written");
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    (Blob::new(media_type, compressed), Digest::sha256(&archive))
}

/// An index with these entries.
pub fn index(entries: &[Value]) -> Blob {
    Blob::json(
        media_type::OCI_INDEX,
        &json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries }),
    )
}

/// The provenance attestation that `docker buildx` adds for the image `of`, and its index entry.
pub fn attestation(of: &Image) -> (Image, Value) {
    let statement = Blob::new("application/vnd.in-toto+json", "{}");
    let config = json!({
        "architecture": "unknown", "os": "unknown",
        "rootfs": { "type": "layers", "diff_ids": [statement.digest().to_string()] },
    });
    let image = Image::from_parts(&config, vec![statement]);
    let mut entry = image.manifest.entry("unknown/unknown");
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": of.manifest.digest().to_string(),
    });
    (image, entry)
}

/// Writes an OCI layout that holds `blobs` and names `roots`.
pub fn write_layout(directory: &Path, roots: &[(&str, &Blob)], blobs: &[&Blob]) {
    let folder = directory.join("blobs/sha256");
    std::fs::create_dir_all(&folder).expect("a folder for blobs");
    for blob in roots.iter().map(|(_, root)| root).chain(blobs) {
        std::fs::write(folder.join(blob.digest().hex()), &blob.bytes).expect("a blob is written");
    }
    let entries: Vec<Value> = roots
        .iter()
        .map(|(tag, root)| {
            let mut entry = root.descriptor();
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    std::fs::write(directory.join("index.json"), index).expect("an index is written");
    let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
    std::fs::write(directory.join("oci-layout"), version).expect("a marker is written");
}
