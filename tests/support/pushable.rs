//! A registry that takes what is pushed to it, as CNCF distribution does: it checks digests,
//! lengths and ranges, and that what a manifest refers to is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::Method;
use n2c::oci::digest::Digest;
use serde_json::Value;
use url::form_urlencoded;

use super::registry::{Call, Registry, Reply};

/// What was pushed.
#[derive(Default)]
pub struct Contents {
    /// Blobs, by repository and digest.
    pub blobs: BTreeMap<(String, String), Vec<u8>>,
    /// Manifests, by repository and digest, each with its media type.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// Digests, by repository and tag.
    pub tags: BTreeMap<(String, String), String>,
    sessions: BTreeMap<String, Vec<u8>>,
    opened: usize,
}

/// A registry to push to.
pub struct Pushable {
    pub registry: Registry,
    contents: Arc<Mutex<Contents>>,
}

impl Pushable {
    pub fn start() -> Self {
        Self::with(|_, _| None)
    }

    /// A registry that first asks `fault` for an answer. Its second argument is how many
    /// requests of the same method were made before.
    pub fn with(fault: impl Fn(&Call, usize) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let registry = Registry::start();
        let contents = Arc::new(Mutex::new(Contents::default()));
        let (state, counts) = (contents.clone(), Mutex::new(BTreeMap::<Method, usize>::new()));
        let counts = move |method: &Method| {
            let mut counts = counts.lock().expect("a lock");
            let count = counts.entry(method.clone()).or_default();
            *count += 1;
            *count - 1
        };
        registry.hook(move |call| {
            let count = counts(&call.method);
            fault(call, count).or_else(|| Some(answer(&mut state.lock().expect("a lock"), call)))
        });
        Self { registry, contents }
    }

    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().expect("a lock")
    }

    pub fn reference(&self, name: &str) -> String {
        self.registry.reference(name)
    }

    /// The manifest under a tag.
    pub fn manifest(&self, repository: &str, tag: &str) -> Value {
        let contents = self.contents();
        let digest = &contents.tags[&(repository.to_owned(), tag.to_owned())];
        serde_json::from_slice(&contents.manifests[&(repository.to_owned(), digest.clone())].1)
            .expect("JSON")
    }

    pub fn blob(&self, repository: &str, digest: &Value) -> Vec<u8> {
        let digest = digest.as_str().expect("a digest").to_owned();
        self.contents().blobs[&(repository.to_owned(), digest)].clone()
    }

    /// The methods of the requests since `first`, with what they are about.
    pub fn log_since(&self, first: usize) -> Vec<String> {
        self.registry.calls()[first..].iter().map(summary).collect()
    }
}

/// `PUT manifest`, `POST mount` and so on.
fn summary(call: &Call) -> String {
    let what = match call.target.as_str() {
        target if target.contains("mount=") => "mount",
        target if target.contains("/blobs/uploads/") => "upload",
        target if target.contains("/blobs/") => "blob",
        target if target.contains("/manifests/sha256:") => "digest",
        target if target.contains("/manifests/") => "tag",
        _ => "tags",
    };
    format!("{} {what}", call.method)
}

fn answer(contents: &mut Contents, call: &Call) -> Reply {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((repository, session)) = path.split_once("/blobs/uploads/") {
        return upload(contents, call, repository, session, &query);
    }
    let not_found = || Reply::error(404, "NOT_FOUND", "not here");
    if let Some((repository, digest)) = path.split_once("/blobs/") {
        let found = contents.blobs.get(&(repository.to_owned(), digest.to_owned()));
        return found.map_or_else(not_found, |bytes| Reply::new(200, bytes.clone()));
    }
    if let Some((repository, name)) = path.split_once("/manifests/") {
        return manifest(contents, call, repository, name);
    }
    let repository = path.strip_suffix("/tags/list").unwrap_or_default();
    let is_known = contents.blobs.keys().any(|(name, _)| name == repository);
    if is_known { Reply::new(200, "{\"tags\":null}") } else { not_found() }
}

fn upload(
    contents: &mut Contents,
    call: &Call,
    repository: &str,
    session: &str,
    query: &BTreeMap<String, String>,
) -> Reply {
    let location = |session: &str| format!("/v2/{repository}/blobs/uploads/{session}");
    if call.method == Method::POST {
        assert_eq!(call.header("content-length"), Some("0"));
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
            let blob = contents.blobs.get(&(from.clone(), digest.clone())).cloned();
            if let Some(blob) = blob {
                contents.blobs.insert((repository.to_owned(), digest.clone()), blob);
                return Reply::new(201, "");
            }
        }
        contents.opened += 1;
        let session = contents.opened.to_string();
        let reply = Reply::new(202, "").with("location", location(&session));
        contents.sessions.insert(session, Vec::new());
        return reply;
    }
    let Some(mut bytes) = contents.sessions.remove(session) else {
        return Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "no such session");
    };
    if let Some(range) = call.header("content-range") {
        let expected = format!("{}-{}", bytes.len(), bytes.len() + call.body.len() - 1);
        if range != expected {
            return Reply::new(416, "");
        }
        assert_eq!(call.header("content-length"), Some(&*call.body.len().to_string()));
    }
    bytes.extend_from_slice(&call.body);
    if call.method == Method::PATCH {
        contents.sessions.insert(session.to_owned(), bytes);
        return Reply::new(202, "").with("location", location(session));
    }
    let digest = query.get("digest").expect("a digest");
    if Digest::sha256(&bytes).to_string() != *digest {
        return Reply::error(400, "DIGEST_INVALID", "other bytes");
    }
    contents.blobs.insert((repository.to_owned(), digest.clone()), bytes);
    Reply::new(201, "")
}

fn manifest(contents: &mut Contents, call: &Call, repository: &str, name: &str) -> Reply {
    let key = |name: &str| (repository.to_owned(), name.to_owned());
    if call.method != Method::PUT {
        let digest = contents.tags.get(&key(name)).cloned().unwrap_or_else(|| name.to_owned());
        let Some((media_type, bytes)) = contents.manifests.get(&key(&digest)) else {
            return Reply::error(404, "MANIFEST_UNKNOWN", "not here");
        };
        return Reply::new(200, bytes.clone())
            .with("content-type", media_type)
            .with("docker-content-digest", digest);
    }
    let digest = Digest::sha256(&call.body).to_string();
    let object: Value = serde_json::from_slice(&call.body).expect("JSON");
    let blobs = object["layers"].as_array().into_iter().flatten().chain([&object["config"]]);
    for blob in blobs.filter(|blob| blob.get("urls").is_none()) {
        if let Some(blob) = blob["digest"].as_str()
            && !contents.blobs.contains_key(&key(blob))
        {
            return Reply::error(404, "MANIFEST_BLOB_UNKNOWN", blob);
        }
    }
    for child in object["manifests"].as_array().into_iter().flatten() {
        let child = child["digest"].as_str().expect("a digest");
        if !contents.manifests.contains_key(&key(child)) {
            return Reply::error(400, "MANIFEST_UNKNOWN", child);
        }
    }
    let media_type = call.header("content-type").expect("a type").to_owned();
    assert_eq!(object["mediaType"], media_type);
    contents.manifests.insert(key(&digest), (media_type, call.body.to_vec()));
    if !name.contains(':') {
        contents.tags.insert(key(name), digest.clone());
    }
    Reply::new(201, "").with("docker-content-digest", digest)
}
