//! HTTP as registries need it: who is trusted, by which proxy, and what a failure means.

pub(super) mod cause;
pub(super) mod clients;
pub(super) mod encoding;
pub(super) mod http;
pub(super) mod origin;
pub(super) mod proxy;
pub(super) mod retry;
pub(super) mod tls;
