//! Where a placeholder stands in a text: its line, and the URLs that it belongs to.
//! Must never look further for one placeholder than a fixed distance: a text may be full of them.

use super::{PLACEHOLDER_BYTES, boundary, url};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

/// How much of a line is looked at on either side of a placeholder, in bytes. A longer word may be a URL, and nothing is restored in it.
pub(super) const LINE_BYTES: usize = 4 << 10;
/// Longest line that tells what a value goes to, in bytes: a longer one is a file, or a page, of its own.
const SHORT_BYTES: usize = 512;
/// What is looked at begins at a multiple of so many bytes, so that the placeholders of a long line are judged by the same few parts of it.
const STEP_BYTES: usize = 2 << 10;

/// Where a placeholder stands.
pub(super) struct Place<'t> {
    /// All of the text on either side.
    pub(super) before: &'t str,
    pub(super) behind: &'t str,
    pub(super) around: url::Around,
    pub(super) line: &'t str,
    /// The word that it stands in begins where nobody looks any more.
    pub(super) is_cut: bool,
}

impl<'t> Place<'t> {
    pub(super) fn of(text: &'t str, at: usize, is_cut: bool) -> Self {
        let step = at / STEP_BYTES * STEP_BYTES;
        let from = boundary(text, step.saturating_sub(LINE_BYTES));
        let end = boundary(text, text.len().min(step + LINE_BYTES + STEP_BYTES));
        let (seen, at) = (text.get(from..end).unwrap_or_default(), at - from);
        let before = seen.get(..at).unwrap_or_default();
        let start = line_ends(before).next_back().map(|end| end + 1);
        let left = before.get(start.unwrap_or_default()..).unwrap_or_default();
        let is_whole = start.is_some() || from == 0 && !is_cut;
        Self {
            before: text.get(..from + at).unwrap_or_default(),
            behind: text.get(from + at + PLACEHOLDER_BYTES..).unwrap_or_default(),
            around: url::around(seen, at..at + PLACEHOLDER_BYTES),
            line: line_at(seen, at),
            is_cut: !is_whole && !left.contains(char::is_whitespace),
        }
    }

    /// Whether the word that it stands in may be a URL with a query, which may name another host.
    pub(super) fn is_asked(&self) -> bool {
        let behind = self.behind.chars().take(LINE_BYTES);
        let before = self.before.chars().rev().take(LINE_BYTES);
        let is_word = |c: &char| !c.is_whitespace();
        behind.take_while(is_word).chain(before.take_while(is_word)).any(|c| c == '?')
    }
}

/// The line in which something stands.
pub(super) fn line_at(text: &str, at: usize) -> &str {
    let (before, _) = text.split_at_checked(at).unwrap_or_default();
    let start = line_ends(before).next_back().map_or(0, |end| end + 1);
    let line = text.get(start..).unwrap_or_default();
    line.get(..line_ends(line).next().unwrap_or(line.len())).unwrap_or_default()
}

/// A short name for a line, the same behind the number or the sign of a change that a tool has put before it.
pub(super) fn line_hash(line: &str) -> u64 {
    let is_added = |c: char| c.is_whitespace() || c.is_ascii_digit() || "+-→|:".contains(c);
    BuildHasherDefault::<DefaultHasher>::default().hash_one(line.trim_start_matches(is_added).trim_end())
}

/// What a short line names besides a value. JSON in one line holds many.
pub(super) fn neighbours(line: &str) -> Vec<String> {
    let is_many = line.len() > SHORT_BYTES || line.starts_with(['{', '[']) || line.contains("\\n");
    if is_many { Vec::new() } else { url::leads(line) }
}

/// Where lines end. A backslash before its end leads a line on (POSIX shell, section 2.2.1).
fn line_ends(text: &str) -> impl DoubleEndedIterator<Item = usize> {
    let ends = text.match_indices('\n').map(|(end, _)| end);
    ends.filter(|end| !text.get(..*end).unwrap_or_default().ends_with('\\'))
}
