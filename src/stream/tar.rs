//! Tar headers, byte for byte as Go's `archive/tar` writes them (`writer.go`, `format.go`,
//! `strconv.go`). Digests of layers and hashes of archives depend on every one of them.
//!
//! The format is chosen for each entry: USTAR if everything fits, else PAX, else GNU.

/// The block size in bytes. Headers and contents are padded to whole blocks.
const BLOCK: usize = 512;
/// The end of an archive: two empty blocks. Go adds nothing to fill a record of tape.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The name of a GNU entry that holds the long name of the next one.
const LONG_NAME: &[u8] = b"././@LongLink";

/// The magic and version of USTAR and PAX headers.
const USTAR: [u8; 8] = *b"ustar\x0000";
/// The magic and version of GNU headers.
const GNU: [u8; 8] = *b"ustar  \0";

const NAME: Field = Field { start: 0, length: 100 };
const MODE: Field = Field { start: 100, length: 8 };
const USER_ID: Field = Field { start: 108, length: 8 };
const GROUP_ID: Field = Field { start: 116, length: 8 };
const SIZE: Field = Field { start: 124, length: 12 };
const MODIFIED: Field = Field { start: 136, length: 12 };
const CHECKSUM: Field = Field { start: 148, length: 8 };
const KIND: usize = 156;
const LINK_NAME: Field = Field { start: 157, length: 100 };
const MAGIC: Field = Field { start: 257, length: 8 };
const USER_NAME: Field = Field { start: 265, length: 32 };
const GROUP_NAME: Field = Field { start: 297, length: 32 };
const DEVICE_MAJOR: Field = Field { start: 329, length: 8 };
const DEVICE_MINOR: Field = Field { start: 337, length: 8 };
const PREFIX: Field = Field { start: 345, length: 155 };

/// Why an entry has no header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No format holds both what only GNU tar can say and what only PAX can.
    #[error("no tar format holds the entry `{}`", name.escape_ascii())]
    Unencodable {
        /// The entry's name.
        name: Vec<u8>,
    },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A regular file; its content follows the header.
    File,
    /// A symbolic link.
    Link,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
}

impl Kind {
    const fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Link => b'2',
            Self::CharacterDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
        }
    }
}

/// The header of an entry. Numbers are signed, as Go's are: what a field can't hold moves
/// to another format.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// What the entry is.
    pub kind: Kind,
    /// Its name, without a NUL byte.
    pub name: &'a [u8],
    /// What a link points to; empty for everything else.
    pub link_name: &'a [u8],
    /// The permission bits.
    pub mode: i64,
    /// The owner's number.
    pub user_id: i64,
    /// The group's number.
    pub group_id: i64,
    /// The owner's name, or nothing.
    pub user_name: &'a [u8],
    /// The group's name, or nothing.
    pub group_name: &'a [u8],
    /// The length of the content, in bytes.
    pub size: u64,
    /// The time of the last change, in seconds since 1970.
    pub modified: i64,
    /// The numbers of a device, major and minor.
    pub device: (i64, i64),
}

impl<'a> Header<'a> {
    /// An entry that belongs to root and to the year 1970, with all names of owners empty.
    #[must_use]
    pub const fn new(kind: Kind, name: &'a [u8], mode: i64, size: u64) -> Self {
        Self {
            kind,
            name,
            link_name: b"",
            mode,
            user_id: 0,
            group_id: 0,
            user_name: b"",
            group_name: b"",
            size,
            modified: 0,
            device: (0, 0),
        }
    }

    /// The header's bytes: whole blocks, more than one if a long name or a large number
    /// needs a header of its own.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let formats = Formats::of(self);
        if formats.ustar {
            return Ok(self.encode_ustar());
        }
        if formats.pax {
            return Ok(self.encode_pax(formats.records));
        }
        if formats.gnu {
            return Ok(self.encode_gnu());
        }
        Err(Error::Unencodable { name: self.name.to_vec() })
    }

    /// The header's bytes in PAX, also if USTAR would do, as containerd asks for it.
    pub fn encode_as_pax(&self) -> Result<Vec<u8>, Error> {
        let formats = Formats::of(self);
        if !formats.pax {
            return Err(Error::Unencodable { name: self.name.to_vec() });
        }
        Ok(self.encode_pax(formats.records))
    }

    fn encode_ustar(&self) -> Vec<u8> {
        let (prefix, name) = split_name(self.name).unwrap_or((b"", self.name));
        let mut block = Block::of(&Header { name, ..*self }, Block::text, Block::octal);
        block.text(PREFIX, prefix);
        block.finish(USTAR).to_vec()
    }

    fn encode_pax(&self, mut records: Vec<(&'static str, Vec<u8>)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.sort_unstable();
        if !records.is_empty() {
            let body: Vec<u8> =
                records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            append_extension(&mut bytes, &pax_name(self.name), b'x', &body, USTAR);
        }
        let text = |block: &mut Block, field, text: &[u8]| block.text(field, &to_ascii(text));
        let block = Block::of(self, text, Block::octal);
        bytes.extend_from_slice(&block.finish(USTAR));
        bytes
    }

    fn encode_gnu(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (flag, text) in [(b'L', self.name), (b'K', self.link_name)] {
            if text.len() > NAME.length {
                let body = [text, b"\0"].concat();
                append_extension(&mut bytes, LONG_NAME, flag, &body, GNU);
            }
        }
        let block = Block::of(self, Block::text, Block::number);
        bytes.extend_from_slice(&block.finish(GNU));
        bytes
    }
}

/// How many zero bytes follow a content of `size` bytes.
#[must_use]
pub const fn padding(size: u64) -> usize {
    let block = BLOCK as u64;
    // The result is less than a block.
    #[allow(clippy::cast_possible_truncation)]
    let padding = ((block - size % block) % block) as usize;
    padding
}

/// The formats that can hold an entry (Go: `Header.allowedFormats`).
struct Formats {
    ustar: bool,
    pax: bool,
    gnu: bool,
    /// What PAX says in records of its own.
    records: Vec<(&'static str, Vec<u8>)>,
}

impl Formats {
    fn of(header: &Header<'_>) -> Self {
        let mut formats = Self { ustar: true, pax: true, gnu: true, records: Vec::new() };
        formats.text(header.name, NAME, "path");
        formats.text(header.link_name, LINK_NAME, "linkpath");
        formats.text(header.user_name, USER_NAME, "uname");
        formats.text(header.group_name, GROUP_NAME, "gname");
        formats.number(header.mode, MODE, None);
        formats.number(header.user_id, USER_ID, Some("uid"));
        formats.number(header.group_id, GROUP_ID, Some("gid"));
        formats.number(i64::try_from(header.size).unwrap_or(i64::MAX), SIZE, Some("size"));
        formats.number(header.modified, MODIFIED, Some("mtime"));
        formats.number(header.device.0, DEVICE_MAJOR, None);
        formats.number(header.device.1, DEVICE_MINOR, None);
        formats
    }

    fn text(&mut self, text: &[u8], field: Field, key: &'static str) {
        let is_long = text.len() > field.length;
        let has_nul = text.contains(&0);
        if has_nul || is_long && !matches!(key, "path" | "linkpath") {
            self.gnu = false;
        }
        if is_long || !is_ascii(text) {
            if key != "path" || split_name(text).is_none() {
                self.ustar = false;
            }
            self.pax &= !has_nul;
            self.records.push((key, text.to_vec()));
        }
    }

    fn number(&mut self, number: i64, field: Field, key: Option<&'static str>) {
        if !fits_base_256(field.length, number) {
            self.gnu = false;
        }
        if !fits_octal(field.length, number) {
            self.ustar = false;
            match key {
                Some(key) => self.records.push((key, number.to_string().into_bytes())),
                None => self.pax = false,
            }
        }
    }
}

/// A part of a header.
#[derive(Clone, Copy)]
struct Field {
    start: usize,
    length: usize,
}

/// One block of a header, under way.
struct Block([u8; BLOCK]);

impl Block {
    /// The fields that all formats share (Go: `templateV7Plus`).
    fn of(
        header: &Header<'_>,
        text: impl Fn(&mut Self, Field, &[u8]),
        number: impl Fn(&mut Self, Field, i64),
    ) -> Self {
        let mut block = Self([0; BLOCK]);
        block.0[KIND] = header.kind.flag();
        text(&mut block, NAME, header.name);
        text(&mut block, LINK_NAME, header.link_name);
        number(&mut block, MODE, header.mode);
        number(&mut block, USER_ID, header.user_id);
        number(&mut block, GROUP_ID, header.group_id);
        number(&mut block, SIZE, i64::try_from(header.size).unwrap_or(i64::MAX));
        number(&mut block, MODIFIED, header.modified);
        text(&mut block, USER_NAME, header.user_name);
        text(&mut block, GROUP_NAME, header.group_name);
        number(&mut block, DEVICE_MAJOR, header.device.0);
        number(&mut block, DEVICE_MINOR, header.device.1);
        block
    }

    fn field(&mut self, field: Field) -> &mut [u8] {
        &mut self.0[field.start..field.start + field.length]
    }

    /// Go's `formatString`: cut to the field, and closed by a NUL if one fits.
    fn text(&mut self, field: Field, text: &[u8]) {
        let bytes = self.field(field);
        let length = text.len().min(bytes.len());
        bytes[..length].copy_from_slice(&text[..length]);
        // A cut name that ends with a slash would make a file look like a directory.
        if text.len() > bytes.len() && bytes.last() == Some(&b'/') {
            let end = trim_slashes(&text[..bytes.len() - 1]).len();
            bytes[end] = 0;
        }
    }

    /// Go's `formatOctal`: a number that doesn't fit becomes zero.
    fn octal(&mut self, field: Field, number: i64) {
        let number = if fits_octal(field.length, number) { number } else { 0 };
        let digits = format!("{number:0width$o}", width = field.length - 1);
        self.text(field, digits.as_bytes());
    }

    /// Go's `formatNumeric`: base 256 if octal digits don't hold it.
    fn number(&mut self, field: Field, number: i64) {
        if fits_octal(field.length, number) {
            return self.octal(field, number);
        }
        // Sign bits fill what is longer than the number.
        let filling = if number < 0 { 0xff } else { 0 };
        let bytes = self.field(field);
        bytes.fill(filling);
        let (number, length) = (number.to_be_bytes(), bytes.len());
        bytes[length.saturating_sub(number.len())..]
            .copy_from_slice(&number[number.len().saturating_sub(length)..]);
        bytes[0] |= 0x80;
    }

    fn finish(mut self, magic: [u8; 8]) -> [u8; BLOCK] {
        self.field(MAGIC).copy_from_slice(&magic);
        self.field(CHECKSUM).fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.field(CHECKSUM)[..7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0
    }
}

/// Appends an entry that only says more about the next one (Go: `writeRawFile`).
fn append_extension(bytes: &mut Vec<u8>, name: &[u8], flag: u8, body: &[u8], magic: [u8; 8]) {
    let name = to_ascii(name);
    let name = trim_slashes(&name[..name.len().min(NAME.length)]);
    let mut block = Block([0; BLOCK]);
    block.0[KIND] = flag;
    block.text(NAME, name);
    for field in [MODE, USER_ID, GROUP_ID, MODIFIED] {
        block.octal(field, 0);
    }
    block.octal(SIZE, i64::try_from(body.len()).unwrap_or(i64::MAX));
    bytes.extend_from_slice(&block.finish(magic));
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len() + padding(body.len() as u64), 0);
}

/// The two parts of a long name in a USTAR header, before and after a slash (Go:
/// `splitUSTARPath`). `None` for a name that needs no split, or allows none.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME.length || !is_ascii(name) {
        return None;
    }
    let mut end = name.len();
    if end > PREFIX.length + 1 {
        end = PREFIX.length + 1;
    } else if name[end - 1] == b'/' {
        end -= 1;
    }
    let slash = name[..end].iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    let fits = (1..=NAME.length).contains(&rest.len()) && prefix.len() <= PREFIX.length;
    fits.then_some((prefix, rest))
}

/// The name of the extended header of an entry: `PaxHeaders.0` above its last component.
fn pax_name(name: &[u8]) -> Vec<u8> {
    let slash = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, file) = name.split_at(slash);
    match file {
        // Go shortens what it joins.
        b"." => [directory, b"PaxHeaders.0"].concat(),
        b".." if directory.is_empty() => b".".to_vec(),
        b".." => trim_slashes(directory).to_vec(),
        file => [directory, b"PaxHeaders.0/", file].concat(),
    }
}

/// Go's `formatPAXRecord`: the length at its start counts itself.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Without the bytes that ASCII doesn't have, and without NUL (Go: `toASCII`).
fn to_ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| is_ascii(&[*byte])).collect()
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte < 0x80 && *byte != 0)
}

fn trim_slashes(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = text {
        text = rest;
    }
    text
}

/// Whether a number fits a field of octal digits and a NUL.
const fn fits_octal(length: usize, number: i64) -> bool {
    number >= 0 && (length >= 22 || number < 1 << ((length - 1) * 3))
}

/// Whether a number fits a field in base 256, whose first byte is a mark.
const fn fits_base_256(length: usize, number: i64) -> bool {
    length >= 9 || {
        let limit = 1 << ((length - 1) * 8);
        number >= -limit && number < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Digest;

    fn magic(bytes: &[u8]) -> &[u8] {
        &bytes[bytes.len() - BLOCK + MAGIC.start..][..MAGIC.length]
    }

    /// What the `tar` crate reads of an entry: its name, link, size, mode and owner.
    fn read(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, u64, u64) {
        let mut archive = tar::Archive::new(bytes);
        let entry = archive.entries().expect("entries").next().expect("one").expect("valid");
        let link = entry.link_name_bytes().map(Vec::from).unwrap_or_default();
        (entry.path_bytes().into(), link, entry.size(), entry.header().uid().expect("an owner"))
    }

    #[test]
    fn contents_fill_blocks() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }

    // POSIX pax, "Extended Header": the length includes its own digits.
    #[test]
    fn records_count_their_own_length() {
        assert_eq!(pax_record("size", b"8589934592"), b"19 size=8589934592\n");
        // One more digit makes the length itself longer.
        assert_eq!(pax_record("a", &[b'1'; 93]).len(), 99);
        assert_eq!(pax_record("a", &[b'1'; 94]).len(), 101);
    }

    // The first bytes that skopeo 1.9.3 wrote for a layer of that size.
    #[test]
    fn rule_86_a_size_of_8_gib_moves_to_a_record() {
        let name = b"d165dc4a0b289a980b053eed9f62925e4e28d438ddc064cafd3b6f2bf9e65cb5.tar";
        let bytes = Header::new(Kind::File, name, 0o444, 9_126_807_040).encode().expect("a header");
        let golden = "sha256:a57f4b7d6b92c01e8b2ade216a42b57de3bdcdb1f0690453772faaf57de2c707";
        assert_eq!(Digest::sha256(&bytes).to_string(), golden);
        assert_eq!(read(&bytes), (name.to_vec(), Vec::new(), 9_126_807_040, 0));
    }

    #[test]
    fn names_choose_the_format() {
        let long = |length: usize| vec![b'n'; length];
        let deep = |prefix: usize, name: usize| [long(prefix), b"/".into(), long(name)].concat();
        for (name, blocks, format) in [
            (long(100), 1, USTAR),
            (deep(155, 100), 1, USTAR),
            (deep(156, 99), 3, USTAR),
            (deep(20, 101), 3, USTAR),
            (long(101), 3, USTAR),
            ("é".into(), 3, USTAR),
        ] {
            let bytes = Header::new(Kind::File, &name, 0o644, 0).encode().expect("a header");
            let shown = name.escape_ascii();
            assert_eq!(bytes.len(), blocks * BLOCK, "{shown}");
            assert_eq!(magic(&bytes), format, "{shown}");
            assert_eq!(read(&bytes).0, name);
        }
    }

    #[test]
    fn links_are_read_back() {
        let target = vec![b't'; 150];
        let header = Header::new(Kind::Link, b"/l", 0o777, 0);
        let header = Header { link_name: &target, ..header };
        assert_eq!(read(&header.encode().expect("PAX")), (b"/l".into(), target.clone(), 0, 0));
        // Only GNU's numbers hold a negative mode, so the link moves to GNU's long link.
        let bytes = Header { mode: -1, ..header }.encode().expect("GNU");
        assert_eq!(magic(&bytes), GNU);
        assert_eq!(&bytes[..LONG_NAME.len()], LONG_NAME);
        assert_eq!(read(&bytes).1, target);
    }

    #[test]
    fn large_numbers_are_read_back() {
        let header = Header::new(Kind::File, b"/f", 0o644, 0);
        assert_eq!(Header { user_id: 0o7_777_777, ..header }.encode().expect("USTAR").len(), BLOCK);
        let bytes = Header { user_id: 0o10_000_000, ..header }.encode().expect("PAX");
        assert_eq!((bytes.len(), magic(&bytes)), (3 * BLOCK, &USTAR[..]));
        assert!(bytes.windows(12).any(|part| part == b"uid=2097152\n"));
        let gnu = Header { user_id: 0o10_000_000, mode: 0o10_000_000, ..header };
        assert_eq!(read(&gnu.encode().expect("GNU")).3, 0o10_000_000);
    }

    #[test]
    fn what_no_format_holds_is_an_error() {
        // PAX has no record for a mode, and GNU no room for a long name of an owner.
        let header = Header::new(Kind::File, b"/f", -1, 0);
        let error = Header { user_name: &[b'u'; 33], ..header }.encode().expect_err("an error");
        assert_eq!(error.to_string(), "no tar format holds the entry `/f`");
    }

    // Each of these was tried with Go's `path.Join`.
    #[test]
    fn extended_headers_have_short_names() {
        for (name, expected) in [
            ("/a/b", "/a/PaxHeaders.0/b"),
            ("b", "PaxHeaders.0/b"),
            (".", "PaxHeaders.0"),
            ("..", "."),
            ("../..", ".."),
        ] {
            assert_eq!(String::from_utf8_lossy(&pax_name(name.as_bytes())), expected, "{name}");
        }
    }

    #[test]
    fn a_cut_name_does_not_look_like_a_directory() {
        let name = [vec![b'n'; 99], b"/".into(), "abé".into()].concat();
        let bytes = Header::new(Kind::File, &name, 0o644, 0).encode().expect("PAX");
        let main = &bytes[bytes.len() - BLOCK..];
        assert_eq!(&main[98..101], b"n\x000");
        assert_eq!(read(&bytes).0, name);
        // The extended header of a name without ASCII ends in no slash either.
        let bytes = Header::new(Kind::File, "/é".as_bytes(), 0o644, 0).encode().expect("PAX");
        assert_eq!(&bytes[..15], b"/PaxHeaders.0\0\0");
    }
}
