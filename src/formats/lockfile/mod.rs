//! The lockfile: an image manifest that also says what it locks.
//!
//! It is the manifest plus an `n2c` object at the end, so that nix2container's
//! `pullImageFromManifest` accepts it. The same state of the registry gives the same bytes:
//! keys have a fixed order, and nothing depends on the time or the machine. A plain
//! manifest is read as a lockfile that doesn't say where it came from.

mod error;
mod proof;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json;
use crate::oci::digest::{Digest, Verified};
use crate::oci::image::{Image, ImageConfig};
use crate::oci::location::Location;
use crate::oci::manifest::{Document, ImageManifest};
use crate::oci::platform::Platform;
pub use error::Error;

/// The maximum size of a lockfile in bytes: a hundred times the size of one for all
/// platforms of an image.
pub const SIZE_LIMIT: u64 = 16 << 20;
/// The maximum number of JSON values in a lockfile.
const VALUE_LIMIT: usize = 400_000;
/// The version of the `n2c` object that this program reads and writes.
pub const VERSION: u64 = 1;

/// The keys of a manifest that come first in a lockfile, in this order.
const MANIFEST_KEYS: [&str; 5] = ["schemaVersion", "mediaType", "config", "layers", "annotations"];
/// The keys of a descriptor that come first in a lockfile, in this order.
const DESCRIPTOR_KEYS: [&str; 3] = ["mediaType", "digest", "size"];
/// The keys of the config that a lockfile keeps, in this order.
const IMAGE_KEYS: [&str; 8] =
    ["created", "author", "architecture", "variant", "os", "os.version", "config", "history"];

/// A lockfile for one or several platforms, or a plain manifest.
#[derive(Clone, Debug)]
pub struct Lockfile {
    file: String,
    location: Option<Location>,
    keyed: bool,
    entries: Vec<Entry>,
}

/// The part of a lockfile for one platform.
#[derive(Clone, Debug)]
pub struct Entry {
    manifest: ImageManifest,
    pin: Option<Pin>,
    /// Whether the lockfile's reference is pinned to this manifest itself. Then no index
    /// says which platform it is for; only its config does.
    is_alone: bool,
}

/// What a lockfile adds to a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The requested platform.
    pub platform: Platform,
    /// The digest of the manifest as served.
    pub manifest: Digest,
    /// The digests of the uncompressed layers, from the verified config.
    pub diff_ids: Vec<Digest>,
    /// The part of the config that a lockfile keeps. `rootfs` is not in it.
    pub image: Map<String, Value>,
}

/// The `n2c` object of one platform, as written in the file.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RawPin {
    version: u64,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    platform: Platform,
    manifest: Digest,
    diff_ids: Vec<Digest>,
    image: Map<String, Value>,
}

/// The `n2c` object of a file with several platforms.
#[derive(Deserialize, Serialize)]
struct RawPlatforms {
    version: u64,
    #[serde(rename = "ref")]
    reference: String,
    platforms: BTreeMap<Platform, Map<String, Value>>,
}

/// Returns the part of a config that a lockfile keeps.
fn kept(config: &ImageConfig) -> Map<String, Value> {
    let value = |key: &&str| {
        let value = config.object().get(*key).filter(|value| !value.is_null())?;
        Some(((*key).to_owned(), value.clone()))
    };
    IMAGE_KEYS.iter().filter_map(value).collect()
}

impl Entry {
    /// Locks an image for the requested platform.
    #[must_use]
    pub fn new(platform: Platform, image: &Image) -> Self {
        let config = image.config();
        let pin = Pin {
            platform,
            manifest: image.manifest().raw().digest().clone(),
            diff_ids: config.diff_ids().to_vec(),
            image: kept(config),
        };
        Self { manifest: image.manifest().clone(), pin: Some(pin), is_alone: false }
    }

    /// The same entry with the values from its config. A plain manifest stays unchanged.
    #[must_use]
    pub fn with_config(&self, config: &ImageConfig) -> Self {
        let pin = self.pin.as_ref().map(|pin| Pin {
            platform: pin.platform.clone(),
            manifest: pin.manifest.clone(),
            diff_ids: config.diff_ids().to_vec(),
            image: kept(config),
        });
        Self { manifest: self.manifest.clone(), pin, is_alone: self.is_alone }
    }

    /// Whether this entry agrees with the config and, if no index says the platform, with
    /// the config's platform. A plain manifest agrees with every config.
    #[must_use]
    pub fn has_config(&self, config: &ImageConfig) -> bool {
        let Some(pin) = &self.pin else { return true };
        // An index may list an image for another platform than its config says.
        let built = config.platform().filter(|_| self.is_alone);
        let fits = built.is_none_or(|built| pin.platform.distance(built).is_some());
        fits && pin.diff_ids == config.diff_ids() && pin.image == kept(config)
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// What the lockfile adds to the manifest; `None` for a plain manifest.
    #[must_use]
    pub const fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    fn to_object(&self, reference: Option<&Location>) -> Map<String, Value> {
        let manifest = self.manifest.object();
        let mut object = Map::new();
        for (key, value) in ordered(manifest, &MANIFEST_KEYS) {
            let value = match (key.as_str(), value) {
                ("config", Value::Object(descriptor)) => {
                    Value::Object(descriptor_object(descriptor))
                }
                ("layers", Value::Array(layers)) => layers
                    .iter()
                    .map(|layer| {
                        layer
                            .as_object()
                            .map_or(layer.clone(), |layer| descriptor_object(layer).into())
                    })
                    .collect(),
                (_, value) => value.clone(),
            };
            object.insert(key.clone(), value);
        }
        // A manifest may leave out its media type, but readers of the file need it.
        if !object.contains_key("mediaType") {
            object.shift_insert(1, "mediaType".to_owned(), self.manifest.media_type().into());
        }
        if let Some(pin) = &self.pin {
            let pin = RawPin {
                version: VERSION,
                reference: reference.map(ToString::to_string),
                platform: pin.platform.clone(),
                manifest: pin.manifest.clone(),
                diff_ids: pin.diff_ids.clone(),
                image: pin.image.clone(),
            };
            object.insert("n2c".to_owned(), to_value(&pin));
        }
        object
    }

    fn parse(file: &str, mut object: Map<String, Value>) -> Result<(Self, Option<String>), Error> {
        let inconsistent = |reason: String| Error::Inconsistent { file: file.to_owned(), reason };
        let pin: Option<RawPin> = object
            .shift_remove("n2c")
            .map(serde_json::from_value)
            .transpose()
            .map_err(|source| Error::Shape { file: file.to_owned(), source })?;
        let manifest_error = |source| Error::Manifest { file: file.to_owned(), source };
        let text = Value::Object(object).to_string().into_bytes();
        let document = Document::parse(&format!("`{file}`"), Verified::as_found(text), None)
            .map_err(manifest_error)?;
        let Document::Manifest(manifest) = document else {
            return Err(Error::Index { file: file.to_owned() });
        };
        let mut reference = None;
        let pin = match pin {
            Some(pin) => {
                if pin.diff_ids.len() != manifest.layers().len() {
                    return Err(inconsistent(format!(
                        "it has {} layers but {} diff IDs",
                        manifest.layers().len(),
                        pin.diff_ids.len()
                    )));
                }
                reference = pin.reference;
                Some(Pin {
                    platform: pin.platform,
                    manifest: pin.manifest,
                    diff_ids: pin.diff_ids,
                    image: pin.image,
                })
            }
            None => None,
        };
        Ok((Self { manifest, pin, is_alone: false }, reference))
    }
}

impl Lockfile {
    /// Creates a lockfile for one platform.
    #[must_use]
    pub fn single(location: Location, entry: Entry) -> Self {
        Self {
            file: location.to_string(),
            location: Some(location),
            keyed: false,
            entries: vec![entry],
        }
    }

    /// Creates a lockfile keyed by platform. The order of `entries` doesn't matter.
    #[must_use]
    pub fn keyed(location: Location, entries: Vec<Entry>) -> Self {
        Self { file: location.to_string(), location: Some(location), keyed: true, entries }
    }

    /// Creates a lockfile of the same form with other content.
    #[must_use]
    pub fn with(&self, location: Location, entries: Vec<Entry>) -> Self {
        Self { file: self.file.clone(), location: Some(location), keyed: self.keyed, entries }
    }

    /// Whether `other` locks the same images for the same platforms.
    #[must_use]
    pub fn has_same_entries(&self, other: &Self) -> bool {
        let text = |lockfile: &Self| -> Vec<_> {
            lockfile.entries.iter().map(|entry| entry.to_object(None)).collect()
        };
        text(self) == text(other)
    }

    /// Parses a lockfile or a plain manifest. `file` is its name in errors.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Error> {
        let shape = |source| Error::Shape { file: file.to_owned(), source };
        let mut object: Map<String, Value> = json::parse(text, VALUE_LIMIT).map_err(shape)?;
        let section = object.get("n2c");
        if let Some(version) = section.and_then(|n2c| n2c.get("version")).and_then(Value::as_u64)
            && version > VERSION
        {
            return Err(Error::Newer { file: file.to_owned(), version });
        }
        let keyed = section.is_some_and(|n2c| n2c.get("platforms").is_some());
        let (mut entries, reference) = if keyed {
            let section = object.remove("n2c").unwrap_or_default();
            let raw: RawPlatforms = serde_json::from_value(section).map_err(shape)?;
            let entries = raw
                .platforms
                .into_iter()
                .map(|(platform, object)| Self::parse_keyed(file, &platform, object))
                .collect::<Result<Vec<_>, _>>()?;
            if entries.is_empty() {
                let reason = "it has no platform".to_owned();
                return Err(Error::Inconsistent { file: file.to_owned(), reason });
            }
            (entries, Some(raw.reference))
        } else {
            let (entry, reference) = Entry::parse(file, object)?;
            if entry.pin.is_some() && reference.is_none() {
                return Err(Error::Inconsistent {
                    file: file.to_owned(),
                    reason: "`n2c.ref` is missing".to_owned(),
                });
            }
            (vec![entry], reference)
        };
        let location = reference
            .map(|text| text.parse::<Location>())
            .transpose()
            .map_err(|source| Error::Reference { file: file.to_owned(), source })?;
        let pinned = location.as_ref().and_then(Location::digest);
        for entry in &mut entries {
            entry.is_alone = entry.pin.as_ref().is_some_and(|pin| pinned == Some(&pin.manifest));
        }
        Ok(Self { file: file.to_owned(), location, keyed, entries })
    }

    fn parse_keyed(file: &str, key: &Platform, object: Map<String, Value>) -> Result<Entry, Error> {
        let (entry, _) = Entry::parse(file, object)?;
        match &entry.pin {
            Some(pin) if pin.platform == *key => Ok(entry),
            _ => Err(Error::Inconsistent {
                file: file.to_owned(),
                reason: format!("the entry `{key}` is not for that platform"),
            }),
        }
    }

    /// The name of the file, for messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The pinned location of the image; `None` for a plain manifest.
    #[must_use]
    pub const fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }

    /// The locked images, one entry for each platform.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The locked platforms; empty for a plain manifest.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        self.entries.iter().filter_map(|entry| Some(entry.pin.as_ref()?.platform.clone())).collect()
    }

    /// The entry that serves `wanted`, chosen by the same rules as from an index. If `wanted`
    /// is `None`, that is the only entry of the file, or else the one that serves
    /// [`Platform::host`].
    pub fn entry(&self, wanted: Option<&Platform>) -> Result<&Entry, Error> {
        if let ([only], None) = (self.entries.as_slice(), wanted) {
            return Ok(only);
        }
        let wanted = wanted.cloned().unwrap_or_else(Platform::host);
        let distance =
            |entry: &&Entry| entry.pin.as_ref().and_then(|pin| wanted.distance(&pin.platform));
        self.entries
            .iter()
            .filter(|entry| entry.pin.is_none() || distance(entry).is_some())
            .min_by_key(distance)
            .ok_or_else(|| Error::NoPlatform {
                file: self.file.clone(),
                wanted: wanted.clone(),
                available: self.platforms(),
            })
    }

    /// The entry that serves each of `wanted`, or all entries if `wanted` is empty.
    pub fn entries_for(&self, wanted: &[Platform]) -> Result<Vec<&Entry>, Error> {
        if wanted.is_empty() {
            return Ok(self.entries.iter().collect());
        }
        wanted.iter().map(|platform| self.entry(Some(platform))).collect()
    }

    /// The canonical text: indented by two spaces, keys in a fixed order, with a final
    /// newline.
    #[must_use]
    pub fn to_text(&self) -> String {
        let object = match (self.entries.as_slice(), &self.location) {
            (entries, Some(location)) if self.keyed => {
                let platforms = entries
                    .iter()
                    .filter_map(|entry| {
                        Some((entry.pin.as_ref()?.platform.clone(), entry.to_object(None)))
                    })
                    .collect();
                let section =
                    RawPlatforms { version: VERSION, reference: location.to_string(), platforms };
                Map::from_iter([("n2c".to_owned(), to_value(&section))])
            }
            (entries, location) => {
                entries.first().map(|entry| entry.to_object(location.as_ref())).unwrap_or_default()
            }
        };
        format!("{:#}\n", Value::Object(object))
    }
}

/// Serialises one of this module's own types. This can't fail: their maps have string keys.
fn to_value(section: &impl Serialize) -> Value {
    serde_json::to_value(section).unwrap_or_default()
}

/// Returns the entries of `object`, starting with the keys in `first`.
fn ordered<'a>(
    object: &'a Map<String, Value>,
    first: &[&str],
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let mut entries: Vec<_> = object.iter().collect();
    entries
        .sort_by_key(|(key, _)| first.iter().position(|name| name == key).unwrap_or(first.len()));
    entries.into_iter()
}

fn descriptor_object(descriptor: &Map<String, Value>) -> Map<String, Value> {
    ordered(descriptor, &DESCRIPTOR_KEYS).map(|(key, value)| (key.clone(), value.clone())).collect()
}
