//! The audit log: one chained line per request and per act on logins, keys and settings; written, checked, searched, exported.
//! Must never hold content or matched text, and never let a request pass that has no line.
//!
//! Reading order: `event` (what is said), `chain` (how lines hold together), `append`, `sync`;
//! then the readers: `verify`, `query`, `export`.

mod append;
mod calendar;
mod chain;
mod event;
pub mod export;
mod query;
mod sync;
mod verify;

pub use append::Audit;
pub use calendar::{is_near, now, parse_since};
pub use event::{Event, Finding, Line, Outcome};
pub use query::{Filter, last_used, query};
pub use verify::{Anchor, Verified, verify};

use crate::home;
use std::{fmt, io};

/// The folder of the log, inside the home.
const DIR: &str = "audit";

/// What can go wrong with the log. The text says what failed and the next command to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The disk is full, and the reserve is used up.
    NoSpace,
    /// The system refused, or others can get at a file of the log; the text says what was tried.
    Failed(String),
    /// An export could not be written; its reader may have left.
    Export(io::ErrorKind),
    /// The log is not what was written, or it and its head do not belong together.
    Broken {
        /// File inside the folder `audit`.
        file: String,
        /// The line that should stand there, counted over all months (its `seq`); `None` when it is not about a line.
        line: Option<u64>,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => f.write_str("the audit log has no space left on its disk: type `df -h` and make room"),
            Self::Failed(what) => write!(f, "the audit log: {what}"),
            Self::Export(error) => write!(f, "cannot write the export: {error}"),
            Self::Broken { file, line, what } => {
                write!(f, "the audit log is broken: {} {what}; type `infershield audit verify`", place_of(file, *line))
            }
        }
    }
}

impl std::error::Error for Error {}

/// Where a log is broken, for people.
pub fn place_of(file: &str, line: Option<u64>) -> String {
    line.map_or(format!("audit/{file}"), |line| format!("audit/{file}: line {line}"))
}

impl From<home::Error> for Error {
    fn from(error: home::Error) -> Self {
        // The disk, or this user's part of it.
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if is_full { Self::NoSpace } else { Self::Failed(error.to_string()) }
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Wraps a refusal of the system, saying what was tried.
fn failed(what: &str, file: &str) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        let what = format!("cannot {what} {file}: {error}; type `df -h` and `dmesg`");
        io::Error::new(error.kind(), what).into()
    }
}
