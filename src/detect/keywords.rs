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
/// Signs that the table is asked with, and how many rows of them there are.
const TRIPLE: usize = 3;
const TRIPLES: usize = SIGNS.pow(TRIPLE as u32);
/// So many bytes of a keyword are compared at once; the bit that tells small letters from capitals, in each.
const WORD: usize = size_of::<u64>();
const SMALL: u64 = 0x2020_2020_2020_2020;

/// All keywords.
#[derive(Debug)]
pub(super) struct Keywords {
    /// For each three signs a bit for each fourth one.
    next: Vec<u32>,
    /// For each three signs the place of their list.
    places: Vec<usize>,
    lists: Vec<Vec<Beginning>>,
    keywords: Vec<Keyword>,
}

/// What a place is compared with first.
#[derive(Clone, Debug)]
struct Beginning {
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
    owners: Vec<Owner>,
}

/// Whom a keyword is for.
#[derive(Debug)]
pub(super) struct Owner {
    /// Index of the rule.
    pub(super) rule: usize,
    /// One of the words that the rule wants besides its keywords.
    pub(super) also: bool,
}

impl Keywords {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut owned: BTreeMap<&String, Vec<Owner>> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let also = rule.also.iter().map(|word| (word, true));
            for (text, also) in rule.keywords.iter().map(|keyword| (keyword, false)).chain(also) {
                owned.entry(text).or_default().push(Owner { rule: index, also });
            }
        }
        let anywhere =
            |owner: &Owner| !owner.also && rules.get(owner.rule).is_some_and(|rule| rule.begins != Begins::WithWord);
        let mut lists: BTreeMap<usize, Vec<Beginning>> = BTreeMap::new();
        let mut all =
            Self { next: vec![0; TRIPLES], places: vec![0; TRIPLES], lists: Vec::new(), keywords: Vec::new() };
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
                let beginning = Beginning { word: word(text.as_bytes()) & bits, bits, in_words, index };
                lists.entry(triple).or_default().push(beginning);
            }
            all.keywords.push(Keyword { text: text.clone(), owners });
        }
        for (triple, list) in lists {
            all.places.get_mut(triple).into_iter().for_each(|place| *place = all.lists.len());
            all.lists.push(list);
        }
        all
    }

    /// Tells `found` of each keyword that begins in the part: whose it is, its place, and whether its case is the same.
    pub(super) fn find(&self, bytes: &[u8], part: Range<usize>, mut found: impl FnMut(&[Owner], Range<usize>, bool)) {
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
    fn compare(&self, bytes: &[u8], start: usize, triple: usize, found: &mut impl FnMut(&[Owner], Range<usize>, bool)) {
        let from = bytes.get(start..).unwrap_or_default();
        let there = word(from);
        let list = self.places.get(triple).and_then(|place| self.lists.get(*place)).into_iter().flatten();
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
