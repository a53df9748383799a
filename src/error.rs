//! What every error of this library provides besides its message: its kind, which
//! determines the exit code, and a hint.

/// What went wrong, as far as a calling program needs to know.
///
/// The numbers are the exit codes of the `n2c` binary and part of its
/// contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Anything without a code of its own, such as a file that can't be written.
    Other,
    /// The command line or call is wrong: an invalid reference, platform or digest.
    Usage,
    /// A lockfile doesn't match what its tag points to now.
    Stale,
    /// The image, blob or platform doesn't exist, or no longer does.
    NotFound,
    /// The registry denies access to this user.
    Denied,
    /// The registry has limited the rate of requests.
    RateLimited,
    /// The network or the server failed, even after all retries.
    Network,
    /// The content is not what was requested: its digest, size, media type or format
    /// is wrong.
    Verification,
}

impl Kind {
    /// The exit code of the `n2c` binary for errors of this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Stale => 3,
            Self::NotFound => 4,
            Self::Denied => 5,
            Self::RateLimited => 6,
            Self::Network => 7,
            Self::Verification => 8,
        }
    }
}

/// An error that knows its kind.
pub trait Diagnose: std::error::Error {
    /// What kind of failure this is.
    fn kind(&self) -> Kind;
}

/// Returns an error and its causes on one line, the outermost first.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}
