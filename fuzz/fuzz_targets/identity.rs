//! See `tests/properties/identity.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| infershield_fuzz::properties::identity::check(bytes));
