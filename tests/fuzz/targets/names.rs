//! Text that users, bots and servers write: what is accepted means the same when it is
//! written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2c::copy::Destination;
use n2c::oci::digest::Digest;
use n2c::oci::location::Location;
use n2c::oci::platform::Platform;
use n2c::oci::reference::{Reference, Repository};
use n2c::upkeep::tag_version::TagVersion;

fn reads_what_it_writes<T>(text: &str)
where
    T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>();
        assert_eq!(again.ok().as_ref(), Some(&value), "{text:?}");
    }
}

fuzz_target!(|text: &str| {
    reads_what_it_writes::<Reference>(text);
    reads_what_it_writes::<Repository>(text);
    reads_what_it_writes::<Digest>(text);
    reads_what_it_writes::<Platform>(text);
    reads_what_it_writes::<Location>(text);
    let _ = text.parse::<Destination>();
    let _ = text.parse::<TagVersion>();
    let _ = n2c::store::sanitise_name(text);
});
