//! The chain: what a line and the head look like as bytes, and what ties a line to the one before it.
//! Must never touch a file, so that every rule of the chain can be read and tested alone.

use super::event::{Event, Line};
use super::{Error, Result};
use crate::keys::NamedKey;
use crate::secret::Key;
use serde::Deserialize;

/// Longest line in bytes, newline included: 200 findings with deep locations take less than half of it.
pub(super) const MAX_LINE: usize = 128 << 10;
/// More than the head has, in bytes: the whole of a longer one is never read, so its seal cannot be right.
pub(super) const MAX_HEAD: usize = 512;
/// Hex digits of a mac or seal.
const MAC_DIGITS: usize = 64;

/// A place in the log: the end of the line `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Point {
    /// Month file, such as `2026-11.jsonl`.
    pub(super) file: String,
    /// Bytes of that file up to here.
    pub(super) len: u64,
    /// Number of the last line, 0 before the first.
    pub(super) seq: u64,
    /// Its mac, 64 zeros before the first.
    pub(super) mac: String,
}

/// What `audit/head.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Head {
    /// The end of the last line whose request may have been answered.
    #[serde(flatten)]
    pub(super) at: Point,
    /// What the disk had confirmed to hold when the head was written.
    pub(super) synced: Point,
    /// Boot id of the machine when the head was written: another one now means that it went down since.
    pub(super) boot: String,
}

impl Point {
    /// Before the first line, which goes to `file`.
    pub(super) fn start(file: &str) -> Self {
        Self { file: file.to_owned(), len: 0, seq: 0, mac: "0".repeat(MAC_DIGITS) }
    }

    /// This point, or the beginning of `file` when that is another one.
    pub(super) fn in_file(&self, file: &str) -> Self {
        let len = if self.file == file { self.len } else { 0 };
        let file = file.to_owned();
        Self { file, len, ..self.clone() }
    }

    /// The line that says `event` after this point (newline included), and the point after it.
    pub(super) fn line(&self, named: &NamedKey, timestamp: u64, event: &Event) -> Result<(String, Self)> {
        let (event, kid, prev) = (event.trimmed(), named.id.clone(), self.mac.clone());
        let line = serde_json::to_string(&Line { seq: self.next_seq(), timestamp, event, kid, prev });
        let mut line = line.map_err(|error| Error::Failed(error.to_string()))?;
        // The mac is the last member, so it stands inside the closing brace.
        line.pop();
        let (line, mac) = named.key.signed(&self.mac, &line, "mac");
        if line.len() > MAX_LINE {
            return Err(Error::Failed(format!("a line may not be longer than {MAX_LINE} bytes")));
        }
        let next = self.after(&line, mac);
        Ok((line, next))
    }

    /// The point after `line` (newline included); `None` when that is not the next line. The mac says all: only a writer
    /// makes it, only over the mac that it covers, and with the number that comes next.
    pub(super) fn follow(&self, key: &Key, line: &[u8]) -> Option<Self> {
        let (_, mac) = key.checked(&self.mac, line, "mac")?;
        Some(self.after(line, mac))
    }

    /// Says what is wrong with the line after this point.
    pub(super) fn broken(&self, file: &str, what: &'static str) -> Error {
        Error::Broken { file: file.to_owned(), line: Some(self.next_seq()), what }
    }

    fn next_seq(&self) -> u64 {
        self.seq.saturating_add(1)
    }

    fn after(&self, line: impl AsRef<[u8]>, mac: String) -> Self {
        let len = self.len.saturating_add(line.as_ref().len() as u64);
        Self { file: self.file.clone(), len, seq: self.next_seq(), mac }
    }
}

impl Head {
    /// The sealed head: one line of constant length, so that it overwrites the last one wholly; numbers are filled up with
    /// spaces for that. Its 439 bytes are less than a disk sector, so a power cut cannot tear it.
    pub(super) fn bytes(&self, key: &Key) -> Vec<u8> {
        let members = |point: &Point| {
            let Point { file, len, seq, mac } = point;
            format!(r#""file":"{file}","len":{len:>20},"seq":{seq:>20},"mac":"{mac}""#)
        };
        let (at, synced, boot) = (members(&self.at), members(&self.synced), &self.boot);
        let body = format!(r#"{{"v":1,{at},"synced":{{{synced}}},"boot":"{boot}""#);
        key.signed("", &body, "seal").0.into_bytes()
    }

    /// Reads a head; `None` when it is damaged or the seal is not by `key`.
    pub(super) fn parse(bytes: &[u8], key: &Key) -> Option<Self> {
        key.checked("", bytes, "seal")?;
        serde_json::from_slice(bytes).ok()
    }
}
