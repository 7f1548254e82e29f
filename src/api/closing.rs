//! The end of a reply that is stopped: the normal one of its API, with a text that says why. An error in its place makes most
//! clients ask again. Must never depend on what the reply said.

use super::Family;
use serde_json::{Value, json};

/// Where the text stands in the files beside, as a string of JSON.
const NOTICE: &str = "\"NOTICE\"";
/// Where the number of the block or item that follows stands there.
const NEXT: &str = "NEXT";

/// What ends a stream; `next` is the number of the block or item that follows, `open` that of the one which is being sent, if one is.
pub fn closing(family: Family, next: u64, open: Option<u64>, notice: &str) -> String {
    let end = forms(family).0.replace(NEXT, &next.to_string()).replace(NOTICE, &Value::from(notice).to_string());
    // Elsewhere nothing ends what is being sent.
    let Some(index) = open.filter(|_| family.is_anthropic()) else { return end };
    let stop = json!({"type": "content_block_stop", "index": index});
    format!("event: content_block_stop\ndata: {stop}\n\n{end}")
}

/// What stands for a whole reply.
pub fn whole(family: Family, notice: &str) -> String {
    forms(family).1.replace(NOTICE, &Value::from(notice).to_string())
}

/// What ends a stream of that API, and what stands for a whole reply.
fn forms(family: Family) -> (&'static str, &'static str) {
    match family {
        _ if family.is_anthropic() => (include_str!("closing/messages.txt"), include_str!("closing/messages.json")),
        Family::Responses => (include_str!("closing/responses.txt"), include_str!("closing/responses.json")),
        _ => (include_str!("closing/chat.txt"), include_str!("closing/chat.json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{closes, event};

    #[test]
    fn what_ends_a_reply_is_strict_json_that_says_why_and_closes_a_stream() {
        let why = "a \"quoted\" \\reason, NEXT \"NOTICE\"\n";
        for family in Family::ALL {
            let whole = whole(family, why);
            assert!(event(family, whole.as_bytes()).pieces.iter().any(|piece| piece.text == why), "{whole}");
            for open in [None, Some(6)] {
                let stream = closing(family, 7, open, why);
                let data: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                let events: Vec<_> = data.iter().map(|data| event(family, data.as_bytes())).collect();
                assert!(events.iter().all(|event| !event.is_unread), "{stream}");
                assert!(events.iter().flat_map(|event| &event.pieces).any(|piece| piece.text == why), "{stream}");
                assert!(events.last().unwrap().is_closing, "{stream}");
                assert_eq!(stream.contains("\"index\":6"), family.is_anthropic() && open.is_some());
                let names = stream.lines().filter_map(|line| line.strip_prefix("event: "));
                assert!(names.zip(&data).all(|(name, data)| data.contains(&format!("\"type\":\"{name}\""))));
                assert_eq!(stream.contains("\"output_index\":7"), family == Family::Responses);
                assert!(closes(family, b"[DONE]") || !stream.contains("[DONE]"));
            }
        }
    }
}
