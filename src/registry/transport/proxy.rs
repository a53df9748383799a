//! Proxies that the environment names.
//!
//! The HTTP client's own reading takes an empty variable for one that is set,
//! and a build sandbox has all of them, mostly empty.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy};
use url::Url;

use crate::registry::error::Error;
use crate::registry::secrets::Secrets;

/// The schemes of proxies that the HTTP client speaks to.
const SCHEMES: [&str; 5] = ["http", "https", "socks4", "socks5", "socks5h"];

/// The proxies for each scheme, with what is to be asked directly. Their passwords
/// are noted.
pub(in crate::registry) fn of_environment(secrets: &Secrets) -> Result<Vec<Proxy>, Error> {
    let exceptions = variable("no_proxy").and_then(|(_, list)| NoProxy::from_string(&list));
    let mut proxies = Vec::new();
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        let Some((variable, url)) = variable(name) else { continue };
        let with_scheme = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        match with_scheme.parse::<Url>() {
            Ok(url) if SCHEMES.contains(&url.scheme()) => secrets.add_proxy(&url),
            _ => return Err(Error::Proxy { variable }),
        }
        let proxy = match name {
            "http_proxy" => Proxy::http(url),
            "https_proxy" => Proxy::https(url),
            _ => Proxy::all(url),
        };
        // The cause would show the URL, which may hold a password.
        let proxy = proxy.map_err(|_| Error::Proxy { variable })?;
        proxies.push(proxy.no_proxy(exceptions.clone()));
    }
    Ok(proxies)
}

/// The proxy that serves `url`, as `scheme://host:port`, where one does.
pub(in crate::registry) fn of_url(url: &Url) -> Option<String> {
    let value = |name| variable(name).map(|(_, value)| value).unwrap_or_default();
    let matcher = Matcher::builder()
        .http(value("http_proxy"))
        .https(value("https_proxy"))
        .all(value("all_proxy"))
        .no(value("no_proxy"))
        .build();
    let proxy = matcher.intercept(&url.as_str().parse().ok()?)?;
    let (scheme, authority) = (proxy.uri().scheme_str()?, proxy.uri().authority()?);
    let port = authority.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{}{port}", authority.host()))
}

/// A variable in lower case, or else in upper case, that is not empty.
fn variable(name: &str) -> Option<(String, String)> {
    [name.to_owned(), name.to_ascii_uppercase()].into_iter().find_map(|name| {
        let value = std::env::var(&name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    })
}
