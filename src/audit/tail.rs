//! Reads the files of the log along the chain, and judges what stands after the head.
//! Must never write: the writer and `verify` share this judgement, so that both always agree.

use super::chain::{Head, MAX_LINE, Point};
use super::{DIR, Error, Result, calendar, failed};
use crate::home::{Home, Privacy};
use crate::secret::Key;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::sync::LazyLock;

/// Name of the head inside the folder of the log.
pub(super) const HEAD: &str = "head.json";

/// Why a log is broken when a line is not the one that should stand there.
pub(super) const NOT_NEXT: &str = "is missing, changed, out of place, or written with another key";

/// The id that Linux gives to every start of the machine. Where there is none, no restart is ever assumed: the strict side.
pub(super) static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Always 36 characters, as the head's length has to be constant.
    format!("{:0>36.36}", id.trim())
});

/// What a writer has to do before the next line, and what `verify` notes.
pub(super) struct Settled {
    /// The end of the last line that counts.
    pub(super) end: Point,
    /// The file whose end has to be cut off: at `end`, or wholly when it is a later file.
    pub(super) cut: Option<String>,
    /// True when a power cut took lines, or the head's knowledge of them.
    pub(super) recovered: bool,
}

/// Where a file of the log stands in the home.
pub(super) fn place(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// Opens a file of the log for reading.
pub(super) fn open(home: &Home, name: &str) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    Ok(home.open_file(&place(name), Privacy::Secret, options.read(true))?)
}

/// Reads the head and checks its seal.
pub(super) fn read_head(home: &Home, key: &Key) -> Result<Head> {
    let broken = |what| Error::Broken { file: HEAD.to_owned(), line: 0, what };
    let bytes = home.read(&place(HEAD), Privacy::Secret)?;
    let bytes = bytes.ok_or_else(|| broken("is missing"))?;
    Head::parse(&bytes, key).ok_or_else(|| broken("was changed, or sealed with another key"))
}

/// The month files, the oldest first.
pub(super) fn months(home: &Home) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if !home.path(DIR).exists() {
        return Ok(names);
    }
    for entry in fs::read_dir(home.path(DIR)).map_err(failed("list", DIR))? {
        let name = entry.map_err(failed("list", DIR))?.file_name();
        names.extend(name.to_str().map(str::to_owned));
    }
    names.retain(|name| calendar::is_month_file(name));
    names.sort();
    Ok(names)
}

/// Hands what stands from byte `start` of the month file `from` on to `each`, line by line with its newline, and the
/// file's name, until that says false. What is longer than a line may be is cut to a byte more.
pub(super) fn lines(
    home: &Home,
    from: &str,
    start: u64,
    each: &mut dyn FnMut(&str, &[u8]) -> Result<bool>,
) -> Result<()> {
    for name in months(home)?.iter().filter(|name| name.as_str() >= from) {
        let Some(mut file) = open(home, name)? else {
            continue;
        };
        let start = if name == from { start } else { 0 };
        file.seek(SeekFrom::Start(start)).map_err(failed("read", name))?;
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

/// Judges what stands after the head. The error says in what the log and its head do not belong together.
/// `each` is told every point after it that is reached.
pub(super) fn settle(home: &Home, key: &Key, head: &Head, each: &mut dyn FnMut(&Point)) -> Result<Settled> {
    let rebooted = head.boot != *BOOT_ID;
    // What the disk had not confirmed may be gone after a power cut, so it is read again.
    let from = if rebooted { &head.synced } else { &head.at };
    let there = fs::symlink_metadata(home.path(&place(&from.file))).map_or(0, |meta| meta.len());
    if there < from.len {
        return Err(from.broken(&from.file, "was there and is not: the file was cut or removed"));
    }
    let (end, rest) = walk(home, key, from, &mut |point| {
        each(point);
        true
    })?;
    let mut cut = None;
    if let Some((file, bytes)) = rest {
        // Pages that never reached the disk before a power cut read as zeros.
        let harmless = is_fragment(&bytes) || rebooted && bytes.contains(&0);
        if !harmless || months(home)?.last() != Some(&file) {
            return Err(end.broken(&file, NOT_NEXT));
        }
        cut = Some(file);
    }
    // A writer is killed before it writes a line, within it, or after it; never after one line and within the next.
    let lines = end.seq.saturating_sub(from.seq).saturating_add(cut.is_some().into());
    if !rebooted && lines > 1 {
        return Err(end.broken(&end.file, "stands after the head, and is not alone there"));
    }
    Ok(Settled { recovered: rebooted && end != head.at, end, cut })
}

/// What stands where a line should follow: its file and its bytes; none at the end of the log.
pub(super) type Rest = Option<(String, Vec<u8>)>;

/// Follows the chain from a point on, as far as it goes or until `each`, which is told every point that is reached, says
/// false. Gives the last point, and what stands there instead of a line that follows: its file and its bytes.
pub(super) fn walk(
    home: &Home,
    key: &Key,
    from: &Point,
    each: &mut dyn FnMut(&Point) -> bool,
) -> Result<(Point, Rest)> {
    let (mut end, mut rest) = (from.clone(), None);
    lines(home, &from.file, from.len, &mut |name, line| {
        // Only a line that follows makes its file the one in which the log ends.
        let Some(next) = end.in_file(name).follow(key, line) else {
            rest = Some((name.to_owned(), line.to_vec()));
            return Ok(false);
        };
        end = next;
        Ok(each(&end))
    })?;
    Ok((end, rest))
}
