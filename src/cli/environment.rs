//! The environment variables of this process, which are read once.

use std::sync::LazyLock;

use n2c::environment::Environment;

/// Returns the environment variables of this process.
pub(crate) fn environment() -> &'static Environment {
    static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(Environment::of_process);
    &ENVIRONMENT
}
