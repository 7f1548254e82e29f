//! A reply goes through here, as a whole or event by event, and comes out with the hidden values in their places.
//! Must never change a byte of what it does not understand, nor hold back an event that is complete, but behind the beginning of a call that may
//! yet stop the reply.

use super::restore::{self, Guard, Restorer, edited, escaped};
use super::{Edit, Hidden, apply};
use crate::api::{self, Family, Kind};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::mem::take;
use std::ops::Range;

/// How much of what a reply says is kept to be judged, in bytes.
const SAID_BYTES: usize = 1 << 20;
/// Longest event in which something is put back, in bytes. A longer one passes as it is.
const EVENT_BYTES: usize = 32 << 20;
/// How many texts may come in pieces at the same time; when there are more, nothing of those before is held back.
const OPEN_TEXTS: usize = 1024;

/// What an event's data may begin with that is no part of it (HTML standard, section 9.2.6).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Where what is left of a piece goes, in an event that is sent again.
const MARK: &str = "\u{fdd0}";

/// Puts the hidden values back into one reply.
pub struct Rewriter<'a> {
    restorer: Restorer<'a>,
    family: Family,
    streamed: bool,
    /// The event, or the reply, that is not complete yet.
    pending: Vec<u8>,
    /// The last event of each text that comes in pieces: with it goes what is left at the end of the text.
    last: BTreeMap<String, Last>,
    /// What the reply says, text by text, with placeholders, each behind what stands before it.
    said: BTreeMap<String, (Kind, String, String)>,
    /// Names those texts of a stream there that came whole.
    key: RandomState,
    room: usize,
    /// What goes on when no call is open that may yet stop the reply.
    held: Vec<u8>,
    /// How the names of the streams begin that belong to such calls.
    calls: BTreeSet<String>,
    /// Of all events so far, and of those that went on.
    seen: Blocks,
    shown: Blocks,
    /// How many tokens prompt and answer had, as far as the reply says; 0 while that is unknown.
    pub tokens: (u64, u64),
    /// The stream's own closing event was seen; of a reply that is no stream: it does not break off inside a value.
    pub ended: bool,
}

/// Which blocks, or items, a client knows of.
#[derive(Clone, Copy, Default)]
struct Blocks {
    /// The number of the next one.
    next: u64,
    /// The one that has not ended.
    open: Option<u64>,
}

/// An event, the place of its data there, and of one piece in the data.
struct Last {
    event: Vec<u8>,
    data: Range<usize>,
    piece: Range<usize>,
    kind: Kind,
}

impl<'a> Rewriter<'a> {
    /// For the values that the request hid. `streamed`: the reply is a stream of server-sent events, else one JSON value.
    pub fn new(hidden: &'a [Hidden], guard: Guard<'a>, family: Family, streamed: bool) -> Self {
        Self {
            restorer: Restorer::new(hidden, guard),
            family,
            streamed,
            pending: Vec::new(),
            last: BTreeMap::new(),
            said: BTreeMap::new(),
            key: RandomState::new(),
            room: SAID_BYTES,
            held: Vec::new(),
            calls: BTreeSet::new(),
            seen: Blocks::default(),
            shown: Blocks::default(),
            tokens: (0, 0),
            ended: false,
        }
    }

    /// The next bytes; gives those that can go.
    pub fn feed(&mut self, bytes: &[u8], is_end: bool) -> Vec<u8> {
        let mut ready = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(line);
            // The line may have come in pieces.
            let mut lines = self.pending.rsplit(|byte| *byte == b'\n').skip(1);
            let is_complete = self.streamed && line.ends_with(b"\n");
            if is_complete && lines.next().is_some_and(|line| line.trim_ascii().is_empty()) {
                self.event(false, &mut ready);
                if self.is_stopped() {
                    return ready;
                }
            }
        }
        if is_end && !self.streamed {
            let reply = take(&mut self.pending);
            let json = reply.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&reply);
            // Several values may follow each other.
            let last = serde_json::Deserializer::from_slice(json).into_iter::<IgnoredAny>().last();
            self.ended |= last.is_some_and(|value| !value.is_err_and(|error| error.is_eof()));
            let event = api::event(self.family, json);
            self.count(&event);
            let edits = self.edits(&event, reply.len() - json.len());
            let made = if self.is_stopped() { Vec::new() } else { apply(&reply, edits) };
            self.send(made, &mut ready);
        } else if is_end {
            // Clients differ in what they make of an event without the empty line behind it.
            self.event(true, &mut ready);
        } else if self.pending.len() > EVENT_BYTES {
            // Whether the rest of a whole reply is whole can no more be told.
            self.ended |= !self.streamed;
            if self.restorer.stops_unread() {
                self.send(Vec::new(), &mut ready);
            } else {
                self.flush(|_, _| true, &mut ready);
                ready.append(&mut self.pending);
            }
        }
        ready
    }

    /// Whether the reply was stopped, and ended, before its end.
    pub fn is_stopped(&self) -> bool {
        self.restorer.stopped.is_some()
    }

    /// The values that were left out somewhere, for where they would have led.
    pub fn refused(&self) -> impl Iterator<Item = &'a Hidden> {
        self.restorer.refused.values().copied()
    }

    /// Each text that the reply said so far, once, behind what stands before it, as much as is kept; with placeholders for what the request
    /// hid.
    pub fn said(&self) -> impl Iterator<Item = (Kind, (&str, &str))> {
        let said = self.said.values();
        let said = said.map(|(kind, before, text)| ((*kind == Kind::Text, before.as_str(), text.as_str()), *kind));
        let once: BTreeMap<_, _> = said.collect();
        once.into_iter().map(|((_, before, text), kind)| (kind, (before, text)))
    }

    /// A complete event, or whatever stands at the end of the stream, where all texts end.
    fn event(&mut self, is_end: bool, ready: &mut Vec<u8>) {
        let mut made = Vec::new();
        // What says nothing only shows that the provider is still there.
        let is_silent = self.read(is_end, &mut made);
        if is_silent { ready.append(&mut made) } else { self.send(made, ready) }
    }

    /// Hands on what was made of an event, when no call is open: a client that is shown the beginning of one which then stops the reply
    /// would send that with its history.
    fn send(&mut self, mut made: Vec<u8>, ready: &mut Vec<u8>) {
        if self.held.len() > EVENT_BYTES {
            self.restorer.stops_unread();
        }
        if self.is_stopped() {
            if self.held.is_empty() {
                ready.append(&mut made);
            }
            return self.close(ready);
        }
        self.held.append(&mut made);
        if self.calls.is_empty() {
            ready.append(&mut self.held);
            self.shown = self.seen;
        }
    }

    /// Reads an event, and makes what is to go on. True where that says nothing.
    fn read(&mut self, is_end: bool, ready: &mut Vec<u8>) -> bool {
        let bytes = take(&mut self.pending);
        let (mut at, mut found, mut is_closing) = (0, Vec::new(), false);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
            // What cannot be read may say so by its name.
            is_closing |= line.strip_prefix(b"event:").is_some_and(|name| api::closes(self.family, name.trim_ascii()));
            if let Some(data) = line.strip_prefix(b"data:") {
                let start = at - data.len();
                found.push(start..start + data.trim_ascii_end().len());
            }
        }
        // Data that spreads over lines could not be put back.
        let is_spread = found.len() > 1;
        let data = found.pop().filter(|_| !is_spread).unwrap_or_default();
        let mut event = api::event(self.family, bytes.get(data.clone()).unwrap_or_default());
        event.is_unread |= is_spread;
        self.count(&event);
        self.ended |= (is_closing || event.is_closing) && !is_end;
        let own: Vec<&str> = event.pieces.iter().filter_map(|piece| piece.stream.as_deref()).collect();
        // Each piece is kept with its whole event: of many, or of a long event with many pieces, that would be too much.
        let kept: usize = self.last.values().map(|last| last.event.len()).sum();
        let kept = kept + self.restorer.kept();
        let is_much = self.last.len() > OPEN_TEXTS || kept.max(bytes.len().saturating_mul(own.len())) > EVENT_BYTES;
        if is_much && self.restorer.stops_unread() {
            return false;
        }
        if is_end || is_much {
            event.ends = Some(String::new());
        }
        // Before the event is judged, which may repeat what ends with it. What is left of its own texts goes with it.
        if let Some(ends) = &event.ends {
            self.flush(|stream, _| stream.starts_with(ends) && !own.contains(&stream), ready);
        }
        let edits = self.edits(&event, data.start);
        if self.is_stopped() {
            return false;
        }
        self.note(&event);
        if event.is_unread {
            // What was said before it must not come behind it.
            self.flush(|_, last| last.kind == Kind::Text, ready);
        }
        let is_silent = ready.is_empty() && event.pieces.is_empty() && event.tools.is_empty() && event.ends.is_none();
        ready.extend(apply(&bytes, edits));
        for piece in event.pieces {
            let Some(stream) = piece.stream else { continue };
            if event.ends.as_ref().is_some_and(|ends| stream.starts_with(ends)) {
                self.last.remove(&stream);
            } else {
                let last = Last { event: bytes.clone(), data: data.clone(), piece: piece.span, kind: piece.kind };
                self.last.insert(stream, last);
            }
        }
        is_silent
    }

    /// Keeps the most of each, because some events repeat the sums so far.
    fn count(&mut self, event: &api::Event<'_>) {
        let (prompt, answer) = self.tokens;
        self.tokens = (prompt.max(event.tokens.0), answer.max(event.tokens.1));
    }

    /// Notes which calls and which blocks have begun and ended.
    fn note(&mut self, event: &api::Event<'_>) {
        let calls = event.tools.iter().map(|(stream, _)| stream);
        if self.restorer.guard.stops.is_some() {
            self.calls.extend(calls.clone().filter(|stream| !stream.is_empty()).cloned());
        }
        let streams = event.pieces.iter().map(|piece| &piece.about).chain(calls).chain([&event.about]);
        if let Some(number) = streams.filter_map(|stream| stream.split('.').next()?.parse::<u64>().ok()).max() {
            let next = self.seen.next.max(number.saturating_add(1));
            self.seen = Blocks { next, open: Some(number) };
        }
        if let Some(ends) = &event.ends {
            self.calls.retain(|stream| !stream.starts_with(ends));
            self.seen.open = None;
        }
    }

    /// Ends a reply that is stopped.
    fn close(&self, ready: &mut Vec<u8>) {
        let Self { family, streamed, shown: Blocks { next, open }, .. } = *self;
        let why = self.restorer.stopped.as_deref().unwrap_or_default();
        let end = if streamed { api::closing(family, next, open, why) } else { api::whole(family, why) };
        ready.extend(end.into_bytes());
    }

    /// What to change in an event that begins at `start`.
    fn edits(&mut self, event: &api::Event<'_>, start: usize) -> Vec<Edit> {
        let restorer = &mut self.restorer;
        if event.is_unread && restorer.stops_unread() {
            return Vec::new();
        }
        // Streams end in the order in which they begin.
        restorer.tools.drain(..restorer.tools.len().saturating_sub(OPEN_TEXTS));
        restorer.tools.extend(event.tools.iter().cloned());
        let calls = event.pieces.iter().filter(|piece| piece.kind == Kind::Call && piece.stream.is_none());
        let (mut edits, mut judged) = (Vec::new(), BTreeMap::new());
        // The text before ends in a URL.
        let (mut is_open, mut is_begun) = (false, false);
        for (number, piece) in event.pieces.iter().enumerate() {
            let stream = piece.stream.as_ref().filter(|_| self.streamed);
            let text = match stream {
                Some(stream) => stream.clone(),
                // In a stream several events repeat what was said; some say what came in no pieces.
                None if self.streamed => {
                    let is_text = piece.kind == Kind::Text;
                    format!("={:x}", self.key.hash_one((is_text, piece.before, &piece.text)))
                }
                None => number.to_string(),
            };
            let is_new = piece.is_said && (stream.is_some() || !self.said.contains_key(&text));
            let bytes = piece.before.len() + piece.text.len();
            if is_new && bytes <= self.room {
                self.room -= bytes;
                let begun = || (piece.kind, piece.before.to_string(), String::new());
                self.said.entry(text).or_insert_with(begun).2.push_str(&piece.text);
            }
            let is_last = stream.is_some_and(|stream| event.ends.as_ref().is_some_and(|ends| stream.starts_with(ends)));
            if is_new && stream.is_none() && restorer.stops(piece.kind, (piece.before, &piece.text)) {
                break;
            }
            if piece.span.is_empty() {
                continue;
            }
            let changes = match (stream, piece.kind) {
                (Some(stream), kind) => {
                    let restored = restorer.piece(stream, kind, &piece.text, is_last);
                    vec![Edit { place: 0..piece.text.len(), text: restored }]
                }
                (None, Kind::Text) => {
                    let is_cut = is_open;
                    // Titles and thoughts may stand between two texts that a client joins.
                    is_open |= restore::is_open(&piece.text, is_cut);
                    // What a client shows before the pieces that follow.
                    if ["content", "text"].contains(&piece.name.as_str()) {
                        is_begun = is_open;
                    }
                    restorer.places(&piece.text, is_cut, None, false)
                }
                _ if !restorer.holds(&piece.text) => Vec::new(),
                (None, Kind::Arguments) => restorer.arguments(&piece.about, &piece.text, true),
                (None, Kind::Call) => {
                    let call = judged.entry(&piece.about).or_insert_with(|| {
                        let strings = calls.clone().filter(|other| other.about == piece.about);
                        let strings: Vec<_> = strings.map(|piece| (piece.name.as_str(), &*piece.text)).collect();
                        restorer.judge(&piece.about, &strings)
                    });
                    restorer.input(&piece.text, call, (&piece.name, None))
                }
            };
            let restored = edited(&piece.text, changes);
            if restored != piece.text {
                let place = start + piece.span.start + 1..start + piece.span.end - 1;
                edits.push(Edit { place, text: escaped(restored) });
            }
        }
        restorer.is_open |= is_begun && self.streamed;
        edits
    }

    /// Sends what is left of the texts that end.
    fn flush(&mut self, ends: impl Fn(&str, &Last) -> bool, ready: &mut Vec<u8>) {
        let ending = self.last.iter().filter(|(stream, last)| ends(stream, last));
        let ending: Vec<String> = ending.map(|(stream, _)| stream.clone()).collect();
        for stream in ending {
            let Some(last) = self.last.remove(&stream) else { continue };
            let rest = self.restorer.piece(&stream, last.kind, "", true);
            if !rest.is_empty() {
                ready.extend(alone(last, rest));
            }
        }
    }
}

/// An event once more, with `rest` for one of its pieces and nothing else that a client adds to what it has: no other text, and
/// no id and name of a call a second time.
fn alone(last: Last, rest: String) -> Vec<u8> {
    let Last { event, data, piece, .. } = last;
    let marked = Edit { place: piece.start + 1..piece.end - 1, text: MARK.to_owned() };
    let marked = apply(event.get(data.clone()).unwrap_or_default(), vec![marked]);
    let mut value = serde_json::from_slice(&marked).unwrap_or_default();
    leave(&mut value, false, &rest);
    apply(&event, vec![Edit { place: data, text: format!(" {value}") }])
}

/// Puts `rest` in the marked place, and leaves out the lists and objects that do not hold it, of a `delta` also what it says
/// besides. True where it does hold it.
fn leave(value: &mut Value, is_delta: bool, rest: &str) -> bool {
    match value {
        Value::String(text) if text == MARK => {
            rest.clone_into(text);
            true
        }
        Value::Array(items) => {
            items.retain_mut(|item| leave(item, is_delta, rest));
            !items.is_empty()
        }
        Value::Object(members) => {
            let mut is_here = false;
            members.retain(|name, member| {
                let holds = leave(member, is_delta || name == "delta", rest);
                is_here |= holds;
                let is_said = is_delta && member.is_string() && name != "type";
                holds || !is_said && !member.is_array() && !member.is_object()
            });
            is_here
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Action, Category, Finding, Severity};
    use crate::redact::Redaction;
    use crate::secret::Key;

    const CHAT: &str = ": hello\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"é [DONE]\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\nid: 7\ndata: [DONE]\n\n";
    const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        event: response.completed\n\
        data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":5}}}\n\n";
    const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
        {\"input_tokens\":12,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    fn rewriter<'a>(family: Family, streamed: bool) -> Rewriter<'a> {
        Rewriter::new(&[], Guard { leaks: &|_, _| false, stops: None }, family, streamed)
    }

    #[test]
    fn a_stream_tells_its_tokens_and_its_end_however_it_is_split() {
        for (family, stream, tokens) in [
            (Family::Chat, CHAT, (9, 1)),
            (Family::Responses, RESPONSES, (12, 5)),
            (Family::Messages, MESSAGES, (112, 15)),
        ] {
            for stream in [stream.to_owned(), stream.replace('\n', "\r\n"), format!("\u{feff}{stream}")] {
                for length in 1..60 {
                    let mut rewriter = rewriter(family, true);
                    stream.as_bytes().chunks(length).for_each(|piece| drop(rewriter.feed(piece, false)));
                    assert_eq!((rewriter.tokens, rewriter.ended), (tokens, true), "{length} of {stream}");
                }
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_has_not_ended() {
        for (family, stream) in [(Family::Chat, CHAT), (Family::Responses, RESPONSES), (Family::Messages, MESSAGES)] {
            for length in 0..stream.len() {
                let mut rewriter = rewriter(family, true);
                rewriter.feed(&stream.as_bytes()[..length], false);
                rewriter.feed(b"", true);
                assert!(!rewriter.ended, "{length} of {stream}");
            }
        }
    }

    #[test]
    fn an_event_that_cannot_be_read_ends_a_stream_by_its_name() {
        for data in ["{\"a\":1,\"a\":2}", "{\"a\":\"\\ud83d\"}", "{\"a\":\ndata: 1}", "{}"] {
            let mut rewriter = rewriter(Family::Responses, true);
            rewriter.feed(format!("event: response.created\ndata: {data}\n\n").as_bytes(), false);
            assert!(!rewriter.ended);
            rewriter.feed(format!("event: response.completed\r\ndata: {data}\r\n\r\n").as_bytes(), false);
            assert!(rewriter.ended, "{data}");
        }
    }

    #[test]
    fn a_whole_reply_has_ended_unless_it_breaks_off_inside_a_value() {
        for (reply, ended) in [
            ("{\"a\":1}\n", true),
            ("\u{feff}{\"a\":1}", true),
            ("{\"a\":1}{\"a\":2}", true),
            ("no JSON", true),
            ("{\"a\":1,\"a\":2}", true),
            ("", false),
            ("\u{feff}{\"a\":", false),
            ("{\"a\":1}{\"a\":", false),
            ("{\"a\":1,\"a\":", false),
            ("{\"a\":\"\\ud83d\",\"b\":", false),
        ] {
            let mut rewriter = rewriter(Family::Chat, false);
            reply.as_bytes().chunks(3).for_each(|piece| assert!(rewriter.feed(piece, false).is_empty()));
            assert_eq!(rewriter.feed(b"", true), reply.as_bytes());
            assert_eq!(rewriter.ended, ended, "{reply}");
        }
    }

    #[test]
    fn a_mark_before_a_whole_reply_moves_no_value() {
        let mut redaction = Redaction::default();
        let (category, severity, action) = (Category::Secret, Severity::High, Action::Redact);
        let found = Finding { rule: "secret.x".to_owned(), category, severity, action, start: 0, end: 7, weight: 0 };
        redaction.hide(&Key::new([7; 32]), "user", &found, (0, "alpha-7"), "ref");
        let guard = Guard { leaks: &|_, _| false, stops: None };
        let mut rewriter = Rewriter::new(&redaction.hidden, guard, Family::Chat, false);
        let placeholder = &redaction.hidden[0].placeholder;
        let reply = format!("\u{feff}{{\"choices\":[{{\"message\":{{\"content\":\"It is {placeholder}.\"}}}}]}}");
        rewriter.feed(reply.as_bytes(), false);
        assert_eq!(rewriter.feed(b"", true), reply.replace(placeholder, "alpha-7").as_bytes());
    }

    #[test]
    fn what_is_too_long_is_not_kept_and_does_not_tell_where_it_ends() {
        let long = vec![b'x'; EVENT_BYTES / 4];
        for streamed in [true, false] {
            let mut rewriter = rewriter(Family::Responses, streamed);
            rewriter.feed(b"data: \"", false);
            for _ in 0..5 {
                rewriter.feed(&long, false);
                assert!(rewriter.pending.len() <= EVENT_BYTES);
            }
            assert_eq!(rewriter.ended, !streamed);
            let rest = if streamed { format!("\"\n\n{RESPONSES}") } else { "\",\"".to_owned() };
            rewriter.feed(rest.as_bytes(), false);
            rewriter.feed(b"", true);
            assert!(rewriter.ended);
            assert_eq!(rewriter.tokens, if streamed { (12, 5) } else { (0, 0) });
        }
    }

    fn chunk(choices: impl Iterator<Item = usize>) -> String {
        let choice = |index| format!("{{\"index\":{index},\"delta\":{{\"content\":\"INFERSHIELD_\"}}}}");
        let choices: Vec<String> = choices.map(choice).collect();
        format!("data: {{\"choices\":[{}]}}\n\n", choices.join(","))
    }

    #[test]
    fn a_reply_of_ever_more_texts_is_not_kept() {
        let mut rewriter = rewriter(Family::Chat, true);
        for index in 0..OPEN_TEXTS * 3 {
            let event = chunk(index..index + 1);
            assert_eq!(rewriter.feed(event.as_bytes(), false), event.as_bytes());
            assert!(rewriter.last.len() <= OPEN_TEXTS + 1);
        }
        let event = chunk(0..OPEN_TEXTS * 3);
        assert_eq!(rewriter.feed(event.as_bytes(), false), event.as_bytes());
        let kept: usize = rewriter.last.values().map(|last| last.event.len()).sum();
        assert!(kept <= EVENT_BYTES, "{kept}");
    }
}
