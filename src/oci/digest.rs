//! Digests, and bytes that have been verified against one.
//!
//! A digest is `sha256:` followed by 64 lower-case hex digits, or `sha512:` followed by
//! 128 (OCI image-spec, descriptor.md). Nothing else is accepted, because digests are
//! used as file names and in store paths and URLs.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Diagnose, Kind};

/// Why a digest, or bytes that should match it, were refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a digest that n2c can verify.
    #[error("invalid digest `{text}`: {reason}")]
    Invalid {
        /// The text, with control characters escaped.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bytes don't have the expected digest.
    #[error(
        "digest mismatch for {subject}: expected `{expected}`, got `{actual}` after {size} bytes"
    )]
    Mismatch {
        /// What the bytes were expected to be.
        subject: String,
        /// The expected digest.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
        /// The number of bytes.
        size: u64,
    },
    /// There are more or fewer bytes than the descriptor says.
    #[error("size mismatch for {subject}: expected {expected} bytes, got {actual}")]
    Size {
        /// What the bytes were expected to be.
        subject: String,
        /// The descriptor's size in bytes.
        expected: u64,
        /// The number of bytes.
        actual: u64,
    },
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } => Kind::Usage,
            Self::Mismatch { .. } | Self::Size { .. } => Kind::Verification,
        }
    }
}

/// A hash algorithm that n2c can verify.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// SHA-256, which nearly every registry uses.
    Sha256,
    /// SHA-512, which the OCI specification allows.
    Sha512,
}

impl Algorithm {
    /// The name in a digest, `sha256` or `sha512`. Nix uses the same names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest with a supported algorithm, valid by construction.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Hasher::digest(Algorithm::Sha256, bytes)
    }

    /// The digest of a file's content.
    pub fn of_file(algorithm: Algorithm, path: &Path) -> io::Result<Self> {
        let mut hasher = Hasher::new(algorithm);
        io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok(hasher.finish())
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash in lower-case hex, without the algorithm: 64 or 128 digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hex digits, for display.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }

    /// The hash as an SRI string, which Nix uses: the algorithm, `-` and base64.
    #[must_use]
    pub fn to_sri(&self) -> String {
        let bytes = hex::decode(&self.hex).unwrap_or_default();
        format!("{}-{}", self.algorithm.name(), STANDARD.encode(bytes))
    }

    /// The hash in Nix's variant of base 32, without the algorithm.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        nix_base32::to_nix_base32(&hex::decode(&self.hex).unwrap_or_default())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { text: text.escape_default().to_string(), reason };
        let (name, hex) = text.split_once(':').ok_or(invalid("the algorithm is missing"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(invalid("only sha256 and sha512 are supported")),
        };
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid("only lower-case hex digits may follow the algorithm"));
        }
        if hex.len() != algorithm.hex_length() {
            return Err(invalid("the number of hex digits is wrong"));
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

/// Computes a digest incrementally, with the algorithm of the expected digest.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a hash, with no bytes added yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// Returns the digest of all added bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => {
                Digest { algorithm: Algorithm::Sha256, hex: hex::encode(state.finalize()) }
            }
            State::Sha512(state) => {
                Digest { algorithm: Algorithm::Sha512, hex: hex::encode(state.finalize()) }
            }
        }
    }

    fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares the digest `actual` and the size of received bytes with the expected digest
/// and, if known, the expected size.
pub fn check(
    subject: &dyn fmt::Display,
    actual: &Digest,
    size: u64,
    expected: &Digest,
    expected_size: Option<u64>,
) -> Result<(), Error> {
    check_size(subject, size, expected_size)?;
    if actual == expected {
        return Ok(());
    }
    Err(Error::Mismatch {
        subject: subject.to_string(),
        expected: expected.clone(),
        actual: actual.clone(),
        size,
    })
}

/// Compares the number of received bytes with the expected one, if known.
pub fn check_size(
    subject: &dyn fmt::Display,
    actual: u64,
    expected: Option<u64>,
) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != actual => {
            Err(Error::Size { subject: subject.to_string(), expected, actual })
        }
        _ => Ok(()),
    }
}

/// Bytes together with their digest, which has been verified or computed.
///
/// Every parser of remote content takes this type, so that nothing can be parsed before
/// it is verified.
#[derive(Clone, Debug)]
pub struct Verified {
    bytes: Bytes,
    digest: Digest,
}

impl Verified {
    /// Verifies `bytes` against the expected digest and, if known, the expected size. The
    /// size is compared first, because that costs nothing.
    pub fn check(
        subject: &dyn fmt::Display,
        bytes: Vec<u8>,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Self, Error> {
        let actual_size = bytes.len() as u64;
        check_size(subject, actual_size, size)?;
        let actual = Hasher::digest(digest.algorithm, &bytes);
        check(subject, &actual, actual_size, digest, size)?;
        Ok(Self { bytes: bytes.into(), digest: actual })
    }

    /// Takes content that was found by tag or path, and computes its digest. Neither a tag
    /// nor a path determines a digest, and registries get the `Docker-Content-Digest`
    /// header wrong, so only the bytes count.
    #[must_use]
    pub fn as_found(bytes: Vec<u8>) -> Self {
        let digest = Digest::sha256(&bytes);
        Self { bytes: bytes.into(), digest }
    }

    /// The bytes, exactly as served.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_parsed_strictly() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../x",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &EMPTY.to_uppercase(),
            &EMPTY[..70],
            &format!("{EMPTY}0"),
            &format!(" {EMPTY}"),
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(text.parse::<Digest>().is_err(), "`{text}` was accepted");
        }
        let digest: Digest = EMPTY.parse().expect("a valid digest");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest, Digest::sha256(b""));
    }

    // The SRI string is from `nix hash to-sri --type sha256 e3b0…` of Nix 2.8.
    #[test]
    fn sri_is_what_nix_prints() {
        // From `nix hash to-base32 --type sha256 e3b0…`.
        assert_eq!(
            Digest::sha256(b"").to_nix32(),
            "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
        );
        assert_eq!(
            Digest::sha256(b"").to_sri(),
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    // The digest is from `printf abc | sha512sum`.
    #[test]
    fn rule_61_sha512_is_verified_with_sha512() {
        let digest: Digest =
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                              2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
                .parse()
                .expect("a valid digest");
        assert!(Verified::check(&"abc", b"abc".to_vec(), &digest, Some(3)).is_ok());
        assert!(matches!(
            Verified::check(&"abc", b"abd".to_vec(), &digest, Some(3)),
            Err(Error::Mismatch { .. })
        ));
    }

    #[test]
    fn rule_40_size_is_compared_before_the_hash() {
        let digest = Digest::sha256(b"abc");
        assert!(matches!(
            Verified::check(&"abc", b"abc".to_vec(), &digest, Some(4)),
            Err(Error::Size { expected: 4, actual: 3, .. })
        ));
    }
}
