//! Tags that are versions, and the newest version that a tag may move to.
//!
//! Such a tag has the form `[v]NUMBER[.NUMBER…][-PRE-RELEASE][SUFFIX]`. The suffix says
//! which kind of image it is (`-slim`, `-alpine3.19`), so it stays the same. The number
//! of parts may change, though not from several to one: `3.19` may become `3.19.4`,
//! which may become `3.20`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// From this value on, the first number is a year (`2024.1`) or a build number.
const YEAR_LIKE: u64 = 1000;
/// From this value on, any number is a date (`20240329`) or a build number.
const DATE_LIKE: u64 = 10_000;
/// The names of pre-releases. If one is a prefix of another, the longer one comes first.
const PRE_RELEASES: [&str; 8] = ["alpha", "beta", "dev", "pre", "rc", "a", "b", "m"];
/// The names that need a number: `-dev` alone is a kind of image.
const NUMBERED: [&str; 5] = ["dev", "pre", "a", "b", "m"];

/// How far a tag may move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bump {
    /// The first two numbers stay: `3.19.1` to `3.19.4`.
    Patch,
    /// The first number stays: `3.19` to `3.20`.
    Minor,
    /// No number stays: to the newest version.
    Major,
}

impl Bump {
    const fn kept(self) -> usize {
        match self {
            Self::Patch => 2,
            Self::Minor => 1,
            Self::Major => 0,
        }
    }
}

/// A tag that is a version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagVersion {
    tag: String,
    prefix: String,
    numbers: Vec<u64>,
    /// The name of the pre-release, in lower case, and its number.
    pre_release: Option<(String, u64)>,
    suffix: String,
}

/// The error for a tag that is not a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoVersion;

impl FromStr for TagVersion {
    type Err = NoVersion;

    fn from_str(tag: &str) -> Result<Self, NoVersion> {
        let digits = tag.strip_prefix('v').unwrap_or(tag);
        let prefix = &tag[..tag.len() - digits.len()];
        let mut numbers = Vec::new();
        let mut rest = digits;
        loop {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            numbers.push(rest[..end].parse().map_err(|_| NoVersion)?);
            rest = &rest[end..];
            match rest.strip_prefix('.') {
                Some(next) if next.starts_with(|c: char| c.is_ascii_digit()) => rest = next,
                _ => break,
            }
        }
        let (pre_release, suffix) = match pre_release(rest) {
            Some((name, number, suffix)) => (Some((name, number)), suffix),
            None => (None, rest),
        };
        Ok(Self {
            tag: tag.to_owned(),
            prefix: prefix.to_owned(),
            numbers,
            pre_release,
            suffix: suffix.to_owned(),
        })
    }
}

impl fmt::Display for TagVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.tag)
    }
}

/// Splits off a pre-release: `-rc.1-slim` → `rc`, 1 and `-slim`.
fn pre_release(text: &str) -> Option<(String, u64, &str)> {
    let named = text.strip_prefix(['-', '_', '.']).unwrap_or(text);
    let is_apart = named.len() < text.len();
    let lower = named.to_ascii_lowercase();
    // `1.0b5` is a pre-release; `1.0-b5` is build 5.
    let is_name = |name: &&str| lower.starts_with(*name) && !(is_apart && name.len() == 1);
    let name = PRE_RELEASES.into_iter().find(is_name)?;
    let behind = &named[name.len()..];
    let digits = behind.strip_prefix(['.', '-']).unwrap_or(behind);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    // `-alpine` begins with `a`, and `-beta2` is `beta`, not `b`.
    match (end, behind.chars().next()) {
        (0, None | Some('-' | '_' | '.')) if !NUMBERED.contains(&name) => {
            Some((name.to_owned(), 0, behind))
        }
        (0, _) => None,
        _ => Some((name.to_owned(), digits[..end].parse().ok()?, &digits[end..])),
    }
}

impl TagVersion {
    /// Returns the newest of `tags` that this one may move to, if there is a newer one.
    /// Pre-releases are considered only if `pre_releases` is set.
    #[must_use]
    pub fn newest(&self, tags: &[String], bump: Bump, pre_releases: bool) -> Option<Self> {
        tags.iter()
            .filter_map(|tag| tag.parse::<Self>().ok())
            .filter(|other| self.may_become(other, bump, pre_releases))
            .filter(|other| self.order(other) == Ordering::Less)
            // If a version has two spellings, take the one most like this tag.
            .max_by(|a, b| {
                let unlike = |other: &Self| other.numbers.len().abs_diff(self.numbers.len());
                a.order(b).then(unlike(b).cmp(&unlike(a)))
            })
    }

    fn may_become(&self, other: &Self, bump: Bump, pre_releases: bool) -> bool {
        let kept = bump.kept().min(self.numbers.len());
        let is_version = |version: &Self| {
            version.numbers[0] < YEAR_LIKE && version.numbers.iter().all(|part| *part < DATE_LIKE)
        };
        self.prefix == other.prefix
            && self.suffix == other.suffix
            && (pre_releases || other.pre_release.is_none())
            && other.numbers.len() >= self.numbers.len().min(2)
            && other.numbers.get(..kept) == Some(&self.numbers[..kept])
            && (is_version(other) || !is_version(self))
    }

    /// Compares by the numbers, with missing ones as zero. A pre-release comes before
    /// its release.
    fn order(&self, other: &Self) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let padded = |version: &Self| {
            let mut numbers = version.numbers.clone();
            numbers.resize(length, 0);
            numbers
        };
        padded(self).cmp(&padded(other)).then_with(|| {
            match (&self.pre_release, &other.pre_release) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(own), Some(theirs)) => own.cmp(theirs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(from: &str, tags: &[&str], bump: Bump, pre_releases: bool) -> Option<String> {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let version: TagVersion = from.parse().expect("a version");
        version.newest(&tags, bump, pre_releases).map(|version| version.to_string())
    }

    #[test]
    fn tags_move_as_far_as_they_may() {
        let tags = [
            "3", "3.19", "3.19.4", "3.19.10", "3.20", "3.20.0", "4.0", "20240329", "2024.1",
            "1043", "edge",
        ];
        for (from, bump, expected) in [
            ("3.19", Bump::Patch, Some("3.19.10")),
            ("3.19.4", Bump::Patch, Some("3.19.10")),
            ("3.19.10", Bump::Patch, None),
            ("3.19.10", Bump::Minor, Some("3.20.0")),
            ("3.19", Bump::Minor, Some("3.20")),
            ("3.19", Bump::Major, Some("4.0")),
            ("3", Bump::Minor, Some("3.20")),
            ("4.0", Bump::Major, None),
            ("20230101", Bump::Major, Some("20240329")),
            ("2023.4", Bump::Major, Some("2024.1")),
        ] {
            assert_eq!(newest(from, &tags, bump, false).as_deref(), expected, "{from} {bump:?}");
        }
    }

    #[test]
    fn what_kind_of_image_it_is_stays() {
        let tags = [
            "1.37-dev",
            "1.37-b9",
            "1.37",
            "1.37-slim",
            "1.37-alpine3.19",
            "1.37-alpine3.20",
            "v1.38",
            "1.36.1-slim",
        ];
        for (from, expected) in [
            ("1.36-slim", Some("1.37-slim")),
            ("1.36-alpine3.19", Some("1.37-alpine3.19")),
            ("1.36-alpine3.18", None),
            ("v1.36", Some("v1.38")),
            ("1.36-dev", Some("1.37-dev")),
            ("1.36-b9", Some("1.37-b9")),
        ] {
            assert_eq!(newest(from, &tags, Bump::Minor, false).as_deref(), expected, "{from}");
        }
    }

    #[test]
    fn pre_releases_are_for_who_asks() {
        let tags =
            ["2.0.0-rc1", "2.0.0_rc2", "2.0.0-beta.3", "1.9.1", "2.0.0-rc10-slim", "2.0.0a1"];
        let newest = |from: &str, asks| newest(from, &tags, Bump::Major, asks);
        assert_eq!(newest("1.9.0", false).as_deref(), Some("1.9.1"));
        assert_eq!(newest("1.9.0", true).as_deref(), Some("2.0.0_rc2"));
        assert_eq!(newest("1.9.0-slim", true).as_deref(), Some("2.0.0-rc10-slim"));
        assert_eq!(newest("2.0.0-rc1", false), None);
        let released: TagVersion = "2.0.0-rc1".parse().expect("a version");
        let tags = ["2.0.0".to_owned()];
        let found = released.newest(&tags, Bump::Patch, false).map(|version| version.to_string());
        assert_eq!(found.as_deref(), Some("2.0.0"));
    }

    #[test]
    fn other_tags_are_no_versions() {
        for tag in
            ["latest", "edge", "bookworm", "v", "", "-1", "99999999999999999999999", "sha-1a2b"]
        {
            assert!(tag.parse::<TagVersion>().is_err(), "`{tag}`");
        }
        let version: TagVersion = "1.2-alpine".parse().expect("a version");
        assert_eq!((version.pre_release, version.suffix.as_str()), (None, "-alpine"));
        let version: TagVersion = "1.2-bookworm".parse().expect("a version");
        assert_eq!(version.suffix, "-bookworm");
    }
}
