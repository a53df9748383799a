//! HTTP for registries: which servers are trusted, which proxies are used, and what a
//! failure means.

pub(super) mod body;
pub(super) mod cause;
pub(super) mod clients;
pub(super) mod encoding;
pub(super) mod http;
pub(super) mod origin;
pub(super) mod proxy;
pub(super) mod retry;
pub(super) mod tls;
