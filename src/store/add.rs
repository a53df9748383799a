//! Adds files to a Nix store, at the paths of their fixed-output derivations. Any user
//! may do this.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::command;
use super::daemon::Daemon;
use super::error::AddError;
use super::incoming::IncomingBlob;
use super::nar;
use super::path::StorePath;
use crate::environment::Environment;
use crate::oci::digest::Digest;

/// What Nix hashes of something that is added to a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ingestion {
    /// The content of a file.
    Flat,
    /// The Nix archive of a file or directory.
    Recursive,
}

/// A Nix store that can be written to.
#[derive(Clone, Debug)]
pub enum Store {
    /// Through its daemon, which listens on this socket.
    Daemon(PathBuf),
    /// Through the program `nix-store`.
    Command,
}

impl Store {
    /// Returns the store that Nix would use here: the daemon if its socket exists,
    /// unless `NIX_REMOTE` says otherwise.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        if environment.get("NIX_REMOTE").is_some_and(|remote| remote != "daemon") {
            return Self::Command;
        }
        let socket = environment.path("NIX_DAEMON_SOCKET_PATH").unwrap_or_else(|| {
            let state = environment.path("NIX_STATE_DIR");
            state.unwrap_or_else(|| "/nix/var/nix".into()).join("daemon-socket/socket")
        });
        let is_socket =
            fs::metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket());
        if is_socket { Self::Daemon(socket) } else { Self::Command }
    }

    /// Returns those of `paths` that are not valid yet.
    pub fn missing(&self, paths: &[StorePath]) -> Result<BTreeSet<StorePath>, AddError> {
        let all: Vec<String> = paths.iter().map(ToString::to_string).collect();
        if all.is_empty() {
            return Ok(BTreeSet::new());
        }
        let missing: BTreeSet<String> = match self {
            Self::Daemon(socket) => {
                let valid = Daemon::connect(socket)
                    .and_then(|mut daemon| daemon.valid_paths(&all))
                    .map_err(|source| AddError::Daemon { socket: socket.clone(), source })?;
                let valid: BTreeSet<String> = valid.into_iter().collect();
                all.into_iter().filter(|path| !valid.contains(path)).collect()
            }
            Self::Command => command::invalid(&all)?.into_iter().collect(),
        };
        Ok(paths.iter().filter(|path| missing.contains(&path.to_string())).cloned().collect())
    }

    /// Prepares to add the blob `digest`. Write its content to the returned [`IncomingBlob`].
    pub fn receive(&self, digest: &Digest) -> Result<IncomingBlob, AddError> {
        let incoming = match self {
            Self::Daemon(socket) => Ok(IncomingBlob::daemon(socket, digest)),
            Self::Command => IncomingBlob::file(digest),
        };
        let name = digest.hex().to_owned();
        incoming.map_err(|source| AddError::HandOver { name, source })
    }

    /// Adds the file or directory at `source` under its own name, by its SHA-256 hash.
    /// Fails if the store does not put it at `path`.
    pub fn add_path(
        &self,
        source: &Path,
        ingestion: Ingestion,
        path: &StorePath,
    ) -> Result<(), AddError> {
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let actual = match (self, ingestion) {
            (Self::Daemon(socket), Ingestion::Flat) => {
                daemon_add(socket, &name, "fixed:sha256", |to| {
                    io::copy(&mut File::open(source)?, to).map(drop)
                })?
            }
            (Self::Daemon(socket), Ingestion::Recursive) => {
                daemon_add(socket, &name, "fixed:r:sha256", |to| nar::dump(source, to))?
            }
            (Self::Command, Ingestion::Flat) => command::add(&["--add-fixed", "sha256"], source)?,
            (Self::Command, Ingestion::Recursive) => {
                command::add(&["--add-fixed", "--recursive", "sha256"], source)?
            }
        };
        AddError::unless_at(path, actual)
    }
}

fn daemon_add(
    socket: &Path,
    name: &str,
    method: &str,
    content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<String, AddError> {
    Daemon::connect(socket)
        .and_then(|mut daemon| daemon.add(name, method, content))
        .map_err(|source| AddError::Daemon { socket: socket.to_owned(), source })
}
