//! The archive of a layer of mount points and links, with the bytes that containerd's archive
//! writer gives it (containerd `pkg/archive/tar.go`).

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::build::Error;
use crate::build::layer::{Archive, Writer};
use crate::build::rules::{self, Attributes, Rules};
use crate::build::tree::{DEPTH_LIMIT, clean};
use crate::formats::layers::{LayerContent, PathRecord};
use crate::store::{StoreDirectory, is_store_path};
use crate::stream::tar::{self, Header, Kind};

/// The mode of a mount point for a file, which is empty.
const FILE_MODE: i64 = 0o555;
const DIRECTORY: Attributes<'static> = Attributes::of_root(0o755);

/// Makes the archive for store paths, and writes it to `file` if there is one. `content` says
/// whether there are mount points in it.
pub(in crate::build) fn archive(
    records: &[PathRecord],
    content: LayerContent,
    file: Option<&mut dyn Write>,
) -> Result<Archive, Error> {
    let mut entries = Entries::default();
    for record in records {
        entries.add_mount_point(record, content)?;
    }
    for record in records {
        entries.add_links(record)?;
    }
    let mut writer = Writer::new(file, false);
    for (key, entry) in &entries.entries {
        writer.append(&entry.header(key)?)?;
    }
    writer.append(&tar::END)?;
    let (digest, size) = writer.finish()?;
    Ok(Archive { digest, size, warnings: entries.warnings })
}

/// What is in one place of the layer.
struct Entry<'a> {
    content: Content<'a>,
    /// The file in the store because of which it is there.
    source: PathBuf,
}

enum Content<'a> {
    Directory(Attributes<'a>),
    /// An empty file, over which one from the store is mounted.
    MountPoint,
    /// A link to the entry's source.
    Link,
}

impl Content<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Directory(_) => "a directory",
            Self::MountPoint => "a file",
            Self::Link => "a link",
        }
    }
}

/// The entries by their keys: the components of their names with a NUL between them, so that
/// they are in the order of a walk.
#[derive(Default)]
struct Entries<'a> {
    entries: BTreeMap<Vec<u8>, Entry<'a>>,
    warnings: Vec<String>,
}

impl<'a> Entries<'a> {
    /// Adds what a node mounts a store path over, or the directory of the store.
    fn add_mount_point(
        &mut self,
        record: &'a PathRecord,
        content: LayerContent,
    ) -> Result<(), Error> {
        let path = Path::new(&record.path);
        let read = |source| Error::Read { path: path.to_owned(), source };
        // The layer may be that of an image.json from elsewhere.
        if !is_store_path(&record.path) {
            let store = StoreDirectory::default().to_string();
            let path = record.path.escape_default().to_string();
            return Err(Error::NotAStorePath { path, store });
        }
        if content == LayerContent::Links {
            let store = clean(record.path.as_bytes());
            let store = &store[..store.len() - 1];
            return self.add(store, Content::Directory(DIRECTORY), path);
        }
        // As mounts do, this follows a link, but not out of the store.
        let found = fs::metadata(path).map_err(read)?;
        if fs::symlink_metadata(path).map_err(read)?.is_symlink() {
            let (target, store) = (path.canonicalize().map_err(read)?, path.parent());
            let store = store.map(Path::canonicalize).transpose().map_err(read)?;
            if store.is_none_or(|store| target == store || !target.starts_with(store)) {
                return Err(Error::LeavesStore { path: path.to_owned(), target });
            }
        }
        let components = clean(record.path.as_bytes());
        let content =
            if found.is_dir() { Content::Directory(DIRECTORY) } else { Content::MountPoint };
        self.add(&components, content, path)
    }

    /// Adds links to the files of a store path that go to other places.
    fn add_links(&mut self, record: &'a PathRecord) -> Result<(), Error> {
        let rules = Rules::new(record)?;
        let is_moved =
            record.options.as_ref().is_some_and(|options| !options.rewrite.regex.is_empty());
        let mut waiting: Vec<PathBuf> = Vec::new();
        if is_moved {
            waiting.push((&record.path).into());
        }
        while let Some(path) = waiting.pop() {
            let read = |source| Error::Read { path: path.clone(), source };
            let file_type = fs::symlink_metadata(&path).map_err(read)?.file_type();
            let is_directory = file_type.is_dir();
            if !is_directory && !file_type.is_file() && !file_type.is_symlink() {
                let kind = "a pipe, a socket or a device";
                return Err(Error::Special { path, kind });
            }
            let is_top = path.as_os_str() == record.path.as_str();
            let source = path.as_os_str().as_bytes();
            if !is_top && rules.excludes(source) {
                continue;
            }
            let moved = rules.destination(source).filter(|destination| destination != source);
            if let Some(destination) = moved {
                self.add_moved(&path, &destination, is_directory, is_top, &rules)?;
            }
            if is_directory {
                let names = fs::read_dir(&path)
                    .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
                let mut below: Vec<PathBuf> = names.map_err(read)?;
                below.sort_unstable_by(|one, other| other.cmp(one));
                waiting.extend(below);
            }
        }
        if is_moved && rules.is_rewrite_unused() {
            self.warnings.push(rules::unused_rewrite(&record.path));
        }
        for regex in rules.unused_permissions() {
            self.warnings.push(format!(
                "the rule `{regex}` for `{}` changes no directory of the image; a node mounts \
                 files as its store has them",
                record.path
            ));
        }
        Ok(())
    }

    fn add_moved(
        &mut self,
        path: &Path,
        destination: &[u8],
        is_directory: bool,
        is_top: bool,
        rules: &Rules<'a>,
    ) -> Result<(), Error> {
        let rooted = [b"/", destination].concat();
        let components = clean(&rooted);
        if components.len() > DEPTH_LIMIT {
            return Err(Error::TooDeep { path: path.to_owned() });
        }
        if destination.contains(&0) {
            let (path, name) = (path.to_owned(), destination.to_vec());
            return Err(Error::Header { path, source: tar::Error::Unencodable { name } });
        }
        match (components.len() > 1, is_directory) {
            (true, true) => {
                let attributes = rules.apply(path.as_os_str().as_bytes(), DIRECTORY.mode);
                self.add(&components, Content::Directory(attributes), path)
            }
            (true, false) => self.add(&components, Content::Link, path),
            (false, true) => {
                // The root has no entry, but a rule for it is one that was used.
                rules.apply(path.as_os_str().as_bytes(), DIRECTORY.mode);
                Ok(())
            }
            // Only a directory can be the root, or has something else to go there.
            (false, false) if is_top || !destination.is_empty() => {
                let (path, kind) = (path.display().to_string(), "a file");
                Err(Error::NotARoot { path, kind })
            }
            (false, false) => Ok(()),
        }
    }

    /// Puts an entry in its place. Directories on the way are made.
    fn add(
        &mut self,
        components: &[&[u8]],
        content: Content<'a>,
        source: &Path,
    ) -> Result<(), Error> {
        // The first component of an absolute path is empty.
        let key = components[1..].join(&0);
        // Most often, the directory above is there, and then all above that are.
        let mut ends: Vec<usize> = Vec::new();
        for end in (0..key.len()).rev().filter(|end| key[*end] == 0) {
            let above = self.entries.get(&key[..end]);
            if above.is_some_and(|above| matches!(above.content, Content::Directory(_))) {
                break;
            }
            ends.push(end);
        }
        for end in ends.into_iter().rev() {
            self.put(key[..end].to_vec(), Content::Directory(DIRECTORY), source)?;
        }
        self.put(key, content, source)
    }

    fn put(&mut self, key: Vec<u8>, content: Content<'a>, source: &Path) -> Result<(), Error> {
        let shown = |key: &[u8]| format!("/{}", String::from_utf8_lossy(&name(key)).escape_debug());
        let entry = match self.entries.entry(key) {
            btree_map::Entry::Vacant(place) => {
                place.insert(Entry { content, source: source.to_owned() });
                return Ok(());
            }
            btree_map::Entry::Occupied(place) => place,
        };
        let destination = shown(entry.key());
        let entry = entry.into_mut();
        match (&mut entry.content, content) {
            (Content::Directory(old), Content::Directory(new)) => {
                if new != DIRECTORY {
                    *old = new;
                }
            }
            (Content::MountPoint, Content::MountPoint) => {}
            (Content::Link, Content::Link) => {
                if entry.source != source {
                    let (first, second) = (entry.source.display(), source.display());
                    self.warnings.push(format!(
                        "two links for `{destination}`: to `{first}`, and to `{second}`, which wins"
                    ));
                    source.clone_into(&mut entry.source);
                }
            }
            (old, new) => {
                return Err(Error::Conflict {
                    destination,
                    difference: "type",
                    first: entry.source.clone(),
                    first_value: old.name().to_owned(),
                    second: source.to_owned(),
                    second_value: new.name().to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The name in the archive of the entry with this key.
fn name(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

impl Entry<'_> {
    fn header(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        let mut name = name(key);
        let header = match &self.content {
            Content::Directory(attributes) => {
                name.push(b'/');
                let Attributes { mode, user_id, group_id, user_name, group_name } = *attributes;
                Header {
                    user_id,
                    group_id,
                    user_name: without_root(user_name),
                    group_name: without_root(group_name),
                    ..Header::new(Kind::Directory, &name, mode, 0)
                }
            }
            Content::MountPoint => Header::new(Kind::File, &name, FILE_MODE, 0),
            Content::Link => Header {
                link_name: self.source.as_os_str().as_bytes(),
                ..Header::new(Kind::Link, &name, 0o777, 0)
            },
        };
        let failed = |source| Error::Header { path: OsStr::from_bytes(&name).into(), source };
        header.encode_as_pax().map_err(failed)
    }
}

/// The name of an owner, unless it is root's, which is left out.
fn without_root(name: &str) -> &[u8] {
    if name == "root" { b"" } else { name.as_bytes() }
}
