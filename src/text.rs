//! Making untrusted text safe to print.

use std::fmt::Write as _;

/// Whether a character can move the cursor, change colours, end a line, or change how
/// other characters are displayed: the C0 and C1 control characters, and Unicode's
/// format characters (general categories Cc, Cf, Zl and Zp, as far as they matter here).
#[must_use]
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns the first `limit` characters of `text` as one line, with active characters
/// escaped. A final `…` shows that the text was cut.
#[must_use]
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == limit {
            line.push('…');
            break;
        }
        if is_active(c) {
            // Writing to a string can't fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Returns `text` without what looks like a user and a password before a host, as in
/// `https://user:password@host/path` or in a name that begins so by mistake.
#[must_use]
pub fn without_passwords(text: &str) -> String {
    let is_boundary = |c: char| c.is_whitespace() || "`\"'(),".contains(c);
    text.split_inclusive(is_boundary)
        .map(|part| {
            let word = part.trim_end_matches(is_boundary);
            without_password(word) + &part[word.len()..]
        })
        .collect()
}

fn without_password(word: &str) -> String {
    let start = word.find("://").map_or(0, |index| index + "://".len());
    let is_digest = |text: &str| {
        let (algorithm, hex) = text.split_once(':').unwrap_or_default();
        !algorithm.is_empty()
            && algorithm.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && hex.chars().all(|c| c.is_ascii_hexdigit() || c == '…')
            && hex.chars().count() >= 6
    };
    let end = match word.rsplit_once('@') {
        Some((before, behind)) if is_digest(behind) => before.len(),
        _ => word.len(),
    };
    let user = word.get(start..end).and_then(|name| name.rsplit_once('@')).map(|(user, _)| user);
    match user {
        Some(user) if user.contains(':') => {
            format!("{}…{}", &word[..start], &word[start + user.len()..])
        }
        _ => word.to_owned(),
    }
}

/// Returns `text` with its line breaks, and with all other active characters escaped.
#[must_use]
pub fn lines(text: &str) -> String {
    text.split('\n').map(|line| one_line(line, usize::MAX)).collect::<Vec<_>>().join("\n")
}

/// Returns JSON with the same values, but with active characters escaped.
#[must_use]
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // A literal line break in JSON is always between values, never inside one.
        if is_active(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string can't fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, expected) in [
            ("invalid `https://me:s3cret@host/a:1`", "invalid `https://…@host/a:1`"),
            ("`me:s3cret@host:5077`: no", "`…@host:5077`: no"),
            ("x=docker://me:s3c@ret@host/a", "x=docker://…@host/a"),
            (&format!("me:pw@host/a:1@{digest} b"), &format!("…@host/a:1@{digest} b")),
            ("me:pw@sha256:5000/a", "…@sha256:5000/a"),
            // Nothing of the kind.
            ("ssh://me@host:22/x", "ssh://me@host:22/x"),
            ("`a/b:1@sha256:31e35…`", "`a/b:1@sha256:31e35…`"),
            (&format!("localhost:5000/a@{digest}"), &format!("localhost:5000/a@{digest}")),
            ("at 5:00 @ home", "at 5:00 @ home"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }

    #[test]
    fn nothing_active_is_left() {
        // An escape sequence in both encodings, a line break, direction controls, a tag.
        let text = "a\u{1b}[31m\u{9b}31m\r\nb\u{202e}c\u{2066}d\u{e0041}é";
        let line = one_line(text, 200);
        assert!(!line.chars().any(is_active), "{line}");
        assert!(line.starts_with("a\\u{1b}[31m") && line.ends_with('é'), "{line}");
        assert_eq!(lines("a\nb\u{7}"), "a\nb\\u{7}");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    #[test]
    fn json_stays_what_it_stands_for() {
        let value = serde_json::json!({ "👩\u{200d}💻\u{9b}": "\u{202e}\u{e0041}\u{7f}é\n" });
        let text = json(&value.to_string());
        assert!(!text.chars().any(is_active), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
