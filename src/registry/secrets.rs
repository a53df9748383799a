//! The secrets of a run, so that no server can make this program show one.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use crate::text;

/// So many bytes of a secret in a row are taken for it. What is shorter is taken
/// whole.
const PART: usize = 16;
/// A secret that is shorter counts as a word alone: its letters are in other words.
const SHORT: usize = 4;
/// What stands in the place of a secret.
const HIDDEN: &str = "(hidden)";

/// All secrets that a client has used. What is shown goes through here.
#[derive(Default)]
pub struct Secrets(Mutex<State>);

#[derive(Default)]
struct State {
    /// Those that are looked for whole.
    whole: HashSet<Vec<u8>>,
    /// The parts of long ones.
    parts: HashSet<[u8; PART]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Notes a secret, in the forms in which it is sent.
    pub(super) fn add(&self, secret: &str) {
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let mut state = self.lock();
        for form in [secret, &encoded] {
            if form.len() >= PART {
                state.parts.extend(form.as_bytes().windows(PART).filter_map(|part| {
                    let part: Result<[u8; PART], _> = part.try_into();
                    part.ok()
                }));
            } else if !form.is_empty() {
                state.whole.insert(form.as_bytes().to_vec());
            }
        }
    }

    /// Notes a password, or what stands for one, also as Basic authentication sends it.
    pub(super) fn add_password(&self, user: &str, password: &str) {
        self.add(password);
        if !password.is_empty() {
            self.add(&STANDARD.encode(format!("{user}:{password}")));
        }
    }

    /// Notes the password in a proxy's URL.
    pub(super) fn add_proxy(&self, url: &Url) {
        let Some(password) = url.password() else { return };
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        self.add(password);
        self.add_password(&decoded(url.username()), &decoded(password));
    }

    /// `text` without what is secret in it.
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

    /// What may be shown of a server's words: one line of at most `limit`
    /// characters, in which nothing is active or secret.
    #[must_use]
    pub fn clean(&self, text: &str, limit: usize) -> String {
        text::one_line(&self.hide(text), limit)
    }

    /// Whether `text` repeats a secret, or a good part of a long one.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.covered(text.as_bytes()).contains(&true)
    }

    /// Which bytes of `text` belong to a secret.
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
            for (start, part) in text.windows(secret.len()).enumerate() {
                let end = start + secret.len();
                let is_word = |at: Option<&u8>| !at.is_some_and(u8::is_ascii_alphanumeric);
                let stands_alone =
                    is_word(start.checked_sub(1).and_then(|before| text.get(before)))
                        && is_word(text.get(end));
                if part == secret && (secret.len() >= SHORT || stands_alone) {
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
        secrets.add("abc");
        secrets.add(long);
        secrets.add_proxy(&"http://bob:t%20op@proxy:3128".parse().expect("a URL"));
        let encoded: String = form_urlencoded::byte_serialize("p ss/wörd".as_bytes()).collect();
        for (text, expected) in [
            ("it is p ss/wörd, yes".to_owned(), "it is (hidden), yes"),
            (format!("?q={encoded}&n=1"), "?q=(hidden)&n=1"),
            (format!("x{}y", &long[3..30]), "x(hidden)y"),
            (format!("x{}y", &long[3..18]), "x3456789abcdefghy"),
            ("abc or abcd or (abc)".to_owned(), "(hidden) or abcd or ((hidden))"),
            (format!("Basic {}", STANDARD.encode("bob:t op")), "Basic (hidden)"),
            ("http://bob:t%20op@proxy".to_owned(), "http://bob:(hidden)@proxy"),
        ] {
            assert_eq!(secrets.hide(&text), expected);
        }
        assert_eq!(Secrets::default().hide("anything"), "anything");
        assert_eq!(secrets.clean("abc\u{1b}[1m", 20), "(hidden)\\u{1b}[1m");
    }
}
