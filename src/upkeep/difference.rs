//! What changed between two lockfiles, as data: for people, for programs, and for the
//! text of a pull request.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::formats::lockfile::{Entry, Lockfile};
use crate::oci::digest::Digest;
use crate::oci::location::Location;
use crate::oci::manifest::Descriptor;
use crate::oci::platform::Platform;

/// Parts of the config that are compared key by key.
const KEYED: [&str; 4] = ["Env", "Labels", "ExposedPorts", "Volumes"];
/// OCI image-spec annotations.md.
const VERSION: &str = "org.opencontainers.image.version";
const REVISION: &str = "org.opencontainers.image.revision";
const SOURCE: &str = "org.opencontainers.image.source";
/// Hosts that have a page `SOURCE/compare/OLD...NEW`.
const COMPARING_HOSTS: [&str; 3] = ["github.com", "gitlab.com", "codeberg.org"];

/// A value before and after. `None` means that there was or is none.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change<T> {
    /// The old value.
    pub old: Option<T>,
    /// The new value.
    pub new: Option<T>,
}

impl<T: PartialEq> Change<T> {
    /// Returns the change from `old` to `new`, if they differ.
    fn between(old: Option<T>, new: Option<T>) -> Option<Self> {
        (old != new).then_some(Self { old, new })
    }
}

/// What changed between two lockfiles.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The references, if they differ.
    pub reference: Option<Change<String>>,
    /// Platforms that only the new lockfile has.
    pub gained: Vec<Platform>,
    /// Platforms that only the old lockfile has.
    pub lost: Vec<Platform>,
    /// The platforms that both have and whose images changed.
    pub platforms: Vec<PlatformDifference>,
}

/// What changed in the image of one platform.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformDifference {
    /// The platform, if known: plain manifests don't have one.
    pub platform: Option<Platform>,
    /// The digest of the manifest.
    pub manifest: Option<Change<Digest>>,
    /// The digest of the config.
    pub config_digest: Option<Change<Digest>>,
    /// The version in the labels or annotations.
    pub version: Option<Change<String>>,
    /// The source revision.
    pub revision: Option<Change<String>>,
    /// The URL of a page that shows what changed in the source.
    pub compare: Option<String>,
    /// When the image was created.
    pub created: Option<Change<String>>,
    /// The layers.
    pub layers: LayersDifference,
    /// Environment variables, by name.
    pub env: BTreeMap<String, Change<String>>,
    /// Labels, by key.
    pub labels: BTreeMap<String, Change<String>>,
    /// Exposed ports.
    pub exposed_ports: SetDifference,
    /// Volumes.
    pub volumes: SetDifference,
    /// Everything else in the run configuration: `Entrypoint`, `Cmd`, `User` and so on.
    pub config: BTreeMap<String, Change<Value>>,
}

/// What changed in the layers of an image.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LayersDifference {
    /// How many layers are the same.
    pub kept: usize,
    /// The new layers, base first, each once.
    pub added: Vec<Blob>,
    /// The layers that are gone, each once.
    pub removed: Vec<Blob>,
    /// How many bytes of layers have to be downloaded.
    pub download: u64,
    /// Whether the layers in both are in a different order or are repeated differently.
    pub reordered: bool,
}

/// A layer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What was added and removed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SetDifference {
    /// What was added.
    pub added: BTreeSet<String>,
    /// What was removed.
    pub removed: BTreeSet<String>,
}

impl Difference {
    /// Returns what changed from `old` to `new`.
    #[must_use]
    pub fn between(old: &Lockfile, new: &Lockfile) -> Self {
        let reference = |lockfile: &Lockfile| lockfile.location().map(Location::to_string);
        // If one side is a plain manifest, it is assumed to be for the platform of the other.
        let is_plain = |lockfile: &Lockfile| lockfile.platforms().is_empty();
        let knows = !(is_plain(old) || is_plain(new)) || old.entries().len() != new.entries().len();
        let (old_entries, new_entries) = (by_platform(old, knows), by_platform(new, knows));
        let only = |these: &BTreeMap<Option<Platform>, &Entry>, those: &BTreeMap<_, _>| {
            these
                .keys()
                .filter(|platform| !those.contains_key(*platform))
                .flatten()
                .cloned()
                .collect()
        };
        let changed = |(platform, old): (&Option<Platform>, &&Entry)| {
            let new = new_entries.get(platform)?;
            let difference = PlatformDifference::between(platform.clone(), old, new);
            (!difference.is_empty()).then_some(difference)
        };
        Self {
            reference: Change::between(reference(old), reference(new)),
            gained: only(&new_entries, &old_entries),
            lost: only(&old_entries, &new_entries),
            platforms: old_entries.iter().filter_map(changed).collect(),
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reference.is_none()
            && self.gained.is_empty()
            && self.lost.is_empty()
            && self.platforms.is_empty()
    }
}

/// Returns the entries by platform. Unless `knows` is set, the platform is `None`,
/// because a plain manifest doesn't have one.
fn by_platform(lockfile: &Lockfile, knows: bool) -> BTreeMap<Option<Platform>, &Entry> {
    let platform = |entry: &Entry| entry.pin().filter(|_| knows).map(|pin| pin.platform.clone());
    lockfile.entries().iter().map(|entry| (platform(entry), entry)).collect()
}

impl PlatformDifference {
    fn between(platform: Option<Platform>, old: &Entry, new: &Entry) -> Self {
        let (old_config, new_config) = (run_config(old), run_config(new));
        let part = |config: &Map<String, Value>, key: &str| config.get(key).cloned();
        let keys = |key: &str| {
            let set = |config| part(config, key).as_ref().map(member_names).unwrap_or_default();
            SetDifference::between(&set(&old_config), &set(&new_config))
        };
        let told = |key: &str| Change::between(label(old, key), label(new, key));
        let pinned = |entry: &Entry| entry.pin().map(|pin| pin.manifest.clone());
        let created = |entry: &Entry| text(entry.pin()?.image.get("created")?);
        let revision = told(REVISION);
        let digest = |entry: &Entry| Some(entry.manifest().config().digest.clone());
        Self {
            platform,
            manifest: Change::between(pinned(old), pinned(new)),
            config_digest: Change::between(digest(old), digest(new)),
            version: told(VERSION),
            compare: revision.as_ref().and_then(|revision| {
                compare_page(&label(old, SOURCE)?, &label(new, SOURCE)?, revision)
            }),
            revision,
            created: Change::between(created(old), created(new)),
            layers: LayersDifference::between(old.manifest().layers(), new.manifest().layers()),
            env: changes(&variables(&old_config), &variables(&new_config)),
            labels: changes(&labels(old), &labels(new)),
            exposed_ports: keys("ExposedPorts"),
            volumes: keys("Volumes"),
            config: changes(&others(old_config.clone()), &others(new_config.clone())),
        }
    }

    fn is_empty(&self) -> bool {
        self.manifest.is_none()
            && self.config_digest.is_none()
            && self.version.is_none()
            && self.revision.is_none()
            && !self.layers.reordered
            && self.created.is_none()
            && self.layers.added.is_empty()
            && self.layers.removed.is_empty()
            && self.env.is_empty()
            && self.labels.is_empty()
            && self.exposed_ports == SetDifference::default()
            && self.volumes == SetDifference::default()
            && self.config.is_empty()
    }
}

impl LayersDifference {
    fn between(old: &[Descriptor], new: &[Descriptor]) -> Self {
        let digests = |layers: &[Descriptor]| -> BTreeSet<Digest> {
            layers.iter().map(|layer| layer.digest.clone()).collect()
        };
        let missing_in = |these: &[Descriptor], those: &BTreeSet<Digest>| {
            let mut seen = BTreeSet::new();
            let is_new = |layer: &&Descriptor| {
                !those.contains(&layer.digest) && seen.insert(layer.digest.clone())
            };
            let blob = |layer: &Descriptor| Blob { digest: layer.digest.clone(), size: layer.size };
            these.iter().filter(is_new).map(blob).collect::<Vec<_>>()
        };
        let common = |these: &[Descriptor], those: &BTreeSet<Digest>| -> Vec<Digest> {
            let digests = these.iter().map(|layer| layer.digest.clone());
            digests.filter(|digest| those.contains(digest)).collect()
        };
        let (old_digests, new_digests) = (digests(old), digests(new));
        let added = missing_in(new, &old_digests);
        Self {
            kept: new.iter().filter(|layer| old_digests.contains(&layer.digest)).count(),
            download: added.iter().fold(0, |sum, layer| sum.saturating_add(layer.size)),
            removed: missing_in(old, &new_digests),
            reordered: common(old, &new_digests) != common(new, &old_digests),
            added,
        }
    }
}

impl SetDifference {
    fn between(old: &BTreeSet<String>, new: &BTreeSet<String>) -> Self {
        Self {
            added: new.difference(old).cloned().collect(),
            removed: old.difference(new).cloned().collect(),
        }
    }
}

/// Returns the differences between two maps, by key.
fn changes<T: Clone + PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> BTreeMap<String, Change<T>> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let change = Change::between(old.get(key).cloned(), new.get(key).cloned())?;
            Some((key.clone(), change))
        })
        .collect()
}

fn run_config(entry: &Entry) -> Map<String, Value> {
    let config = entry.pin().and_then(|pin| pin.image.get("config")).and_then(Value::as_object);
    config.cloned().unwrap_or_default()
}

/// Returns the variables in `Env`, by name.
fn variables(config: &Map<String, Value>) -> BTreeMap<String, String> {
    let lines = config.get("Env").and_then(Value::as_array).into_iter().flatten();
    lines
        .filter_map(Value::as_str)
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn labels(entry: &Entry) -> BTreeMap<String, String> {
    let config = run_config(entry);
    let labels = config.get("Labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

/// Returns the value of a label, or else of the manifest's annotation.
fn label(entry: &Entry, key: &str) -> Option<String> {
    let annotations = entry.manifest().object().get("annotations").and_then(Value::as_object);
    labels(entry).remove(key).or_else(|| text(annotations?.get(key)?))
}

/// Returns the rest of the config: all keys that are not in `KEYED`, without `null` values.
fn others(config: Map<String, Value>) -> BTreeMap<String, Value> {
    let is_other =
        |(key, value): &(String, Value)| !KEYED.contains(&key.as_str()) && !value.is_null();
    config.into_iter().filter(is_other).collect()
}

fn member_names(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Returns the page that compares two revisions, if the source is on a host that has
/// one. Labels are not trusted beyond that.
fn compare_page(old: &str, new: &str, revision: &Change<String>) -> Option<String> {
    let is_revision = |text: &&String| {
        (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (from, to) = (revision.old.as_ref()?, revision.new.as_ref()?);
    if old != new || !is_revision(&from) || !is_revision(&to) {
        return None;
    }
    let url: Url = new.parse().ok()?;
    let is_known = url.scheme() == "https"
        && url.port().is_none()
        && url.username().is_empty()
        && COMPARING_HOSTS.contains(&url.host_str()?);
    let path = url.path().trim_matches('/').trim_end_matches(".git");
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let is_repository = path.split('/').count() >= 2 && path.split('/').all(is_part);
    (is_known && is_repository).then(|| {
        format!("https://{}/{path}/compare/{from}...{to}", url.host_str().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_are_linked_to() {
        let revision =
            |old: &str, new: &str| Change { old: Some(old.into()), new: Some(new.into()) };
        let good = revision("0123456", "89abcdef01");
        let page = |source: &str| compare_page(source, source, &good);
        assert_eq!(
            page("https://github.com/a/b.git").as_deref(),
            Some("https://github.com/a/b/compare/0123456...89abcdef01")
        );
        for source in [
            "http://github.com/a/b",
            "https://evil.example/a/b",
            "https://github.com.evil.example/a/b",
            "https://u:p@github.com/a/b",
            "https://github.com:444/a/b",
            "https://github.com/a",
            "https://github.com/a/b)[x](y",
            "javascript:alert(1)",
        ] {
            assert_eq!(page(source), None, "{source}");
        }
        let source = "https://gitlab.com/a/b/c";
        assert!(compare_page(source, source, &good).is_some());
        assert_eq!(compare_page(source, "https://gitlab.com/x/y", &good), None);
        for bad in [revision("main", "89abcdef01"), revision("0123456", "../../x")] {
            assert_eq!(compare_page(source, source, &bad), None);
        }
    }
}
