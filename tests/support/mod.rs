//! What the tests of the whole project share: real binaries, real sockets, one folder per test that keeps all that they wrote.
//!
//! `Fixture::start("name")` gives a provider, a home that is logged in, a local key and a running proxy.
//! Smaller parts stand alone: [`Run`] (the folder), [`Process`] (a program), [`Practice`] (the provider), [`Wire`] (raw HTTP).
#![allow(dead_code, unused_imports, reason = "each test target uses its own part")]

mod ask;
mod change;
mod dice;
mod faults;
mod fixture;
mod practice;
mod process;
mod raw_provider;
mod recorded;
mod run;
mod scripted;
mod terminal;
mod wire;

pub use ask::{POSTED, STREAMING, code, hello, repair_status, say, streamed, until};
pub use change::{USER, age, store};
pub use dice::Dice;
pub use faults::{die_at, faults};
pub use fixture::{Fixture, Login, Plan};
pub use practice::Practice;
pub use process::{Done, PATIENCE, Process};
pub use raw_provider::RawProvider;
pub use recorded::{Arrived, Exchange, Recording, Replay, event, of_provider, passing, recordings};
pub use run::{ALL_RUNS, Run, SECRETS, SHOWS_KEY};
pub use scripted::{header, recorded};
pub use terminal::Terminal;
pub use wire::{Cut, Reply, Wire, request};
