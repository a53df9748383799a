//! The run config of a base image, converted to the types that readers of image.json expect.
//!
//! The readers are Go programs, which refuse the whole file if a field has another type.
//! Registries do have such configs: docker accepts a string instead of a list.

use serde_json::{Map, Value};

use super::Inherit;

/// The type of a field of Go's `v1.ImageConfig`.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// A list of strings.
    List,
    /// An object of names with empty objects as values.
    Set,
    /// An object of names with strings as values.
    Map,
    Flag,
}

/// The fields of Go's `v1.ImageConfig`, in its order.
pub(crate) const FIELDS: [(&str, Kind); 10] = [
    ("User", Kind::Text),
    ("ExposedPorts", Kind::Set),
    ("Env", Kind::List),
    ("Entrypoint", Kind::List),
    ("Cmd", Kind::List),
    ("Volumes", Kind::Set),
    ("WorkingDir", Kind::Text),
    ("Labels", Kind::Map),
    ("StopSignal", Kind::Text),
    ("ArgsEscaped", Kind::Flag),
];

/// Returns the config that the new image starts with, and the names of fields that had the
/// wrong type.
pub(in crate::formats) fn inherited(
    config: &Map<String, Value>,
    inherit: Inherit,
) -> (Map<String, Value>, Vec<&'static str>) {
    let (mut inherited, mut odd) = (Map::new(), Vec::new());
    for (name, kind) in FIELDS {
        let is_wanted = match inherit {
            Inherit::None => false,
            Inherit::Env => name == "Env",
            Inherit::All => true,
        };
        let Some(value) = config.get(name).filter(|value| is_wanted && !value.is_null()) else {
            continue;
        };
        let normal = normalised(value, kind);
        if normal.as_ref() != Some(value) {
            odd.push(name);
        }
        inherited.extend(normal.map(|value| (name.to_owned(), value)));
    }
    (inherited, odd)
}

/// Converts a value to its type, as Go and docker read it; `None` if it can't be converted.
fn normalised(value: &Value, kind: Kind) -> Option<Value> {
    Some(match (kind, value) {
        (Kind::Text, value) => text(value)?.into(),
        (Kind::Flag, Value::Bool(flag)) => (*flag).into(),
        (Kind::List, Value::Array(values)) => values.iter().filter_map(text).collect(),
        // As docker's `strslice` does.
        (Kind::List, value) => [text(value)?].into_iter().collect(),
        (Kind::Set, Value::Object(names)) => set(names.keys().cloned()),
        (Kind::Set, Value::Array(names)) => set(names.iter().filter_map(text)),
        (Kind::Map, Value::Object(values)) => {
            let texts =
                values.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?)));
            texts.collect()
        }
        (Kind::Flag | Kind::Set | Kind::Map, _) => return None,
    })
}

fn set(names: impl Iterator<Item = String>) -> Value {
    names.map(|name| (name, Value::Object(Map::new()))).collect::<Map<_, _>>().into()
}

/// Converts a value to a string: strings are unchanged, `null` is empty, and numbers and
/// booleans are as written in JSON. `None` for anything else.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn odd_fields_get_their_type() {
        let config = json!({
            "User": 1000, "Env": ["A=1", null, 2], "Entrypoint": "/bin/sh", "Cmd": null,
            "ExposedPorts": { "80/tcp": null }, "Volumes": ["/data"], "WorkingDir": "/",
            "Labels": { "n": 1, "t": "x", "o": {} }, "ArgsEscaped": "yes", "Healthcheck": {},
        });
        let (inherited, odd) = inherited(config.as_object().expect("an object"), Inherit::All);
        let expected = json!({
            "User": "1000", "ExposedPorts": { "80/tcp": {} }, "Env": ["A=1", "", "2"],
            "Entrypoint": ["/bin/sh"], "Volumes": { "/data": {} }, "WorkingDir": "/",
            "Labels": { "n": "1", "t": "x" },
        });
        assert_eq!(Value::Object(inherited), expected);
        let names =
            ["User", "ExposedPorts", "Env", "Entrypoint", "Volumes", "Labels", "ArgsEscaped"];
        assert_eq!(odd, names);
    }
}
