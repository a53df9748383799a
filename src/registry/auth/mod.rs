//! Answers to a registry's challenges.

pub(super) mod challenge;
pub(super) mod token;
