//! The line format of `infershield scan --jsonl`: one JSON object in, one out.
//! Must never repeat in an error what the line says: it may hold a secret.

use super::{Action, Explanation, Finding, Policy, Scanner, Source, explain, judge};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a line has to be.
const OBJECT: &str =
    "an object with texts `id` and `text`, and perhaps `source` (user, system, tool, assistant, document)";

#[derive(Deserialize)]
struct Input {
    id: String,
    text: String,
    #[serde(default)]
    source: Source,
}

#[derive(Serialize)]
struct Output<'a> {
    id: String,
    risk_score: u8,
    blocked: bool,
    findings: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Explanation>,
}

/// Scans and judges one line `{"id","text","source"?}`; what a user says counts as the last turn. Gives the line to
/// write and the strongest action; with `explains` each finding also has the members of an [`super::Explanation`] in `why`:
/// `{"id","risk_score","blocked","findings":[{"rule","category","severity","action","start","end"}]}`.
///
/// # Errors
/// For anything but such an object the line to write is `{"id":null,"error":…}`; the caller ends with exit code 2.
pub fn scan_line(scanner: &Scanner, policy: &Policy, line: &[u8], explains: bool) -> Result<(String, Action), String> {
    // The parser's own message may quote the line.
    let malformed = |error: serde_json::Error| {
        let what = if error.is_data() { OBJECT } else { "JSON" };
        json!({"id": null, "error": format!("the line is not {what} (column {})", error.column())}).to_string()
    };
    let Input { id, text, source } = serde_json::from_slice(line).map_err(malformed)?;
    let mut findings = scanner.scan(&text, source);
    let risk_score = judge(&mut findings, source, source == Source::User, policy);
    let strongest = findings.iter().map(|finding| finding.action).max().unwrap_or(Action::Allow);
    let blocked = strongest >= Action::Withhold;
    let why = if explains { explain(&text, source, &findings) } else { Vec::new() };
    let mut why = why.into_iter();
    let findings = findings.iter().map(|finding| Found { finding, why: why.next() }).collect();
    let line = serde_json::to_string(&Output { id, risk_score, blocked, findings }).map_err(malformed)?;
    Ok((line, strongest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn reply(line: &str) -> Result<Value, Value> {
        let scanner = Scanner::builtin().unwrap();
        let read = |line: String| serde_json::from_str(&line).unwrap();
        scan_line(&scanner, &Policy::default(), line.as_bytes(), false).map(|(reply, _)| read(reply)).map_err(read)
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
            let wrong = reply(line).unwrap_err();
            assert!(wrong["id"].is_null() && wrong["error"].is_string());
            assert!(!wrong.to_string().contains("ghp_secret"));
        }
    }
}
