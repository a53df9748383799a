//! Platforms: how they are spelled, and which one of an index serves a request.
//!
//! Spellings are normalised as in containerd/platforms `database.go`; Nix's system names
//! are accepted too. A platform is chosen as by containerd's `OnlyStrict`, but lower
//! variants of the same architecture also match. Another architecture never does: it
//! would silently give a 32-bit image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Diagnose, Kind};

/// Why a platform's name was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a platform.
    #[error("invalid platform `{text}`: {reason}")]
    Invalid {
        /// The text, with control characters escaped.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// An operating system, an architecture and a variant, normalised by construction.
///
/// Displayed as `os/arch[/variant]`. `linux/arm64/v8` becomes `linux/arm64`, and
/// `linux/arm` becomes `linux/arm/v7`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

impl Platform {
    /// Normalises the parts of a platform. A missing variant is the empty string.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) =
            normalise(&architecture.to_ascii_lowercase(), &variant.to_ascii_lowercase());
        Self { os, architecture, variant }
    }

    /// The platform that an untrusted document names, or `None` if a user could not request
    /// it; the document then counts as naming none.
    #[must_use]
    pub fn served(os: &str, architecture: &str, variant: &str) -> Option<Self> {
        let parts =
            [os, architecture].into_iter().chain(Some(variant).filter(|text| !text.is_empty()));
        let is_valid = parts.into_iter().all(|part| check_component(part, part).is_ok());
        is_valid.then(|| Self::new(os, architecture, variant))
    }

    /// Linux on this machine's architecture: the default if the user names no platform. The
    /// operating system is always Linux, because images are for Linux.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Self::new("linux", architecture, "")
    }

    /// The platform with the architecture in `text` on `os`. `text` is what `--arch`
    /// accepts: an architecture in any spelling, `arch/variant`, or a Nix system name.
    /// `variant` replaces the variant in `text`.
    pub fn with_architecture(os: &str, text: &str, variant: Option<&str>) -> Result<Self, Error> {
        let mut parsed = if is_nix_system(text) {
            text.parse::<Self>()?
        } else {
            format!("{os}/{text}").parse::<Self>()?
        };
        parsed.os = Self::new(os, "", "").os;
        Ok(match variant {
            Some(variant) => {
                check_component(text, variant)?;
                Self::new(&parsed.os, &parsed.architecture, variant)
            }
            None => parsed,
        })
    }

    /// The operating system in Go's spelling, such as `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture in Go's spelling, such as `amd64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant, such as `v7`; empty if there is none.
    #[must_use]
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Whether this is `unknown/unknown`, the platform that indexes give to attestations.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// The platform to suggest if none of `available` serves this one: the highest variant
    /// of the same architecture, or else the first.
    #[must_use]
    pub fn nearest<'a>(&self, available: &'a [Self]) -> Option<&'a Self> {
        let is_same =
            |other: &&Self| other.os == self.os && other.architecture == self.architecture;
        let best = available.iter().filter(is_same);
        let level = |platform: &&Self| -> Vec<u32> {
            let numbers = platform.variant.trim_start_matches('v').split('.');
            numbers.map(|number| number.parse().unwrap_or(0)).collect()
        };
        best.max_by_key(level).or(available.first())
    }

    /// How well `offered` serves a request for `self`: 0 is an exact match, a larger number
    /// a lower variant of the same architecture. `None` if it doesn't run there.
    #[must_use]
    pub fn distance(&self, offered: &Self) -> Option<usize> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        variants_going_down(&self.architecture, &self.variant)
            .iter()
            .position(|variant| *variant == offered.variant)
    }
}

/// Returns `(architecture, variant)` in Go's spelling, from lower-case input.
fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match architecture {
        "i386" | "i486" | "i586" | "i686" | "386" => ("386", ""),
        "x86_64" | "x86-64" | "amd64" => ("amd64", if variant == "v1" { "" } else { variant }),
        "aarch64" | "arm64" => (
            "arm64",
            match variant {
                "8" | "v8" | "v8.0" => "",
                "9" | "9.0" | "v9.0" => "v9",
                other => other,
            },
        ),
        "armhf" | "armv7l" | "armv7a" => ("arm", "v7"),
        "armel" | "armv6l" => ("arm", "v6"),
        "armv5tel" => ("arm", "v5"),
        "arm" => (
            "arm",
            match variant {
                "" | "7" => "v7",
                "5" => "v5",
                "6" => "v6",
                "8" => "v8",
                other => other,
            },
        ),
        "powerpc64le" => ("ppc64le", variant),
        "loongarch64" => ("loong64", variant),
        other => (other, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

/// The variants that run where `variant` runs, best first. As in containerd/platforms
/// `compare.go`, but without its steps to other architectures.
fn variants_going_down(architecture: &str, variant: &str) -> Vec<String> {
    let number =
        |prefix: &str| variant.strip_prefix(prefix).and_then(|rest| rest.parse::<u32>().ok());
    let mut down = vec![variant.to_owned()];
    match architecture {
        "amd64" => {
            let top = number("v").unwrap_or(1).min(16);
            down.extend((2..top).rev().map(|level| format!("v{level}")));
            if top > 1 {
                down.push(String::new());
            }
        }
        "arm" => {
            let top = number("v").unwrap_or(5).min(16);
            down.extend((5..top).rev().map(|level| format!("v{level}")));
        }
        "arm64" => {
            // Armv9.x includes Armv8.(x+5).
            let nine =
                if variant == "v9" { Some(0) } else { number("v9.").map(|minor| minor.min(16)) };
            let eight = nine.map(|minor| minor + 6).or(number("v8.").map(|minor| minor.min(16)));
            if let Some(minor) = nine {
                down.extend((1..minor).rev().map(|minor| format!("v9.{minor}")));
                if minor > 0 {
                    down.push("v9".to_owned());
                }
            }
            if let Some(minor) = eight {
                down.extend((1..minor).rev().map(|minor| format!("v8.{minor}")));
                down.push(String::new());
            }
        }
        _ => {}
    }
    down
}

/// Whether `text` is a Nix system name: `architecture-os`.
fn is_nix_system(text: &str) -> bool {
    text.split_once('-').is_some_and(|(architecture, os)| {
        let is_known = matches!(os, "linux" | "darwin" | "freebsd" | "windows" | "cygwin" | "none");
        is_known && !architecture.is_empty()
    })
}

fn check_component(text: &str, component: &str) -> Result<(), Error> {
    let valid = !component.is_empty()
        && component.len() <= 64
        && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if valid {
        return Ok(());
    }
    let reason = if component.is_empty() {
        "a part of it is empty"
    } else {
        "each part must be at most 64 letters, digits, `.`, `_` or `-`"
    };
    Err(Error::Invalid { text: text.escape_default().to_string(), reason })
}

impl FromStr for Platform {
    type Err = Error;

    /// Parses `os/arch[/variant]`, a Nix system name, or an architecture alone.
    ///
    /// A Nix system becomes its architecture on Linux, because images are for Linux even
    /// if Nix runs on Darwin.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { text: text.escape_default().to_string(), reason };
        let parts: Vec<&str> = text.split('/').collect();
        for part in &parts {
            check_component(text, part)?;
        }
        match parts[..] {
            [system] if is_nix_system(system) => {
                let architecture = system.split('-').next().unwrap_or_default();
                Ok(Self::new("linux", architecture, ""))
            }
            [architecture] => {
                let platform = Self::new("linux", architecture, "");
                if is_known_architecture(&platform.architecture) {
                    Ok(platform)
                } else {
                    Err(invalid("it is neither `os/arch` nor a known architecture"))
                }
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(invalid("it has too many parts")),
        }
    }
}

/// Whether an architecture can be used alone, without an operating system.
fn is_known_architecture(architecture: &str) -> bool {
    matches!(
        architecture,
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mips64"
            | "mips64le"
            | "mipsle"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

impl TryFrom<String> for Platform {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(formatter, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// The maximum number of platforms that a message lists.
const SHOWN: usize = 20;

/// Formats a list of platforms for an error message.
#[must_use]
pub fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    let mut names: Vec<String> = platforms.iter().take(SHOWN).map(ToString::to_string).collect();
    if platforms.len() > SHOWN {
        names.push(format!("and {} more", platforms.len() - SHOWN));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect("a valid platform")
    }

    // Protocol rule 44; the test vectors are from containerd/platforms database.go.
    #[test]
    fn rule_44_spellings_are_normalised() {
        for (given, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/x86-64", "linux/amd64"),
            ("macos/aarch64", "darwin/arm64"),
            ("linux/i386/sse", "linux/386"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v8.0", "linux/arm64"),
            ("linux/arm64/9.0", "linux/arm64/v9"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/8", "linux/arm/v8"),
        ] {
            assert_eq!(platform(given).to_string(), expected, "for `{given}`");
        }
    }

    #[test]
    fn nix_systems_and_bare_architectures_mean_linux() {
        for (given, expected) in [
            ("x86_64-linux", "linux/amd64"),
            ("aarch64-linux", "linux/arm64"),
            ("aarch64-darwin", "linux/arm64"),
            ("x86_64-darwin", "linux/amd64"),
            ("armv7l-linux", "linux/arm/v7"),
            ("armv6l-linux", "linux/arm/v6"),
            ("i686-linux", "linux/386"),
            ("riscv64-linux", "linux/riscv64"),
            ("powerpc64le-linux", "linux/ppc64le"),
            ("x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armv7l", "linux/arm/v7"),
            ("i686", "linux/386"),
            ("s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(given).to_string(), expected, "for `{given}`");
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in [
            "-linux",
            "-none",
            "",
            "/",
            "linux/",
            "linux//v8",
            "a/b/c/d",
            "linux/amd 64",
            "bogus",
            "linux/\u{1b}[2J",
        ] {
            assert!(text.parse::<Platform>().is_err(), "`{text}` was accepted");
        }
    }

    #[test]
    fn an_architecture_keeps_the_os_that_was_named() {
        let parsed = Platform::with_architecture("windows", "x86_64-linux", None).expect("valid");
        assert_eq!(parsed.to_string(), "windows/amd64");
        let parsed = Platform::with_architecture("linux", "arm", Some("v6")).expect("valid");
        assert_eq!(parsed.to_string(), "linux/arm/v6");
        assert!(Platform::with_architecture("linux", "arm", Some("v/6")).is_err());
    }

    // Protocol rule 45, and the pitfalls of rule 48.
    #[test]
    fn rule_45_variants_step_down_within_the_architecture() {
        for (wanted, offered, distance) in [
            ("linux/arm64", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm64/v8", "linux/aarch64", Some(0)),
            ("linux/arm64", "linux/arm64/v8.2", None),
            ("linux/arm64", "linux/arm64/v9", None),
            ("linux/arm64/v8.2", "linux/arm64/v8.1", Some(1)),
            ("linux/arm64/v8.2", "linux/arm64", Some(2)),
            ("linux/arm64/v9", "linux/arm64/v8.5", Some(1)),
            ("linux/arm64/v9", "linux/arm64", Some(6)),
            ("linux/arm64/v9.2", "linux/arm64/v9", Some(2)),
            ("linux/arm64/v9.2", "linux/arm64/v8.7", Some(3)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm", "linux/arm", Some(0)),
            ("linux/arm/v8", "linux/arm/v7", Some(1)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "linux/386", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/riscv64", "linux/riscv64", Some(0)),
        ] {
            assert_eq!(
                platform(wanted).distance(&platform(offered)),
                distance,
                "{wanted} served by {offered}"
            );
        }
    }

    #[test]
    fn a_huge_variant_is_no_work() {
        let wanted = Platform::new("linux", "arm64", "v9.4294967295");
        assert_eq!(wanted.distance(&platform("linux/arm/v7")), None);
        assert!(wanted.distance(&platform("linux/arm64")).is_some());
    }

    // `nix/platforms.nix` is tested with the same table.
    #[test]
    fn the_choice_is_that_of_the_table() {
        let table = include_str!("../../tests/platforms.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(table).expect("a table");
        assert!(cases.len() > 30);
        for case in cases {
            let available = case["available"].as_array().expect("a list").iter();
            let available = available.map(|name| platform(name.as_str().expect("a name")));
            let wanted = platform(case["wanted"].as_str().expect("a name"));
            let chosen = available
                .filter_map(|offered| Some((wanted.distance(&offered)?, offered)))
                .min_by_key(|(distance, _)| *distance)
                .map(|(_, offered)| offered);
            let expected = case["chosen"].as_str().map(platform);
            assert_eq!(chosen, expected, "{case}");
        }
    }

    #[test]
    fn the_nearest_is_the_best_of_the_same_kind() {
        let available = ["linux/amd64", "linux/arm/v5", "linux/arm/v6"].map(platform);
        let nearest = |text: &str| platform(text).nearest(&available).map(ToString::to_string);
        assert_eq!(nearest("linux/arm/v4").as_deref(), Some("linux/arm/v6"));
        let many = ["linux/arm64/v8.9", "linux/arm64/v8.10", "linux/arm64"].map(platform);
        let wanted = platform("linux/arm64/x");
        assert_eq!(
            wanted.nearest(&many).map(ToString::to_string).as_deref(),
            Some("linux/arm64/v8.10")
        );
        assert_eq!(nearest("linux/s390x").as_deref(), Some("linux/amd64"));
    }
}
