//! See `tests/properties/head.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| infershield_fuzz::properties::head::check(bytes));
