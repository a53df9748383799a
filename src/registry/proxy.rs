//! Proxies that the environment names.
//!
//! The HTTP client's own reading takes an empty variable for one that is set,
//! and a build sandbox has all of them, mostly empty.

use reqwest::{NoProxy, Proxy};

use super::error::Error;

/// The proxies for each scheme, with what is to be asked directly.
pub(super) fn of_environment() -> Result<Vec<Proxy>, Error> {
    let exceptions = variable("no_proxy").and_then(|(_, list)| NoProxy::from_string(&list));
    let mut proxies = Vec::new();
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        let Some((variable, url)) = variable(name) else { continue };
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

/// A variable in lower case, or else in upper case, that is not empty.
fn variable(name: &str) -> Option<(String, String)> {
    [name.to_owned(), name.to_ascii_uppercase()].into_iter().find_map(|name| {
        let value = std::env::var(&name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    })
}
