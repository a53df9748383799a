//! The files of a layer, merged from its store paths (upstream's `nix/graph.go`).

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::Error;
use super::rules::{Attributes, Rules};
use crate::formats::layers::PathRecord;
use crate::oci::digest::{Algorithm, Digest};

/// How deep a file may be: no system opens a path with more components.
pub(super) const DEPTH_LIMIT: usize = 2048;

/// The files of a layer, by where they go. Nodes hold only their own names, and the path of
/// a file in the store only if a rule moved it: large layers have millions of files.
pub(super) struct Tree<'a> {
    nodes: Vec<Node>,
    records: &'a [PathRecord],
    rules: Vec<Rules<'a>>,
    warnings: Vec<String>,
}

/// A file, or a directory that only leads to others.
#[derive(Default)]
struct Node {
    name: Box<[u8]>,
    /// By their names.
    children: Vec<u32>,
    file: Option<File>,
}

/// A file in the store.
#[derive(Clone)]
pub(super) struct File {
    /// The store path that it belongs to.
    record: u32,
    /// Where it is, if that is not where it goes.
    source: Option<Box<[u8]>>,
    mode: u32,
    /// The size of a regular file, or the number of a device.
    size: u64,
    /// When its content changed last, in nanoseconds.
    modified: i64,
    pub(super) kind: FileKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileKind {
    File,
    Directory,
    Link,
    CharacterDevice,
    BlockDevice,
}

impl FileKind {
    const fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Link => "a link",
            Self::CharacterDevice | Self::BlockDevice => "a device",
        }
    }
}

/// An entry of the layer, in the order of the archive.
pub(super) struct Entry<'t> {
    /// Its name in the archive.
    pub(super) name: &'t [u8],
    /// What it is; `None` for a directory that only leads to others.
    pub(super) file: Option<&'t File>,
    /// Where its content is.
    pub(super) source: &'t Path,
    pub(super) attributes: Attributes<'t>,
}

impl File {
    fn new(record: u32, source: &Path, found: &Metadata) -> Result<Self, Error> {
        let file_type = found.file_type();
        let special = |kind| Err(Error::Special { path: source.to_owned(), kind });
        let (kind, size) = if file_type.is_dir() {
            (FileKind::Directory, 0)
        } else if file_type.is_symlink() {
            (FileKind::Link, 0)
        } else if file_type.is_file() {
            (FileKind::File, found.len())
        } else if file_type.is_char_device() {
            (FileKind::CharacterDevice, found.rdev())
        } else if file_type.is_block_device() {
            (FileKind::BlockDevice, found.rdev())
        } else if file_type.is_fifo() {
            return special("a named pipe");
        } else {
            return special("a socket");
        };
        let mode = if kind == FileKind::Link { 0o777 } else { found.mode() & 0o7777 };
        Ok(Self { record, source: None, mode, size, modified: modified(found), kind })
    }

    /// Whether a regular file is still what was found.
    pub(super) fn is_still(&self, found: &Metadata) -> bool {
        found.is_file() && found.len() == self.size && modified(found) == self.modified
    }

    /// The size of the content, in bytes.
    pub(super) const fn size(&self) -> u64 {
        match self.kind {
            FileKind::File => self.size,
            _ => 0,
        }
    }

    /// The numbers of a device, major and minor.
    pub(super) fn device(&self) -> (i64, i64) {
        match self.kind {
            FileKind::CharacterDevice | FileKind::BlockDevice => {
                (rustix::fs::major(self.size).into(), rustix::fs::minor(self.size).into())
            }
            _ => (0, 0),
        }
    }
}

fn modified(found: &Metadata) -> i64 {
    found.mtime().wrapping_mul(1_000_000_000).wrapping_add(found.mtime_nsec())
}

impl<'a> Tree<'a> {
    /// Merges the files of store paths, in their order.
    pub(super) fn new(records: &'a [PathRecord]) -> Result<Self, Error> {
        let rules = records.iter().map(Rules::new).collect::<Result<_, _>>()?;
        let mut tree = Self { nodes: vec![Node::default()], records, rules, warnings: Vec::new() };
        for (number, record) in records.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            tree.add_path(number, &mut PathBuf::from(&record.path), true)?;
        }
        Ok(tree)
    }

    /// What should be known of the merge, and of rules without an effect. Complete once the
    /// tree was visited.
    pub(super) fn warnings(mut self) -> Vec<String> {
        for (record, rules) in self.records.iter().zip(&self.rules) {
            self.warnings.extend(rules.unused(&record.path));
        }
        self.warnings
    }

    /// Adds a file and, if it is a directory, everything below it, in the order of names.
    fn add_path(&mut self, record: u32, path: &mut PathBuf, is_top: bool) -> Result<(), Error> {
        let read = |path: &Path, source| Error::Read { path: path.to_owned(), source };
        let found = fs::symlink_metadata(&*path).map_err(|source| read(path, source))?;
        let mut file = File::new(record, path, &found)?;
        let source = path.as_os_str().as_bytes();
        if !is_top && self.rules[record as usize].excludes(source) {
            return Ok(());
        }
        let moved = self.rules[record as usize].destination(source);
        let destination = moved.as_deref().unwrap_or(source);
        let is_root = |components: &[&[u8]]| components == [b""];
        if destination.is_empty()
            || file.kind != FileKind::Directory && is_root(&clean(destination))
        {
            // Only a directory can be the root, or has something else to go there.
            if (is_top || !destination.is_empty()) && file.kind != FileKind::Directory {
                let (path, kind) = (path.display().to_string(), file.kind.name());
                return Err(Error::NotARoot { path, kind });
            }
        } else {
            let components = clean(destination);
            if components.len() > DEPTH_LIMIT {
                return Err(Error::TooDeep { path: path.clone() });
            }
            // A path that is not in its shortest form is moved by that too.
            if join(&components) != source {
                file.source = Some(source.into());
            }
            self.insert(&components, file)?;
        }
        if !found.is_dir() {
            return Ok(());
        }
        let names = fs::read_dir(&*path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<_> = names.map_err(|source| read(path, source))?;
        names.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        if is_top {
            // As Go's `filepath.Walk`: what is below is named in the shortest form.
            *path = OsStr::from_bytes(&join(&clean(path.as_os_str().as_bytes()))).into();
        }
        for name in names {
            path.push(name);
            self.add_path(record, path, false)?;
            path.pop();
        }
        Ok(())
    }

    /// Puts a file to its place. Directories on the way are made.
    fn insert(&mut self, components: &[&[u8]], file: File) -> Result<(), Error> {
        let mut at = 0;
        for component in components {
            at = self.child(at, component);
        }
        if let Some(first) = self.nodes[at].file.take() {
            self.compare(components, &first, &file)?;
        }
        self.nodes[at].file = Some(file);
        Ok(())
    }

    /// The child of a node with this name, which is made if there is none.
    fn child(&mut self, parent: usize, name: &[u8]) -> usize {
        let by_name = |child: &u32| (*self.nodes[*child as usize].name).cmp(name);
        match self.nodes[parent].children.binary_search_by(by_name) {
            Ok(index) => self.nodes[parent].children[index] as usize,
            Err(index) => {
                let number = self.nodes.len();
                self.nodes.push(Node { name: name.into(), ..Node::default() });
                let child = u32::try_from(number).expect("a layer has fewer than 2^32 files");
                self.nodes[parent].children.insert(index, child);
                number
            }
        }
    }

    /// Compares two files for the same place. The second one wins if they don't contradict
    /// each other.
    fn compare(&mut self, components: &[&[u8]], first: &File, second: &File) -> Result<(), Error> {
        let name = join(components);
        let place =
            |file: &File| PathBuf::from(OsStr::from_bytes(file.source.as_deref().unwrap_or(&name)));
        let (first_place, second_place) = (place(first), place(second));
        let conflict = |difference, first_value: String, second_value: String| {
            Err(Error::Conflict {
                destination: String::from_utf8_lossy(&name).into_owned(),
                difference,
                first: first_place.clone(),
                first_value,
                second: second_place.clone(),
                second_value,
            })
        };
        if first.kind != second.kind {
            return conflict("type", first.kind.name().to_owned(), second.kind.name().to_owned());
        }
        if first.mode != second.mode {
            return conflict("mode", format!("{:04o}", first.mode), format!("{:04o}", second.mode));
        }
        if first.size != second.size {
            let what = if first.kind == FileKind::File { "size" } else { "device number" };
            return conflict(what, first.size.to_string(), second.size.to_string());
        }
        let attributes = |file: &File, place: &Path| {
            self.rules[file.record as usize]
                .apply(place.as_os_str().as_bytes(), i64::from(file.mode))
        };
        // Upstream compares rules only if the first path has some, and then their texts.
        let perms = |file: &File| {
            self.records[file.record as usize].options.as_ref().map(|options| &options.perms)
        };
        let are_compared = perms(first).is_some() && perms(first) != perms(second);
        let (one, other) = (attributes(first, &first_place), attributes(second, &second_place));
        if are_compared && one != other {
            let shown = |attributes: Attributes<'_>| {
                let Attributes { mode, user_id, group_id, user_name, group_name } = attributes;
                format!("{mode:04o} {user_id}:{group_id} ({user_name}:{group_name})")
            };
            return conflict("permissions", shown(one), shown(other));
        }
        let is_same = first_place == second_place
            || match first.kind {
                FileKind::File => have_same_content(&first_place, &second_place)?,
                FileKind::Link => link(&first_place)? == link(&second_place)?,
                _ => true,
            };
        if !is_same {
            self.warnings.push(format!(
                "two files for `{}` have different content: `{}`, and `{}`, which wins",
                String::from_utf8_lossy(&name).escape_debug(),
                first_place.display(),
                second_place.display(),
            ));
        }
        Ok(())
    }

    /// Visits the entries in the order of the archive: directories before what is in them,
    /// names in the order of their bytes.
    pub(super) fn visit(
        &self,
        mut each: impl FnMut(&Entry<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for child in &self.nodes[0].children {
            self.visit_node(*child, &mut Vec::new(), &mut each)?;
        }
        Ok(())
    }

    fn visit_node(
        &self,
        number: u32,
        name: &mut Vec<u8>,
        each: &mut impl FnMut(&Entry<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let node = &self.nodes[number as usize];
        let before = name.len();
        // The root of absolute names is a node without a name.
        if before > 0 && *name != b"/" {
            name.push(b'/');
        }
        name.extend_from_slice(if node.name.is_empty() { b"/" } else { &node.name });
        let source = node.file.as_ref().and_then(|file| file.source.as_deref()).unwrap_or(name);
        let attributes = match &node.file {
            Some(file) => self.rules[file.record as usize].apply(source, file.mode.into()),
            None => Attributes::of_root(0o755),
        };
        each(&Entry {
            name,
            file: node.file.as_ref(),
            source: Path::new(OsStr::from_bytes(source)),
            attributes,
        })?;
        for child in &node.children {
            self.visit_node(*child, name, each)?;
        }
        name.truncate(before);
        Ok(())
    }
}

/// The components of a path in its shortest form (Go: `path.Clean`). The first one of an
/// absolute path is empty.
pub(super) fn clean(path: &[u8]) -> Vec<&[u8]> {
    let is_absolute = path.first() == Some(&b'/');
    let mut components: Vec<&[u8]> = Vec::new();
    if is_absolute {
        components.push(b"");
    }
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match components.last() {
                Some(&b"..") | None => components.push(component),
                // Above the root is the root.
                Some(&b"") => {}
                Some(_) => {
                    components.pop();
                }
            },
            name => components.push(name),
        }
    }
    if components.is_empty() {
        components.push(b".");
    }
    components
}

pub(super) fn join(components: &[&[u8]]) -> Vec<u8> {
    if components == [b""] { b"/".to_vec() } else { components.join(&b'/') }
}

/// What a link points to.
pub(super) fn link(path: &Path) -> Result<Vec<u8>, Error> {
    let target = fs::read_link(path).map_err(|source| match source.kind() {
        // It was one a moment before.
        io::ErrorKind::InvalidInput => Error::Changed { path: path.to_owned() },
        _ => Error::Read { path: path.to_owned(), source },
    })?;
    Ok(target.into_os_string().into_encoded_bytes())
}

fn have_same_content(one: &Path, other: &Path) -> Result<bool, Error> {
    let digest = |path: &Path| {
        let digest = Digest::of_file(Algorithm::Sha256, path);
        digest.map_err(|source| Error::Read { path: path.to_owned(), source })
    };
    Ok(digest(one)? == digest(other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does_it() {
        let shown = |path: &str| String::from_utf8(join(&clean(path.as_bytes()))).expect("text");
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a//b/./c/..", "/a/b"),
            ("/../a", "/a"),
            ("/", "/"),
            ("a/../..", ".."),
            ("../a", "../a"),
            ("./a/", "a"),
            (".", "."),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }
}
