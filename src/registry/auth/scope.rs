//! What a token must allow (distribution `docs/content/spec/auth/scope.md`).

use crate::oci::reference::Repository;

/// What is done in a repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Pull,
    Push,
}

/// What a token must allow: access to a repository, and perhaps to pull from another one
/// of the same registry.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Scope<'a> {
    pub(in crate::registry) repository: &'a Repository,
    access: Access,
    /// The repository that a blob is mounted from.
    mounted: Option<&'a Repository>,
}

impl<'a> Scope<'a> {
    pub(in crate::registry) const fn pull(repository: &'a Repository) -> Self {
        Self { repository, access: Access::Pull, mounted: None }
    }

    pub(in crate::registry) const fn push(repository: &'a Repository) -> Self {
        Self { repository, access: Access::Push, mounted: None }
    }

    /// To push to `repository` what is in `mounted`, a repository of the same registry.
    pub(in crate::registry) const fn mount(
        repository: &'a Repository,
        mounted: &'a Repository,
    ) -> Self {
        Self { repository, access: Access::Push, mounted: Some(mounted) }
    }

    /// What distinguishes tokens: the registry, and what they allow there.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.repository.host(), self.own().join(" "))
    }

    fn own(&self) -> Vec<String> {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let mut own = vec![format!("repository:{}:{actions}", self.repository.path())];
        if let Some(mounted) = self.mounted {
            own.push(format!("repository:{}:pull", mounted.path()));
        }
        own
    }

    /// The scopes to request, each one once: the challenge's come first, because some
    /// servers read only the first.
    pub(super) fn requested(&self, challenge: Option<&str>) -> Vec<String> {
        let own = self.own();
        let is_covered = |scope: &str| {
            let wider = own
                .iter()
                .any(|own| own.strip_prefix(scope).is_some_and(|rest| rest.starts_with(',')));
            scope == "*" || wider
        };
        let mut scopes: Vec<String> = challenge
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter(|scope| !is_covered(scope))
            .map(str::to_owned)
            .collect();
        for scope in own {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // protocol rules 12, 14 and 80
    #[test]
    fn rule_12_scopes_are_requested_once_and_the_challenge_first() {
        let repository: Repository = "host:1/a/b".parse().expect("valid");
        let base: Repository = "host:1/base".parse().expect("valid");
        let pull = |challenge| Scope::pull(&repository).requested(challenge);
        assert_eq!(pull(None), ["repository:a/b:pull"]);
        assert_eq!(pull(Some("repository:a/b:pull")), ["repository:a/b:pull"]);
        assert_eq!(pull(Some("*")), ["repository:a/b:pull"]);
        assert_eq!(
            pull(Some("repository:t:pull,push repository:p:pull")),
            ["repository:t:pull,push", "repository:p:pull", "repository:a/b:pull"]
        );
        assert_eq!(Scope::push(&repository).requested(None), ["repository:a/b:pull,push"]);
        // To push includes to pull, which the answer to a HEAD asks for.
        let challenge = Some("repository:a/b:pull");
        assert_eq!(Scope::push(&repository).requested(challenge), ["repository:a/b:pull,push"]);
        assert_eq!(
            Scope::mount(&repository, &base).requested(Some("repository:a/b:pull,push")),
            ["repository:a/b:pull,push", "repository:base:pull"]
        );
    }

    #[test]
    fn tokens_are_kept_by_what_they_allow() {
        let here: Repository = "host:1/a".parse().expect("valid");
        let there: Repository = "host:2/a".parse().expect("valid");
        let base: Repository = "host:1/base".parse().expect("valid");
        let scopes = [
            Scope::pull(&here),
            Scope::push(&here),
            Scope::mount(&here, &base),
            Scope::pull(&there),
        ];
        let keys: std::collections::BTreeSet<String> = scopes.iter().map(Scope::key).collect();
        assert_eq!(keys.len(), scopes.len(), "{keys:?}");
    }
}
