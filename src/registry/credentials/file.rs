//! A credentials file: docker's `config.json` or containers' `auth.json`, which have the
//! same format (containers-auth.json(5)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use docker_credential::DockerCredential;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Credential, Error, Match, Origin, Secret, helper};
use crate::fs;
use crate::oci::reference::Repository;

/// The key under which docker stores Docker Hub's credential.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// The size limit of a credentials file, in bytes.
const SIZE_LIMIT: u64 = 4 << 20;

/// A parsed credentials file.
pub struct AuthFile {
    path: PathBuf,
    entries: RawFile,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    #[serde(default, deserialize_with = "null_is_empty")]
    auths: BTreeMap<String, Map<String, Value>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl AuthFile {
    /// Reads and parses the file `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &fs::read(path, SIZE_LIMIT)?)
    }

    /// Parses the text of a file. `path` is only used in error messages.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, Error> {
        let shape = |line, column| Error::Shape { path: path.to_owned(), line, column };
        // serde would accept an array as the fields in order.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(shape(1, 1));
        }
        let entries = serde_json::from_slice(text)
            .map_err(|error: serde_json::Error| shape(error.line(), error.column()))?;
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Returns the credential for `repository`.
    ///
    /// The longest key that names the repository, or a parent of it on a path boundary,
    /// wins. For the same key, a helper comes before an entry; `credsStore` comes last.
    /// Entries without a credential, which docker writes when the credential is in a
    /// store, are skipped.
    pub(super) async fn find(&self, repository: &Repository) -> Result<Option<Match>, Error> {
        for scope in scopes(repository) {
            if let Some((key, helper)) = matching(&self.entries.cred_helpers, &scope)
                && !helper.is_empty()
                && let Some(found) = self.ask(helper, key, &servers(&scope)).await?
            {
                return Ok(Some(found));
            }
            if let Some((key, entry)) = matching(&self.entries.auths, &scope)
                && let Some(credential) = self.decode(key, entry)?
            {
                return Ok(Some(self.found(credential, key, None)));
            }
        }
        let host = canonical(repository.host());
        match self.entries.creds_store.as_deref() {
            Some(helper) if !helper.is_empty() => {
                self.ask(helper, "credsStore", &servers(&host)).await
            }
            _ => Ok(None),
        }
    }

    fn found(&self, credential: Credential, key: &str, helper: Option<String>) -> Match {
        let origin = Origin { file: self.path.clone(), key: key.to_owned(), helper };
        Match { credential, origin }
    }

    async fn ask(&self, name: &str, key: &str, servers: &[String]) -> Result<Option<Match>, Error> {
        for server in servers {
            if let Some(credential) = helper::get(name, server).await? {
                return Ok(Some(self.found(credential, key, Some(helper::program(name)))));
            }
        }
        Ok(None)
    }

    fn decode(&self, key: &str, entry: &Map<String, Value>) -> Result<Option<Credential>, Error> {
        let text =
            |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credential::RegistryToken(Secret::new(token.to_owned()))));
        }
        let undecodable = || Error::Entry { path: self.path.clone(), key: key.to_owned() };
        let mut user = text("username").unwrap_or_default().to_owned();
        let mut password = text("password").map(str::to_owned);
        if let Some(auth) = text("auth") {
            // `docker_credential` matches keys by its own rules, so pass it only this entry.
            let alone = json!({ "auths": { key: { "auth": auth } } }).to_string();
            match docker_credential::get_credential_from_reader(alone.as_bytes(), key) {
                Ok(DockerCredential::UsernamePassword(name, secret)) => {
                    user = name;
                    password = Some(secret.trim_end_matches('\0').to_owned());
                }
                _ => return Err(undecodable()),
            }
        }
        if let Some(token) = text("identitytoken") {
            let token = Secret::new(token.to_owned());
            return Ok(Some(Credential::IdentityToken { user, token }));
        }
        match password {
            Some(password) if !user.is_empty() => {
                Ok(Some(Credential::Password { user, password: Secret::new(password) }))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the keys that apply to `repository`: the repository, its parents, and its host.
fn scopes(repository: &Repository) -> Vec<String> {
    let full = format!("{}/{}", canonical(repository.host()), repository.path());
    let mut scopes = vec![full.clone()];
    let mut rest = full.as_str();
    while let Some((parent, _)) = rest.rsplit_once('/') {
        scopes.push(parent.to_owned());
        rest = parent;
    }
    scopes
}

/// Returns the entry whose key means `scope`, preferring the exact spelling.
fn matching<'a, T>(entries: &'a BTreeMap<String, T>, scope: &str) -> Option<(&'a str, &'a T)> {
    let exact = entries.get_key_value(scope);
    let found = exact.or_else(|| entries.iter().find(|(key, _)| canonical_key(key) == scope));
    found.map(|(key, value)| (key.as_str(), value))
}

/// Normalises the spelling of a host: Docker Hub has several names, and case is ignored.
fn canonical(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Normalises a key like a host. Keys with a scheme are written by docker and only name a
/// host: their path belongs to the API.
fn canonical_key(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = match (bare, key.split_once('/')) {
        (Some(bare), _) => (bare.split('/').next().unwrap_or_default(), ""),
        (None, Some((host, path))) => (host, path.trim_end_matches('/')),
        (None, None) => (key, ""),
    };
    let host = canonical(host);
    // Docker Hub's key without the scheme.
    let path = if host == "docker.io" && path == "v1" { "" } else { path };
    if path.is_empty() { host } else { format!("{host}/{path}") }
}

/// Returns the names under which a helper may know a scope. docker stores Docker Hub's
/// credential under a URL, containers/image under its name.
fn servers(scope: &str) -> Vec<String> {
    if scope == "docker.io" {
        vec![HUB_SERVER.to_owned(), scope.to_owned()]
    } else {
        vec![scope.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    fn auth(text: &str) -> String {
        STANDARD.encode(text)
    }

    /// Returns the user that `file` has for `repository`.
    fn user(file: &Value, repository: &str) -> Option<String> {
        let file =
            AuthFile::parse(Path::new("auth.json"), file.to_string().as_bytes()).expect("a file");
        let repository = repository.parse().expect("a repository");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let found = runtime.block_on(file.find(&repository)).expect("no error");
        found.map(|found| found.credential.user().to_owned())
    }

    // protocol rule 23
    #[test]
    fn rule_23_the_longest_key_wins_on_path_boundaries() {
        let file = json!({ "auths": {
            "reg.io": { "auth": auth("host:p") },
            "reg.io/a": { "auth": auth("a:p") },
            "reg.io/a/b": { "auth": auth("ab:p") },
            "reg.io/foo": { "auth": auth("foo:p") },
            "other.io/x/y": { "auth": auth("xy:p") },
        }});
        for (repository, expected) in [
            ("reg.io/a/b", Some("ab")),
            ("reg.io/a/b/c", Some("ab")),
            ("reg.io/a/c", Some("a")),
            ("reg.io/foobar", Some("host")),
            ("reg.io/foo", Some("foo")),
            ("REG.IO/a", Some("a")),
            ("reg.io:443/a", None),
            ("other.io/x", None),
            ("other.io/x/y/z", Some("xy")),
            ("alpine", None),
        ] {
            assert_eq!(user(&file, repository).as_deref(), expected, "{repository}");
        }
    }

    #[test]
    fn rule_23_docker_hub_is_one_registry() {
        let keys = [
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
            "https://index.docker.io/v1/",
            "index.docker.io/v1/",
        ];
        for key in keys {
            let file = json!({ "auths": { key: { "auth": auth("bob:p") } } });
            for repository in [
                "alpine",
                "docker.io/library/alpine",
                "index.docker.io/a/b",
                "registry-1.docker.io/a/b",
            ] {
                assert_eq!(
                    user(&file, repository).as_deref(),
                    Some("bob"),
                    "{key} for {repository}"
                );
            }
            assert_eq!(user(&file, "ghcr.io/a/b"), None);
        }
    }

    // protocol rule 24
    #[test]
    fn rule_24_all_forms_of_an_entry_are_read() {
        let file = |entry: Value| {
            AuthFile::parse(
                Path::new("f"),
                json!({ "auths": { "h.io": entry } }).to_string().as_bytes(),
            )
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let find = |entry: Value| {
            let repository = "h.io/a".parse().expect("a repository");
            let found = runtime.block_on(file(entry).expect("a file").find(&repository));
            found.map(|found| found.map(|found| found.credential))
        };
        let password = |user: &str, password: &str| {
            Some(Credential::Password {
                user: user.to_owned(),
                password: Secret::new(password.to_owned()),
            })
        };
        let token = |user: &str| {
            Some(Credential::IdentityToken {
                user: user.to_owned(),
                token: Secret::new("t".to_owned()),
            })
        };
        assert_eq!(find(json!({ "auth": auth("u:p:q\0\0") })).ok(), Some(password("u", "p:q")));
        assert_eq!(
            find(json!({ "username": "u", "password": "p" })).ok(),
            Some(password("u", "p"))
        );
        assert_eq!(
            find(json!({ "auth": auth("u:"), "identitytoken": "t" })).ok(),
            Some(token("u"))
        );
        assert_eq!(find(json!({ "identitytoken": "t" })).ok(), Some(token("")));
        let registry_token = Some(Credential::RegistryToken(Secret::new("t".to_owned())));
        assert_eq!(find(json!({ "registrytoken": "t" })).ok(), Some(registry_token));
        assert_eq!(find(json!({})).ok(), Some(None));
        assert_eq!(find(json!({ "auth": "" })).ok(), Some(None));
        for broken in ["!", "dXNlcg=="] {
            assert!(
                matches!(find(json!({ "auth": broken })), Err(Error::Entry { .. })),
                "{broken}"
            );
        }
    }

    #[test]
    fn an_empty_entry_leaves_it_to_a_shorter_key() {
        let file = json!({ "auths": { "h.io/a": {}, "h.io": { "auth": auth("host:p") } } });
        assert_eq!(user(&file, "h.io/a").as_deref(), Some("host"));
    }

    #[test]
    fn what_is_no_file_of_credentials_is_refused() {
        for text in ["", "[]", "{\"auths\":[]}", "{\"auths\":{\"a\":1}}", "<html>"] {
            assert!(AuthFile::parse(Path::new("f"), text.as_bytes()).is_err(), "{text}");
        }
        for text in ["{}", "{\"auths\":null}", "{\"auths\":{},\"HttpHeaders\":{}}"] {
            assert!(AuthFile::parse(Path::new("f"), text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_in_a_debug_print() {
        let file = json!({ "auths": { "h.io": { "username": "u", "password": "sesame" } } });
        let file = AuthFile::parse(Path::new("f"), file.to_string().as_bytes()).expect("a file");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let repository = "h.io/a".parse().expect("a repository");
        let found = runtime.block_on(file.find(&repository)).expect("no error");
        assert!(!format!("{found:?}").contains("sesame"));
    }
}
