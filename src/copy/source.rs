//! Where an image to copy comes from, in skopeo's syntax.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Error;
use crate::formats::docker_archive::Name;
use crate::oci::location::{LayoutReference, Location};
use crate::oci::reference::Reference;

/// Where an image to copy comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A reference, with or without `docker://`, or `oci:PATH[:TAG]`.
    Location(Location),
    /// `lock:FILE`: what a lockfile pins.
    Lockfile(PathBuf),
    /// `nix:FILE`, or a file's name that ends in `.json`: an image.json.
    ImageJson(PathBuf),
    /// `dir:PATH`: a directory in skopeo's layout.
    Directory(PathBuf),
    /// `oci-archive:PATH[:TAG]`: an OCI layout in a tar archive.
    OciArchive(LayoutReference),
    /// `docker-archive:PATH[:NAME[:TAG]]`: what `docker save` writes.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// The name of the image in it.
        name: Option<Name>,
    },
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::NotASource { text: text.escape_default().to_string() };
        let path = |rest: &str| match rest {
            "" => Err(invalid()),
            rest => Ok(PathBuf::from(rest)),
        };
        let Some((transport, rest)) = text.split_once(':') else {
            return if is_image_json(text) {
                Ok(Self::ImageJson(text.into()))
            } else {
                Ok(Self::Location(text.parse()?))
            };
        };
        Ok(match transport {
            "nix" => Self::ImageJson(path(rest)?),
            "lock" => Self::Lockfile(path(rest)?),
            "dir" => Self::Directory(path(rest)?),
            "oci-archive" => match format!("oci:{rest}").parse()? {
                Location::OciLayout(layout) => Self::OciArchive(layout),
                Location::Registry(_) => return Err(invalid()),
            },
            "docker-archive" => {
                let (file, name) = match rest.split_once(':') {
                    Some((file, name)) => (file, Some(name)),
                    None => (rest, None),
                };
                let name = name.map(|name| Ok::<_, Error>(name.parse::<Reference>()?.try_into()?));
                Self::DockerArchive { file: path(file)?, name: name.transpose()? }
            }
            "docker" | "oci" => Self::Location(text.parse()?),
            _ if is_image_json(text) => Self::ImageJson(text.into()),
            _ => Self::Location(text.parse()?),
        })
    }
}

/// Whether a name without a transport is that of an image.json: by its end, or because it is
/// in the Nix store, where images that were built are.
fn is_image_json(text: &str) -> bool {
    let path = Path::new(text);
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    is_json && !text.contains("://") || path.starts_with("/nix/store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_skopeo_reads_them() {
        let parse = |text: &str| text.parse::<Source>();
        let location = |text: &str| Source::Location(text.parse().expect("a location"));
        for (text, expected) in [
            ("alpine:3.19", location("alpine:3.19")),
            ("docker://alpine", location("alpine")),
            ("localhost:5000/x:1", location("localhost:5000/x:1")),
            ("oci:a:1", location("oci:a:1")),
            ("nix:a", Source::ImageJson("a".into())),
            ("./a.json", Source::ImageJson("./a.json".into())),
            ("C:/a.json", Source::ImageJson("C:/a.json".into())),
            ("/nix/store/x-image", Source::ImageJson("/nix/store/x-image".into())),
            ("lock:a.json", Source::Lockfile("a.json".into())),
            ("dir:a:b", Source::Directory("a:b".into())),
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
        let Ok(Source::OciArchive(archive)) = parse("oci-archive:a.tar:x") else { panic!() };
        assert_eq!((archive.directory(), archive.tag()), (Path::new("a.tar"), Some("x")));
        let archive = parse("docker-archive:a.tar:alpine:3").expect("an archive");
        let name: Reference = "alpine:3".parse().expect("a reference");
        let name = Some(Name::try_from(name).expect("a name"));
        assert_eq!(archive, Source::DockerArchive { file: "a.tar".into(), name });
        for text in ["", "nix:", "dir:", "docker-archive:", "oci-archive:", "docker://", "A"] {
            assert!(parse(text).is_err(), "`{text}` is taken");
        }
    }
}
