//! Answers requests from a catalog alone.

use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LINK, RANGE,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use sync_wrapper::SyncStream;
use url::form_urlencoded;

use super::catalog::{Catalog, Repository, TypedDocument};
use crate::oci::digest::Digest;
use crate::stream::readable::{self, Readable as _};

/// How many tags a page has, unless the client asks for fewer.
const TAGS: usize = 1000;

/// An answer, whose body is read while it is sent.
pub type Answer = Response<BoxBody<Bytes, io::Error>>;

/// The resource that a path names.
#[derive(Debug, Eq, PartialEq)]
enum Target<'a> {
    Root,
    /// Something in a repository.
    Of(&'a str, Resource<'a>),
}

#[derive(Debug, Eq, PartialEq)]
enum Resource<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Tags,
}

impl Catalog {
    /// Answers a request as a registry that serves this catalog and nothing else does: for
    /// [`super::Registry`], and for servers of one's own.
    pub fn answer<B>(&self, request: &Request<B>) -> Answer {
        let is_head = request.method() == Method::HEAD;
        let mut response = if is_head || request.method() == Method::GET {
            let query = request.uri().query().unwrap_or_default();
            let range = request.headers().get(RANGE).filter(|_| !is_head);
            let range = range.and_then(|range| range.to_str().ok());
            content(self, request.uri().path(), query, (range, is_head))
        } else {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut refusal = error(status, "UNSUPPORTED", "this is read-only");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refusal
        };
        let version = HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("docker-distribution-api-version", version);
        response
    }
}

fn content(
    catalog: &Catalog,
    path: &str,
    query: &str,
    (range, is_head): (Option<&str>, bool),
) -> Answer {
    let Some(asked) = parse(path) else {
        return error(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path");
    };
    let Target::Of(name, resource) = asked else {
        return json_answer(StatusCode::OK, &json!({}));
    };
    let Some(repository) = catalog.repository(name) else {
        return error(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "repository name not known to registry",
        );
    };
    match resource {
        Resource::Manifest(target) => manifest(repository, target),
        Resource::Blob(digest) => blob(catalog, repository, digest, (range, is_head)),
        Resource::Tags => tags(repository, name, query),
    }
}

/// Parses `/v2/<name>/<kind>/<reference>` without decoding it: an encoded name is not a
/// valid name.
fn parse(path: &str) -> Option<Target<'_>> {
    let rest = path.strip_prefix("/v2/")?;
    if rest.is_empty() {
        return Some(Target::Root);
    }
    let (rest, last) = rest.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    let resource = match (kind, last) {
        ("manifests", target) => Resource::Manifest(target),
        ("blobs", digest) => Resource::Blob(digest),
        ("tags", "list") => Resource::Tags,
        _ => return None,
    };
    Some(Target::Of(name, resource))
}

fn manifest(repository: &Repository, target: &str) -> Answer {
    let digest = match target.parse::<Digest>() {
        Ok(digest) => Some(digest),
        Err(_) => repository.tags.get(target).cloned(),
    };
    match digest.and_then(|digest| repository.documents.get(&digest)) {
        Some(TypedDocument { media_type, raw }) => {
            let bytes = Bytes::copy_from_slice(raw.bytes());
            let response = with_length(StatusCode::OK, bytes.len() as u64, body(bytes));
            with_digest(typed(response, media_type), raw.digest())
        }
        None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn blob(
    catalog: &Catalog,
    repository: &Repository,
    text: &str,
    (range, is_head): (Option<&str>, bool),
) -> Answer {
    let Ok(digest) = text.parse::<Digest>() else {
        return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "this is not a digest");
    };
    let Some(content) = repository.blobs.get(&digest) else {
        return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let size = content.size();
    let part = match range.and_then(|range| part_of(range, size)) {
        Some(Err(())) => {
            let (status, code) = (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
            return with_range(error(status, code, "range not satisfiable"), &format!("*/{size}"));
        }
        Some(Ok(part)) => Some(part),
        None => None,
    };
    let (status, first, length) = match &part {
        Some(part) => (StatusCode::PARTIAL_CONTENT, *part.start(), part.end() - part.start() + 1),
        None => (StatusCode::OK, 0, size),
    };
    // Nobody makes a layer to say how large it is.
    let stream = if is_head { Bytes::new().open(0) } else { content.open(first) };
    let Ok(stream) = stream else {
        return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "the blob is gone");
    };
    let transfer = catalog.transfers.clone();
    // The share ends with the stream.
    let frames = readable::take(stream, length).map_ok(Frame::data);
    let frames = frames.inspect(move |_| transfer.advance());
    let bytes = BoxBody::new(StreamBody::new(SyncStream::new(frames)));
    let mut response = typed(with_length(status, length, bytes), "application/octet-stream");
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let response = with_digest(response, &digest);
    match part {
        Some(part) => with_range(response, &format!("{}-{}/{size}", part.start(), part.end())),
        None => response,
    }
}

/// Returns a page of tags, with a link to the next page.
fn tags(repository: &Repository, name: &str, query: &str) -> Answer {
    let (mut count, mut last) = (TAGS, String::new());
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "n" => count = value.parse().unwrap_or(TAGS).min(TAGS),
            "last" => last = value.into_owned(),
            _ => {}
        }
    }
    let behind = repository.tags.keys().filter(|tag| **tag > last);
    let tags: Vec<&String> = behind.clone().take(count).collect();
    let mut response = json_answer(StatusCode::OK, &json!({ "name": name, "tags": tags }));
    if let Some(end) = tags.last().filter(|_| behind.count() > tags.len()) {
        // Names and tags need no encoding.
        let next = format!("</v2/{name}/tags/list?n={count}&last={end}>; rel=\"next\"");
        response.headers_mut().extend(HeaderValue::try_from(next).map(|next| (LINK, next)));
    }
    response
}

/// Parses a `Range` header for a blob of `size` bytes (RFC 9110 section 14). `None`
/// means that it is not understood, so the whole blob is sent. An error means that the
/// range contains no byte of the blob.
fn part_of(range: &str, size: u64) -> Option<Result<RangeInclusive<u64>, ()>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let end = size.checked_sub(1);
    let part = match (first.trim(), last.trim()) {
        ("", last) => {
            let count = number(last)?;
            end.filter(|_| count > 0).map(|end| size.saturating_sub(count)..=end)
        }
        (first, "") => {
            let first = number(first)?;
            end.map(|end| first..=end)
        }
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            end.map(|end| first..=last.min(end))
        }
    };
    Some(part.filter(|part| part.start() <= part.end()).ok_or(()))
}

fn body(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn with_length(status: StatusCode, length: u64, body: BoxBody<Bytes, io::Error>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn typed(mut response: Answer, media_type: &str) -> Answer {
    let media_type = HeaderValue::try_from(media_type).map(|value| (CONTENT_TYPE, value));
    response.headers_mut().extend(media_type);
    response
}

fn with_digest(mut response: Answer, digest: &Digest) -> Answer {
    if let Ok(digest) = HeaderValue::try_from(digest.to_string()) {
        response.headers_mut().insert("docker-content-digest", digest);
    }
    response
}

fn with_range(mut response: Answer, range: &str) -> Answer {
    let range = HeaderValue::try_from(format!("bytes {range}"));
    response.headers_mut().extend(range.map(|range| (CONTENT_RANGE, range)));
    response
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    let bytes = Bytes::from(value.to_string());
    typed(with_length(status, bytes.len() as u64, body(bytes)), "application/json")
}

/// Returns an error in the format of the specification ("Error codes").
fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "errors": [{ "code": code, "message": message }] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are_written() {
        assert_eq!(parse("/v2/"), Some(Target::Root));
        assert_eq!(parse("/v2/a/b/manifests/1"), Some(Target::Of("a/b", Resource::Manifest("1"))));
        assert_eq!(parse("/v2/a/tags/list"), Some(Target::Of("a", Resource::Tags)));
        for path in ["", "/", "/v1/", "/v2", "/v2/a", "/v2/a/blobs/uploads/x/", "/v2/a/other/b"] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    // RFC 9110 section 14.1.2
    #[test]
    fn ranges_are_those_of_http() {
        for (range, size, expected) in [
            ("bytes=0-3", 10, Some(Ok(0..=3))),
            ("bytes=4-", 10, Some(Ok(4..=9))),
            ("bytes=4-99", 10, Some(Ok(4..=9))),
            ("bytes=-3", 10, Some(Ok(7..=9))),
            ("bytes=-99", 10, Some(Ok(0..=9))),
            ("bytes=10-", 10, Some(Err(()))),
            ("bytes=-0", 10, Some(Err(()))),
            ("bytes=0-", 0, Some(Err(()))),
            ("bytes=3-1", 10, None),
            ("bytes=0-1,3-4", 10, None),
            ("lines=1-2", 10, None),
            ("bytes=-", 10, None),
        ] {
            assert_eq!(part_of(range, size), expected, "{range} of {size}");
        }
    }
}
