//! See `tests/properties/reply.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| infershield_fuzz::properties::reply::check(bytes));
