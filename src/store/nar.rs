//! Nix archives: what Nix hashes of a file or directory (Nix
//! `src/libutil/archive.cc`). Names, contents, links and the executable bit count;
//! owners and times do not.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::wire::{padding, write_bytes};
use crate::oci::digest::{Algorithm, Digest, Hasher};

/// Writes the parts of an archive, in the order of the calls.
#[derive(Debug)]
pub struct NarWriter<W: Write>(W);

impl<W: Write> NarWriter<W> {
    /// Begins an archive.
    pub fn new(writer: W) -> io::Result<Self> {
        let mut nar = Self(writer);
        nar.strings(&["nix-archive-1"])?;
        Ok(nar)
    }

    /// Returns the writer of the archive, to write the content of a file to it.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.0
    }

    /// Returns the writer of the archive.
    pub fn into_inner(self) -> W {
        self.0
    }

    /// Begins a directory. Its entries follow, sorted by the bytes of their names.
    pub fn directory(&mut self) -> io::Result<()> {
        self.strings(&["(", "type", "directory"])
    }

    /// Begins an entry of a directory. A file, directory or link follows.
    pub fn entry(&mut self, name: &[u8]) -> io::Result<()> {
        self.strings(&["entry", "(", "name"])?;
        self.string(name)?;
        self.strings(&["node"])
    }

    /// Ends an entry, a directory or a link.
    pub fn end(&mut self) -> io::Result<()> {
        self.strings(&[")"])
    }

    /// Begins a file. `size` bytes follow, written to [`NarWriter::get_mut`].
    pub fn file(&mut self, size: u64, is_executable: bool) -> io::Result<()> {
        self.strings(&["(", "type", "regular"])?;
        if is_executable {
            self.strings(&["executable", ""])?;
        }
        self.strings(&["contents"])?;
        self.0.write_all(&size.to_le_bytes())
    }

    /// Ends a file of `size` bytes.
    pub fn file_end(&mut self, size: u64) -> io::Result<()> {
        // The remainder is less than eight.
        let padding = usize::try_from(size % 8).map_or(0, padding);
        self.0.write_all(&[0; 8][..padding])?;
        self.end()
    }

    /// Writes a symbolic link.
    pub fn link(&mut self, target: &[u8]) -> io::Result<()> {
        self.strings(&["(", "type", "symlink", "target"])?;
        self.string(target)?;
        self.end()
    }

    fn strings(&mut self, texts: &[&str]) -> io::Result<()> {
        texts.iter().try_for_each(|text| self.string(text.as_bytes()))
    }

    fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_bytes(&mut self.0, bytes)
    }
}

/// Writes the file or directory at `path` as an archive.
pub fn dump(path: &Path, writer: impl Write) -> io::Result<()> {
    node(path, &mut NarWriter::new(writer)?)
}

/// Returns the SHA-256 hash of the archive of the file or directory at `path`, as
/// `nix-hash --type sha256` prints it.
pub fn hash(path: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    dump(path, &mut hasher)?;
    Ok(hasher.finish())
}

fn node<W: Write>(path: &Path, nar: &mut NarWriter<W>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return nar.link(fs::read_link(path)?.as_os_str().as_bytes());
    }
    if metadata.is_dir() {
        let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        nar.directory()?;
        for name in names {
            nar.entry(name.as_bytes())?;
            node(&path.join(&name), nar)?;
            nar.end()?;
        }
        return nar.end();
    }
    if !metadata.is_file() {
        return Err(io::Error::other(format!(
            "`{}` is not a file, folder or link",
            path.display()
        )));
    }
    let size = metadata.len();
    nar.file(size, metadata.permissions().mode() & 0o100 != 0)?;
    let copied = io::copy(&mut File::open(path)?.take(size), nar.get_mut())?;
    if copied != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    nar.file_end(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    // `nix-hash --type sha256 DIR` of Nix 2.8.
    #[test]
    fn the_hash_is_that_of_nix() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("tree");
        fs::create_dir_all(root.join("empty")).expect("a folder");
        let invalid = OsStr::from_bytes(b"\xff\xfe");
        for (name, content) in [
            (OsStr::new("a"), "a"),
            (OsStr::new("a-b"), "12345678"),
            (OsStr::new("a.b"), ""),
            (OsStr::new("A"), "upper"),
            (OsStr::new("é"), "accent"),
            (OsStr::new("日本"), "script"),
            (invalid, "not UTF-8"),
        ] {
            fs::write(root.join(name), content).expect("written");
        }
        for (name, mode) in [("a", 0o654), ("A", 0o711), ("a-b", 0o611)] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(root.join(name), permissions).expect("a mode");
        }
        symlink("nowhere", root.join("link")).expect("a link");
        let hash = |path: &Path| hash(path).expect("a tree").hex().to_owned();
        assert_eq!(hash(&root), "646df8a538530e0ef3bff4d13e6864f3448b7c105c5f734c4613b8d53d06e4d3");
        assert_eq!(
            hash(&root.join("a-b")),
            "22d63223426447e64aa20d76d506b3e062a2d242bb797536dbf3ee681be3f53c"
        );
        assert_eq!(
            hash(&root.join("link")),
            "7b9f62ebdcec359d917f7c425c687d4b6f451d886b160cb70a2f79adee6aa7db"
        );
    }
}
