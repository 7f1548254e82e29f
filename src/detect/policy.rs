//! From findings to a score and to actions, by thresholds that are data.
//! Must never look at the text: what it decides depends on findings, policy, mode and place only.

use super::{Action, Category, Finding, Place};
use crate::config::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Each further finding in a segment counts this much of the one before it: many weak hints do not make a certainty.
const DIMINISHING: f64 = 0.5;
/// Highest score.
const FULL_SCORE: f64 = 100.0;
/// From this score on the shipped policy stops an attack.
const BLOCK_AT: u8 = 80;
/// From this score on the shipped policy reports an attack.
const WARN_AT: u8 = 40;

/// What is done about one category: an action whatever the score, or thresholds on the segment's score (0 to 100) in
/// that category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"allow\", \"warn\", \"redact\", \"withhold\", \"block\" or {\"block_at\": 0 to 100, \"warn_at\": 0 to 100}"
)]
pub enum Response {
    /// The same for every finding.
    Always(Action),
    /// By score.
    ByScore(Thresholds),
}

/// At `block_at` and more the text is stopped, at `warn_at` and more it is reported, below that it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the two members are described above")]
pub struct Thresholds {
    pub block_at: u8,
    pub warn_at: u8,
}

/// One response for each category; `policy` in the configuration. What is left out keeps the shipped default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the members are the categories")]
pub struct Policy {
    pub secret: Response,
    pub pii: Response,
    pub injection: Response,
    pub jailbreak: Response,
    pub exfiltration: Response,
    pub command: Response,
    pub obfuscation: Response,
}

impl Default for Policy {
    fn default() -> Self {
        let attack = Response::ByScore(Thresholds { block_at: BLOCK_AT, warn_at: WARN_AT });
        Self {
            secret: Response::Always(Action::Redact),
            pii: Response::Always(Action::Warn),
            injection: attack,
            jailbreak: attack,
            exfiltration: attack,
            command: attack,
            obfuscation: attack,
        }
    }
}

impl Policy {
    fn response(&self, category: Category) -> Response {
        match category {
            Category::Secret => self.secret,
            Category::Pii => self.pii,
            Category::Injection => self.injection,
            Category::Jailbreak => self.jailbreak,
            Category::Exfiltration => self.exfiltration,
            Category::Command => self.command,
            Category::Obfuscation => self.obfuscation,
        }
    }
}

/// What [`judge`] says about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// 0 to 100: that of the worst segment, so that a long harmless history does not add up to a threat.
    pub risk_score: u8,
    /// For each segment, for each of its findings in order, what is done about it.
    pub actions: Vec<Vec<Action>>,
    /// The strongest of all actions; `Allow` when there is no finding.
    pub strongest: Action,
    /// True when an action is `Block` or `Withhold`.
    pub blocked: bool,
}

/// Judges the findings of all segments of one request. Leave out findings that a person has allowed.
pub fn judge<F: AsRef<[Finding]>>(segments: &[(Place, F)], policy: &Policy, mode: Mode) -> Verdict {
    let mut verdict = Verdict {
        risk_score: 0,
        actions: Vec::with_capacity(segments.len()),
        strongest: Action::Allow,
        blocked: false,
    };
    for (place, findings) in segments {
        let findings = findings.as_ref();
        verdict.risk_score = verdict.risk_score.max(score(findings, None));
        let mut by_category = BTreeMap::new();
        for finding in findings {
            by_category.entry(finding.category).or_insert_with(|| {
                let score = score(findings, Some(finding.category));
                action(policy.response(finding.category), score, *place, mode)
            });
        }
        let actions = findings.iter().map(|finding| &finding.category);
        let actions: Vec<Action> = actions.filter_map(|category| by_category.get(category).copied()).collect();
        let strongest = actions.iter().copied().max().unwrap_or(Action::Allow);
        verdict.strongest = verdict.strongest.max(strongest);
        verdict.actions.push(actions);
    }
    verdict.blocked = verdict.strongest >= Action::Withhold;
    verdict
}

/// The score of one segment, of one category or of all: the heaviest finding of each rule, with diminishing returns.
fn score(findings: &[Finding], category: Option<Category>) -> u8 {
    let mut seen: Vec<(&str, u8)> = findings
        .iter()
        .filter(|finding| category.is_none_or(|wanted| wanted == finding.category))
        .map(|finding| (&*finding.rule, finding.weight))
        .collect();
    seen.sort_unstable_by(|one, other| one.0.cmp(other.0).then(other.1.cmp(&one.1)));
    seen.dedup_by_key(|(rule, _)| *rule);
    seen.sort_unstable_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let mut total = 0.0;
    let mut share = 1.0;
    for (_, weight) in seen {
        total += (FULL_SCORE - total) * f64::from(weight) / FULL_SCORE * share;
        share *= DIMINISHING;
    }
    total.clamp(0.0, FULL_SCORE) as u8
}

fn action(response: Response, score: u8, place: Place, mode: Mode) -> Action {
    let wanted = match response {
        Response::Always(action) => action,
        Response::ByScore(at) if score >= at.block_at => Action::Block,
        Response::ByScore(at) if score >= at.warn_at => Action::Warn,
        Response::ByScore(_) => Action::Allow,
    };
    let possible = match (wanted, place) {
        (Action::Block | Action::Withhold, Place::System) => Action::Warn,
        // Clients send their whole history every time: a block here would make the session unusable for good.
        (Action::Block, Place::Elsewhere) => Action::Withhold,
        _ => wanted,
    };
    match mode {
        Mode::Enforce => until_redaction_and_withholding_exist(possible, place),
        Mode::Monitor => possible.min(Action::Warn),
    }
}

/// Nothing can be replaced yet, so the last user turn is refused instead and the rest only reported.
/// Remove this function when redaction and withholding exist.
fn until_redaction_and_withholding_exist(action: Action, place: Place) -> Action {
    match action {
        Action::Redact | Action::Withhold if place == Place::LastUserTurn => Action::Block,
        Action::Redact | Action::Withhold => Action::Warn,
        Action::Allow | Action::Warn | Action::Block => action,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn found(category: Category, weight: u8, rule: &str) -> Finding {
        Finding { rule: rule.into(), category, severity: Severity::High, weight, start: 0, end: 1 }
    }

    fn action_of(finding: &Finding, place: Place, policy: &Policy, mode: Mode) -> Action {
        judge(&[(place, std::slice::from_ref(finding))], policy, mode).actions[0][0]
    }

    #[test]
    fn many_weak_hints_are_no_certainty_and_one_rule_counts_once() {
        let names: Vec<String> = (0..50).map(|n| format!("rule-{n}")).collect();
        let weak: Vec<Finding> = names.iter().map(|n| found(Category::Injection, 30, n)).collect();
        assert!((50..60).contains(&score(&weak, None)) || score(&weak, None) < 50);
        let same = vec![found(Category::Injection, 30, "same"); 50];
        assert_eq!(score(&same, None), 30);
        assert_eq!(score(&[], None), 0);
    }

    #[test]
    fn until_redaction_exists_the_last_user_turn_is_blocked_and_the_rest_warned() {
        let secret = found(Category::Secret, 90, "s");
        let attack = found(Category::Injection, 90, "i");
        let policy = Policy::default();
        for finding in [&secret, &attack] {
            assert_eq!(action_of(finding, Place::LastUserTurn, &policy, Mode::Enforce), Action::Block);
            assert_eq!(action_of(finding, Place::Elsewhere, &policy, Mode::Enforce), Action::Warn);
            assert_eq!(action_of(finding, Place::System, &policy, Mode::Enforce), Action::Warn);
        }
    }

    #[test]
    fn monitor_mode_never_stops_anything() {
        let policy: Policy = serde_json::from_str(r#"{"secret":"block","pii":"withhold"}"#).unwrap();
        for category in [Category::Secret, Category::Pii, Category::Command] {
            for place in [Place::LastUserTurn, Place::System, Place::Elsewhere] {
                let finding = [found(category, 100, "r")];
                let verdict = judge(&[(place, &finding)], &policy, Mode::Monitor);
                assert_eq!((verdict.strongest, verdict.blocked), (Action::Warn, false));
            }
        }
    }

    #[test]
    fn a_policy_is_actions_or_thresholds_and_nothing_else() {
        let policy: Policy =
            serde_json::from_str(r#"{"pii":"allow","injection":{"block_at":50,"warn_at":10}}"#).unwrap();
        assert_eq!(policy.pii, Response::Always(Action::Allow));
        assert_eq!(policy.secret, Response::Always(Action::Redact));
        let attack = found(Category::Injection, 50, "i");
        assert_eq!(action_of(&attack, Place::LastUserTurn, &policy, Mode::Enforce), Action::Block);
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
    fn the_worst_segment_gives_the_score() {
        let (weak, strong) = ([found(Category::Pii, 20, "a")], [found(Category::Command, 85, "b")]);
        let segments = [(Place::Elsewhere, &weak[..]), (Place::LastUserTurn, &strong[..])];
        let verdict = judge(&segments, &Policy::default(), Mode::Enforce);
        assert_eq!((verdict.risk_score, verdict.blocked), (85, true));
    }
}
