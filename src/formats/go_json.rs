//! JSON as Go's `encoding/json` reads and writes it, which upstream's users rely on: keys in
//! any case, `null` for nothing, tabs, and `<`, `>` and `&` as escapes.

use std::borrow::Cow;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Parses JSON. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_str(&lossy(bytes))
}

/// Text as Go's decoder sees it: each byte that isn't UTF-8 is U+FFFD.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into()
}

/// The members of an object in their order, repeated ones too.
pub(crate) struct Members(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Members, E> {
                Ok(Members(Vec::new()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Writes JSON like Go's `MarshalIndent` with a tab: without a line feed at the end.
pub(crate) fn to_text(value: &impl Serialize) -> String {
    let text = written(value, PrettyFormatter::with_indent(b"\t"));
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Writes JSON like Go's `Marshal`: without any space.
pub(crate) fn to_compact(value: &impl Serialize) -> Vec<u8> {
    written(value, CompactFormatter)
}

fn written(value: &impl Serialize, formatter: impl Formatter) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, GoFormatter(formatter));
    value.serialize(&mut serializer).expect("memory takes everything, and keys are strings");
    text
}

/// A list whose elements may be `null`, which means the element's default.
#[derive(Clone, Debug, Default)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Option::<Vec<Option<T>>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(Self(elements.into_iter().map(Option::unwrap_or_default).collect()))
    }
}

/// Implements `Deserialize` for a struct as Go reads one: keys match in any case, unknown
/// ones are ignored, and `null` leaves the default.
macro_rules! go_object {
    ($type:ident { $($key:literal => $field:ident),+ $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $type;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str("an object")
                    }

                    fn visit_unit<E>(self) -> Result<$type, E> {
                        Ok($type::default())
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$type, A::Error> {
                        let mut object = $type::default();
                        while let Some(key) = map.next_key::<String>()? {
                            $(
                                if key.eq_ignore_ascii_case($key) {
                                    if let Some(value) = map.next_value()? {
                                        object.$field = value;
                                    }
                                    continue;
                                }
                            )+
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                        Ok(object)
                    }
                }

                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

pub(crate) use go_object;

/// Whether Go escapes a character because it is unsafe in HTML or scripts. Such characters
/// occur only in strings.
pub(crate) const fn is_escaped(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

/// Another formatter, with Go's additional escapes.
struct GoFormatter<F>(F);

impl<F: Formatter> Formatter for GoFormatter<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_escaped) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut characters = rest[at..].chars();
            if let Some(special) = characters.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Entry {
        path: String,
        number: i64,
    }

    go_object!(Entry { "path" => path, "number" => number });

    // Each of these was tried with Go's encoding/json.
    #[test]
    fn keys_match_in_any_case_and_null_is_nothing() {
        let entry = |path: &str, number| Entry { path: path.to_owned(), number };
        for (text, expected) in [
            (r#"{"path": "a", "number": 1}"#, entry("a", 1)),
            (r#"{"PATH": "a", "Path": "b", "other": [{}]}"#, entry("b", 0)),
            (r#"{"path": null, "number": null}"#, entry("", 0)),
            ("null", entry("", 0)),
        ] {
            assert_eq!(parse::<Entry>(text.as_bytes()).expect(text), expected);
        }
        for text in
            ["", "[]", "1", r#"{"number": "1"}"#, r#"{"number": 1.0}"#, "{} {}", r#"{"path": 1}"#]
        {
            assert!(parse::<Entry>(text.as_bytes()).is_err(), "{text}");
        }
        let list: List<String> = parse(br#"["a", null]"#).expect("a list");
        assert_eq!(list.0, ["a", ""]);
        let lossy: List<String> = parse(b"[\"a\xff\", \"\xe2\x82\"]").expect("a list");
        assert_eq!(lossy.0, ["a\u{fffd}", "\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn text_is_gos() {
        let value =
            json!({ "a": [], "b": {}, "c": ["<&>\u{2028}\u{7f}é\n\u{8}\u{1}\"\\", 1, null] });
        let expected = "{\n\t\"a\": [],\n\t\"b\": {},\n\t\"c\": [\n\t\t\
                        \"\\u003c\\u0026\\u003e\\u2028\u{7f}é\\n\\b\\u0001\\\"\\\\\",\n\t\t1,\n\t\tnull\n\t]\n}";
        assert_eq!(to_text(&value), expected);
    }
}
