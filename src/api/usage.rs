//! How many tokens a reply says it cost, and whether a stream came to its own end. Looks at bytes as they pass by.
//! Must never hold them back, fail on what it does not understand, or keep more than its limits.

use super::Family;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::mem::take;

/// Longest event that is looked at, in bytes. The closing event of the Responses API repeats instructions, tools and
/// the whole answer. A longer one passes uncounted; its end is still seen by its `event:` line, which comes first.
const MAX_EVENT: usize = 1 << 20;
/// Largest whole reply that is looked at, in bytes. A larger one passes uncounted.
const MAX_REPLY: usize = 8 << 20;

/// Looks at one reply.
#[derive(Debug)]
pub struct Observer {
    /// Tokens of the prompt, those from a cache included; 0 while unknown.
    pub tokens_in: u64,
    /// Tokens of the answer; 0 while unknown.
    pub tokens_out: u64,
    /// True when the stream's own closing event was seen; for a reply that is JSON, unless it breaks off inside a value.
    pub ended: bool,
    family: Family,
    stream: bool,
    /// The event that is not complete yet, or the whole reply; of one that is too long, its beginning.
    pending: Vec<u8>,
    /// The line of the stream that is not complete yet holds nothing so far.
    blank: bool,
}

impl Observer {
    /// For a stream of server-sent events, or for a reply that is one JSON value; that is counted by [`Observer::finish`].
    pub fn new(family: Family, stream: bool) -> Self {
        Self { tokens_in: 0, tokens_out: 0, ended: false, family, stream, pending: Vec::new(), blank: true }
    }

    /// The next bytes, split anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while self.stream
            && let Some(end) = memchr::memchr(b'\n', bytes)
        {
            let (line, rest) = bytes.split_at(end + 1);
            self.keep(line);
            if self.blank {
                self.event();
            }
            self.blank = true;
            bytes = rest;
        }
        self.keep(bytes);
    }

    /// No more bytes follow. A stream needs no such call: an event without its empty line does not count.
    pub fn finish(&mut self) {
        if !self.stream {
            let reply = take(&mut self.pending);
            let json = without_bom(&reply);
            // Several values may follow each other; what is no JSON, or too long to be looked at, does not tell where it ends.
            let last = serde_json::Deserializer::from_slice(json).into_iter::<IgnoredAny>().last();
            let is_cut = last.is_none_or(|value| value.is_err_and(|error| error.is_eof()));
            self.ended = !is_cut || reply.len() == MAX_REPLY;
            self.count(json);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let limit = if self.stream { MAX_EVENT } else { MAX_REPLY };
        let room = limit.saturating_sub(self.pending.len());
        self.pending.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.blank &= bytes.iter().all(|byte| b"\r\n".contains(byte));
    }

    /// A complete event (WHATWG HTML section 9.2.6, without lines that end in a lone carriage return).
    fn event(&mut self) {
        let event = take(&mut self.pending);
        let mut name = Vec::new();
        let mut data = Vec::new();
        for line in without_bom(&event).split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let value = |rest: &[u8]| rest.strip_prefix(b" ").unwrap_or(rest).to_vec();
            if let Some(rest) = line.strip_prefix(b"event:") {
                name = value(rest);
            } else if let Some(rest) = line.strip_prefix(b"data:") {
                data.push(value(rest));
            }
        }
        let data = data.join(&b'\n');
        let kind = self.count(&data).map_or(name, String::into_bytes);
        self.ended |= match self.family {
            Family::Messages | Family::CountTokens => kind == b"message_stop",
            Family::Responses => matches!(&*kind, b"response.completed" | b"response.incomplete" | b"response.failed"),
            _ => data == b"[DONE]",
        };
    }

    /// Takes the numbers out of a reply or an event, and tells its `type`.
    fn count(&mut self, json: &[u8]) -> Option<String> {
        let reply: Reply = serde_json::from_slice(json).ok()?;
        let nested = [reply.response, reply.message].into_iter().flatten();
        for usage in nested.filter_map(|inner| inner.usage).chain(reply.usage) {
            let prompt = usage.prompt_tokens.or(usage.input_tokens);
            let parts = [prompt, usage.cache_creation_input_tokens, usage.cache_read_input_tokens];
            let answer = usage.completion_tokens.or(usage.output_tokens);
            // Each event of Anthropic repeats the sums so far.
            self.tokens_in = self.tokens_in.max(parts.into_iter().flatten().fold(0, u64::saturating_add));
            self.tokens_out = self.tokens_out.max(answer.unwrap_or(0));
        }
        reply.kind
    }
}

/// A mark at the beginning says UTF-8, as everything here is.
fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// The few members of replies and events that matter here; absent in most. What is nested has the same ones.
#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "type")]
    kind: Option<String>,
    usage: Option<Usage>,
    response: Option<Box<Reply>>,
    message: Option<Box<Reply>>,
}

/// Names of Chat, Completions and Embeddings; of Responses and Messages; of Messages.
#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{Dice, recorded};
    use serde_json::json;

    fn observe(family: Family, stream: &[u8]) -> (u64, u64, bool) {
        let mut observer = Observer::new(family, true);
        observer.feed(stream);
        observer.finish();
        (observer.tokens_in, observer.tokens_out, observer.ended)
    }

    const CHAT: &str = ": hello\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"é [DONE]\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\nid: 7\ndata: [DONE]\n\n";
    const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        event: response.completed\n\
        data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":5}}}\n\n";
    const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
        {\"input_tokens\":12,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    #[test]
    fn a_stream_tells_its_tokens_and_its_end_however_it_is_split() {
        let cases = [
            (Family::Chat, CHAT, (9, 1, true)),
            (Family::Responses, RESPONSES, (12, 5, true)),
            (Family::Messages, MESSAGES, (112, 15, true)),
        ];
        let mut dice = Dice::new(3);
        for (family, stream, expected) in cases {
            for stream in [stream.to_owned(), stream.replace('\n', "\r\n")] {
                for _ in 0..200 {
                    let mut observer = Observer::new(family, true);
                    let mut rest = stream.as_bytes();
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(1 + dice.below(rest.len().min(40)));
                        observer.feed(piece);
                        rest = after;
                    }
                    let seen = (observer.tokens_in, observer.tokens_out, observer.ended);
                    assert_eq!(seen, expected, "{stream}");
                }
            }
        }
    }

    #[test]
    fn a_stream_that_breaks_off_has_not_ended() {
        for (family, stream) in [(Family::Chat, CHAT), (Family::Responses, RESPONSES), (Family::Messages, MESSAGES)] {
            for length in 0..stream.len() {
                assert!(!observe(family, &stream.as_bytes()[..length]).2, "{length} of {stream}");
            }
        }
    }

    #[test]
    fn only_the_closing_event_of_its_own_api_ends_a_stream() {
        let done = b"data: [DONE]\n\n";
        assert!(observe(Family::Completions, done).2);
        assert!(!observe(Family::Messages, done).2 && !observe(Family::Responses, done).2);
        for name in ["response.incomplete", "response.failed"] {
            assert!(observe(Family::Responses, format!("data: {{\"type\":\"{name}\"}}\n\n").as_bytes()).2);
        }
        assert!(!observe(Family::Responses, b"event: error\ndata: {\"type\":\"error\",\"message\":\"x\"}\n\n").2);
    }

    #[test]
    fn an_overlong_event_is_skipped_without_being_kept() {
        let mut observer = Observer::new(Family::Responses, true);
        observer.feed(b"event: response.completed\ndata: \"");
        for _ in 0..40 {
            observer.feed(&[b'x'; 1 << 16]);
            assert!(observer.pending.capacity() <= 2 * MAX_EVENT);
        }
        observer.feed(b"\"\n\n");
        assert!(observer.ended);
        for _ in 0..40 {
            observer.feed(&[b"data:", [b'x'; 1 << 16].as_slice(), b"\n"].concat());
        }
        assert!(observer.pending.len() <= MAX_EVENT);
        observer.feed(format!("\n{RESPONSES}").as_bytes());
        assert_eq!((observer.tokens_in, observer.tokens_out), (12, 5));
    }

    #[test]
    fn random_bytes_harm_nothing() {
        let mut dice = Dice::new(4);
        for _ in 0..2000 {
            let mut stream = MESSAGES.as_bytes().to_vec();
            for _ in 0..dice.below(8) {
                let at = dice.below(stream.len());
                stream[at] = dice.below(256) as u8;
            }
            let (whole, mut pieces) = (observe(Family::Messages, &stream), Observer::new(Family::Messages, true));
            stream.iter().for_each(|byte| pieces.feed(&[*byte]));
            assert_eq!((pieces.tokens_in, pieces.tokens_out, pieces.ended), whole);
        }
    }

    #[test]
    fn a_whole_reply_is_counted_when_it_is_complete() {
        for (usage, expected) in [
            (json!({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}), (9, 1)),
            (
                json!({"input_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": null, "output_tokens": 2}),
                (7, 2),
            ),
            (json!({"prompt_tokens": u64::MAX, "cache_read_input_tokens": 1}), (u64::MAX, 0)),
            (json!({"prompt_tokens": -1}), (0, 0)),
            (json!(null), (0, 0)),
        ] {
            let reply = json!({"id": "x", "choices": [{"message": {"content": "\n\n"}}], "usage": usage}).to_string();
            let mut observer = Observer::new(Family::Chat, false);
            reply.as_bytes().chunks(7).for_each(|piece| observer.feed(piece));
            assert_eq!((observer.tokens_in, observer.tokens_out), (0, 0));
            observer.finish();
            assert_eq!((observer.tokens_in, observer.tokens_out), expected, "{reply}");
        }
    }

    #[test]
    fn a_whole_reply_over_the_limit_passes_uncounted() {
        let mut observer = Observer::new(Family::Chat, false);
        observer.feed(&vec![b' '; MAX_REPLY]);
        observer.feed(br#"{"usage":{"prompt_tokens":1}}"#);
        assert_eq!(observer.pending.len(), MAX_REPLY);
        observer.finish();
        assert_eq!(observer.tokens_in, 0);
    }

    #[test]
    fn recorded_streams_end_and_recorded_replies_are_counted() {
        for (family, exchange) in recorded() {
            let reply = &exchange["reply"];
            if let Some(events) = reply["events"].as_array() {
                let mut stream = String::new();
                for event in events {
                    if let Some(name) = event["event"].as_str() {
                        stream += &format!("event: {name}\n");
                    }
                    let data = event["data"].as_str().map_or(event["data"].to_string(), str::to_owned);
                    stream += &format!("data: {data}\n\n");
                }
                let (tokens_in, tokens_out, ended) = observe(family, stream.as_bytes());
                assert!(ended, "{stream}");
                assert_eq!((tokens_in, tokens_out) > (0, 0), stream.contains("_tokens\":"), "{stream}");
            } else if !matches!(family, Family::Models | Family::CountTokens) {
                let mut observer = Observer::new(family, false);
                observer.feed(reply["body"].to_string().as_bytes());
                observer.finish();
                assert!(observer.tokens_in > 0, "{reply}");
            }
        }
    }
}
