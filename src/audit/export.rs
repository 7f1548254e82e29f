//! Writes the log for other programs and for people: the lines as they are, or rows for a spreadsheet; the page is in `report`.
//! Must never let a text of the log become a formula, markup or a link to elsewhere.

use super::query::{Filter, Summary, query};
use super::report::Report;
use super::{Result, failed};
use crate::home::Home;
use serde_json::Value;
use std::io::Write;

/// Shapes of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The lines, byte by byte as they stand in the log.
    Jsonl,
    /// A few words for each line, for a person at a terminal.
    Text,
    /// One row per line (RFC 4180), safe to open in a spreadsheet.
    Csv,
    /// One page with totals, a chart and a table; it needs no script and nothing from elsewhere.
    Html,
}

/// The columns of a CSV export: the members of a line in their order.
const COLUMNS: &str = "seq,timestamp,user_id,key_id,provider,action,risk_score,blocked,outcome,request_id,model,client,\
    status,duration_ms,ttfb_ms,bytes_in,bytes_out,tokens_in,tokens_out,unscanned,findings,policy,count,kid,prev,mac";

/// Writes the wanted lines to `out`, the oldest first. The caller flushes.
pub fn export(home: &Home, filter: &Filter, format: Format, out: &mut dyn Write) -> Result<Summary> {
    let mut put = |text: &str| {
        let written = out.write_all(text.as_bytes());
        written.map_err(failed("write", "the export"))
    };
    match format {
        Format::Jsonl => query(home, filter, &mut |_, text| {
            put(text)?;
            put("\n")
        }),
        Format::Text => query(home, filter, &mut |line, _| put(&format!("{}\n", line.summary()))),
        Format::Csv => {
            put(COLUMNS)?;
            put("\r\n")?;
            query(home, filter, &mut |_, text| put(&row(text)))
        }
        Format::Html => {
            let mut report = Report::default();
            let summary = query(home, filter, &mut |line, _| {
                report.add(line);
                Ok(())
            })?;
            put(&report.page())?;
            Ok(summary)
        }
    }
}

fn row(text: &str) -> String {
    let line: Value = serde_json::from_str(text).unwrap_or_default();
    let member = |name| match line.get(name) {
        Some(Value::String(text)) => cell(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => cell(&other.to_string()),
    };
    let cells: Vec<String> = COLUMNS.split(',').map(member).collect();
    cells.join(",") + "\r\n"
}

/// A text as a quoted cell. Spreadsheets run what begins like a formula, also when it is quoted: an apostrophe stops them.
fn cell(text: &str) -> String {
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let guard = if formula || text.starts_with(char::is_control) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
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
