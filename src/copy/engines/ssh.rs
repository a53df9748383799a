//! docker on another machine, by way of `ssh`: what its own program does too (docker
//! `cli/connhelper`).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{self, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::error::Error;
use crate::cleanup::{Guard, Leftover};

const PROGRAM: &str = "ssh";

/// A machine, and who logs in to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SshHost {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl SshHost {
    /// Parses `[USER@]HOST[:PORT]`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('/');
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (rest, None),
        };
        let is_word = |text: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain)
        };
        let is_valid = is_word(host) && user.is_none_or(is_word);
        is_valid.then(|| Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-o".to_owned(), "ConnectTimeout=30".to_owned(), "-T".to_owned()];
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        let command = ["--", &self.host, "docker", "system", "dial-stdio"];
        arguments.extend(command.map(str::to_owned));
        arguments
    }
}

/// A socket on this machine, each connection to which is one to docker on the other.
pub(super) struct Bridge {
    path: PathBuf,
    accepting: JoinHandle<()>,
    _guard: Guard,
    _directory: TempDir,
}

impl Bridge {
    pub(super) fn start(host: SshHost) -> Result<Self, Error> {
        let start = |source| Error::Start { program: PROGRAM, source };
        // Only this user can look into it.
        let directory = tempfile::tempdir().map_err(start)?;
        let guard = Guard::new(Leftover::Directory(directory.path().to_owned()));
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).map_err(start)?;
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(relay(connection, host.arguments()));
            }
        });
        Ok(Self { path, accepting, _guard: guard, _directory: directory })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Connects a connection with docker. What `ssh` has to say goes to the user.
async fn relay(connection: UnixStream, arguments: Vec<String>) {
    let child = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    // Whoever is connected sees the end of the connection.
    let Ok(mut child) = child else { return };
    let _guard = child.id().map(|id| Guard::new(Leftover::Child(id)));
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return;
    };
    let (mut reader, mut writer) = connection.into_split();
    let there = async {
        let _ = io::copy(&mut reader, &mut stdin).await;
        let _ = stdin.shutdown().await;
        drop(stdin);
    };
    let back = async {
        let _ = io::copy(&mut stdout, &mut writer).await;
        let _ = writer.shutdown().await;
    };
    tokio::join!(there, back);
    let _ = child.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_host_becomes_an_option() {
        let host = SshHost::parse("me@there.example:2222").expect("a host");
        let expected =
            "-o ConnectTimeout=30 -T -l me -p 2222 -- there.example docker system dial-stdio";
        assert_eq!(host.arguments().join(" "), expected);
        assert!(SshHost::parse("there").is_some());
        for text in ["", "-x", "a@-x", "-l@a", "a b", "a:x", "a;b", "$(a)", "@a"] {
            assert_eq!(SshHost::parse(text), None, "{text}");
        }
    }
}
