//! What the practice provider's models say, in the shapes of the real services, unary and as events.
//! Must never touch a socket or a credential.

use crate::oauth::Settings;
use serde_json::{Value, json};

/// Seconds since 1970 in every reply: a fixed time keeps replies comparable.
const CREATED: u64 = 1_790_000_000;
/// The one model on offer.
const MODEL: &str = "practice-1";

/// The calls that are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// `POST /chat/completions`
    Chat,
    /// `POST /responses`
    Responses,
    /// `POST /messages`
    Messages,
    /// `POST /messages/count_tokens`
    CountTokens,
    /// `POST /completions`
    Completions,
    /// `POST /embeddings`
    Embeddings,
    /// `GET /models`
    Models,
}

impl Api {
    /// The call at a path, with or without `/v1`.
    pub(crate) fn at(method: &str, path: &str) -> Option<Self> {
        match (method, path.strip_prefix("/v1").unwrap_or(path)) {
            ("POST", "/chat/completions") => Some(Self::Chat),
            ("POST", "/responses") => Some(Self::Responses),
            ("POST", "/messages") => Some(Self::Messages),
            ("POST", "/messages/count_tokens") => Some(Self::CountTokens),
            ("POST", "/completions") => Some(Self::Completions),
            ("POST", "/embeddings") => Some(Self::Embeddings),
            ("GET", "/models") => Some(Self::Models),
            _ => None,
        }
    }

    /// The error body of this API.
    pub(crate) fn error(self, status: u16, message: &str) -> Value {
        let kind = match (self, status) {
            (_, 401) => "authentication_error",
            (_, 403) => "permission_error",
            (_, 429) => "rate_limit_error",
            (_, 500..) => "api_error",
            _ => "invalid_request_error",
        };
        match self {
            Self::Messages | Self::CountTokens => {
                json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_practice"})
            }
            _ => {
                json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
            }
        }
    }
}

/// What a reply is made of.
pub(crate) struct Said<'a> {
    api: Api,
    model: &'a str,
    text: &'a str,
    /// Characters in each piece of a stream; 0: a word.
    piece: usize,
    /// The text is the arguments of a tool call.
    call: bool,
    tool: &'a str,
    include_usage: bool,
    inputs: usize,
    tokens_in: usize,
    tokens_out: usize,
}

impl<'a> Said<'a> {
    /// Weighs a request and the text that answers it. A token is a word here.
    pub(crate) fn new(api: Api, request: &'a Value, settings: &'a Settings) -> Self {
        let text = settings.reply.as_str();
        Self {
            api,
            model: request["model"].as_str().unwrap_or(MODEL),
            text,
            piece: settings.piece,
            call: settings.call,
            tool: &settings.tool,
            include_usage: request["stream_options"]["include_usage"] == true,
            inputs: request["input"].as_array().map_or(1, Vec::len),
            tokens_in: words(request),
            tokens_out: text.split_whitespace().count(),
        }
    }

    /// The whole reply at once.
    pub(crate) fn unary(&self) -> Value {
        let (model, text) = (self.model, self.text);
        match self.api {
            Api::Chat => {
                let message = match self.call {
                    true => json!({"role": "assistant", "content": null, "tool_calls": [self.chat_call(json!(text))]}),
                    false => json!({"role": "assistant", "content": text, "refusal": null}),
                };
                json!({
                    "id": "chatcmpl-practice", "object": "chat.completion", "created": CREATED, "model": model,
                    "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
                    "usage": self.chat_usage()})
            }
            Api::Completions => json!({
                "id": "cmpl-practice", "object": "text_completion", "created": CREATED, "model": model,
                "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"}],
                "usage": self.chat_usage()}),
            Api::Responses => self.response("completed", &json!([self.item("completed")])),
            Api::Messages if self.call => {
                let input: Value = serde_json::from_str(text).unwrap_or_default();
                self.message(&json!([self.message_call(&input)]), json!("tool_use"), self.tokens_out)
            }
            Api::Messages => self.message(&json!([{"type": "text", "text": text}]), json!("end_turn"), self.tokens_out),
            Api::CountTokens => json!({"input_tokens": self.tokens_in}),
            Api::Embeddings => {
                let row = |index| json!({"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125]});
                let data: Vec<Value> = (0..self.inputs).map(row).collect();
                json!({"object": "list", "model": model, "data": data,
                    "usage": {"prompt_tokens": self.tokens_in, "total_tokens": self.tokens_in}})
            }
            Api::Models => json!({"object": "list", "data": [
                {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "practice"}]}),
        }
    }

    /// The reply as the frames of an event stream, in order. An API that cannot stream gives none.
    pub(crate) fn events(&self) -> Vec<String> {
        match self.api {
            Api::Chat => self.chat_events(),
            Api::Completions => self.completion_events(),
            Api::Responses => self.response_events(),
            Api::Messages => self.message_events(),
            Api::CountTokens | Api::Embeddings | Api::Models => Vec::new(),
        }
    }

    fn chat_events(&self) -> Vec<String> {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({"id": "chatcmpl-practice", "object": "chat.completion.chunk",
                "created": CREATED, "model": self.model, "choices": choices});
            if self.include_usage {
                chunk["usage"] = usage;
            }
            unnamed(&chunk)
        };
        let choice = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        let first = choice(json!({"role": "assistant", "content": ""}), Value::Null);
        let mut frames = vec![chunk(first, Value::Null)];
        for piece in self.pieces() {
            let delta = match self.call {
                true => json!({"tool_calls": [self.chat_call(json!(piece))]}),
                false => json!({"content": piece}),
            };
            frames.push(chunk(choice(delta, Value::Null), Value::Null));
        }
        frames.push(chunk(choice(json!({}), json!("stop")), Value::Null));
        if self.include_usage {
            frames.push(chunk(json!([]), self.chat_usage()));
        }
        frames.push("data: [DONE]\n\n".to_owned());
        frames
    }

    fn completion_events(&self) -> Vec<String> {
        let chunk = |text: &str, finish: Value| {
            unnamed(
                &json!({"id": "cmpl-practice", "object": "text_completion", "created": CREATED, "model": self.model,
                "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]}),
            )
        };
        let mut frames: Vec<String> = self.pieces().map(|piece| chunk(piece, Value::Null)).collect();
        frames.push(chunk("", json!("stop")));
        frames.push("data: [DONE]\n\n".to_owned());
        frames
    }

    fn response_events(&self) -> Vec<String> {
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
        let place = |mut event: Value| {
            event["item_id"] = json!("msg_practice");
            event["output_index"] = json!(0);
            event["content_index"] = json!(0);
            event
        };
        let begun = self.response("in_progress", &json!([]));
        let mut item = self.item("in_progress");
        item[if self.call { "arguments" } else { "content" }] = if self.call { json!("") } else { json!([]) };
        let mut events = vec![
            json!({"type": "response.created", "response": begun}),
            json!({"type": "response.in_progress", "response": begun}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        ];
        let done = self.item("completed");
        let whole = self.response("completed", &json!([done]));
        if self.call {
            let event = |kind: &str, name: &str, text: &str| {
                json!({"type": format!("response.function_call_arguments.{kind}"), "item_id": "msg_practice",
                    "output_index": 0, name: text})
            };
            events.extend(self.pieces().map(|piece| event("delta", "delta", piece)));
            events.push(event("done", "arguments", self.text));
        } else {
            events.push(place(json!({"type": "response.content_part.added", "part": part("")})));
            for piece in self.pieces() {
                events.push(place(json!({"type": "response.output_text.delta", "delta": piece})));
            }
            events.push(place(json!({"type": "response.output_text.done", "text": self.text})));
            events.push(place(json!({"type": "response.content_part.done", "part": part(self.text)})));
        }
        events.extend([
            json!({"type": "response.output_item.done", "output_index": 0, "item": done}),
            json!({"type": "response.completed", "response": whole}),
        ]);
        for (number, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = json!(number);
        }
        events.iter().map(named).collect()
    }

    fn message_events(&self) -> Vec<String> {
        let opened = self.message(&json!([]), Value::Null, 1);
        let block = if self.call { self.message_call(&json!({})) } else { json!({"type": "text", "text": ""}) };
        let mut events = vec![
            json!({"type": "message_start", "message": opened}),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "ping"}),
        ];
        for piece in self.pieces() {
            let delta = match self.call {
                true => json!({"type": "input_json_delta", "partial_json": piece}),
                false => json!({"type": "text_delta", "text": piece}),
            };
            events.push(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        events.extend([
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"output_tokens": self.tokens_out}}),
            json!({"type": "message_stop"}),
        ]);
        events.iter().map(named).collect()
    }

    fn message(&self, content: &Value, stop_reason: Value, tokens_out: usize) -> Value {
        json!({"id": "msg_practice", "type": "message", "role": "assistant", "content": content,
            "model": self.model, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {"input_tokens": self.tokens_in, "output_tokens": tokens_out}})
    }

    fn response(&self, status: &str, output: &Value) -> Value {
        let usage = match status {
            "completed" => json!({"input_tokens": self.tokens_in, "output_tokens": self.tokens_out,
                "total_tokens": self.tokens_in + self.tokens_out}),
            _ => Value::Null,
        };
        json!({"id": "resp_practice", "object": "response", "created_at": CREATED, "status": status,
            "error": null, "model": self.model, "output": output, "usage": usage})
    }

    fn chat_call(&self, arguments: Value) -> Value {
        json!({"index": 0, "id": "call_practice", "type": "function",
            "function": {"name": self.tool, "arguments": arguments}})
    }

    fn message_call(&self, input: &Value) -> Value {
        json!({"type": "tool_use", "id": "toolu_practice", "name": self.tool, "input": input})
    }

    fn item(&self, status: &str) -> Value {
        if self.call {
            return json!({"id": "msg_practice", "type": "function_call", "status": status, "name": self.tool,
                "call_id": "call_practice", "arguments": self.text});
        }
        json!({"id": "msg_practice", "type": "message", "status": status, "role": "assistant",
            "content": [{"type": "output_text", "text": self.text, "annotations": []}]})
    }

    fn chat_usage(&self) -> Value {
        json!({"prompt_tokens": self.tokens_in, "completion_tokens": self.tokens_out,
            "total_tokens": self.tokens_in + self.tokens_out})
    }

    fn pieces(&self) -> impl Iterator<Item = &'a str> {
        let mut rest = self.text;
        let piece = self.piece;
        std::iter::from_fn(move || {
            let word = rest.find(' ').map_or(rest.len(), |blank| blank + 1);
            let counted = rest.char_indices().nth(piece).map_or(rest.len(), |(at, _)| at);
            let (next, after) = rest.split_at(if piece == 0 { word } else { counted });
            rest = after;
            (!next.is_empty()).then_some(next)
        })
    }
}

fn unnamed(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn named(event: &Value) -> String {
    let name = event["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {event}\n\n")
}

fn words(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(members) => members.values().map(words).sum(),
        _ => 0,
    }
}
