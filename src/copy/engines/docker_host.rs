//! Where docker is: `DOCKER_HOST`, docker's context, or its usual socket
//! (docker `cli/context/store`, `cli/command/cli.go`).

use std::path::PathBuf;

use serde::Deserialize;

use super::error::Error;
use super::ssh::SshHost;
use crate::environment::Environment;
use crate::fs;
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::Digest;

const SOCKET: &str = "/var/run/docker.sock";
const SIZE_LIMIT: u64 = 1 << 20;

/// Where docker is.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum DockerHost {
    Socket(PathBuf),
    /// A host and a port, and the directory of certificates if it speaks TLS.
    Tcp(String, Option<PathBuf>),
    /// Another machine.
    Ssh(SshHost),
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default, rename = "currentContext")]
    context: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
}

impl DockerHost {
    pub(super) fn of(environment: &Environment) -> Result<Self, Error> {
        let certificates = environment
            .get("DOCKER_TLS_VERIFY")
            .or_else(|| environment.get("DOCKER_TLS"))
            .and_then(|_| certificates(environment));
        if let Some(host) = environment.text("DOCKER_HOST") {
            return Self::parse(host, certificates);
        }
        let Some(directory) = directory(environment) else { return Ok(Self::usual()) };
        let named = environment.text("DOCKER_CONTEXT").map(str::to_owned);
        let configured = || {
            let text = fs::read(&directory.join("config.json"), SIZE_LIMIT).ok()?;
            Some(json::parse::<Config>(&text, VALUE_LIMIT).ok()?.context)
        };
        let name = named.or_else(configured).unwrap_or_default();
        if name.is_empty() || name == "default" {
            return Ok(Self::usual());
        }
        let id = Digest::sha256(name.as_bytes());
        let folder = directory.join("contexts");
        let path = folder.join("meta").join(id.hex()).join("meta.json");
        let text = fs::read(&path, SIZE_LIMIT).ok();
        let context = text.and_then(|text| json::parse::<Context>(&text, VALUE_LIMIT).ok());
        let Some(context) = context else { return Err(Error::Context { name, path }) };
        let tls = folder.join("tls").join(id.hex()).join("docker");
        Self::parse(&context.endpoints.docker.host, tls.is_dir().then_some(tls))
    }

    fn usual() -> Self {
        Self::Socket(SOCKET.into())
    }

    fn parse(host: &str, certificates: Option<PathBuf>) -> Result<Self, Error> {
        let error =
            |reason| Err(Error::Host { host: host.escape_default().take(200).collect(), reason });
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Socket(path.into())),
            Some(("unix", _)) => error("the path of a socket is absolute"),
            Some(("tcp" | "http", address)) => {
                let address = address.trim_end_matches('/');
                let is_address = !address.is_empty()
                    && address.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c));
                if is_address {
                    Ok(Self::Tcp(address.to_owned(), certificates))
                } else {
                    error("it is not a host and a port")
                }
            }
            Some(("ssh", place)) => match SshHost::parse(place) {
                Some(host) => Ok(Self::Ssh(host)),
                None => error("it is not a user, a host and a port"),
            },
            _ => error("it is neither `unix://PATH`, `tcp://HOST:PORT` nor `ssh://HOST`"),
        }
    }
}

/// The directory of docker's own settings.
fn directory(environment: &Environment) -> Option<PathBuf> {
    let home = || environment.path("HOME").map(|home| home.join(".docker"));
    environment.path("DOCKER_CONFIG").or_else(home)
}

fn certificates(environment: &Environment) -> Option<PathBuf> {
    environment.path("DOCKER_CERT_PATH").or_else(|| directory(environment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_where_its_own_program_finds_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = directory.path().display().to_string();
        let find = |variables: &[(&str, &str)]| {
            let variables = variables.iter().copied().chain([("HOME", home.as_str())]);
            DockerHost::of(&variables.collect())
        };
        let socket = |path: &str| DockerHost::Socket(path.into());
        assert_eq!(find(&[]).expect("a place"), socket(SOCKET));
        assert_eq!(find(&[("DOCKER_HOST", "unix:///a")]).expect("a place"), socket("/a"));
        let tcp = [("DOCKER_HOST", "tcp://docker:2375")];
        assert_eq!(find(&tcp).expect("a place"), DockerHost::Tcp("docker:2375".into(), None));
        let tls = [tcp[0], ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        let expected = DockerHost::Tcp("docker:2375".into(), Some("/certs".into()));
        assert_eq!(find(&tls).expect("a place"), expected);
        let ssh = find(&[("DOCKER_HOST", "ssh://me@there")]).expect("a place");
        assert_eq!(ssh, DockerHost::Ssh(SshHost::parse("me@there").expect("a host")));
        for host in ["ssh://-there", "tcp://a b", "tcp://", "unix://relative", "fd://", "x"] {
            assert!(find(&[("DOCKER_HOST", host)]).is_err(), "{host}");
        }
        // The context that `docker context use` chose, and one for this run.
        let context = directory.path().join(".docker/contexts/meta");
        for (name, path) in [("desktop", "/desktop.sock"), ("other", "/other.sock")] {
            let folder = context.join(Digest::sha256(name.as_bytes()).hex());
            std::fs::create_dir_all(&folder).expect("made");
            let text = serde_json::json!({
                "Name": name, "Metadata": {},
                "Endpoints": { "docker": { "Host": format!("unix://{path}"), "SkipTLSVerify": false } },
            });
            std::fs::write(folder.join("meta.json"), text.to_string()).expect("written");
        }
        let config = directory.path().join(".docker/config.json");
        std::fs::write(config, "{\"currentContext\":\"desktop\"}").expect("written");
        assert_eq!(find(&[]).expect("a place"), socket("/desktop.sock"));
        let other = find(&[("DOCKER_CONTEXT", "other")]);
        assert_eq!(other.expect("a place"), socket("/other.sock"));
        assert_eq!(find(&[("DOCKER_CONTEXT", "default")]).expect("a place"), socket(SOCKET));
        let missing = find(&[("DOCKER_CONTEXT", "gone")]).expect_err("no such context");
        assert!(missing.to_string().contains("context `gone`"), "{missing}");
        assert_eq!(find(&[("DOCKER_HOST", "unix:///a")]).expect("a place"), socket("/a"));
    }
}
