//! Placeholders in a reply, streamed or whole, become the values that this request hid.
//! Must never put a value where it leads to a host that the request did not name with it, nor hold back text for longer
//! than it takes to tell.

use super::{Hidden, PLACEHOLDER_BYTES, PREFIX, url};
use crate::api::{Kind, literals};
use std::collections::{BTreeMap, BTreeSet};

/// Longest text between a placeholder in a URL and the end of the host, in bytes: a name of DNS has 253, a port six.
const AUTHORITY_BYTES: usize = 300;
/// How much of a line is looked at on either side of a placeholder, in bytes. A longer word may be a URL, and nothing is restored in it.
const LINE_BYTES: usize = 8 << 10;
/// What is looked at begins at a multiple of so many bytes, so that the placeholders of a long line are judged by the same few parts of it.
const STEP_BYTES: usize = 4 << 10;
/// How much of a text is held back, in bytes, where what it says may stop the reply.
const GUARDED_BYTES: usize = 512;
/// Members of a call that hold what is written into a file. It is judged line by line: it may be about commands, and runs none.
pub(super) const CONTENT: [&str; 12] = [
    "content",
    "contents",
    "diff",
    "file_text",
    "insert_text",
    "new_str",
    "new_string",
    "old_str",
    "old_string",
    "patch",
    "replacement",
    "text",
];
/// Longest call of a tool that is held back for its placeholders, in bytes.
const CALL_BYTES: usize = 4 << 20;

/// Restores one reply.
pub(super) struct Restorer<'a> {
    pub(super) hidden: BTreeMap<&'a str, &'a Hidden>,
    guard: Guard<'a>,
    streams: BTreeMap<String, Stream>,
    /// Placeholders that were not restored, for that.
    pub(super) refused: BTreeSet<&'a str>,
    /// Why the reply goes no further, for whoever reads it.
    pub(super) stopped: Option<String>,
    /// The line that was judged last, and whether it leaks.
    judged: (String, bool),
    /// The call that is being restored leaks as a whole.
    is_leaking: bool,
}

/// Says why a text must not go on.
pub type Stops<'a> = dyn Fn(Kind, &str) -> Option<String> + 'a;

/// What a reply is judged by.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    /// Whether a line, or all that a tool is called with, would carry data away.
    pub leaks: &'a dyn Fn(Kind, &str) -> bool,
    /// Where a text may stop the reply.
    pub stops: Option<&'a Stops<'a>>,
}

/// A text that comes in pieces.
#[derive(Default)]
struct Stream {
    /// The line, or the call, as the provider gave it.
    text: String,
    /// How much of it was handed on.
    done: usize,
    /// The beginning of the line, or of the call, was too long to keep.
    is_cut: bool,
}

/// Where a placeholder stands.
struct Place<'t> {
    around: url::Around,
    line: &'t str,
    /// The word that it stands in begins where nobody looks any more.
    is_cut: bool,
}

impl<'t> Place<'t> {
    fn of(text: &'t str, at: usize, is_cut: bool) -> Self {
        let line = text.get(..at).and_then(|before| before.rfind('\n')).map(|at| at + 1);
        let step = at / STEP_BYTES * STEP_BYTES;
        let start = boundary(text, step.saturating_sub(LINE_BYTES)).max(line.unwrap_or_default());
        let end = boundary(text, text.len().min(step + LINE_BYTES + STEP_BYTES));
        let (left, seen) = (text.get(start..at).unwrap_or_default(), text.get(start..end).unwrap_or_default());
        let is_whole = line == Some(start) || start == 0 && !is_cut;
        Self {
            around: url::around(seen, left.len()..left.len() + PLACEHOLDER_BYTES),
            line: seen.lines().next().unwrap_or_default(),
            is_cut: !is_whole && !left.contains(char::is_whitespace),
        }
    }
}

/// The first border of a character from there on.
fn boundary(text: &str, from: usize) -> usize {
    (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

impl<'a> Restorer<'a> {
    /// For the values that the request hid.
    pub(super) fn new(hidden: &'a [Hidden], guard: Guard<'a>) -> Self {
        let hidden = hidden.iter().map(|hidden| (hidden.placeholder.as_str(), hidden)).collect();
        Self {
            hidden,
            guard,
            streams: BTreeMap::new(),
            refused: BTreeSet::new(),
            stopped: None,
            judged: Default::default(),
            is_leaking: false,
        }
    }

    /// The next piece of a text. What could be the beginning of a placeholder comes with the pieces after it.
    pub(super) fn text(&mut self, stream: &str, piece: &str, is_last: bool) -> String {
        let Stream { mut text, mut done, mut is_cut } = self.streams.remove(stream).unwrap_or_default();
        text.push_str(piece);
        if self.stops(Kind::Text, &text) {
            return String::new();
        }
        let mut restored = String::new();
        while let Some((at, hidden)) = self.next(&text, done) {
            restored.push_str(text.get(done..at).unwrap_or_default());
            let place = Place::of(&text, at, is_cut);
            done = at + PLACEHOLDER_BYTES;
            if !is_last && place.around.open && text.len() - done < AUTHORITY_BYTES {
                self.streams.insert(stream.to_owned(), Stream { text, done: at, is_cut });
                return restored;
            }
            restored.push_str(self.value(hidden, &place, &[]));
        }
        if is_last {
            restored.push_str(text.get(done..).unwrap_or_default());
            return restored;
        }
        let mut end = text.len() - self.begun(text.get(done..).unwrap_or_default());
        if self.guard.stops.is_some() {
            end = boundary(&text, end.saturating_sub(GUARDED_BYTES)).max(done);
        }
        restored.push_str(text.get(done..end).unwrap_or_default());
        let line = text.get(..end).and_then(|before| before.rfind('\n')).map(|at| at + 1);
        let kept = boundary(&text, end.saturating_sub(LINE_BYTES)).max(line.unwrap_or_default());
        is_cut = line != Some(kept) && (is_cut || kept > 0);
        let text = text.split_off(kept);
        self.streams.insert(stream.to_owned(), Stream { text, done: end - kept, is_cut });
        restored
    }

    /// The next piece of a tool call. From the first placeholder on it is held back until the call is whole: only then is it clear
    /// what it does, and a client does nothing with half a call. `is_json`: the call is a JSON text, and values are
    /// escaped as its strings are.
    pub(super) fn call(&mut self, stream: &str, piece: &str, is_json: bool, is_last: bool) -> String {
        let mut state = self.streams.remove(stream).unwrap_or_default();
        state.text.push_str(piece);
        let Stream { text, done, is_cut } = &mut state;
        *is_cut |= text.len() > CALL_BYTES;
        if is_last && self.stops(Kind::Call, text) {
            return String::new();
        }
        let whole = match (is_last && !*is_cut, is_json) {
            (true, true) => self.json(text),
            (true, false) => self.input(text, "", &[]),
            (false, _) => None,
        };
        let end = if is_last || *is_cut {
            text.len()
        } else if self.guard.stops.is_some() {
            *done
        } else if let Some((at, _)) = self.next(text, *done) {
            at
        } else {
            text.len() - self.begun(text.get(*done..).unwrap_or_default())
        };
        let handed = match &whole {
            Some(whole) => whole.get(*done..),
            None => text.get(*done..end),
        };
        let handed = handed.unwrap_or_default().to_owned();
        *done = end;
        if *is_cut {
            text.clear();
            *done = 0;
        }
        if !is_last {
            self.streams.insert(stream.to_owned(), state);
        }
        handed
    }

    /// What is still held back of a stream that ends: a text that may be lost.
    pub(super) fn rest(&mut self, stream: &str, is_call: bool, is_json: bool) -> String {
        if is_call { self.call(stream, "", is_json, true) } else { self.text(stream, "", true) }
    }

    /// A whole text; `None` when nothing in it changes. `beside`: where the URLs lead that are given with it.
    pub(super) fn whole(&mut self, text: &str, beside: &[String]) -> Option<String> {
        let (mut restored, mut done) = (String::new(), 0);
        while let Some((at, hidden)) = self.next(text, done) {
            restored.push_str(text.get(done..at).unwrap_or_default());
            restored.push_str(self.value(hidden, &Place::of(text, at, false), beside));
            done = at + PLACEHOLDER_BYTES;
        }
        restored.push_str(text.get(done..).unwrap_or_default());
        (done > 0).then_some(restored)
    }

    /// The same of what a tool is called with. `call`: what else it is called with, as far as that is no content of a file.
    pub(super) fn input(&mut self, text: &str, call: &str, beside: &[String]) -> Option<String> {
        self.next(text, 0)?;
        self.is_leaking = (self.guard.leaks)(Kind::Call, &plain(call));
        let restored = if is_json(text) { self.strings(text, beside) } else { self.whole(text, beside) };
        self.is_leaking = false;
        restored
    }

    /// A call that is a JSON text, with the values in its strings; `None` when nothing in it changes.
    pub(super) fn json(&mut self, text: &str) -> Option<String> {
        self.next(text, 0)?;
        let (mut call, mut name) = (String::new(), String::new());
        for (place, literal) in literals(text) {
            let string = serde_json::from_str::<String>(literal).unwrap_or_default();
            if text.get(place.end..).is_some_and(|rest| rest.trim_start().starts_with(':')) {
                name = string;
            } else if !CONTENT.contains(&name.as_str()) {
                call.push_str(&format!("{name}: {string}\n"));
            }
        }
        self.is_leaking = (self.guard.leaks)(Kind::Arguments, &plain(&call));
        let restored = self.strings(text, &[]);
        self.is_leaking = false;
        restored
    }

    fn strings(&mut self, text: &str, beside: &[String]) -> Option<String> {
        let meaning = |(place, literal)| Some((place, serde_json::from_str::<String>(literal).ok()?));
        let strings: Vec<_> = literals(text).filter_map(meaning).collect();
        let urls = strings.iter().flat_map(|(_, string)| leads_to(string));
        let beside: BTreeSet<String> = beside.iter().cloned().chain(urls).collect();
        let beside = Vec::from_iter(beside);
        let (mut restored, mut done) = (String::new(), 0);
        for (place, string) in strings {
            let inner = if is_json(&string) { self.strings(&string, &beside) } else { self.whole(&string, &beside) };
            if let Some(string) = inner {
                restored.push_str(text.get(done..place.start).unwrap_or_default());
                restored.push_str(&serde_json::Value::String(string).to_string());
                done = place.end;
            }
        }
        restored.push_str(text.get(done..).unwrap_or_default());
        (done > 0).then_some(restored)
    }

    /// The next placeholder of this request, and where it begins.
    fn next(&self, text: &str, from: usize) -> Option<(usize, &'a Hidden)> {
        let rest = text.get(from..)?;
        rest.match_indices(PREFIX).find_map(|(at, _)| {
            let hidden = self.hidden.get(rest.get(at..at + PLACEHOLDER_BYTES)?)?;
            Some((from + at, *hidden))
        })
    }

    /// The value, if it may stand here; else its placeholder.
    fn value(&mut self, hidden: &'a Hidden, place: &Place<'_>, beside: &[String]) -> &'a str {
        let mut leads_to = place.around.origins.iter().chain(beside);
        let is_known = !place.is_cut && leads_to.all(|origin| hidden.origins.contains(origin));
        if is_known && !self.is_leaking && !self.leaks(place.line) {
            return hidden.value.expose();
        }
        self.refused.insert(&hidden.placeholder);
        &hidden.placeholder
    }

    /// Whether a text stops the reply; or something did before.
    pub(super) fn stops(&mut self, kind: Kind, text: &str) -> bool {
        let why = self.guard.stops.filter(|_| self.stopped.is_none()).and_then(|stops| stops(kind, text));
        self.stopped = why.or(self.stopped.take());
        self.stopped.is_some()
    }

    fn leaks(&mut self, line: &str) -> bool {
        if self.judged.0 != line {
            self.judged = (line.to_owned(), (self.guard.leaks)(Kind::Text, line));
        }
        self.judged.1
    }

    /// Bytes at the end of a text that may be the beginning of a placeholder of this request.
    fn begun(&self, text: &str) -> usize {
        let is_beginning = |length: &usize| {
            let end = text.len().checked_sub(*length).and_then(|at| text.get(at..));
            end.is_some_and(|end| self.hidden.keys().any(|placeholder| placeholder.starts_with(end)))
        };
        (1..PLACEHOLDER_BYTES).rev().find(is_beginning).unwrap_or_default()
    }
}

/// Where a text leads that is a URL and nothing else.
pub(super) fn leads_to(text: &str) -> Vec<String> {
    let end = text.len();
    let is_url = text.contains("//") && !text.contains(char::is_whitespace);
    if is_url { url::around(text, end..end).origins } else { Vec::new() }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// What a call says as a shell would read it: one line, without quotes and escapes.
fn plain(call: &str) -> String {
    call.replace(['\n', '\r', ','], " ").replace(['"', '\'', '\\', '[', ']'], "")
}
