//! docker, by its API (Docker Engine API, "Images").

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, TryStreamExt as _};
use hyper::body::Frame;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use sync_wrapper::SyncWrapper;

use super::archive::PartialArchive;
use super::docker_host::DockerHost;
use super::error::{Error, message};
use super::ssh::Bridge;
use crate::environment::Environment;
use crate::formats::docker_archive::Name;
use crate::json::{self, VALUE_LIMIT};
use crate::oci::digest::Digest;
use crate::oci::image::Image;
use crate::registry::docker_tls;
use crate::stream::readable::ByteStream;

/// How long to wait for a connection, and for an answer to a question.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes of an answer are read.
const ANSWER_LIMIT: usize = 64 << 20;
/// How many images are asked for their layers.
const IMAGES: usize = 500;
/// How many of them at once.
const AT_ONCE: usize = 8;

pub(super) struct Docker {
    client: reqwest::Client,
    /// The beginning of URLs.
    root: String,
    /// The place, for errors.
    host: String,
    /// Whether it keeps images in containerd's store, which knows layers one by one.
    has_containerd_store: bool,
    /// The way to another machine, as long as this exists.
    _bridge: Option<Bridge>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(rename = "RootFS")]
    root: RootFs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<Digest>>,
}

impl Docker {
    pub(super) async fn connect(environment: &Environment) -> Result<Self, Error> {
        let place = DockerHost::of(environment)?;
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(TIMEOUT);
        let mut bridge = None;
        let (builder, root, host) = match place {
            DockerHost::Ssh(host) => {
                let builder = builder.tls_backend_preconfigured(docker_tls(None)?);
                let name = host.host.clone();
                let bridge = bridge.insert(Bridge::start(host)?);
                (builder.unix_socket(bridge.path()), "http://docker".to_owned(), name)
            }
            DockerHost::Socket(path) => {
                let builder = builder.tls_backend_preconfigured(docker_tls(None)?);
                let host = path.display().to_string();
                (builder.unix_socket(path), "http://docker".to_owned(), host)
            }
            DockerHost::Tcp(address, certificates) => {
                let scheme = if certificates.is_some() { "https" } else { "http" };
                let config = docker_tls(certificates.as_deref())?;
                let builder = builder.tls_backend_preconfigured(config);
                (builder, format!("{scheme}://{address}"), address)
            }
        };
        let client = builder.build().map_err(|source| unreachable(&host, source))?;
        let has_containerd_store = false;
        let docker = Self { client, root, host, has_containerd_store, _bridge: bridge };
        let info: Option<Info> = docker.get("say what it is", "/info").await?;
        let status = info.and_then(|info| info.driver_status).unwrap_or_default();
        let is_containerd = |pair: &Vec<String>| {
            pair.iter().any(|text| text.starts_with("io.containerd.snapshotter"))
        };
        let has_containerd_store = status.iter().any(is_containerd);
        Ok(Self { has_containerd_store, ..docker })
    }

    async fn request(
        &self,
        task: &'static str,
        method: Method,
        path: &str,
    ) -> Result<Response, Error> {
        let request = self.client.request(method, format!("{}{path}", self.root));
        let response = request.timeout(TIMEOUT).send().await;
        let response = response.map_err(|source| unreachable(&self.host, source))?;
        if response.status().is_success() || response.status() == StatusCode::NOT_FOUND {
            return Ok(response);
        }
        Err(self.refusal(task, response).await)
    }

    async fn refusal(&self, task: &'static str, response: Response) -> Error {
        let status = response.status();
        let text = self.text(response).await.unwrap_or_default();
        let said = serde_json::from_str::<Value>(&text).ok();
        let said = said.and_then(|said| Some(said.get("message")?.as_str()?.to_owned()));
        let message = format!("{} (HTTP {status})", message(&said.unwrap_or(text)));
        Error::Failed { engine: "docker", task, message }
    }

    async fn text(&self, mut response: Response) -> Result<String, Error> {
        let mut bytes = Vec::new();
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|source| unreachable(&self.host, source))?;
            match chunk {
                Some(chunk) if bytes.len() < ANSWER_LIMIT => bytes.extend_from_slice(&chunk),
                _ => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            }
        }
    }

    /// Asks for a document. `None` if there is none.
    async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        task: &'static str,
        path: &str,
    ) -> Result<Option<T>, Error> {
        let response = self.request(task, Method::GET, path).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = self.text(response).await?;
        let parsed = json::parse(text.as_bytes(), VALUE_LIMIT);
        parsed.map(Some).map_err(|error| {
            let message = format!("its answer can't be read: {error}");
            Error::Failed { engine: "docker", task, message }
        })
    }

    /// What docker calls an image: the digest of its config, or of its manifest.
    fn id<'a>(&self, image: &'a Image) -> &'a Digest {
        let (manifest, config) = (image.manifest().raw(), image.config().raw());
        if self.has_containerd_store { manifest.digest() } else { config.digest() }
    }

    pub(super) async fn has_image(&self, image: &Image) -> Result<bool, Error> {
        let path = format!("/images/{}/json", self.id(image));
        let found: Option<Inspected> = self.get("look for the image", &path).await?;
        Ok(found.is_some())
    }

    /// Layers that needn't be sent. docker's own drivers know them by all that is below, so
    /// only the longest common beginning counts.
    pub(super) async fn layers_of(&self, image: &Image) -> Result<HashSet<Digest>, Error> {
        let task = "list its images";
        let listed: Option<Vec<Listed>> = self.get(task, "/images/json").await?;
        let ids = listed.unwrap_or_default().into_iter().take(IMAGES);
        let inspected: Vec<Option<Inspected>> = stream::iter(ids)
            .map(|listed| async move {
                let id = utf8_percent_encode(&listed.id, NON_ALPHANUMERIC);
                self.get(task, &format!("/images/{id}/json")).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let all = inspected.into_iter().flatten().filter_map(|image| image.root.layers);
        let (own, mut longest, mut known) = (image.config().diff_ids(), 0, HashSet::new());
        for layers in all {
            longest = longest.max(own.iter().zip(&layers).take_while(|(a, b)| a == b).count());
            known.extend(layers);
        }
        let layers = image.manifest().layers();
        if self.has_containerd_store {
            let pairs = layers.iter().zip(own);
            let there = pairs.filter(|(_, diff_id)| known.contains(diff_id));
            return Ok(there.map(|(layer, _)| layer.digest.clone()).collect());
        }
        // One that occurs once more further up is needed there.
        let (below, above) = layers.split_at(longest.min(layers.len()));
        let is_free = |digest: &&Digest| above.iter().all(|layer| layer.digest != **digest);
        Ok(below.iter().map(|layer| &layer.digest).filter(is_free).cloned().collect())
    }

    pub(super) async fn load(&self, archive: PartialArchive) -> Result<(), Error> {
        let task = "load the image";
        let body = reqwest::Body::wrap(ArchiveBody(SyncWrapper::new(archive.into_stream())));
        let request = self.client.post(format!("{}/images/load?quiet=1", self.root));
        let request = request.header("content-type", "application/x-tar").body(body);
        let response = request.send().await.map_err(|source| unreachable(&self.host, source))?;
        if !response.status().is_success() {
            let Error::Failed { message, .. } = self.refusal(task, response).await else {
                return Err(Error::Refused { engine: "docker", message: "no message".to_owned() });
            };
            return Err(Error::Refused { engine: "docker", message });
        }
        // Whatever the status says, an error is in one of the lines that follow.
        let text = self.text(response).await?;
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let said = line.get("error").or_else(|| line.get("errorDetail")?.get("message"));
            let shown = line.get("stream").and_then(Value::as_str).unwrap_or_default();
            let failed = shown.contains("Error unpacking image")
                || shown.contains("doesn't provide the requested platform");
            if said.is_some() || failed {
                let text = said.and_then(Value::as_str).unwrap_or(shown);
                return Err(Error::Refused { engine: "docker", message: message(text) });
            }
        }
        Ok(())
    }

    pub(super) async fn name(&self, image: &Image, names: &[Name]) -> Result<(), Error> {
        let task = "tag the image";
        for name in names {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let (repository, tag) = (encode(&name.repository().to_string()), encode(name.tag()));
            let path = format!("/images/{}/tag?repo={repository}&tag={tag}", self.id(image));
            let response = self.request(task, Method::POST, &path).await?;
            if response.status() == StatusCode::NOT_FOUND {
                // It was loaded, but not as this image.
                let Error::Failed { message, .. } = self.refusal(task, response).await else {
                    return Ok(());
                };
                return Err(Error::Refused { engine: "docker", message });
            }
        }
        Ok(())
    }
}

/// An archive on its way.
struct ArchiveBody(SyncWrapper<ByteStream>);

impl hyper::body::Body for ArchiveBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.0.get_mut().as_mut().poll_next(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}

fn unreachable(host: &str, source: reqwest::Error) -> Error {
    Error::Unreachable { host: host.to_owned(), source: Box::new(source.without_url()) }
}
