//! Rules: their form as data, and one rule ready to use.
//! Must never change what a rule means depending on the text, and must never leave out a rule that cannot be used: one
//! such rule and there is no scanner.
//!
//! A rule file is a JSON array of rules. Expressions are those of the `regex` crate, on bytes and without Unicode
//! classes. `exact` rules are case-sensitive. In all others case does not matter, and a space stands for any short run
//! of blanks, line ends and comment or quote marks, so that a sentence is found however it is wrapped.

use super::rule_files::mistake;
use super::validate::Validator;
use super::{Category, Severity, Source};
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use std::ops::Range;

/// What a space in a rule that is not `exact` stands for.
const GAP: &str = r"(?:[\s\x22#*/>`_'|~-]{1,8})";
/// Longest distance in bytes between a keyword and the ends of a match, unless the rule says otherwise.
const REACH_BYTES: usize = 256;
/// A compiled expression may not take more memory than this, in bytes: user rules come from outside.
const COMPILED_BYTES: usize = 4 << 20;
/// Heaviest weight.
const FULL_WEIGHT: u8 = 100;

/// A rule as it stands in a rule file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleData {
    pub(super) id: String,
    pub(super) category: Category,
    pub(super) severity: Severity,
    /// What one match adds to the score, 1 to 100.
    pub(super) weight: u8,
    /// One of these must stand near a match. Empty: the expression runs over the whole text.
    pub(super) keywords: Vec<String>,
    /// Pieces of the expression, joined without anything between them. Group 1, if any, is what the finding spans.
    pattern: Vec<String>,
    /// Case matters and a space is a space.
    #[serde(default)]
    pub(super) exact: bool,
    /// Longest distance in bytes between a keyword and the ends of a match.
    #[serde(default = "default_reach")]
    pub(super) reach: usize,
    /// What the spanned text must be besides matching.
    #[serde(default)]
    pub(super) validator: Validator,
    /// Where the rule applies; empty: everywhere.
    #[serde(default)]
    pub(super) sources: Vec<Source>,
    /// Texts that must be found; at least one.
    pub(super) positive: Vec<String>,
    /// Texts that must not be found, alike enough to be mistaken; at least one.
    pub(super) negative: Vec<String>,
}

fn default_reach() -> usize {
    REACH_BYTES
}

/// A rule that is ready to use.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) data: RuleData,
    pub(super) regex: Regex,
}

impl Rule {
    /// Reads a rule file. Errors name the rule, never a scanned text.
    pub(super) fn read(json: &str) -> Result<Vec<Self>, String> {
        let rules = serde_json::from_str::<Vec<RuleData>>(json);
        let rules = rules.map_err(|error| mistake(json).unwrap_or(format!("the rules are not valid: {error}")))?;
        rules.into_iter().map(Self::new).collect()
    }

    fn new(data: RuleData) -> Result<Self, String> {
        let wrong = |why: &str| format!("rule {} is not valid: {why}", data.id);
        if !(1..=FULL_WEIGHT).contains(&data.weight) {
            return Err(wrong("weight is 1 to 100"));
        }
        if data.positive.is_empty() || data.negative.is_empty() {
            return Err(wrong("it needs a positive and a negative sample"));
        }
        if data.keywords.iter().any(|keyword| keyword.len() < 2) {
            return Err(wrong("a keyword has at least two bytes"));
        }
        let pattern = data.pattern.concat();
        let pattern = if data.exact { pattern } else { pattern.replace(' ', GAP) };
        let regex = RegexBuilder::new(&pattern)
            .unicode(false)
            .case_insensitive(!data.exact)
            .size_limit(COMPILED_BYTES)
            .build()
            .map_err(|error| wrong(&format!("`pattern`: {error}")))?;
        Ok(Self { data, regex })
    }

    /// What the finding spans, for each match in the window.
    pub(super) fn matches(&self, bytes: &[u8], window: Range<usize>) -> Vec<Range<usize>> {
        // The text before the window stays visible to `\b`.
        let haystack = bytes.get(..window.end).unwrap_or_default();
        let mut spans = Vec::new();
        let mut at = window.start;
        while at < haystack.len()
            && let Some(groups) = self.regex.captures_at(haystack, at)
            && let Some(whole) = groups.get(0)
        {
            at = whole.end().max(at + 1);
            let value = groups.get(1).unwrap_or(whole);
            if self.data.validator.accepts(value.as_bytes()) {
                spans.push(value.range());
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rule {
        pub(in crate::detect) fn positive(&self) -> &[String] {
            &self.data.positive
        }

        pub(in crate::detect) fn negative(&self) -> &[String] {
            &self.data.negative
        }
    }

    fn read(change: impl Fn(&mut serde_json::Value)) -> Result<Vec<Rule>, String> {
        let mut rule = serde_json::json!({
            "id": "command.x", "category": "command", "severity": "low", "weight": 10, "keywords": ["xy"],
            "pattern": ["xy"], "positive": ["xy"], "negative": ["x y"]
        });
        change(&mut rule);
        Rule::read(&serde_json::json!([rule]).to_string())
    }

    #[test]
    fn a_rule_without_both_samples_or_that_does_not_compile_is_refused() {
        assert!(read(|_| ()).is_ok());
        assert!(read(|rule| rule["positive"] = serde_json::json!([])).is_err());
        assert!(read(|rule| rule["negative"] = serde_json::json!([])).is_err());
        assert!(read(|rule| rule["weight"] = serde_json::json!(0)).is_err());
        assert!(read(|rule| rule["pattern"] = serde_json::json!(["("])).is_err());
        assert!(read(|rule| rule["surprise"] = serde_json::json!(1)).is_err());
    }

    #[test]
    fn no_expression_repeats_without_a_bound() {
        // Escapes and classes hold `*` and `+` as plain characters.
        let escapes = regex::Regex::new(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]").unwrap();
        for file in std::fs::read_dir("src/detect/rules").unwrap() {
            let json = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for rule in Rule::read(&json).unwrap() {
                let pattern = rule.data.pattern.concat();
                let bare = escapes.replace_all(&pattern, "c");
                let unbounded = bare.contains(['+', '*']) || bare.contains(",}");
                assert!(!unbounded, "{}", rule.data.id);
            }
        }
    }
}
