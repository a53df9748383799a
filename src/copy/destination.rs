//! The destination of a copy: `TRANSPORT:PATH[:REF]`, in skopeo's syntax.

use std::path::PathBuf;
use std::str::FromStr;

use super::Error;
use super::engines::Engine;
use crate::formats::docker_archive::Name;
use crate::oci::reference::Reference;

/// The place and the format that an image is copied to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// `docker://REFERENCE`: a registry.
    Registry(Reference),
    /// `docker-daemon:NAME[:TAG]`, `containers-storage:NAME[:TAG]` (or `podman:`) and
    /// `containerd:[NAMESPACE/]NAME[:TAG]`: an engine.
    Engine {
        /// The engine.
        engine: Engine,
        /// The image's name in it.
        name: Name,
    },
    /// `dir:PATH`: a directory in skopeo's layout. Everything after the first colon is
    /// the path.
    Directory(PathBuf),
    /// `oci:PATH[:REF]`: an OCI layout, which may contain other images too.
    OciLayout {
        /// The layout's directory.
        directory: PathBuf,
        /// The name of the image in it.
        name: Option<String>,
    },
    /// `oci-archive:PATH[:REF]`: an OCI layout in a tar archive.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// The name of the image in it.
        name: Option<String>,
    },
    /// `docker-archive:PATH[:NAME[:TAG]]`: an archive for `docker load`.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// The image's name.
        name: Option<Name>,
    },
}

impl FromStr for Destination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Destination { text: text.escape_default().to_string() };
        let (transport, rest) = text.split_once(':').ok_or_else(invalid)?;
        // If a name may follow, the path ends at the first colon.
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if transport != "dir" => (path, Some(name)),
            _ => (rest, None),
        };
        if path.is_empty() || name.is_some_and(str::is_empty) {
            return Err(invalid());
        }
        if transport == "docker" && rest.starts_with("//") {
            return Ok(Self::Registry(text.parse()?));
        }
        if let Some((engine, name)) = engine(transport, rest) {
            let name = name.parse::<Reference>()?.try_into()?;
            return Ok(Self::Engine { engine, name });
        }
        let path = PathBuf::from(path);
        Ok(match transport {
            "dir" => Self::Directory(path),
            "oci" => Self::OciLayout { directory: path, name: name.map(str::to_owned) },
            "oci-archive" => Self::OciArchive { file: path, name: name.map(str::to_owned) },
            "docker-archive" => {
                let name = name.map(|name| Ok::<_, Error>(name.parse::<Reference>()?.try_into()?));
                Self::DockerArchive { file: path, name: name.transpose()? }
            }
            _ => return Err(invalid()),
        })
    }
}

/// Returns the engine that a transport means, and the image's name.
fn engine<'a>(transport: &str, rest: &'a str) -> Option<(Engine, &'a str)> {
    match transport {
        "docker-daemon" => Some((Engine::Docker, rest)),
        "containers-storage" | "podman" => Some((Engine::Podman, rest)),
        "containerd" => {
            let (namespace, name) = split_namespace(rest);
            Some((Engine::Containerd { namespace: namespace.map(str::to_owned) }, name))
        }
        _ => None,
    }
}

/// Splits `NAMESPACE/NAME`. Names have slashes too, so the first part is a namespace only if
/// it is one that everybody has, or if a registry follows.
fn split_namespace(text: &str) -> (Option<&str>, &str) {
    let Some((first, name)) = text.split_once('/') else { return (None, text) };
    let is_registry = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let next = name.split_once('/').map(|(next, _)| next);
    let is_usual = matches!(first, "default" | "k8s.io" | "moby");
    let is_namespace = is_usual || !is_registry(first) && next.is_some_and(is_registry);
    if is_namespace { (Some(first), name) } else { (None, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_skopeo_reads_them() {
        let parse = |text: &str| text.parse::<Destination>();
        let name = |text: &str| {
            let reference: Reference = text.parse().expect("a reference");
            Some(Name::try_from(reference).expect("a name"))
        };
        for (text, expected) in [
            ("dir:/a:b", Destination::Directory("/a:b".into())),
            ("docker://a:1", Destination::Registry("a:1".parse().expect("a reference"))),
            (
                "podman:alpine",
                Destination::Engine {
                    engine: Engine::Podman,
                    name: name("alpine:latest").expect("x"),
                },
            ),
            ("oci:a", Destination::OciLayout { directory: "a".into(), name: None }),
            (
                "oci:a:host.io/x:1",
                Destination::OciLayout { directory: "a".into(), name: Some("host.io/x:1".into()) },
            ),
            ("oci-archive:a.tar", Destination::OciArchive { file: "a.tar".into(), name: None }),
            (
                "docker-archive:a.tar:alpine:3.19",
                Destination::DockerArchive {
                    file: "a.tar".into(),
                    name: name("docker.io/library/alpine:3.19"),
                },
            ),
            (
                "docker-archive:a.tar:alpine",
                Destination::DockerArchive { file: "a.tar".into(), name: name("alpine:latest") },
            ),
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
        for (text, namespace, expected) in [
            ("containerd:app:1", None, "docker.io/library/app:1"),
            ("containerd:team/app:1", None, "docker.io/team/app:1"),
            ("containerd:k8s.io/app:1", Some("k8s.io"), "docker.io/library/app:1"),
            ("containerd:mine/ghcr.io/a/b", Some("mine"), "ghcr.io/a/b:latest"),
            ("containerd:ghcr.io/a/b", None, "ghcr.io/a/b:latest"),
            ("containerd:gitlab.io/my.group/b", None, "gitlab.io/my.group/b:latest"),
        ] {
            let engine = Engine::Containerd { namespace: namespace.map(str::to_owned) };
            let name = name(expected).expect("a name");
            assert_eq!(parse(text).expect(text), Destination::Engine { engine, name });
        }
        let digest = format!("docker-archive:a.tar:x@sha256:{}", "0".repeat(64));
        for text in [
            "",
            "a",
            "dir:",
            "oci::x",
            "oci:a:",
            "docker://",
            "docker:a",
            "podman:",
            "docker-daemon:X",
            &digest,
        ] {
            assert!(parse(text).is_err(), "`{text}` is taken");
        }
    }
}
