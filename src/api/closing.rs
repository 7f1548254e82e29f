//! The end of a reply that is stopped: the normal one of its API, with a text that says why. An error in its place makes most
//! clients ask again. Must never depend on what the reply said.

use super::Family;
use serde_json::{Value, json};

/// Ids that the closing events carry.
const ID: &str = "infershield";

/// What ends a stream; `next` is the number of the block or item that follows, `open` that of the one which is being sent, if one is.
pub fn closing(family: Family, next: u64, open: Option<u64>, notice: &str) -> String {
    match family {
        Family::Messages | Family::CountTokens => {
            let block = json!({"type": "text", "text": ""});
            let delta = json!({"type": "text_delta", "text": notice});
            let begun = open.map(|open| json!({"type": "content_block_stop", "index": open}));
            let rest = [
                json!({"type": "content_block_start", "index": next, "content_block": block}),
                json!({"type": "content_block_delta", "index": next, "delta": delta}),
                json!({"type": "content_block_stop", "index": next}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                    "usage": {"output_tokens": 0}}),
                json!({"type": "message_stop"}),
            ];
            begun.into_iter().chain(rest).map(|event| named(&event)).collect()
        }
        Family::Responses => {
            let place = |kind: &str, name: &str, what: Value| json!({"type": kind, "output_index": next, "item_id": ID, "content_index": 0, name: what});
            [
                place("response.output_item.added", "item", item("in_progress", "")),
                place("response.output_text.delta", "delta", json!(notice)),
                place("response.output_text.done", "text", json!(notice)),
                place("response.output_item.done", "item", item("completed", notice)),
                json!({"type": "response.completed", "response": whole(family, notice)}),
            ]
            .map(|event| named(&event))
            .concat()
        }
        _ => {
            let chunk = |delta: Value, text: &str, finish: Value| {
                let choice = json!({"index": 0, "delta": delta, "text": text, "finish_reason": finish});
                let chunk = json!({"id": ID, "object": "chat.completion.chunk", "created": 0, "model": ID, "choices": [choice]});
                format!("data: {chunk}\n\n")
            };
            let text = chunk(json!({"content": notice}), notice, Value::Null);
            format!("{text}{}data: [DONE]\n\n", chunk(json!({}), "", json!("stop")))
        }
    }
}

/// What stands for a whole reply.
pub fn whole(family: Family, notice: &str) -> Value {
    match family {
        Family::Messages | Family::CountTokens => json!({"id": ID, "type": "message", "role": "assistant", "model": ID,
            "content": [{"type": "text", "text": notice}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 0, "output_tokens": 0}}),
        Family::Responses => {
            json!({"id": ID, "object": "response", "created_at": 0, "status": "completed", "error": null,
            "model": ID, "output": [item("completed", notice)],
            "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}})
        }
        _ => json!({"id": ID, "object": "chat.completion", "created": 0, "model": ID, "choices": [{"index": 0,
            "text": notice, "message": {"role": "assistant", "content": notice}, "finish_reason": "stop"}]}),
    }
}

fn item(status: &str, text: &str) -> Value {
    json!({"id": ID, "type": "message", "status": status, "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}]})
}

fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}
