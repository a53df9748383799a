//! What the tests and benches share: images made in memory, a registry
//! that serves them and misbehaves on demand, and runs of the program.

// Each test program uses a part of this.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod functions;
pub mod images;
pub mod program;
pub mod registry;
pub mod tools;
