//! The audit log: one chained line per request and per act on logins, keys and settings; written, checked, searched, exported.
//! Must never hold content or matched text, and never let a request pass that has no line.
//!
//! Reading order: `event` (what is said), `chain` (how lines hold together), `tail` (what may stand after the head),
//! `append`, `sync`; then the readers: `verify`, `query`, `export`, `report`.

mod append;
mod calendar;
mod chain;
mod event;
mod export;
mod query;
mod report;
mod sync;
mod tail;
mod verify;

pub use append::{Audit, AuditKeys};
pub use calendar::parse_since;
pub use event::{Event, Finding, Line, Outcome};
pub use export::{Format, export};
pub use query::{Filter, Summary, query};
pub use verify::{Anchor, Verdict, verify};

use crate::home;
use std::{fmt, io};

/// The folder of the log, inside the home.
const DIR: &str = "audit";

/// What can go wrong with the log. The text says what failed and the next command to type.
#[derive(Debug)]
pub enum Error {
    /// A file of the log cannot be opened, or others can get at it.
    Home(home::Error),
    /// The system refused; the text says what was tried.
    Io(String, io::Error),
    /// The disk is full, and the reserve is used up.
    NoSpace,
    /// The disk failed to keep what was written; nothing may be forwarded until a restart.
    SyncFailed,
    /// The log is not what was written, or it and its head do not belong together.
    Broken {
        /// File inside the folder `audit`.
        file: String,
        /// The line that should stand there, counted over all months (its `seq`); 0 when it is not about a line.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(error) => write!(f, "the audit log: {error}"),
            Self::Io(what, error) => write!(f, "the audit log: {what}: {error}; type `df -h` and `dmesg`"),
            Self::NoSpace => f.write_str("the audit log has no space left on its disk: type `df -h` and make room"),
            Self::SyncFailed => {
                f.write_str("the disk failed to keep the audit log: type `dmesg`, then start infershield again")
            }
            Self::Broken { file, line, what } => write!(
                f,
                "the audit log is broken: audit/{file}, line {line}, {what}; type `infershield audit verify`, \
                 put back what is missing, or move the folder `audit` away to begin a new log"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<home::Error> for Error {
    fn from(error: home::Error) -> Self {
        Self::Home(error)
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Wraps a refusal of the system, saying what was tried.
fn failed(what: &str, file: &str) -> impl FnOnce(io::Error) -> Error {
    let what = format!("cannot {what} {file}");
    move |error| Error::Io(what, error)
}
