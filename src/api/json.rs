//! A strict reader of JSON (RFC 8259): a tree in which every string knows where its literal stands in the input.
//! Must never accept a text that two readers could understand differently, nor use memory or stack beyond its limits.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Deepest nesting of arrays and objects. Real requests stay below 20; the limit bounds the stack.
const MAX_DEPTH: usize = 64;
/// Most values and member names in one text. A node takes below 100 bytes, so this bounds memory to about 100 MiB.
pub(super) const MAX_NODES: usize = 1 << 20;

/// How much of what stands before a string tells what it is, in bytes.
const BEFORE_BYTES: usize = 64;

/// One JSON value.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// `null`, `true` or `false`.
    Word,
    /// What it says, if it counts something.
    Number(Option<u64>),
    String(Text<'a>),
    Array(Vec<Node<'a>>),
    Object(Members<'a>),
}

/// The members of an object, each with its name.
pub(super) type Members<'a> = Vec<(Text<'a>, Node<'a>)>;

/// A string: what it means, borrowed unless it has escapes, and its literal with the quotes.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) span: Range<usize>,
}

/// Reads a whole body. The error says what is wrong and where, never what stands there: serde_json's own messages quote
/// the input only for a value of the wrong type, and here every type is right.
pub(super) fn parse(body: &[u8]) -> serde_json::Result<Node<'_>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut reader = Reader { json: body, at: 0, nodes: 0, depth: 0 };
    let tree = reader.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(tree)
}

/// The member of that name, when it is a string.
pub(super) fn text_of<'m>(members: &'m [(Text<'_>, Node<'_>)], wanted: &str) -> Option<&'m str> {
    members.iter().find_map(|(name, node)| match node {
        Node::String(text) if name.text == wanted => Some(&*text.text),
        _ => None,
    })
}

/// What stands right before the string that begins at a place, its quote included, and behind `from`: its name, or the string before it in a
/// list, with which it would be seen if the JSON were a text.
pub(super) fn before(json: &[u8], from: usize, string: usize) -> &str {
    let near = json.get(from.max(string.saturating_sub(BEFORE_BYTES))..=string).unwrap_or_default();
    // It may begin inside a character.
    let start = near.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or_default();
    str::from_utf8(near.get(start..).unwrap_or_default()).unwrap_or_default()
}

/// The strings with escapes of a text that may itself be JSON. It is not refused for what it is not: the provider takes
/// it as text.
pub(super) fn escaped_strings(text: &str) -> Vec<Text<'static>> {
    let escaped = literals(text).filter(|(_, literal)| literal.contains('\\'));
    let meaning = |(span, literal)| Some(Text { text: Cow::Owned(serde_json::from_str(literal).ok()?), span });
    escaped.filter_map(meaning).take(MAX_NODES).collect()
}

/// Whether a text is a JSON object or list.
pub fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Where parts of a string's meaning, in ascending order and apart from each other, stand in the text that holds its literal, which begins
/// at `start`.
pub fn in_literal(json: &[u8], start: usize, parts: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut raw, mut meant) = (start + 1, 0);
    let mut place = |offset: usize| {
        while meant < offset {
            let rest = json.get(raw..).unwrap_or_default();
            let left = offset - meant;
            let plain = memchr::memchr(b'\\', rest.get(..left).unwrap_or(rest)).unwrap_or(left);
            let (length, meaning) = if plain > 0 { (plain, plain) } else { escape(rest) };
            raw += length;
            meant += meaning;
        }
        raw
    };
    parts.iter().map(|part| place(part.start)..place(part.end)).collect()
}

/// Bytes of the escape that a text begins with, and of what it means (RFC 8259 section 7).
fn escape(text: &[u8]) -> (usize, usize) {
    let digits = text.get(2..6).and_then(|digits| str::from_utf8(digits).ok());
    let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match (text.get(1), code) {
        (Some(b'u'), Some(0xd800..=0xdbff)) => (12, 4),
        (Some(b'u'), Some(code)) => (6, char::from_u32(code).map_or(1, char::len_utf8)),
        _ => (2, 1),
    }
}

/// The string literals of a JSON text, quotes included, with their places. In a text that is no JSON they are guesses.
pub fn literals(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let span = literal(text.as_bytes(), at, 0)?;
        at = span.end;
        Some((span.clone(), text.get(span)?))
    })
}

/// The error for more than [`MAX_NODES`].
pub(super) fn too_many<E: de::Error>() -> E {
    E::custom(format_args!("more than {MAX_NODES} JSON values"))
}

struct Reader<'a> {
    json: &'a [u8],
    /// Everything before this offset was read; after it, the next quote opens the next string, because no other
    /// token has one. So positions cost one more pass and no tokenizer of our own.
    at: usize,
    nodes: usize,
    depth: usize,
}

/// The place of the first string literal from `at` on, in valid JSON, whose meaning has at least so many bytes.
fn literal(json: &[u8], at: usize, least: usize) -> Option<Range<usize>> {
    let start = at + memchr::memchr(b'"', json.get(at..)?)?;
    // An escape is never shorter than what it means, so the literal goes on at least so far; back from there to where an escape may begin.
    let backslashes = json.get(start + 1..start + 1 + least)?.iter().rev().take_while(|b| **b == b'\\').count();
    let mut end = start + 1 + least - backslashes;
    loop {
        end += memchr::memchr2(b'"', b'\\', json.get(end..)?)?;
        if json.get(end) == Some(&b'"') {
            return Some(start..end + 1);
        }
        end += 2;
    }
}

impl<'a> Reader<'a> {
    /// The string that serde_json has just checked and unescaped, with its place.
    fn string<E: de::Error>(&mut self, text: Cow<'a, str>) -> Result<Node<'a>, E> {
        let span = literal(self.json, self.at, text.len()).ok_or_else(|| E::custom("a string without quotes"))?;
        self.at = span.end;
        Ok(Node::String(Text { text, span }))
    }

    fn descend<E: de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for &mut Reader<'a> {
    type Value = Node<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Node<'a>, D::Error> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_many());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for &mut Reader<'a> {
    type Value = Node<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'a>, E> {
        Ok(Node::Word)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node<'a>, E> {
        Ok(Node::Word)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node<'a>, E> {
        Ok(Node::Number(Some(number)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node<'a>, E> {
        Ok(Node::Number(None))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node<'a>, E> {
        // Some count in floats: `11.0`.
        Ok(Node::Number(number.to_string().parse().ok()))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'a str) -> Result<Node<'a>, E> {
        self.string(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node<'a>, E> {
        self.string(Cow::Owned(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Node<'a>, A::Error> {
        self.descend()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(&mut *self)? {
            array.push(item);
        }
        self.depth -= 1;
        Ok(Node::Array(array))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Node<'a>, A::Error> {
        self.descend()?;
        let mut object = Vec::new();
        // Names are always strings; what else there may be ends the loop, and serde_json misses the end of the object.
        while let Some(Node::String(name)) = members.next_key_seed(&mut *self)? {
            object.push((name, members.next_value_seed(&mut *self)?));
        }
        let mut names: Vec<&str> = object.iter().map(|(name, _)| &*name.text).collect();
        names.sort_unstable();
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(de::Error::custom("an object has the same key twice"));
        }
        self.depth -= 1;
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Dice;
    use serde_json::Value;

    /// How the refusal of a name that stands twice begins.
    const TWICE: &str = "an object has the same key twice at line ";

    fn refused(json: &[u8]) -> String {
        parse(json).unwrap_err().to_string()
    }

    /// What serde_json would have made of it, with every span checked against `json` on the way.
    fn plain(node: &Node<'_>, json: &str) -> Value {
        let string = |text: &Text<'_>| {
            let literal = &json[text.span.clone()];
            let meaning: String = serde_json::from_str(literal).unwrap();
            assert_eq!(meaning, text.text, "{literal}");
            meaning
        };
        match node {
            Node::Word => Value::Null,
            Node::Number(_) => Value::from(0),
            Node::String(text) => Value::String(string(text)),
            Node::Array(items) => items.iter().map(|item| plain(item, json)).collect(),
            Node::Object(members) => {
                let member = |(name, node): &(Text<'_>, Node<'_>)| (string(name), plain(node, json));
                Value::Object(members.iter().map(member).collect())
            }
        }
    }

    /// Appends a document; returns how many members its objects have.
    fn random_json(dice: &mut Dice, depth: usize, out: &mut String) -> usize {
        let blank = ["", "", " ", "\n\t", "\r "];
        out.push_str(dice.pick(&blank));
        let mut members = 0;
        match dice.below(if depth > 5 { 5 } else { 8 }) {
            0 => out.push_str(dice.pick(&["null", "true", "false"])),
            1 => out.push_str(dice.pick(&["0", "12.5e1", "-0"])),
            2..=4 => random_string(dice, out),
            5 => {
                out.push('[');
                for index in 0..dice.below(4) {
                    out.push_str(if index > 0 { "," } else { "" });
                    members += random_json(dice, depth + 1, out);
                }
                out.push(']');
            }
            _ => {
                out.push('{');
                for index in 0..dice.below(4) {
                    out.push_str(if index > 0 { "," } else { "" });
                    random_string(dice, out);
                    out.push_str(dice.pick(&blank));
                    out.push(':');
                    members += 1 + random_json(dice, depth + 1, out);
                }
                out.push('}');
            }
        }
        out.push_str(dice.pick(&blank));
        members
    }

    fn random_string(dice: &mut Dice, out: &mut String) {
        let pieces = [
            "a",
            "b",
            "é",
            "漢",
            "😀",
            " ",
            "{",
            "]",
            ":",
            ",",
            r#"\""#,
            r"\\",
            r"\/",
            r"\n",
            r"\u0061",
            r"\u0000",
            r"\ud83d\ude00",
            r"\u00e9",
        ];
        out.push('"');
        for _ in 0..dice.below(6) {
            out.push_str(dice.pick(&pieces));
        }
        out.push('"');
    }

    #[test]
    fn a_random_document_reads_as_serde_json_reads_it_unless_a_name_stands_twice() {
        let mut dice = Dice::new(1);
        let (mut read, mut doubled) = (0, 0);
        for _ in 0..4000 {
            let mut json = String::new();
            let written = random_json(&mut dice, 0, &mut json);
            let mut expected: Value = serde_json::from_str(&json).unwrap();
            let kept = simplify(&mut expected);
            match parse(json.as_bytes()) {
                Ok(node) => {
                    read += 1;
                    assert_eq!(plain(&node, &json), expected, "{json}");
                    assert_eq!(kept, written, "{json}");
                }
                Err(why) => {
                    doubled += 1;
                    assert!(why.to_string().starts_with(TWICE), "{json} {why}");
                    assert!(kept < written, "{json}");
                }
            }
        }
        assert!(read > 2000 && doubled > 50, "{read} {doubled}");
    }

    /// Makes all numbers alike, and `null`, `true` and `false`; returns how many members there are.
    fn simplify(value: &mut Value) -> usize {
        match value {
            Value::Number(number) => *number = 0.into(),
            Value::Bool(_) => *value = Value::Null,
            Value::Array(items) => return items.iter_mut().map(simplify).sum(),
            Value::Object(members) => {
                return members.values_mut().map(|value| 1 + simplify(value)).sum();
            }
            _ => {}
        }
        0
    }

    #[test]
    fn random_damage_is_refused_exactly_where_serde_json_refuses_it() {
        let mut dice = Dice::new(2);
        for _ in 0..4000 {
            let mut json = String::new();
            random_json(&mut dice, 0, &mut json);
            let mut bytes = json.into_bytes();
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
            let theirs = serde_json::from_slice::<Value>(&bytes).is_ok();
            match parse(&bytes) {
                Ok(_) => assert!(theirs),
                Err(why) if why.to_string().starts_with(TWICE) => {}
                Err(_) => assert!(!theirs, "{}", String::from_utf8_lossy(&bytes)),
            }
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_however_it_is_written() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":3}"#,
            r#"{"x":[{"y":{"\u006dessages":1,"messages":2}}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert!(refused(json.as_bytes()).starts_with(TWICE), "{json}");
        }
        assert!(parse(br#"{"a":{"a":1},"A":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn what_is_not_strict_json_is_refused() {
        for json in [
            "",
            " ",
            "{",
            "{}}",
            "{} {}",
            "{\"a\":1,}",
            "[1,]",
            "{'a':1}",
            "nul",
            "01",
            "+1",
            "1e999",
            "NaN",
            "// x\n{}",
            "\u{feff}{}",
            "\"a\nb\"",
            r#""\x""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0061""#,
            r#""\ud800\ud800""#,
            r#"{"\udfff":1}"#,
            "\"",
            "\u{a0}{}",
        ] {
            let why = parse(json.as_bytes()).unwrap_err();
            assert!(why.is_syntax() || why.is_eof(), "{json} {why:?}");
        }
        for bytes in [&b"{\"a\":\"\xff\"}"[..], b"\"\xed\xa0\x80\"", b"[\"\xc0\xaf\\n\"]", b"{\"\xe9\":1}"] {
            assert!(refused(bytes).starts_with("invalid unicode code point at line 1"));
        }
        assert!(parse(b"[\xc3\xa9]").unwrap_err().is_syntax());
    }

    #[test]
    fn nesting_is_limited_before_the_stack_is() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        on_a_small_stack(move || {
            for depth in [MAX_DEPTH + 1, 10_000] {
                assert!(refused(nested(depth).as_bytes()).starts_with("nested deeper than 64 at line 1"));
                let objects = "{\"a\":".repeat(depth);
                assert!(refused(objects.as_bytes()).starts_with("nested deeper than 64 at line 1"));
            }
        });
    }

    /// The stack of a connection's thread.
    fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        thread.spawn(test).unwrap().join().unwrap();
    }

    #[test]
    fn values_are_counted_against_a_limit() {
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(parse(list(MAX_NODES).as_bytes()).is_ok());
        assert!(refused(list(MAX_NODES + 1).as_bytes()).starts_with("more than 1048576 JSON values at line 1"));
    }

    fn meanings(text: &str) -> Vec<String> {
        escaped_strings(text).into_iter().map(|text| text.text.into_owned()).collect()
    }

    #[test]
    fn escaped_strings_are_found_also_where_the_json_is_broken() {
        assert_eq!(meanings(r#"{"a":"\n","a":["\t","x"],"b":"\"""#), ["\n", "\t", "\""]);
        assert_eq!(meanings(r#"{"a":oops"\n","b":"\x","c":"\t","d":"\"#), ["\n", "\t"]);
        assert!(escaped_strings("no json \\n").is_empty());
        assert_eq!(escaped_strings(&r#""\n","#.repeat(MAX_NODES + 9)).len(), MAX_NODES);
    }

    #[test]
    fn a_refusal_says_where_and_never_what() {
        let damaged = |at: usize, byte: u8| {
            let mut json = br#"{"hunter2": ["hunter2", 7.5, {"a": true, "hunter2": null}]}"#.to_vec();
            json[at] = byte;
            parse(&json).err()
        };
        let mut places = 0;
        for at in 0..59 {
            for why in (0..=255).filter_map(|byte| damaged(at, byte)) {
                let message = why.to_string();
                assert!(message.contains(" at line ") && !message.contains("unter"), "{message}");
                places += 1;
            }
        }
        assert!(places > 1_000);
    }
}
