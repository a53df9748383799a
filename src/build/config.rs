//! The config of an image, as Go's `v1.ImageConfig` reads it: keys in any case, in its order,
//! each with its type. What only docker knows is kept.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Error;
use crate::formats::go_json::{self, Members};
use crate::formats::image_json::{FIELDS, FieldKind as Kind};
use crate::observer::{Event, Observer};

/// The keys of docker's config that the OCI specification doesn't have (moby
/// `api/types/container/config.go`).
const DOCKER_KEYS: [&str; 15] = [
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Healthcheck",
    "Image",
    "NetworkDisabled",
    "MacAddress",
    "OnBuild",
    "StopTimeout",
    "Shell",
];

/// Reads a config. `file` is its name in errors.
pub(super) fn parse(
    file: &str,
    text: &[u8],
    observer: &dyn Observer,
) -> Result<Map<String, Value>, Error> {
    let shape = |source| Error::Shape { what: "config", file: file.to_owned(), source };
    let Members(given) = go_json::parse(text).map_err(shape)?;
    let mut found: BTreeMap<&str, Value> = BTreeMap::new();
    for (key, value) in given {
        let is_same = |name: &str| key.eq_ignore_ascii_case(name);
        if let Some((name, kind)) = FIELDS.iter().find(|(name, _)| is_same(name)) {
            if value.is_null() {
                // Nothing for a scalar; the end of what was there for everything else.
                if !matches!(kind, Kind::Text | Kind::Flag) {
                    found.remove(name);
                }
                continue;
            }
            let value = checked(name, *kind, value).map_err(shape)?;
            match (found.get_mut(name), value) {
                (Some(Value::Object(before)), Value::Object(more)) => before.extend(more),
                (_, value) => {
                    found.insert(name, value);
                }
            }
        } else if let Some(name) = DOCKER_KEYS.iter().find(|name| is_same(name)) {
            found.insert(name, value);
        } else {
            let text = match nearest(&key) {
                Some(nearest) => {
                    format!("the config's key `{key}` is unknown; did you mean `{nearest}`?")
                }
                None => format!("the config's key `{key}` is unknown, and left out"),
            };
            observer.observe(&Event::Warning(&text));
        }
    }
    let is_kept = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    };
    let mut config = Map::new();
    for (name, kind) in FIELDS {
        if let Some(value) = found.remove(name).filter(is_kept) {
            config.insert(name.to_owned(), sorted(kind, value));
        }
    }
    for name in DOCKER_KEYS {
        if let Some(value) = found.remove(name).filter(|value| !value.is_null()) {
            config.insert(name.to_owned(), value);
        }
    }
    Ok(config)
}

/// A value of the right type.
fn checked(name: &str, kind: Kind, value: Value) -> Result<Value, serde_json::Error> {
    let wrong =
        |expected: &str| Err(serde::de::Error::custom(format!("`{name}` must be {expected}")));
    let is_text = |value: &Value| value.is_string() || value.is_null();
    let text_or_empty = |value: Value| if value.is_null() { Value::from("") } else { value };
    Ok(match (kind, value) {
        (Kind::Text, Value::String(text)) => text.into(),
        (Kind::Text, _) => return wrong("a string"),
        (Kind::Flag, Value::Bool(flag)) => flag.into(),
        (Kind::Flag, _) => return wrong("true or false"),
        (Kind::List, Value::Array(values)) if values.iter().all(is_text) => {
            values.into_iter().map(text_or_empty).collect()
        }
        (Kind::List, _) => return wrong("a list of strings"),
        (Kind::Set, Value::Object(names))
            if names.values().all(|value| value.is_object() || value.is_null()) =>
        {
            let empty = |(name, _)| (name, Value::Object(Map::new()));
            Value::Object(names.into_iter().map(empty).collect())
        }
        (Kind::Set, _) => return wrong("an object with empty objects"),
        (Kind::Map, Value::Object(values)) if values.values().all(is_text) => {
            let text = |(name, value)| (name, text_or_empty(value));
            Value::Object(values.into_iter().map(text).collect())
        }
        (Kind::Map, _) => return wrong("an object with strings"),
    })
}

/// An object with its members in the order of their names.
fn sorted(kind: Kind, value: Value) -> Value {
    match (kind, value) {
        (Kind::Set | Kind::Map, Value::Object(members)) => {
            let members: BTreeMap<String, Value> = members.into_iter().collect();
            Value::Object(members.into_iter().collect())
        }
        (_, value) => value,
    }
}

/// The known key that a name is probably meant to be.
fn nearest(name: &str) -> Option<&'static str> {
    let known = FIELDS.iter().map(|(known, _)| *known).chain(DOCKER_KEYS);
    let distance = |known: &str| {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        strsim::damerau_levenshtein(&plain(known), &plain(name))
    };
    known
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

/// A config that starts from another one: variables of the environment are merged by name,
/// with `config`'s last; every other key is `config`'s, if it has it.
pub(super) fn merged(base: Map<String, Value>, config: Map<String, Value>) -> Map<String, Value> {
    let environment = |config: &Map<String, Value>| match config.get("Env") {
        Some(Value::Array(variables)) => variables.clone(),
        _ => Vec::new(),
    };
    let name = |variable: &Value| {
        let text = variable.as_str().unwrap_or_default();
        text.split_once('=').map_or(text, |(name, _)| name).to_owned()
    };
    let ours = environment(&config);
    let is_ours = |variable: &Value| ours.iter().any(|other| name(other) == name(variable));
    let mut variables = environment(&base);
    variables.retain(|variable| !is_ours(variable));
    variables.extend(ours.iter().cloned());
    let mut merged = base;
    merged.extend(config);
    if !variables.is_empty() {
        merged.insert("Env".to_owned(), variables.into());
    }
    // In Go's order again.
    let known = FIELDS.iter().map(|(known, _)| *known).chain(DOCKER_KEYS);
    known.filter_map(|known| Some((known.to_owned(), merged.get(known)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observer::Silent;

    fn read(config: &Value) -> Result<Value, Error> {
        parse("config.json", config.to_string().as_bytes(), &Silent).map(Value::Object)
    }

    #[test]
    fn keys_have_any_case_and_dockers_are_kept() {
        let config = json!({
            "entrypoint": ["/a"], "ENV": ["E=1", null], "exposedports": { "2/tcp": null, "1/tcp": {} },
            "Cmd": [], "User": "", "Labels": { "b": "1", "a": null }, "healthcheck": { "Test": ["NONE"] },
            "Volumes": null,
        });
        let expected = json!({
            "ExposedPorts": { "1/tcp": {}, "2/tcp": {} }, "Env": ["E=1", ""], "Entrypoint": ["/a"],
            "Labels": { "a": "", "b": "1" }, "Healthcheck": { "Test": ["NONE"] },
        });
        let found = read(&config).expect("a config");
        // Also in this order.
        assert_eq!(found.to_string(), expected.to_string());
        assert_eq!(read(&Value::Null).expect("nothing"), json!({}));
        // Repeated ones: objects are merged, everything else is replaced.
        let text = br#"{"Labels":{"a":"1"},"labels":{"b":"2"},"User":"a","USER":"b","User":"c","Env":["A"],"env":null}"#;
        let found = Value::Object(parse("x", text, &Silent).expect("a config"));
        assert_eq!(found, json!({ "User": "c", "Labels": { "a": "1", "b": "2" } }));
    }

    #[test]
    fn wrong_types_are_named() {
        for (config, expected) in [
            (json!({ "Entrypoint": "/a" }), "`Entrypoint` must be a list of strings"),
            (json!({ "User": 1000 }), "`User` must be a string"),
            (json!({ "Labels": { "a": 1 } }), "`Labels` must be an object with strings"),
            (json!({ "Volumes": ["/a"] }), "`Volumes` must be an object with empty objects"),
        ] {
            let error = read(&config).expect_err("a wrong type");
            assert_eq!(
                crate::error_chain(&error),
                format!("invalid config in `config.json`: {expected}")
            );
        }
        assert!(read(&json!([])).is_err());
    }

    #[test]
    fn a_misspelt_key_gets_a_suggestion() {
        assert_eq!(nearest("EntryPoints"), Some("Entrypoint"));
        assert_eq!(nearest("working_dir"), Some("WorkingDir"));
        assert_eq!(nearest("HealthCheck"), Some("Healthcheck"));
        assert_eq!(nearest("Memory"), None);
    }

    #[test]
    fn a_base_gives_what_is_not_set() {
        let map = |value: Value| value.as_object().expect("an object").clone();
        let base = map(json!({ "User": "1", "Env": ["PATH=/bin", "A=1"], "Cmd": ["x"] }));
        let ours = map(json!({ "Env": ["A=2"], "Cmd": ["y"], "Shell": ["/s"] }));
        let expected = json!({
            "User": "1", "Env": ["PATH=/bin", "A=2"], "Cmd": ["y"], "Shell": ["/s"],
        });
        assert_eq!(Value::Object(merged(base, ours)).to_string(), expected.to_string());
    }
}
