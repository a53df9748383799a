//! An archive that is an OCI layout and a docker archive at once, and may lack layers.
//!
//! Engines leave layers alone that they have, even if the archive doesn't hold them. Nothing of
//! it is kept: it is made while an engine reads it.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::formats::docker_archive::Name;
use crate::formats::oci_layout::{CONTAINERD_NAME, INDEX, MARKER, REF_NAME, VERSION};
use crate::oci::digest::Digest;
use crate::oci::image::Image;
use crate::oci::media_type;
use crate::source::{self, Blobs};
use crate::stream::readable::{ByteStream, Readable};
use crate::stream::tar::{self, Header, Kind, padding};

/// A layer that could not be read, and why.
type Unread = (Digest, io::Error);

/// Where the reason is kept if a layer can't be read.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Unread>>>);

impl Failure {
    /// Takes the reason, if there is one.
    pub(super) fn take(&self) -> Option<Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A piece of the archive.
enum Part {
    Bytes(Bytes),
    Layer(Digest, Box<dyn Readable>),
}

/// An archive of one image.
pub(super) struct PartialArchive {
    parts: Vec<Part>,
    layers: HashSet<Digest>,
    failure: Failure,
}

impl PartialArchive {
    /// An archive of `image` under its first name, without the layers in `there`.
    pub(super) async fn new(
        blobs: &dyn Blobs,
        image: &Image,
        names: &[Name],
        there: &HashSet<Digest>,
    ) -> Result<Self, source::Error> {
        let name = names.first().map(ToString::to_string).unwrap_or_default();
        let (manifest, config) = (image.manifest(), image.config().raw());
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [{
                "mediaType": manifest.media_type(),
                "digest": manifest.raw().digest().to_string(),
                "size": manifest.raw().bytes().len(),
                "annotations": { CONTAINERD_NAME: name, REF_NAME: name },
            }],
        });
        let layers: Vec<String> =
            manifest.layers().iter().map(|layer| blob_name(&layer.digest)).collect();
        let list =
            json!([{ "Config": blob_name(config.digest()), "RepoTags": [name], "Layers": layers }]);
        let mut archive =
            Self { parts: Vec::new(), layers: HashSet::new(), failure: Failure::default() };
        archive.file(MARKER, VERSION.as_bytes())?;
        archive.file(INDEX, index.to_string().as_bytes())?;
        archive.file("manifest.json", list.to_string().as_bytes())?;
        archive.file(&blob_name(manifest.raw().digest()), manifest.raw().bytes())?;
        archive.file(&blob_name(config.digest()), config.bytes())?;
        for layer in manifest.layers() {
            if there.contains(&layer.digest) || !archive.layers.insert(layer.digest.clone()) {
                continue;
            }
            let content = source::local(blobs, layer).await?;
            archive.header(&blob_name(&layer.digest), layer.size)?;
            archive.parts.push(Part::Layer(layer.digest.clone(), content));
            archive.bytes(&vec![0; padding(layer.size)]);
        }
        archive.bytes(&tar::END);
        Ok(archive)
    }

    /// The layers in the archive.
    pub(super) fn layers(&self) -> HashSet<Digest> {
        self.layers.clone()
    }

    /// Where to look if the archive ended too early.
    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.parts.push(Part::Bytes(Bytes::copy_from_slice(bytes)));
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), source::Error> {
        let header = Header::new(Kind::File, name.as_bytes(), 0o444, size).encode();
        let failed = |source| source::Error::Read {
            digest: Digest::sha256(name.as_bytes()),
            source: io::Error::other(source),
        };
        self.bytes(&header.map_err(failed)?);
        Ok(())
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), source::Error> {
        let size = bytes.len() as u64;
        self.header(name, size)?;
        self.bytes(bytes);
        self.bytes(&vec![0; padding(size)]);
        Ok(())
    }

    /// The bytes of the archive.
    pub(super) fn into_stream(self) -> ByteStream {
        let failure = self.failure;
        let pieces = stream::iter(self.parts).map(move |part| match part {
            Part::Bytes(bytes) => Ok(stream::iter([Ok(bytes)]).boxed()),
            Part::Layer(digest, content) => {
                let failure = failure.clone();
                let note = move |error: io::Error| {
                    let kind = error.kind();
                    let mut kept = failure.0.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.get_or_insert((digest.clone(), error));
                    io::Error::from(kind)
                };
                match content.open(0) {
                    Ok(pieces) => Ok(pieces.map_err(note).boxed()),
                    Err(error) => Err(note(error)),
                }
            }
        });
        pieces.try_flatten().boxed()
    }
}

/// The name of a blob's file.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
