//! Which rules look at which part of a text: one pass for all keywords, one for numbers.
//! Must never show a rule the same byte again and again: the whole costs linear time, whatever the text says.

use super::keywords::Keywords;
use super::rule::{Begins, Hit, Memory, Rule};
use regex::bytes::{Regex, RegexBuilder};
use std::mem;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Four and more digits, with at most two signs between them.
const NUMBER: &str = "[0-9](?:[ ().-]{0,2}[0-9]){3,}";

/// So many searches leave what their automata have worked out to later ones. A search beside these begins anew.
const MEMORIES: usize = 4;
/// What is worked out for all rules together may grow to this, in bytes, then it is forgotten: texts of every usual kind need less, and some
/// that are made for it would fill gigabytes.
const MEMORY_BYTES: usize = 128 << 20;
/// How many questions to a rule there are between two looks at how much it is: one takes as long as some hundred questions.
const QUESTIONS: usize = 8192;

/// All rules, and what wakes them. Built once, shared by all threads.
#[derive(Debug)]
pub struct Scanner {
    pub(super) rules: Vec<Rule>,
    keywords: Keywords,
    numbers: Regex,
    /// Indexes of the rules that wait for numbers.
    numeric: Vec<usize>,
    /// Of those that wait for nothing.
    always: Vec<usize>,
    /// Those of searches that have ended. Kept by threads instead (as `regex` does), they would be one for each of nine threads, and new ones
    /// for each connection.
    memories: Mutex<Vec<Memories>>,
}

/// One memory for each rule.
#[derive(Debug)]
struct Memories {
    of_rules: Vec<Memory>,
    questions: usize,
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
    /// Rules with a window that they have not looked at.
    open: Vec<usize>,
    hits: Vec<Hit<'a>>,
    memories: Memories,
}

impl Scanner {
    pub(super) fn new(rules: Vec<Rule>) -> Result<Self, String> {
        let those = |wanted: fn(&Rule) -> bool| {
            let rules = rules.iter().enumerate();
            rules.filter(|(_, rule)| wanted(rule)).map(|(index, _)| index).collect()
        };
        let numeric = those(|rule| rule.digits.is_some());
        // Such a rule looks at everything.
        let always = those(|rule| rule.keywords.is_empty() && rule.digits.is_none());
        let numbers = RegexBuilder::new(NUMBER).unicode(false).build().map_err(|why| why.to_string())?;
        let (keywords, memories) = (Keywords::new(&rules), Mutex::default());
        Ok(Self { rules, keywords, numbers, numeric, always, memories })
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
        let (windows, open, hits) = (vec![0..0; self.rules.len()], Vec::new(), Vec::new());
        let memories = self.memories().pop().unwrap_or_else(|| Memories::new(self.rules.len()));
        let mut search = Search { rules: &self.rules, bytes, wanted, counts, windows, open, hits, memories };
        self.always.iter().for_each(|rule| search.wake(*rule, 0..bytes.len(), |_| true));
        for part in parts {
            self.keywords.find(bytes, part.clone(), |owners, place, same_case| {
                for rule in owners {
                    search.wake(*rule, place.clone(), |rule| same_case || !rule.exact);
                }
            });
            for number in self.numbers.find_iter(bytes.get(part.clone()).unwrap_or_default()) {
                let digits = number.as_bytes().iter().filter(|b| b.is_ascii_digit()).count();
                let place = part.start + number.start()..part.start + number.end();
                let wakes = |rule: &Rule| rule.digits.is_some_and(|(least, most)| (least..=most).contains(&digits));
                self.numeric.iter().for_each(|rule| search.wake(*rule, place.clone(), wakes));
            }
        }
        search.finish();
        let mut memories = self.memories();
        if memories.len() < MEMORIES {
            memories.push(search.memories);
        }
        search.hits
    }

    fn memories(&self) -> MutexGuard<'_, Vec<Memories>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memories {
    fn new(rules: usize) -> Self {
        Self { of_rules: (0..rules).map(|_| Memory::default()).collect(), questions: 0 }
    }

    /// What one rule is asked with.
    fn of(&mut self, rule: usize) -> Option<&mut Memory> {
        self.questions += 1;
        let bytes = || self.of_rules.iter().map(Memory::bytes).sum::<usize>();
        if self.questions.is_multiple_of(QUESTIONS) && bytes() > MEMORY_BYTES {
            *self = Self::new(self.of_rules.len());
        }
        self.of_rules.get_mut(rule)
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
            if window.end == 0 {
                *window = start..end;
                self.open.push(index);
            } else if start <= window.end {
                window.end = window.end.max(end);
            } else {
                let ready = mem::replace(window, start..end);
                self.look(index, rule, ready);
            }
        } else if place.start >= window.end
            && let Some(memory) = self.memories.of(index)
            && let Some((end, span)) = rule.match_at(memory, self.bytes, place.start..end, &self.counts)
        {
            window.end = end;
            self.hits.extend(span.and_then(|span| rule.hit(self.bytes, span)));
        }
    }

    fn look(&mut self, index: usize, rule: &'a Rule, window: Range<usize>) {
        if !rule.has_company(self.bytes.get(window.clone()).unwrap_or_default()) {
            return;
        }
        let found = match rule.validator.lesson() {
            Some(lesson) => lesson.worst(self.bytes, window).map(|span| vec![span]),
            None => self.memories.of(index).map(|memory| rule.matches(memory, self.bytes, window)),
        };
        let counted = found.into_iter().flatten().filter(|span| (self.counts)(span));
        self.hits.extend(counted.filter_map(|span| rule.hit(self.bytes, span)));
    }

    /// Looks at the windows that are still open.
    fn finish(&mut self) {
        for index in mem::take(&mut self.open) {
            let window = self.windows.get(index).cloned().unwrap_or_default();
            if let Some(rule) = self.rules.get(index) {
                self.look(index, rule, window);
            }
        }
    }
}
