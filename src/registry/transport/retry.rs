//! Which failures are retried, and when.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::registry::error::{Error, Task};

/// How often failed requests are retried, and how long to wait in between.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The maximum number of times a request is sent.
    pub attempts: u32,
    /// The delay before the second attempt. It doubles with each further attempt.
    pub first_delay: Duration,
    /// The maximum delay, whatever a server asks for. Jitter is added to it.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// Returns how long to wait before retrying after `error`, the failure of attempt
    /// number `attempt`, or `None` if retrying would not help.
    pub(in crate::registry) fn delay(&self, error: &Error, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let asked = match error {
            Error::Unreachable { source, .. } if source.is_transient() => None,
            // The limit will not reset within a minute.
            Error::Status { limit_reached: true, .. } => return None,
            // After an expired signed URL, the registry gives a new one; after a wrong range,
            // the whole blob is requested.
            Error::Status { status: StatusCode::FORBIDDEN, redirected: true, .. }
            | Error::Range { .. }
            | Error::Trickle { .. }
            // An upload that stopped, or whose end took too long, may be there already.
            | Error::TooSlow { task: Task::Push, .. } => None,
            Error::Status { status, retry_after, .. } => match status.as_u16() {
                // Retrying earlier than the server asks would only count against the limit.
                429 if retry_after.is_some_and(|wait| wait > self.longest_delay) => return None,
                408 | 429 | 499 | 500 | 502 | 503 | 504 | 522 => *retry_after,
                _ => return None,
            },
            _ => return None,
        };
        let doubled = self.first_delay.saturating_mul(1 << (attempt - 1).min(16));
        let own = doubled.min(self.longest_delay);
        // Clients that failed together should not retry together.
        let jitter = own.mul_f64(rand::random_range(0.0..0.5));
        Some(match asked {
            Some(wait) => wait.min(self.longest_delay) + jitter,
            None => own.mul_f64(0.75) + jitter,
        })
    }
}

/// Returns the delay in a `Retry-After` header, which is given in seconds or as a date
/// (RFC 9110 section 10.2.3). Returns `None` if the header is missing or unreadable, or
/// if the time has passed.
pub(in crate::registry) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?,
    };
    (!wait.is_zero()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Error {
        Error::Status {
            task: Task::Fetch,
            subject: String::new(),
            host: String::new(),
            status: StatusCode::from_u16(status).expect("a status"),
            message: None,
            retry_after: retry_after.map(Duration::from_secs),
            limit_reached: false,
            redirected: false,
            attempts: 1,
        }
    }

    // protocol rule 64
    #[test]
    fn rule_64_only_what_may_pass_is_tried_again() {
        let policy = RetryPolicy::default();
        for code in [408, 429, 500, 502, 503, 504, 499, 522] {
            assert!(policy.delay(&status(code, None), 1).is_some(), "{code}");
        }
        for code in [400, 401, 403, 404, 405, 410, 416, 501, 505] {
            assert!(policy.delay(&status(code, None), 1).is_none(), "{code}");
        }
        assert!(policy.delay(&status(503, None), policy.attempts).is_none());
    }

    // protocol rules 65 and 66
    #[test]
    fn rule_65_waits_double_and_are_capped() {
        let policy = RetryPolicy::default();
        for attempt in 1..policy.attempts {
            let base = policy.first_delay * (1 << (attempt - 1));
            let delay = policy.delay(&status(503, None), attempt).expect("a delay");
            assert!(
                delay >= base.mul_f64(0.75) && delay < base.mul_f64(1.25),
                "{attempt}: {delay:?}"
            );
        }
        let delay = policy.delay(&status(503, Some(7)), 1).expect("a delay");
        assert!(delay >= Duration::from_secs(7) && delay < Duration::from_secs(8), "{delay:?}");
        let delay = policy.delay(&status(503, Some(86_400)), 1).expect("a delay");
        assert!(delay < Duration::from_secs(61), "{delay:?}");
        assert!(policy.delay(&status(429, Some(3600)), 1).is_none());
    }

    proptest::proptest! {
        // No server can cause a delay longer than a minute plus the jitter.
        #[test]
        fn rule_65_no_wait_is_longer_than_the_cap(text in "[0-9a-zA-Z:, ]{0,40}", attempt in 1..5_u32) {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a value"))]);
            let mut error = status(503, None);
            if let Error::Status { retry_after: wait, .. } = &mut error {
                *wait = retry_after(&headers, SystemTime::now());
            }
            let delay = RetryPolicy::default().delay(&error, attempt).expect("a delay");
            proptest::prop_assert!(delay < Duration::from_secs(91));
        }
    }

    #[test]
    fn rule_65_retry_after_has_two_forms() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 12:00:00 GMT").expect("a date");
        let parse = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a value"))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(parse("120"), Some(120));
        assert_eq!(parse("Fri, 20 Nov 2026 12:00:30 GMT"), Some(30));
        assert_eq!(parse("Fri, 20 Nov 2026 11:00:00 GMT"), None);
        for garbage in ["", "0", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(parse(garbage), None, "`{garbage}`");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
