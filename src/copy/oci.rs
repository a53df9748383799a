//! OCI layouts (OCI image-spec image-layout.md), as a directory or as a tar archive.
//! Documents are written as served, so they keep their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use futures_util::future;
use tokio::sync::SetOnce;

use super::{Copier, Error, Fetch, Finish, Place, write_at};
use crate::formats::content::Content;
use crate::formats::oci_layout::{INDEX, Images, Index, MARKER, VERSION, contents};
use crate::fs::{self as files, OutputFile};
use crate::observer::{Event, Observer};
use crate::oci::manifest;
use crate::stream::sink::Region;
use crate::stream::tar::{self, Header, Kind, padding};

/// Refuses a directory that contains anything else.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
    let is_temporary = |entry: &fs::DirEntry| files::is_temporary(&entry.file_name());
    let is_empty = match fs::read_dir(directory) {
        // Another pull may be creating the layout right now.
        Ok(mut entries) => entries.all(|entry| entry.as_ref().is_ok_and(is_temporary)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(prepare(error)),
    };
    if !is_empty && !directory.join(MARKER).is_file() {
        return Err(Error::NotOurs { path: directory.to_owned() });
    }
    read_index(directory).map(drop)
}

/// Reads a layout's `index.json`, or returns an empty one if there is none.
fn read_index(directory: &Path) -> Result<Index, Error> {
    match files::read(&directory.join(INDEX), manifest::SIZE_LIMIT) {
        Ok(text) => Index::parse(&text)
            .map_err(|source| Error::Index { path: directory.to_owned(), source }),
        Err(error) if error.is_missing() => Ok(Index::default()),
        Err(error) => Err(error.into()),
    }
}

/// Says what others make of Docker's manifests in a layout.
fn warn(images: &Images<'_>, observer: &dyn Observer) {
    if images.have_docker_manifest() {
        let text = "the image keeps its Docker manifest and digest: containerd and current \
                    versions of skopeo can read it in an OCI layout; umoci, podman 4 and \
                    skopeo 1.9 can't, and need `--format oci`";
        observer.observe(&Event::Warning(text));
    }
}

impl Copier<'_> {
    /// Adds `images` to the layout in `directory` under `name`, and creates the layout
    /// if there is none. `index.json` is written last, so that everything it lists is
    /// there.
    pub async fn to_oci_layout(
        &self,
        images: &Images<'_>,
        directory: &Path,
        name: Option<&str>,
    ) -> Result<(), Error> {
        warn(images, self.observer);
        let prepare = |source| Error::Prepare { path: directory.to_owned(), source };
        check(directory)?;
        fs::create_dir_all(directory).map_err(prepare)?;
        let marker = directory.join(MARKER);
        if !marker.exists() {
            files::replace(&marker, VERSION.as_bytes())?;
        }
        let place = Place::Layout(directory);
        let digests = images.blobs().map(|blob| &blob.digest);
        let mut folders = BTreeSet::from([directory.to_owned()]);
        for digest in images.documents().into_keys().chain(digests) {
            if let Some(folder) = place.of(digest).parent() {
                fs::create_dir_all(folder).map_err(prepare)?;
                folders.insert(folder.to_owned());
            }
        }
        // Remove what a killed run left.
        for folder in &folders {
            files::sweep(folder);
        }
        for image in images.images {
            self.store_config(image, &place.of(image.config().raw().digest())).await?;
        }
        let missing = self.missing(images.layers(), place);
        self.fetch_files(missing, place, &SetOnce::new_with(Some(()))).await?;
        for (digest, bytes) in images.documents() {
            files::replace(&place.of(digest), bytes)?;
        }
        // Another pull may be adding its image to the layout at the same time.
        let lock = fs::File::open(directory).and_then(|layout| layout.lock().map(|()| layout));
        let _lock = lock.map_err(prepare)?;
        let index = read_index(directory)?;
        Ok(files::replace(&directory.join(INDEX), &index.with_entry(images.entry(name)))?)
    }
}

impl Copier<'_> {
    /// Writes `images` into an OCI layout in a tar archive. All sizes are known in
    /// advance, so several blobs can be written to their places at once.
    pub async fn to_oci_archive(
        &self,
        images: &Images<'_>,
        mut output: OutputFile,
        name: Option<&str>,
    ) -> Result<(), Error> {
        warn(images, self.observer);
        let path = output.path().to_owned();
        let write_error = |source| files::Error::Write { path: path.clone(), source };
        let file = &*output.file();
        let (mut position, mut places) = (0, BTreeMap::new());
        for (name, content) in contents(images, name) {
            let size = content.as_ref().map_or(0, Content::size);
            let (kind, mode) =
                if content.is_some() { (Kind::File, 0o644) } else { (Kind::Directory, 0o755) };
            let header = Header::new(kind, name.as_bytes(), mode, size).encode();
            let header = header.map_err(|error| write_error(io::Error::other(error)))?;
            write_at(file, position, &header, &path)?;
            position += header.len() as u64;
            match content {
                None => {}
                Some(Content::Here(bytes)) => write_at(file, position, &bytes, &path)?,
                Some(Content::ToFetch(blob)) => {
                    places.insert(&blob.digest, (position, blob));
                }
            }
            let end = position.checked_add(size + padding(size) as u64);
            // If no file can be that long, there is no point in starting.
            let too_large = || write_error(io::ErrorKind::FileTooLarge.into());
            position = end.filter(|end| i64::try_from(*end).is_ok()).ok_or_else(too_large)?;
        }
        // Two blocks of zeros end the archive. The gaps between files are zero as well.
        file.set_len(position + tar::END.len() as u64).map_err(write_error)?;
        let path = &path;
        let fetch = |(start, blob): (u64, _)| Fetch {
            blob,
            begin: Box::pin(async move {
                let mut region = Region::bounded(file, path, start, blob.size);
                self.blobs.fetch_blob(blob, &mut region).await?;
                let finish: Finish<'_> = Box::pin(future::ready(Ok(())));
                Ok(finish)
            }),
        };
        self.fetch_all(places.into_values().map(fetch).collect()).await?;
        Ok(output.commit()?)
    }
}
