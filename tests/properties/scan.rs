//! The scanner takes any text: what it finds is whole characters, in order, the same every time, and can be explained.

use super::SCANNER;
use crate::support::Dice;
use infershield::detect::{self, Category, Policy, Source};

const SOURCES: [Source; 5] = [Source::User, Source::System, Source::Tool, Source::Assistant, Source::Document];
/// Where the scanner begins a new piece of a long text.
const PIECE_BYTES: usize = 64 << 10;

/// Holds for every input: a byte says how, the rest is the text.
pub fn check(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    let how = dice.below(256);
    let source = SOURCES[how % SOURCES.len()];
    let rest = dice.rest();
    let mut text = String::from_utf8_lossy(&rest).into_owned();
    // Rarely, because a long text takes its time: what stands where two pieces meet.
    if how == 255 {
        let filling = ["a ", "aA1", "é", "%41"][rest.len() % 4];
        text.insert_str(0, &filling.repeat(PIECE_BYTES.saturating_sub(text.len() / 2) / filling.len()));
    }
    let mut findings = SCANNER.scan(&text, source);
    let mut last_value = 0;
    for finding in &findings {
        let found = text.get(finding.start..finding.end);
        assert!(found.is_some_and(|found| !found.is_empty()), "{finding:?}");
        assert!((1..=100).contains(&finding.weight), "{finding:?}");
        // A value is replaced once.
        if matches!(finding.category, Category::Secret | Category::Pii) {
            assert!(finding.start >= last_value, "{findings:?}");
            last_value = finding.end;
        }
    }
    assert!(findings.is_sorted_by_key(|finding| (finding.start, finding.end)));
    let why = detect::explain(&text, source, &findings);
    assert_eq!(why.len(), findings.len());
    why.iter().for_each(|why| assert!(!why.to_string().is_empty()));
    let score = detect::judge(&mut findings, source, source == Source::User, &Policy::default());
    assert!(score <= 100 && (score == 0) == findings.is_empty(), "{score} {findings:?}");
    let found = serde_json::to_value(&findings).unwrap();
    let line = serde_json::json!({"id": "1", "text": text, "source": source}).to_string();
    let (reply, _) = detect::scan_line(&SCANNER, &Policy::default(), line.as_bytes(), false).unwrap();
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!((&reply["risk_score"], &reply["findings"]), (&score.into(), &found));
    // A line may also be anything.
    let _ = detect::scan_line(&SCANNER, &Policy::default(), &rest, true);
}
