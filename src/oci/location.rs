//! Locations of images: the IMAGE argument of every command.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::oci::digest::Digest;
use crate::oci::reference::{Error, Reason, Reference};

/// Transports that are not accepted here: those that skopeo reads and n2c doesn't, and
/// `lock:`, which is only for `n2c pull`. To docker, they would be names of images on
/// Docker Hub, but no such images exist.
const OTHER_TRANSPORTS: [&str; 7] = [
    "containers-storage:",
    "dir:",
    "docker-archive:",
    "docker-daemon:",
    "lock:",
    "nix:",
    "oci-archive:",
];

/// The location of an image: in a registry, or in an OCI layout on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// A reference, with or without `docker://`.
    Registry(Reference),
    /// `oci:DIR[:TAG][@DIGEST]`.
    OciLayout(LayoutReference),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(transport) = OTHER_TRANSPORTS.iter().find(|name| text.starts_with(**name)) {
            return Err(Error::Transport { text: text.escape_default().to_string(), transport });
        }
        match text.strip_prefix("oci:") {
            // To docker, `oci:3.19` is an image of Docker Hub. Here, as for skopeo, `oci:`
            // is a transport.
            Some(rest) => LayoutReference::parse(text, rest).map(Self::OciLayout),
            None => text.parse().map(Self::Registry),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => {
                let text = reference.to_string();
                let is_transport = |name: &&str| text.starts_with(*name);
                // A registry with a port may be called as a transport is.
                if OTHER_TRANSPORTS.iter().chain(&["oci:"]).any(is_transport) {
                    formatter.write_str("docker://")?;
                }
                formatter.write_str(&text)
            }
            Self::OciLayout(layout) => layout.fmt(formatter),
        }
    }
}

impl Location {
    /// The same location, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.pinned(digest)),
            Self::OciLayout(layout) => {
                Self::OciLayout(LayoutReference { digest: Some(digest), ..layout.clone() })
            }
        }
    }

    /// The same location without its digest: the image that is there now.
    #[must_use]
    pub fn unpinned(&self) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.unpinned()),
            Self::OciLayout(layout) => {
                Self::OciLayout(LayoutReference { digest: None, ..layout.clone() })
            }
        }
    }

    /// Whether another image may be there later. False only for a reference that has a
    /// digest and no tag.
    #[must_use]
    pub fn can_move(&self) -> bool {
        match self {
            Self::Registry(reference) => reference.tag().is_some(),
            Self::OciLayout(_) => true,
        }
    }

    /// The digest that the location is pinned to.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Registry(reference) => reference.digest(),
            Self::OciLayout(layout) => layout.digest(),
        }
    }

    /// The reference, for an image in a registry.
    #[must_use]
    pub const fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::OciLayout(_) => None,
        }
    }
}

/// An image in an OCI layout: `oci:DIR[:TAG][@DIGEST]`, as in skopeo. The path ends at
/// the first colon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayoutReference {
    directory: PathBuf,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl LayoutReference {
    fn parse(text: &str, rest: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { text: text.escape_default().to_string(), reason };
        let (rest, digest) =
            match rest.rsplit_once('@').map(|(rest, digest)| (rest, digest.parse())) {
                Some((rest, Ok(digest))) => (rest, Some(digest)),
                _ => (rest, None),
            };
        let (directory, tag) = match rest.split_once(':') {
            Some((directory, tag)) => (directory, Some(tag)),
            None => (rest, None),
        };
        if directory.is_empty() {
            return Err(invalid(Reason::NoDirectory));
        }
        if tag.is_some_and(str::is_empty) {
            return Err(invalid(Reason::EmptyTag));
        }
        Ok(Self { directory: directory.into(), tag: tag.map(str::to_owned), digest })
    }

    /// The layout in `directory`, without a tag. The name may contain any characters.
    #[must_use]
    pub const fn of_directory(directory: PathBuf) -> Self {
        Self { directory, tag: None, digest: None }
    }

    /// The directory that holds `oci-layout` and `index.json`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The value of `org.opencontainers.image.ref.name` to look for.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest to look for.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "oci:{}", self.directory.display())?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn layouts_are_read_as_skopeo_reads_them() {
        for (given, directory, tag) in [
            ("oci:dir", "dir", None),
            ("oci:/a/b:3.19", "/a/b", Some("3.19")),
            ("oci:dir:host.io/name:1", "dir", Some("host.io/name:1")),
        ] {
            let Location::OciLayout(layout) = given.parse().expect(given) else {
                panic!("`{given}` is no layout");
            };
            assert_eq!(layout.directory(), Path::new(directory));
            assert_eq!(layout.tag(), tag);
            assert!("dir:x".parse::<Location>().is_err());
            // Registries whose names look like transports.
            for registry in ["docker://nix:1/a/b:latest", "docker://oci:5000/a:1"] {
                let location: Location = registry.parse().expect("a reference");
                assert!(location.reference().is_some());
                assert_eq!(location.to_string(), registry);
            }
            let pinned = Location::OciLayout(layout).pinned(DIGEST.parse().expect("valid"));
            assert_eq!(pinned.to_string(), format!("{given}@{DIGEST}"));
            assert_eq!(pinned.to_string().parse::<Location>().expect("valid"), pinned);
        }
    }
}
