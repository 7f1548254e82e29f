//! A reply comes out the same however it is cut on its way, and is not touched where nothing was hidden.

use super::{deltas, whole};
use crate::support::Dice;
use infershield::api::{self, Family, Kind};
use infershield::detect::{Action, Category, Finding, Severity};
use infershield::redact::{Guard, Hidden, Redaction, Rewriter, Sent, Stops};
use infershield::secret::Key;
use std::sync::LazyLock;

const FAMILIES: [Family; 4] = [Family::Chat, Family::Responses, Family::Messages, Family::Completions];
/// What the provider was sent: one value leads nowhere, one to a host.
const REQUEST: &str = r#"{"model":"m","messages":[{"role":"user","content":"alpha-7, https://h.example/?k=beta\"8"}]}"#;

static REDACTION: LazyLock<Redaction> = LazyLock::new(|| {
    let mut redaction = Redaction::default();
    for value in ["alpha-7", "beta\"8"] {
        let (category, severity, action) = (Category::Secret, Severity::High, Action::Redact);
        let (rule, start, end) = ("secret.x".to_owned(), 0, value.len());
        let found = Finding { rule, category, severity, action, start, end, weight: 0 };
        redaction.hide(&Key::new([7; 32]), "user", &found, (0, value), "ref");
    }
    let extracted = api::extract(Family::Chat, REQUEST.as_bytes()).unwrap();
    assert_eq!(redaction.edits(&extracted, REQUEST.as_bytes(), &Sent::default()).len(), 2);
    redaction
});

/// Holds for every input; of some a reply is made, and others are one.
pub fn check(bytes: &[u8]) {
    let mut dice = Dice::of(bytes);
    let family = FAMILIES[dice.below(FAMILIES.len())];
    let hidden: &[Hidden] = if dice.below(4) == 1 { &[] } else { &REDACTION.hidden };
    let (streamed, stops, kind) = (dice.below(4) != 1, dice.below(4) == 1, dice.below(3));
    let cuts = Dice::new(dice.roll());
    let reply = match kind {
        0 => dice.rest(),
        1 => made(family, streamed, &mut dice).into_bytes(),
        _ => {
            let made = made(family, streamed, &mut dice);
            dice.spoil(made.as_bytes())
        }
    };
    holds((family, hidden, streamed, stops), &reply, cuts);
}

fn made(family: Family, streamed: bool, dice: &mut Dice) -> String {
    let mut reply = String::new();
    loop {
        let text = text(dice);
        if !streamed {
            return dice.escaped(&whole(family, &text));
        }
        match dice.below(8) {
            1 => {
                reply += dice.pick(&[
                    ": \n\n",
                    "data: [DONE]\n\n",
                    "data: {\"type\":\"message_stop\"}\n\n",
                    "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}}\n\n",
                    "event: x\r\ndata: 1\r\n\r\n",
                    "data: {}\ndata: {}\n\n",
                ])
            }
            2 => reply += "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            3 => reply += "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            4 | 5 => {
                let text = serde_json::json!({"url": text, "content": text, "n": [text]}).to_string();
                reply += &call(&text, dice);
            }
            _ => {
                let stream = deltas(family, &text, dice);
                reply += &dice.escaped(&stream);
            }
        }
        if dice.below(3) != 1 {
            return reply;
        }
    }
}

/// A call of a tool with these arguments, in pieces.
fn call(arguments: &str, dice: &mut Dice) -> String {
    let characters: Vec<char> = arguments.chars().collect();
    let pieces = characters.chunks(dice.below(60) + 1).map(|piece| {
        let piece = serde_json::json!(String::from_iter(piece));
        format!("data: {{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{{\"partial_json\":{piece}}}}}\n\n")
    });
    let end = dice.pick(&["", "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n"]);
    pieces.collect::<String>() + end
}

fn text(dice: &mut Dice) -> String {
    let [one, other] = [0, 1].map(|place| REDACTION.hidden[place].placeholder.as_str());
    let words = [
        one,
        other,
        " ",
        "I",
        "INFERSHIELD_",
        "SECRET_",
        &one[..30],
        "https://h.example/?k=",
        "https://",
        "h.example",
        "/",
        ".",
        "@",
        "\"",
        "\n",
        "leak",
        "stop",
        "é",
        "\u{1F600}",
        "{\"a\":\"",
        "\"}",
        "](<",
        ">",
        "\\",
    ];
    (0..dice.below(12)).map(|_| dice.pick(&words)).collect()
}

fn holds((family, hidden, streamed, stops): (Family, &[Hidden], bool, bool), reply: &[u8], mut cuts: Dice) {
    let leaks = |_: Kind, text: &str| text.contains("leak");
    let why = |_: Kind, (_, text): (&str, &str)| text.contains("stop").then(|| "[stopped]".to_owned());
    let guard = Guard { leaks: &leaks, stops: stops.then_some(&why as &Stops<'_>) };

    let mut at_once = Rewriter::new(hidden, guard, family, streamed);
    let mut expected = at_once.feed(reply, false);
    if !at_once.is_stopped() {
        expected.extend(at_once.feed(&[], true));
    }
    let mut in_pieces = Rewriter::new(hidden, guard, family, streamed);
    let mut got = Vec::new();
    for piece in cuts.cut(reply) {
        if !in_pieces.is_stopped() {
            got.extend(in_pieces.feed(piece, false));
        }
    }
    if !in_pieces.is_stopped() {
        got.extend(in_pieces.feed(&[], true));
    }
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&expected));
    assert_eq!(got, expected);
    assert_eq!(in_pieces.is_stopped(), at_once.is_stopped());
    assert_eq!((in_pieces.tokens, in_pieces.ended), (at_once.tokens, at_once.ended));
    assert!(in_pieces.said().eq(at_once.said()));
    let refused = |rewriter: &Rewriter<'_>| Vec::from_iter(rewriter.refused().map(|one| one.placeholder.clone()));
    assert_eq!(refused(&in_pieces), refused(&at_once));
    if hidden.is_empty() && !stops {
        assert_eq!(got, reply, "nothing was hidden");
    }
}
