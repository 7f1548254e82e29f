//! Finds lines in the log. Shows what stands there: whether it is true is for `verify` to say.
//! Must never write, and never stop at a line that cannot be read.

use super::Result;
use super::calendar::{moment, month_file, now};
use super::chain::Point;
use super::event::{Finding, Line, Outcome};
use super::verify;
use crate::home::Home;
use std::collections::BTreeMap;

/// Which lines are wanted; the default wants all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From the line of this number on.
    pub from: u64,
    /// From this moment on; [`super::parse_since`] makes it.
    pub since: Option<String>,
    /// Of this user.
    pub user: Option<String>,
    /// Stopped by policy only.
    pub blocked: bool,
    /// Of this request.
    pub request_id: Option<String>,
    /// With a finding of this reference.
    pub reference: Option<String>,
}

/// Hands every wanted line, the oldest first, to `each`: parsed, and as it stands in the file (no newline).
/// An error of `each` ends the search and is handed on. A home without a log has no lines.
/// Gives how many are not lines of the log: advise `infershield audit verify` when there are any.
pub fn query(home: &Home, filter: &Filter, each: &mut dyn FnMut(&Line, &str) -> Result<()>) -> Result<u64> {
    let mut unreadable = 0;
    // No line stands in a file of an earlier month than its own.
    let month = filter.since.as_deref().and_then(|since| since.get(..7)).unwrap_or_default();
    verify::lines(home, &Point::start(month), &mut |_, text| {
        if verify::is_fragment(text) {
            // A line that is being written, or that a killed writer left.
            return Ok(true);
        }
        let text = String::from_utf8_lossy(text.trim_ascii_end());
        match serde_json::from_str(&text) {
            Ok(line) if filter.wants(&line) => each(&line, &text)?,
            Ok(_) => {}
            Err(_) => unreadable += 1,
        }
        Ok(true)
    })?;
    Ok(unreadable)
}

/// When a request of the user's last used the login at each provider, in seconds since 1970. Reads this month's file only: a log may
/// be long.
pub fn last_used(home: &Home, user: &str) -> Result<BTreeMap<String, u64>> {
    let since = month_file(now()).get(..7).map(str::to_owned);
    let filter = Filter { since, user: Some(user.to_owned()), ..Filter::default() };
    let mut last = BTreeMap::new();
    query(home, &filter, &mut |Line { event, timestamp, .. }, _| {
        // Without a local key it was a client with its own credential, or no request.
        let is_request = event.request_id.is_some() && event.key_id.is_some();
        let is_sent = !matches!(event.outcome, Outcome::Refused | Outcome::Blocked);
        if let Some(provider) = event.provider.clone().filter(|_| is_request && is_sent) {
            last.insert(provider, *timestamp);
        }
        Ok(())
    })?;
    Ok(last)
}

impl Filter {
    fn wants(&self, line: &Line) -> bool {
        let event = &line.event;
        let has_finding = |wanted: &String| event.findings.iter().any(|finding| finding.reference == *wanted);
        self.from <= line.seq
            && self.since.as_deref().unwrap_or_default() <= moment(line.timestamp).as_str()
            && (self.user.is_none() || self.user == event.user_id)
            && (!self.blocked || event.blocked)
            && (self.request_id.is_none() || self.request_id == event.request_id)
            && self.reference.as_ref().is_none_or(has_finding)
    }
}

impl Line {
    /// One line for a person at a terminal: the `Line::cells`. Nothing in it can steer the terminal.
    pub fn summary(&self) -> String {
        let mut text = self.cells().join(" ");
        text.retain(|c| !c.is_control());
        text
    }

    /// What a person wants to see: number, time, who, to whom, what, which model, how it ended, status, score, and what was
    /// done about each finding, with its rule, reference and place.
    pub(super) fn cells(&self) -> [String; 10] {
        let event = &self.event;
        let or_dash = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
        let finding = |Finding { action, rule, reference, location, .. }: &Finding| {
            let place = if location.is_empty() { String::new() } else { format!(" in {location}") };
            format!("{action}:{rule}({reference}{place})")
        };
        [
            self.seq.to_string(),
            moment(self.timestamp),
            or_dash(&event.user_id),
            or_dash(&event.provider),
            event.action.clone(),
            or_dash(&event.model),
            event.outcome.to_string(),
            event.status.to_string(),
            event.risk_score.to_string(),
            event.findings.iter().map(finding).collect::<Vec<String>>().join(" "),
        ]
    }
}
