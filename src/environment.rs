//! Environment variables, read once and handed to whoever needs them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A set of environment variables: the process's own, or others for a test.
///
/// An empty variable counts as unset, because in a build sandbox all impure variables exist,
/// most of them empty.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<OsString, OsString>>);

impl Environment {
    /// Returns the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Returns a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(OsStr::new(name)).map(OsString::as_os_str);
        value.filter(|value| !value.is_empty())
    }

    /// Returns a variable that holds a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Returns a variable that holds text. If it isn't UTF-8, it counts as unset.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.to_str()
    }

    /// Whether a variable exists, even an empty one.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(OsStr::new(name))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(Arc::new(variables.collect()))
    }
}

/// Shows only the names: values may be secret.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_unset_and_no_value_is_shown() {
        let environment: Environment = [("A", "secret"), ("B", "")].into_iter().collect();
        assert_eq!(environment.text("A"), Some("secret"));
        assert_eq!(environment.get("B"), None);
        assert!(environment.has("B") && !environment.has("C"));
        assert_eq!(format!("{environment:?}"), r#"{"A", "B"}"#);
    }
}
