//! Rule files of the user: read beside the built-in ones, tried out, and refused by file, rule and reason.
//! Must never let a rule take the place of another one, or have an id that is more than a name.

use super::Scanner;
use super::engine::BUILTIN;
use super::rule::Rule;
use std::collections::BTreeSet;
use std::slice;

/// Longest id, in characters: it stands in refusals, notices and audit lines.
const LONGEST_ID: usize = 64;

impl Scanner {
    /// The built-in rules and those of these files, each given by its name and JSON.
    ///
    /// # Errors
    /// Names the file, the rule and what is wrong with it.
    pub fn with(files: &[(String, String)]) -> Result<Self, String> {
        let mut rules: Vec<Rule> = Vec::new();
        for json in BUILTIN {
            // The tests have read them rule by rule, which takes twice as long.
            rules.extend(serde_json::from_str::<Vec<Rule>>(json).map_err(|error| error.to_string())?);
        }
        let mut known: BTreeSet<String> = rules.iter().map(|rule| rule.id.clone()).collect();
        let plain = |id: &str| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        for (file, json) in files {
            for rule in Rule::read(json).map_err(|why| format!("{file}: {why}"))? {
                let Rule { id, category, .. } = &rule;
                if id.len() > LONGEST_ID || !plain(id) || !id.starts_with(&format!("{category}.")) {
                    let what =
                        format!("`id` is `{category}.` and a name of a-z, 0-9, `.` and `-`, {LONGEST_ID} at most");
                    return Err(format!("{file}: rule {id:?} is not valid: {what}"));
                }
                if !known.insert(id.clone()) {
                    return Err(format!("{file}: rule {id} is not valid: its `id` is there already; choose another"));
                }
                rules.push(rule);
            }
        }
        Self::new(rules)
    }

    /// Tries the rules of one file on their own samples; says which are not as they should be.
    ///
    /// # Errors
    /// As [`Scanner::with`], for this file alone.
    pub fn wrong_samples(json: &str) -> Result<Vec<String>, String> {
        let scanner = Self::new(Rule::read(json)?)?;
        let mut wrong = Vec::new();
        for Rule { id, sources, positive, negative, .. } in &scanner.rules {
            let source = sources.first().copied().unwrap_or_default();
            let found = |text: &String| {
                let hits =
                    scanner.search(text, slice::from_ref(&(0..text.len())), |rule| rule.applies(source), |_| true);
                hits.iter().any(|hit| hit.rule.id == *id)
            };
            for (samples, kind, should) in [(positive, "positive", true), (negative, "negative", false)] {
                let samples = samples.iter().enumerate().filter(|(_, text)| found(text) != should);
                let seen = if should { "not found" } else { "found" };
                wrong.extend(samples.map(|(index, _)| format!("{id}: {kind} sample {} is {seen}", index + 1)));
            }
        }
        Ok(wrong)
    }
}
