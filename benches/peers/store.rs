//! A Nix store of this run's own with its daemon, and the least that a program can
//! do to hand the daemon a file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Says that this process is to hand over: a socket, a file and its name.
pub(crate) const FLAG: &str = "--hand-over";

/// A store with a daemon, which stops when this is dropped.
pub(crate) struct Store {
    directory: TempDir,
    daemon: Child,
}

impl Store {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = "build-users-group =\nsubstituters =\nsandbox = false\n";
        std::fs::create_dir(directory.path().join("conf")).expect("a folder");
        std::fs::write(directory.path().join("conf/nix.conf"), settings).expect("written");
        let script = format!(
            "{}; nix-store --gc > /dev/null && exec nix-daemon",
            Self::variables(directory.path())
        );
        let mut daemon = Command::new("sh");
        daemon.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = daemon.stderr(Stdio::null()).spawn().expect("started");
        let store = Self { directory, daemon };
        for _ in 0..200 {
            if UnixStream::connect(store.socket()).is_ok() {
                return store;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("nix-daemon does not listen; `tests/run` installs it");
    }

    fn variables(directory: &Path) -> String {
        let directory = directory.display();
        format!(
            "export NIX_STORE_DIR={directory}/store NIX_STATE_DIR={directory}/var \
             NIX_LOG_DIR={directory}/log NIX_CONF_DIR={directory}/conf"
        )
    }

    /// What a script begins with whose Nix is this one.
    pub(crate) fn setup(&self) -> String {
        Self::variables(self.directory.path())
    }

    /// What empties the store.
    pub(crate) fn empty(&self) -> String {
        format!("{}; nix-store --gc > /dev/null", self.setup())
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("var/daemon-socket/socket")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A conversation in Nix's worker protocol, version 1.34, and nothing else.
struct Conversation {
    reader: BufReader<UnixStream>,
    writer: BufWriter<UnixStream>,
}

impl Conversation {
    fn number(&mut self, number: u64) -> Result<()> {
        self.writer.write_all(&number.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.number(text.len() as u64)?;
        self.writer.write_all(text.as_bytes())?;
        self.writer.write_all(&[0; 8][..text.len().next_multiple_of(8) - text.len()])
    }

    fn answer(&mut self) -> Result<u64> {
        let mut number = [0; 8];
        self.reader.read_exact(&mut number)?;
        Ok(u64::from_le_bytes(number))
    }

    /// Waits for the end of what the daemon has to say, which is nothing here.
    fn wait(&mut self) -> Result<()> {
        self.writer.flush()?;
        assert_eq!(self.answer()?, 0x616c_7473, "the daemon says something else");
        Ok(())
    }
}

/// Adds `file` to the store under `name`.
pub(crate) fn hand_over(socket: &Path, file: &Path, name: &str) -> Result<()> {
    let stream = UnixStream::connect(socket)?;
    let (reader, writer) = (BufReader::new(stream.try_clone()?), BufWriter::new(stream));
    let mut daemon = Conversation { reader, writer };
    daemon.number(0x6e69_7863)?;
    daemon.writer.flush()?;
    assert_eq!(daemon.answer()?, 0x6478_696f, "no daemon");
    daemon.answer()?;
    for number in [0x122, 0, 0] {
        daemon.number(number)?;
    }
    daemon.writer.flush()?;
    // The version of the daemon, a text.
    let length = usize::try_from(daemon.answer()?).expect("a short text");
    daemon.reader.read_exact(&mut vec![0; length.next_multiple_of(8)])?;
    daemon.wait()?;
    daemon.number(7)?;
    daemon.text(name)?;
    daemon.text("fixed:sha256")?;
    daemon.number(0)?;
    daemon.number(0)?;
    let (mut file, mut piece) = (File::open(file)?, vec![0; 64 << 10]);
    loop {
        let count = file.read(&mut piece)?;
        daemon.number(count as u64)?;
        daemon.writer.write_all(&piece[..count])?;
        if count == 0 {
            return daemon.wait();
        }
    }
}
