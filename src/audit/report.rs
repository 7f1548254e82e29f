//! The audit report as one page: totals by provider, category and day, a chart, and the newest lines.
//! Must never put a text of the log into the page without escaping it, nor let the page grow with the log.

use super::calendar::day;
use super::event::Line;
use std::collections::{BTreeMap, VecDeque};

/// Lines in the table: what a browser still scrolls with ease.
const MAX_ROWS: usize = 1000;

/// How many by name, and how many of them were stopped.
type Totals = BTreeMap<String, (u64, u64)>;

/// What the page tells, gathered line by line.
#[derive(Default)]
pub(super) struct Report {
    lines: u64,
    providers: Totals,
    categories: Totals,
    days: Totals,
    rows: VecDeque<String>,
}

impl Report {
    /// Counts one line.
    pub(super) fn add(&mut self, line: &Line) {
        let event = &line.event;
        self.lines += 1;
        count(&mut self.providers, event.provider.as_deref().unwrap_or("none"), event.blocked);
        count(&mut self.days, &day(line.timestamp), event.blocked);
        for finding in &event.findings {
            let stopped = ["block", "withhold", "redact"].contains(&finding.action.as_str());
            count(&mut self.categories, &finding.category, stopped);
        }
        let class = if event.blocked { "blocked" } else { "passed" };
        let cells = line.cells().map(|cell| format!("<td>{}</td>", escape(&cell))).concat();
        self.rows.push_front(format!("<tr class=\"{class}\">{cells}</tr>\n"));
        self.rows.truncate(MAX_ROWS);
    }

    /// The whole page.
    pub(super) fn page(&self) -> String {
        let note = match self.lines {
            0 => "No lines.".to_owned(),
            all => format!("The newest {} of {all}; a CSV or JSONL export has all.", self.rows.len()),
        };
        format!(
            include_str!("report.html"),
            style = include_str!("report.css"),
            lines = self.lines,
            providers = totals(&self.providers),
            categories = totals(&self.categories),
            days = totals(&self.days),
            note = note,
            rows = self.rows.iter().map(String::as_str).collect::<String>(),
        )
    }
}

fn count(totals: &mut Totals, name: &str, stopped: bool) {
    let total = totals.entry(name.to_owned()).or_default();
    total.0 += 1;
    total.1 += u64::from(stopped);
}

/// One row for each name, with a bar as long as its share of the largest.
fn totals(totals: &Totals) -> String {
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
