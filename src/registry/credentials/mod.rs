//! Which credential is for a repository, and where it stands.
//!
//! The files and their order are those of containers/image and docker, and
//! last `/etc/skopeo/auth.json`, the only one that there is in a build sandbox.
//! They are read when a registry asks for a credential, not before, so that
//! nothing in them can disturb a pull that needs none.

pub(super) mod authorization;
mod file;
mod helper;

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::error::{Diagnose, Kind, error_chain};
use crate::fs;
use crate::observer::{Event, Observer};
use crate::oci::reference::Repository;
pub use file::AuthFile;

/// The last of the default files, and the only one in a build sandbox.
pub const SANDBOX_FILE: &str = "/etc/skopeo/auth.json";

/// Why there is no telling which credential to use. The default files' errors
/// are warnings; these are errors where the user named the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("failed to read credentials")]
    Read(#[from] fs::Error),
    /// The file is not JSON of the right shape.
    /// What the parser says would quote the file, so only the place is told.
    #[error("invalid credentials file `{}`: line {line}, column {column}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where the parser stopped.
        line: usize,
        /// Where the parser stopped.
        column: usize,
    },
    /// An entry holds neither user and password nor a token.
    #[error("the entry `{key}` in `{}` can't be decoded", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        key: String,
    },
    /// A credential helper can't be started.
    #[error("failed to run credential helper `{program}`")]
    HelperStart {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A credential helper failed. What it printed may be secret.
    #[error("credential helper `{program}` {reason} for `{server}`")]
    Helper {
        /// The program.
        program: String,
        /// What it was asked for.
        server: String,
        /// What it did.
        reason: String,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::HelperStart { .. } | Self::Helper { .. } => Kind::Denied,
            _ => Kind::Other,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::HelperStart { .. } | Self::Helper { .. } => {
                "log in again, or name another file with `--authfile`".to_owned()
            }
            _ => "write it with `docker login`, or name another file with `--authfile`".to_owned(),
        })
    }
}

/// Text that is never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for a header or a file.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// What proves who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// For Basic authentication, or for a token service.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, for a token service alone.
    IdentityToken {
        /// The user, where one is known.
        user: String,
        /// The token.
        token: Secret,
    },
    /// A bearer token, for the registry itself.
    RegistryToken(Secret),
}

impl Credential {
    /// The user it is for; empty for a bearer token.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::IdentityToken { user, .. } => user,
            Self::RegistryToken(_) => "",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::IdentityToken { .. } => "identity token",
            Self::RegistryToken(_) => "registry token",
        }
    }

    /// The secret in it.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        match self {
            Self::Password { password: secret, .. }
            | Self::IdentityToken { token: secret, .. }
            | Self::RegistryToken(secret) => secret,
        }
    }
}

/// Where a credential stands; nothing of it is secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The key in the file that matched.
    pub key: String,
    /// The helper program that gave it, where one did.
    pub helper: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "key `{}` in `{}`", self.key, self.file.display())?;
        match &self.helper {
            Some(helper) => write!(formatter, ", from `{helper}`"),
            None => Ok(()),
        }
    }
}

/// A credential and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The credential.
    pub credential: Credential,
    /// Where it stands.
    pub origin: Origin,
}

/// The files that credentials are looked for in.
pub struct CredentialStore {
    /// The one that the user named, instead of all others.
    named: Option<AuthFile>,
    defaults: OnceCell<Vec<AuthFile>>,
    observer: Arc<dyn Observer>,
}

impl CredentialStore {
    /// The file that `named` or `$REGISTRY_AUTH_FILE` names, which must be
    /// usable, or else the default files.
    pub fn new(named: Option<&Path>, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        let variable = variable("REGISTRY_AUTH_FILE");
        let named = named.map(Path::to_owned).or(variable).map(|path| AuthFile::read(&path));
        Ok(Self { named: named.transpose()?, defaults: OnceCell::new(), observer })
    }

    /// The first credential for `repository`: by the order of the files, and in
    /// a file by the longest key.
    pub async fn find(&self, repository: &Repository) -> Result<Option<Found>, Error> {
        if let Some(file) = &self.named {
            return file.find(repository).await;
        }
        let files = self.defaults.get_or_init(async || self.read_defaults()).await;
        for file in files {
            match file.find(repository).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => self.warn(&error),
            }
        }
        Ok(None)
    }

    fn read_defaults(&self) -> Vec<AuthFile> {
        let mut files = Vec::new();
        for path in default_files() {
            match AuthFile::read(&path) {
                Ok(file) => files.push(file),
                Err(Error::Read(error)) if error.is_missing() => {}
                Err(error) => self.warn(&error),
            }
        }
        files
    }

    fn warn(&self, error: &Error) {
        let text = format!("{}; going on without it", error_chain(error));
        self.observer.observe(&Event::Warning(&text));
    }
}

/// Writes credentials into one file that podman, skopeo and n2c read, each
/// under its repository, so that none serves for more than it was asked for.
/// Nobody but the user can read the file.
pub fn export(found: &[(Repository, Credential)], path: &Path) -> Result<(), fs::Error> {
    let entries: Map<String, Value> = found
        .iter()
        .map(|(repository, credential)| (repository.to_string(), entry(credential)))
        .collect();
    let text = format!("{:#}\n", json!({ "auths": entries }));
    fs::write_private(path, text.as_bytes())
}

fn entry(credential: &Credential) -> Value {
    let auth = |user: &str, password: &str| STANDARD.encode(format!("{user}:{password}"));
    match credential {
        Credential::Password { user, password } => json!({ "auth": auth(user, password.expose()) }),
        Credential::IdentityToken { user, token } => {
            json!({ "auth": auth(user, ""), "identitytoken": token.expose() })
        }
        Credential::RegistryToken(token) => json!({ "registrytoken": token.expose() }),
    }
}

/// A variable that holds a path. An empty one is unset: that is how variables
/// arrive in a build sandbox.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The default files, in the order in which they are looked into.
fn default_files() -> Vec<PathBuf> {
    let home = variable("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    // Where podman writes depends on whether there is a session.
    let runtime = match variable("XDG_RUNTIME_DIR") {
        Some(directory) => Some(directory.join("containers/auth.json")),
        None => std::fs::metadata("/proc/self")
            .ok()
            .map(|process| format!("/run/containers/{}/auth.json", process.uid()).into()),
    };
    let config = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    [
        runtime,
        config.map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
        Some(PathBuf::from(SANDBOX_FILE)),
    ]
    .into_iter()
    .flatten()
    .collect()
}
