//! The Nix daemon's worker protocol, as far as it is needed to add files (Nix
//! `src/libstore/worker-protocol.hh`, `remote-store.cc`). Any user may add
//! content-addressed files.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wire::{self, padding};

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
/// Version 1.34, from Nix 2.8. Later daemons speak it too.
const CLIENT_VERSION: u64 = 0x122;
/// The oldest daemon whose `AddToStore` takes a stream: 1.25, from Nix 2.4.
const OLDEST_MINOR: u64 = 25;

const OPERATION_ADD_TO_STORE: u64 = 7;
const OPERATION_QUERY_VALID_PATHS: u64 = 31;

const MESSAGE_LAST: u64 = 0x616c_7473;
const MESSAGE_ERROR: u64 = 0x6378_7470;
const MESSAGE_NEXT: u64 = 0x6f6c_6d67;
const MESSAGE_START_ACTIVITY: u64 = 0x5354_5254;
const MESSAGE_STOP_ACTIVITY: u64 = 0x5354_4f50;
const MESSAGE_RESULT: u64 = 0x5253_4c54;

/// How long the daemon may be silent during the handshake.
const GREETING: Duration = Duration::from_secs(30);
/// How long it may be silent after that: it may be waiting for a garbage collector, or
/// hashing the content once more.
const SILENCE: Duration = Duration::from_secs(600);
/// How long to try to tell the daemon to discard an upload.
const LAST_WORD: Duration = Duration::from_secs(1);
/// The longest string or list to accept from a daemon, in bytes or items.
const LONGEST: u64 = 16 << 20;
/// How much of a file is sent in one frame, in bytes.
const FRAME: usize = 64 << 10;

/// A connection to the daemon.
pub(super) struct Daemon {
    reader: BufReader<UnixStream>,
    writer: BufWriter<UnixStream>,
    minor: u64,
}

impl Daemon {
    /// Connects to the daemon that listens on `socket`.
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(GREETING))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut daemon = Self { reader, writer: BufWriter::new(stream), minor: 0 };
        daemon.write(CLIENT_MAGIC)?;
        daemon.writer.flush()?;
        if daemon.read()? != DAEMON_MAGIC {
            return Err(invalid("this is not a Nix daemon"));
        }
        let version = daemon.read()?;
        daemon.minor = (version & 0xff).min(CLIENT_VERSION & 0xff);
        if version >> 8 != CLIENT_VERSION >> 8 || daemon.minor < OLDEST_MINOR {
            return Err(invalid("this Nix daemon is too old: it has to be Nix 2.4 or later"));
        }
        daemon.write(CLIENT_VERSION)?;
        // No CPU affinity, and no reserved space: both are obsolete.
        daemon.write(0)?;
        daemon.write(0)?;
        daemon.writer.flush()?;
        if daemon.minor >= 33 {
            daemon.read_bytes()?;
        }
        daemon.wait()?;
        daemon.reader.get_ref().set_read_timeout(Some(SILENCE))?;
        Ok(daemon)
    }

    /// Returns those of `paths` that are valid.
    pub(super) fn valid_paths(&mut self, paths: &[String]) -> io::Result<Vec<String>> {
        self.ask_for_valid_paths(paths)?;
        self.wait()?;
        self.read_strings()
    }

    fn ask_for_valid_paths(&mut self, paths: &[String]) -> io::Result<()> {
        self.write(OPERATION_QUERY_VALID_PATHS)?;
        self.write(paths.len() as u64)?;
        for path in paths {
            self.write_bytes(path.as_bytes())?;
        }
        if self.minor >= 27 {
            // Don't substitute anything.
            self.write(0)?;
        }
        Ok(())
    }

    /// Adds what `content` writes, and returns its store path. `method` says what is
    /// hashed: `fixed:sha256` for a file, `fixed:r:sha256` for the archive of a tree.
    pub(super) fn add(
        &mut self,
        name: &str,
        method: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<String> {
        self.begin(name, method)?;
        let mut frames = BufWriter::with_capacity(FRAME, self.frames()?);
        if let Err(error) = content(&mut frames).and_then(|()| frames.flush()) {
            frames.get_mut().spoil()?;
            return Err(error);
        }
        self.end()
    }

    /// Begins to add something. Its content goes through [`Daemon::frames`], and
    /// [`Daemon::end`] ends it. If the connection is dropped or the process killed
    /// before that, nothing is added.
    ///
    /// If the connection closes within the daemon's `nar-buffer-size`, the daemon takes
    /// what it has received for the whole content, and adds it (Nix
    /// `src/libstore/local-store.cc`, `addToStoreFromDump`). To prevent that, a query
    /// is sent first, and its answer is not read before the end: Linux resets a
    /// connection that is closed with unread data, and the daemon treats a reset as a
    /// failure.
    pub(super) fn begin(&mut self, name: &str, method: &str) -> io::Result<()> {
        self.ask_for_valid_paths(&[])?;
        self.write(OPERATION_ADD_TO_STORE)?;
        self.write_bytes(name.as_bytes())?;
        self.write_bytes(method.as_bytes())?;
        // No references, and no repair.
        self.write(0)?;
        self.write(0)?;
        self.writer.flush()
    }

    /// Returns a writer for the content of what is being added.
    pub(super) fn frames(&self) -> io::Result<Frames> {
        self.writer.get_ref().try_clone().map(Frames)
    }

    /// Ends the content, and returns its store path.
    pub(super) fn end(&mut self) -> io::Result<String> {
        // An empty frame ends the content.
        self.write(0)?;
        // The answer to the query that `begin` sent.
        self.wait()?;
        self.read_strings()?;
        self.wait()?;
        let path = self.read_string()?;
        // The rest of what is known about the path: deriver, hash, references,
        // registration time, size, trust, signatures, content address.
        self.read_bytes()?;
        self.read_bytes()?;
        self.read_strings()?;
        for _ in 0..3 {
            self.read()?;
        }
        self.read_strings()?;
        self.read_bytes()?;
        Ok(path)
    }

    /// Reads the daemon's log messages, up to the start of its answer.
    fn wait(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        loop {
            match self.read()? {
                MESSAGE_LAST => return Ok(()),
                MESSAGE_ERROR => return Err(self.read_error()?),
                MESSAGE_NEXT => {
                    self.read_bytes()?;
                }
                MESSAGE_START_ACTIVITY => {
                    // id, level, type, text, fields, parent
                    for _ in 0..3 {
                        self.read()?;
                    }
                    self.read_bytes()?;
                    self.skip_fields()?;
                    self.read()?;
                }
                MESSAGE_STOP_ACTIVITY => {
                    self.read()?;
                }
                MESSAGE_RESULT => {
                    self.read()?;
                    self.read()?;
                    self.skip_fields()?;
                }
                _ => return Err(invalid("the Nix daemon sent an unknown message")),
            }
        }
    }

    fn skip_fields(&mut self) -> io::Result<()> {
        for _ in 0..self.read_length()? {
            match self.read()? {
                0 => self.read().map(drop)?,
                _ => self.read_bytes().map(drop)?,
            }
        }
        Ok(())
    }

    /// Reads an error in the format since version 1.26. Before, it was a text and a number.
    fn read_error(&mut self) -> io::Result<io::Error> {
        let message = if self.minor >= 26 {
            // type, level, name
            self.read_bytes()?;
            self.read()?;
            self.read_bytes()?;
            self.read_string()?
        } else {
            self.read_string()?
        };
        Ok(io::Error::other(message))
    }

    fn write(&mut self, number: u64) -> io::Result<()> {
        self.writer.write_all(&number.to_le_bytes())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        wire::write_bytes(&mut self.writer, bytes)
    }

    fn read(&mut self) -> io::Result<u64> {
        let mut number = [0; 8];
        self.read_exact(&mut number)?;
        Ok(u64::from_le_bytes(number))
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(bytes).map_err(silence)
    }

    fn read_length(&mut self) -> io::Result<usize> {
        let length = self.read()?;
        if length > LONGEST {
            return Err(invalid("the Nix daemon sent too much data"));
        }
        usize::try_from(length).map_err(|_| invalid("the Nix daemon sent too much data"))
    }

    fn read_bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.read_length()?;
        let mut bytes = vec![0; length + padding(length)];
        self.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn read_string(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read_bytes()?).into_owned())
    }

    fn read_strings(&mut self) -> io::Result<Vec<String>> {
        (0..self.read_length()?).map(|_| self.read_string()).collect()
    }
}

/// Sends each write as a frame, preceded by its length.
pub(super) struct Frames(UnixStream);

impl Frames {
    /// Sends an invalid frame, so that the daemon fails and discards what it has
    /// received. Just closing the connection might look like the end of the content.
    pub(super) fn spoil(&mut self) -> io::Result<()> {
        // A daemon that does not read it will find the connection reset.
        self.0.set_write_timeout(Some(LAST_WORD))?;
        self.0.write_all(&u64::MAX.to_le_bytes())
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            let length = (bytes.len() as u64).to_le_bytes();
            self.0.write_all(&length).and_then(|()| self.0.write_all(bytes)).map_err(silence)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Explains an error that is a time-out of the socket.
fn silence(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "it did not respond in time")
        }
        _ => error,
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
