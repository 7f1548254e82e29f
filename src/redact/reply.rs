//! A reply goes through here, as a whole or event by event, and comes out with the hidden values in their places.
//! Must never hold back an event that is complete, nor change a byte of what it does not understand.

use super::restore::{self, Guard, Judged, Restorer};
use super::{Edit, Hidden, apply};
use crate::api::{self, Family, Kind};
use std::collections::BTreeMap;
use std::mem::take;
use std::ops::Range;

/// How much of what a reply says is kept to be judged, in bytes.
const SAID_BYTES: usize = 1 << 20;
/// Longest event in which something is put back, in bytes. A longer one passes as it is.
const EVENT_BYTES: usize = 32 << 20;
/// How many texts may come in pieces at the same time; when there are more, nothing of those before is held back.
const OPEN_TEXTS: usize = 1024;

/// Puts the hidden values back into one reply.
pub struct Rewriter<'a> {
    restorer: Restorer<'a>,
    family: Family,
    streamed: bool,
    /// The event, or the reply, that is not complete yet.
    pending: Vec<u8>,
    /// The last event of each text that comes in pieces: with it goes what is left at the end of the text.
    last: BTreeMap<String, Last>,
    /// What the reply says, text by text, with placeholders.
    said: BTreeMap<String, (Kind, String)>,
    room: usize,
}

/// An event and the place of its piece.
struct Last {
    event: Vec<u8>,
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
            room: SAID_BYTES,
        }
    }

    /// The next bytes; gives those that can go.
    pub fn feed(&mut self, bytes: &[u8], is_end: bool) -> Vec<u8> {
        let mut ready = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(line);
            // The line may have come in pieces.
            let mut lines = self.pending.rsplit(|byte| *byte == b'\n');
            let is_complete = lines.next().is_some_and(<[u8]>::is_empty);
            if self.streamed && is_complete && lines.next().is_some_and(|line| line.trim_ascii().is_empty()) {
                self.event(&mut ready);
                if self.is_stopped() {
                    return ready;
                }
            }
        }
        if is_end && !self.streamed {
            let reply = take(&mut self.pending);
            let edits = self.edits(&api::event(&reply), 0);
            match &self.restorer.stopped {
                Some(notice) => ready.extend(api::whole(self.family, notice).to_string().into_bytes()),
                None => ready.extend(apply(&reply, edits)),
            }
        } else if is_end || self.pending.len() > EVENT_BYTES {
            self.flush("", &[], &mut ready);
            ready.append(&mut self.pending);
        }
        ready
    }

    /// Whether the reply was stopped, and ended, before its end.
    pub fn is_stopped(&self) -> bool {
        self.restorer.stopped.is_some()
    }

    /// The values that were left out somewhere, for where they would have led.
    pub fn refused(&self) -> impl Iterator<Item = &'a Hidden> {
        self.restorer.refused.iter().filter_map(|placeholder| self.restorer.hidden.get(placeholder)).copied()
    }

    /// Each text that the reply said so far, as much as is kept of it; with placeholders for what the request hid.
    pub fn said(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.said.values().map(|(kind, text)| (*kind, text.as_str()))
    }

    /// A complete event.
    fn event(&mut self, ready: &mut Vec<u8>) {
        let bytes = take(&mut self.pending);
        let (mut at, mut found) = (0, Vec::new());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let end = at + line.len();
            found.extend(line.strip_prefix(b"data:").map(|data| end - data.len()..end));
            at = end;
        }
        // Data that spreads over lines could not be put back.
        let data = found.pop().filter(|_| found.is_empty()).unwrap_or_default();
        let mut event = api::event(bytes.get(data.clone()).unwrap_or_default());
        let kept: usize = self.last.values().map(|last| last.event.len()).sum();
        if self.last.len() > OPEN_TEXTS || kept > EVENT_BYTES {
            self.flush("", &[], ready);
        }
        // Each piece is kept with its whole event: of a long event with many pieces that would be too much.
        if bytes.len().saturating_mul(event.pieces.len()) > EVENT_BYTES {
            event.ends = Some(String::new());
        }
        let edits = self.edits(&event, data.start);
        let own: Vec<&str> = event.pieces.iter().filter_map(|piece| piece.stream.as_deref()).collect();
        if let Some(ends) = &event.ends {
            self.flush(ends, &own, ready);
        }
        if let Some(notice) = &self.restorer.stopped {
            let open = self.last.keys().filter_map(|stream| stream.split('.').next()?.parse().ok()).max();
            return ready.extend(api::closing(self.family, open, notice).into_bytes());
        }
        ready.extend(apply(&bytes, edits));
        for piece in event.pieces {
            let Some(stream) = piece.stream else { continue };
            if event.ends.as_ref().is_some_and(|ends| stream.starts_with(ends)) {
                self.last.remove(&stream);
            } else {
                let place = data.start + piece.span.start..data.start + piece.span.end;
                self.last.insert(stream, Last { event: bytes.clone(), piece: place, kind: piece.kind });
            }
        }
    }

    /// What to change in an event that begins at `start`.
    fn edits(&mut self, event: &api::Event<'_>, start: usize) -> Vec<Edit> {
        let restorer = &mut self.restorer;
        restorer.tools.extend(event.tools.iter().cloned());
        // Streams end in the order in which they begin.
        restorer.tools.drain(..restorer.tools.len().saturating_sub(OPEN_TEXTS));
        let calls = event.pieces.iter().filter(|piece| piece.kind == Kind::Call && piece.stream.is_none());
        let (mut edits, mut judged) = (Vec::new(), BTreeMap::new());
        // The text before ends in a URL.
        let mut is_open = false;
        for (number, piece) in event.pieces.iter().enumerate() {
            let stream = piece.stream.as_ref().filter(|_| self.streamed);
            // In a stream whole texts repeat what the pieces said.
            let text = if self.streamed { stream.cloned() } else { Some(number.to_string()) };
            if let Some(text) = text.filter(|_| piece.text.len() <= self.room) {
                self.room -= piece.text.len();
                self.said.entry(text).or_insert_with(|| (piece.kind, String::new())).1.push_str(&piece.text);
            }
            let is_last =
                stream.zip(event.ends.as_ref()).is_some_and(|(stream, ends)| stream.starts_with(ends.as_str()));
            if !self.streamed && restorer.stops(piece.kind, &piece.text) {
                break;
            }
            let restored = match (stream, piece.kind) {
                (Some(stream), Kind::Text) => Some(restorer.text(stream, &piece.text, is_last)),
                (Some(stream), kind) => Some(restorer.call(stream, &piece.text, kind == Kind::Arguments, is_last)),
                (None, Kind::Text) => {
                    let is_cut = is_open;
                    is_open = restore::is_open(&piece.text, is_cut);
                    restorer.whole(&piece.text, is_cut, &Judged::default())
                }
                _ if !restorer.holds(&piece.text) => None,
                (None, Kind::Arguments) => restorer.arguments(&piece.about, &piece.text, true),
                (None, Kind::Call) => {
                    let strings = calls.clone().map(|piece| (piece.name.as_str(), &*piece.text));
                    let call = judged.entry(&piece.about).or_insert_with(|| restorer.judge(&piece.about, strings));
                    restorer.input(&piece.text, call)
                }
            };
            if let Some(text) = restored.filter(|restored| **restored != *piece.text) {
                let place = start + piece.span.start..start + piece.span.end;
                edits.push(Edit { place, text: literal(text) });
            }
        }
        edits
    }

    /// Sends what is left of the texts that end; those of the event's `own` pieces go with it.
    fn flush(&mut self, ends: &str, own: &[&str], ready: &mut Vec<u8>) {
        let ending: Vec<String> = self.last.keys().filter(|stream| stream.starts_with(ends)).cloned().collect();
        for stream in ending.iter().filter(|stream| !own.contains(&stream.as_str())) {
            let Some(Last { event, piece, kind }) = self.last.remove(stream) else { continue };
            let rest = self.restorer.rest(stream, kind != Kind::Text, kind == Kind::Arguments);
            if !rest.is_empty() {
                ready.extend(apply(&event, vec![Edit { place: piece, text: literal(rest) }]));
            }
        }
    }
}

/// A string as JSON writes it.
fn literal(text: String) -> String {
    serde_json::Value::String(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(choices: impl Iterator<Item = usize>) -> String {
        let choice = |index| format!("{{\"index\":{index},\"delta\":{{\"content\":\"INFERSHIELD_\"}}}}");
        let choices: Vec<String> = choices.map(choice).collect();
        format!("data: {{\"choices\":[{}]}}\n\n", choices.join(","))
    }

    #[test]
    fn a_reply_of_ever_more_texts_is_not_kept() {
        let guard = Guard { leaks: &|_, _| false, stops: None };
        let mut rewriter = Rewriter::new(&[], guard, Family::Chat, true);
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
