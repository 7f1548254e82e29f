//! Placeholders in a reply, streamed or whole, become the values that this request hid.
//! Must never put a value where it leads to a host that the request did not name with it, nor hold back text for longer
//! than it takes to tell.

use super::call::{Call, Part, is_command, is_content, parts};
use super::place::{LINE_BYTES, Place, line_hash, neighbours};
use super::{Edit, Hidden, PLACEHOLDER_BYTES, PREFIX, apply, boundary, shell, url};
use crate::api::{self, Kind, in_literal, is_json};
use crate::detect::Category;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

/// Longest text between a placeholder in a URL and the end of the host, in bytes: a name of DNS has 253, a port six.
const AUTHORITY_BYTES: usize = 300;
/// How much of a text is held back, in bytes, where what it says may stop the reply.
const GUARDED_BYTES: usize = 512;
/// Longest call of a tool that is held back for its placeholders, in bytes.
const CALL_BYTES: usize = 4 << 20;

/// How much of what a call says is judged at a time, in bytes: rules look about as far.
const PART_BYTES: usize = 1 << 10;
/// How much of that is judged again with what follows, in bytes: more than any command that sends is long.
const OVERLAP_BYTES: usize = 128;

/// What a client reads in place of what may say anything.
const UNREAD: &str = "[InferShield stopped this reply: no strict JSON, or too long, so that nobody knows what it says]";

/// Restores one reply.
pub(super) struct Restorer<'a> {
    hidden: BTreeMap<&'a str, &'a Hidden>,
    pub(super) guard: Guard<'a>,
    streams: BTreeMap<String, Stream>,
    /// Values that were not restored, for that, by their placeholders.
    pub(super) refused: BTreeMap<&'a str, &'a Hidden>,
    /// Why the reply goes no further, for whoever reads it.
    pub(super) stopped: Option<String>,
    /// The line that was judged last, whether it was whole, and whether it leaks.
    judged: (String, bool, bool),
    /// The tools that are called, each with the beginning of the streams that it is called with.
    pub(super) tools: Vec<(String, String)>,
    /// The text that ended last does so in a URL, and the next may go on with it.
    pub(super) is_open: bool,
    /// Placeholders that may be a part of such a URL, and are nowhere restored.
    split: BTreeSet<&'a str>,
}

/// Says why a text must not go on, which is given behind what stands before it.
pub type Stops<'a> = dyn Fn(Kind, (&str, &str)) -> Option<String> + 'a;

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

impl<'a> Restorer<'a> {
    /// For the values that the request hid.
    pub(super) fn new(hidden: &'a [Hidden], guard: Guard<'a>) -> Self {
        let hidden = hidden.iter().map(|hidden| (hidden.placeholder.as_str(), hidden)).collect();
        Self {
            hidden,
            guard,
            streams: BTreeMap::new(),
            refused: BTreeMap::new(),
            stopped: None,
            judged: Default::default(),
            tools: Vec::new(),
            is_open: false,
            split: BTreeSet::new(),
        }
    }

    /// The next piece of a stream; an empty one for what is still held back of a stream that ends: a text that may be lost.
    pub(super) fn piece(&mut self, stream: &str, kind: Kind, piece: &str, is_last: bool) -> String {
        let is_open = |other: &Stream| is_open(&other.text, other.is_cut);
        let mut begun = self.streams.remove(stream).unwrap_or_else(|| Stream {
            is_cut: kind == Kind::Text && (self.is_open || self.streams.values().any(is_open)),
            ..Stream::default()
        });
        begun.text.push_str(piece);
        let restored = match kind {
            Kind::Text => self.text(&mut begun, is_last),
            _ => self.call(&mut begun, stream, kind, is_last),
        };
        if !is_last {
            self.streams.insert(stream.to_owned(), begun);
        }
        restored
    }

    /// What can go on of a text. What could be the beginning of a placeholder comes with the pieces after it.
    fn text(&mut self, Stream { text, done, is_cut }: &mut Stream, is_last: bool) -> String {
        // With all that is kept of what was handed on: a long token is known by its end, which does not go then. What may be the beginning of one
        // is judged when it is whole.
        let whole = text.rfind(char::is_whitespace).filter(|at| !is_last && text.len() - at < GUARDED_BYTES);
        if self.stops(Kind::Text, ("", text.get(..whole.unwrap_or(text.len())).unwrap_or_default())) {
            return String::new();
        }
        let mut restored = String::new();
        let is_guarded = !is_last && self.guard.stops.is_some();
        while let Some((at, hidden)) =
            self.next(text, *done).filter(|(at, _)| !is_guarded || text.len() - at > GUARDED_BYTES)
        {
            restored.push_str(text.get(*done..at).unwrap_or_default());
            *done = at;
            let place = Place::of(text, at, *is_cut);
            if !is_last && place.around.open && place.behind.len() < AUTHORITY_BYTES {
                return restored;
            }
            restored.push_str(&self.value(hidden, &place, None, false));
            *done += PLACEHOLDER_BYTES;
        }
        if is_last {
            self.is_open |= is_open(text, *is_cut);
            restored.push_str(text.get(*done..).unwrap_or_default());
            return restored;
        }
        let mut end = text.len() - self.begun(text.get(*done..).unwrap_or_default());
        if is_guarded {
            end = boundary(text, end.saturating_sub(GUARDED_BYTES)).max(*done);
        }
        restored.push_str(text.get(*done..end).unwrap_or_default());
        let kept = boundary(text, end.saturating_sub(LINE_BYTES));
        *text = text.split_off(kept);
        *done = end - kept;
        *is_cut |= kept > 0;
        restored
    }

    /// What can go on of a tool call. From the first placeholder on it is held back until the call is whole: only then is it clear
    /// what it does, and a client does nothing with half a call.
    fn call(&mut self, begun: &mut Stream, stream: &str, kind: Kind, is_last: bool) -> String {
        let Stream { text, done, is_cut } = begun;
        *is_cut |= text.len() > CALL_BYTES;
        if is_last && self.stops(Kind::Call, ("", text)) || *is_cut && self.stops_unread() {
            return String::new();
        }
        if is_last {
            let holds = !*is_cut && self.holds(text);
            let mut edits = if holds { self.arguments(stream, text, kind == Kind::Arguments) } else { Vec::new() };
            // What was handed on is as it was.
            edits.retain(|edit| edit.place.start >= *done);
            return edited(text, edits).get(*done..).unwrap_or_default().to_owned();
        }
        if *is_cut {
            text.drain(..take(done));
            return take(text);
        }
        let end = if self.guard.stops.is_some() {
            *done
        } else if let Some((at, _)) = self.next(text, *done) {
            at
        } else {
            text.len() - self.begun(text.get(*done..).unwrap_or_default())
        };
        let handed = text.get(*done..end).unwrap_or_default().to_owned();
        *done = end;
        handed
    }

    /// What changes in a whole text. `is_cut`: it may go on with a URL that began before it; `call`: what it is a part of; `is_run`: a tool
    /// runs it.
    pub(super) fn places(&mut self, text: &str, is_cut: bool, call: Option<&Call>, is_run: bool) -> Vec<Edit> {
        let (mut edits, mut done) = (Vec::new(), 0);
        while let Some((at, hidden)) = self.next(text, done) {
            done = at + PLACEHOLDER_BYTES;
            let value = self.value(hidden, &Place::of(text, at, is_cut), call, is_run);
            edits.push(Edit { place: at..done, text: value });
        }
        edits
    }

    /// How much of the texts that have not ended is kept, in bytes.
    pub(super) fn kept(&self) -> usize {
        self.streams.values().map(|stream| stream.text.len()).sum()
    }

    /// Whether a text holds a placeholder of this request.
    pub(super) fn holds(&self, text: &str) -> bool {
        self.next(text, 0).is_some()
    }

    /// Looks at what a tool is called with in the given stream, or in a part of a reply that begins like one.
    pub(super) fn judge(&self, stream: &str, strings: &[(&str, &str)]) -> Call {
        let tools = self.tools.iter().filter(|(begin, _)| stream.starts_with(begin.as_str()));
        let mut call = Call::of(tools.map(|(_, tool)| tool.as_str()), strings);
        let (says, held) = (&call.says, self.hidden.keys().next().copied().unwrap_or_default());
        let mut parts = (0..says.len()).step_by(PART_BYTES).map(|start| {
            let (start, end) = (boundary(says, start), boundary(says, start + PART_BYTES + OVERLAP_BYTES));
            format!("{} ; {held}", says.get(start..end).unwrap_or_default())
        });
        let leaks = |text: &str| (self.guard.leaks)(Kind::Call, text);
        call.is_leaking = call.is_leaking || leaks(says) || parts.any(|part| leaks(&part));
        call
    }

    /// What changes in all that a tool is called with in the given stream, which holds a placeholder. `is_json`: it is a JSON text, and values are
    /// escaped as its strings are.
    pub(super) fn arguments(&mut self, stream: &str, text: &str, is_json: bool) -> Vec<Edit> {
        let mut call = self.judge(stream, &[("input", text)]);
        // Others may read it, each in its own way.
        call.is_leaking |= is_json && !api::is_json(text);
        if is_json { self.strings(text, &call, None) } else { self.input(text, &call, ("input", None)) }
    }

    /// What changes in a part of what a tool is called with: in which member it stands, and whether that is in what a tool runs, or in
    /// the content of a file, as far as that is known.
    pub(super) fn input(&mut self, text: &str, call: &Call, (member, is_run): (&str, Option<bool>)) -> Vec<Edit> {
        let is_run = is_run.or(match member {
            _ if call.is_patch || is_content(member) && !call.is_run => Some(false),
            _ if call.is_run || is_command(member) => Some(true),
            _ => None,
        });
        if self.holds(text) && is_json(text) {
            self.strings(text, call, is_run)
        } else {
            self.places(text, false, Some(call), is_run == Some(true))
        }
    }

    /// What changes in the strings of a JSON text: nothing but placeholders, however the rest of it is escaped.
    fn strings(&mut self, json: &str, call: &Call, is_run: Option<bool>) -> Vec<Edit> {
        let mut edits = Vec::new();
        for Part { place, name, text } in parts(json) {
            let text = text.unwrap_or_default();
            let inner = self.input(&text, call, (name.as_deref().unwrap_or_default(), is_run));
            let parts: Vec<_> = inner.iter().map(|edit| edit.place.clone()).collect();
            let places = in_literal(json.as_bytes(), place.start, &parts).into_iter();
            edits.extend(places.zip(inner).map(|(place, edit)| Edit { place, text: escaped(edit.text) }));
        }
        edits
    }

    /// The next placeholder of this request, and where it begins.
    fn next(&self, text: &str, from: usize) -> Option<(usize, &'a Hidden)> {
        let rest = text.get(from..)?;
        rest.match_indices(PREFIX).find_map(|(at, _)| {
            let hidden = self.hidden.get(rest.get(at..at + PLACEHOLDER_BYTES)?)?;
            Some((from + at, *hidden))
        })
    }

    /// The value as it is spelled here, if it may stand here; else its placeholder.
    fn value(&mut self, hidden: &'a Hidden, place: &Place<'_>, call: Option<&Call>, is_run: bool) -> String {
        let is_call = call.is_some();
        if place.is_cut {
            self.split.insert(&hidden.placeholder);
        }
        let is_own = |origin: &String| url::is_own(origin, is_call) && !place.is_asked();
        let is_known = !self.split.contains(hidden.placeholder.as_str())
            && place.around.origins.iter().all(|origin| hidden.named.origins.contains(origin) || is_own(origin))
            && (is_call || place.around.beside.iter().all(|lead| is_named(hidden, lead)))
            && call.iter().flat_map(|call| &call.leads).all(|lead| is_named(hidden, lead));
        // Nobody but who holds the value could have written a line with it into the request, and hosts beside it.
        let is_repeated = hidden.named.lines.contains(&line_hash(place.line));
        let is_file = is_call && !is_run;
        // A text repeats what was read as it was read.
        let value = if is_call { spelled(hidden, place.before, !is_run) } else { hidden.value.expose().to_owned() };
        // The forms of personal data hold nothing that a shell would run.
        let stays = !is_run || hidden.category == Category::Pii || shell::stays(place.before, &value, place.behind);
        if is_known
            && stays
            && !call.is_some_and(|call| call.is_leaking)
            && (is_repeated || !self.leaks(place.line, is_call) || is_file && is_said_with(hidden, place.line))
        {
            return value;
        }
        self.refused.insert(&hidden.placeholder, hidden);
        hidden.placeholder.clone()
    }

    /// Whether a text stops the reply; or something did before.
    pub(super) fn stops(&mut self, kind: Kind, said: (&str, &str)) -> bool {
        let why = self.guard.stops.filter(|_| self.stopped.is_none()).and_then(|stops| stops(kind, said));
        self.stopped = self.stopped.take().or(why);
        self.stopped.is_some()
    }

    /// The same for what cannot be read or kept, where a reply may be stopped at all.
    pub(super) fn stops_unread(&mut self) -> bool {
        let why = self.guard.stops.map(|_| UNREAD.to_owned());
        self.stopped = self.stopped.take().or(why);
        self.stopped.is_some()
    }

    /// Whether a line would carry data away; of one that is whole, but for what goes to this machine.
    fn leaks(&mut self, line: &str, is_whole: bool) -> bool {
        if (&*self.judged.0, self.judged.1) != (line, is_whole) {
            let sends = if is_whole { shell::sends(line) } else { line.replace("\\\n", "") };
            self.judged = (line.to_owned(), is_whole, (self.guard.leaks)(Kind::Text, &sends));
        }
        self.judged.2
    }

    /// Bytes at the end of a text that may be the beginning of a placeholder of this request.
    fn begun(&self, text: &str) -> usize {
        let is_beginning = |length: &usize| {
            let end = text.len().checked_sub(*length).and_then(|at| text.get(at..));
            let next = end.and_then(|end| Some((end, self.hidden.range(end..).next()?)));
            next.is_some_and(|(end, (placeholder, _))| placeholder.starts_with(end))
        };
        (1..PLACEHOLDER_BYTES).rev().find(is_beginning).unwrap_or_default()
    }
}

/// A text with the edits made.
pub(super) fn edited(text: &str, edits: Vec<Edit>) -> String {
    String::from_utf8_lossy(&apply(text.as_bytes(), edits)).into_owned()
}

/// A text as it stands in a string of JSON, between the quotes.
pub(super) fn escaped(text: String) -> String {
    let literal = serde_json::Value::String(text).to_string();
    literal.get(1..literal.len() - 1).unwrap_or_default().to_owned()
}

/// A value as it is written behind a text: in a string of JSON or code with the escapes of one, else as what it means. `is_file`: what stands in
/// quotes anywhere is such a string, as it is nowhere for a shell.
fn spelled(hidden: &Hidden, before: &str, is_file: bool) -> String {
    let value = hidden.value.expose().to_owned();
    let quoted = before.strip_suffix('"');
    let is_code = quoted.is_some_and(|text| text.trim_end().ends_with([':', '(', ',', '[']) || text.ends_with("= "));
    match (hidden.is_escaped, is_code || is_file && quoted.is_some()) {
        (true, false) => unnumbered(serde_json::from_str(&format!("\"{value}\"")).unwrap_or(value)),
        // Lines stand in the quotes of files that shells read, and of no others.
        (false, true) if is_code || !value.contains('\n') => escaped(unnumbered(value)),
        (false, _) => unnumbered(value),
        (true, true) => value,
    }
}

/// A value of several lines without the numbers that a tool has put before all but the first.
fn unnumbered(value: String) -> String {
    let plain = |line: &str| {
        let (number, line) = line.trim_start_matches(' ').split_once(['\t', '→', '|', ':'])?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| format!("\n{line}"))
    };
    let Some((first, rest)) = value.split_once('\n') else { return value };
    let rest: Option<String> = rest.split('\n').map(plain).collect();
    rest.map(|rest| format!("{first}{rest}")).unwrap_or(value)
}

/// Whether a text ends in a URL. `is_cut`: what it begins with may be a part of one.
pub(super) fn is_open(text: &str, is_cut: bool) -> bool {
    let goes_on = is_cut && !text.contains(|c: char| c.is_ascii_whitespace());
    goes_on || !url::around(text, text.len()..text.len()).origins.is_empty()
}

/// Whether a line names hosts, and none but those that a line of the request named with the value.
fn is_said_with(hidden: &Hidden, line: &str) -> bool {
    let named = neighbours(line);
    !named.is_empty() && named.iter().all(|lead| hidden.named.neighbours.contains(lead))
}

/// Whether the request held the value in a URL that leads there; a bare name stands for every URL of that host.
fn is_named(hidden: &Hidden, lead: &str) -> bool {
    hidden.named.origins.iter().any(|origin| origin == lead || url::host(origin) == lead)
}
