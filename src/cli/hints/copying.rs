//! Hints for errors of sources and destinations.

use n2c::copy::engines;
use n2c::{copy, serve, source};

use super::Hint;

impl Hint for serve::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            _ => None,
        }
    }
}

impl Hint for source::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::OciLayout(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Fs(error) => error.hint(),
            Self::Digest(error) => error.hint(),
            Self::Convert(error) => error.hint(),
            Self::Build(error) => error.hint(),
            Self::Write { .. } | Self::Read { .. } => None,
            Self::Changed { .. } => {
                Some("build the image again; if that doesn't help, its paths are not reproducible: build their layer with `reproducible = false`".to_owned())
            }
            Self::DockerArchive { .. } => {
                Some("name an image in it as `docker-archive:FILE:NAME:TAG`".to_owned())
            }
            Self::NotInFiles { .. } | Self::NotInArchive { .. } | Self::DockerManifest { .. } => {
                Some("it is incomplete: make it again".to_owned())
            }
            Self::NotAsRecorded { .. } | Self::NoContent { .. } => Some("build the image again".to_owned()),
            Self::NoDigest { .. } | Self::Nowhere { .. } | Self::Edited { .. } => {
                Some("make a lockfile with `n2c lock`".to_owned())
            }
        }
    }
}

impl Hint for copy::Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Destination { .. } => {
                "write `docker://REFERENCE`, `dir:PATH`, `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]` \
                                         or `docker-archive:PATH[:NAME[:TAG]]`"
                    .to_owned()
            }
            Self::NotASource { .. } => "write a reference such as `docker://alpine:3.19`, or \
                                        `nix:FILE`, `lock:FILE`, `oci:DIR[:TAG]`, `dir:DIR`, \
                                        `oci-archive:FILE[:TAG]` or \
                                        `docker-archive:FILE[:NAME[:TAG]]`"
                .to_owned(),
            Self::Incomplete { .. } => "copy all of it with `--all`, or one `--platform`".to_owned(),
            Self::OtherDigest { .. } => "name a tag, or leave out the digest".to_owned(),
            Self::Registry(error) => return error.hint(),
            Self::Engine(error) => return error.hint(),
            Self::Serve(error) => return error.hint(),
            Self::Convert(error) => return error.hint(),
            Self::NotOurs { .. } => "use a new directory, or empty this one".to_owned(),
            Self::Exists { .. } => "choose another file name, or remove this file".to_owned(),
            Self::Several { .. } => "name one `--platform`, or pull to `oci:`".to_owned(),
            Self::Decompress { .. } | Self::DiffId { .. } => {
                "the image was pushed like this; whoever published it has to fix it".to_owned()
            }
            Self::Index { .. } => "use a new directory".to_owned(),
            Self::Reference(error) => return error.hint(),
            Self::Resolve(error) => return error.hint(),
            Self::Source(error) => return error.hint(),
            Self::DockerArchive(error) => return error.hint(),
            Self::Fs(error) => return error.hint(),
            Self::Prepare { .. } | Self::Write { .. } | Self::Hash(_) => return None,
        })
    }
}

impl Hint for engines::Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Start { program, .. } => format!("install `{program}`, or add it to `PATH`"),
            Self::Unreachable { .. } => {
                "start docker, or say where it is with `DOCKER_HOST`".to_owned()
            }
            Self::Host { .. } => {
                "write `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`".to_owned()
            }
            Self::Context { .. } => "choose another one with `docker context use`".to_owned(),
            Self::Refused { .. } | Self::Failed { .. } | Self::Tls(_) => return None,
        })
    }
}
