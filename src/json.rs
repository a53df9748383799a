//! Parsing untrusted JSON with a limit on the number of values, because a few bytes of
//! JSON can become a value that takes a hundred times as much memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The maximum number of values in a manifest, an index or a config. The largest real
/// ones have about ten thousand.
pub(crate) const VALUE_LIMIT: usize = 200_000;

/// How many additional values an array or an object counts as, even if it is empty,
/// because of the memory that it takes.
const NESTED: usize = 4;

/// Parses JSON that has at most `limit` values, counted at all depths.
pub(crate) fn parse<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    limit: usize,
) -> Result<T, serde_json::Error> {
    check(bytes, limit)?;
    serde_json::from_slice(bytes)
}

/// Fails if JSON has more than `limit` values, counted at all depths. Allocates no
/// memory for the values.
fn check(bytes: &[u8], limit: usize) -> Result<(), serde_json::Error> {
    let (left, mut deserializer) = (Cell::new(limit), serde_json::Deserializer::from_slice(bytes));
    Count { left: &left, limit }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Counts values without keeping them.
#[derive(Clone, Copy)]
struct Count<'a> {
    left: &'a Cell<usize>,
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.take(1)?;
        deserializer.deserialize_any(self)
    }
}

impl Count<'_> {
    fn take<E: serde::de::Error>(self, count: usize) -> Result<(), E> {
        match self.left.get().checked_sub(count) {
            Some(left) => self.left.set(left),
            None => return Err(E::custom(format!("more than {} values", self.limit))),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        self.take(NESTED)?;
        while sequence.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.take(NESTED)?;
        while map.next_key_seed(self)?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// The members of an object that are text.
pub(crate) fn texts(object: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    object.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn values_are_counted_at_all_depths() {
        let text = br#"{ "a": [1, -2.5, null], "b": { "c": "d", "e": true } }"#;
        // Twelve values, four of which are keys; three are arrays or objects.
        assert!(check(text, 24).is_ok());
        let error = check(text, 23).expect_err("too many");
        assert!(error.to_string().starts_with("more than 23 values"), "{error}");
        let object = |text| parse::<Map<String, Value>>(text, 24);
        assert!(parse::<Map<String, Value>>(b"[1]", 19).is_err() && check(b"{} {}", 19).is_err());
        assert_eq!(object(text).expect("an object").len(), 2);
    }
}
