//! Why a finding stands there, for people and scripts.
//! Must never hold the matched text, nor more of it than its length, kinds of characters, and words that the learned scorer counts.

use super::decode::DISGUISES;
use super::learned::Lesson;
use super::policy::contributions;
use super::{Category, Finding, Source};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a finding stands and what it weighs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Length of the matched text.
    pub characters: usize,
    /// Which kinds of characters are in it.
    pub classes: BTreeSet<&'static str>,
    /// 0 to 100, by this source.
    pub weight: u8,
    /// Who wrote the text.
    pub source: Source,
    /// Points of the text's score that come from this rule, however often it was found.
    pub contribution: u8,
    /// The rule that says how it was hidden.
    pub disguise: Option<String>,
    /// What the learned scorer saw, where it found something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<String>,
}

/// The rules of the learned scorer.
const LEARNED: [(&str, Lesson); 2] = [("jailbreak.learned", Lesson::ATTEMPTS), ("injection.learned", Lesson::ORDERS)];

/// One for each finding of [`super::Scanner::scan`], in the same order.
pub fn explain(text: &str, source: Source, findings: &[Finding]) -> Vec<Explanation> {
    let points: BTreeMap<&str, f64> = contributions(findings.iter()).into_iter().collect();
    let disguises = findings.iter().filter(|finding| DISGUISES.contains(&finding.rule.as_str()));
    let disguises: BTreeMap<_, _> = disguises.map(|finding| ((finding.start, finding.end), &finding.rule)).collect();
    let (mut line, mut column, mut seen) = (1, 1, 0);
    let explanation = |finding: &Finding| {
        // Findings come in order of position: each byte is counted once.
        let passed = text.get(seen..finding.start).unwrap_or_default();
        let last = passed.rsplit('\n').next().unwrap_or_default().chars().count();
        let lines = passed.matches('\n').count();
        (line, column, seen) = (line + lines, last + if lines == 0 { column } else { 1 }, finding.start);
        let matched = text.get(finding.start..finding.end).unwrap_or_default();
        let disguise = disguises.get(&(finding.start, finding.end)).filter(|rule| **rule != &finding.rule);
        let lesson = LEARNED.iter().find(|(rule, _)| *rule == finding.rule);
        Explanation {
            line,
            column,
            characters: matched.chars().count(),
            classes: matched.chars().map(class).collect(),
            weight: finding.weight,
            source,
            contribution: points.get(finding.rule.as_str()).map_or(0, |points| points.round() as u8),
            disguise: disguise.map(|rule| rule.to_string()),
            learned: lesson.map(|(_, lesson)| lesson.reason(&without_values(text, finding, findings))),
        }
    };
    findings.iter().map(explanation).collect()
}

/// The matched text with blanks for whatever is a value: no part of one may be shown.
fn without_values(text: &str, finding: &Finding, findings: &[Finding]) -> String {
    let is_near = |other: &&Finding| other.start < finding.end && finding.start < other.end;
    let is_value = |other: &&Finding| matches!(other.category, Category::Secret | Category::Pii);
    let values: Vec<&Finding> = findings.iter().filter(is_near).filter(is_value).collect();
    let matched = text.get(finding.start..finding.end).unwrap_or_default();
    let shown = |(at, c): (usize, char)| {
        let at = finding.start + at;
        if values.iter().any(|value| (value.start..value.end).contains(&at)) { ' ' } else { c }
    };
    matched.char_indices().map(shown).collect()
}

fn class(c: char) -> &'static str {
    match c {
        'a'..='z' => "a-z",
        'A'..='Z' => "A-Z",
        '0'..='9' => "0-9",
        _ if c.is_whitespace() => "blanks",
        _ if c.is_ascii() => "signs",
        _ => "beyond ASCII",
    }
}

impl fmt::Display for Explanation {
    /// One line for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, characters, weight, contribution, .. } = self;
        write!(f, "column {column}, {characters} characters ({})", Vec::from_iter(self.classes.clone()).join(", "))?;
        write!(f, "; weight {weight} from ")?;
        self.source.serialize(&mut *f)?;
        write!(f, ", the rule adds {contribution} to the score")?;
        self.disguise.iter().try_for_each(|rule| write!(f, "; hidden: {rule}"))?;
        self.learned.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}
