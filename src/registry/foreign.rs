//! The URLs of foreign layers: other people's, and named by whoever made the image.

use url::Url;

use super::error::Error;
use super::transport::origin;

/// How many URLs of a layer are asked.
pub(super) const MOST_URLS: usize = 4;
/// How much of a URL is shown, in characters.
pub(super) const LONGEST: usize = 200;

/// A URL that may be asked for a blob of the registry `host`: reached over HTTP, and
/// not inside the network that this machine is in, unless the registry is too.
pub(super) fn checked_url(subject: &str, host: &str, text: &str) -> Result<Url, Error> {
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
            "layer",
            "-x",
        ] {
            assert!(check("ghcr.io", url).is_err(), "{url}");
        }
        assert!(check("127.0.0.1:5000", "http://127.0.0.1/x").is_ok());
    }
}
