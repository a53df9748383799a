//! Headers of servers, and of archives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2c::registry::Challenge;
use n2c::stream::tar::{Header, Kind};

fuzz_target!(|input: (&str, &[u8], &[u8], i64, i64, u64)| {
    let (text, name, link_name, mode, user_id, size) = input;
    for challenge in Challenge::parse_all(text.lines()) {
        assert_eq!(challenge.scheme(), challenge.scheme().to_ascii_lowercase());
        let _ = challenge.parameter("realm");
    }
    let header = Header::new(Kind::Link, name, mode, size);
    let header = Header { link_name, user_id, ..header };
    if let Ok(bytes) = header.encode() {
        assert_eq!(bytes.len() % 512, 0);
    }
});
