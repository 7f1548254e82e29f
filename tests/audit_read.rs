//! What `audit show` finds and `audit export` writes.

use crate::audit_place::Place;
use infershield::audit::export::{csv, html, jsonl};
use infershield::audit::{Event, Filter, Finding, Outcome, Result, query};
use infershield::home::Home;
use std::fs;
use std::io::Write;

/// A text that means harm to whatever reads it as more than text.
const HOSTILE: &str = "=cmd|' /C calc'!A0\"><script src=//x.example>alert(1)</script>{{rows}}\u{1b}[2J\r\n";

fn finding(rule: &str, reference: &str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        category: "injection".to_owned(),
        action: "block".to_owned(),
        location: "messages[0].content".to_owned(),
        reference: reference.to_owned(),
    }
}

/// Three lines: a clean request of alex, a blocked one of sam, and one of a user whose every text is hostile.
fn log() -> Place {
    let place = Place::new();
    let log = place.open();
    let mut clean = Event::new("messages");
    clean.user_id = Some("alex@example.com".to_owned());
    clean.provider = Some("anthropic".to_owned());
    clean.request_id = Some("req-1".to_owned());
    let mut blocked = Event::new("chat.completion");
    blocked.user_id = Some("sam@example.com".to_owned());
    blocked.provider = Some("openai".to_owned());
    blocked.blocked = true;
    blocked.outcome = Outcome::Blocked;
    blocked.risk_score = 92;
    blocked.findings = vec![finding("injection.override", "0A1B2C3D")];
    let mut hostile = Event::new(HOSTILE);
    for text in [
        &mut hostile.user_id,
        &mut hostile.key_id,
        &mut hostile.provider,
        &mut hostile.request_id,
        &mut hostile.model,
        &mut hostile.client,
        &mut hostile.policy,
    ] {
        *text = Some(HOSTILE.to_owned());
    }
    hostile.findings = vec![finding(HOSTILE, HOSTILE)];
    for event in [clean, blocked, hostile] {
        log.append(&event).unwrap();
    }
    place
}

fn found(place: &Place, filter: Filter) -> Vec<u64> {
    let mut numbers = Vec::new();
    query(&place.home(), &filter, &mut |line, _| {
        numbers.push(line.seq);
        Ok(())
    })
    .unwrap();
    numbers
}

fn exported(place: &Place, export: fn(&Home, &Filter, &mut dyn Write) -> Result<u64>) -> String {
    let mut out = Vec::new();
    export(&place.home(), &Filter::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn each_filter_finds_its_lines_and_all_of_them_apply_at_once() {
    let place = log();
    let some = |text: &str| Some(text.to_owned());
    let all = Filter::default();
    assert_eq!(found(&place, all.clone()), [1, 2, 3]);
    assert_eq!(found(&place, Filter { user: some("sam@example.com"), ..all.clone() }), [2]);
    assert_eq!(found(&place, Filter { blocked: true, ..all.clone() }), [2]);
    assert_eq!(found(&place, Filter { request_id: some("req-1"), ..all.clone() }), [1]);
    assert_eq!(found(&place, Filter { reference: some("0A1B2C3D"), ..all.clone() }), [2]);
    assert_eq!(found(&place, Filter { since: some("1970-01-01"), ..all.clone() }), [1, 2, 3]);
    assert_eq!(found(&place, Filter { since: some("9999-01"), ..all.clone() }), [0; 0]);
    let none = Filter { blocked: true, user: some("alex@example.com"), ..all };
    assert_eq!(found(&place, none), [0; 0]);
}

#[test]
fn lines_that_cannot_be_read_are_counted_and_do_not_hide_the_others() {
    let place = log();
    let mut month = fs::File::options().append(true).open(place.month()).unwrap();
    let long = vec![b'x'; 300_000];
    month.write_all(b"junk\n\xff\xfe\n{}\n").unwrap();
    month.write_all(&long).unwrap();
    let whole = fs::read(place.month()).unwrap();
    let first: Vec<u8> = whole.split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
    month.write_all(&[b"\n", &first[..]].concat()).unwrap();
    let mut readable = 0;
    let unreadable = query(&place.home(), &Filter::default(), &mut |_, _| {
        readable += 1;
        Ok(())
    });
    assert_eq!(readable, 4);
    assert!(unreadable.unwrap() >= 4);
}

#[test]
fn a_home_without_a_log_has_no_lines() {
    assert_eq!(found(&Place::new(), Filter::default()), [0; 0]);
}

#[test]
fn the_line_for_a_terminal_cannot_steer_it() {
    let place = log();
    query(&place.home(), &Filter::default(), &mut |line, _| {
        assert!(!line.summary().contains(char::is_control));
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_jsonl_export_is_the_log_byte_by_byte() {
    let place = log();
    let bytes = fs::read_to_string(place.month()).unwrap();
    assert_eq!(exported(&place, jsonl), bytes);
}

#[test]
fn the_csv_export_has_a_cell_for_every_member_and_no_formula() {
    let place = log();
    let text = exported(&place, csv);
    let rows = cells(&text);
    assert_eq!(rows.len(), 4);
    let line = fs::read_to_string(place.month()).unwrap();
    let line = line.lines().next().unwrap();
    let mut from = 0;
    for name in &rows[0] {
        from += line[from..].find(&format!("\"{name}\":")).expect(name);
    }
    for row in &rows {
        assert_eq!(row.len(), rows[0].len());
        assert!(!row.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r'])));
    }
    assert_eq!(rows[3][2], format!("'{HOSTILE}"));
}

#[test]
fn the_html_export_holds_no_script_no_link_and_no_markup_of_the_log() {
    let page = exported(&log(), html);
    for forbidden in ["<script", "<img", "<link", "<iframe", "src=\"", "href=", "url(", "@import", "{{", "\u{1b}"] {
        let allowed = if forbidden == "{{" { page.matches("{{rows}}").count() } else { 0 };
        assert_eq!(page.matches(forbidden).count(), allowed, "{forbidden}");
    }
    assert!(page.contains("&lt;script src=//x.example&gt;"));
    assert!(page.contains("sam@example.com") && page.contains("0A1B2C3D"));
    assert_eq!(page.matches("<tr class=\"blocked\">").count(), 1);
}

#[test]
fn the_page_stays_small_however_long_the_log_is_and_counts_all_of_it() {
    let place = Place::new();
    place.append(1234);
    let page = exported(&place, html);
    assert!(page.contains("<strong>1234</strong>"));
    assert!(page.contains("The newest 1000 of 1234"));
    assert!(page.contains("<td>1234</td>"));
    assert_eq!(page.matches("<tr class=\"passed\">").count(), 1000);
}

#[test]
fn an_empty_log_still_makes_a_page() {
    let page = exported(&Place::new(), html);
    assert!(page.contains("No lines.") && page.ends_with("</html>\n"));
}

/// Rows and cells as RFC 4180 has them.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(!quoted && row.is_empty() && cell.is_empty());
    rows
}
