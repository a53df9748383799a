//! Regular expressions with Go's syntax and meaning (Go `regexp/syntax`), over names that
//! may not be UTF-8.
//!
//! A pattern is translated into one for the `regex` crate, with every character and class
//! spelled out where the two differ. A pattern that Go refuses is refused here too, as far
//! as its syntax goes; one that Go takes and `regex` doesn't is an error, never another
//! meaning.

use std::borrow::Cow;
use std::fmt::Write as _;

use regex::{Captures, Regex};

/// The largest count in a repetition.
const REPEAT_LIMIT: u32 = 1000;

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
        let mut translation = Translation { rest: pattern, out: String::new() };
        let syntax = |reason| Error::Syntax { pattern: pattern.to_owned(), reason };
        translation.translate().map_err(syntax)?;
        let regex = Regex::new(&translation.out).map_err(|source| Error::Unsupported {
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

/// The name of a group behind a `$`, with or without braces, and what follows.
fn group(text: &str) -> Option<(&str, &str)> {
    let (braced, body) = match text.strip_prefix('{') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let end = body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len());
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

/// A pattern on its way from Go's syntax to that of the `regex` crate.
struct Translation<'a> {
    rest: &'a str,
    out: String,
}

/// What was translated last, as far as a repetition may follow it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Last {
    /// Nothing that can be repeated.
    Nothing,
    Atom,
    Repetition,
}

const POSIX: [(&str, &str); 14] = [
    ("alnum", "0-9A-Za-z"),
    ("alpha", "A-Za-z"),
    ("ascii", r"\x00-\x7f"),
    ("blank", r"\t\x20"),
    ("cntrl", r"\x00-\x1f\x7f"),
    ("digit", "0-9"),
    ("graph", r"\x21-\x7e"),
    ("lower", "a-z"),
    ("print", r"\x20-\x7e"),
    ("punct", r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e"),
    ("space", r"\t\n\x0b\x0c\r\x20"),
    ("upper", "A-Z"),
    ("word", "0-9A-Za-z_"),
    ("xdigit", "0-9A-Fa-f"),
];

impl Translation<'_> {
    fn translate(&mut self) -> Result<(), &'static str> {
        let mut last = Last::Nothing;
        let mut open_groups = 0_u32;
        while let Some(character) = self.next() {
            last = match character {
                '(' => {
                    open_groups += u32::from(self.open()?);
                    Last::Nothing
                }
                ')' => {
                    open_groups = open_groups.checked_sub(1).ok_or("unexpected `)`")?;
                    self.out.push(')');
                    Last::Atom
                }
                '|' => {
                    self.out.push('|');
                    Last::Nothing
                }
                '*' | '+' | '?' => {
                    self.out.push(character);
                    self.repeated(last)?
                }
                '{' => match self.count()? {
                    Some(count) => {
                        self.out.push_str(&count);
                        self.repeated(last)?
                    }
                    None => self.literal('{'),
                },
                '[' => self.class()?,
                '.' | '^' | '$' => {
                    self.out.push(character);
                    Last::Atom
                }
                '\\' => self.escape()?,
                other => self.literal(other),
            };
        }
        if open_groups == 0 { Ok(()) } else { Err("missing closing `)`") }
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn literal(&mut self, character: char) -> Last {
        push_character(&mut self.out, character);
        Last::Atom
    }

    /// A repetition, with the `?` that makes it lazy.
    fn repeated(&mut self, last: Last) -> Result<Last, &'static str> {
        match last {
            Last::Nothing => Err("missing argument to repetition operator"),
            Last::Repetition => Err("invalid nested repetition operator"),
            Last::Atom => {
                if self.take("?") {
                    self.out.push('?');
                }
                Ok(Last::Repetition)
            }
        }
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else behind a brace makes the brace a character.
    fn count(&mut self) -> Result<Option<String>, &'static str> {
        let Some((inside, rest)) = self.rest.split_once('}') else { return Ok(None) };
        let (least, most) = match inside.split_once(',') {
            Some((least, most)) => (least, Some(most)),
            None => (inside, None),
        };
        let is_number = |text: &str| {
            let has_zeros = text.len() > 1 && text.starts_with('0');
            !text.is_empty() && !has_zeros && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(least) || !most.is_none_or(|most| most.is_empty() || is_number(most)) {
            return Ok(None);
        }
        let parse = |text: &str| text.parse::<u32>().ok().filter(|count| *count <= REPEAT_LIMIT);
        let least_count = parse(least).ok_or("invalid repeat count")?;
        if let Some(most) = most.filter(|most| !most.is_empty())
            && parse(most).is_none_or(|most| most < least_count)
        {
            return Err("invalid repeat count");
        }
        self.rest = rest;
        Ok(Some(format!("{{{inside}}}")))
    }

    /// The beginning of a group. `false` if it only sets flags, and is closed already.
    fn open(&mut self) -> Result<bool, &'static str> {
        if !self.take("?") {
            self.out.push('(');
            return Ok(true);
        }
        if self.take("P<") || self.take("<") {
            let (name, rest) = self.rest.split_once('>').ok_or("invalid named capture")?;
            let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(is_name) {
                return Err("invalid named capture");
            }
            self.rest = rest;
            // Go takes names that begin with a digit; `regex` wants a letter.
            let _ = write!(self.out, "(?P<{name}>");
            return Ok(true);
        }
        let mut flags = String::new();
        loop {
            match self.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => flags.push(flag),
                Some('-') if !flags.contains('-') => flags.push('-'),
                Some(end @ (':' | ')')) => {
                    if flags.ends_with('-') || flags.is_empty() && end == ')' {
                        return Err("invalid or unsupported Perl syntax");
                    }
                    let _ = write!(self.out, "(?{flags}{end}");
                    return Ok(end == ':');
                }
                _ => return Err("invalid or unsupported Perl syntax"),
            }
        }
    }

    /// What follows a backslash, outside a class.
    fn escape(&mut self) -> Result<Last, &'static str> {
        let mut characters = self.rest.chars();
        let name = characters.next().ok_or("trailing backslash at end of expression")?;
        let rest = characters.as_str();
        if let Some(class) = perl(name) {
            self.rest = rest;
            let _ = write!(self.out, "[{class}]");
            return Ok(Last::Atom);
        }
        match name {
            'A' | 'z' => {
                self.out.push('\\');
                self.out.push(name);
            }
            // Words of ASCII.
            'b' => self.out.push_str(r"(?-u:\b)"),
            // `regex` could find it in the middle of a character.
            'B' => return Err("`\\B` is not supported"),
            'Q' => {
                let (text, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
                for character in text.chars() {
                    push_character(&mut self.out, character);
                }
                self.rest = behind;
                return Ok(if text.is_empty() { Last::Nothing } else { Last::Atom });
            }
            'p' | 'P' => {
                let class = self.unicode_class()?;
                let _ = write!(self.out, "[{class}]");
                return Ok(Last::Atom);
            }
            _ => {
                let character = self.escaped_character()?;
                return Ok(self.literal(character));
            }
        }
        self.rest = rest;
        Ok(Last::Atom)
    }

    /// `\pN`, `\p{Name}`, or with `P` or `^` the opposite. At the letter `p`.
    fn unicode_class(&mut self) -> Result<String, &'static str> {
        let mut negated = self.next() == Some('P');
        let name = match self.next().ok_or("invalid character class range")? {
            '{' => {
                let (name, rest) =
                    self.rest.split_once('}').ok_or("invalid character class range")?;
                self.rest = rest;
                name.to_owned()
            }
            letter => letter.to_string(),
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negated = !negated;
                name.to_owned()
            }
            None => name,
        };
        // General categories and scripts by their names; nothing else that `regex` knows.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
            return Err("invalid character class range");
        }
        Ok(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// A character behind a backslash, in a class or not (Go: `parseEscape`).
    fn escaped_character(&mut self) -> Result<char, &'static str> {
        let invalid = "invalid escape sequence";
        let character = self.next().ok_or("trailing backslash at end of expression")?;
        let octal = |parser: &mut Self, first: u32, more: usize| {
            let mut value = first;
            for _ in 0..more {
                let Some(digit) = parser.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                    break;
                };
                value = value * 8 + digit;
                parser.next();
            }
            char::from_u32(value).ok_or(invalid)
        };
        match character {
            // A single digit would refer to a group, which Go doesn't do.
            '1'..='7' if self.rest.starts_with(|c: char| c.is_digit(8)) => {
                octal(self, character.to_digit(8).unwrap_or(0), 2)
            }
            '0' => octal(self, 0, 2),
            'x' => {
                let digits = if self.take("{") {
                    let (digits, rest) = self.rest.split_once('}').ok_or(invalid)?;
                    self.rest = rest;
                    digits.to_owned()
                } else {
                    let digits = self.rest.get(..2).ok_or(invalid)?.to_owned();
                    self.rest = &self.rest[2..];
                    digits
                };
                let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let value = is_hex.then(|| u32::from_str_radix(&digits, 16).ok()).flatten();
                value.and_then(char::from_u32).ok_or(invalid)
            }
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Ok(other),
            _ => Err(invalid),
        }
    }

    /// A class in brackets, behind its `[`.
    fn class(&mut self) -> Result<Last, &'static str> {
        let missing = "missing closing `]`";
        let mut class = String::from("[");
        if self.take("^") {
            class.push('^');
        }
        let mut is_first = true;
        loop {
            if !is_first && self.take("]") {
                break;
            }
            is_first = false;
            if self.rest.is_empty() {
                return Err(missing);
            }
            if self.rest.starts_with("[:")
                && let Some((inside, rest)) = self.rest[2..].split_once(":]")
            {
                let (name, negated) = match inside.strip_prefix('^') {
                    Some(name) => (name, true),
                    None => (inside, false),
                };
                let known = POSIX.iter().find(|(known, _)| *known == name);
                let (_, ranges) = known.ok_or("invalid character class range")?;
                let _ = write!(class, "[{}{ranges}]", if negated { "^" } else { "" });
                self.rest = rest;
                continue;
            }
            if let Some(escaped) = self.rest.strip_prefix('\\') {
                if let Some(ranges) = escaped.chars().next().and_then(perl) {
                    let _ = write!(class, "[{ranges}]");
                    self.rest = &escaped[1..];
                    continue;
                }
                if escaped.starts_with(['p', 'P']) {
                    self.rest = escaped;
                    let name = self.unicode_class()?;
                    class.push_str(&name);
                    continue;
                }
            }
            let low = self.class_character()?;
            push_character(&mut class, low);
            // A hyphen before the end is a character.
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                let high = self.class_character()?;
                if high < low {
                    return Err("invalid character class range");
                }
                class.push('-');
                push_character(&mut class, high);
            }
        }
        class.push(']');
        self.out.push_str(&class);
        Ok(Last::Atom)
    }

    fn class_character(&mut self) -> Result<char, &'static str> {
        match self.next().ok_or("missing closing `]`")? {
            '\\' => self.escaped_character(),
            character => Ok(character),
        }
    }
}

/// The ranges of one of Perl's classes, which are ASCII in Go.
fn perl(name: char) -> Option<&'static str> {
    Some(match name {
        'd' => "0-9",
        'D' => "^0-9",
        's' => r"\t\n\x0c\r\x20",
        'S' => r"^\t\n\x0c\r\x20",
        'w' => "0-9A-Za-z_",
        'W' => "^0-9A-Za-z_",
        _ => return None,
    })
}

/// A character that means itself, wherever it is.
fn push_character(out: &mut String, character: char) {
    if character.is_ascii_alphanumeric() || !character.is_ascii() {
        out.push(character);
    } else {
        // Writing to a string can't fail.
        let _ = write!(out, "\\x{{{:x}}}", u32::from(character));
    }
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
            "(?)",
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
