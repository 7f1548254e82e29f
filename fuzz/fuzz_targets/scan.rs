//! See `tests/properties/scan.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| infershield_fuzz::properties::scan::check(bytes));
