//! Docker archives: the format of `docker save` and of nixpkgs' dockerTools.
//!
//! The archives are byte for byte those that skopeo writes (containers/image
//! `docker/internal/tarfile/writer.go`, protocol rules 85 to 90), because the hashes for
//! `dockerTools.pullImage` are the hashes of these files. The uncompressed layers come
//! first. Everything after them depends only on the config and the tags.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::value::RawValue;

use super::go_json;
use crate::error::{self, Diagnose};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::image::Image;
use crate::oci::manifest::Descriptor;
use crate::oci::reference::{Reference, Repository};
use crate::stream::tar::{self, Header, Kind, padding};

/// The config's keys that are repeated in the JSON of the last layer.
const LAST_LAYER_KEYS: [&str; 7] =
    ["architecture", "config", "container", "container_config", "created", "docker_version", "os"];

/// Why an image can't be put into a docker archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config's digest or a diff ID is not SHA-256, which is all that docker supports.
    #[error("a docker archive can't hold `{digest}`: docker only supports sha256")]
    Algorithm {
        /// The config's digest, or a diff ID.
        digest: Digest,
    },
    /// A name for the image has a digest.
    #[error("a docker archive can't hold the name `{reference}`: it has a digest")]
    Pinned {
        /// The name.
        reference: Reference,
    },
    /// The config can't be read as a JSON object, or another document can't be written.
    #[error("invalid config")]
    Config(#[source] serde_json::Error),
    /// A tar header can't be created.
    #[error("failed to create a docker archive")]
    Header(#[from] tar::Error),
}

impl Diagnose for Error {
    fn kind(&self) -> error::Kind {
        match self {
            Self::Pinned { .. } => error::Kind::Usage,
            Self::Algorithm { .. } | Self::Config(_) => error::Kind::Verification,
            Self::Header(_) => error::Kind::Other,
        }
    }
}

/// A name of the image in an archive, such as `docker.io/library/alpine:3.19`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    repository: Repository,
    tag: String,
}

impl TryFrom<Reference> for Name {
    type Error = Error;

    fn try_from(reference: Reference) -> Result<Self, Error> {
        if reference.digest().is_some() {
            return Err(Error::Pinned { reference });
        }
        let tag = reference.tag().unwrap_or("latest").to_owned();
        Ok(Self { repository: reference.repository().clone(), tag })
    }
}

impl fmt::Display for Name {
    /// With the registry and the tag: `docker.io/library/alpine:3.19`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.repository, self.tag)
    }
}

impl Name {
    /// The repository.
    #[must_use]
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether this is the name that an archive writes as `tag`, with or without docker's
    /// defaults.
    pub(crate) fn is(&self, tag: &str) -> bool {
        let other = tag.parse::<Reference>().ok().and_then(|tag| Self::try_from(tag).ok());
        other.as_ref() == Some(self)
    }
}

/// An archive of one image. Write it in this order: for each of [`DockerArchive::layers`]
/// its header, content and [`padding`], then [`DockerArchive::end`].
#[derive(Debug)]
pub struct DockerArchive<'a> {
    image: &'a Image,
    names: Vec<Name>,
}

/// A layer of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// The layer as served.
    pub descriptor: &'a Descriptor,
    /// The digest of the uncompressed layer.
    pub diff_id: &'a Digest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl<'a> DockerArchive<'a> {
    /// Creates an archive of `image` with these names. Repeated names count once.
    pub fn new(image: &'a Image, names: &[Name]) -> Result<Self, Error> {
        let mut digests = image.config().diff_ids().iter().chain([image.config().raw().digest()]);
        if let Some(digest) = digests.find(|digest| digest.algorithm() != Algorithm::Sha256) {
            return Err(Error::Algorithm { digest: digest.clone() });
        }
        let mut distinct: Vec<Name> = Vec::new();
        for name in names {
            if !distinct.contains(name) {
                distinct.push(name.clone());
            }
        }
        Ok(Self { image, names: distinct })
    }

    /// The layers to write, base first, without repeated contents.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'a>> {
        let mut seen = BTreeSet::new();
        let descriptors = self.image.manifest().layers().iter();
        descriptors
            .zip(self.image.config().diff_ids())
            .filter(move |(_, diff_id)| seen.insert(*diff_id))
            .map(|(descriptor, diff_id)| Layer { descriptor, diff_id })
    }

    /// Returns the part of the archive after the last layer.
    pub fn end(&self) -> Result<Vec<u8>, Error> {
        let config = self.image.config().raw();
        let mut end = Vec::new();
        let config_file = format!("{}.json", config.digest().hex());
        append(&mut end, &config_file, config.bytes())?;
        let last_id = self.append_legacy(&mut end)?;
        let item = ManifestItem {
            config: config_file,
            repo_tags: self
                .names
                .iter()
                .map(|name| format!("{}:{}", name.repository, name.tag))
                .collect(),
            layers: self.image.config().diff_ids().iter().map(layer_file).collect(),
        };
        append(&mut end, "manifest.json", &to_json(&[item])?)?;
        let mut repositories: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
        if let Some(id) = &last_id {
            for name in &self.names {
                let tags = repositories.entry(name.repository.to_string()).or_default();
                tags.insert(&name.tag, id);
            }
        }
        append(&mut end, "repositories", &to_json(&repositories)?)?;
        end.extend_from_slice(&tar::END);
        Ok(end)
    }

    /// Appends the format from before Docker 1.10: a folder for each layer, which refers to
    /// its parent. Returns the ID of the last layer.
    fn append_legacy(&self, end: &mut Vec<u8>) -> Result<Option<String>, Error> {
        let config: BTreeMap<String, &RawValue> =
            serde_json::from_slice(self.image.config().raw().bytes()).map_err(Error::Config)?;
        let diff_ids = self.image.config().diff_ids();
        let (mut chain_id, mut parent): (Option<Digest>, Option<String>) = (None, None);
        for (index, diff_id) in diff_ids.iter().enumerate() {
            let mut layer: BTreeMap<&str, String> = BTreeMap::new();
            layer.extend(parent.as_ref().map(|parent| ("parent", quoted(parent))));
            if index + 1 == diff_ids.len() {
                for key in LAST_LAYER_KEYS {
                    let value = config.get(key).map_or("null", |value| value.get());
                    layer.insert(key, compact(value));
                }
            }
            let chain = match chain_id {
                None => diff_id.clone(),
                Some(chain_id) => Digest::sha256(format!("{chain_id} {diff_id}").as_bytes()),
            };
            layer.insert("layer_id", quoted(&chain));
            let id = Digest::sha256(object(&layer).as_bytes()).hex().to_owned();
            layer.remove("layer_id");
            layer.insert("id", quoted(&id));
            append_link(end, &format!("{id}/layer.tar"), &format!("../{}", layer_file(diff_id)))?;
            append(end, &format!("{id}/VERSION"), b"1.0")?;
            append(end, &format!("{id}/json"), object(&layer).as_bytes())?;
            (chain_id, parent) = (Some(chain), Some(id));
        }
        Ok(parent)
    }
}

impl Layer<'_> {
    /// Returns the header of the uncompressed layer, which has `size` bytes.
    pub fn header(&self, size: u64) -> Result<Vec<u8>, Error> {
        header(&layer_file(self.diff_id), size)
    }
}

fn layer_file(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

fn append(archive: &mut Vec<u8>, name: &str, content: &[u8]) -> Result<(), Error> {
    let size = content.len() as u64;
    archive.extend(header(name, size)?);
    archive.extend_from_slice(content);
    archive.resize(archive.len() + padding(size), 0);
    Ok(())
}

fn append_link(archive: &mut Vec<u8>, name: &str, target: &str) -> Result<(), Error> {
    let header = Header::new(Kind::Link, name.as_bytes(), 0, 0);
    archive.extend(Header { link_name: target.as_bytes(), ..header }.encode()?);
    Ok(())
}

fn header(name: &str, size: u64) -> Result<Vec<u8>, Error> {
    Ok(Header::new(Kind::File, name.as_bytes(), 0o444, size).encode()?)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    // Names and digests have no characters that Go would escape differently.
    serde_json::to_vec(value).map_err(Error::Config)
}

fn quoted(text: &impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}

/// Formats a JSON object from values that are JSON already, in the order of their keys.
fn object(values: &BTreeMap<&str, String>) -> String {
    let members: Vec<String> =
        values.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Compacts valid JSON as Go's `json.Marshal` does for a `RawMessage`: it removes white
/// space and escapes characters that are unsafe in HTML and scripts. Numbers and strings
/// are otherwise unchanged.
fn compact(json: &str) -> String {
    let mut compacted = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            c if go_json::is_escaped(c) => {
                // Writing to a string can't fail.
                let _ = write!(compacted, "\\u{:04x}", u32::from(c));
            }
            _ => compacted.push(c),
        }
        in_string ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    compacted
}

#[cfg(test)]
mod tests {
    use super::*;

    // From `compact` and `appendHTMLEscape` in Go's encoding/json. `tests/programs/whole_images.rs`
    // compares whole archives with skopeo's.
    #[test]
    fn rule_89_json_is_compacted_as_go_does_it() {
        for (given, expected) in [
            (" { \"a\" : [ 1.50 , 2e+3 ] } ", r#"{"a":[1.50,2e+3]}"#),
            (r#""a <b> & c""#, r#""a \u003cb\u003e \u0026 c""#),
            ("\"\u{2028}é\\u00e9\"", r#""\u2028é\u00e9""#),
            (r#"{"a\\": " \" ", "b": "\\" }"#, r#"{"a\\":" \" ","b":"\\"}"#),
        ] {
            assert_eq!(compact(given), expected);
        }
    }
}
