//! The archive of a layer, made from store paths (upstream's `nix/tar.go`).

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use bytes::BytesMut;
use rustix::fs::{Mode, OFlags};

use super::Error;
use super::tree::{Entry, FileKind, Tree, link};
use crate::formats::layers::PathRecord;
use crate::oci::digest::{Algorithm, Digest, Hasher};
use crate::stream::hash_thread::HashThread;
use crate::stream::tar::{self, Header, Kind, padding};

/// How many bytes are hashed and written at once.
const PIECE: usize = 256 << 10;
/// The time of the last change of every entry, in seconds since 1970.
const MODIFIED: i64 = 1;

/// What an archive came to.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// What should be known of its files.
    pub(super) warnings: Vec<String>,
}

/// Makes the archive of store paths, and writes it to `file`, in large pieces, if there is
/// one. `has_thread` says whether a thread is free to hash it.
pub(super) fn archive(
    records: &[PathRecord],
    file: Option<&mut dyn Write>,
    has_thread: bool,
) -> Result<Archive, Error> {
    let tree = Tree::new(records)?;
    let mut writer = Writer::new(file, has_thread);
    tree.visit(|entry| writer.entry(entry))?;
    writer.append(&tar::END)?;
    let (digest, size) = writer.finish()?;
    Ok(Archive { digest, size, warnings: tree.warnings() })
}

enum Hash {
    Here(Box<Hasher>),
    Thread(Box<HashThread>),
}

/// Writes the archive, in large pieces.
pub(super) struct Writer<'f> {
    hash: Hash,
    file: Option<&'f mut dyn Write>,
    buffer: BytesMut,
    size: u64,
}

impl<'f> Writer<'f> {
    /// Writes to `file`, if there is one. `has_thread` says whether a thread is free to hash.
    pub(super) fn new(file: Option<&'f mut dyn Write>, has_thread: bool) -> Self {
        let hasher = Hasher::new(Algorithm::Sha256);
        let hash = if has_thread {
            Hash::Thread(Box::new(HashThread::new(hasher)))
        } else {
            Hash::Here(Box::new(hasher))
        };
        Self { hash, file, buffer: BytesMut::with_capacity(PIECE), size: 0 }
    }

    /// Adds bytes of the archive.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE { self.hand_over() } else { Ok(()) }
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let (kind, link_name) = match entry.file.map(|file| file.kind) {
            None | Some(FileKind::Directory) => (Kind::Directory, Vec::new()),
            Some(FileKind::Link) => (Kind::Link, link(entry.source)?),
            Some(FileKind::File) => (Kind::File, Vec::new()),
            Some(FileKind::CharacterDevice) => (Kind::CharacterDevice, Vec::new()),
            Some(FileKind::BlockDevice) => (Kind::BlockDevice, Vec::new()),
        };
        let size = entry.file.map_or(0, super::tree::File::size);
        let attributes = entry.attributes;
        let header = Header {
            link_name: &link_name,
            user_id: attributes.user_id,
            group_id: attributes.group_id,
            user_name: attributes.user_name.as_bytes(),
            group_name: attributes.group_name.as_bytes(),
            modified: MODIFIED,
            device: entry.file.map_or((0, 0), super::tree::File::device),
            ..Header::new(kind, entry.name, attributes.mode, size)
        };
        let header = header.encode();
        let header =
            header.map_err(|source| Error::Header { path: entry.source.to_owned(), source })?;
        self.buffer.extend_from_slice(&header);
        if let Some(file) = entry.file.filter(|file| file.kind == FileKind::File) {
            self.content(entry.source, file)?;
            self.buffer.resize(self.buffer.len() + padding(size), 0);
        }
        if self.buffer.len() >= PIECE { self.hand_over() } else { Ok(()) }
    }

    /// Adds the content of a file, which must be what was found until all of it is read.
    fn content(&mut self, path: &Path, expected: &super::tree::File) -> Result<(), Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let changed = || Error::Changed { path: path.to_owned() };
        // What has become a link or a pipe in the meantime is neither followed nor waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let mut file = match opened {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP) => return Err(changed()),
            Err(error) => return Err(read(error.into())),
        };
        if !expected.is_still(&file.metadata().map_err(read)?) {
            return Err(changed());
        }
        let mut left = expected.size();
        while left > 0 {
            let start = self.buffer.len();
            let room = PIECE.saturating_sub(start).max(4096);
            let wanted = usize::try_from(left).map_or(room, |left| left.min(room));
            self.buffer.resize(start + wanted, 0);
            let count = match file.read(&mut self.buffer[start..]) {
                Ok(0) => return Err(changed()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(read(error)),
            };
            self.buffer.truncate(start + count);
            left -= count as u64;
            if self.buffer.len() >= PIECE {
                self.hand_over()?;
            }
        }
        if expected.is_still(&file.metadata().map_err(read)?) { Ok(()) } else { Err(changed()) }
    }

    /// Passes on what has been gathered.
    fn hand_over(&mut self) -> Result<(), Error> {
        self.size += self.buffer.len() as u64;
        if let Some(file) = &mut self.file {
            file.write_all(&self.buffer).map_err(Error::Write)?;
        }
        match &mut self.hash {
            Hash::Here(hasher) => {
                hasher.update(&self.buffer);
                self.buffer.clear();
            }
            Hash::Thread(thread) => {
                let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE));
                thread.update_shared(full.freeze());
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(Digest, u64), Error> {
        self.hand_over()?;
        let hasher = match self.hash {
            Hash::Here(hasher) => *hasher,
            Hash::Thread(thread) => thread.finish(),
        };
        Ok((hasher.finish(), self.size))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_changes_between_the_walk_and_the_reading_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let read = |change: &dyn Fn()| {
            fs::write(&path, "four").expect("written");
            let records = [PathRecord { path: path.display().to_string(), options: None }];
            let tree = Tree::new(&records).expect("a tree");
            change();
            let hash = Hash::Here(Box::new(Hasher::new(Algorithm::Sha256)));
            let mut writer = Writer { hash, file: None, buffer: BytesMut::new(), size: 0 };
            let visited = tree.visit(|entry| writer.entry(entry));
            let _ = fs::remove_file(&path);
            visited
        };
        read(&|| ()).expect("nothing changed");
        let changes: [&dyn Fn(); 5] = [
            // Of the same size.
            &|| {
                fs::write(&path, "ruof").expect("written");
                let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
                let file = File::options().append(true).open(&path).expect("opened");
                file.set_modified(later).expect("set");
            },
            &|| fs::write(&path, "longer").expect("written"),
            &|| fs::write(&path, "4").expect("written"),
            &|| {
                fs::remove_file(&path).expect("removed");
                std::os::unix::fs::symlink("/etc/passwd", &path).expect("linked");
            },
            // A pipe would keep a reader waiting.
            &|| {
                fs::remove_file(&path).expect("removed");
                rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR).expect("a pipe");
            },
        ];
        for change in changes {
            assert!(matches!(read(change), Err(Error::Changed { .. })));
        }
        let gone = read(&|| fs::remove_file(&path).expect("removed"));
        assert!(matches!(gone, Err(Error::Read { .. })));
    }

    #[test]
    fn a_thread_makes_no_difference() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, size) in [("empty", 0), ("small", 100), ("large", 3 * PIECE + 1)] {
            fs::write(directory.path().join(name), vec![7; size]).expect("written");
        }
        let records = [PathRecord { path: directory.path().display().to_string(), options: None }];
        let mut file = tempfile::tempfile().expect("a file");
        let written = archive(&records, Some(&mut file), true).expect("an archive");
        let hashed = archive(&records, None, false).expect("an archive");
        assert_eq!((&written.digest, written.size), (&hashed.digest, hashed.size));
        assert_eq!(file.metadata().expect("metadata").len(), written.size);
    }
}
