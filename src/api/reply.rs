//! Where text lives in a reply and in an event of a stream, and which pieces belong together.
//! Must never change a byte of what it reads, nor fail on what it does not know: that has no pieces.

use super::extract::is_fixed;
use super::json::{self, Node, Text, text_of};
use std::borrow::Cow;
use std::ops::Range;

/// Members that number what an event is about.
const NUMBERS: [&str; 4] = ["index", "output_index", "content_index", "summary_index"];

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

/// One string of a reply or an event.
#[derive(Debug)]
pub struct Piece<'a> {
    /// What it says.
    pub text: Cow<'a, str>,
    /// Its literal, quotes included.
    pub span: Range<usize>,
    /// What becomes of it.
    pub kind: Kind,
    /// The member that it is the value of, or an item of.
    pub name: String,
    /// How the names of the streams begin that belong to it.
    pub about: String,
    /// For a piece of a longer text, which one; it begins with the numbers of [`Event::ends`]. `None` for a whole text.
    pub stream: Option<String>,
}

/// What an event, or a reply that is no stream, holds.
#[derive(Debug, Default)]
pub struct Event<'a> {
    /// Its strings, but for ids, names and what is sealed.
    pub pieces: Vec<Piece<'a>>,
    /// How the names of streams begin that are what a tool is called with, and that tool.
    pub tools: Vec<(String, String)>,
    /// The streams that end with it begin so; an empty text ends all. `None`: no stream ends.
    pub ends: Option<String>,
    /// It is no strict JSON: what a client makes of it nobody knows.
    pub is_unread: bool,
}

/// Reads a reply or the data of an event. What is not strict JSON holds nothing and ends nothing, but for the closing words
/// of OpenAI's older streams, `[DONE]`.
pub fn event(data: &[u8]) -> Event<'_> {
    let members = match json::parse(data) {
        Ok(Node::Object(members)) => members,
        other => {
            let ends = (data.trim_ascii() == b"[DONE]").then(String::new);
            let is_unread = other.is_err() && ends.is_none() && !data.trim_ascii().is_empty();
            return Event { ends, is_unread, ..Event::default() };
        }
    };
    let mut event = Event::default();
    let kind = text_of(&members, "type").unwrap_or_default().to_owned();
    let numbers = numbers(&members);
    event.ends = match kind.as_str() {
        "content_block_stop" => Some(numbers),
        "message_delta" | "message_stop" | "error" => Some(String::new()),
        "response.completed" | "response.incomplete" | "response.failed" => Some(String::new()),
        kind if kind.ends_with(".done") => Some(numbers),
        _ => None,
    };
    let outer = match kind.as_str() {
        kind if kind.ends_with("arguments.delta") => Kind::Arguments,
        kind if kind.ends_with("input.delta") => Kind::Call,
        _ => Kind::Text,
    };
    event.object(members, &kind, outer, String::new(), false, "");
    event
}

impl<'a> Event<'a> {
    /// `kind`: what the strings below are for, as far as nothing nearer says more. `is_delta`: they are pieces. `name`: of the member that
    /// holds the object.
    fn object(
        &mut self,
        members: Vec<(Text<'a>, Node<'a>)>,
        kind: &str,
        outer: Kind,
        mut stream: String,
        is_delta: bool,
        name: &str,
    ) {
        stream += &numbers(&members);
        if text_of(&members, "finish_reason").is_some() {
            self.ends = Some(stream.clone());
        }
        let is_call = |(name, _): &(Text<'_>, _)| ["arguments", "input"].contains(&&*name.text);
        if let Some(tool) = text_of(&members, "name").filter(|_| members.len() == 1 || members.iter().any(is_call)) {
            self.tools.push((stream.clone(), tool.to_owned()));
        }
        // The old text API streams without a member `delta`.
        let is_choice = name == "choices";
        for (name, node) in members {
            let (for_what, holds_text) = match &*name.text {
                "arguments" | "partial_json" => (Kind::Arguments, true),
                "input" => (Kind::Call, true),
                "action" => (Kind::Call, false),
                "content" | "delta" | "reasoning" | "reasoning_content" | "reasoning_text" | "refusal" | "text"
                | "thinking" => (outer, true),
                _ => (outer, false),
            };
            let is_delta = is_delta || name.text == "delta";
            let is_piece = holds_text && (is_delta || is_choice);
            let named = format!("{stream}{kind}{}", name.text);
            match node {
                Node::String(_) if outer == Kind::Text && is_fixed(&name.text) => {}
                Node::String(text) => self.string(text, for_what, &name.text, &stream, is_piece.then_some(named)),
                node => self.value(node, kind, for_what, stream.clone(), is_delta, &name.text),
            }
        }
    }

    fn value(&mut self, node: Node<'a>, kind: &str, outer: Kind, stream: String, is_delta: bool, name: &str) {
        match node {
            Node::Word | Node::Number(_) => {}
            Node::String(text) => self.string(text, outer, name, &stream, None),
            Node::Array(items) => {
                for item in items {
                    self.value(item, kind, outer, stream.clone(), is_delta, name);
                }
            }
            Node::Object(members) => self.object(members, kind, outer, stream, is_delta, name),
        }
    }

    fn string(&mut self, Text { text, span }: Text<'a>, kind: Kind, name: &str, about: &str, stream: Option<String>) {
        self.pieces.push(Piece { text, span, kind, name: name.to_owned(), about: about.to_owned(), stream });
    }
}

/// The numbers of an object, each with a point behind it, in the order of [`NUMBERS`].
fn numbers(members: &[(Text<'_>, Node<'_>)]) -> String {
    let number = |wanted: &&str| {
        members.iter().find_map(|(name, node)| match node {
            Node::Number(Some(number)) if name.text == *wanted => Some(format!("{number}.")),
            _ => None,
        })
    };
    NUMBERS.iter().filter_map(number).collect()
}
