//! Disguises undone: look-alike and invisible characters, escapes, base64 and hex, letters one by one, digits for
//! letters. Each copy knows where its bytes stood in the original.
//! Must never build a copy that is longer than its original.

use super::decode::{CODED_LEAST, DIGITS, ESCAPES, LOOK_ALIKES, letter, plain, undo_piece};
use super::engine::boundary;
use regex::Regex;
use std::mem;
use std::ops::Range;
use std::sync::LazyLock;

/// What may be disguised: characters beyond ASCII, more blanks than a rule looks over, escapes (of JSON, URLs, Markdown, HTML, mail, shells), runs of numbers that are long enough to hide a sentence, seven and more letters one by one, such runs of
/// base64, and words with digits inside, as `1gn0r3`.
const PIECES: &str = concat!(
    r"[^\x00-\x7f]{1,99}",
    r"|[\t-\r ]{40,}",
    r"|%[0-9A-Fa-f]{2}",
    r#"|\\(?:u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,6}\}|x[0-9A-Fa-f]{2}|[nrt/"_])"#,
    r"|(?:=[0-9A-F]{2}){4,}|(?:\\[01][0-7]{2}){4,}",
    r"|&(?:lt|gt|amp|quot|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});",
    r"|(?-u:\b)(?:(?:(?:0x|U\+00)?[0-9A-Fa-f]{2}|[01]?[0-9]{2}|[01]{7,16})[ ,:;.|/_\t\n-]{1,2}){15,}(?:(?:0x|U\+00)?[0-9A-Fa-f]{2}|[01]?[0-9]{2}|[01]{7,16})(?-u:\b)",
    r"|(?-u:\b)[A-Za-z0-9](?:(?: {1,4}|\n(?: \n)?|[._*/|-](?: [._*/|-])?)[!-~]){6,}(?: {1,4}|\n|[._*/|-])[A-Za-z0-9](?-u:\b)",
    r"|[A-Za-z0-9+/_-]{24,}(?:\r?\n[A-Za-z0-9+/_-]{20,})*(?:\r?\n[A-Za-z0-9+/_-]{1,19}={1,2})?",
    r"|(?-u:\b)(?:[A-Za-z]{0,8}[0134578]{1,3}){1,4}[A-Za-z]{1,8}(?-u:\b)",
    r"|(?-u:\b)[0134578]{0,3}(?:[A-Za-z]{1,8}[0134578]{1,3}){2,5}(?-u:\b)",
);
/// Fewer words with digits inside are hashes and names.
const DIGIT_WORDS_LEAST: usize = 4;

/// What only colours a text on a terminal, or moves about there (ECMA-48, 5.4), as it is or as programs write it down.
const COLOURS: &str = r"(?:\x1b|\\(?:u001[bB]|x1[bB]|033|e))(?:\[[0-9;:?]{0,20}[@-~]|\(B)";

/// A build with a broken expression undoes nothing; the tests see to it that there is none.
static ANY_PIECE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(PIECES).ok());
static ANY_COLOUR: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(COLOURS).ok());

/// A copy of a text with one layer of disguise undone.
pub(super) struct Copy {
    /// The copy.
    pub(super) text: String,
    changes: Vec<Change>,
}

/// What stands in the copy instead of what in the original.
struct Change {
    copy: Range<usize>,
    original: Range<usize>,
    disguise: &'static str,
}

/// The copy of `text` as it looks on a terminal, without what is no text there; nothing when there is none of that.
pub(super) fn without_colours(text: &str) -> Option<Copy> {
    let any = ANY_COLOUR.as_ref().filter(|any| any.is_match(text))?;
    let colours = any.find_iter(text).map(|colour| (colour.start(), colour.as_str()));
    Copy::new(text, colours, |_, _| Some("colours"))
}

/// The copy of `text` without the outer disguises of its `parts`; nothing when there is none. Digits are taken for
/// letters only when nothing else is disguised, because every number changes with them.
pub(super) fn undo(text: &str, parts: &[Range<usize>]) -> Option<Copy> {
    let any = ANY_PIECE.as_ref()?;
    let parts = || parts.iter().filter_map(|part| Some((part.start, text.get(part.clone())?)));
    let beyond = parts().filter(|(_, part)| !part.is_ascii()).flat_map(|(at, part)| {
        let unseen = part.match_indices(|c: char| !c.is_ascii() && plain(c).is_none());
        unseen.map(move |(start, c)| (at + start, c))
    });
    // Alone: Cyrillic without them is read as it is before its letters are taken for Latin ones.
    let seen = Copy::new(text, beyond, |_, _| Some(LOOK_ALIKES));
    if seen.is_some() {
        return seen;
    }
    let pieces =
        parts().flat_map(|(at, part)| any.find_iter(part).map(move |piece| (at + piece.start(), piece.as_str())));
    // A run of characters beyond ASCII is looked for at once, and each of them is undone alone.
    let pieces = pieces.flat_map(|(at, piece)| {
        let each = piece.split_inclusive(|c: char| !c.is_ascii());
        each.scan(at, |at, piece| Some((mem::replace(at, *at + piece.len()), piece)))
    });
    let mut digit_words = 0;
    let copy = Copy::new(text, pieces, |piece, copy| {
        let is_word = piece.len() < CODED_LEAST && piece.bytes().all(|b| b.is_ascii_alphanumeric());
        digit_words += usize::from(is_word);
        if is_word { None } else { undo_piece(piece, copy) }
    });
    if copy.is_some() || digit_words < DIGIT_WORDS_LEAST {
        return copy;
    }
    let digits = parts().flat_map(|(at, part)| {
        let found = part.match_indices(|c| letter(c).is_some());
        found.map(move |(start, digit)| (at + start, digit))
    });
    Copy::new(text, digits, |digit, copy| {
        copy.push(letter(digit.chars().next()?)?);
        Some(DIGITS)
    })
}

impl Copy {
    /// Replaces those pieces, given with their places, for which `undo` writes something else and names the disguise.
    fn new<'t>(
        text: &'t str,
        pieces: impl Iterator<Item = (usize, &'t str)>,
        mut undo: impl FnMut(&str, &mut String) -> Option<&'static str>,
    ) -> Option<Self> {
        let mut copy = Self { text: String::with_capacity(text.len()), changes: Vec::new() };
        let mut done = 0;
        for (start, piece) in pieces {
            copy.text.push_str(text.get(done..start).unwrap_or_default());
            let begin = copy.text.len();
            done = start + piece.len();
            match undo(piece, &mut copy.text) {
                Some(disguise) => {
                    copy.changes.push(Change { copy: begin..copy.text.len(), original: start..done, disguise });
                }
                None => copy.text.push_str(piece),
            }
        }
        copy.text.push_str(text.get(done..).unwrap_or_default());
        (!copy.changes.is_empty()).then_some(copy)
    }

    /// Id of the disguise that was undone inside a span, as a rule of category obfuscation; nothing when the original
    /// reads the same.
    pub(super) fn disguise(&self, span: &Range<usize>) -> Option<&'static str> {
        let before = self.changes.partition_point(|change| change.copy.end <= span.start);
        let change = self.changes.get(before)?;
        (change.copy.start < span.end).then_some(change.disguise)
    }

    /// Whether nobody but a program, or somebody who hides something, writes a span so: it was encoded, or most of its characters
    /// were disguised.
    pub(super) fn encodes(&self, span: &Range<usize>) -> bool {
        let before = self.changes.partition_point(|change| change.copy.end <= span.start);
        let mut inside = self.changes.iter().skip(before).take_while(|change| change.copy.start < span.end).peekable();
        match inside.peek().map(|change| change.disguise) {
            Some(ESCAPES | LOOK_ALIKES) => inside.count() * 2 > span.len(),
            Some(disguise) => disguise != DIGITS,
            None => false,
        }
    }

    /// Whether an escape ends where a span begins: its last letter ran into the first word.
    pub(super) fn follows_escape(&self, span: &Range<usize>) -> bool {
        let before = self.changes.partition_point(|change| change.copy.end < span.start);
        let change = self.changes.get(before).filter(|change| change.copy.end == span.start);
        change.is_some_and(|change| change.disguise == ESCAPES)
    }

    /// Whether digits were taken for letters, and nothing else was undone.
    pub(super) fn has_letters_for_digits(&self) -> bool {
        self.changes.first().is_some_and(|change| change.disguise == DIGITS)
    }

    /// The parts of the copy that lie within `reach` bytes of something that was undone, in order and apart.
    pub(super) fn changed(&self, reach: usize) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        for change in &self.changes {
            let start = boundary(&self.text, change.copy.start.saturating_sub(reach));
            let end = boundary(&self.text, change.copy.end + reach);
            match parts.last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => parts.push(start..end),
            }
        }
        parts
    }

    /// Where in the original a span of the copy stood.
    pub(super) fn original(&self, span: &Range<usize>) -> Range<usize> {
        self.place(span.start).start..self.place(span.end.saturating_sub(1)).end
    }

    /// Where in the original one byte of the copy stood.
    fn place(&self, at: usize) -> Range<usize> {
        let changes = self.changes.partition_point(|change| change.copy.start <= at);
        match changes.checked_sub(1).and_then(|last| self.changes.get(last)) {
            None => at..at + 1,
            Some(change) if at < change.copy.end => change.original.clone(),
            Some(change) => {
                let start = change.original.end + (at - change.copy.end);
                start..start + 1
            }
        }
    }
}
