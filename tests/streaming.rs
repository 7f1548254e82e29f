//! What the provider says reaches the client at once, and how it ends is told truly.

use crate::support::{Cut, Fixture, Login, RawProvider, Replay, STREAMING, hello, say, streamed, until};
use serde_json::{Value, json};

fn in_lock_step(name: &'static str) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.settings = json!({"lock_step": true});
    plan.start()
}

/// The event after which the provider has nothing more to say.
fn is_last(event: &str) -> bool {
    ["[DONE]", "\"response.completed\"", "\"message_stop\""].iter().any(|word| event.contains(word))
}

fn last_outcome(proxy: &Fixture) -> Value {
    proxy.audit().last().unwrap()["outcome"].clone()
}

#[test]
fn each_event_reaches_the_client_before_the_next_one_is_made() {
    let proxy = in_lock_step("stream-order");
    for path in STREAMING {
        let before = proxy.practice.count("events");
        let mut wire = proxy.begin(path, &streamed());
        let head = wire.head();
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{path}");
        assert_eq!(head.header("x-infershield-verdict"), Some("pass"), "{path}");
        let mut seen = 0;
        while let Some(event) = wire.event().unwrap() {
            seen += 1;
            // The provider makes no event unasked: so this one was not held back for the next.
            assert_eq!(proxy.practice.count("events"), before + seen, "{path}: {event}");
            if !is_last(&event) {
                proxy.practice.next();
            }
        }
        assert!(seen > 5, "{path} is a stream");
        assert_eq!(last_outcome(&proxy), "complete", "{path}: the line is there before the end");
    }
}

#[test]
fn a_client_that_leaves_ends_the_stream_at_the_provider() {
    let proxy = in_lock_step("client-gone");
    for path in STREAMING {
        let mut wire = proxy.begin(path, &streamed());
        wire.head();
        assert!(wire.event().unwrap().is_some());
        // From here on the provider is silent: it waits for a permission that never comes.
        drop(wire);
        proxy.practice.wait(&format!("left {path}"), 1);
        until("the audit line", || last_outcome(&proxy) == "client_left");
    }
}

#[test]
fn a_client_that_leaves_before_the_first_byte_ends_the_request_at_the_provider() {
    let proxy = Fixture::start("client-gone-early");
    for (turn, path) in STREAMING.into_iter().enumerate() {
        proxy.practice.fail(path, &json!({"kind": "silence"}));
        let wire = proxy.begin(path, &streamed());
        proxy.practice.wait("held", turn as u64 + 1);
        drop(wire);
        proxy.practice.wait(&format!("left {path}"), 1);
        until("the audit line", || last_outcome(&proxy) == "client_left");
        assert_eq!(proxy.audit().last().unwrap()["status"], 0, "nothing was answered");
    }
}

#[test]
fn a_stream_that_the_provider_cuts_has_no_end() {
    let proxy = Fixture::start("provider-cuts");
    for path in STREAMING {
        proxy.practice.fail(path, &json!({"kind": "cut", "after": 2}));
        let mut wire = proxy.begin(path, &streamed());
        assert_eq!(wire.head().status, 200);
        assert!(wire.event().unwrap().is_some() && wire.event().unwrap().is_some(), "{path}");
        assert_eq!(wire.event(), Err(Cut), "{path}: a clean end would be taken for success");
        assert_eq!(last_outcome(&proxy), "upstream_cut", "{path}");
    }
}

#[test]
fn a_body_that_the_provider_cuts_is_cut() {
    let proxy = Fixture::start("provider-cuts-body");
    proxy.practice.fail("/v1/responses", &json!({"kind": "cut"}));
    let mut wire = proxy.begin("/v1/responses", &hello());
    assert_eq!(wire.head().status, 200);
    assert_eq!(wire.body(), Err(Cut));
    assert_eq!(last_outcome(&proxy), "upstream_cut");
}

/// A reply whose end is the end of its connection.
fn unframed(name: &'static str, reply: &'static [u8]) -> Fixture {
    let provider = RawProvider::start(reply);
    let mut plan = Fixture::plan(name);
    plan.login = Login::Skip;
    plan.provider = json!({"login": "none", "api_base": format!("http://{}/v1", provider.addr)});
    plan.start()
}

#[test]
fn a_reply_without_framing_is_whole_when_its_connection_ends() {
    let proxy = unframed("unframed", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"ok\":true}");
    let reply = proxy.post("/v1/chat/completions", &hello());
    assert_eq!((reply.status, reply.json()), (200, json!({"ok": true})));
    assert_eq!(last_outcome(&proxy), "complete");
}

#[test]
fn json_without_framing_is_whole_only_when_it_is_json() {
    let proxy =
        unframed("half-json", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"choices\":[{\"a\":");
    let mut wire = proxy.begin("/v1/chat/completions", &hello());
    assert_eq!(wire.head().status, 200);
    assert_eq!(wire.body(), Err(Cut));
    assert_eq!(last_outcome(&proxy), "upstream_cut");
}

#[test]
fn a_stream_without_framing_is_whole_only_with_its_closing_event() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let chunk = r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
    let cut = format!("{head}{chunk}\n\n").leak();
    let proxy = unframed("unframed-cut", cut.as_bytes());
    let mut wire = proxy.begin("/v1/chat/completions", &streamed());
    wire.head();
    assert!(wire.event().unwrap().is_some());
    assert_eq!(wire.event(), Err(Cut));
    assert_eq!(last_outcome(&proxy), "upstream_cut");

    let whole = format!("{head}{chunk}\n\ndata: [DONE]\n\n").leak();
    let proxy = unframed("unframed-whole", whole.as_bytes());
    let mut wire = proxy.begin("/v1/chat/completions", &streamed());
    wire.head();
    let body = wire.body().unwrap();
    assert!(body.ends_with(b"[DONE]\n\n"));
    assert_eq!(last_outcome(&proxy), "complete");
}

#[test]
fn a_reply_without_framing_is_cut_only_when_it_shows_that() {
    let provider = Replay::start();
    let mut plan = Fixture::plan("unframed-unknown");
    plan.login = Login::Skip;
    plan.provider = json!({"login": "none", "api_base": format!("http://{}/v1", provider.addr)});
    let proxy = plan.start();
    let (json, ndjson, events) = ("application/json", "application/x-ndjson", "text/event-stream");
    let large = format!("[{}1]", format!("\"{}\",\n", "a".repeat(1 << 10)).repeat(9 << 10));
    for (kind, body, outcome) in [
        (json, large.as_str(), "complete"),
        (json, "\u{feff}{\"ok\":true}", "complete"),
        (json, "\u{feff}{\"ok\":", "upstream_cut"),
        (json, "", "upstream_cut"),
        ("application/json\r\ncontent-encoding: gzip", "\u{1f}\u{8b}", "complete"),
        ("application/json\r\ncontent-encoding: Identity", "{\"ok\":", "upstream_cut"),
        (ndjson, "{\"a\":1}\n{\"a\":2}\n", "complete"),
        (events, "\u{feff}data: [DONE]\n\n", "complete"),
        ("text/event-stream\r\ncontent-encoding: gzip", "\u{1f}\u{8b}", "complete"),
    ] {
        provider.answer(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{body}").into_bytes());
        let mut wire = proxy.begin("/v1/chat/completions", &hello());
        let head = wire.head();
        let shown = body.get(..20).unwrap_or(body);
        let expected = if outcome == "complete" { Ok(body.as_bytes().to_vec()) } else { Err(Cut) };
        assert!(wire.body() == expected, "{kind} {shown}");
        assert_eq!(proxy.line_of(&head)["outcome"], outcome, "{kind} {shown}");
    }
}

#[test]
fn a_length_beside_chunks_is_not_passed_on() {
    let provider = Replay::start();
    let mut plan = Fixture::plan("two-framings");
    plan.login = Login::Skip;
    plan.provider = json!({"login": "none", "api_base": format!("http://{}/v1", provider.addr)});
    let proxy = plan.start();
    for length in [3, 8, 30] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: Chunked\r\n\r\n");
        provider.answer(format!("{head}8\r\n{{\"ok\":1}}\r\n0\r\n\r\n").into_bytes());
        let reply = proxy.post("/v1/chat/completions", &hello());
        assert_eq!((reply.status, reply.header("content-length")), (200, None));
        assert_eq!((reply.text().as_str(), &proxy.line_of(&reply)["outcome"]), ("{\"ok\":1}", &json!("complete")));
    }
}

#[test]
fn a_compressed_reply_passes_as_it_is() {
    let proxy = Fixture::start("gzip-reply");
    proxy.practice.fail("/v1/messages", &json!({"kind": "gzip"}));
    let reply = proxy.post("/v1/messages", &say("Hello."));
    assert_eq!((reply.status, reply.header("content-encoding")), (200, Some("gzip")));
    assert!(reply.body.starts_with(&[0x1f, 0x8b]));
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("Hello from the practice provider."), "nothing was lost: {text}");
}
