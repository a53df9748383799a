//! The HTTP clients: one per kind of server, each with its own connection pool.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use url::Url;

use super::cause::Cause;
use super::origin;
use super::origin::host_of;
use super::proxy;
use super::tls::{self, TlsOptions};
use crate::environment::Environment;
use crate::registry::error::Error;
use crate::registry::secrets::Secrets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The size limit of a response's headers over HTTP/2, in bytes.
const HEADERS_LIMIT: u32 = 64 << 10;

/// Whether a request shares its connection with others.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::registry) enum Lane {
    /// Shared with other small requests, over HTTP/2 if the server speaks it.
    Shared,
    /// Exclusive, over HTTP/1.1. All requests on an HTTP/2 connection together receive at
    /// most one flow-control window of bytes per round trip.
    Own,
    /// As `Own`, and nothing is read while a long body is sent.
    Upload,
}

/// How a server's certificate is verified.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Trust {
    verified: bool,
    /// The host, if it has its own certificate directory.
    own_certificates: Option<String>,
}

/// The kind of client that a server needs. A proxy is never used for loopback.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ClientKind {
    local: bool,
    uploads: bool,
    /// For TLS: the protocol, and which certificates to trust.
    encrypted: Option<(Lane, Trust)>,
}

/// All clients of a run.
pub(in crate::registry) struct Clients {
    tls: TlsOptions,
    read_timeout: Duration,
    secrets: Arc<Secrets>,
    /// Hosts whose certificates are not verified, as `host[:port]`.
    insecure_hosts: Mutex<HashSet<String>>,
    made: Mutex<HashMap<ClientKind, reqwest::Client>>,
    configs: Mutex<HashMap<Trust, ClientConfig>>,
    /// The certificate directory of each host looked up so far, if it has one.
    own_certificates: Mutex<HashMap<String, Option<PathBuf>>>,
    /// Hosts that negotiated HTTP/2 and then failed to speak it.
    without_http2: Mutex<HashSet<String>>,
}

impl Clients {
    pub(in crate::registry) fn new(
        tls: TlsOptions,
        read_timeout: Duration,
        secrets: Arc<Secrets>,
    ) -> Self {
        Self {
            tls,
            read_timeout,
            secrets,
            insecure_hosts: Mutex::default(),
            made: Mutex::default(),
            configs: Mutex::default(),
            own_certificates: Mutex::default(),
            without_http2: Mutex::default(),
        }
    }

    /// Returns the variables that say which proxies there are.
    pub(in crate::registry) const fn environment(&self) -> &Environment {
        &self.tls.environment
    }

    /// Returns the secrets that no message may contain.
    pub(in crate::registry) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Uses HTTP/1.1 for `host` from now on.
    pub(in crate::registry) fn avoid_http2(&self, host: String) {
        self.without_http2.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
    }

    /// Stops verifying the certificate of `host`.
    pub(in crate::registry) fn allow_insecure(&self, host: &str) {
        let mut hosts = self.insecure_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(canonical(host));
    }

    /// Whether the certificate of `host` is verified.
    pub(in crate::registry) fn is_verified(&self, host: &str) -> bool {
        let hosts = self.insecure_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        !self.tls.insecure && !hosts.contains(&canonical(host))
    }

    /// Returns the client for a server, which is created on first use.
    pub(in crate::registry) fn get(&self, url: &Url, lane: Lane) -> Result<reqwest::Client, Error> {
        let host = host_of(url);
        let encrypted = (url.scheme() == "https").then(|| {
            let verified = self.is_verified(&host);
            let own_certificates = self.own_certificates(&host).map(|_| host.clone());
            let without_http2 = self.without_http2.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = if lane == Lane::Shared && without_http2.contains(&host) {
                Lane::Own
            } else {
                lane
            };
            (lane, Trust { verified, own_certificates })
        });
        let uploads = lane == Lane::Upload;
        let kind = ClientKind { local: origin::is_loopback(url), uploads, encrypted };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&kind) {
            return Ok(client.clone());
        }
        let client = self.build(&kind)?;
        made.insert(kind, client.clone());
        Ok(client)
    }

    fn build(&self, kind: &ClientKind) -> Result<reqwest::Client, Error> {
        let config = match &kind.encrypted {
            Some((lane, trust)) => {
                let protocols: &[&[u8]] = match lane {
                    Lane::Shared => &[b"h2", b"http/1.1"],
                    Lane::Own | Lane::Upload => &[b"http/1.1"],
                };
                let mut config = self.config(trust)?;
                config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
                config
            }
            None => tls::unused()?,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(concat!("n2c/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by `Http`, which decides about credentials at each step.
            .redirect(reqwest::redirect::Policy::none())
            .http2_max_header_list_size(HEADERS_LIMIT)
            .connect_timeout(CONNECT_TIMEOUT);
        if !kind.uploads {
            builder = builder.read_timeout(self.read_timeout);
        }
        // Turn off the library's own reading of proxy variables.
        builder = builder.no_proxy();
        if !kind.local {
            for proxy in proxy::of_environment(self.environment(), &self.secrets)? {
                builder = builder.proxy(proxy);
            }
        }
        builder.build().map_err(|error| Error::Setup(Cause::from(error)))
    }

    /// Returns the TLS configuration for `trust`, which is built only once: reading the
    /// system's certificates takes longer than anything else at startup.
    fn config(&self, trust: &Trust) -> Result<ClientConfig, Error> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(trust) {
            return Ok(config.clone());
        }
        let own = trust.own_certificates.as_ref().and_then(|host| self.own_certificates(host));
        let config = self.tls.config(trust.verified, own.as_deref())?;
        configs.insert(trust.clone(), config.clone());
        Ok(config)
    }

    /// Returns the certificate directory of `host`, which is looked up only once.
    fn own_certificates(&self, host: &str) -> Option<PathBuf> {
        let mut known = self.own_certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let look = || self.tls.own_certificates(host);
        known.entry(host.to_owned()).or_insert_with(look).clone()
    }
}

/// Converts a registry's name to the host that its URLs have.
fn canonical(host: &str) -> String {
    let host = origin::dial_host(host).to_ascii_lowercase();
    host.strip_suffix(":443").unwrap_or(&host).to_owned()
}
