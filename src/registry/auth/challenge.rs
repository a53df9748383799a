//! `WWW-Authenticate` headers (RFC 9110 section 11.6.1) as registries actually send them:
//! several challenges on one line or on several, in any case, with commas in quoted
//! strings, and with values that should be quoted but are not.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the challenges in a response's headers.
    pub(in crate::registry) fn of(headers: &HeaderMap) -> Vec<Self> {
        let lines = headers.get_all(WWW_AUTHENTICATE);
        Self::parse_all(lines.iter().filter_map(|line| line.to_str().ok()))
    }

    /// Parses all challenges of all header lines, in order. Unreadable parts are skipped,
    /// so that a malformed challenge doesn't hide a usable one.
    pub fn parse_all<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let mut challenges = Vec::new();
        for line in lines {
            let mut parser = Parser { rest: line };
            while let Some(challenge) = parser.challenge() {
                challenges.push(challenge);
            }
        }
        challenges
    }

    /// Returns the scheme in lower case, such as `bearer` or `basic`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the first value of a parameter. An empty value counts as missing.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn challenge(&mut self) -> Option<Challenge> {
        let scheme = loop {
            self.skip(|c| c.is_ascii_whitespace() || c == ',');
            if self.rest.is_empty() {
                return None;
            }
            match self.take(is_token) {
                // Skip a stray character, so that the loop ends.
                "" => {
                    let mut characters = self.rest.chars();
                    characters.next();
                    self.rest = characters.as_str();
                }
                scheme => break scheme,
            }
        };
        let mut parameters = Vec::new();
        loop {
            self.skip(|c| c.is_ascii_whitespace() || c == ',');
            let before = self.rest;
            let key = self.take(is_token);
            self.skip(|c| c.is_ascii_whitespace());
            let Some(behind) = self.rest.strip_prefix('=').filter(|_| !key.is_empty()) else {
                // Not a parameter: either the next challenge's scheme or the end.
                self.rest = before;
                break;
            };
            self.rest = behind;
            self.skip(|c| c.is_ascii_whitespace());
            let value = self.value();
            parameters.push((key.to_ascii_lowercase(), value));
        }
        Some(Challenge { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    fn value(&mut self) -> String {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.take(|c| !c.is_ascii_whitespace() && c != ',').to_owned();
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &quoted[index + 1..];
                    return value;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        // The closing quote is missing: take what is there as the value.
        self.rest = "";
        value
    }

    fn skip(&mut self, condition: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(condition);
    }

    fn take(&mut self, condition: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !condition(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one string per challenge: `scheme key=value key=value`.
    fn parse(lines: &[&str]) -> Vec<String> {
        Challenge::parse_all(lines.iter().copied())
            .iter()
            .map(|challenge| {
                let parameters: Vec<String> = challenge
                    .parameters
                    .iter()
                    .map(|(key, value)| format!(" {key}={value}"))
                    .collect();
                let parameters = parameters.concat();
                format!("{}{parameters}", challenge.scheme)
            })
            .collect()
    }

    // protocol rule 9: headers recorded from registries
    #[test]
    fn rule_9_recorded_headers_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#;
        assert_eq!(
            parse(&[hub]),
            [
                "bearer realm=https://auth.docker.io/token service=registry.docker.io scope=repository:library/alpine:pull"
            ]
        );
        // Gitea: two lines
        assert_eq!(
            parse(&[r#"Bearer realm="https://git.example/v2/token""#, "Basic"]),
            ["bearer realm=https://git.example/v2/token", "basic"]
        );
        // Nexus: upper case
        assert_eq!(
            parse(&[r#"BASIC realm="Sonatype Nexus Repository Manager""#]),
            ["basic realm=Sonatype Nexus Repository Manager"]
        );
        // zot: nothing quoted, an empty scope
        assert_eq!(parse(&["bearer realm=https://zot/token"]), ["bearer realm=https://zot/token"]);
        assert_eq!(parse(&[r#"Bearer realm="r",scope="""#]), ["bearer realm=r scope="]);
        // several challenges on one line
        assert_eq!(
            parse(&[r#"Negotiate, Basic realm="x", Bearer realm="https://a/t",service="a""#]),
            ["negotiate", "basic realm=x", "bearer realm=https://a/t service=a"]
        );
        // commas and quotes inside quotes, spaces around the equals sign
        assert_eq!(
            parse(&[
                r#"Bearer realm = "a\"b,c" , scope="repository:t:pull,push repository:p:pull""#
            ]),
            [r#"bearer realm=a"b,c scope=repository:t:pull,push repository:p:pull"#]
        );
        // an error after a refused token
        assert_eq!(
            parse(&[r#"Bearer realm="r",error="insufficient_scope""#]),
            ["bearer realm=r error=insufficient_scope"]
        );
    }

    #[test]
    fn nonsense_ends() {
        assert_eq!(parse(&["", " , ,", "\"", "=", "\u{e9}\u{e9}"]), Vec::<String>::new());
        assert_eq!(parse(&[r#"Bearer realm="open"#]), ["bearer realm=open"]);
        assert_eq!(parse(&[r#"Bearer realm="open\"#]), ["bearer realm=open"]);
        assert_eq!(parse(&["é Basic"]), ["basic"]);
    }

    #[test]
    fn an_empty_parameter_is_none() {
        let challenges = Challenge::parse_all([r#"Bearer realm="r",service="""#]);
        assert_eq!(challenges[0].parameter("service"), None);
        assert_eq!(challenges[0].parameter("realm"), Some("r"));
    }
}
