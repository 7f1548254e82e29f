//! Every promise of README and DESIGN, through the real binary and real sockets: one module per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the name of a test is its documentation"
)]
