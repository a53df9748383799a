//! Finding the credential for a repository.
//!
//! The files and their order are those of containers/image and docker, followed by
//! `/etc/skopeo/auth.json`, the only file available in a build sandbox. The default files
//! are read only when a registry asks for a credential, so that a broken file can't break
//! a pull that needs none.

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

use crate::environment::Environment;
use crate::error::{Diagnose, Kind, error_chain};
use crate::fs;
use crate::observer::{Event, Observer};
use crate::oci::reference::Repository;
pub use file::AuthFile;

/// The last default file, and the only one available in a build sandbox.
pub const SANDBOX_FILE: &str = "/etc/skopeo/auth.json";

/// Why the credential to use can't be determined. Errors in a file that the user named
/// are fatal; errors in a default file are only reported as warnings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("failed to read credentials")]
    Read(#[from] fs::Error),
    /// The file is not JSON of the expected shape. The parser's message would quote the
    /// file, so only the position is reported.
    #[error("invalid credentials file `{}`: line {line}, column {column}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The line at which the parser stopped.
        line: usize,
        /// The column at which the parser stopped.
        column: usize,
    },
    /// An entry's `auth` is not the base64 encoding of a user and a password.
    #[error("failed to decode entry `{key}` in `{}`", path.display())]
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
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A credential helper failed. Its output is not shown, because it may be secret.
    #[error("credential helper `{program}` {reason} for `{server}`")]
    Helper {
        /// The program.
        program: String,
        /// The server whose credential it was asked for.
        server: String,
        /// What went wrong.
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
}

/// A secret text. Its `Debug` output doesn't show it.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text itself, to be put into a header or a file.
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

/// A credential of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A user name and a password, for Basic authentication or a token service.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, which only a token service accepts.
    IdentityToken {
        /// The user; empty if unknown.
        user: String,
        /// The token.
        token: Secret,
    },
    /// A bearer token, for the registry itself.
    RegistryToken(Secret),
}

impl Credential {
    /// Returns the user; empty for a registry token.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::IdentityToken { user, .. } => user,
            Self::RegistryToken(_) => "",
        }
    }

    /// Returns the kind of credential, as shown to users.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::IdentityToken { .. } => "identity token",
            Self::RegistryToken(_) => "registry token",
        }
    }

    /// Returns the password or token.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        match self {
            Self::Password { password: secret, .. }
            | Self::IdentityToken { token: secret, .. }
            | Self::RegistryToken(secret) => secret,
        }
    }
}

/// What a caller says of one registry, in place of what files say.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Whether no registry gets a credential.
    pub is_anonymous: bool,
    /// The registry that the rest is for. It doesn't apply to another one.
    pub host: String,
    /// The credential.
    pub credential: Option<Credential>,
    /// A directory of certificates, as in `certs.d` (containers-certs.d(5)).
    pub certificates: Option<PathBuf>,
}

/// Where a credential was found. Contains nothing secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The file; empty if it was given without one.
    pub file: PathBuf,
    /// The key in the file that matched.
    pub key: String,
    /// The helper program that returned it, if any.
    pub helper: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.as_os_str().is_empty() {
            return write!(formatter, "what was given for `{}`", self.key);
        }
        write!(formatter, "key `{}` in `{}`", self.key, self.file.display())?;
        match &self.helper {
            Some(helper) => write!(formatter, ", from `{helper}`"),
            None => Ok(()),
        }
    }
}

/// A credential and where it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Match {
    /// The credential.
    pub credential: Credential,
    /// Where it was found.
    pub origin: Origin,
}

/// The files in which credentials are looked up.
pub struct CredentialStore {
    /// The file that the user named, used instead of all others.
    named: Option<AuthFile>,
    /// What is used instead of all files for one registry.
    given: Given,
    defaults: OnceCell<Vec<AuthFile>>,
    environment: Environment,
    observer: Arc<dyn Observer>,
}

impl CredentialStore {
    /// Opens the file that `named` or else `$REGISTRY_AUTH_FILE` names, which must be
    /// usable. If neither is set, the default files are used.
    pub fn new(
        named: Option<&Path>,
        environment: &Environment,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let environment = environment.clone();
        let variable = environment.path("REGISTRY_AUTH_FILE");
        let named = named.map(Path::to_owned).or(variable).map(|path| AuthFile::read(&path));
        let (named, defaults) = (named.transpose()?, OnceCell::new());
        Ok(Self { named, given: Given::default(), defaults, environment, observer })
    }

    /// The same, except for what is given for one registry.
    #[must_use]
    pub fn with(self, given: Given) -> Self {
        Self { given, ..self }
    }

    /// Returns the first credential for `repository`: files are searched in order, and
    /// within a file the longest key wins.
    pub async fn find(&self, repository: &Repository) -> Result<Option<Match>, Error> {
        if self.given.is_anonymous {
            return Ok(None);
        }
        if repository.host() == self.given.host {
            let (file, key, helper) = (PathBuf::new(), self.given.host.clone(), None);
            let origin = Origin { file, key, helper };
            if let Some(credential) = self.given.credential.clone() {
                return Ok(Some(Match { credential, origin }));
            }
        }
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
        for path in default_files(&self.environment) {
            match AuthFile::read(&path) {
                Ok(file) => files.push(file),
                Err(Error::Read(error)) if error.is_missing() => {}
                Err(error) => self.warn(&error),
            }
        }
        files
    }

    fn warn(&self, error: &Error) {
        let text = format!("{}; continuing without it", error_chain(error));
        self.observer.observe(&Event::Warning(&text));
    }
}

/// Writes credentials into one file that podman, skopeo and n2c can read. Each entry's
/// key is the repository, so that no credential applies to more than was asked for. Only
/// the user can read the file.
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

/// Returns the default files, in the order in which they are searched.
fn default_files(environment: &Environment) -> Vec<PathBuf> {
    let home = environment.path("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    // podman's location depends on whether there is a login session.
    let runtime = match environment.path("XDG_RUNTIME_DIR") {
        Some(directory) => Some(directory.join("containers/auth.json")),
        None => std::fs::metadata("/proc/self")
            .ok()
            .map(|process| format!("/run/containers/{}/auth.json", process.uid()).into()),
    };
    let config = environment.path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = environment.path("DOCKER_CONFIG").or_else(|| below_home(".docker"));
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
