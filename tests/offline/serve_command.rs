//! `n2c serve`: images of this machine, to whoever pulls them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::{build_image, command, n2c_in, wait_until};

/// A directory with an image.json of a small layer and a larger one.
fn built() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, size) in [("small", 10), ("large", 8 << 20)] {
        let tree = directory.path().join(name);
        fs::create_dir(&tree).expect("made");
        let bytes: Vec<u8> = (0..size).map(|number: u32| number.to_le_bytes()[1]).collect();
        fs::write(tree.join("file"), bytes).expect("written");
    }
    fs::write(directory.path().join("config.json"), "{}").expect("written");
    build_image(directory.path(), &["small", "large"], &[]);
    directory
}

/// A running `n2c serve`. It is killed when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(directory: &TempDir, arguments: &[&str]) -> Self {
        let mut child = command(directory.path(), &[&["serve"], arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("n2c was built with the tests");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut address).expect("a line");
        Self { child, address: address.trim().to_owned() }
    }

    /// Sends a request, and returns the connection.
    fn ask(&self, method: &str, target: &str, more: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    /// The body of an answer.
    fn body(&self, target: &str, more: &str) -> Vec<u8> {
        let mut answer = Vec::new();
        self.ask("GET", target, more).read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
        answer.split_off(end + 4)
    }

    fn terminate(&self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(status.expect("kill").success());
    }

    fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("an end").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn layer(directory: &TempDir, number: usize) -> String {
    let text = fs::read(directory.path().join("image.json")).expect("a file");
    let image: Value = serde_json::from_slice(&text).expect("JSON");
    image["layers"][number]["digest"].as_str().expect("a digest").to_owned()
}

#[test]
fn images_are_served_as_they_are_copied() {
    let directory = built();
    let here = directory.path();
    assert_eq!(n2c_in(here, &["copy", "image.json", "dir:copied"]).code, 0);
    let images = ["acme/app:1=nix:image.json", "other=dir:copied", "--arch=amd64"];
    let server = Server::start(&directory, &images);
    let manifest = |name: &str| fs::read(here.join(name).join("manifest.json")).expect("a file");
    for (number, name) in ["acme/app:1", "other:latest"].iter().enumerate() {
        let (source, place) = (format!("{}/{name}", server.address), format!("pulled{number}"));
        let run = n2c_in(here, &["pull", &source, &format!("dir:{place}"), "--arch", "amd64"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(manifest(&place), manifest("copied"));
    }
    let target = format!("/v2/acme/app/blobs/{}", layer(&directory, 1));
    let whole = server.body(&target, "");
    assert!(whole.len() > 8 << 20);
    for (first, last) in [(0, 99), (5_000_000, 5_000_099), (1_048_575, 1_048_577)] {
        let part = server.body(&target, &format!("range: bytes={first}-{last}\r\n"));
        assert!(part == whole[first..=last], "{first}-{last}");
    }
    let mut head = String::new();
    server.ask("HEAD", &target, "").read_to_string(&mut head).expect("a head");
    assert!(head.contains(&format!("content-length: {}", whole.len())), "{head}");
    server.terminate();
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn compressed_layers_are_what_a_copy_makes_of_them() {
    let directory = built();
    let here = directory.path();
    let run = n2c_in(here, &["copy", "image.json", "dir:copied", "--compress", "zstd"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let server = Server::start(&directory, &["app=nix:image.json", "--compress", "zstd", "--once"]);
    let source = format!("{}/app", server.address);
    let run = n2c_in(here, &["pull", &source, "dir:pulled", "--arch", "amd64"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let manifest = |name: &str| fs::read(here.join(name).join("manifest.json")).expect("a file");
    assert_eq!(manifest("pulled"), manifest("copied"));
    // Nobody asks for more, so that is all.
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_transfer_that_runs_is_brought_to_its_end() {
    let directory = built();
    let server = Server::start(&directory, &["app=nix:image.json"]);
    let target = format!("/v2/app/blobs/{}", layer(&directory, 1));
    let mut stream = server.ask("GET", &target, "");
    let mut begin = vec![0; 1000];
    stream.read_exact(&mut begin).expect("a beginning");
    server.terminate();
    // Others are not served any more.
    wait_until("the port is closed", || TcpStream::connect(&server.address).is_err());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the rest");
    assert!(begin.len() + rest.len() > 8 << 20, "{}", rest.len());
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn many_clients_and_one_that_stalls_are_served() {
    let directory = built();
    let server = Server::start(&directory, &["app=nix:image.json"]);
    let (small, large) = (layer(&directory, 0), layer(&directory, 1));
    // It takes a few bytes, and then nothing.
    let mut stalled = server.ask("GET", &format!("/v2/app/blobs/{large}"), "");
    stalled.read_exact(&mut [0; 100]).expect("a beginning");
    let expected = server.body(&format!("/v2/app/blobs/{small}"), "");
    thread::scope(|scope| {
        let ask = || server.body(&format!("/v2/app/blobs/{small}"), "");
        let clients: Vec<_> = (0..200).map(|_| scope.spawn(ask)).collect();
        for client in clients {
            assert_eq!(client.join().expect("an answer"), expected);
        }
    });
}

#[test]
fn what_can_not_be_served_is_named() {
    let directory = built();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let run = n2c_in(directory.path(), &["serve", "a=nix:image.json", "--listen", &taken]);
    assert!(run.error(1).contains(&format!("failed to listen at `{taken}`")), "{}", run.stderr);
    for (arguments, code) in [
        (&["serve", "a:1"][..], 2),
        (&["serve", "A=nix:image.json"], 2),
        (&["serve", "a@sha256:0=nix:image.json"], 2),
        (&["serve", "a=nix:missing.json"], 1),
    ] {
        n2c_in(directory.path(), arguments).error(code);
    }
    let here = ["serve", "a=nix:image.json", "--listen", "here"];
    assert_eq!(n2c_in(directory.path(), &here).code, 2);
}
