//! Shared code for the tests and benches: images made in memory, a registry
//! that serves them and misbehaves on demand, and runs of the program.

// Each test program uses only a part of this.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod functions;
pub mod images;
pub mod program;
pub mod pushable;
pub mod registry;
pub mod tools;
