//! A registry on a loopback port, which answers as the program's own registry does. It
//! records the requests, lets tests override its answers, and lies where it is told to.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use n2c::oci::digest::{Digest, Verified};
use n2c::serve::{Answer, Catalog};
use tokio::sync::oneshot;

use super::images::{Blob, Image};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: ReplyBody,
}

pub enum ReplyBody {
    Whole(Bytes),
    /// These bytes, and then the connection is closed.
    Broken(Bytes),
    /// These pieces, generated when needed. If `broken`, the connection is closed
    /// after them.
    Pieces {
        pieces: Box<dyn Iterator<Item = Bytes> + Send + Sync>,
        broken: bool,
    },
    /// These bytes, and then nothing for a long time.
    Stalled(Bytes),
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: ReplyBody::Whole(body.into()) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An endless body that repeats these bytes.
    pub fn endless(bytes: impl Into<Bytes>) -> Self {
        let pieces = Box::new(std::iter::repeat(bytes.into()));
        Self { status: 200, headers: Vec::new(), body: ReplyBody::Pieces { pieces, broken: false } }
    }

    /// These bytes, with a `Content-Length` of `announced`; then the connection is closed.
    pub fn broken(status: u16, bytes: impl Into<Bytes>, announced: usize) -> Self {
        let body = ReplyBody::Broken(bytes.into());
        Self { status, headers: Vec::new(), body }.with("content-length", announced.to_string())
    }

    /// An error in the format of registries.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
        Self::new(status, body.to_string()).with("content-type", "application/json")
    }

    fn into_response(self) -> Response<BoxBody<Bytes, io::Error>> {
        let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let body = match self.body {
            ReplyBody::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
            ReplyBody::Broken(bytes) => {
                let frames = [Ok(Frame::data(bytes)), Err(broken())];
                // Without a pause, the client may never see the head of the response.
                let slowly = stream::iter(frames).then(|frame| async {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    frame
                });
                BodyExt::boxed(StreamBody::new(slowly))
            }
            ReplyBody::Pieces { pieces, broken: is_broken } => {
                let end = is_broken.then(|| Err(broken()));
                let frames = pieces.map(|piece| Ok(Frame::data(piece))).chain(end);
                BodyExt::boxed(StreamBody::new(stream::iter(frames)))
            }
            ReplyBody::Stalled(bytes) => {
                let first = stream::iter([Ok(Frame::data(bytes))]);
                BodyExt::boxed(StreamBody::new(first.chain(stream::pending())))
            }
        };
        response.body(body).expect("the test's headers are valid")
    }
}

/// Answers instead of the registry if it returns a reply.
type Hook = Arc<dyn Fn(&Call) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct State {
    catalog: Catalog,
    /// Blobs, which are in every repository.
    blobs: HashMap<String, Bytes>,
    /// Manifests under digests that are not theirs.
    lies: HashMap<String, Blob>,
    calls: Vec<Call>,
    hook: Option<Hook>,
    wants_token: bool,
}

/// A running registry. It stops when it is dropped.
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be asynchronous");
        let address = listener.local_addr().expect("a bound address");
        let (stop, stopped) = oneshot::channel();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = serve(listener, shared, address) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A reference to `name` in this registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Serves a manifest or an index, by digest and by tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, manifest: &Blob) {
        let mut state = self.state.lock().expect("no test panicked in here");
        let raw = Verified::as_found(manifest.bytes.clone());
        if tag.parse::<Digest>().is_ok_and(|digest| digest != *raw.digest()) {
            state.lies.insert(format!("{repository}:{tag}"), manifest.clone());
        }
        let added = state.catalog.add_document(repository, Some(tag), &manifest.media_type, raw);
        added.expect("a valid name");
    }

    /// Serves a blob, in every repository.
    pub fn put_blob(&self, blob: &Blob) {
        let mut state = self.state.lock().expect("no test panicked in here");
        state.blobs.insert(blob.digest().to_string(), blob.bytes.clone().into());
    }

    /// Serves an image with its config and layers.
    pub fn put_image(&self, repository: &str, tag: &str, image: &Image) {
        self.put_manifest(repository, tag, &image.manifest);
        self.put_blob(&image.config);
        image.layers.iter().for_each(|layer| self.put_blob(layer));
    }

    /// Requires a bearer token from now on.
    pub fn want_token(&self) {
        self.state.lock().expect("no test panicked in here").wants_token = true;
    }

    /// Lets `hook` answer first.
    pub fn hook(&self, hook: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) {
        self.state.lock().expect("no test panicked in here").hook = Some(Arc::new(hook));
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().expect("no test panicked in here").calls.clone()
    }

    /// All requests so far, as `METHOD /path`.
    pub fn log(&self) -> Vec<String> {
        self.calls().iter().map(|call| format!("{} {}", call.method, call.target)).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>, address: SocketAddr) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((connection, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(async |request: Request<Incoming>| {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (method, target) = (head.method, head.uri.to_string());
                let call = Call { method, target, headers: head.headers, body };
                Ok::<_, hyper::Error>(answer(&state, &call, address))
            });
            // A client may hang up at any time.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .await;
        });
    }
}

fn answer(state: &Mutex<State>, call: &Call, address: SocketAddr) -> Answer {
    let (hook, wants_token) = {
        let mut state = state.lock().expect("no test panicked in here");
        state.calls.push(call.clone());
        (state.hook.clone(), state.wants_token)
    };
    if let Some(reply) = hook.and_then(|hook| hook(call)) {
        return reply.into_response();
    }
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    if path == "/token" {
        let body = serde_json::json!({ "token": format!("token-for-{query}"), "expires_in": 300 });
        return Reply::new(200, body.to_string()).into_response();
    }
    let place = split(path);
    if let Some((repository, ..)) = place.filter(|_| wants_token) {
        let expected = format!("scope=repository%3A{}%3Apull", repository.replace('/', "%2F"));
        let token = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !token.is_some_and(|token| {
            token.starts_with("Bearer token-for-") && token.contains(&expected)
        }) {
            let challenge = format!(
                r#"Bearer realm="http://{address}/token",service="test",scope="repository:{repository}:pull""#
            );
            return Reply::error(401, "UNAUTHORIZED", "authentication required")
                .with(WWW_AUTHENTICATE.as_str(), challenge)
                .into_response();
        }
    }
    let mut state = state.lock().expect("no test panicked in here");
    let mut target = call.target.clone();
    match place {
        Some((repository, "manifests", reference)) => {
            if let Some(lie) = state.lies.get(&format!("{repository}:{reference}")) {
                return Reply::new(200, lie.bytes.clone())
                    .with("content-type", lie.media_type.clone())
                    .with("docker-content-digest", lie.digest().to_string())
                    .into_response();
            }
        }
        Some((repository, "blobs", reference)) => {
            let bytes = state.blobs.get(reference).cloned();
            if let (Some(bytes), Ok(digest)) = (bytes, reference.parse()) {
                let added = state.catalog.add_blob(repository, digest, Arc::new(bytes));
                added.expect("a valid name");
            }
        }
        // As some registries do, fewer than are asked for.
        Some((_, "tags", _)) => target = target.replace("n=1000", "n=100"),
        _ => {}
    }
    let mut request = Request::new(());
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = target.parse().expect("a target that was a request's");
    *request.headers_mut() = call.headers.clone();
    state.catalog.answer(&request)
}

/// `/v2/<repository>/<kind>/<reference>`.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, reference) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    Some((repository, kind, reference))
}
