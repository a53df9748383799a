//! What users can do about an error: one sentence each, without a full stop. Hints name
//! options and commands, which the library doesn't know.

mod copying;

use n2c::formats::{blob_map, convert, docker_archive, image_json, layers, lockfile, oci_layout};
use n2c::oci::reference::Reason;
use n2c::oci::{digest, image, manifest, platform, reference};
use n2c::registry::{Denial, MirrorsError, Task, TlsError, credentials};
use n2c::stream::sink;
use n2c::upkeep::{update, verify};
use n2c::{build, fs, registry, resolve, store};

/// An error that may know what the user can do about it.
pub(crate) trait Hint {
    /// Returns what the user can do about it.
    fn hint(&self) -> Option<String> {
        None
    }
}

const PROXY_HINT: &str =
    "the proxy requires a user and a password: set them in `https_proxy` or `http_proxy`";

impl Hint for digest::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { .. } => {
                Some("a digest is `sha256:` followed by 64 lower-case hex digits".to_owned())
            }
            Self::Mismatch { .. } | Self::Size { .. } => Some(
                "the registry, a mirror or a proxy served other content; nothing was kept"
                    .to_owned(),
            ),
        }
    }
}

impl Hint for reference::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { text, reason: Reason::UpperCase } => {
                // Only the name: the tag may have capital letters.
                let slash = text.rfind('/').map_or(0, |index| index + 1);
                let end = text[slash..].find([':', '@']).map_or(text.len(), |index| slash + index);
                Some(format!("try `{}{}`", text[..end].to_lowercase(), &text[end..]))
            }
            Self::Invalid { reason: Reason::User, .. } => {
                Some("log in with `docker login`, or pass a file with `--authfile`".to_owned())
            }
            Self::Invalid { text, reason: Reason::Scheme } => {
                let bare = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
                Some(format!("try `{bare}`"))
            }
            Self::Invalid { .. } => {
                Some("a reference looks like `alpine:3.19` or `ghcr.io/owner/image:tag`".to_owned())
            }
            Self::Transport { transport: "lock:", .. } => {
                Some("only `n2c copy` and `n2c pull` read lockfiles, as `lock:FILE`".to_owned())
            }
            Self::Transport { .. } => {
                Some("n2c reads images from registries, and from `oci:DIR[:TAG]`".to_owned())
            }
            Self::Digest { source, .. } => source.hint(),
            Self::NotARepository { repository, .. } => Some(format!("try `{repository}`")),
        }
    }
}

impl Hint for platform::Error {
    fn hint(&self) -> Option<String> {
        Some(
            "a platform is `os/arch[/variant]`, such as `linux/arm64`, or a Nix system, such as \
             `aarch64-linux`"
                .to_owned(),
        )
    }
}

impl Hint for manifest::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotJson { .. } => {
                Some("is this the registry, or a login page or proxy in front of it?".to_owned())
            }
            Self::Schema1 { .. } => {
                Some("pull it and push it again with a current docker or skopeo".to_owned())
            }
            _ => None,
        }
    }
}

impl Hint for image::Error {}

impl Hint for fs::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Temporary { .. } => {
                Some("set `TMPDIR` to a directory with enough room".to_owned())
            }
            Self::Exists { .. } => Some("choose another file name, or remove this file".to_owned()),
            _ => None,
        }
    }
}

impl Hint for sink::CopyError {}

impl Hint for docker_archive::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Algorithm { .. } => Some("pull to `oci-archive:` instead".to_owned()),
            Self::Pinned { .. } => Some("give the image a name and a tag".to_owned()),
            _ => None,
        }
    }
}

impl Hint for lockfile::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("upgrade n2c".to_owned()),
            Self::Index { .. } => Some("create a lockfile from it with `n2c lock`".to_owned()),
            Self::Shape { .. } | Self::Inconsistent { .. } => {
                Some("recreate it with `n2c lock`".to_owned())
            }
            Self::Manifest { source, .. } => source.hint(),
            Self::Reference { source, .. } => source.hint(),
            Self::NoPlatform { wanted, available, .. } => {
                wanted.nearest(available).map(|nearest| format!("pass `--platform {nearest}`"))
            }
        }
    }
}

impl Hint for image_json::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::BlobMap(error) => error.hint(),
            Self::Fs(_) => Some(
                "fetch the image's config first, with `n2c blob` or by building its derivation"
                    .to_owned(),
            ),
            Self::Digest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Edited { .. } => {
                Some("restore what its `ref` pins with `n2c refresh`".to_owned())
            }
        }
    }
}

impl Hint for layers::Error {
    fn hint(&self) -> Option<String> {
        Some("make it with `n2c layers-from-reproducible-storepaths`".to_owned())
    }
}

impl Hint for image_json::ParseError {
    fn hint(&self) -> Option<String> {
        Some(
            "make it with `n2c image` or `n2c image-from-manifest`; in Nix, `fromLock` makes one of a \
             lockfile, and `fromDockerArchive` of an archive"
                .to_owned(),
        )
    }
}

impl Hint for build::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Fs(error) => error.hint(),
            Self::Layers(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Mode { .. } => Some("write it like `0755`".to_owned()),
            Self::NotARoot { .. } => {
                Some("copy a directory that has it, such as one of `buildEnv`".to_owned())
            }
            Self::Special { .. } => Some("leave out its store path with `--ignore`".to_owned()),
            Self::Changed { .. } => Some("run the same command again".to_owned()),
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "build the image on this machine, or bring its paths with `nix copy`".to_owned(),
            ),
            Self::EmptyClosure => Some(
                "there must be layers of store paths, such as of those in the config".to_owned(),
            ),
            Self::NotInClosure { .. } => {
                Some("make the closure-info from the store paths of all layers".to_owned())
            }
            Self::TooManyPaths { .. } | Self::TooManyAnnotations { .. } => Some(
                "use `--snapshotter closure` with `--closure-info`, which takes one annotation"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl Hint for blob_map::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("make the blob map with `n2c blobs` from the same lockfile".to_owned())
            }
            Self::Shape { .. } => None,
        }
    }
}

impl Hint for oci_layout::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Several { directory, .. } => {
                Some(format!("choose one with `oci:{}:TAG`", directory.display()))
            }
            Self::NoSuchImage { .. } => Some("the tag is the part after `oci:DIR:`".to_owned()),
            _ => None,
        }
    }
}

impl Hint for convert::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Nested => Some("name one `--platform`".to_owned()),
            Self::NoSnapshotter { .. } => Some("leave out `--format v2s2`".to_owned()),
            _ => None,
        }
    }
}

impl Hint for credentials::Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::HelperStart { .. } | Self::Helper { .. } => {
                "log in again, or pass another file with `--authfile`".to_owned()
            }
            _ => "create it with `docker login`, or pass another file with `--authfile`".to_owned(),
        })
    }
}

impl Hint for MirrorsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { .. } => {
                Some("a mirror looks like `docker.io=https://mirror.example/dockerhub`".to_owned())
            }
            _ => None,
        }
    }
}

impl Hint for TlsError {}

impl Hint for registry::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if source.is_certificate() => Some(
                "pass its authority's certificate with `--cacert`, or pass `--tls-verify=false`"
                    .to_owned(),
            ),
            Self::Unreachable { source, .. } if source.is_proxy_denial() => {
                Some(PROXY_HINT.to_owned())
            }
            Self::Unreachable { proxy: Some(_), .. } => Some(
                "check that `http_proxy`, `https_proxy` or `all_proxy` names the right proxy; \
                 hosts in `no_proxy` are contacted without it"
                    .to_owned(),
            ),
            Self::Proxy { .. } => Some(
                "write `http://HOST:PORT`, `https://HOST:PORT` or `socks5://HOST:PORT`".to_owned(),
            ),
            Self::Denied(denial) => Some(denied(denial)),
            Self::Tls(error) => error.hint(),
            Self::Credentials(error) => error.hint(),
            Self::Mirrors(error) => error.hint(),
            Self::Everywhere { failures, .. } => {
                failures.last().and_then(|(_, error)| error.hint())
            }
            Self::Status { task: Task::Push, status, retry_after: None, .. }
                if status.as_u16() == 429 =>
            {
                Some("wait, and try again".to_owned())
            }
            Self::Status { limit_reached: true, host, .. } => Some(format!(
                "no pulls left on `{host}`: log in, wait, or pull from a mirror with `--mirror`"
            )),
            Self::Status { status, host, retry_after, .. } => match status.as_u16() {
                407 => Some(PROXY_HINT.to_owned()),
                404 => Some("check the name, the tag and the registry".to_owned()),
                429 => Some(match retry_after {
                    Some(wait) => format!("`{host}` asks you to wait {} s", wait.as_secs()),
                    None => "wait, or pull from a mirror with `--mirror`".to_owned(),
                }),
                _ => None,
            },
            Self::Digest(error) => error.hint(),
            Self::Foreign { .. } => {
                Some("omit `--no-foreign` to fetch it from that URL".to_owned())
            }
            _ => None,
        }
    }
}

impl Hint for store::Error {
    fn hint(&self) -> Option<String> {
        Some("set `NIX_STORE_DIR` to an absolute path, or unset it".to_owned())
    }
}

impl Hint for store::AddError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Daemon { source, .. } if store::is_hang_up(source) => Some(
                "the daemon closed the connection without a message: check that `allowed-users` \
                 in its nix.conf includes you"
                    .to_owned(),
            ),
            Self::Start(_) => Some("install Nix, or start its daemon".to_owned()),
            Self::Elsewhere { .. } => {
                Some("set `NIX_STORE_DIR` to the directory of the store that Nix uses".to_owned())
            }
            _ => None,
        }
    }
}

impl Hint for resolve::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Unnamed { .. } => Some("name the platform with `--platform`".to_owned()),
            Self::NoPlatform { wanted, available, .. } => {
                let nearest = wanted.nearest(available)?;
                Some(format!("pass `--platform {nearest}`"))
            }
            _ => None,
        }
    }
}

impl Hint for verify::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Resolve(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Digest(error) => error.hint(),
            Self::Edited { .. } => Some("lock it again with `n2c lock`".to_owned()),
            Self::Layout => None,
            Self::Nameless => Some("recreate it with `n2c lock`".to_owned()),
        }
    }
}

impl Hint for update::Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Resolve(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Shared(error) => error.hint(),
            Self::Lost { .. } => {
                Some("wait until the image is complete, or pass `--platforms-lost=drop`".to_owned())
            }
            Self::Nameless => Some("recreate it with `n2c lock`".to_owned()),
        }
    }
}

/// What to do about a refusal.
fn denied(denial: &Denial) -> String {
    match denial.user {
        Some(_) if denial.task == Task::Push => {
            "check that this user may push to it: a token must allow `pull,push` in that repository"
                .to_owned()
        }
        Some(_) => "check that this user may pull it; with expired credentials, even public \
                        images are denied"
            .to_owned(),
        None => format!(
            "it does not exist, or is private: log in with `docker login {}`, or pass a file with \
                 `--authfile`",
            denial.registry
        ),
    }
}

#[cfg(test)]
mod tests {
    use n2c::oci::reference::{Reference, Repository};

    use super::*;

    #[test]
    fn a_name_that_is_nearly_right_is_corrected() {
        let error = "Alpine:3.20".parse::<Reference>().expect_err("a capital letter");
        assert_eq!(error.hint().as_deref(), Some("try `alpine:3.20`"));
        let error = "https://ghcr.io/a/b".parse::<Reference>().expect_err("a scheme");
        assert_eq!(error.hint().as_deref(), Some("try `ghcr.io/a/b`"));
        let error = "alpine:3.19".parse::<Repository>().expect_err("a tag");
        assert_eq!(error.hint().as_deref(), Some("try `docker.io/library/alpine`"));
    }
}
