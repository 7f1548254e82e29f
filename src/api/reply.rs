//! Where text lives in a reply and in an event of a stream, which pieces belong together, how many tokens it counts, and what closes a stream.
//! Must never change a byte of what it reads, nor fail on what it does not know: that has no pieces.

use super::Family;
use super::extract::is_fixed;
use super::json::{self, Members, Node, Text, text_of};
use std::borrow::Cow;
use std::ops::Range;

/// Members that number what an event is about.
const NUMBERS: [&str; 5] = ["index", "output_index", "content_index", "summary_index", "command_index"];

/// Longest name of a member that says something about its value, in bytes: each item of a list carries it.
pub const NAME_BYTES: usize = 256;

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody reads it.
    Text,
    /// A tool is called with it.
    Call,
    /// A tool is called with it, and it is JSON itself.
    Arguments,
}

/// Members of a response that repeat those of its request.
const ECHOED: [&str; 4] = ["instructions", "metadata", "prompt", "tools"];
/// Members of a call that the provider makes itself, in which it says what came of it.
const RESULTS: [&str; 3] = ["output", "outputs", "results"];

/// One string of a reply or an event.
#[derive(Debug)]
pub struct Piece<'a> {
    /// What it says.
    pub text: Cow<'a, str>,
    /// What stands before it in what a tool is called with, as in [`super::Segment::before`].
    pub before: &'a str,
    /// Its literal, quotes included; empty for what several pieces say together.
    pub span: Range<usize>,
    /// What becomes of it.
    pub kind: Kind,
    /// The member that it is the value of, or an item of.
    pub name: String,
    /// How the names of the streams begin that belong to it.
    pub about: String,
    /// For a piece of a longer text, which one; it begins with the numbers of [`Event::ends`]. `None` for a whole text.
    pub stream: Option<String>,
    /// The model says it: it is not empty, repeats nothing of the client's own request, is no result of a call that the provider made, and no number
    /// or padding beside a piece.
    pub is_said: bool,
}

/// What an event, or a reply that is no stream, holds.
#[derive(Debug, Default)]
pub struct Event<'a> {
    /// The numbers of what it is about, as the names of its streams begin.
    pub about: String,
    /// Its strings, but for ids, names and what is sealed.
    pub pieces: Vec<Piece<'a>>,
    /// How the names of streams begin that are what a tool is called with, and that tool.
    pub tools: Vec<(String, String)>,
    /// The streams that end with it begin so; an empty text ends all. `None`: no stream ends.
    pub ends: Option<String>,
    /// It is no strict JSON: what a client makes of it nobody knows.
    pub is_unread: bool,
    /// By its type a stream of its API comes to its own end with it.
    pub is_closing: bool,
    /// How many tokens prompt and answer had, as it says; 0 where it does not. What came from a cache is in the prompt.
    pub tokens: (u64, u64),
}

/// Reads a reply or the data of an event. What is not strict JSON holds nothing and ends nothing, but for the closing words
/// of OpenAI's older streams, `[DONE]`.
pub fn event(family: Family, data: &[u8]) -> Event<'_> {
    let members = match json::parse(data) {
        Ok(Node::Object(members)) => members,
        other => {
            let ends = (data.trim_ascii() == b"[DONE]").then(String::new);
            let is_unread = other.is_err() && ends.is_none() && !data.trim_ascii().is_empty();
            let is_closing = ends.is_some() && closes(family, b"[DONE]");
            return Event { ends, is_unread, is_closing, ..Event::default() };
        }
    };
    let kind = text_of(&members, "type").unwrap_or_default().to_owned();
    let numbers = numbers(&members);
    let mut event = Event { tokens: tokens(&members), is_closing: closes(family, kind.as_bytes()), ..Event::default() };
    event.ends = match kind.as_str() {
        "message_delta" | "message_stop" | "error" => Some(String::new()),
        "response.completed" | "response.incomplete" | "response.failed" => Some(String::new()),
        kind if kind == "content_block_stop" || kind.ends_with(".done") => Some(numbers.clone()),
        _ => None,
    };
    let outer = match kind.as_str() {
        kind if kind.ends_with("arguments.delta") => Kind::Arguments,
        // Its input, code, command or patch.
        kind if kind.contains("_call_") && kind.ends_with(".delta") => Kind::Call,
        _ => Kind::Text,
    };
    event.about = numbers.clone();
    event.object(members, outer, numbers, false, "");
    for piece in &mut event.pieces {
        match &mut piece.stream {
            // Events of different types may be about texts of the same numbers.
            Some(stream) => stream.push_str(&kind),
            None if kind.ends_with(".delta") => piece.is_said = false,
            None if piece.kind == Kind::Call => piece.before = json::before(data, 0, piece.span.start),
            None => {}
        }
    }
    event
}

impl<'a> Event<'a> {
    /// `outer`: what the strings below are for, as far as nothing nearer says more. `stream`: how the names of the streams begin that are
    /// about it. `is_delta`: they are pieces. `name`: of the member that holds the object.
    fn object(&mut self, members: Members<'a>, outer: Kind, stream: String, is_delta: bool, name: &str) {
        if text_of(&members, "finish_reason").is_some() {
            self.ends = Some(stream.clone());
        }
        let kind = text_of(&members, "type").unwrap_or_default().to_owned();
        let holds = |wanted: &[&str]| members.iter().any(|(member, _)| wanted.contains(&&*member.text));
        let is_named = members.len() == 1 || name == "function" || holds(&["arguments", "input"]);
        // Those that have no name are of the kind that their type says.
        let tool = match text_of(&members, "name") {
            Some(tool) => Some(tool).filter(|_| is_named),
            None => kind.strip_suffix("_call").filter(|_| holds(&["action", "actions", "operation"])),
        };
        if let Some(tool) = tool {
            let space = text_of(&members, "namespace").map_or(String::new(), |space| format!("{space}-"));
            self.tools.push((stream.clone(), space + tool));
        }
        // The old text API streams without a member `delta`.
        let is_choice = name == "choices";
        let is_response = text_of(&members, "object") == Some("response");
        let is_result = kind == "mcp_list_tools" || kind.ends_with("_tool_result") || kind.ends_with("_call_output");
        for (name, node) in members {
            let (pieces, tools) = (self.pieces.len(), self.tools.len());
            if outer == Kind::Call && name.text.contains(['.', '/']) {
                let text = name.text.clone();
                self.string(Text { text, span: 0..0 }, Kind::Call, "", &stream, None);
            }
            let (for_what, holds_text) = match &*name.text {
                "arguments" | "partial_json" => (Kind::Arguments, true),
                "input" => (Kind::Call, true),
                "action" | "actions" | "operation" => (Kind::Call, false),
                "code" | "command" | "diff" if kind.contains("_call_") => (Kind::Call, false),
                "content" | "delta" | "reasoning" | "reasoning_content" | "reasoning_text" | "refusal" | "summary"
                | "text" | "thinking" | "transcript" => (outer, true),
                _ => (outer, false),
            };
            let is_delta = is_delta || name.text == "delta";
            let is_piece = holds_text && (is_delta || is_choice);
            let named = format!("{stream}{}", name.text);
            match node {
                Node::String(_) if outer == Kind::Text && is_fixed(&name.text) => {}
                Node::String(text) => self.string(text, for_what, &name.text, &stream, is_piece.then_some(named)),
                // Not all APIs give them as text.
                node if for_what == Kind::Arguments => {
                    self.value(node, Kind::Call, stream.clone(), is_delta, &name.text)
                }
                node => self.value(node, for_what, stream.clone(), is_delta, &name.text),
            }
            let is_echo = is_response && ECHOED.contains(&&*name.text);
            if is_echo || is_result || kind.ends_with("_call") && RESULTS.contains(&&*name.text) {
                self.pieces.iter_mut().skip(pieces).for_each(|piece| piece.is_said = false);
                self.tools.truncate(tools);
            }
        }
    }

    fn value(&mut self, node: Node<'a>, outer: Kind, stream: String, is_delta: bool, name: &str) {
        match node {
            Node::Word | Node::Number(_) => {}
            Node::String(text) => self.string(text, outer, name, &stream, None),
            Node::Array(items) => {
                if outer == Kind::Call {
                    self.command(&items, name, &stream);
                }
                for (place, item) in items.into_iter().enumerate() {
                    // A whole reply does not number its calls. Their places are no numbers of blocks.
                    let is_bare = matches!(&item, Node::Object(members) if numbers(members).is_empty());
                    let number = if is_bare && outer == Kind::Text { format!("#{place}.") } else { String::new() };
                    self.value(item, outer, stream.clone() + &number, is_delta, name);
                }
            }
            Node::Object(members) => {
                // Inside a call they are the tool's.
                let numbers = if outer == Kind::Text { numbers(&members) } else { String::new() };
                self.object(members, outer, stream + &numbers, is_delta, name);
            }
        }
    }

    /// Of a list of words also what they say together, as a piece that stands nowhere.
    fn command(&mut self, items: &[Node<'a>], name: &str, about: &str) {
        let word = |item: &Node<'a>| if let Node::String(word) = item { Some(word.text.clone()) } else { None };
        let words: Vec<_> = items.iter().filter_map(word).collect();
        if words.len() > 1 {
            let text = words.join(" ").into();
            self.string(Text { text, span: 0..0 }, Kind::Call, name, about, None);
        }
    }

    fn string(&mut self, Text { text, span }: Text<'a>, kind: Kind, name: &str, about: &str, stream: Option<String>) {
        let name = Some(name).filter(|name| name.len() <= NAME_BYTES).unwrap_or_default().to_owned();
        let (about, is_said) = (about.to_owned(), !text.is_empty());
        self.pieces.push(Piece { text, before: "", span, kind, name, about, stream, is_said });
    }
}

/// The numbers of an object, each with a point behind it, in the order of [`NUMBERS`].
fn numbers(members: &Members<'_>) -> String {
    let number = |wanted: &&str| Some(format!("{}.", number_of(members, wanted)?));
    NUMBERS.iter().filter_map(number).collect()
}

/// The member of that name, when it counts something.
fn number_of(members: &Members<'_>, wanted: &str) -> Option<u64> {
    members.iter().find_map(|(name, node)| match node {
        Node::Number(number) if name.text == wanted => *number,
        _ => None,
    })
}

/// Whether an event of that name, or type, is the last of a stream.
pub fn closes(family: Family, name: &[u8]) -> bool {
    match family {
        Family::Messages | Family::CountTokens => name == b"message_stop",
        Family::Responses => matches!(name, b"response.completed" | b"response.incomplete" | b"response.failed"),
        _ => name == b"[DONE]",
    }
}

/// The most that an object, or one that it is about, says of tokens.
fn tokens(members: &Members<'_>) -> (u64, u64) {
    let mut most = (0, 0);
    for (name, node) in members {
        let Node::Object(inner) = node else { continue };
        let number = |wanted| number_of(inner, wanted);
        let (prompt, answer) = match &*name.text {
            "response" | "message" => tokens(inner),
            "usage" => {
                let prompt = number("prompt_tokens").or(number("input_tokens"));
                let parts = [prompt, number("cache_creation_input_tokens"), number("cache_read_input_tokens")];
                let answer = number("completion_tokens").or(number("output_tokens"));
                (parts.into_iter().flatten().fold(0, u64::saturating_add), answer.unwrap_or_default())
            }
            _ => continue,
        };
        most = (prompt.max(most.0), answer.max(most.1));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::recorded;
    use serde_json::json;

    #[test]
    fn only_the_closing_event_of_its_own_api_ends_a_stream() {
        let is_closing = |family, data: &str| event(family, data.as_bytes()).is_closing;
        assert!(is_closing(Family::Chat, "[DONE]") && is_closing(Family::Completions, " [DONE]"));
        assert!(!is_closing(Family::Messages, "[DONE]") && !is_closing(Family::Responses, "[DONE]"));
        for name in ["response.completed", "response.incomplete", "response.failed"] {
            assert!(is_closing(Family::Responses, &json!({"type": name}).to_string()));
            assert!(!is_closing(Family::Messages, &json!({"type": name}).to_string()));
        }
        assert!(is_closing(Family::Messages, "{\"type\":\"message_stop\"}"));
        assert!(!is_closing(Family::Chat, "{\"type\":\"message_stop\"}"));
        assert!(!is_closing(Family::Responses, "{\"type\":\"error\",\"message\":\"x\"}"));
        assert!(!is_closing(Family::Chat, "{\"choices\":[{\"delta\":{\"content\":\"[DONE]\"}}]}"));
    }

    #[test]
    fn the_tokens_of_every_api_are_counted_with_those_from_a_cache() {
        for (usage, expected) in [
            (json!({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}), (9, 1)),
            (json!({"prompt_tokens": 9, "input_tokens": 9, "completion_tokens": 1, "output_tokens": 1}), (9, 1)),
            (
                json!({"input_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": null, "output_tokens": 2}),
                (7, 2),
            ),
            (json!({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}), (3, 0)),
            (json!({"prompt_tokens": u64::MAX, "cache_read_input_tokens": 1}), (u64::MAX, 0)),
            (json!({"prompt_tokens": 9.0, "completion_tokens": 1e2}), (9, 100)),
            (json!({"prompt_tokens": 1.5, "completion_tokens": 1e300}), (0, 0)),
            (json!({"prompt_tokens": -1, "completion_tokens": "1"}), (0, 0)),
            (json!(null), (0, 0)),
        ] {
            for reply in [
                json!({"id": "x", "choices": [{"message": {"content": "\n\n"}}], "usage": usage}),
                json!({"type": "response.completed", "response": {"usage": usage}}),
                json!({"type": "message_start", "message": {"usage": usage}}),
            ] {
                assert_eq!(event(Family::Chat, reply.to_string().as_bytes()).tokens, expected, "{reply}");
            }
        }
        assert_eq!(event(Family::CountTokens, b"{\"input_tokens\":9}").tokens, (0, 0), "none were spent");
    }

    #[test]
    fn recorded_streams_end_and_recorded_replies_are_counted() {
        for (family, exchange) in recorded() {
            let reply = &exchange["reply"];
            if let Some(events) = reply["events"].as_array() {
                let (mut counts, mut is_closing) = (false, false);
                for recorded in events {
                    let data = recorded["data"].as_str().map_or(recorded["data"].to_string(), str::to_owned);
                    let event = event(family, data.as_bytes());
                    counts |= event.tokens > (0, 0);
                    is_closing = event.is_closing;
                }
                assert!(is_closing, "{reply}");
                assert_eq!(counts, reply.to_string().contains("_tokens\":"), "{reply}");
            } else if !matches!(family, Family::Models | Family::CountTokens) {
                assert!(event(family, reply["body"].to_string().as_bytes()).tokens.0 > 0, "{reply}");
            }
        }
    }
}
