//! Answering a registry's challenges.

pub(super) mod challenge;
pub(super) mod scope;
pub(super) mod token;
