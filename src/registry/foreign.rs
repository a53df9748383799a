//! The URLs of foreign layers: other people's, and named by whoever made the image.

use url::Url;

use super::BlobRequest;
use super::error::Error;
use super::request::{Request, Wanted};
use super::transport::origin;
use crate::oci::reference::Repository;
use crate::text;

/// How many URLs of a layer are asked.
const MOST_URLS: usize = 4;
/// How much of a URL is shown, in characters.
pub(super) const LONGEST: usize = 200;

/// The URLs of a layer that its registry does not have, and what became of each place
/// that was asked.
pub(super) struct ForeignUrls<'a> {
    subject: String,
    repository: &'a Repository,
    /// Those that were not looked at yet.
    texts: std::slice::Iter<'a, String>,
    failures: Vec<(String, Error)>,
}

impl<'a> ForeignUrls<'a> {
    /// `failures` are those of the registry.
    pub(super) fn new(
        subject: String,
        blob: &BlobRequest<'a>,
        failures: Vec<(String, Error)>,
    ) -> Self {
        let texts = blob.urls[..blob.urls.len().min(MOST_URLS)].iter();
        Self { subject, repository: blob.repository, texts, failures }
    }

    /// The next that may be asked.
    pub(super) fn next(&mut self) -> Option<Url> {
        loop {
            let text = self.texts.next()?;
            match checked_url(&self.subject, self.repository.host(), text) {
                Ok(url) => return Some(url),
                Err(error) => self.failures.push((text::one_line(text, LONGEST), error)),
            }
        }
    }

    /// What is asked of a URL.
    pub(super) fn request<'r>(&'r self, url: &'r Url, wanted: &'r Wanted<'_>) -> Request<'r> {
        Request { elsewhere: Some(url), ..wanted.request(self.repository) }
    }

    /// Notes that a URL failed; an error where asking another is no use.
    pub(super) fn failed_at(&mut self, url: &Url, error: Error) -> Result<(), Error> {
        if error.is_of_this_machine() {
            return Err(error);
        }
        self.failures.push((origin::host_of(url), error));
        Ok(())
    }

    /// What the registry and all URLs answered.
    pub(super) fn into_error(self) -> Error {
        Error::of_all(self.subject, self.failures)
    }
}

/// A URL that may be asked for a blob of the registry `host`: reached over HTTP, and
/// not inside the network that this machine is in, unless the registry is too.
fn checked_url(subject: &str, host: &str, text: &str) -> Result<Url, Error> {
    let refused =
        |reason| Error::ForeignUrl { subject: subject.to_owned(), host: host.to_owned(), reason };
    let mut url: Url = text.parse().map_err(|_| refused("no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("not reached over HTTP"));
    }
    // What is written in there is nobody's credential.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let registry: Option<Url> = format!("https://{}/", origin::dial_host(host)).parse().ok();
    if origin::is_local(&url) && !registry.is_some_and(|registry| origin::is_local(&registry)) {
        return Err(refused("a private address, though the registry is public"));
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
