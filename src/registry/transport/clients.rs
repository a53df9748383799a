//! The HTTP clients: one for each kind of server, which keeps its connections.

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
use crate::registry::error::Error;
use crate::registry::secrets::Secrets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the headers of an answer may be over HTTP/2, in bytes.
const HEADERS_LIMIT: u32 = 64 << 10;

/// What a request shares its connection with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::registry) enum Lane {
    /// With other small ones: HTTP/2, where the server speaks it.
    Shared,
    /// With nothing at the same time: HTTP/1.1. One connection of HTTP/2 takes no
    /// more than a window of bytes in each round trip, whatever is asked for on it.
    Own,
}

/// How a server is verified.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Trust {
    verified: bool,
    /// The host, where it has certificates of its own.
    own_certificates: Option<String>,
}

/// Which client a server needs. A proxy is never used for this machine.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ClientKind {
    local: bool,
    /// With TLS, which protocol, and whom to trust.
    encrypted: Option<(Lane, Trust)>,
}

/// All clients of a run.
pub(in crate::registry) struct Clients {
    tls: TlsOptions,
    read_timeout: Duration,
    secrets: Arc<Secrets>,
    /// Hosts whose certificates do not matter, as `host[:port]`.
    insecure_hosts: Mutex<HashSet<String>>,
    made: Mutex<HashMap<ClientKind, reqwest::Client>>,
    configs: Mutex<HashMap<Trust, ClientConfig>>,
    /// The directory with certificates for each host that was looked for.
    own_certificates: Mutex<HashMap<String, Option<PathBuf>>>,
    /// Hosts that agreed to HTTP/2, and failed at it.
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

    /// What no message may repeat.
    pub(in crate::registry) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// From now on `host` is spoken to by HTTP/1.1.
    pub(in crate::registry) fn avoid_http2(&self, host: String) {
        self.without_http2.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
    }

    /// From now on the certificate of `host` does not matter.
    pub(in crate::registry) fn allow_insecure(&self, host: &str) {
        let mut hosts = self.insecure_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(canonical(host));
    }

    /// Whether the certificate of `host` matters.
    pub(in crate::registry) fn is_verified(&self, host: &str) -> bool {
        let hosts = self.insecure_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        !self.tls.insecure && !hosts.contains(&canonical(host))
    }

    /// The client for a server, made when it is first needed.
    pub(in crate::registry) fn get(&self, url: &Url, lane: Lane) -> Result<reqwest::Client, Error> {
        let host = host_of(url);
        let encrypted = (url.scheme() == "https").then(|| {
            let verified = self.is_verified(&host);
            let own_certificates = self.own_certificates(&host).map(|_| host.clone());
            let without_http2 = self.without_http2.lock().unwrap_or_else(PoisonError::into_inner);
            let lane = if without_http2.contains(&host) { Lane::Own } else { lane };
            (lane, Trust { verified, own_certificates })
        });
        let kind = ClientKind { local: origin::is_loopback(url), encrypted };
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
                    Lane::Own => &[b"http/1.1"],
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
            // Redirects are followed where credentials are watched.
            .redirect(reqwest::redirect::Policy::none())
            .http2_max_header_list_size(HEADERS_LIMIT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(self.read_timeout);
        // Without the library's own reading of the environment.
        builder = builder.no_proxy();
        if !kind.local {
            for proxy in proxy::of_environment(&self.secrets)? {
                builder = builder.proxy(proxy);
            }
        }
        builder.build().map_err(|error| Error::Setup(Cause::from(error)))
    }

    /// Whom to trust, read once: the system's certificates take longer than all
    /// else at the start.
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

    /// The directory with certificates for `host`, which is looked for once.
    fn own_certificates(&self, host: &str) -> Option<PathBuf> {
        let mut known = self.own_certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let look = || TlsOptions::own_certificates(host);
        known.entry(host.to_owned()).or_insert_with(look).clone()
    }
}

/// A registry's name as a URL of it has its host.
fn canonical(host: &str) -> String {
    let host = origin::dial_host(host).to_ascii_lowercase();
    host.strip_suffix(":443").unwrap_or(&host).to_owned()
}
