//! The keywords of all rules, and one pass over a text that finds them.
//! Must never cost more than one look into a table for a byte where no keyword begins.
//!
//! The table says of each three signs in a row which fourth may follow, so that few places are compared with keywords.
//! A sign is the lower bits of a byte, with letters in capitals.

use super::rule::{Begins, Rule, begins_word};
use std::collections::BTreeMap;
use std::ops::Range;

/// How many signs there are: no letter is taken for a digit or for one of the usual punctuation marks.
const SIGNS: usize = 64;
/// Signs that the table is asked with: one more would make it too large for the processor's cache.
const TRIPLE: usize = 3;
/// How many rows of them there are.
const TRIPLES: usize = SIGNS.pow(TRIPLE as u32);
/// So many bytes of a keyword are compared at once.
const WORD: usize = size_of::<u64>();
/// In each of them the bit that tells small letters from capitals.
const SMALL: u64 = 0x2020_2020_2020_2020;

/// All keywords.
#[derive(Debug)]
pub(super) struct Keywords {
    /// For each three signs a bit for each fourth one.
    next: Vec<u32>,
    /// For each three signs the place of the first that begins with them.
    places: Vec<u32>,
    beginnings: Vec<Beginning>,
    keywords: Vec<Keyword>,
}

/// What a place is compared with first.
#[derive(Clone, Debug)]
struct Beginning {
    triple: usize,
    /// The first bytes of the keyword in small letters, and the bits of them that it has.
    word: u64,
    bits: u64,
    /// It counts in the middle of a word too.
    in_words: bool,
    index: usize,
}

#[derive(Debug)]
struct Keyword {
    text: String,
    /// Indexes of the rules that it wakes.
    owners: Vec<usize>,
}

impl Keywords {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut owned: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            for text in &rule.keywords {
                owned.entry(text).or_default().push(index);
            }
        }
        let anywhere = |owner: &usize| rules.get(*owner).is_some_and(|rule| rule.begins != Begins::WithWord);
        let mut all =
            Self { next: vec![0; TRIPLES], places: vec![0; TRIPLES], beginnings: Vec::new(), keywords: Vec::new() };
        for (index, (text, owners)) in owned.into_iter().enumerate() {
            let signs: Vec<usize> = text.bytes().map(sign).collect();
            let known = signs.iter().take(TRIPLE).fold(0, |triple, sign| triple * SIGNS + sign);
            // Behind a short keyword stands anything.
            let free = SIGNS.pow(TRIPLE.saturating_sub(signs.len()) as u32);
            let next = signs.get(TRIPLE).map_or(u32::MAX, |sign| bit(*sign));
            let bits = u64::MAX >> (u8::BITS as usize * WORD.saturating_sub(signs.len()));
            let in_words = owners.iter().any(anywhere);
            for triple in known * free..(known + 1) * free {
                all.next.get_mut(triple).into_iter().for_each(|signs| *signs |= next);
                let word = word(text.as_bytes()) & bits;
                all.beginnings.push(Beginning { triple, word, bits, in_words, index });
            }
            all.keywords.push(Keyword { text: text.clone(), owners });
        }
        all.beginnings.sort_by_key(|beginning| beginning.triple);
        for (place, beginning) in all.beginnings.iter().enumerate().rev() {
            all.places.get_mut(beginning.triple).into_iter().for_each(|first| *first = place as u32);
        }
        all
    }

    /// Tells `found` of each keyword that begins in the part: the rules that it wakes, its place, and whether its case is the same.
    pub(super) fn find(&self, bytes: &[u8], part: Range<usize>, mut found: impl FnMut(&[usize], Range<usize>, bool)) {
        let begin = part.start;
        let mut triple = 0;
        let look = |(at, byte): (usize, &u8)| {
            let sign = sign(*byte);
            let next = self.next.get(triple).copied().unwrap_or_default();
            if next & bit(sign) != 0
                && let Some(before) = at.checked_sub(TRIPLE)
            {
                self.compare(bytes, begin + before, triple, &mut found);
            }
            triple = (triple * SIGNS + sign) % TRIPLES;
        };
        // What stands at the end is found once something follows.
        bytes.get(part).unwrap_or_default().iter().chain(&[0; TRIPLE]).enumerate().for_each(look);
    }

    // Inlined, it would take the registers of the loop and make it half as fast.
    #[inline(never)]
    fn compare(&self, bytes: &[u8], start: usize, triple: usize, found: &mut impl FnMut(&[usize], Range<usize>, bool)) {
        let from = bytes.get(start..).unwrap_or_default();
        let there = word(from);
        let first = self.places.get(triple).and_then(|place| self.beginnings.get(*place as usize..));
        let list = first.into_iter().flatten().take_while(|beginning| beginning.triple == triple);
        for beginning in list.filter(|beginning| there & beginning.bits == beginning.word) {
            if (beginning.in_words || begins_word(bytes, start))
                && let Some(keyword) = self.keywords.get(beginning.index)
                && let Some(there) = from.get(..keyword.text.len())
                && there.eq_ignore_ascii_case(keyword.text.as_bytes())
            {
                found(&keyword.owners, start..start + there.len(), there == keyword.text.as_bytes());
            }
        }
    }
}

fn sign(byte: u8) -> usize {
    usize::from(byte.to_ascii_uppercase()) % SIGNS
}

fn bit(sign: usize) -> u32 {
    1_u32.rotate_left(sign as u32)
}

/// The first bytes in small letters; fewer are filled up.
fn word(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut filled = [0; WORD];
        filled.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
        filled
    });
    u64::from_le_bytes(first) | SMALL
}

#[cfg(test)]
mod tests {
    use super::super::Scanner;
    use super::*;

    #[test]
    fn what_is_found_is_what_a_look_at_every_place_finds() {
        let scanner = Scanner::builtin().unwrap();
        let keywords = Keywords::new(&scanner.rules);
        let all: Vec<&str> = keywords.keywords.iter().map(|keyword| keyword.text.as_str()).collect();
        let others = ["a", "9", " ", "\n", "\\n", "%3D", "_", "é", "и", "\u{0}", "+", "[", "{", "`", "@"];
        let mut state = 5_u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        for _ in 0..300 {
            let mut text = String::new();
            for _ in 0..12 {
                let keyword = all[below(all.len())];
                let cut = (0..=below(keyword.len() + 1)).rev().find(|at| keyword.is_char_boundary(*at)).unwrap();
                text += match below(3) {
                    0 => others[below(others.len())],
                    1 => &keyword[..cut],
                    _ => keyword,
                };
                if below(2) == 0 {
                    text = text.to_uppercase();
                }
            }
            let bytes = text.as_bytes();
            let part = below(bytes.len().min(6))..bytes.len();
            let mut found = Vec::new();
            keywords.find(bytes, part.clone(), |owners, place, same_case| {
                found.push((place.start, place.end, owners[0], owners.len(), same_case));
            });
            let mut expected = Vec::new();
            for start in part {
                for (keyword, owners) in keywords.keywords.iter().map(|keyword| (&keyword.text, &keyword.owners)) {
                    let there = bytes.get(start..start + keyword.len()).unwrap_or_default();
                    let counts =
                        |owner: &usize| scanner.rules[*owner].begins != Begins::WithWord || begins_word(bytes, start);
                    if there.eq_ignore_ascii_case(keyword.as_bytes()) && owners.iter().any(counts) {
                        let same_case = there == keyword.as_bytes();
                        expected.push((start, start + keyword.len(), owners[0], owners.len(), same_case));
                    }
                }
            }
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
