//! Rules: their form as data, and one rule ready to use.
//! Must never change what a rule means depending on the text, and must never leave out a rule that cannot be used: one
//! such rule and there is no scanner.
//!
//! A rule file is a JSON array of rules. Expressions are those of the `regex` crate, on bytes and without Unicode
//! classes. `exact` rules are case-sensitive. In all others case does not matter, and a space stands for any short run
//! of blanks, line ends and comment or quote marks, so that a sentence is found however it is wrapped.

use super::validate::Validator;
use super::{Category, Severity, Source};
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::sync::Arc;

/// What a space in a rule that is not `exact` stands for.
const GAP: &str = r"(?:[\s\x22#*/>`_'|~-]{1,8})";
/// Longest distance in bytes between a keyword and the ends of a match, unless the rule says otherwise.
const REACH_BYTES: usize = 256;
/// A compiled expression may not take more memory than this, in bytes: user rules come from outside.
const COMPILED_BYTES: usize = 4 << 20;
/// Heaviest weight.
const FULL_WEIGHT: u8 = 100;

/// Why rules cannot be used. Names the rule, never a scanned text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file is not the JSON that a rule file must be.
    Json(String),
    /// A rule contradicts itself: its id and what is wrong.
    Rule(String, String),
    /// What all rules share, the search for keywords and disguises, cannot be built.
    Search(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(why) => write!(f, "the rules are not valid: {why}")?,
            Self::Rule(id, why) => write!(f, "rule {id} is not valid: {why}")?,
            Self::Search(why) => write!(f, "the search cannot be built: {why}")?,
        }
        f.write_str("; this build is broken, install InferShield again")
    }
}

impl std::error::Error for Error {}

/// A rule as it stands in a rule file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleData {
    #[serde(deserialize_with = "shared")]
    pub(super) id: Arc<str>,
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
    positive: Vec<String>,
    /// Texts that must not be found, alike enough to be mistaken; at least one.
    negative: Vec<String>,
}

fn shared<'de, D: Deserializer<'de>>(id: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(id).map(Arc::from)
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
    /// Reads a rule file.
    pub(super) fn read(json: &str) -> Result<Vec<Self>, Error> {
        let rules: Vec<RuleData> = serde_json::from_str(json).map_err(|error| Error::Json(error.to_string()))?;
        rules.into_iter().map(Self::new).collect()
    }

    fn new(data: RuleData) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Rule(data.id.to_string(), why.to_owned());
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
            .map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { data, regex })
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

    fn read(change: impl Fn(&mut serde_json::Value)) -> Result<Vec<Rule>, Error> {
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
