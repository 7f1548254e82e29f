//! Disguises undone: look-alike and invisible characters, escapes, base64 and hex, letters one by one, digits for
//! letters. Each copy knows where its bytes stood in the original.
//! Must never build a copy that is longer than its original.

use super::engine::boundary;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;
use std::iter;
use std::mem;
use std::ops::Range;
use std::sync::LazyLock;

/// What may be disguised: characters beyond ASCII, escapes (of JSON, URLs, Markdown, HTML, mail, shells), runs of numbers that are long enough to hide a sentence, seven and more letters one by one, such runs of
/// base64, and words with digits inside, as `1gn0r3`.
const PIECES: &str = concat!(
    r"[^\x00-\x7f]{1,99}",
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
/// What stands between letters that are written one by one.
const SEPARATORS: [char; 8] = [' ', '\n', '.', '-', '_', '*', '/', '|'];
/// A run of letters and digits of this length is taken for base64, in bytes.
const CODED_LEAST: usize = 24;
/// Binary digits of a byte that stand without anything between them.
const BITS: usize = u8::BITS as usize;
/// Of the characters of a text that was decoded less than one in so many may be none,
const ODD_ONE_IN: usize = 8;
/// and so many at most: behind more stands the token of a maker, which begins with a word.
const ODD_MOST: usize = 4;
/// Fewer words with digits inside are hashes and names.
const DIGIT_WORDS_LEAST: usize = 4;

/// The disguise of base64 and base32.
const CODED: &str = "obfuscation.base64";
/// The disguise of lists of numbers, and of hex.
const NUMBERS: &str = "obfuscation.numbers";
/// The disguise of letters one by one.
const SPACED: &str = "obfuscation.spaced-letters";
/// The disguise of escapes of all kinds.
const ESCAPES: &str = "obfuscation.escapes";
/// The disguise of characters beyond ASCII.
const LOOK_ALIKES: &str = "obfuscation.look-alikes";
/// The disguise of words as `1gn0r3`.
const DIGITS: &str = "obfuscation.digits-for-letters";
/// All of them; other ids of their category are rules.
pub(super) const DISGUISES: [&str; 6] = [CODED, NUMBERS, SPACED, ESCAPES, LOOK_ALIKES, DIGITS];

/// Both base64 alphabets are brought to this one first; paddings and spare bits are forgiven as decoders in the wild do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

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

/// Writes what a piece says, and names its disguise; nothing when it has none.
fn undo_piece(piece: &str, copy: &mut String) -> Option<&'static str> {
    let first = piece.chars().next()?;
    if !first.is_ascii() {
        let plain = plain(first);
        return (plain != Some(first)).then(|| {
            copy.extend(plain);
            LOOK_ALIKES
        });
    }
    if matches!(first, '%' | '\\' | '&') && !piece.starts_with(r"\0") && !piece.starts_with(r"\1") {
        copy.push(unescape(piece)?);
        return Some(ESCAPES);
    }
    if piece.split(SEPARATORS).all(|letter| letter.len() <= 1) {
        // Letters that something else than blanks parts leave one blank for words.
        let gap = if piece.chars().nth(1) == Some(' ') { "  " } else { " " };
        let words = piece.split(gap).map(|word| word.replace(SEPARATORS, ""));
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        copy.push_str(&words.join(" "));
        return Some(SPACED);
    }
    let whole: String = piece.split_ascii_whitespace().collect();
    if let Some((disguise, text)) = decoded(piece, &whole) {
        copy.push_str(&text);
        return Some(disguise);
    }
    // A line of something else must not hide those beside it.
    let lines: Vec<_> = piece.split('\n').map(|line| decoded(line, line.trim_end()).ok_or(line)).collect();
    let (disguise, _) = lines.iter().flatten().next()?;
    let shown: Vec<&str> = lines.iter().map(|line| line.as_ref().map_or_else(|line| *line, |(_, text)| text)).collect();
    copy.push_str(&shown.join("\n"));
    Some(disguise)
}

/// What a list of numbers or a run of signs encodes, when that can be read; of a path, its longest part.
fn decoded(list: &str, run: &str) -> Option<(&'static str, String)> {
    if let Some(text) = numbers(list).or_else(|| readable(decode_hex(run)?)) {
        return Some((NUMBERS, text));
    }
    let part = run.split('/').max_by_key(|part| part.len()).filter(|part| part.len() >= CODED_LEAST);
    let text = |run| readable(decode_base64(run).or_else(|| decode_base32(run))?);
    text(run).or_else(|| text(part?)).map(|text| (CODED, text))
}

/// The text in these bytes, if they are one but for a few, which may be there to spoil it. The zeros of UTF-16 are none.
fn readable(bytes: Vec<u8>) -> Option<String> {
    let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
    let is_odd = |c: &char| c.is_control() && !c.is_ascii_whitespace();
    let odd = bytes.utf8_chunks().flat_map(|chunk| {
        let controls = chunk.valid().chars().filter(is_odd).count();
        iter::repeat_n((), controls + usize::from(!chunk.invalid().is_empty()))
    });
    let odd = odd.take(ODD_MOST + 1).count();
    let valid = bytes.utf8_chunks().flat_map(|chunk| chunk.valid().chars());
    (odd <= ODD_MOST && odd * ODD_ONE_IN < bytes.len()).then(|| valid.filter(|c| !is_odd(c)).collect())
}

/// The ASCII letter that a character beyond ASCII looks like; nothing for characters that cannot be seen.
fn plain(c: char) -> Option<char> {
    match c {
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => None,
        '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{3164}'
        | '\u{ffa0}' => None,
        '\u{80}'..='\u{9f}' | '\u{fff9}'..='\u{fffd}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => None,
        // Marks that stand over, under or through the letter before them.
        '\u{300}'..='\u{36f}' => None,
        '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e001f}' | '\u{e007f}' | '\u{e0100}'..='\u{e01ef}' => None,
        '\u{a0}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{2800}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{3000}' => Some(' '),
        // Tag characters repeat ASCII in its order.
        '\u{e0020}'..='\u{e007e}' => char::from_u32(c as u32 - 0xe0000),
        _ => Some(ALIKE.get(c as usize).filter(|letter| **letter != 0).map_or(c, |letter| char::from(*letter))),
    }
}

/// The ASCII character that each one beyond looks like, or 0, by its number. Each line of the list is an ASCII character
/// and those like it: Cyrillic, Greek and Armenian letters, small capitals, full width, letters in circles and squares,
/// mathematical alphabets.
static ALIKE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut alike = Vec::new();
    for line in include_str!("words/look-alikes.txt").lines() {
        let (letter, others) = line.split_at_checked(1).unwrap_or_default();
        for place in others.chars().map(|other| other as usize) {
            alike.resize(alike.len().max(place + 1), 0);
            alike.get_mut(place).into_iter().zip(letter.bytes()).for_each(|(to, letter)| *to = letter);
        }
    }
    alike
});

/// The letter that a digit or sign stands for.
fn letter(digit: char) -> Option<char> {
    "013457@$".chars().zip("oieastas".chars()).find_map(|(odd, letter)| (odd == digit).then_some(letter))
}

/// The character that one escape stands for.
fn unescape(escape: &str) -> Option<char> {
    let code = match escape {
        r"\n" | r"\r" | r"\t" => return Some(' '),
        r"\/" => return Some('/'),
        r"\_" => return Some('_'),
        r#"\""# | "&quot;" => return Some('"'),
        "&lt;" => return Some('<'),
        "&gt;" => return Some('>'),
        "&amp;" => return Some('&'),
        _ => escape.trim_start_matches(['%', '\\', 'u', '&', '#', '{']).trim_end_matches([';', '}']),
    };
    let decimal = escape.starts_with("&#") && !code.starts_with(['x', 'X']);
    let radix = if decimal { 10 } else { 16 };
    char::from_u32(u32::from_str_radix(code.trim_start_matches(['x', 'X']), radix).ok()?)
}

/// The text that a list of numbers stands for, which have no more digits than a byte needs.
fn numbers(piece: &str) -> Option<String> {
    let is_binary = piece.len().is_multiple_of(BITS) && piece.bytes().all(|b| matches!(b, b'0' | b'1'));
    let all: Vec<&str> = if is_binary {
        (0..piece.len()).step_by(BITS).filter_map(|at| piece.get(at..at + BITS)).collect()
    } else {
        let numbers = piece
            .split(|c: char| " ,:;.|/_-=\\".contains(c) || c.is_ascii_whitespace())
            .filter(|number| !number.is_empty());
        numbers.map(|number| number.trim_start_matches("0x").trim_start_matches("U+00")).collect()
    };
    let radixes: &[u32] = match all.iter().map(|number| number.len()).max().filter(|_| all.len() > 1)? {
        2 => &[16, 10],
        3 => &[8, 10],
        _ => &[2],
    };
    let bytes = |radix: &u32| all.iter().map(|number| u8::from_str_radix(number, *radix).ok()).collect::<Option<_>>();
    radixes.iter().find_map(|radix| readable(bytes(radix)?))
}

fn decode_hex(run: &str) -> Option<Vec<u8>> {
    let run = run.strip_prefix("0x").unwrap_or(run);
    let pairs = run.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
    let is_hex = run.len().is_multiple_of(2) && run.bytes().all(|b| b.is_ascii_hexdigit());
    pairs.map(|pair| u8::from_str_radix(pair.filter(|_| is_hex)?, 16).ok()).collect()
}

/// RFC 4648 section 6.
fn decode_base32(run: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in run.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= u8::BITS {
            held -= u8::BITS;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

fn decode_base64(run: &str) -> Option<Vec<u8>> {
    let any = |is: fn(&u8) -> bool| run.as_bytes().iter().any(is);
    // Paths and names in one case are no text that somebody encoded.
    if !any(u8::is_ascii_uppercase) || !any(u8::is_ascii_lowercase) {
        return None;
    }
    // One character too many holds six bits: no byte.
    let whole = run.len() - usize::from(run.len() % 4 == 1);
    let standard = |b: &u8| match b {
        b'-' => b'+',
        b'_' => b'/',
        _ => *b,
    };
    LENIENT.decode(run.as_bytes().get(..whole)?.iter().map(standard).collect::<Vec<_>>()).ok()
}
