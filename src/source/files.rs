//! Images in a directory as skopeo writes it, in an OCI layout in a tar archive, and in an
//! archive of `docker save` or of nixpkgs' dockerTools.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::Error;
use crate::formats::convert;
use crate::formats::docker_archive::Name;
use crate::formats::oci_layout::{INDEX, OciLayout};
use crate::fs;
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::{self, Digest, Hasher, Verified};
use crate::oci::image::{CONFIG_SIZE_LIMIT, ImageConfig};
use crate::oci::location::LayoutReference;
use crate::oci::manifest::{self, Descriptor};
use crate::oci::media_type;
use crate::stream::compress::Algorithm;
use crate::stream::readable::VerifiedFile;
use crate::stream::sink::Sink;

/// How many files an archive may have.
const ENTRY_LIMIT: usize = 500_000;
/// How many links lead to a file at most.
const LINK_LIMIT: usize = 16;

/// The bytes of a blob.
#[derive(Clone, Debug)]
enum Part {
    /// A whole file.
    File(PathBuf),
    /// A part of a file, with its start and its size.
    Region(Arc<File>, u64, u64),
    /// A document that was made from the others.
    Made(Verified),
}

/// An image, or several, in files.
#[derive(Debug)]
pub struct ImageFiles {
    /// The place, for errors: `dir:PATH`.
    name: String,
    path: PathBuf,
    root: Verified,
    parts: HashMap<Digest, Part>,
}

impl ImageFiles {
    /// The place, in skopeo's syntax.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The index or manifest that leads to everything else.
    #[must_use]
    pub const fn root(&self) -> &Verified {
        &self.root
    }

    /// Reads a directory in skopeo's `dir:` layout.
    pub fn directory(path: &Path) -> Result<Self, Error> {
        let root = fs::read(&path.join("manifest.json"), manifest::SIZE_LIMIT)?;
        let read = |source| fs::Error::Read { path: path.to_owned(), source };
        let mut parts = HashMap::new();
        for entry in std::fs::read_dir(path).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let hex = name.strip_suffix(".manifest.json").unwrap_or(&name);
            if let Some(digest) = digest_of_name(hex) {
                parts.insert(digest, Part::File(entry.path()));
            }
        }
        let (name, path) = (format!("dir:{}", path.display()), path.to_owned());
        Ok(Self { name, path, root: Verified::as_found(root), parts })
    }

    /// Reads an OCI layout in a tar archive.
    pub fn oci_archive(reference: &LayoutReference) -> Result<Self, Error> {
        let path = reference.directory();
        let archive = Archive::open(path)?;
        let index = Verified::as_found(archive.read(INDEX, manifest::SIZE_LIMIT)?);
        let mut parts = HashMap::new();
        for (name, entry) in &archive.entries {
            let digest = name.strip_prefix("blobs/").map(|name| name.replacen('/', ":", 1));
            let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
            if let (Some(digest), Entry::File(start, size)) = (digest, entry) {
                parts.insert(digest, Part::Region(archive.file.clone(), *start, *size));
            }
        }
        let name = format!("oci-archive:{}", path.display());
        let mut files = Self { name, path: path.to_owned(), root: index.clone(), parts };
        if let Some(found) = OciLayout::new(reference.clone()).choose(&index)? {
            files.root = files.document(&found.digest, found.size, manifest::SIZE_LIMIT)?;
        }
        Ok(files)
    }

    /// Reads an archive of `docker save`: the image with a name, or the only one. Its manifest
    /// is made: the archive has none.
    pub fn docker_archive(path: &Path, name: Option<&Name>) -> Result<Self, Error> {
        let place = format!("docker-archive:{}", path.display());
        let invalid = |reason: &str| Error::DockerArchive {
            file: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let archive = Archive::open(path)?;
        let text = archive.read("manifest.json", manifest::SIZE_LIMIT)?;
        let shape = |source| Error::DockerManifest { file: path.display().to_string(), source };
        let items: Vec<Item> = json::parse(&text, VALUE_LIMIT).map_err(shape)?;
        let is_meant = |item: &&Item| match name {
            Some(name) => item.tags.iter().flatten().any(|tag| name.is(tag)),
            None => true,
        };
        let mut found = items.iter().filter(is_meant);
        let item = found.next().ok_or_else(|| invalid("it has no image of that name"))?;
        if found.next().is_some() {
            return Err(invalid("it has several images: name one of them"));
        }
        let config = Verified::as_found(archive.read(&item.config, CONFIG_SIZE_LIMIT)?);
        let diff_ids = ImageConfig::parse(&format!("`{place}`"), &config)?.diff_ids().to_vec();
        if diff_ids.len() != item.layers.len() {
            return Err(invalid("its config and its list of layers don't fit together"));
        }
        let (mut parts, mut layers) = (HashMap::new(), Vec::new());
        for (layer, diff_id) in item.layers.iter().zip(diff_ids) {
            let (start, size) = archive.find(layer)?;
            let file = archive.file.clone();
            let (digest, media_type) = archive.identify(layer, (start, size), diff_id)?;
            parts.insert(digest.clone(), Part::Region(file, start, size));
            layers.push(Descriptor { media_type, digest, size, urls: Vec::new() });
        }
        let root = convert::docker_manifest(&config, &layers);
        parts.insert(config.digest().clone(), Part::Made(config));
        parts.insert(root.digest().clone(), Part::Made(root.clone()));
        Ok(Self { name: place, path: path.to_owned(), root, parts })
    }

    fn part(&self, digest: &Digest) -> Result<&Part, Error> {
        self.parts.get(digest).ok_or_else(|| {
            let (place, digest) = (self.name.clone(), digest.clone());
            Error::NotInFiles { place, digest }
        })
    }

    /// Reads and verifies an index, a manifest or a config.
    pub(crate) fn document(
        &self,
        digest: &Digest,
        size: Option<u64>,
        limit: u64,
    ) -> Result<Verified, Error> {
        let bytes = match self.part(digest)? {
            Part::Made(made) => return Ok(made.clone()),
            Part::File(path) => fs::read(path, limit)?,
            Part::Region(file, start, length) => read_region(file, *start, *length, limit)
                .map_err(|source| Error::Read { digest: digest.clone(), source })?,
        };
        Ok(Verified::check(&format!("`{}`", self.name), bytes, digest, size)?)
    }

    /// A blob, which is verified while it is read.
    pub(crate) fn readable(&self, descriptor: &Descriptor) -> Result<VerifiedFile, Error> {
        let digest = &descriptor.digest;
        match self.part(digest)? {
            Part::File(path) => super::file(path, descriptor),
            Part::Region(file, start, size) => {
                digest::check_size(&format!("`{}`", self.name), *size, Some(descriptor.size))?;
                Ok(VerifiedFile::part_of(file.clone(), *start, digest.clone(), *size))
            }
            Part::Made(made) => {
                let write = |source| Error::Read { digest: digest.clone(), source };
                let file = fs::unnamed().map_err(write)?;
                file.write_all_at(made.bytes(), 0).map_err(write)?;
                let size = made.bytes().len() as u64;
                Ok(VerifiedFile::part_of(Arc::new(file), 0, digest.clone(), size))
            }
        }
    }

    pub(crate) async fn download(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        super::write_to(sink, &self.readable(descriptor)?, &descriptor.digest).await
    }
}

/// The digest that is a file's name: its hexadecimal digits alone.
fn digest_of_name(hex: &str) -> Option<Digest> {
    let algorithm = match hex.len() {
        64 => "sha256",
        128 => "sha512",
        _ => return None,
    };
    format!("{algorithm}:{hex}").parse().ok()
}

fn read_region(file: &File, start: u64, size: u64, limit: u64) -> io::Result<Vec<u8>> {
    if size > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// An image in the `manifest.json` of a docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default, rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// What a name in an archive leads to.
#[derive(Clone, Debug)]
enum Entry {
    /// The start and the size of its bytes.
    File(u64, u64),
    /// Another name.
    Link(String),
}

/// A tar archive whose files can be read at any place.
struct Archive {
    path: PathBuf,
    file: Arc<File>,
    entries: HashMap<String, Entry>,
}

impl Archive {
    /// Reads the names in an archive. One that is compressed is decompressed to a file
    /// without a name first.
    fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| fs::Error::Read { path: path.to_owned(), source };
        let open = || -> io::Result<File> {
            if !std::fs::metadata(path)?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            plain(File::open(path)?)
        };
        let file = Arc::new(open().map_err(read)?);
        let entries = entries(&file).map_err(read)?;
        Ok(Self { path: path.to_owned(), file, entries })
    }

    /// Finds a file, by way of links inside the archive.
    fn find(&self, name: &str) -> Result<(u64, u64), Error> {
        let mut at = clean(name);
        for _ in 0..LINK_LIMIT {
            match self.entries.get(&at) {
                Some(Entry::File(start, size)) => return Ok((*start, *size)),
                Some(Entry::Link(target)) => at.clone_from(target),
                None => break,
            }
        }
        let (file, name) = (self.path.display().to_string(), name.escape_default().to_string());
        Err(Error::NotInArchive { file, name })
    }

    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let (start, size) = self.find(name)?;
        let read = |source| fs::Error::Read { path: self.path.clone(), source };
        Ok(read_region(&self.file, start, size, limit).map_err(read)?)
    }

    /// The digest and media type of a layer: newer versions of docker compress them.
    fn identify(
        &self,
        name: &str,
        (start, size): (u64, u64),
        diff_id: Digest,
    ) -> Result<(Digest, String), Error> {
        let read = |source| fs::Error::Read { path: self.path.clone(), source };
        let mut magic = [0; 4];
        let length = usize::try_from(size.min(4)).unwrap_or(0);
        self.file.read_exact_at(&mut magic[..length], start).map_err(read)?;
        let Some(algorithm) = Algorithm::of_beginning(&magic) else {
            return Ok((diff_id, media_type::DOCKER_LAYER.to_owned()));
        };
        let named = name.rsplit('/').next().and_then(digest_of_name);
        let digest = match named {
            Some(digest) => digest,
            None => hash(&self.file, start, size).map_err(read)?,
        };
        Ok((digest, media_type::compressed(media_type::DOCKER_LAYER, algorithm.name())))
    }
}

fn hash(file: &File, start: u64, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new(digest::Algorithm::Sha256);
    let (mut at, mut piece) = (0, vec![0; 256 << 10]);
    while at < size {
        let length = usize::try_from((size - at).min(piece.len() as u64)).unwrap_or(0);
        file.read_exact_at(&mut piece[..length], start + at)?;
        hasher.update(&piece[..length]);
        at += length as u64;
    }
    Ok(hasher.finish())
}

/// Returns the file, decompressed if it is compressed.
fn plain(mut file: File) -> io::Result<File> {
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let mut decoder: Box<dyn Read> = match Algorithm::of_beginning(&magic) {
        Some(Algorithm::Gzip) => {
            Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(file)))
        }
        Some(Algorithm::Zstd) => Box::new(zstd::Decoder::new(file)?),
        None => return Ok(file),
    };
    let mut plain = fs::unnamed()?;
    io::copy(&mut decoder, &mut plain).map_err(fs::in_temporary)?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

fn entries(file: &File) -> io::Result<HashMap<String, Entry>> {
    let mut archive = tar::Archive::new(file);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
        let kind = entry.header().entry_type();
        let found = if kind.is_file() || kind.is_contiguous() {
            Entry::File(entry.raw_file_position(), entry.size())
        } else if let Some(target) = entry.link_name_bytes() {
            let target = String::from_utf8_lossy(&target).into_owned();
            let folder = Path::new(&name).parent().map(|folder| folder.display().to_string());
            let is_relative = kind.is_symlink();
            let folder = folder.filter(|_| is_relative).unwrap_or_default();
            Entry::Link(clean(&format!("{folder}/{target}")))
        } else {
            continue;
        };
        if entries.len() >= ENTRY_LIMIT {
            return Err(io::Error::other(format!("it has more than {ENTRY_LIMIT} files")));
        }
        entries.insert(name, found);
    }
    Ok(entries)
}

/// A name in an archive without `.` and `..`: nothing is outside of it.
fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_of_an_archive() {
        for (name, expected) in
            [("./a/b", "a/b"), ("/a", "a"), ("../../etc/x", "etc/x"), ("a/../b", "b"), ("", "")]
        {
            assert_eq!(clean(name), expected);
        }
    }
}
