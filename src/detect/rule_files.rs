//! Rule files of the user: read beside the built-in ones, tried out, and refused with rule and member.
//! Must never let a rule take the place of another one, or have an id that is more than a name.

use super::Scanner;
use super::engine::BUILTIN;
use super::rule::{Rule, RuleData};
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::BTreeSet;

/// Longest id, in characters: it stands in refusals, notices and audit lines.
const LONGEST_ID: usize = 64;

impl Scanner {
    /// The built-in rules and those of these files, each given by its name and JSON.
    ///
    /// # Errors
    /// Names the file, the rule and what is wrong with it.
    pub fn with(files: &[(String, String)]) -> Result<Self, String> {
        let mut texts = BUILTIN.to_vec();
        let mut own = Vec::new();
        for (file, json) in files {
            for rule in compiled(json).map_err(|why| format!("{file}: {why}"))? {
                own.push((file, rule.data));
            }
            texts.push(json);
        }
        let scanner = Self::new(&texts)?;
        let builtin = scanner.rules.rules.iter().rev().skip(own.len());
        let mut known: BTreeSet<&str> = builtin.map(|rule| rule.data.id.as_str()).collect();
        let plain = |id: &str| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b));
        for (file, RuleData { id, category, .. }) in &own {
            if id.len() > LONGEST_ID || !plain(id) || !id.starts_with(&format!("{category}.")) {
                let what = format!("`id` is `{category}.` and a name of a-z, 0-9, `.` and `-`, {LONGEST_ID} at most");
                return Err(format!("{file}: rule {id:?} is not valid: {what}"));
            }
            if !known.insert(id) {
                return Err(format!("{file}: rule {id} is not valid: its `id` is there already; choose another"));
            }
        }
        Ok(scanner)
    }

    /// Tries the rules of one file on their own samples; says which are not as they should be.
    ///
    /// # Errors
    /// As [`Scanner::with`], for this file alone.
    pub fn wrong_samples(json: &str) -> Result<Vec<String>, String> {
        compiled(json)?;
        let scanner = Self::new(&[json])?;
        let mut wrong = Vec::new();
        for RuleData { id, sources, positive, negative, .. } in scanner.rules.rules.iter().map(|rule| &rule.data) {
            let source = sources.first().copied().unwrap_or_default();
            let found = |text: &str| {
                let whole = 0..text.len();
                let hits = scanner.rules.search(text, std::slice::from_ref(&whole), source);
                hits.iter().any(|hit| hit.rule.data.id == *id)
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

/// The rules of a file, each with an expression that can be used.
fn compiled(json: &str) -> Result<Vec<Rule>, String> {
    let rules = Rule::read(json)?;
    rules.iter().try_for_each(|rule| rule.regex().map(drop))?;
    Ok(rules)
}

/// The first rule of a file that cannot be read, its member, and why; `None` when it is no array at all.
pub(super) fn mistake(json: &str) -> Option<String> {
    let rules: Vec<Value> = serde_json::from_str(json).ok()?;
    let error = |rule: &Value| RuleData::deserialize(rule).err().map(|error| error.to_string());
    rules.iter().enumerate().find_map(|(index, rule)| {
        let why = error(rule)?;
        // Without the member that is wrong, something else is, or nothing.
        let is_wrong = |member: &&String| {
            let mut rest = rule.clone();
            rest.as_object_mut().and_then(|members| members.remove(*member));
            error(&rest).is_none_or(|other| other != why)
        };
        let names = rule.as_object().into_iter().flat_map(|members| members.keys());
        let member = names.filter(|_| !why.starts_with("missing")).find(is_wrong);
        let member = member.map(|name| format!("`{name}`: ")).unwrap_or_default();
        let id = rule["id"].as_str().map_or(format!("number {}", index + 1), str::to_owned);
        Some(format!("rule {id} is not valid: {member}{why}"))
    })
}
