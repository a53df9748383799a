//! Image references: parsing what a user types, and filling in the defaults.
//!
//! The grammar and the normalisation are those of distribution/reference
//! (`normalize.go`, `regexp.go`), which docker and skopeo share. `oci-spec`'s type is not
//! used, because it reads `Host/image` as an image of Docker Hub.

use std::fmt;
use std::str::FromStr;

use crate::error::{Diagnose, Kind};
use crate::oci::digest::{self, Digest};

const DOCKER_HUB: &str = "docker.io";

/// Why a reference was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not an image reference.
    #[error("invalid image reference `{text}`: {reason}")]
    Invalid {
        /// The text, with control characters escaped.
        text: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// The part after `@` is not a digest.
    #[error("invalid image reference `{text}`")]
    Digest {
        /// The text, with control characters escaped.
        text: String,
        /// What is wrong with the digest.
        #[source]
        source: digest::Error,
    },
    /// The image is in a place that n2c can't read from.
    #[error("can't read `{text}`: n2c doesn't read images from `{transport}`")]
    Transport {
        /// The text, with control characters escaped.
        text: String,
        /// The prefix that names the transport, such as `oci-archive:`.
        transport: &'static str,
    },
    /// The text should be a repository, but it has a tag or a digest.
    #[error("invalid repository `{text}`: it has a tag or a digest")]
    NotARepository {
        /// The text, with control characters escaped.
        text: String,
        /// The repository without the tag and digest.
        repository: Repository,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// What is wrong with a reference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It is a URL.
    Scheme,
    /// It has a user, and perhaps a password.
    User,
    /// It is the ID of a local image.
    ImageId,
    /// The tag is malformed.
    Tag,
    /// The registry's name is malformed.
    Host,
    /// The repository has upper-case letters.
    UpperCase,
    /// The repository's path is too long.
    LongPath,
    /// The repository's path is malformed.
    Path,
    /// The directory of an OCI layout is missing.
    NoDirectory,
    /// The tag in an OCI layout is empty.
    EmptyTag,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Scheme => "it must not have a scheme",
            Self::User => "it must not have a user or a password",
            Self::ImageId => "64 hex digits are an image ID, not a name",
            Self::Tag => {
                "the tag must be 1 to 128 letters, digits, `_`, `.` or `-`, and start with none of `.-`"
            }
            Self::Host => "the registry's name is not valid",
            Self::UpperCase => "repository must be lower-case",
            Self::LongPath => "the repository's path is longer than 255 characters",
            Self::Path => {
                "each part of the repository's path must be lower-case letters and digits with single separators"
            }
            Self::NoDirectory => "the directory after `oci:` is missing",
            Self::EmptyTag => "the tag is empty",
        })
    }
}

/// A registry and the path of a repository on it, such as `docker.io/library/alpine`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// The repository `path` on `host`. Unlike in parsing what a user types, no defaults are
    /// filled in.
    pub fn new(host: &str, path: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid {
            text: format!("{host}/{path}").escape_default().to_string(),
            reason,
        };
        if !is_host(host) {
            return Err(invalid(Reason::Host));
        }
        if path.len() > 255 || !path.split('/').all(is_path_component) {
            return Err(invalid(Reason::Path));
        }
        Ok(Self { host: host.to_owned(), path: path.to_owned() })
    }

    /// The registry's name as written, including a port: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path on the registry, such as `library/alpine`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.path)
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let reference = Reference::parse(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            Ok(reference.repository)
        } else {
            Err(Error::NotARepository {
                text: text.escape_default().to_string(),
                repository: reference.repository,
            })
        }
    }
}

/// An image in a registry: a repository, a tag and a digest.
///
/// A reference without tag and digest gets the tag `latest`. One with both is fetched by
/// its digest; the tag says which image that was meant to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The repository.
    #[must_use]
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same reference, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same reference without its digest, so that the tag determines the image.
    #[must_use]
    pub fn unpinned(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// Another tag of the same repository, or `None` if `tag` is not a valid tag.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> Option<Self> {
        is_tag(tag).then(|| Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Parses a reference without adding a default tag.
    fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { text: without_user(text), reason };
        let text_without_transport = text.strip_prefix("docker://").unwrap_or(text);
        if text_without_transport.contains("://") {
            return Err(invalid(Reason::Scheme));
        }
        if is_image_id(text_without_transport) {
            return Err(invalid(Reason::ImageId));
        }
        let (name_and_tag, digest) = match text_without_transport.split_once('@') {
            Some((_, rest)) if is_below_host(rest) => return Err(invalid(Reason::User)),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| Error::Digest {
                    text: text.escape_default().to_string(),
                    source,
                })?;
                (rest, Some(digest))
            }
            None => (text_without_transport, None),
        };
        // A colon after the last slash starts a tag; one before it starts a port.
        let last_slash = name_and_tag.rfind('/').map_or(0, |index| index + 1);
        let (name, tag) = match name_and_tag[last_slash..].find(':') {
            Some(index) => {
                let colon = last_slash + index;
                (&name_and_tag[..colon], Some(&name_and_tag[colon + 1..]))
            }
            None => (name_and_tag, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(invalid(Reason::Tag));
        }
        let (host, path) = split_host(name);
        if !is_host(&host) {
            return Err(invalid(Reason::Host));
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid(Reason::UpperCase));
        }
        if path.len() > 255 {
            return Err(invalid(Reason::LongPath));
        }
        if !path.split('/').all(is_path_component) {
            return Err(invalid(Reason::Path));
        }
        Ok(Self { repository: Repository { host, path }, tag: tag.map(str::to_owned), digest })
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut reference = Self::parse(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some("latest".to_owned());
        }
        Ok(reference)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(formatter)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// Splits a name into host and path, and fills in Docker Hub's defaults
/// (distribution/reference `splitDockerDomain`).
fn split_host(name: &str) -> (String, String) {
    let named = name.split_once('/').filter(|(host, _)| {
        host.contains(['.', ':'])
            || *host == "localhost"
            || host.bytes().any(|byte| byte.is_ascii_uppercase())
    });
    let (host, path) = named.unwrap_or((DOCKER_HUB, name));
    let host = if host == "index.docker.io" { DOCKER_HUB } else { host };
    if host == DOCKER_HUB && !path.contains('/') {
        (host.to_owned(), format!("library/{path}"))
    } else {
        (host.to_owned(), path.to_owned())
    }
}

fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is a valid tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Whether this matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let ends_well = [component.bytes().next(), component.bytes().next_back()]
        .into_iter()
        .all(|byte| byte.is_some_and(is_alphanumeric));
    ends_well
        && component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(
            |separator| {
                matches!(separator, "" | "." | "_" | "__")
                    || separator.bytes().all(|byte| byte == b'-')
            },
        )
}

/// Whether this is a domain name, an IPv4 address or `[IPv6]`, with or without a port.
fn is_host(host: &str) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        let Some(port) = port.strip_prefix(':') else {
            return port.is_empty();
        };
        ("ip", Some(port))
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(is_label)
        && port
            .is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a text behind an `@` is a repository, rather than a digest.
fn is_below_host(text: &str) -> bool {
    let is_digest = ["sha256:", "sha512:"].iter().any(|algorithm| text.starts_with(algorithm));
    text.contains('/') && !is_digest
}

/// What is shown of a text that is no reference: without what may be a password, and with control
/// characters escaped.
fn without_user(text: &str) -> String {
    let start = text.find("://").map_or(0, |index| index + "://".len());
    let host = text[start..].rfind('/').and_then(|slash| text[start..start + slash].rfind('@'));
    match host.filter(|at| is_below_host(&text[start + at + 1..])) {
        Some(at) => {
            let (scheme, rest) = (&text[..start], &text[start + at..]);
            format!("{}…{}", scheme.escape_default(), rest.escape_default())
        }
        None => text.escape_default().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for text in [
            "me:s3cret@x.example/y",
            "docker://me:s3cret@x.example/y:1",
            "https://me:s3cret@x.example/y",
            "me:s3c@ret@x.example/y",
            "me:s3cret@x.example:5000/y@sha256:1",
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            let shown = crate::error_chain(&error);
            assert!(!shown.contains("s3c") && !shown.contains("ret@"), "{shown}");
        }
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    // Protocol rules 1 to 7; the test vectors come from distribution/reference.
    #[test]
    fn rule_1_references_are_normalised_as_docker_does() {
        for (given, expected) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.19", "docker.io/library/alpine:3.19"),
            ("docker://alpine:3.19", "docker.io/library/alpine:3.19"),
            ("localhost", "docker.io/library/localhost:latest"),
            ("foo:5000", "docker.io/library/foo:5000"),
            ("foo/bar", "docker.io/foo/bar:latest"),
            ("localhost/bar", "localhost/bar:latest"),
            ("localhost:5000/bar:1", "localhost:5000/bar:1"),
            ("foo.com/bar", "foo.com/bar:latest"),
            ("foo:80/bar", "foo:80/bar:latest"),
            ("Foo/bar", "Foo/bar:latest"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("registry-1.docker.io/ubuntu", "registry-1.docker.io/ubuntu:latest"),
            ("docker.io:443/ubuntu", "docker.io:443/ubuntu:latest"),
            ("[::1]:5000/bar", "[::1]:5000/bar:latest"),
            ("[2001:db8::1]/bar", "[2001:db8::1]/bar:latest"),
            ("127.0.0.1:5000/a/b/c__d-e---f.g_h:T", "127.0.0.1:5000/a/b/c__d-e---f.g_h:T"),
            ("a_b/c", "docker.io/a_b/c:latest"),
        ] {
            let reference: Reference = given.parse().expect(given);
            assert_eq!(reference.to_string(), expected, "for `{given}`");
            let again: Reference = expected.parse().expect(expected);
            assert_eq!(again, reference, "round trip of `{given}`");
        }
    }

    #[test]
    fn rule_7_tag_and_digest_are_both_kept() {
        let reference: Reference = format!("alpine:3.19@{DIGEST}").parse().expect("valid");
        assert_eq!(reference.to_string(), format!("docker.io/library/alpine:3.19@{DIGEST}"));
        let reference: Reference = format!("alpine@{DIGEST}").parse().expect("valid");
        assert_eq!(reference.tag(), None);
    }

    #[test]
    fn rule_6_what_is_no_reference_is_refused() {
        let id = &DIGEST[7..];
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_path = format!("host.io/{}", "a".repeat(256));
        let no_such_algorithm = "a@md5:d41d8cd98f00b204e9800998ecf8427e";
        let upper_hex = format!("a@sha256:{}", id.to_uppercase());
        for text in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "Alpine",
            "foo/Bar",
            "::1/x",
            "[::1%eth0]/x",
            "[::1/x",
            "[]/x",
            "user@host/x",
            "https://foo.com/x",
            "host:/x",
            "host.com:port/x",
            "-host.com/x",
            "host-.com/x",
            "a..b",
            "a___b",
            ".a",
            "a.",
            "-a",
            "a-",
            "a b",
            "a:",
            "a:.b",
            "a:-b",
            "a:b:c",
            "a@",
            "a@sha256:x",
            "a\u{e9}",
            "foo.com/a\0b",
            "oci:",
            "oci::tag",
            "oci:dir:",
            id,
            &long_tag,
            &long_path,
            no_such_algorithm,
            &upper_hex,
            &format!("@{DIGEST}"),
            "../../etc/passwd",
            "foo.com/../x",
        ] {
            assert!(
                text.parse::<crate::oci::location::Location>().is_err(),
                "`{text}` was accepted"
            );
        }
    }

    #[test]
    fn a_capital_letter_is_named() {
        let error = "Alpine:3.20".parse::<Reference>().expect_err("a capital letter");
        assert_eq!(
            error.to_string(),
            "invalid image reference `Alpine:3.20`: repository must be lower-case"
        );
    }

    #[test]
    fn a_repository_has_no_tag() {
        let repository: Repository = "docker://alpine".parse().expect("valid");
        assert_eq!(repository.to_string(), "docker.io/library/alpine");
        assert!("alpine:3.19".parse::<Repository>().is_err());
    }
}
