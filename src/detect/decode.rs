//! What one disguised piece of a text says: its look-alike letters, escapes, numbers, base64 undone.
//! Must never write more than the piece holds, nor know where it stood.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::iter;
use std::sync::LazyLock;

/// What stands between letters that are written one by one.
const SEPARATORS: [char; 8] = [' ', '\n', '.', '-', '_', '*', '/', '|'];
/// What stands between numbers, besides blanks.
const BETWEEN_NUMBERS: &str = ",:;.|/_-=\\";
/// A run of letters and digits of this length is taken for base64, in bytes.
pub(super) const CODED_LEAST: usize = 24;
/// Binary digits of a byte that stand without anything between them.
const BITS: usize = u8::BITS as usize;
/// Of the characters of a text that was decoded less than one in so many may be none,
const ODD_ONE_IN: usize = 8;
/// and so many at most: behind more stands the token of a maker, which begins with a word.
const ODD_MOST: usize = 4;
/// The disguise of base64 and base32.
const CODED: &str = "obfuscation.base64";
/// The disguise of lists of numbers, and of hex.
const NUMBERS: &str = "obfuscation.numbers";
/// The disguise of letters one by one, and of words far apart.
const SPACED: &str = "obfuscation.spaced-letters";
/// The disguise of escapes of all kinds.
pub(super) const ESCAPES: &str = "obfuscation.escapes";
/// The disguise of characters beyond ASCII.
pub(super) const LOOK_ALIKES: &str = "obfuscation.look-alikes";
/// The disguise of words as `1gn0r3`.
pub(super) const DIGITS: &str = "obfuscation.digits-for-letters";
/// All of them; other ids of their category are rules.
pub(super) const DISGUISES: [&str; 6] = [CODED, NUMBERS, SPACED, ESCAPES, LOOK_ALIKES, DIGITS];

/// Both base64 alphabets are brought to this one first; paddings and spare bits are forgiven as decoders in the wild do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Writes what a piece says, and names its disguise; nothing when it has none.
pub(super) fn undo_piece(piece: &str, copy: &mut String) -> Option<&'static str> {
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
    if first.is_ascii_whitespace() {
        copy.push(' ');
        return Some(SPACED);
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
    if whole.len() == piece.len() {
        return None;
    }
    // A line of something else must not hide those beside it.
    let lines: Vec<_> = piece.split('\n').map(|line| decoded(line, line.trim_end()).ok_or(line)).collect();
    let (disguise, _) = lines.iter().flatten().next()?;
    let shown: Vec<&str> = lines.iter().map(|line| line.as_ref().map_or_else(|line| *line, |(_, text)| text)).collect();
    copy.push_str(&shown.join("\n"));
    Some(disguise)
}

/// Whether a run of signs is text in base64, base32 or hex.
pub(super) fn is_coded(run: &str) -> bool {
    // As `decoded` in parts, but for all of them: the rest of an address runs into what it carries.
    let parts = run.split('/').filter(|part| part.len() >= CODED_LEAST);
    parts.chain([run]).any(|part| decoded(part, part).is_some())
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
pub(super) fn plain(c: char) -> Option<char> {
    match c {
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => None,
        // What fills a syllable of Hangul, and signs of Arabic, Khmer and Mongolian that only say how others join.
        '\u{115f}'..='\u{1160}' | '\u{3164}' | '\u{ffa0}' => None,
        '\u{61c}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' => None,
        '\u{80}'..='\u{9f}' | '\u{fff9}'..='\u{fffd}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => None,
        // Marks that stand over, under or through the letter before them.
        '\u{300}'..='\u{36f}' => None,
        '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e001f}' | '\u{e007f}' | '\u{e0100}'..='\u{e01ef}' => None,
        // Braille without a point, beside the blanks of Unicode.
        '\u{2800}' => Some(' '),
        _ if c.is_whitespace() => Some(' '),
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
pub(super) fn letter(digit: char) -> Option<char> {
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
    let is_between = |c: char| BETWEEN_NUMBERS.contains(c) || c.is_ascii_whitespace();
    if piece.contains(|c: char| !c.is_ascii_hexdigit() && !matches!(c, 'x' | 'U' | '+') && !is_between(c)) {
        return None;
    }
    let is_binary = piece.len().is_multiple_of(BITS) && piece.bytes().all(|b| matches!(b, b'0' | b'1'));
    let all: Vec<&str> = if is_binary {
        (0..piece.len()).step_by(BITS).filter_map(|at| piece.get(at..at + BITS)).collect()
    } else {
        let numbers = piece.split(is_between).filter(|number| !number.is_empty());
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
