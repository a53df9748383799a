//! The run config of a base image, converted to the types that readers of image.json expect.
//!
//! The readers are Go programs, which refuse the whole file if a field has another type.
//! Registries do have such configs: docker accepts a string instead of a list.

use serde_json::{Map, Value};

use super::Inherit;

/// The type of a field of Go's `v1.ImageConfig`.
#[derive(Clone, Copy)]
enum Kind {
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
const FIELDS: [(&str, Kind); 10] = [
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

/// Whether Go's JSON decoder accepts a string as a time: RFC 3339, strictly.
pub(in crate::formats) fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let in_range = |from, to, range: std::ops::RangeInclusive<u32>| {
        number(from, to).is_some_and(|number| range.contains(&number))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes.get(*at) != Some(separator)) {
        return false;
    }
    let (Some(year), Some(month)) = (number(0, 4), number(5, 7)) else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return false,
    };
    let is_moment = in_range(8, 10, 1..=days)
        && in_range(11, 13, 0..=23)
        && in_range(14, 16, 0..=59)
        && in_range(17, 19, 0..=59);
    let mut zone = text.get(19..).unwrap_or_default();
    if let Some(fraction) = zone.strip_prefix('.') {
        zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if zone.len() == fraction.len() {
            return false;
        }
    }
    let start = text.len() - zone.len();
    let is_offset = zone.len() == 6
        && zone.starts_with(['+', '-'])
        && in_range(start + 1, start + 3, 0..=23)
        && bytes.get(start + 3) == Some(&b':')
        && in_range(start + 4, start + 6, 0..=59);
    is_moment && (zone == "Z" || is_offset)
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

    // Each of these was tried with Go's `time.Time.UnmarshalJSON`.
    #[test]
    fn times_are_those_that_go_reads() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2024-02-29T23:59:59.999999999+05:30",
            "0001-01-01T00:00:00Z",
            "2026-01-02T03:04:05.1Z",
        ] {
            assert!(is_time(text), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-01-02T03:04:05",
            "2026-13-02T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05,5Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T3:04:05Z",
            "2026-01-02T03:04:05+0530",
            "2026-01-02T03:04:05Zé",
        ] {
            assert!(!is_time(text), "{text}");
        }
    }
}
