//! The line format of `infershield scan --jsonl`: one JSON object in, one out.

use super::{Place, Policy, Scanner, Source, judge};
use crate::config::Mode;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    id: String,
    text: String,
    #[serde(default)]
    source: Source,
}

#[derive(Serialize)]
struct Output<'a> {
    id: &'a str,
    risk_score: u8,
    blocked: bool,
    findings: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    rule: &'a str,
    category: super::Category,
    severity: super::Severity,
    action: super::Action,
    start: usize,
    end: usize,
}

/// The input line is not an object with `id`, `text` and perhaps `source`. Holds the line to write: `{"id":null,"error":…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// The line to write, and whether anything in the text would be stopped (blocked, withheld or redacted).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the two members are described above")]
pub struct Answer {
    pub text: String,
    pub stopped: bool,
}

/// Scans and judges one line `{"id","text","source"?}`. The reply has no newline:
/// `{"id","risk_score","blocked","findings":[{"rule","category","severity","action","start","end"}]}`.
///
/// # Errors
/// [`Malformed`] with the reply that says so; the caller ends with exit code 2 after the last line.
pub fn scan_line(scanner: &Scanner, policy: &Policy, line: &[u8]) -> Result<Answer, Malformed> {
    let input: Input = serde_json::from_slice(line).map_err(|error| malformed(&error))?;
    let findings = scanner.scan(&input.text, input.source);
    let segment = [(Place::alone(input.source), findings.as_slice())];
    let verdict = judge(&segment, policy, Mode::Enforce);
    let actions = verdict.actions.into_iter().flatten();
    let output = Output {
        id: &input.id,
        risk_score: verdict.risk_score,
        blocked: verdict.blocked,
        findings: findings
            .iter()
            .zip(actions)
            .map(|(finding, action)| Item {
                rule: &finding.rule,
                category: finding.category,
                severity: finding.severity,
                action,
                start: finding.start,
                end: finding.end,
            })
            .collect(),
    };
    let text = serde_json::to_string(&output).map_err(|error| malformed(&error))?;
    Ok(Answer { text, stopped: verdict.strongest >= super::Action::Redact })
}

fn malformed(error: &serde_json::Error) -> Malformed {
    // The parser's own message may quote the line, and with it a secret.
    let error = format!("the line is not an object with id, text and perhaps source (column {})", error.column());
    Malformed(serde_json::json!({"id": null, "error": error}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(line: &str) -> Result<serde_json::Value, Malformed> {
        let scanner = Scanner::builtin().unwrap();
        scan_line(&scanner, &Policy::default(), line.as_bytes()).map(|reply| serde_json::from_str(&reply.text).unwrap())
    }

    #[test]
    fn a_line_gets_exactly_the_fields_of_the_contract() {
        let clean = reply(r#"{"id":"1","text":"hello"}"#).unwrap();
        assert_eq!(clean, serde_json::json!({"id":"1","risk_score":0,"blocked":false,"findings":[]}));
        let bad = reply(r#"{"id":"2","text":"é rm -rf ~/*","source":"user"}"#).unwrap();
        assert_eq!(bad["blocked"], true);
        assert_eq!(
            bad["findings"],
            serde_json::json!([{"rule":"command.erase","category":"command","severity":"critical","action":"block","start":3,"end":13}])
        );
    }

    #[test]
    fn a_line_that_is_no_such_object_is_answered_without_repeating_it() {
        for line in ["", "[]", "{", r#"{"id":"1"}"#, r#"{"id":"1","text":"x","source":"ghp_secret"}"#] {
            let wrong = reply(line).unwrap_err().0;
            let json: serde_json::Value = serde_json::from_str(&wrong).unwrap();
            assert!(json["id"].is_null() && json["error"].is_string());
            assert!(!wrong.contains("ghp_secret"));
        }
    }
}
