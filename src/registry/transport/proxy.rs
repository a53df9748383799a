//! Proxies from the environment.
//!
//! The HTTP client would treat an empty variable as set, and in a build sandbox all of
//! these variables exist, most of them empty.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy};
use url::Url;

use crate::environment::Environment;
use crate::registry::error::Error;
use crate::registry::secrets::Secrets;

/// The proxy schemes that the HTTP client supports.
const SCHEMES: [&str; 5] = ["http", "https", "socks4", "socks5", "socks5h"];

/// Returns the proxy for each scheme, with the exceptions from `no_proxy`. Their
/// passwords are added to `secrets`.
pub(in crate::registry) fn of_environment(
    environment: &Environment,
    secrets: &Secrets,
) -> Result<Vec<Proxy>, Error> {
    let exceptions =
        variable(environment, "no_proxy").and_then(|(_, list)| NoProxy::from_string(&list));
    let mut proxies = Vec::new();
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        let Some((variable, url)) = variable(environment, name) else { continue };
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
        // Drop the error: it would show the URL, which may hold a password.
        let proxy = proxy.map_err(|_| Error::Proxy { variable })?;
        proxies.push(proxy.no_proxy(exceptions.clone()));
    }
    Ok(proxies)
}

/// Returns the proxy that is used for `url`, if any, as `scheme://host:port`.
pub(in crate::registry) fn of_url(environment: &Environment, url: &Url) -> Option<String> {
    let value = |name| variable(environment, name).map(|(_, value)| value).unwrap_or_default();
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

/// Returns the name and value of a variable, in lower case or else in upper case. Empty
/// variables count as unset.
fn variable(environment: &Environment, name: &str) -> Option<(String, String)> {
    [name.to_owned(), name.to_ascii_uppercase()].into_iter().find_map(|name| {
        let value = environment.text(&name)?.to_owned();
        Some((name, value))
    })
}
