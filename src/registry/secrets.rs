//! The secrets of a run, collected so that no server can make this program print one.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::text;

/// This many consecutive bytes of a secret, anywhere in it, count as the secret.
const PART: usize = 16;
/// This many bytes at the start of a secret count as the secret too, because a text may
/// be cut off in the middle of it.
const BEGINNING: usize = 8;
/// Shorter texts are not treated as secrets: they protect nothing, and they occur in
/// ordinary words.
const SHORTEST: usize = 4;
/// The text shown in place of a secret.
const HIDDEN: &str = "(hidden)";

/// All secrets that a client has used. Text is filtered through this before it is shown.
#[derive(Default)]
pub struct Secrets(Mutex<State>);

#[derive(Default)]
struct State {
    /// All encodings of all secrets.
    whole: HashSet<Vec<u8>>,
    /// All runs of [`PART`] bytes of the long ones.
    parts: HashSet<[u8; PART]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Adds a secret, in the encodings in which it is sent and in which messages quote text.
    pub(super) fn add(&self, secret: &str) {
        let quoted = |text: String| text.trim_matches('"').to_owned();
        let forms = [
            secret.to_owned(),
            form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            secret.escape_default().to_string(),
            quoted(format!("{secret:?}")),
            quoted(Value::from(secret).to_string()),
        ];
        let mut state = self.lock();
        for form in forms.into_iter().map(String::into_bytes) {
            if form.len() < SHORTEST {
                continue;
            }
            let parts = form.windows(PART).filter_map(|part| <[u8; PART]>::try_from(part).ok());
            state.parts.extend(parts);
            state.whole.insert(form);
        }
    }

    /// Adds a password, or a token used as one, also in the form in which Basic
    /// authentication sends it.
    pub(super) fn add_password(&self, user: &str, password: &str) {
        self.add(password);
        if !password.is_empty() {
            self.add(&STANDARD.encode(format!("{user}:{password}")));
        }
    }

    /// Adds the password in a proxy's URL.
    pub(super) fn add_proxy(&self, url: &Url) {
        let Some(password) = url.password() else { return };
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        self.add(password);
        self.add_password(&decoded(url.username()), &decoded(password));
    }

    /// Returns `text` with its secrets replaced.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let covered = self.covered(text.as_bytes());
        let mut shown = String::with_capacity(text.len());
        let mut was_hidden = false;
        for (index, c) in text.char_indices() {
            let is_hidden = covered.get(index).copied().unwrap_or_default();
            if !is_hidden {
                shown.push(c);
            } else if !was_hidden {
                shown.push_str(HIDDEN);
            }
            was_hidden = is_hidden;
        }
        shown
    }

    /// Makes a server's text safe to show: one line of at most `limit` characters,
    /// without control characters or secrets.
    #[must_use]
    pub fn clean(&self, text: &str, limit: usize) -> String {
        text::one_line(&self.hide(text), limit)
    }

    /// Whether `text` contains a secret, or a long enough part of one.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.covered(text.as_bytes()).contains(&true)
    }

    /// Returns for each byte of `text` whether it belongs to a secret.
    fn covered(&self, text: &[u8]) -> Vec<bool> {
        let state = self.lock();
        let mut covered = vec![false; text.len()];
        if !state.parts.is_empty() {
            for (start, part) in text.windows(PART).enumerate() {
                if state.parts.contains(part) {
                    covered[start..start + PART].fill(true);
                }
            }
        }
        for secret in &state.whole {
            for start in 0..text.len() {
                let rest = &text[start..];
                let same = secret.iter().zip(rest).take_while(|(one, other)| one == other).count();
                let end = start + same;
                let is_word = |at: Option<&u8>| !at.is_some_and(u8::is_ascii_alphanumeric);
                let stands_alone =
                    is_word(start.checked_sub(1).and_then(|before| text.get(before)))
                        && is_word(text.get(end));
                if same >= BEGINNING || same == secret.len() && stands_alone {
                    covered[start..end].fill(true);
                }
            }
        }
        covered
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_all_forms_and_nothing_else_is() {
        let secrets = Secrets::default();
        let long = "0123456789abcdefghijklmnopqrstuvwxyz";
        secrets.add("p ss/wörd");
        secrets.add("abcd");
        secrets.add("x");
        secrets.add(long);
        secrets.add("it's \"quoted\"\\");
        secrets.add_proxy(&"http://bob:t%20op@proxy:3128".parse().expect("a URL"));
        let encoded: String = form_urlencoded::byte_serialize("p ss/wörd".as_bytes()).collect();
        for (text, expected) in [
            ("it is p ss/wörd, yes".to_owned(), "it is (hidden), yes"),
            ("p ss/w\\u{f6}rd".to_owned(), "(hidden)"),
            ("cut at p ss/wö…".to_owned(), "cut at (hidden)…"),
            (format!("?q={encoded}&n=1"), "?q=(hidden)&n=1"),
            (format!("x{}y", &long[3..30]), "x(hidden)y"),
            (format!("x{}y", &long[3..18]), "x3456789abcdefghy"),
            ("abcd or abcde or (abcd)".to_owned(), "(hidden) or abcde or ((hidden))"),
            ("x".to_owned(), "x"),
            (format!("Basic {}", STANDARD.encode("bob:t op")), "Basic (hidden)"),
            ("http://bob:t%20op@proxy".to_owned(), "http://bob:(hidden)@proxy"),
            (format!("{:?}", "it's \"quoted\"\\"), "\"(hidden)\""),
            ("it\\'s \\\"quoted\\\"\\\\".to_owned(), "(hidden)"),
        ] {
            assert_eq!(secrets.hide(&text), expected);
        }
        assert_eq!(Secrets::default().hide("anything"), "anything");
        assert_eq!(secrets.clean("abcd\u{1b}[1m", 20), "(hidden)\\u{1b}[1m");
    }
}
