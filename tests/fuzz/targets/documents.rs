//! JSON from servers and files: no input makes a parser panic, and a lockfile that is
//! accepted is written and read again without a change.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2c::formats::blob_map::BlobMap;
use n2c::formats::lockfile::Lockfile;
use n2c::oci::digest::Verified;
use n2c::oci::image::ImageConfig;
use n2c::oci::manifest::Document;

fuzz_target!(|bytes: &[u8]| {
    let raw = Verified::as_found(bytes.to_vec());
    let _ = Document::parse("the document", raw.clone(), None);
    let _ = ImageConfig::parse("the config", &raw);
    let _ = BlobMap::parse("the map", bytes);
    if let Ok(lockfile) = Lockfile::parse("the file", bytes) {
        let text = lockfile.to_text();
        let again = Lockfile::parse("the file", text.as_bytes()).expect("it was just written");
        assert_eq!(again.to_text(), text);
    }
});
