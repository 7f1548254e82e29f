//! The properties of `tests/properties/`, where the tests find them too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a fuzzer looks for what panics")]

#[path = "../../tests/support/dice.rs"]
mod dice;
#[path = "../../tests/properties/mod.rs"]
pub mod properties;

/// What the properties share with the tests.
pub mod support {
    pub use super::dice::Dice;
}
