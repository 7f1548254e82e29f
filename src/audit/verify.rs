//! Reads the log along its chain: whether all of it is true, and what stands after the head.
//! Must never write, and never call a log whole that is not. The writer goes by the same judgement, so that both always agree.

use super::chain::{Head, MAX_HEAD, MAX_LINE, Point};
use super::{DIR, Error, Result, calendar, failed};
use crate::home::{Home, Privacy};
use crate::secret::Key;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::LazyLock;

/// Name of the head inside the folder of the log. Its lock serialises the writers of all processes.
pub(super) const HEAD: &str = "head.json";

/// Why a log is broken when a line is not the one that should stand there.
const NOT_NEXT: &str = "is missing, changed, out of place, or written with another key";

/// The id that Linux gives to every start of the machine. Where there is none, no restart is ever assumed: the strict side.
pub(super) static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Always 36 characters, as the head's length has to be constant.
    format!("{:0>36.36}", id.trim())
});

/// Where a walk along the chain ended: the last point, and what stands there instead of a line that follows: its file and bytes,
/// none at the end of the log.
type End = (Point, String, Vec<u8>);

/// A log that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of lines.
    pub lines: u64,
    /// What a killed writer left; the next one puts it in order.
    pub notes: Vec<String>,
    /// What a power cut took, if it did.
    pub warning: Option<String>,
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

impl Anchor {
    /// What `Display` wrote; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, mac) = text.split_once(':')?;
        let is_mac = mac.len() == 64 && mac.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        is_mac.then_some(Self { seq: seq.parse().ok()?, mac: mac.to_owned() })
    }
}

/// Checks every line from the first one on, the head, and what stands after it. `expect` is an anchor kept elsewhere:
/// the only thing that shows an older log and head which were put back together.
/// A log that is not what was written is [`Error::Broken`]; after any other error nothing is known.
pub fn verify(home: &Home, chain_key: &Key, head_key: &Key, expect: Option<&Anchor>) -> Result<Verified> {
    let is_expected = |point: &Point| expect.is_none_or(|anchor| (anchor.seq, &anchor.mac) == (point.seq, &point.mac));
    let start = Point::start(months(home)?.first().map_or("", String::as_str));
    let mut seen = is_expected(&start);
    // The head and what follows it are read under the lock; what stands before it never changes again.
    let (lock, head) = lock_head(home, head_key, false)?;
    let settled = settle(home, chain_key, &head);
    drop(lock);

    let to = settled.as_ref().map_or(certain(&head), |(end, _)| end);
    if to.seq > 0 {
        let (end, file, _) = walk(home, chain_key, &start, to.seq, &mut |point| seen |= is_expected(point))?;
        if end != *to {
            return Err(end.broken(&file, NOT_NEXT));
        }
    }
    let (end, cut) = settled?;
    let recovered = is_recovered(&head, &end);
    if !seen {
        let what = "is the end, and the expected line is not there: an older or another log was put here";
        return Err(Error::Broken { file: end.file, line: (end.seq > 0).then_some(end.seq), what });
    }
    let mut notes = Vec::new();
    if let Some(file) = cut {
        notes.push(format!("{file} ends within a line that no request waits for; the next writer cuts it off"));
    }
    if !recovered && end != head.at {
        notes.push("the last line is not in the head yet; the next writer adds it".to_owned());
    }
    let (known, lines) = (head.at.seq, end.seq);
    let loss =
        format!("the machine went down before the disk had all: the head knows {known} lines, the log has {lines}");
    let warning = recovered.then(|| loss + "; the next writer notes it as `audit.recovered`");
    Ok(Verified { lines, notes, warning })
}

/// The last point that must be there: what the disk had not confirmed may be gone after a power cut.
fn certain(head: &Head) -> &Point {
    if head.boot == *BOOT_ID { &head.at } else { &head.synced }
}

/// Judges what stands after the head. The error says in what the log and its head do not belong together.
/// Gives the end of the last line that counts, and the file whose end a writer has to cut off: there, or wholly when it is
/// a later file.
pub(super) fn settle(home: &Home, key: &Key, head: &Head) -> Result<(Point, Option<String>)> {
    let rebooted = head.boot != *BOOT_ID;
    let from = certain(head);
    let there = fs::symlink_metadata(home.path(&place(&from.file))).map_or(0, |meta| meta.len());
    if there < from.len {
        return Err(from.broken(&from.file, "was there and is not: the file was cut or removed"));
    }
    let (end, file, rest) = walk(home, key, from, u64::MAX, &mut |_| {})?;
    let cut = (!rest.is_empty()).then_some(file);
    if let Some(file) = &cut {
        // Pages that never reached the disk before a power cut read as zeros.
        let harmless = is_fragment(&rest) || rebooted && rest.contains(&0);
        if !harmless || months(home)?.last() != Some(file) {
            return Err(end.broken(file, NOT_NEXT));
        }
    }
    // A writer is killed before it writes a line, within it, or after it; never after one line and within the next.
    let lines = end.seq.saturating_sub(from.seq).saturating_add(cut.is_some().into());
    if !rebooted && lines > 1 {
        return Err(end.broken(&end.file, "stands after the head, and is not alone there"));
    }
    Ok((end, cut))
}

/// True when a power cut took lines, or the head's knowledge of them: the log ends elsewhere than before it.
pub(super) fn is_recovered(head: &Head, end: &Point) -> bool {
    head.boot != *BOOT_ID && *end != head.at
}

/// Follows the chain from a point on to the line `last`, or as far as it goes, and tells `each` every point that it reaches.
fn walk(home: &Home, key: &Key, from: &Point, last: u64, each: &mut dyn FnMut(&Point)) -> Result<End> {
    let (mut end, mut file, mut rest) = (from.clone(), from.file.clone(), Vec::new());
    lines(home, from, &mut |name, line| {
        file = name.to_owned();
        // Only a line that follows makes its file the one in which the log ends.
        let Some(next) = end.in_file(name).follow(key, line) else {
            rest = line.to_vec();
            return Ok(false);
        };
        end = next;
        each(&end);
        Ok(end.seq < last)
    })?;
    Ok((end, file, rest))
}

/// Hands what stands after this point to `each`, line by line with its newline, and the file's name, until that says false.
/// What is longer than a line may be is cut to a byte more.
pub(super) fn lines(home: &Home, from: &Point, each: &mut dyn FnMut(&str, &[u8]) -> Result<bool>) -> Result<()> {
    for name in months(home)?.iter().filter(|name| **name >= from.file) {
        let mut file = open(home, name, false)?;
        file.seek(SeekFrom::Start(from.in_file(name).len)).map_err(failed("read", name))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
            if read.map_err(failed("read", name))? == 0 {
                break;
            }
            if !each(name, &line)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// True for the beginning of a line at the end of a file.
pub(super) fn is_fragment(line: &[u8]) -> bool {
    (1..=MAX_LINE).contains(&line.len()) && !line.ends_with(b"\n")
}

/// The month files, the oldest first; none when there is no log.
pub(super) fn months(home: &Home) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if home.path(DIR).exists() {
        for entry in fs::read_dir(home.path(DIR)).map_err(failed("list", DIR))? {
            let name = entry.map_err(failed("list", DIR))?.file_name();
            names.extend(name.into_string().ok().filter(|name| calendar::is_month_file(name)));
        }
    }
    names.sort();
    Ok(names)
}

/// Waits for the lock on the head, which lasts as long as its file is open, then reads it and checks its seal.
pub(super) fn lock_head(home: &Home, key: &Key, to_write: bool) -> Result<(File, Head)> {
    let file = open(home, HEAD, to_write)?;
    let locked = if to_write { file.lock() } else { file.lock_shared() };
    locked.map_err(failed("lock", HEAD))?;
    let mut bytes = [0; MAX_HEAD];
    let length = file.read_at(&mut bytes, 0).map_err(failed("read", HEAD))?;
    let head = bytes.get(..length).and_then(|bytes| Head::parse(bytes, key));
    Ok((file, head.ok_or_else(|| broken(HEAD, "was changed, or sealed with another key"))?))
}

/// Opens a file of the log for reading, and for writing too if wanted.
pub(super) fn open(home: &Home, name: &str, to_write: bool) -> Result<File> {
    let file = home.open_file(&place(name), Privacy::Secret, to_write)?;
    file.ok_or_else(|| broken(name, "is missing"))
}

/// Where a file of the log stands in the home.
pub(super) fn place(name: &str) -> String {
    format!("{DIR}/{name}")
}

fn broken(file: &str, what: &'static str) -> Error {
    Error::Broken { file: file.to_owned(), line: None, what }
}
