//! From findings to a score and to actions, by thresholds that are data.
//! Must never look at the text: what it decides depends on findings, policy and turn only.

use super::{Action, Category, Finding, Source};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Each further finding in a text counts this much of the one before it: many weak hints do not make a certainty.
const DIMINISHING: f64 = 0.5;
/// Highest score.
const FULL_SCORE: f64 = 100.0;
/// From this score on the shipped policy stops an attack.
const BLOCK_AT: u8 = 80;
/// From this score on the shipped policy reports an attack.
const WARN_AT: u8 = 40;
/// Whose findings make a score together. An attack may have more than one side.
const JUDGED_TOGETHER: [&[Category]; 3] = {
    use Category::*;
    [&[Secret], &[Pii], &[Injection, Jailbreak, Exfiltration, Command, Obfuscation]]
};

/// What is done about one category: an action whatever the score, or thresholds on what its findings add to the text's score
/// (0 to 100), and for an attack those of all kinds of attack that have thresholds: it may have more than one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected \"allow\", \"warn\", \"redact\", \"withhold\", \"block\" or {\"block_at\": 0 to 100, \"warn_at\": 0 to 100}"
)]
#[allow(missing_docs, reason = "the two thresholds are described above them")]
pub enum Response {
    /// The same for every finding.
    Always(Action),
    /// At `block_at` and more the text is stopped, at `warn_at` and more it is reported, below that it is allowed.
    ByScore { block_at: u8, warn_at: u8 },
}

/// A response for each category; `policy` in the configuration. What is left out there keeps the shipped default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    #[serde(flatten)]
    responses: BTreeMap<Category, Response>,
    /// What is done about findings in a reply: `allow`, `warn`, which is shipped, or `block`.
    pub replies: Option<Action>,
    /// Nothing is ever stopped or changed: every stronger action becomes a warning.
    #[serde(skip)]
    pub monitor: bool,
}

impl Policy {
    /// The policy, if its thresholds can be meant.
    ///
    /// # Errors
    /// Says which can not.
    pub fn checked(self) -> Result<Self, String> {
        for (category, response) in &self.responses {
            if let Response::ByScore { block_at, warn_at } = response
                && block_at < warn_at
            {
                return Err(format!("`{category}`: block_at, {block_at}, is below warn_at, {warn_at}"));
            }
        }
        if self.replies.is_some_and(|action| matches!(action, Action::Redact | Action::Withhold)) {
            return Err("`replies` is allow, warn or block".to_owned());
        }
        Ok(self)
    }

    /// What is done about what a reply says.
    pub fn on_replies(&self) -> Action {
        let wanted = self.replies.unwrap_or(Action::Warn);
        if self.monitor { wanted.min(Action::Warn) } else { wanted }
    }

    /// Whether secrets go on as they stand.
    pub fn lets_secrets_pass(&self) -> bool {
        self.monitor || matches!(self.response(Category::Secret), Response::Always(Action::Allow | Action::Warn))
    }

    fn response(&self, category: Category) -> Response {
        let shipped = match category {
            Category::Secret => Response::Always(Action::Redact),
            Category::Pii => Response::Always(Action::Warn),
            _ => Response::ByScore { block_at: BLOCK_AT, warn_at: WARN_AT },
        };
        self.responses.get(&category).copied().unwrap_or(shipped)
    }
}

/// Sets what is done about each finding of one text; returns the score of the text, 0 to 100. Leave out findings that
/// a person has allowed. `last_turn` is true for the last words of the user: the one place where refusing the request
/// costs no history.
pub fn judge(findings: &mut [Finding], source: Source, last_turn: bool, policy: &Policy) -> u8 {
    for kinds in JUDGED_TOGETHER {
        let is_one = |finding: &Finding| kinds.contains(&finding.category);
        let by_score = |finding: &&Finding| matches!(policy.response(finding.category), Response::ByScore { .. });
        let score = score(findings.iter().filter(|finding| is_one(finding)).filter(by_score));
        for finding in findings.iter_mut().filter(|finding| is_one(finding)) {
            finding.action = action(policy, finding.category, score, source, last_turn);
        }
    }
    score(findings.iter())
}

/// What all rules add to the score.
fn score<'a>(findings: impl Iterator<Item = &'a Finding>) -> u8 {
    let points = contributions(findings).into_iter();
    points.fold(0.0, |total, (_, points)| total + points).clamp(0.0, FULL_SCORE) as u8
}

/// The points that each rule adds to the score by its heaviest finding, with diminishing returns: the heaviest first.
pub(super) fn contributions<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<(&'a str, f64)> {
    let mut heaviest: BTreeMap<&str, u8> = BTreeMap::new();
    for finding in findings {
        let weight = heaviest.entry(&finding.rule).or_default();
        *weight = finding.weight.max(*weight);
    }
    let mut weights: Vec<(&str, u8)> = heaviest.into_iter().collect();
    weights.sort_by_key(|(_, weight)| Reverse(*weight));
    let mut total = 0.0;
    let mut share = 1.0;
    let added = |(rule, weight)| {
        let points = (FULL_SCORE - total) * f64::from(weight) / FULL_SCORE * share;
        total += points;
        share *= DIMINISHING;
        (rule, points)
    };
    weights.into_iter().map(added).collect()
}

fn action(policy: &Policy, category: Category, score: u8, source: Source, last_turn: bool) -> Action {
    let response = policy.response(category);
    let wanted = match response {
        Response::Always(action) => action,
        Response::ByScore { block_at, .. } if score >= block_at => Action::Block,
        Response::ByScore { warn_at, .. } if score >= warn_at => Action::Warn,
        Response::ByScore { .. } => Action::Allow,
    };
    match wanted {
        Action::Allow | Action::Warn => wanted,
        _ if policy.monitor => Action::Warn,
        // Asked for in so many words: everywhere, whatever it costs.
        Action::Block if response == Response::Always(Action::Block) => Action::Block,
        // Clients send their whole history every time: a block anywhere but in the last turn would make the session
        // unusable for good. The system prompt is the client's own.
        Action::Block if source == Source::System => Action::Warn,
        Action::Block if !last_turn => Action::Withhold,
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn found(category: Category, weight: u8, rule: &str) -> Finding {
        let (severity, action) = (Severity::High, Action::Block);
        Finding { rule: rule.into(), category, severity, action, start: 0, end: 1, weight }
    }

    fn action_of(finding: &Finding, last_turn: bool, policy: &Policy) -> Action {
        let mut findings = [finding.clone()];
        judge(&mut findings, Source::User, last_turn, policy);
        findings[0].action
    }

    fn score_of(findings: &[Finding]) -> u8 {
        score(findings.iter())
    }

    #[test]
    fn many_weak_hints_are_no_certainty_and_one_rule_counts_once() {
        let names: Vec<String> = (0..50).map(|n| format!("rule-{n}")).collect();
        let weak: Vec<Finding> = names.iter().map(|n| found(Category::Injection, 30, n)).collect();
        assert!(score_of(&weak) < 60);
        let same = vec![found(Category::Injection, 30, "same"); 50];
        assert_eq!(score_of(&same), 30);
        assert_eq!(score_of(&[]), 0);
    }

    #[test]
    fn attacks_are_blocked_in_the_last_turn_withheld_elsewhere_and_reported_in_the_system_prompt() {
        let policy = Policy::default();
        let judged = |category, source, last_turn| {
            let mut findings = [found(category, 90, "r")];
            judge(&mut findings, source, last_turn, &policy);
            findings[0].action
        };
        assert_eq!(judged(Category::Injection, Source::User, true), Action::Block);
        assert_eq!(judged(Category::Injection, Source::User, false), Action::Withhold);
        assert_eq!(judged(Category::Injection, Source::Tool, false), Action::Withhold);
        assert_eq!(judged(Category::Injection, Source::System, false), Action::Warn);
        for (source, last_turn) in [(Source::User, true), (Source::Tool, false), (Source::System, false)] {
            assert_eq!(judged(Category::Secret, source, last_turn), Action::Redact);
        }
    }

    #[test]
    fn monitor_mode_never_stops_anything() {
        let mut policy: Policy = serde_json::from_str(r#"{"secret":"block","pii":"withhold"}"#).unwrap();
        policy.monitor = true;
        for category in [Category::Secret, Category::Pii, Category::Command] {
            let finding = found(category, 100, "r");
            for last_turn in [true, false] {
                assert_eq!(action_of(&finding, last_turn, &policy), Action::Warn);
            }
        }
    }

    #[test]
    fn a_policy_is_actions_or_thresholds_and_nothing_else() {
        let policy: Policy =
            serde_json::from_str(r#"{"pii":"allow","injection":{"block_at":50,"warn_at":10}}"#).unwrap();
        assert_eq!(policy.response(Category::Pii), Response::Always(Action::Allow));
        assert_eq!(policy.response(Category::Secret), Response::Always(Action::Redact));
        let attack = found(Category::Injection, 50, "i");
        assert_eq!(action_of(&attack, true, &policy), Action::Block);
        for wrong in [
            r#"{"pi":"warn"}"#,
            r#"{"pii":"burn"}"#,
            r#"{"pii":{"block_at":1}}"#,
            r#"{"pii":{"block_at":1,"warn_at":1,"x":1}}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_sides_of_an_attack_are_judged_together_and_values_by_themselves() {
        let judged = |policy: &str| {
            let mut findings = [
                found(Category::Pii, 60, "a"),
                found(Category::Jailbreak, 70, "b"),
                found(Category::Injection, 70, "c"),
            ];
            let policy = serde_json::from_str(policy).unwrap();
            let score = judge(&mut findings, Source::User, true, &policy);
            (findings.map(|finding| finding.action), score)
        };
        assert_eq!(judged("{}"), ([Action::Warn, Action::Block, Action::Block], 83));
        assert_eq!(judged(r#"{"jailbreak":"allow"}"#).0, [Action::Warn, Action::Allow, Action::Warn]);
        let strict = r#"{"jailbreak":{"block_at":90,"warn_at":40}}"#;
        assert_eq!(judged(strict).0, [Action::Warn, Action::Warn, Action::Block]);
        let values = r#"{"pii":{"block_at":65,"warn_at":60},"injection":"warn"}"#;
        assert_eq!(judged(values).0, [Action::Warn, Action::Warn, Action::Warn]);
    }
}
