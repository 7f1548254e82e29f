//! Writes the log for other programs and for people: the lines as they are, rows for a spreadsheet, or one page.
//! Must never let a text of the log become a formula, markup or a link to elsewhere, nor let the page grow with the log.
//!
//! Each function writes the wanted lines to `out`, which the caller flushes, and gives what [`query`] gives.

use super::calendar::day;
use super::query::{Filter, query};
use super::{Error, Result};
use crate::home::Home;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

/// The columns of a CSV export: the members of a line in their order.
const COLUMNS: &str = "seq,timestamp,user_id,key_id,provider,action,risk_score,blocked,outcome,request_id,model,client,\
    status,duration_ms,ttfb_ms,bytes_in,bytes_out,tokens_in,tokens_out,unscanned,findings,policy,count,kid,prev,mac";
/// Lines in the table of the page: what a browser still scrolls with ease.
const MAX_ROWS: usize = 1000;

/// How many by name, and how many of them were stopped.
type Totals = BTreeMap<String, (u64, u64)>;

/// The lines, byte by byte as they stand in the log.
pub fn jsonl(home: &Home, filter: &Filter, out: &mut dyn Write) -> Result<u64> {
    query(home, filter, &mut |_, text| put(out, &format!("{text}\n")))
}

/// A few words for each line, for a person at a terminal.
pub fn text(home: &Home, filter: &Filter, out: &mut dyn Write) -> Result<u64> {
    query(home, filter, &mut |line, _| put(out, &format!("{}\n", line.summary())))
}

/// One row per line (RFC 4180), safe to open in a spreadsheet.
pub fn csv(home: &Home, filter: &Filter, out: &mut dyn Write) -> Result<u64> {
    put(out, &format!("{COLUMNS}\r\n"))?;
    query(home, filter, &mut |_, text| {
        let line: Value = serde_json::from_str(text).unwrap_or_default();
        let member = |name| match line.get(name) {
            Some(Value::String(text)) => cell(text),
            Some(Value::Null) | None => String::new(),
            Some(other) => cell(&other.to_string()),
        };
        let cells: Vec<String> = COLUMNS.split(',').map(member).collect();
        put(out, &format!("{}\r\n", cells.join(",")))
    })
}

/// One page with totals by provider, category and day, a chart, and the newest lines; it needs no script and nothing from elsewhere.
pub fn html(home: &Home, filter: &Filter, out: &mut dyn Write) -> Result<u64> {
    let (mut lines, mut rows) = (0_u64, VecDeque::new());
    let (mut providers, mut categories, mut days) = (Totals::new(), Totals::new(), Totals::new());
    let unreadable = query(home, filter, &mut |line, _| {
        let event = &line.event;
        lines += 1;
        count(&mut providers, event.provider.as_deref().unwrap_or("none"), event.blocked);
        count(&mut days, &day(line.timestamp), event.blocked);
        for finding in &event.findings {
            let stopped = ["block", "withhold", "redact"].contains(&finding.action.as_str());
            count(&mut categories, &finding.category, stopped);
        }
        let class = if event.blocked { "blocked" } else { "passed" };
        let cells = line.cells().map(|cell| format!("<td>{}</td>", escape(&cell))).concat();
        rows.push_front(format!("<tr class=\"{class}\">{cells}</tr>\n"));
        rows.truncate(MAX_ROWS);
        Ok(())
    })?;
    let note = match lines {
        0 => "No lines.".to_owned(),
        all => format!("The newest {} of {all}; a CSV or JSONL export has all.", rows.len()),
    };
    let page = format!(
        include_str!("report.html"),
        style = include_str!("report.css"),
        lines = lines,
        providers = table(&providers),
        categories = table(&categories),
        days = table(&days),
        note = note,
        rows = Vec::from(rows).concat(),
    );
    put(out, &page)?;
    Ok(unreadable)
}

fn put(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(|error| Error::Export(error.kind()))
}

/// A text as a quoted cell. Spreadsheets run what begins like a formula, also when it is quoted: an apostrophe stops them.
fn cell(text: &str) -> String {
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let guard = if formula || text.starts_with(char::is_control) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

fn count(totals: &mut Totals, name: &str, stopped: bool) {
    let total = totals.entry(name.to_owned()).or_default();
    total.0 += 1;
    total.1 += u64::from(stopped);
}

/// One row for each name, with a bar as long as its share of the largest.
fn table(totals: &Totals) -> String {
    let most = totals.values().map(|total| total.0).max().unwrap_or(1);
    let row = |(name, (all, stopped)): (&String, &(u64, u64))| {
        let (name, share) = (escape(name), all.saturating_mul(100) / most);
        let bar = format!("<i style=\"width: {share}%\"></i>");
        format!("<tr><td>{name}</td><td>{bar}</td><td>{all}</td><td>{stopped}</td></tr>\n")
    };
    totals.iter().map(row).collect()
}

/// Text that stays text inside an element or an attribute; what hides or turns text around is made visible.
fn escape(text: &str) -> String {
    let hides = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
        .replace(hides, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_a_formula_or_ends_before_its_end() {
        assert_eq!(cell("plain, text"), "\"plain, text\"");
        assert_eq!(cell("a\"b"), "\"a\"\"b\"");
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\u{ff1d}1"] {
            assert!(cell(bad).starts_with("\"'"), "{bad:?}");
        }
    }
}
