//! Origins and URLs: which server may get a credential, and which part of a URL may be shown.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// Returns the host to connect to for a registry's name. Docker Hub's differs from its name.
pub(in crate::registry) fn dial_host(host: &str) -> &str {
    if host == "docker.io" { "registry-1.docker.io" } else { host }
}

/// Returns the `host[:port]` of a URL.
pub(in crate::registry) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether two URLs have the same scheme, host and port, so that a credential for one may
/// be sent to the other. The `url` crate drops default ports and lower-cases the host.
pub(in crate::registry) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether the host is this machine, by name or address.
pub(in crate::registry) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether the host is an address for nearby machines only: this machine, or one on a
/// private or link-local network.
pub(in crate::registry) fn is_local(url: &Url) -> bool {
    // An IPv4 address in the form of an IPv6 one leads to the same machine.
    let is_local_address = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                // RFC 6598: shared address space of network providers.
                || matches!(address.octets(), [100, 64..=127, ..])
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
    };
    match url.host() {
        Some(Host::Ipv4(address)) => is_local_address(address.into()),
        Some(Host::Ipv6(address)) => is_local_address(address.into()),
        _ => is_loopback(url),
    }
}

/// Removes the user, password and fragment from an HTTP URL that somebody else wrote: what is
/// in there is not the user's credential.
pub(in crate::registry) fn remove_credentials(url: &mut Url) {
    // These can't fail for an HTTP URL.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
}

/// Displays a URL without its user, password, query and fragment, because signed URLs and
/// token requests carry secrets there.
pub(in crate::registry) struct SafeUrl<'a>(pub(in crate::registry) &'a Url);

impl fmt::Display for SafeUrl<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://", self.0.scheme())?;
        if let Some(host) = self.0.host_str() {
            formatter.write_str(host)?;
        }
        if let Some(port) = self.0.port() {
            write!(formatter, ":{port}")?;
        }
        formatter.write_str(self.0.path())?;
        if self.0.query().is_some() {
            formatter.write_str("?…")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a valid URL")
    }

    // protocol rule 27
    #[test]
    fn rule_27_default_ports_and_case_do_not_make_another_origin() {
        assert!(same_origin(&url("https://a.io/x"), &url("https://A.IO:443/y")));
        assert!(!same_origin(&url("https://a.io"), &url("http://a.io")));
        assert!(!same_origin(&url("https://a.io"), &url("https://a.io:444")));
        assert!(!same_origin(&url("https://a.io"), &url("https://b.a.io")));
    }

    // protocol rule 30
    #[test]
    fn rule_30_a_shown_url_has_no_secret() {
        assert_eq!(
            SafeUrl(&url("https://user:password@a.io:8443/v2/?X-Amz-Signature=s#f")).to_string(),
            "https://a.io:8443/v2/?…"
        );
    }

    #[test]
    fn local_addresses_are_known() {
        for text in
            ["http://localhost:1", "http://127.1.2.3", "http://[::1]:5000", "http://a.localhost"]
        {
            assert!(is_loopback(&url(text)), "{text}");
            assert!(is_local(&url(text)), "{text}");
        }
        for text in [
            "http://10.0.0.1",
            "http://192.168.1.1",
            "http://169.254.169.254",
            "http://[fd00::1]",
            "http://[::ffff:10.0.0.1]",
            "http://[::ffff:0.0.0.0]",
            "http://[::ffff:100.64.0.1]",
        ] {
            assert!(!is_loopback(&url(text)), "{text}");
            assert!(is_local(&url(text)), "{text}");
        }
        for text in ["https://localhost.example", "https://1.1.1.1", "https://[2606:4700::1111]"] {
            assert!(!is_local(&url(text)), "{text}");
        }
    }
}
