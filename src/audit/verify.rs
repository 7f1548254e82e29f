//! Checks the whole chain against the head. Needs the audit key and the head key.
//! Must never write, and never call a log whole that is not.

use super::append::{AuditKeys, LOCK};
use super::chain::Point;
use super::tail::{self, BOOT_ID, NOT_NEXT};
use super::{Error, Result, failed};
use crate::home::Home;
use std::fmt;
use std::str::FromStr;

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The log is whole: exit code 0.
    Verified {
        /// Number of lines.
        lines: u64,
        /// What a killed writer left; the next one puts it in order.
        notes: Vec<String>,
        /// What a power cut took, if it did.
        warning: Option<String>,
    },
    /// The log is not what was written: exit code 1.
    Broken {
        /// File inside the folder `audit`.
        file: String,
        /// The line that should stand there, counted over all months (its `seq`); 0 when it is not about a line.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A line's number and mac, kept outside of this machine: `SEQ:MAC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Number of the line, 0 before the first.
    pub seq: u64,
    /// Its mac, 64 lower-case hex digits.
    pub mac: String,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.mac)
    }
}

impl FromStr for Anchor {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (seq, mac) = text.split_once(':').unwrap_or_default();
        let is_mac = mac.len() == 64 && mac.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        let seq = seq.parse().ok().filter(|_| is_mac);
        let anchor = seq.map(|seq| Self { seq, mac: mac.to_owned() });
        anchor.ok_or("an anchor is SEQ:MAC as `infershield audit head` prints it")
    }
}

/// Checks every line from the first one on, the head, and what stands after it. `expect` is an anchor kept elsewhere:
/// the only thing that shows an older log and head which were put back together.
/// An error means that the files could not be read; a broken log is a [`Verdict`].
pub fn verify(home: &Home, keys: &AuditKeys, expect: Option<&Anchor>) -> Result<Verdict> {
    match check(home, keys, expect) {
        Err(Error::Broken { file, line, what }) => Ok(Verdict::Broken { file, line, what }),
        checked => checked,
    }
}

fn check(home: &Home, keys: &AuditKeys, expect: Option<&Anchor>) -> Result<Verdict> {
    let is_expected = |point: &Point| expect.is_none_or(|anchor| (anchor.seq, &anchor.mac) == (point.seq, &point.mac));
    let start = Point::start(tail::months(home)?.first().map_or("", String::as_str));
    let mut seen = is_expected(&start);
    // The head and what follows it are read under the lock; what stands before it never changes again.
    let lock = tail::open(home, LOCK)?;
    if let Some(lock) = &lock {
        lock.lock_shared().map_err(failed("lock", LOCK))?;
    }
    let head = tail::read_head(home, &keys.head)?;
    let settled = tail::settle(home, &keys.audit, &head, &mut |point| seen |= is_expected(point));
    drop(lock);

    let rebooted = head.boot != *BOOT_ID;
    let to = if rebooted { &head.synced } else { &head.at };
    if to.seq > 0 {
        let (end, rest) = tail::walk(home, &keys.audit, &start, &mut |point| {
            seen |= is_expected(point);
            point != to
        })?;
        if end != *to {
            return Err(end.broken(&rest.map_or(end.file.clone(), |(file, _)| file), NOT_NEXT));
        }
    }
    let settled = settled?;
    if !seen {
        let what = "is the end, and the expected line is not there: an older or another log was put here";
        return Err(Error::Broken { file: settled.end.file, line: settled.end.seq, what });
    }
    let mut notes = Vec::new();
    if let Some(file) = &settled.cut {
        notes.push(format!("{file} ends within a line that no request waits for; the next writer cuts it off"));
    }
    if !rebooted && settled.end != head.at {
        notes.push("the last line is not in the head yet; the next writer adds it".to_owned());
    }
    let warning = settled.recovered.then(|| {
        let (known, there) = (head.at.seq, settled.end.seq);
        format!("the machine went down before the disk had all: the head knows {known} lines, the log has {there}; the next writer notes it as `audit.recovered`")
    });
    Ok(Verdict::Verified { lines: settled.end.seq, notes, warning })
}
