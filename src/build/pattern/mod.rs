//! Regular expressions with Go's syntax and meaning (Go `regexp/syntax`), over names that
//! may not be UTF-8.
//!
//! A pattern is translated into one for the `regex` crate, with every character and class
//! spelled out where the two differ. A pattern that Go refuses is refused here too, as far
//! as its syntax goes; one that Go takes and `regex` doesn't is an error, never another
//! meaning.

mod translation;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex, RegexBuilder};

/// How large a compiled pattern may be, in bytes.
const SIZE_LIMIT: usize = 256 << 20;

/// Why a pattern can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Go doesn't take it either.
    #[error("invalid regular expression `{pattern}`: {reason}")]
    Syntax {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is too large, or has a class that isn't known.
    #[error("unsupported regular expression `{pattern}`")]
    Unsupported {
        /// The pattern.
        pattern: String,
        /// What the compiler said.
        #[source]
        source: Box<regex::Error>,
    },
}

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern in Go's syntax.
    pub(crate) fn new(pattern: &str) -> Result<Self, Error> {
        let translated = translation::translate(pattern)
            .map_err(|reason| Error::Syntax { pattern: pattern.to_owned(), reason })?;
        // Go counts otherwise what is too large.
        let built = RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).nest_limit(1000).build();
        let regex = built.map_err(|source| Error::Unsupported {
            pattern: pattern.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Self { regex })
    }

    /// Whether the pattern matches somewhere.
    pub(crate) fn is_match(&self, name: &[u8]) -> bool {
        match std::str::from_utf8(name) {
            Ok(text) => self.regex.is_match(text),
            Err(_) => self.regex.is_match(&Decoded::new(name).text),
        }
    }

    /// Replaces every match (Go: `ReplaceAllString`).
    pub(crate) fn replace_all(&self, name: &[u8], replacement: &Replacement) -> Vec<u8> {
        let decoded = Decoded::new(name);
        let (mut replaced, mut done) = (Vec::new(), 0);
        for captures in self.regex.captures_iter(&decoded.text) {
            let whole = captures.get_match();
            replaced.extend_from_slice(decoded.original(done, whole.start()));
            replacement.expand(&captures, &decoded, &mut replaced);
            done = whole.end();
        }
        replaced.extend_from_slice(decoded.original(done, decoded.text.len()));
        replaced
    }
}

/// Bytes as Go's regular expressions see them: each byte that isn't UTF-8 is U+FFFD.
struct Decoded<'a> {
    text: Cow<'a, str>,
    bytes: &'a [u8],
    /// Where such bytes are: behind which position of the text the bytes have moved, and by
    /// how many.
    shifts: Vec<(usize, usize)>,
}

impl<'a> Decoded<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Self { text: text.into(), bytes, shifts: Vec::new() };
        }
        let (mut text, mut shifts, mut shift) = (String::new(), Vec::new(), 0);
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for _ in chunk.invalid() {
                text.push(char::REPLACEMENT_CHARACTER);
                shift += char::REPLACEMENT_CHARACTER.len_utf8() - 1;
                shifts.push((text.len(), shift));
            }
        }
        Self { text: text.into(), bytes, shifts }
    }

    /// The bytes behind a part of the text.
    fn original(&self, start: usize, end: usize) -> &'a [u8] {
        let position = |at: usize| {
            let count = self.shifts.partition_point(|(from, _)| *from <= at);
            at - count.checked_sub(1).map_or(0, |last| self.shifts[last].1)
        };
        &self.bytes[position(start)..position(end)]
    }
}

/// A replacement in Go's syntax (`Regexp.Expand`).
#[derive(Clone, Debug)]
pub(crate) struct Replacement(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Number(usize),
    Name(String),
}

impl Replacement {
    /// Reads a replacement; every text is one.
    pub(crate) fn new(template: &str) -> Self {
        let (mut parts, mut rest) = (Vec::new(), template);
        while let Some((before, behind)) = rest.split_once('$') {
            parts.push(Part::Text(before.to_owned()));
            rest = behind;
            if let Some(behind) = rest.strip_prefix('$') {
                parts.push(Part::Text("$".to_owned()));
                rest = behind;
            } else if let Some((name, behind)) = group(rest) {
                parts.push(number(name).map_or_else(|| Part::Name(name.to_owned()), Part::Number));
                rest = behind;
            } else {
                parts.push(Part::Text("$".to_owned()));
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Self(parts)
    }

    fn expand(&self, captures: &Captures<'_>, decoded: &Decoded<'_>, into: &mut Vec<u8>) {
        for part in &self.0 {
            let group = match part {
                Part::Text(text) => {
                    into.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Number(number) => captures.get(*number),
                Part::Name(name) => captures.name(name),
            };
            // An unknown group is empty, and one without a match too.
            if let Some(group) = group {
                into.extend_from_slice(decoded.original(group.start(), group.end()));
            }
        }
    }
}

/// The name of a group: letters and decimal digits, which are fewer than Rust's.
static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}_]*").expect("a valid pattern"));

/// The name of a group behind a `$`, with or without braces, and what follows.
fn group(text: &str) -> Option<(&str, &str)> {
    let (braced, body) = match text.strip_prefix('{') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let end = NAME.find(body).map_or(0, |name| name.end());
    let (name, rest) = body.split_at(end);
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// A group's number, without leading zeros.
fn number(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = name.len() > 1 && name.starts_with('0');
    (is_number && !has_zeros && name.len() <= 9).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, names: &[&str]) -> Vec<bool> {
        let pattern = Pattern::new(pattern).expect(pattern);
        names.iter().map(|name| pattern.is_match(name.as_bytes())).collect()
    }

    // Each of these was tried with Go's regexp (golden case 24 and its table).
    #[test]
    fn what_differs_from_the_regex_crate_has_gos_meaning() {
        for (pattern, name, expected) in [
            (r"^\d$", "٣", false),
            (r"^\w$", "é", false),
            (r"^\s$", "\u{b}", false),
            (r"^[[:space:]]$", "\u{b}", true),
            (r"\bx", "éx", true),
            ("{sites,config}", "a{sites,config}", true),
            ("a{,2}", "a{,2}", true),
            ("x{3}", "xxx", true),
            (r"\Qa.b*\E", "a.b*", true),
            (r"\Qa.b*\E", "axb", false),
            ("[[]x", "[x", true),
            ("[]x]", "]", true),
            ("^[a&&b]$", "&", true),
            (r"\<a\>", "<a>", true),
            (r"^\x{e9}$", "é", true),
            (r"^\101$", "A", true),
            ("(?i)^k$", "\u{212a}", true),
            ("(?i)^[a-z]$", "\u{212a}", true),
            (r"^\pL+$", "éa", true),
            (r"^\p{^Greek}$", "α", false),
            ("^[^a]$", "é", true),
            (r"a$", "a\n", false),
            (r"a\z", "a", true),
            ("(?s)^.$", "\n", true),
            ("^.$", "\n", false),
            (r"[\d-z]", "-", true),
            ("", "anything", true),
        ] {
            assert_eq!(matches(pattern, &[name]), [expected], "{pattern} on {name:?}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            "(",
            ")",
            "a**",
            "*a",
            "a{2}{3}",
            "a{1001}",
            "a{2,1}",
            "[",
            "[a",
            "[z-a]",
            "[a--]",
            r"\8",
            r"\1",
            r"\C",
            r"\Z",
            r"\u{41}",
            "(?x)a",
            "(?u)a",
            "(?-)",
            "(?=a)",
            "[[:nothing:]]",
            "\\",
            r"\p{Alphabetic=1}",
            "(?P<n>a)(?P<n>b)",
            "(?P<>a)",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        let error = Pattern::new("(").expect_err("an error");
        assert_eq!(error.to_string(), "invalid regular expression `(`: missing closing `)`");
    }

    #[test]
    fn bytes_that_are_no_text_match_as_one_character_each() {
        let dot = Pattern::new("^..$").expect("valid");
        assert!(dot.is_match(b"\xff\xfe") && !dot.is_match("é".as_bytes()));
        assert!(Pattern::new("\u{fffd}").expect("valid").is_match(b"a\xff"));
        let pattern = Pattern::new("(b).").expect("valid");
        let replaced = pattern.replace_all(b"a\xffb\xfec\xfd", &Replacement::new("[$1]"));
        assert_eq!(replaced, b"a\xff[b]c\xfd");
    }

    #[test]
    fn replacements_are_expanded_as_go_does_it() {
        let pattern = Pattern::new("(?P<first>a)(b)?").expect("valid");
        for (template, expected) in [
            ("$1-$2", "a-"),
            ("${1}x", "ax"),
            ("$1x", ""),
            ("$first", "a"),
            ("${first}", "a"),
            ("$$1", "$1"),
            ("$", "$"),
            ("${1", "${1"),
            ("$01", ""),
            ("$9", ""),
            ("$1²", "a²"),
            ("", ""),
        ] {
            let replaced = pattern.replace_all(b"a", &Replacement::new(template));
            assert_eq!(String::from_utf8_lossy(&replaced), expected, "{template}");
        }
        let empty = Pattern::new("x*").expect("valid");
        assert_eq!(empty.replace_all(b"abc", &Replacement::new("-")), b"-a-b-c-");
        assert_eq!(empty.replace_all(b"axc", &Replacement::new("-")), b"-a-c-");
    }
}
