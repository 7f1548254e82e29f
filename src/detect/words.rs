//! Lists of words that a text may hold, from the files beside. Must never weigh one of them more than another.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::sync::LazyLock;

/// Words that are looked for all at once, put together when the first text asks for them.
pub(super) type Words = LazyLock<Option<AhoCorasick>>;

/// The words of a file, one in a line; lines that begin with `#` are about them.
pub(super) fn words(list: &str) -> Option<AhoCorasick> {
    let words = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let kind = Some(AhoCorasickKind::DFA);
    AhoCorasick::builder().ascii_case_insensitive(true).kind(kind).build(words).ok()
}

/// Whether a text holds one of them, in any case of ASCII letters.
pub(super) fn contains_any(text: impl AsRef<[u8]>, words: &Words) -> bool {
    words.as_ref().is_some_and(|words| words.is_match(text.as_ref()))
}
