//! What the provider reads of a request is what was scanned; what is redacted and put back is what it was, and no other byte changes.

use super::{SCANNER, deltas, said, whole};
use crate::support::Dice;
use infershield::api::{self, Extracted, Family};
use infershield::detect::{BUILTIN, Category, Source};
use infershield::redact::{self, Guard, Redaction, Rewriter, Sent};
use infershield::secret::Key;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const FAMILIES: [Family; 6] =
    [Family::Chat, Family::Responses, Family::Messages, Family::Completions, Family::Embeddings, Family::Other];
const NAMES: [&str; 24] = [
    "content",
    "text",
    "role",
    "type",
    "input",
    "arguments",
    "output",
    "tool_calls",
    "function",
    "name",
    "id",
    "data",
    "image_url",
    "source",
    "metadata",
    "signature",
    "prompt",
    "messages",
    "zz",
    "a b",
    "k3y",
    "\u{e9}",
    "",
    "model",
];
const WORDS: [&str; 24] = [
    "user",
    "assistant",
    "tool_result",
    "document",
    "plain",
    "é",
    "\u{1F600}",
    "\"quoted\"",
    "back\\slash",
    "\n",
    "INFERSHIELD_",
    "I",
    "%41",
    "https://a.example/",
    "postgres://u:",
    "@db.example/x",
    "?k=",
    "export KEY=",
    "](<",
    "password: ",
    "Bearer ",
    "{\"x\":\"",
    "//",
    "cGFzc3dvcmQ",
];
const JOINTS: [&str; 10] = [" ", "", "\n", "\"", "/", ".", "@", "\\", "'", "\\n"];

/// Values that rules find, with and without the words that they are found by.
static VALUES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let rules = BUILTIN.iter().take(3).flat_map(|file| serde_json::from_str::<Vec<Value>>(file).unwrap());
    let samples: Vec<String> = rules
        .map(|rule| rule["positive"][0].as_str().unwrap().to_owned())
        .filter(|sample| sample.len() < 400)
        .collect();
    let found = |sample: &String| {
        let finding = SCANNER.scan(sample, Source::User).into_iter().next()?;
        Some(sample[finding.start..finding.end].to_owned())
    };
    let bare: Vec<String> = samples.iter().filter_map(found).collect();
    [samples, bare].concat()
});

/// Holds for every input; of most a request is made, and some are the request.
pub fn check(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    let family = FAMILIES[dice.below(FAMILIES.len())];
    let mut cuts = Dice::new(dice.roll());
    if dice.below(4) == 1 {
        return holds(family, &dice.rest(), &mut cuts);
    }
    let named = dice.pick(&["messages", "input", "prompt", "system", "zz"]);
    let body =
        format!("{{\"model\":\"m\",\"{named}\":{},{}:{}}}", json(&mut dice, 4), name(&mut dice), json(&mut dice, 2));
    holds(family, body.as_bytes(), &mut cuts);
}

fn text(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..dice.below(8) {
        match dice.below(4) {
            0 => text.extend(char::from_u32(dice.below(0x3000) as u32)),
            1 => text += dice.pick(&WORDS),
            _ => text += &VALUES[dice.below(VALUES.len())],
        }
        text += dice.pick(&JOINTS);
    }
    text
}

fn literal(dice: &mut Dice, text: String) -> String {
    dice.escaped(&Value::String(text).to_string())
}

fn name(dice: &mut Dice) -> String {
    let name = if dice.below(8) == 1 { text(dice) } else { dice.pick(&NAMES).to_owned() };
    literal(dice, name)
}

fn json(dice: &mut Dice, depth: usize) -> String {
    let blank = dice.pick(&["", " ", "\r\n\t"]);
    match dice.below(if depth == 0 { 4 } else { 9 }) {
        0 => dice.pick(&["7", "null", "-0.1E5", "true"]).to_owned(),
        1..=3 => {
            let text = text(dice);
            literal(dice, text)
        }
        4 | 5 => {
            let inner = json(dice, depth - 1);
            literal(dice, inner)
        }
        6 => format!("[{},{blank}{}]", json(dice, depth - 1), json(dice, depth - 1)),
        _ => format!(
            "{{{}{blank}:{},{blank}{}:{}}}",
            name(dice),
            json(dice, depth - 1),
            name(dice),
            json(dice, depth - 1)
        ),
    }
}

fn holds(family: Family, body: &[u8], cuts: &mut Dice) {
    let Ok(extracted) = api::extract(family, body) else { return };
    let read: Value = serde_json::from_slice(body).expect("another reader takes it too");
    assert_same_view(&extracted, body, &read);

    let (mut redaction, mut values) = (Redaction::default(), Vec::new());
    for segment in extracted.segments.iter().filter(|segment| !segment.fixed) {
        for found in SCANNER.scan(&segment.text, segment.source) {
            if matches!(found.category, Category::Secret | Category::Pii) {
                let value = &segment.text[found.start..found.end];
                redaction.hide(&Key::new([7; 32]), "user", &found, (0, &segment.text), "ref");
                let hidden = redaction.hidden.get(values.len());
                values.extend(hidden.map(|hidden| (hidden.placeholder.clone(), value.to_owned())));
            }
        }
    }
    let edits = redaction.edits(&extracted, body, &Sent::default());
    let redacted = redact::apply(body, edits.clone());
    let overlaps = assert_only_values_change(body, &redacted, edits, &values);

    let sent: Value = serde_json::from_slice(&redacted).expect("what is sent is JSON");
    assert!(overlaps || is_restored(&sent, &read, &values), "{sent} is not {read} with {values:?}");
    let again = api::extract(family, &redacted).expect("what is sent can be scanned");
    for segment in again.segments.iter().filter(|segment| !segment.fixed) {
        let left = values.iter().find(|(_, value)| segment.text.contains(value));
        assert!(left.is_none(), "{left:?} is left in {}", segment.text);
    }
    let guard = Guard { leaks: &|_, _| false, stops: None };
    for segment in again.segments.iter().filter(|segment| !segment.fixed && segment.within.is_none()).take(8) {
        let expected = restored(&segment.text, &values);
        let holds = |rewriter: &Rewriter<'_>, reply: &[u8], may_refuse: bool| {
            let said = said(family, reply);
            let is_refused = may_refuse && rewriter.refused().next().is_some();
            assert!(said == expected || is_refused, "{said:?} is not {expected:?}");
            assert_eq!(restored(&said, &values), expected, "what is refused stays as it was");
        };
        // Where the text is JSON itself, the request named hosts in the strings inside it; and a URL may run on into a value.
        let may_refuse = segment.text.contains(['\\', '/']);
        let mut rewriter = Rewriter::new(&redaction.hidden, guard, family, false);
        let reply = rewriter.feed(whole(family, &segment.text).as_bytes(), true);
        holds(&rewriter, &reply, may_refuse);

        let mut rewriter = Rewriter::new(&redaction.hidden, guard, family, true);
        let stream = deltas(family, &segment.text, cuts);
        let mut reply = Vec::new();
        cuts.cut(stream.as_bytes()).iter().for_each(|piece| reply.extend(rewriter.feed(piece, false)));
        reply.extend(rewriter.feed(&[], true));
        // A host is waited for no longer than names are.
        let has_long_words = segment.text.split_whitespace().any(|word| word.len() > 300);
        holds(&rewriter, &reply, may_refuse || has_long_words);
    }
}

/// Every string that another reader sees was given to the scanner, and nothing else: but for what is binary, and for names.
fn assert_same_view(extracted: &Extracted<'_>, body: &[u8], read: &Value) {
    let (mut names, mut texts) = (Vec::new(), Vec::new());
    strings(read, &mut names, &mut texts);
    let literals = api::literals(std::str::from_utf8(body).unwrap()).count();
    assert_eq!(literals, names.len() + texts.len(), "a name stands twice");
    let mut scanned: Vec<&str> =
        extracted.segments.iter().filter(|segment| segment.within.is_none()).map(|segment| &*segment.text).collect();
    scanned.sort_unstable();
    let mut was_scanned = |text: &str| scanned.binary_search(&text).map(|at| scanned.remove(at)).is_ok();
    for name in names {
        let is_name =
            name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || b"_-.$".contains(&byte));
        assert!(is_name || was_scanned(name), "the name {name:?} is not scanned");
    }
    for text in texts {
        let data = text.split_once(";base64,").map_or(text, |(_, data)| data);
        let is_binary = data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(&byte));
        assert!(was_scanned(text) || is_binary, "{text:?} is not scanned");
    }
    assert!(scanned.is_empty(), "{scanned:?} is nowhere");
}

fn strings<'v>(value: &'v Value, names: &mut Vec<&'v str>, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, names, texts)),
        Value::Object(members) => {
            names.extend(members.keys().map(String::as_str));
            members.values().for_each(|member| strings(member, names, texts));
        }
        _ => {}
    }
}

/// Between the edits nothing changes, and each of them stands for what means its value, however deep in strings of JSON. Gives whether
/// two overlap in part, by escapes that are read as letters in one of two views: what only the second covers is lost, since it must
/// not go on and nothing stands for it.
fn assert_only_values_change(
    body: &[u8],
    redacted: &[u8],
    mut edits: Vec<redact::Edit>,
    values: &[(String, String)],
) -> bool {
    edits.sort_by_key(|edit| (edit.place.start, std::cmp::Reverse(edit.place.end)));
    let (mut at, mut rest, mut overlaps) = (0, redacted, false);
    for redact::Edit { place, text } in edits {
        let raw = std::str::from_utf8(&body[place.clone()]).expect("characters are replaced whole");
        let unescaped = |text: &String| serde_json::from_str::<String>(&format!("\"{text}\"")).ok();
        let mut meanings = std::iter::successors(Some(raw.to_owned()), unescaped).take(4);
        let value = &values.iter().find(|(placeholder, _)| *placeholder == text).unwrap().1;
        assert!(meanings.any(|meaning| meaning == *value), "{raw} is not {value}");
        if place.start >= at {
            rest = rest.strip_prefix(&body[at..place.start]).expect("the same bytes before it");
            rest = rest.strip_prefix(text.as_bytes()).expect("the placeholder");
        }
        overlaps |= place.start < at && place.end > at;
        at = at.max(place.end);
    }
    assert_eq!(rest, &body[at..]);
    overlaps
}

fn restored(text: &str, values: &[(String, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value))
}

/// Whether it is the same with the values in their places. In a string of JSON they stand as its strings do.
fn is_restored(sent: &Value, read: &Value, values: &[(String, String)]) -> bool {
    match (sent, read) {
        (Value::String(sent), Value::String(read)) => {
            let inner = |text: &str| serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_string());
            // Of what looks like JSON and is none, and of letters that are escaped inside strings inside strings, which no program
            // does, all there is to say is that each edit stands for its value.
            let looks_like_json = read.trim_start().starts_with(['{', '[']) && read.contains('\\');
            match inner(read) {
                _ if restored(sent, values) == *read || read.contains("\\u00") => true,
                Some(read) => {
                    let mut sent = [inner(sent), inner(&restored(sent, values))].into_iter().flatten();
                    sent.any(|sent| is_restored(&sent, &read, values))
                }
                None => looks_like_json,
            }
        }
        (Value::Array(sent), Value::Array(read)) => {
            sent.len() == read.len() && sent.iter().zip(read).all(|(sent, read)| is_restored(sent, read, values))
        }
        (Value::Object(sent), Value::Object(read)) => {
            let sent: BTreeMap<String, &Value> =
                sent.iter().map(|(name, sent)| (restored(name, values), sent)).collect();
            sent.keys().eq(read.keys())
                && sent.values().zip(read.values()).all(|(sent, read)| is_restored(sent, read, values))
        }
        _ => sent == read,
    }
}
