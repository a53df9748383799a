//! OCI layouts (OCI image-spec image-layout.md), as a directory and as a tar
//! archive of one. Documents stay as they are served, so their digests do too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use futures_util::future;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tar::{EntryType, Header};
use tokio::sync::SetOnce;

use super::{Content, Error, Pull, write_at};
use crate::formats::docker_archive::padding;
use crate::formats::oci_layout::{INDEX, MARKER, REF_NAME, blob_path};
use crate::fs::{self as files, OutputFile};
use crate::json::{self, VALUE_LIMIT};
use crate::observer::{Event, Observer};
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::Image;
use crate::oci::manifest::{self, Descriptor};
use crate::oci::media_type;
use crate::source::Blobs;
use crate::stream::sink::Region;

/// What `oci-layout` holds.
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What goes into a layout.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// What the name in the layout leads to: an index, or the manifest of the
    /// only image.
    pub root: &'a Verified,
    /// Its media type.
    pub media_type: &'a str,
    /// Further documents that the root leads to: the indexes between it and the
    /// images, and what belongs to them, such as attestations.
    pub others: &'a [Verified],
    /// The blobs of those.
    pub other_blobs: &'a [Descriptor],
    /// The images.
    pub images: &'a [Image],
}

impl Images<'_> {
    /// The documents, each once.
    fn documents(&self) -> BTreeMap<&Digest, &[u8]> {
        let manifests = self.images.iter().map(|image| image.manifest().raw());
        std::iter::once(self.root)
            .chain(self.others)
            .chain(manifests)
            .map(|document| (document.digest(), document.bytes()))
            .collect()
    }

    /// The configs and layers.
    fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(|image| image.manifest().blobs()).chain(self.other_blobs)
    }

    /// The layers, and the blobs of what is no image.
    fn layers(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(|image| image.manifest().layers()).chain(self.other_blobs)
    }

    /// Others convert Docker's manifests, which then have another digest.
    fn warn(&self, observer: &dyn Observer) {
        let is_docker =
            |image: &Image| image.manifest().media_type() == media_type::DOCKER_MANIFEST;
        if self.images.iter().any(is_docker) {
            let text = "the manifest is Docker's and stays so, with its digest: containerd and a \
                        current skopeo read it in an OCI layout; umoci, podman 4 and skopeo 1.9 \
                        do not, and want `--format oci`";
            observer.observe(&Event::Warning(text));
        }
    }

    /// The line of `index.json` that leads to them.
    fn entry(&self, name: Option<&str>) -> Value {
        let mut entry = json!({
            "mediaType": self.media_type,
            "digest": self.root.digest().to_string(),
            "size": self.root.bytes().len(),
        });
        if let Some(name) = name {
            entry["annotations"] = json!({ REF_NAME: name });
        }
        entry
    }
}

/// Refuses a directory with something else in it.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    let is_temporary = |entry: &fs::DirEntry| files::is_temporary(&entry.file_name());
    let is_empty = match fs::read_dir(directory) {
        // Another pull may just be making the layout.
        Ok(mut entries) => entries.all(|entry| entry.as_ref().is_ok_and(is_temporary)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(prepare(error)),
    };
    if !is_empty && !directory.join(MARKER).is_file() {
        return Err(Error::NotOurs { path: directory.to_owned() });
    }
    read_index(directory).map(drop)
}

/// What is in a layout's `index.json`, or in that of a new one.
fn read_index(directory: &Path) -> Result<Index, Error> {
    match files::read(&directory.join(INDEX), manifest::SIZE_LIMIT) {
        Ok(text) => json::parse(&text, VALUE_LIMIT)
            .map_err(|source| Error::Index { path: directory.to_owned(), source }),
        Err(error) if error.is_missing() => Ok(Index::default()),
        Err(error) => Err(error.into()),
    }
}

impl<B: Blobs> Pull<'_, B> {
    /// Adds `images` to the layout in `directory`, which is made where there is
    /// none, under `name`. `index.json` comes last, so what it names is there.
    pub async fn to_oci_layout(
        &self,
        images: &Images<'_>,
        directory: &Path,
        name: Option<&str>,
    ) -> Result<(), Error> {
        images.warn(self.observer);
        let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
        check(directory)?;
        fs::create_dir_all(directory).map_err(prepare)?;
        let marker = directory.join(MARKER);
        if !marker.exists() {
            files::replace(&marker, VERSION.as_bytes())?;
        }
        let place = |digest: &Digest| blob_path(directory, digest);
        let digests = images.blobs().map(|blob| &blob.digest);
        let mut folders = BTreeSet::from([directory.to_owned()]);
        for digest in images.documents().into_keys().chain(digests) {
            if let Some(folder) = place(digest).parent() {
                fs::create_dir_all(folder).map_err(prepare)?;
                folders.insert(folder.to_owned());
            }
        }
        // What a run left that was killed.
        for folder in &folders {
            files::sweep(folder);
        }
        for image in images.images {
            self.store_config(image, &place(image.config().raw().digest())).await?;
        }
        let missing = self.missing(images.layers(), place);
        self.fetch_files(missing, place, &SetOnce::new_with(Some(()))).await?;
        for (digest, bytes) in images.documents() {
            files::replace(&place(digest), bytes)?;
        }
        // Another pull may add its image to the layout at the same time.
        let lock = fs::File::open(directory).and_then(|layout| layout.lock().map(|()| layout));
        let _lock = lock.map_err(prepare)?;
        let index = read_index(directory)?;
        Ok(files::replace(&directory.join(INDEX), &with_entry(index, images.entry(name)))?)
    }
}

/// `index.json`, of which only the list is understood.
#[derive(Default, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// `index.json` with `entry` in it, instead of one of the same name.
fn with_entry(index: Index, entry: Value) -> Vec<u8> {
    let name = |entry: &Value| entry.get("annotations").and_then(|all| all.get(REF_NAME)).cloned();
    let Index { manifests: mut entries, rest: mut index } = index;
    entries.retain(|old| {
        let is_same = name(old) == name(&entry);
        !is_same || name(&entry).is_none() && old.get("digest") != entry.get("digest")
    });
    entries.push(entry);
    index.entry("schemaVersion").or_insert(json!(2));
    index.entry("mediaType").or_insert(json!(media_type::OCI_INDEX));
    index.insert("manifests".to_owned(), entries.into());
    Value::Object(index).to_string().into_bytes()
}

impl<B: Blobs> Pull<'_, B> {
    /// Writes `images` into an OCI layout in a tar archive. All sizes are known
    /// before, so blobs arrive at their places several at once.
    pub async fn to_oci_archive(
        &self,
        images: &Images<'_>,
        mut output: OutputFile,
        name: Option<&str>,
    ) -> Result<(), Error> {
        images.warn(self.observer);
        let path = output.path().to_owned();
        let write_error = |source| files::Error::Write { path: path.clone(), source };
        let file = &*output.file();
        let (mut position, mut places) = (0, BTreeMap::new());
        for (name, content) in contents(images, name) {
            let size = content.as_ref().map_or(0, Content::size);
            let header = header(&name, size, content.is_none()).map_err(write_error)?;
            write_at(file, position, header.as_bytes(), &path)?;
            position += header.as_bytes().len() as u64;
            match content {
                None => {}
                Some(Content::Here(bytes)) => write_at(file, position, &bytes, &path)?,
                Some(Content::ToFetch(blob)) => {
                    places.insert(&blob.digest, (position, blob));
                }
            }
            let end = position.checked_add(size + padding(size) as u64);
            // Where no file can be so long, there is no use in beginning.
            let too_large = || write_error(io::ErrorKind::FileTooLarge.into());
            position = end.filter(|end| i64::try_from(*end).is_ok()).ok_or_else(too_large)?;
        }
        // Two blocks of zeros end it; what is between the files is zero as well.
        file.set_len(position + 1024).map_err(write_error)?;
        let blobs: Vec<&Descriptor> = places.values().map(|(_, blob)| *blob).collect();
        self.fetch_all(blobs, async |blob| {
            let start = places[&blob.digest].0;
            let mut region = Region::bounded(file, &path, start, blob.size);
            self.blobs.fetch_blob(blob, &mut region).await?;
            Ok(future::ready(Ok(())))
        })
        .await?;
        Ok(output.commit()?)
    }
}

/// The files of a layout, and its folders, by their names.
fn contents<'a>(
    images: &'a Images<'_>,
    name: Option<&str>,
) -> BTreeMap<String, Option<Content<'a>>> {
    let mut contents = BTreeMap::new();
    let index = with_entry(Index::default(), images.entry(name));
    contents.insert(INDEX.to_owned(), Some(Content::Here(index.into())));
    contents.insert(MARKER.to_owned(), Some(Content::Here(VERSION.as_bytes().into())));
    contents.insert("blobs/".to_owned(), None);
    let mut add = |digest: &Digest, content| {
        let folder = format!("blobs/{}/", digest.algorithm().name());
        contents.insert(format!("{folder}{}", digest.hex()), Some(content));
        contents.insert(folder, None);
    };
    for blob in images.layers() {
        add(&blob.digest, Content::ToFetch(blob));
    }
    for image in images.images {
        let config = image.config().raw();
        add(config.digest(), Content::Here(config.bytes().into()));
    }
    for (digest, bytes) in images.documents() {
        add(digest, Content::Here(bytes.into()));
    }
    contents
}

/// A header with nothing of this machine or time in it.
fn header(name: &str, size: u64, is_folder: bool) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(if is_folder { EntryType::Directory } else { EntryType::Regular });
    header.set_path(name)?;
    header.set_mode(if is_folder { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_takes_the_place_of_its_namesake_only() {
        let entry = |digest: &str, name: Option<&str>| {
            let mut entry = json!({ "digest": digest });
            if let Some(name) = name {
                entry["annotations"] = json!({ REF_NAME: name });
            }
            entry
        };
        let mut index = Index::default();
        for (new, expected) in [
            (entry("a", Some("1")), vec![entry("a", Some("1"))]),
            (entry("b", Some("2")), vec![entry("a", Some("1")), entry("b", Some("2"))]),
            (entry("c", Some("1")), vec![entry("b", Some("2")), entry("c", Some("1"))]),
            (
                entry("d", None),
                vec![entry("b", Some("2")), entry("c", Some("1")), entry("d", None)],
            ),
            (
                entry("d", None),
                vec![entry("b", Some("2")), entry("c", Some("1")), entry("d", None)],
            ),
        ] {
            let text = with_entry(index, new);
            index = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(index.manifests, expected);
        }
        assert_eq!(index.rest["schemaVersion"], 2);
    }
}
