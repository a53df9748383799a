//! Times as Go reads and writes them: RFC 3339, with nanoseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time that Go can read, in the form in which Go writes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Time(String);

/// The text is not a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected a time such as `2024-05-13T09:31:10Z`")]
pub struct NotATime;

impl Time {
    /// Reads a time as Go's `time.Parse` does with the layout RFC 3339: the hour may have one
    /// digit, the fraction any number, after a dot or a comma.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        // What Go reads of a zone, it doesn't read again once it has written it.
        let time = parse(text, false).filter(|time| parse(time, true).is_some());
        time.map(Self).ok_or(NotATime)
    }

    /// Reads a time as Go's JSON decoder does, which is stricter.
    pub fn parse_strictly(text: &str) -> Result<Self, NotATime> {
        parse(text, true).map(Self).ok_or(NotATime)
    }

    /// The time that Go calls zero, upstream's default.
    #[must_use]
    pub fn zero() -> Self {
        Self("0001-01-01T00:00:00Z".to_owned())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_strictly(&text).map_err(serde::de::Error::custom)
    }
}

/// Reads the parts of a time from the front of a text.
struct Parts<'a>(&'a str);

impl Parts<'_> {
    /// A number of exactly this many digits.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        self.0 = rest;
        is_number.then(|| digits.parse().ok()).flatten()
    }

    fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// The digits of a fraction, if there is one.
    fn fraction(&mut self, strict: bool) -> Option<&str> {
        let separators: &[char] = if strict { &['.'] } else { &['.', ','] };
        let Some(rest) = self.0.strip_prefix(separators) else { return Some("") };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(end);
        self.0 = rest;
        (!digits.is_empty()).then_some(digits)
    }

    /// The offset from UTC, as Go writes it.
    fn zone(&mut self, strict: bool) -> Option<String> {
        if self.0 == "Z" {
            return Some("Z".to_owned());
        }
        let sign = self.0.chars().next().filter(|sign| matches!(sign, '+' | '-'))?;
        self.0 = &self.0[1..];
        let hours = self.digits(2)?;
        self.literal(":")?;
        let minutes = self.digits(2)?;
        // Go's parser is generous here, its JSON decoder is not.
        let (most_hours, most_minutes) = if strict { (23, 59) } else { (24, 60) };
        if !self.0.is_empty() || hours > most_hours || minutes > most_minutes {
            return None;
        }
        let minutes = hours * 60 + minutes;
        if minutes == 0 {
            return Some("Z".to_owned());
        }
        Some(format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60))
    }
}

fn parse(text: &str, strict: bool) -> Option<String> {
    let mut parts = Parts(text);
    let year = parts.digits(4)?;
    parts.literal("-")?;
    let month = parts.digits(2)?;
    parts.literal("-")?;
    let day = parts.digits(2)?;
    parts.literal("T")?;
    let has_short_hour = !strict && parts.0.as_bytes().get(1) == Some(&b':');
    let hour = parts.digits(if has_short_hour { 1 } else { 2 })?;
    parts.literal(":")?;
    let minute = parts.digits(2)?;
    parts.literal(":")?;
    let second = parts.digits(2)?;
    let fraction = parts.fraction(strict)?;
    let fraction = fraction.get(..9).unwrap_or(fraction).trim_end_matches('0').to_owned();
    let zone = parts.zone(strict)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let dot = if fraction.is_empty() { "" } else { "." };
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}{zone}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each of these was tried with Go's `time.Parse(time.RFC3339, …)`.
    #[test]
    fn times_are_read_and_written_as_go_does_it() {
        for (text, expected) in [
            ("2024-05-13T09:31:10Z", Some("2024-05-13T09:31:10Z")),
            ("2024-05-13T09:31:10+02:00", Some("2024-05-13T09:31:10+02:00")),
            ("2024-05-13T09:31:10+00:00", Some("2024-05-13T09:31:10Z")),
            ("2024-05-13T09:31:10.120Z", Some("2024-05-13T09:31:10.12Z")),
            ("2024-05-13T09:31:10,5Z", Some("2024-05-13T09:31:10.5Z")),
            ("2024-05-13T9:31:10Z", Some("2024-05-13T09:31:10Z")),
            ("2024-05-13T09:31:10.1234567899Z", Some("2024-05-13T09:31:10.123456789Z")),
            ("now", None),
            ("2024-05-13", None),
            ("2024-05-13T24:00:00Z", None),
            ("2024-05-13T09:31:60Z", None),
            ("2024-05-13t09:31:10Z", None),
            ("2024-05-13T09:31:10z", None),
            ("2024-02-30T09:31:10Z", None),
            ("2024-05-13T09:31:10", None),
            ("2024-05-13T09:31:10Zé", None),
        ] {
            assert_eq!(
                Time::parse(text).ok().map(|time| time.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
        for text in ["2024-05-13T9:31:10Z", "2024-05-13T09:31:10,5Z", "2024-05-13T09:31:10+24:00"] {
            assert_eq!(Time::parse_strictly(text), Err(NotATime), "{text}");
        }
    }

    // Each of these was tried with Go's `time.Time.UnmarshalJSON`.
    #[test]
    fn json_has_the_times_that_go_reads() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2024-02-29T23:59:59.999999999+05:30",
            "0001-01-01T00:00:00Z",
            "2026-01-02T03:04:05.1Z",
        ] {
            assert!(Time::parse_strictly(text).is_ok(), "{text}");
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
            assert!(Time::parse_strictly(text).is_err(), "{text}");
        }
    }
}
