//! Invariant 4: the scanner sees every text that the provider will see. What could be read in two ways is refused; what
//! cannot be seen is counted.

use crate::support::{Fixture, POSTED, code, repair_status};
use serde_json::{Value, json};

/// A body with this text in the place of `TEXT` cannot be understood in two ways.
fn assert_refused(proxy: &Fixture, body: &[u8]) {
    for path in POSTED {
        let reply = proxy.post_bytes(path, body);
        let shown = String::from_utf8_lossy(body).into_owned();
        assert_eq!(
            (reply.status, code(path, &reply).as_str()),
            (repair_status(path), "infershield_malformed"),
            "{path}: {shown}"
        );
    }
}

#[test]
fn invariant_4_a_key_that_stands_twice_is_refused_wherever_it_stands() {
    let proxy = Fixture::start("duplicates");
    for body in [
        r#"{"messages":[],"messages":[]}"#,
        r#"{"input":"a","i\u006eput":"b"}"#,
        r#"{"a":{"b":[{"c":1,"d":2,"c":3}]}}"#,
        r#"{"metadata":{"":1,"":2}}"#,
        r#"{"tools":[{"function":{"parameters":{"properties":{"x":{},"\u0078":{}}}}}]}"#,
    ] {
        assert_refused(&proxy, body.as_bytes());
    }
    assert_eq!(proxy.forwarded(), 0);
}

#[test]
fn invariant_4_bytes_that_are_no_text_are_refused_wherever_they_stand() {
    let proxy = Fixture::start("bad-utf8");
    let not_utf8: [&[u8]; 6] =
        [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xf4\x90\x80\x80"];
    for bytes in not_utf8 {
        for (before, after) in [("{\"input\":\"", "\"}"), ("{\"", "\":1}"), ("{\"a\":1}", "")] {
            assert_refused(&proxy, &[before.as_bytes(), bytes, after.as_bytes()].concat());
        }
    }
    // Half of a pair of surrogates, other encodings, a mark of byte order, a second document.
    for body in [&br#"{"input":"\ud83d"}"#[..], b"{\0\"\0a\0", b"\xfe\xff\0{\0}", b"\xef\xbb\xbf{}", b"{}{}", b"{}\0"] {
        assert_refused(&proxy, body);
    }
    assert_eq!(proxy.forwarded(), 0);
}

#[test]
fn invariant_4_an_encoded_body_is_refused() {
    let proxy = Fixture::start("encoded");
    for path in POSTED {
        for encoding in
            ["gzip", "GZIP", "br", "zstd", "deflate", "compress", "aes128gcm", "gzip, identity", "identity, br"]
        {
            let reply = proxy.post_with(path, &[("content-encoding", encoding)], &json!({}));
            assert_eq!((reply.status, code(path, &reply).as_str()), (repair_status(path), "infershield_encoding"));
        }
        let two = [("content-encoding", "identity"), ("content-encoding", "gzip")];
        assert!(proxy.post_with(path, &two, &json!({})).status >= 400, "{path}: the second one counts too");
    }
    assert_eq!(proxy.forwarded(), 0);
}

#[test]
fn invariant_4_what_cannot_be_seen_is_counted() {
    let proxy = Fixture::start("unscanned");
    let pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let user =
        |content: Value| json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}]});
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let cases = [
        ("/v1/chat/completions", user(json!("Hello.")), 0),
        ("/v1/chat/completions", user(json!([image(&format!("data:image/png;base64,{pixel}"))])), 1),
        (
            "/v1/chat/completions",
            user(json!([image("https://pictures.example/a.png"), image("https://pictures.example/b.png")])),
            2,
        ),
        ("/v1/responses", json!({"model": "m", "input": "Go on.", "previous_response_id": "resp_123"}), 1),
        (
            "/v1/responses",
            json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-123"}]}]}),
            1,
        ),
        (
            "/v1/messages",
            user(json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}},
                {"type": "document", "source": {"type": "url", "url": "https://papers.example/a.pdf"}}])),
            2,
        ),
    ];
    for (path, body, expected) in cases {
        let reply = proxy.post(path, &body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(proxy.line_of(&reply)["unscanned"], expected, "{path}: {body}");
    }
}

#[test]
fn invariant_4_a_threat_is_seen_in_every_place_of_a_body() {
    let proxy = Fixture::start("every-place");
    let leaked = proxy.run.secret(concat!("ghp", "_q7Rt2Yw9Kx4Lm8Np3Vb6Zc1Hd5Jf0GsAeUoT"));
    let escaped: String = leaked.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let inner = json!({"path": "a", "content": leaked}).to_string();
    let bodies = [
        json!({"messages": [{"role": "user", "content": leaked}]}).to_string(),
        format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{escaped}\"}}]}}"),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": leaked}]}]}).to_string(),
        json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
            "function": {"name": "write", "arguments": inner}}]}]})
        .to_string(),
        json!({"messages": [{"role": "tool", "tool_call_id": "1", "content": leaked}]}).to_string(),
        json!({"messages": [], "tools": [{"type": "function", "function": {"name": "f", "description": leaked}}]})
            .to_string(),
        json!({"messages": [], "metadata": {"note": leaked}}).to_string(),
        json!({"messages": [], "something_new": [[leaked]]}).to_string(),
    ];
    for body in bodies {
        let reply = proxy.post_bytes("/v1/chat/completions", body.as_bytes());
        let line = proxy.line_of(&reply);
        assert_ne!(line["findings"], json!([]), "not seen in {body}");
        assert_eq!(line["findings"][0]["category"], "secret", "{line}");
    }
}
