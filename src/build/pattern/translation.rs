//! The translation of Go's syntax into that of the `regex` crate (Go `regexp/syntax/parse.go`).

use std::fmt::Write as _;

/// The largest count in a repetition.
const REPEAT_LIMIT: u32 = 1000;

/// Translates a pattern, or says why Go refuses it.
pub(super) fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut translation = Translation { rest: pattern, out: String::new() };
    translation.translate()?;
    Ok(translation.out)
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
        // The last word on a flag counts; `regex` wants to hear it once.
        let (mut on, mut off, mut is_off, mut is_open) =
            (String::new(), String::new(), false, false);
        loop {
            match self.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    on.retain(|other| other != flag);
                    off.retain(|other| other != flag);
                    if is_off {
                        off.push(flag);
                    } else {
                        on.push(flag);
                    }
                    is_open = false;
                }
                Some('-') if !is_off => (is_off, is_open) = (true, true),
                Some(end @ (':' | ')')) if !is_open => {
                    let off = if off.is_empty() { off } else { format!("-{off}") };
                    if end == ':' || !(on.is_empty() && off.is_empty()) {
                        let _ = write!(self.out, "(?{on}{off}{end}");
                    }
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
