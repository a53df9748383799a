//! The URLs of foreign layers. They point to third parties and are chosen by whoever made
//! the image.

use url::Url;

use super::BlobRequest;
use super::error::Error;
use super::request::{Request, Target};
use super::transport::origin;
use crate::oci::reference::Repository;
use crate::text;

/// How many of a layer's URLs are tried.
const MOST_URLS: usize = 4;
/// How many characters of a URL are shown.
pub(super) const LONGEST: usize = 200;

/// The URLs of a layer that its registry doesn't have, and the failures so far.
pub(super) struct ForeignUrls<'a> {
    subject: String,
    repository: &'a Repository,
    /// The URLs that have not been tried yet.
    texts: std::slice::Iter<'a, String>,
    failures: Vec<(String, Error)>,
}

impl<'a> ForeignUrls<'a> {
    /// Creates the list for `blob`. `failures` are the registry's and its mirrors'.
    pub(super) fn new(
        subject: String,
        blob: &BlobRequest<'a>,
        failures: Vec<(String, Error)>,
    ) -> Self {
        let texts = blob.urls[..blob.urls.len().min(MOST_URLS)].iter();
        Self { subject, repository: blob.repository, texts, failures }
    }

    /// Returns the next URL that may be contacted.
    pub(super) fn next(&mut self) -> Option<Url> {
        loop {
            let text = self.texts.next()?;
            match checked_url(&self.subject, self.repository.host(), text) {
                Ok(url) => return Some(url),
                Err(error) => self.failures.push((text::one_line(text, LONGEST), error)),
            }
        }
    }

    /// Returns the request for the layer at `url`.
    pub(super) fn request<'r>(&'r self, url: &'r Url, target: &'r Target<'_>) -> Request<'r> {
        Request { elsewhere: Some(url), ..target.request(self.repository) }
    }

    /// Records the failure of a URL. Returns the error if trying another URL would not help.
    pub(super) fn failed_at(&mut self, url: &Url, error: Error) -> Result<(), Error> {
        if error.is_of_this_machine() {
            return Err(error);
        }
        self.failures.push((origin::host_of(url), error));
        Ok(())
    }

    /// Combines the failures of the registry and of all URLs into one error.
    pub(super) fn into_error(self) -> Error {
        Error::of_all(self.subject, self.failures)
    }
}

/// Parses a foreign layer's URL and checks that it may be contacted for a blob of the
/// registry `host`: it must use HTTP or HTTPS, and must not point into this machine's
/// network unless the registry is there too.
fn checked_url(subject: &str, host: &str, text: &str) -> Result<Url, Error> {
    let refused =
        |reason| Error::ForeignUrl { subject: subject.to_owned(), host: host.to_owned(), reason };
    let mut url: Url = text.parse().map_err(|_| refused("invalid"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("not an HTTP URL"));
    }
    origin::remove_credentials(&mut url);
    let registry: Option<Url> = format!("https://{}/", origin::dial_host(host)).parse().ok();
    if origin::is_local(&url) && !registry.is_some_and(|registry| origin::is_local(&registry)) {
        return Err(refused("a private address although the registry is public"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_public_is_asked_for_a_public_registry() {
        let check = |host: &str, url: &str| checked_url("x", host, url).map(String::from);
        assert_eq!(
            check("ghcr.io", "https://u:p@mcr.example/layer?x=1#y").expect("a URL"),
            "https://mcr.example/layer?x=1"
        );
        for url in [
            "file:///etc/passwd",
            "http://127.0.0.1/x",
            "http://[::1]/",
            "http://10.0.0.1/",
            "http://localhost./x",
            "http://100.64.0.1/",
            "layer",
            "-x",
        ] {
            assert!(check("ghcr.io", url).is_err(), "{url}");
        }
        assert!(check("127.0.0.1:5000", "http://127.0.0.1/x").is_ok());
    }
}
