//! Which rules look at which part of a text: one pass for all keywords, one for numbers.
//! Must never show a rule the same byte again and again: the whole costs linear time, whatever the text says.

use super::rule::{Begins, Hit, Rule};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input};
use regex::bytes::{Regex, RegexBuilder};
use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;

/// Four and more digits, with at most two signs between them.
const NUMBER: &str = "[0-9](?:[ ().-]{0,2}[0-9]){3,}";

/// So many bytes of a keyword are looked for in the one pass: the rest would double the size of its automaton.
const BEGINNING_BYTES: usize = 6;

/// All rules, and what wakes them. Built once, shared by all threads.
#[derive(Debug)]
pub struct Scanner {
    pub(super) rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// For each beginning of keywords those keywords, and the indexes of their rules.
    owners: Vec<Vec<(String, Vec<usize>)>>,
    numbers: Regex,
    /// Indexes of the rules that wait for numbers.
    numeric: Vec<usize>,
}

/// One text on its way through the rules.
struct Search<'a, W, C> {
    rules: &'a [Rule],
    bytes: &'a [u8],
    /// Which rules have something to say here.
    wanted: W,
    /// Whether a match counts that has this place.
    counts: C,
    /// For each rule what it looks at next; for an anchored rule, up to where it has found something.
    windows: Vec<Range<usize>>,
    hits: Vec<Hit<'a>>,
}

impl Scanner {
    pub(super) fn new(rules: Vec<Rule>) -> Result<Self, String> {
        let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut numeric = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            for keyword in &rule.keywords {
                owners.entry(keyword.clone()).or_default().push(index);
            }
            numeric.extend(rule.digits.map(|_| index));
        }
        // Reads two to three times as fast as the smaller kinds, and still fits the processor's cache.
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).clone();
        let mut beginnings: BTreeMap<Vec<u8>, Vec<(String, Vec<usize>)>> = BTreeMap::new();
        for (keyword, rules) in owners {
            let beginning = keyword.bytes().take(BEGINNING_BYTES).map(|b| b.to_ascii_lowercase()).collect();
            beginnings.entry(beginning).or_default().push((keyword, rules));
        }
        let keywords = automaton.build(beginnings.keys()).map_err(|why| why.to_string())?;
        let numbers = RegexBuilder::new(NUMBER).unicode(false).build().map_err(|why| why.to_string())?;
        Ok(Self { rules, keywords, owners: beginnings.into_values().collect(), numbers, numeric })
    }

    /// Matches that count, of all rules that are wanted and whose keyword or number stands in one of the parts, in no particular
    /// order.
    pub(super) fn search<'a>(
        &'a self,
        text: &'a str,
        parts: &[Range<usize>],
        wanted: impl Fn(&Rule) -> bool,
        counts: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<Hit<'a>> {
        let bytes = text.as_bytes();
        // A rule that waits for nothing looks at everything.
        let waits = |rule: &Rule| !rule.keywords.is_empty() || rule.digits.is_some();
        let windows = self.rules.iter().map(|rule| if waits(rule) { 0..0 } else { 0..bytes.len() }).collect();
        let mut search = Search { rules: &self.rules, bytes, wanted, counts, windows, hits: Vec::new() };
        for part in parts {
            for beginning in self.keywords.find_overlapping_iter(Input::new(bytes).range(part.clone())) {
                for (keyword, rules) in self.owners.get(beginning.pattern().as_usize()).into_iter().flatten() {
                    let place = beginning.start()..beginning.start() + keyword.len();
                    let found = bytes.get(place.clone()).unwrap_or_default();
                    let same_case = found == keyword.as_bytes();
                    let wakes = |rule: &Rule| same_case || !rule.exact;
                    if same_case || found.eq_ignore_ascii_case(keyword.as_bytes()) {
                        rules.iter().for_each(|rule| search.wake(*rule, place.clone(), wakes));
                    }
                }
            }
            for number in self.numbers.find_iter(bytes.get(part.clone()).unwrap_or_default()) {
                let digits = number.as_bytes().iter().filter(|b| b.is_ascii_digit()).count();
                let place = part.start + number.start()..part.start + number.end();
                let wakes = |rule: &Rule| rule.digits.is_some_and(|(least, most)| (least..=most).contains(&digits));
                self.numeric.iter().for_each(|rule| search.wake(*rule, place.clone(), wakes));
            }
        }
        search.finish()
    }
}

impl<'a, W: Fn(&Rule) -> bool, C: Fn(&Range<usize>) -> bool> Search<'a, W, C> {
    /// Shows a rule the neighbourhood of its keyword or number, if that wakes it.
    fn wake(&mut self, index: usize, place: Range<usize>, wakes: impl Fn(&Rule) -> bool) {
        let Some((rule, window)) = self.rules.get(index).zip(self.windows.get_mut(index)) else {
            return;
        };
        if !wakes(rule) || !(self.wanted)(rule) {
            return;
        }
        let end = place.end.saturating_add(rule.reach).min(self.bytes.len());
        if rule.begins == Begins::Near {
            let start = place.start.saturating_sub(rule.reach);
            // Windows that touch become one, so that no rule looks at a byte twice.
            if start <= window.end {
                window.end = window.end.max(end);
            } else {
                let ready = mem::replace(window, start..end);
                self.look(rule, ready);
            }
        } else if place.start >= window.end
            && let Some((end, hit)) = rule.match_at(self.bytes, place.start..end, &self.counts)
        {
            window.end = end;
            self.hits.extend(hit);
        }
    }

    fn look(&mut self, rule: &'a Rule, window: Range<usize>) {
        self.hits.extend(rule.matches(self.bytes, window).into_iter().filter(|hit| (self.counts)(&hit.span)));
    }

    /// Looks at the windows that are still open.
    fn finish(mut self) -> Vec<Hit<'a>> {
        for (rule, window) in self.rules.iter().zip(mem::take(&mut self.windows)) {
            if !window.is_empty() && rule.begins == Begins::Near && (self.wanted)(rule) {
                self.look(rule, window);
            }
        }
        self.hits
    }
}
