//! What holds for every input, as functions of its bytes: the fuzz targets in `fuzz/` call them with bytes that they search for,
//! the tests here with random ones, the same in every run.

pub mod head;
pub mod identity;
pub mod reply;
pub mod scan;

use crate::support::Dice;
use infershield::api::Family;
use infershield::detect::Scanner;
use serde_json::{Value, json};
use std::sync::LazyLock;

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::builtin().unwrap());

/// A reply that says this, and is no stream.
fn whole(family: Family, text: &str) -> String {
    match family {
        Family::Responses => json!({"output": [{"content": [{"type": "output_text", "text": text}]}]}),
        Family::Messages => json!({"content": [{"type": "text", "text": text}]}),
        _ => json!({"choices": [{"index": 0, "message": {"content": text}}]}),
    }
    .to_string()
}

/// A stream that says this in pieces of whole characters, and then that it is all.
fn deltas(family: Family, text: &str, dice: &mut Dice) -> String {
    let mut stream = String::new();
    let mut characters = text.chars().peekable();
    while characters.peek().is_some() {
        let most = [400, 40, 4, 1][dice.below(4)];
        let piece: String = characters.by_ref().take(most - dice.below(most)).collect();
        let event = match family {
            Family::Responses => json!({"type": "response.output_text.delta", "output_index": 0, "delta": piece}),
            Family::Messages => {
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
            }
            _ => json!({"choices": [{"index": 0, "delta": {"content": piece}}]}),
        };
        stream += &format!("data: {event}\n\n");
    }
    let end = match family {
        Family::Responses => json!({"type": "response.output_text.done", "output_index": 0}),
        Family::Messages => json!({"type": "content_block_stop", "index": 0}),
        _ => json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    };
    stream + &format!("data: {end}\n\n")
}

/// What a reply of either kind says, up to where it says that this is all.
fn said(family: Family, reply: &[u8]) -> String {
    let reply = std::str::from_utf8(reply).expect("a reply of characters");
    let places = match family {
        Family::Responses => ["/delta", "/output/0/content/0/text"],
        Family::Messages => ["/delta/text", "/content/0/text"],
        _ => ["/choices/0/delta/content", "/choices/0/message/content"],
    };
    let values = reply.lines().filter(|line| !line.is_empty()).map(|line| {
        let data = line.strip_prefix("data: ").unwrap_or(line);
        serde_json::from_str::<Value>(data).expect("each event is JSON")
    });
    let text = |value: Value| places.iter().find_map(|place| value.pointer(place)?.as_str().map(str::to_owned));
    values.map_while(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v1/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAccept: */*\r\n\r\nhello";
    const CHUNKS: &str =
        "PUT /v1/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nx: y\r\n\r\n";

    /// So many random inputs.
    fn holds(check: fn(&[u8]), rounds: usize, most_bytes: usize) {
        let mut dice = Dice::new(7);
        for _ in 0..rounds {
            let bytes: Vec<u8> = (0..dice.below(most_bytes)).map(|_| dice.roll() as u8).collect();
            check(&bytes);
        }
    }

    #[test]
    fn a_request_is_read_as_it_is_scanned_and_comes_back_as_it_was() {
        holds(identity::check, 3000, 300);
    }

    #[test]
    fn a_reply_is_the_same_however_it_is_cut() {
        holds(reply::check, 4000, 200);
    }

    #[test]
    fn no_bytes_disturb_the_front_door() {
        let mut dice = Dice::new(7);
        for _ in 0..1000 {
            let request = ["GET /a?b HTTP/1.0\r\nHost: x\r\n\r\n", HEAD, CHUNKS][dice.below(3)];
            head::check(&dice.spoil(request.as_bytes()));
        }
    }

    #[test]
    fn no_text_disturbs_the_scanner() {
        holds(scan::check, 400, 1000);
    }
}
