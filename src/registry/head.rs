//! Requests that need no body: which digest a tag points to, and whether a blob exists.
//! Docker Hub counts a GET of a manifest as a pull, but not a HEAD.

use reqwest::header;
use reqwest::{Method, StatusCode};

use super::connection::Connection;
use super::error::Error;
use super::request::Request;
use super::transport::http;
use crate::oci::digest::{self, Digest};

/// Returns the digest that the registry reports for a manifest, or `None` if it reports
/// none without a GET (protocol rule 41). The digest is only a hint: it is not verified.
pub(super) async fn manifest_digest(
    connection: &Connection,
    request: &Request<'_>,
) -> Result<Option<Digest>, Error> {
    let request = Request { method: Method::HEAD, ..*request };
    match connection.head(&request).await {
        Ok(response) => {
            let told = http::text_header(response.headers(), &http::CONTENT_DIGEST);
            Ok(told.and_then(|digest| digest.parse().ok()))
        }
        Err(error) if refuses_method(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks that the registry has a blob: by HEAD, or by a GET of one byte if HEAD is
/// refused (protocol rules 21 and 51).
pub(super) async fn blob_is_served(
    connection: &Connection,
    request: &Request<'_>,
    size: u64,
) -> Result<(), Error> {
    let head = Request { method: Method::HEAD, ..*request };
    let response = match connection.head(&head).await {
        Err(error) if refuses_method(&error) => {
            // An empty blob has no first byte.
            let range = (size > 0).then_some((0, Some(0)));
            let get = Request { method: Method::GET, range, ..*request };
            return connection.head(&get).await.map(drop);
        }
        result => result?,
    };
    let length = http::text_header(response.headers(), &header::CONTENT_LENGTH);
    // Some registries send a length of 0 whatever the blob's size, so ignore a 0.
    match length.and_then(|length| length.parse().ok()).filter(|length| *length > 0) {
        Some(length) => Ok(digest::check_size(&request.subject, length, Some(size))?),
        None => Ok(()),
    }
}

/// Whether the registry may have refused the method. A GET then shows the real problem.
pub(super) fn refuses_method(error: &Error) -> bool {
    let refusals = [
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::UNAUTHORIZED,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::NOT_IMPLEMENTED,
    ];
    match error {
        Error::Status { status, .. } => refusals.contains(status),
        Error::Denied(denial) => refusals.contains(&denial.status),
        _ => false,
    }
}
