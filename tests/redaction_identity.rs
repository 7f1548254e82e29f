//! Redacting and putting back is the identity, wherever the values stand and however the client wrote its JSON; and what the provider
//! reads is what was scanned. Random requests, the same in every run.

use crate::support::{Dice, Fixture, STREAMING, say};
use serde_json::{Value, json};

const WORDS: [&str; 14] = [
    "plain",
    "é",
    "\u{1F600}",
    "\"quoted\"",
    "back\\slash",
    "new\nline",
    "\ttab",
    "a/b",
    "INFERSHIELD_",
    "{\"x\":1}",
    "\u{7f}",
    "I",
    "%41",
    "終",
];

/// A text with the values somewhere in it, each a word of its own.
fn text(dice: &mut Dice, values: &[&str]) -> String {
    let mut words: Vec<&str> = (0..dice.below(8)).map(|_| dice.pick(&WORDS)).collect();
    for _ in 0..=dice.below(2) {
        let at = dice.below(words.len() + 1);
        words.insert(at, dice.pick(values));
    }
    words.join(" ")
}

fn request(path: &str, user: &str, result: &str) -> Value {
    let user = json!({"role": "user", "content": user});
    match path {
        "/v1/responses" => json!({"model": "m", "input": [user, {"type": "function_call", "call_id": "c", "name": "f",
            "arguments": json!({"was": result}).to_string()}, {"type": "function_call_output", "call_id": "c", "output": result}]}),
        "/v1/messages" => json!({"model": "m", "max_tokens": 9, "messages": [user, {"role": "assistant",
            "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"was": result}}]}, {"role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": result}]}]}]}),
        _ => {
            json!({"model": "m", "messages": [user, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function",
            "function": {"name": "f", "arguments": json!({"was": result}).to_string()}}]},
            {"role": "tool", "tool_call_id": "c", "content": result}]})
        }
    }
}

/// Everything that a reply says.
fn said(reply: &Value) -> String {
    let places = ["/choices/0/message/content", "/output/0/content/0/text", "/content/0/text"];
    places.iter().find_map(|place| reply.pointer(place)?.as_str()).unwrap_or_default().to_owned()
}

#[test]
fn what_is_redacted_and_put_back_is_what_it_was() {
    let proxy = Fixture::start("identity");
    let tokens = [
        concat!("ghp", "_q7Rt2Yw9Kx4Lm8Np3Vb6Zc1Hd5Jf0GsAeUoT"),
        concat!("sk", "_live_51MzQ8Kx2vTfRbYwNcJhPd7Gs"),
        concat!("xox", "b-731829465012-840192837465-Zq8Lw3Nx6Vb1Kt9Rm4Ys7Pd2"),
    ];
    let mut pairs = Vec::new();
    for token in tokens {
        proxy.post("/v1/chat/completions", &say(&format!("Look: {token} is it.")));
        let seen = proxy.practice.requests("/v1/chat/completions").pop().unwrap()["body"].as_str().unwrap().to_owned();
        let at = seen.find("INFERSHIELD_").expect("each of these is redacted");
        pairs.push((token, seen[at..at + 35].to_owned()));
    }
    let hidden = |text: &str| pairs.iter().fold(text.to_owned(), |text, (token, place)| text.replace(token, place));
    let mut dice = Dice::new(11);
    for round in 0..40 {
        for path in STREAMING {
            let (user, result) = (text(&mut dice, &tokens), text(&mut dice, &tokens));
            let body = request(path, &user, &result);
            let sent = dice.escaped(&body.to_string());
            let answer = hidden(&format!("{user} {result}"));
            proxy.practice.set(&json!({"reply": answer}));
            let reply = proxy.post_bytes(path, sent.as_bytes());
            assert_eq!(reply.status, 200, "round {round}, {path}: {}", reply.text());
            let seen = proxy.practice.requests(path).pop().unwrap()["body"].as_str().unwrap().to_owned();
            let seen: Value = serde_json::from_str(&seen).unwrap_or_else(|error| panic!("{error}: {seen}"));
            assert_eq!(seen, request(path, &hidden(&user), &hidden(&result)), "round {round}, {path}: {sent}");
            assert_eq!(said(&reply.json()), format!("{user} {result}"), "round {round}, {path}");
        }
    }
}
