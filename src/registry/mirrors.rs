//! Mirrors: other places to pull a repository from.
//!
//! They are configured with `--mirror`, `N2C_MIRRORS`, and the `[[registry]]` tables of
//! containers-registries.conf(5), version 2. Lockfiles keep the canonical reference;
//! which mirrors are used depends on the machine that fetches.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::environment::Environment;
use crate::error::{Diagnose, Kind};
use crate::fs;
use crate::oci::reference::{self, Repository};

/// Why the mirror configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mirror option is not a valid `REGISTRY=URL`.
    #[error("invalid mirror `{text}`: {reason}")]
    Invalid {
        /// The text of the option, with control characters escaped.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `registries.conf` can't be read.
    #[error(transparent)]
    Read(#[from] fs::Error),
    /// `registries.conf` is not TOML of the expected shape.
    #[error("invalid `{}`: {message}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The parser's message, as one line.
        message: String,
    },
    /// A location in `registries.conf` doesn't form a valid repository.
    #[error("`{location}` in `{}` is not a valid location for `{repository}`", path.display())]
    Location {
        /// The file.
        path: PathBuf,
        /// The location.
        location: String,
        /// The repository that was looked up.
        repository: String,
        /// Why.
        #[source]
        source: reference::Error,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Usage,
            _ => Kind::Other,
        }
    }
}

/// The size limit of `registries.conf`, in bytes.
const SIZE_LIMIT: u64 = 4 << 20;

/// A place to fetch a repository from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Endpoint {
    /// The host, and the path on it.
    pub(super) repository: Repository,
    /// The scheme, if the configuration sets one.
    pub(super) scheme: Option<&'static str>,
    /// Whether its certificate is not verified.
    pub(super) insecure: bool,
}

/// A registry, or a part of one, and where to fetch it from.
#[derive(Clone, Debug)]
struct Rule {
    /// What the rule applies to: `host`, `host/path` or `*.example.com`.
    prefix: String,
    mirrors: Vec<Place>,
    /// Where the registry itself is, if not at the prefix.
    primary: Option<Place>,
    insecure: bool,
    blocked: bool,
    /// The file that defines the rule; empty for an option.
    file: PathBuf,
}

#[derive(Clone, Debug)]
struct Place {
    /// The host and path that replace the prefix.
    location: String,
    scheme: Option<&'static str>,
    insecure: bool,
    pull: Pull,
}

/// Which pulls a mirror is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Pull {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// All rules. Mirrors from options come before those from files.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirrors {
    options: Vec<Rule>,
    files: Vec<Rule>,
}

/// The endpoints to fetch from, in order. The registry itself is last.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) endpoints: Vec<Endpoint>,
    /// The file that blocks the registry, if any.
    pub(super) blocked_by: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRegistry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Option<Pull>,
}

impl Mirrors {
    /// Reads the rules of `--mirror` options, of `$N2C_MIRRORS` (in the same format,
    /// separated by white space or commas), and of this machine's `registries.conf`.
    pub(super) fn read(options: &[String], environment: &Environment) -> Result<Self, Error> {
        let variable = environment.text("N2C_MIRRORS").unwrap_or_default();
        let in_variable = variable.split([',', ' ', '\n', '\t']).filter(|text| !text.is_empty());
        let options = options.iter().map(String::as_str).chain(in_variable);
        let options = options.map(Rule::from_option).collect::<Result<Vec<_>, _>>()?;
        let mut files = Vec::new();
        for path in registries_conf(environment) {
            match fs::read(&path, SIZE_LIMIT) {
                Ok(text) => files.extend(parse(&path, &text)?),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { options, files })
    }

    /// Returns where to fetch `repository` from, by digest or by tag.
    pub(super) fn plan(&self, repository: &Repository, by_digest: bool) -> Result<Plan, Error> {
        let name = repository.to_string();
        let longest = |rules: &[Rule]| -> Option<Rule> {
            let matching = rules.iter().filter(|rule| matches(&rule.prefix, &name));
            // Take the first of equally long prefixes; `max_by_key` takes the last.
            matching.rev().max_by_key(|rule| rule.prefix.len()).cloned()
        };
        let (option, file) = (longest(&self.options), longest(&self.files));
        let mut endpoints = Vec::new();
        let mut primary =
            Endpoint { repository: repository.clone(), scheme: None, insecure: false };
        let mut blocked_by = None;
        for rule in [&option, &file].into_iter().flatten() {
            for mirror in &rule.mirrors {
                let serves = match mirror.pull {
                    Pull::All => true,
                    Pull::DigestOnly => by_digest,
                    Pull::TagOnly => !by_digest,
                };
                if serves {
                    endpoints.push(rule.endpoint(mirror, &name)?);
                }
            }
        }
        if let Some(rule) = &file {
            if let Some(place) = &rule.primary {
                primary = rule.endpoint(place, &name)?;
            }
            primary.insecure = rule.insecure;
            blocked_by = rule.blocked.then(|| rule.file.clone());
        }
        endpoints.push(primary);
        Ok(Plan { endpoints, blocked_by })
    }
}

impl Rule {
    /// Parses `REGISTRY=URL`.
    fn from_option(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { text: text.escape_default().to_string(), reason };
        let (registry, url) = text.split_once('=').ok_or(invalid("it has no `=`"))?;
        let with_scheme =
            if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        let parsed: Url = with_scheme.parse().map_err(|_| invalid("the URL is not valid"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // Don't show the URL: it holds a password.
            return Err(Error::Invalid {
                text: registry.escape_default().to_string(),
                reason: "a mirror's password belongs in an auth file",
            });
        }
        let scheme = match parsed.scheme() {
            "https" => "https",
            "http" => "http",
            _ => return Err(invalid("only http and https are supported")),
        };
        let host = super::transport::origin::host_of(&parsed);
        let path = parsed.path().trim_matches('/');
        if registry.is_empty() || host.is_empty() {
            return Err(invalid("the registry or the URL is empty"));
        }
        let prefix = match registry {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            other => other.trim_end_matches('/').to_owned(),
        };
        let location = if path.is_empty() { host } else { format!("{host}/{path}") };
        let place = Place { location, scheme: Some(scheme), insecure: false, pull: Pull::All };
        Ok(Self {
            prefix,
            mirrors: vec![place],
            primary: None,
            insecure: false,
            blocked: false,
            file: PathBuf::new(),
        })
    }

    /// Returns `name` with the prefix replaced by the location of `place`.
    fn endpoint(&self, place: &Place, name: &str) -> Result<Endpoint, Error> {
        // The prefix `*.example.com` stands for a host, so replace the whole host.
        let rest = match self.prefix.strip_prefix("*.") {
            Some(_) => name.find('/').map_or("", |slash| &name[slash..]),
            None => name.get(self.prefix.len()..).unwrap_or_default(),
        };
        let text = format!("{}{rest}", place.location);
        // The first part is always a host here, even if it would not count as one in a reference.
        let (host, path) = text.split_once('/').unwrap_or((&text, ""));
        let repository = Repository::new(host, path).map_err(|source| Error::Location {
            path: self.file.clone(),
            location: place.location.escape_default().to_string(),
            repository: name.to_owned(),
            source,
        })?;
        Ok(Endpoint { repository, scheme: place.scheme, insecure: place.insecure })
    }
}

/// Whether a rule's prefix matches a repository: on a path boundary, or any host under
/// `*.example.com`.
fn matches(prefix: &str, name: &str) -> bool {
    match prefix.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => {
            name.split(['/', ':']).next().is_some_and(|host| host.ends_with(domain))
        }
        _ => name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@'])),
    }
}

/// Returns the files to read: the user's `registries.conf` or else the system's, then the
/// drop-ins of both. `$CONTAINERS_REGISTRIES_CONF` replaces all of them.
fn registries_conf(environment: &Environment) -> Vec<PathBuf> {
    if let Some(named) = environment.path("CONTAINERS_REGISTRIES_CONF") {
        return vec![named];
    }
    let system = PathBuf::from("/etc/containers");
    let user = environment
        .path("XDG_CONFIG_HOME")
        .or_else(|| environment.path("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("containers"));
    let main = user
        .iter()
        .chain([&system])
        .map(|folder| folder.join("registries.conf"))
        .find(|path| path.exists());
    let mut paths: Vec<PathBuf> = main.into_iter().collect();
    for folder in [Some(system), user].into_iter().flatten() {
        let entries = std::fs::read_dir(folder.join("registries.conf.d")).into_iter().flatten();
        let mut drop_ins: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
            .collect();
        drop_ins.sort();
        paths.extend(drop_ins);
    }
    paths
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<Rule>, Error> {
    let shape = |message: String| Error::Shape { path: path.to_owned(), message };
    let text = std::str::from_utf8(text).map_err(|error| shape(error.to_string()))?;
    let file: RawFile = toml::from_str(text).map_err(|error| shape(error.message().to_owned()))?;
    Ok(file.registry.into_iter().filter_map(|raw| raw.into_rule(path)).collect())
}

impl RawRegistry {
    fn into_rule(self, path: &Path) -> Option<Rule> {
        let prefix = if self.prefix.is_empty() { self.location.clone() } else { self.prefix };
        let default_pull = if self.mirror_by_digest_only { Pull::DigestOnly } else { Pull::All };
        let place = |location: String, insecure, pull| Place {
            location: location.trim_end_matches('/').to_owned(),
            scheme: None,
            insecure,
            pull,
        };
        let mirrors = self
            .mirror
            .into_iter()
            .map(|mirror| {
                place(
                    mirror.location,
                    mirror.insecure,
                    mirror.pull_from_mirror.unwrap_or(default_pull),
                )
            })
            .collect();
        let moved = !self.location.is_empty() && self.location != prefix;
        (!prefix.is_empty()).then(|| Rule {
            primary: moved.then(|| place(self.location, self.insecure, Pull::All)),
            prefix: prefix.trim_end_matches('/').to_owned(),
            mirrors,
            insecure: self.insecure,
            blocked: self.blocked,
            file: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mirrors: &Mirrors, name: &str, by_digest: bool) -> Vec<String> {
        let plan = mirrors.plan(&name.parse().expect("valid"), by_digest).expect("a plan");
        let show = |endpoint: &Endpoint| {
            let scheme = endpoint.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
            let mark = if endpoint.insecure { "!" } else { "" };
            format!("{scheme}{}{mark}", endpoint.repository)
        };
        plan.endpoints.iter().map(show).collect()
    }

    fn from_options(texts: &[&str]) -> Mirrors {
        let options = texts.iter().map(|text| Rule::from_option(text).expect(text)).collect();
        Mirrors { options, files: Vec::new() }
    }

    #[test]
    fn options_name_mirrors_with_a_path() {
        let mirrors = from_options(&[
            "docker.io=https://m.example/dockerhub",
            "ghcr.io/acme=http://localhost:5000",
        ]);
        assert_eq!(
            plan(&mirrors, "alpine", true),
            ["https://m.example/dockerhub/library/alpine", "docker.io/library/alpine"]
        );
        assert_eq!(
            plan(&mirrors, "ghcr.io/acme/a", true),
            ["http://localhost:5000/a", "ghcr.io/acme/a"]
        );
        assert_eq!(plan(&mirrors, "ghcr.io/acmes/a", true), ["ghcr.io/acmes/a"]);
        // A host without a dot is not a Docker Hub user.
        let mirrors = from_options(&["docker.io=http://nexus/hub"]);
        let endpoints =
            mirrors.plan(&"alpine".parse().expect("valid"), true).expect("a plan").endpoints;
        assert_eq!(
            (endpoints[0].repository.host(), endpoints[0].repository.path()),
            ("nexus", "hub/library/alpine")
        );
        for text in [
            "docker.io",
            "=https://m",
            "docker.io=",
            "docker.io=ftp://m",
            "docker.io=https://u:sesame@m",
        ] {
            let error = Rule::from_option(text).expect_err(text);
            assert!(!error.to_string().contains("sesame"), "{error}");
        }
    }

    // protocol rules 75 and 76
    #[test]
    fn rule_75_registries_conf_is_followed() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "one.example/hub"
            insecure = true
            [[registry.mirror]]
            location = "two.example/"
            pull-from-mirror = "tag-only"
            [[registry]]
            prefix = "docker.io/library"
            location = "moved.example/lib"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "three.example"
            [[registry]]
            prefix = "*.corp.example"
            location = "gate.example"
            insecure = true
            [[registry]]
            location = "bad.example"
            blocked = true
        "#;
        let files = parse(Path::new("registries.conf"), text.as_bytes()).expect("valid");
        let mirrors = Mirrors { options: Vec::new(), files };
        assert_eq!(plan(&mirrors, "a/b", true), ["one.example/hub/a/b!", "docker.io/a/b"]);
        assert_eq!(
            plan(&mirrors, "a/b", false),
            ["one.example/hub/a/b!", "two.example/a/b", "docker.io/a/b"]
        );
        assert_eq!(
            plan(&mirrors, "alpine", true),
            ["three.example/alpine", "moved.example/lib/alpine"]
        );
        assert_eq!(plan(&mirrors, "alpine", false), ["moved.example/lib/alpine"]);
        assert_eq!(plan(&mirrors, "x.corp.example:5000/a", false), ["gate.example/a!"]);
        let plan = mirrors.plan(&"bad.example/a".parse().expect("valid"), true).expect("a plan");
        assert_eq!(plan.blocked_by.as_deref(), Some(Path::new("registries.conf")));
    }

    #[test]
    fn broken_settings_are_errors() {
        for text in ["[[registry]", "registry = 1", "[[registry]]\n[[registry.mirror]]\n"] {
            assert!(parse(Path::new("f"), text.as_bytes()).is_err(), "{text}");
        }
        assert!(
            parse(Path::new("f"), b"[registries.search]\nregistries = []")
                .expect("version 1")
                .is_empty()
        );
    }
}
