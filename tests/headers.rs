//! Headers: what belongs to one connection or one credential stays there, everything else passes unchanged both ways.

use crate::support::{Fixture, Login, Replay, Reply, code, hello};
use serde_json::{Value, json};

const MESSAGES: &str = "/v1/messages";

/// The headers that reached the provider with the last request for this path.
fn sent(proxy: &Fixture, path: &str) -> Vec<(String, String)> {
    let request = proxy.practice.requests(path).pop().unwrap();
    let pair = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned());
    request["headers"].as_array().unwrap().iter().map(pair).collect()
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

/// A reply of the provider with these headers.
fn reply_with(proxy: &Fixture, headers: Value) -> Reply {
    proxy.practice.fail(MESSAGES, &json!({"kind": "status", "status": 200, "headers": headers, "body": "{}"}));
    proxy.post(MESSAGES, &hello())
}

#[test]
fn the_clients_credentials_and_connection_headers_go_no_further() {
    let proxy = Fixture::start("dropped");
    let headers = [
        ("cookie", "session=client-cookie"),
        ("x-api-key", "client-side-key"),
        ("proxy-authorization", "Basic Y2xpZW50OnB3"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("accept-encoding", "gzip, br"),
        ("connection", "keep-alive, X-Only-Here"),
        ("x-only-here", "hop"),
        ("x-infershield-verdict", "pass"),
    ];
    assert_eq!(proxy.post_with(MESSAGES, &headers, &hello()).status, 200);
    let sent = sent(&proxy, MESSAGES);
    for (name, value) in headers {
        assert!(!values(&sent, name).contains(&value), "{name} was forwarded: {sent:?}");
    }
    assert_eq!(values(&sent, "accept-encoding"), ["identity"]);
    assert_eq!(values(&sent, "authorization").len(), 1);
    assert!(!sent.iter().any(|(_, value)| value.contains(&proxy.key)), "the local key stays here");
}

#[test]
fn everything_else_passes_unchanged_with_the_query() {
    let proxy = Fixture::start("passed");
    let headers = [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a-2026-01-01,b-2026-02-02"),
        ("user-agent", "client/1.0 (test)"),
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "text/event-stream"),
        ("x-stainless-lang", "js"),
        ("x-twice", "one"),
        ("x-twice", "two"),
    ];
    let target = format!("{MESSAGES}?beta=true&x=%2F+%3D");
    assert_eq!(proxy.post_with(&target, &headers, &hello()).status, 200);
    let sent = sent(&proxy, MESSAGES);
    for (name, value) in headers {
        assert!(values(&sent, name).contains(&value), "{name}: {sent:?}");
    }
    assert_eq!(values(&sent, "x-twice"), ["one", "two"]);
    assert_eq!(proxy.practice.requests(MESSAGES)[0]["query"], "beta=true&x=%2F+%3D");
    assert_eq!(values(&sent, "host"), [proxy.practice.addr.to_string()]);
}

#[test]
fn a_local_key_is_never_forwarded_wherever_it_stands() {
    let proxy = Fixture::start("stray-key");
    let key = proxy.key.as_str();
    let among = format!("mine is {key}, hidden");
    let headers = [("api-key", key), ("x-goog-api-key", key), ("x-note", among.as_str()), ("x-kept", "risk_low")];
    assert_eq!(proxy.post_with(MESSAGES, &headers, &hello()).status, 200);
    let sent = sent(&proxy, MESSAGES);
    assert!(!sent.iter().any(|(_, value)| value.contains(key)), "{sent:?}");
    assert_eq!(values(&sent, "x-kept"), ["risk_low"]);
    assert_eq!(proxy.post(&format!("{MESSAGES}?risk_level=1"), &hello()).status, 200);

    let forwarded = proxy.forwarded();
    let escaped = key.replace('_', "%5F");
    for target in [
        format!("{MESSAGES}?key={key}"),
        format!("{MESSAGES}?a=b&{key}"),
        format!("{MESSAGES}?key={escaped}"),
        format!("/{escaped}{MESSAGES}"),
    ] {
        let reply = proxy.post(&target, &hello());
        assert_eq!((reply.status, code(MESSAGES, &reply).as_str()), (400, "infershield_bad_request"));
        assert!(!reply.text().contains(key));
    }
    let fetched = proxy.fetch(&format!("/v1/models?key={key}"));
    assert_eq!(fetched.status, 400);
    let text = json!([{"role": "user", "content": "Hello."}]);
    for (body, place) in [
        (json!({"model": key, "messages": text}), "model"),
        (json!({"model": "m", "messages": [{"role": "user", "name": key, "content": "Hello."}]}), "messages[0].name"),
        (json!({"model": "m", "messages": text, "metadata": {key: "x"}}), "metadata.*"),
    ] {
        let reply = proxy.post(MESSAGES, &body);
        assert_eq!((reply.status, code(MESSAGES, &reply).as_str()), (400, "infershield_bad_request"), "{place}");
        assert!(reply.text().contains(place) && !reply.text().contains(key), "{}", reply.text());
    }
    assert_eq!(proxy.forwarded(), forwarded);
}

#[test]
fn what_was_read_as_json_is_forwarded_as_json() {
    let proxy = Fixture::start("content-type");
    for (given, forwarded) in [
        (None, "application/json"),
        (Some("application/x-www-form-urlencoded"), "application/json"),
        (Some("application/json; charset=utf-16"), "application/json"),
        (Some("application/json; charset=utf-8; q=1"), "application/json"),
        (Some("application/jsonp"), "application/json"),
        (Some("text/plain; application/json"), "application/json"),
        (Some(""), "application/json"),
        (Some("application/json"), "application/json"),
        (Some("Application/JSON;Charset=UTF-8"), "Application/JSON;Charset=UTF-8"),
        (Some("application/json ; charset=utf-8"), "application/json ; charset=utf-8"),
    ] {
        let headers: Vec<(&str, &str)> = given.map(|value| ("content-type", value)).into_iter().collect();
        assert_eq!(proxy.post_with(MESSAGES, &headers, &hello()).status, 200);
        assert_eq!(values(&sent(&proxy, MESSAGES), "content-type"), [forwarded], "{given:?}");
    }
    // Named in `connection` it goes no further, so there would be none.
    let headers = [("content-type", "application/json"), ("connection", "content-type")];
    assert_eq!(proxy.post_with(MESSAGES, &headers, &hello()).status, 200);
    assert_eq!(values(&sent(&proxy, MESSAGES), "content-type"), ["application/json"]);
    assert_eq!(proxy.fetch("/v1/models").status, 200);
    assert_eq!(values(&sent(&proxy, "/v1/models"), "content-type"), Vec::<&str>::new(), "no body, no type");
}

#[test]
fn the_providers_credential_goes_into_the_header_of_its_row_with_the_rows_own() {
    let mut plan = Fixture::plan("row-headers");
    plan.login = Login::Key;
    plan.provider = json!({"auth_header": "x-api-key", "extra_headers": {"x-team": "a"}});
    let proxy = plan.start();
    let spoof = [("x-team", "client")];
    assert_eq!(proxy.post_with(MESSAGES, &spoof, &hello()).status, 200);
    let sent = sent(&proxy, MESSAGES);
    assert_eq!(values(&sent, "x-api-key").len(), 1);
    assert_eq!(values(&sent, "authorization"), Vec::<&str>::new());
    assert_eq!(values(&sent, "x-team"), ["a"]);
}

#[test]
fn of_a_reply_what_belongs_to_its_connection_or_speaks_in_our_name_stays_behind() {
    let proxy = Fixture::start("reply-dropped");
    let headers = json!({"set-cookie": "provider=1", "location": "https://elsewhere.example/",
        "keep-alive": "timeout=5", "proxy-authenticate": "Basic", "upgrade": "h2c",
        "x-infershield-verdict": "block", "x-infershield-other": "1", "x-infershield-request-id": "theirs"});
    let reply = reply_with(&proxy, headers);
    assert_eq!(reply.status, 200);
    for name in ["set-cookie", "location", "keep-alive", "proxy-authenticate", "upgrade", "x-infershield-other"] {
        assert_eq!(reply.header(name), None, "{name}");
    }
    let of = |name: &str| reply.headers.iter().filter(|(known, _)| known == name).collect::<Vec<_>>();
    assert_eq!(of("x-infershield-verdict").len(), 1);
    assert_eq!(reply.header("x-infershield-verdict"), Some("pass"));
    assert_eq!(of("x-infershield-request-id").len(), 1);
    assert_ne!(reply.header("x-infershield-request-id"), Some("theirs"));
}

#[test]
fn of_a_reply_everything_else_passes_unchanged() {
    let proxy = Fixture::start("reply-passed");
    let headers = json!({"anthropic-ratelimit-tokens-remaining": "12", "request-id": "req_1", "retry-after": "3",
        "content-type": "application/json; charset=utf-8", "x-twice": "one, two"});
    let reply = reply_with(&proxy, headers.clone());
    for (name, value) in headers.as_object().unwrap() {
        assert_eq!(reply.header(name), value.as_str(), "{name}");
    }
}

#[test]
fn what_the_client_has_already_is_no_redirect() {
    let proxy = Fixture::start("not-modified");
    let headers = json!({"etag": "\"m1\""});
    proxy.practice.fail("/v1/models", &json!({"kind": "status", "status": 304, "headers": headers, "body": ""}));
    let reply = proxy.fetch("/v1/models");
    assert_eq!((reply.status, reply.header("etag")), (304, Some("\"m1\"")), "{}", reply.text());
}

#[test]
fn every_reply_names_its_line_and_judged_ones_their_verdict() {
    let proxy = Fixture::start("own-headers");
    let judged = proxy.post("/v1/chat/completions", &hello());
    assert_eq!(judged.header("x-infershield-verdict"), Some("pass"));
    assert_eq!(judged.header("x-infershield-risk-score"), Some("0"));
    let line = proxy.line_of(&judged);
    assert_eq!((&line["risk_score"], &line["action"]), (&json!(0), &json!("chat.completion")));

    // The score is that of the worst text, not of the whole history: many texts with one mail address each stay low.
    let mail = json!({"role": "user", "content": "mail wes11@gmail.com now"});
    let score = |mails: usize| {
        let body = json!({"model": "m", "messages": vec![mail.clone(); mails]});
        let judged = proxy.post("/v1/chat/completions", &body);
        (judged.header("x-infershield-verdict").map(str::to_owned), proxy.line_of(&judged)["risk_score"].clone())
    };
    assert_eq!(score(1), (Some("warn".into()), json!(20)));
    assert_eq!(score(9), score(1));

    for refused in [proxy.fetch("/v1/files"), proxy.post_bytes("/v1/responses", b"{")] {
        assert!(refused.header("x-infershield-request-id").is_some());
        assert_eq!(refused.header("x-infershield-verdict"), None, "nothing was judged");
    }
}

#[test]
fn the_stored_credential_comes_back_in_no_header_and_in_no_text_of_an_error() {
    const MASK: &str = "[InferShield: credential]";
    let proxy = Fixture::start("echo");
    assert_eq!(proxy.post(MESSAGES, &hello()).status, 200);
    let sent = sent(&proxy, MESSAGES);
    let token = values(&sent, "authorization")[0].strip_prefix("Bearer ").unwrap();
    let said = |mask: &str| format!("{{\"error\": \"bad key {mask}, {mask}\"}}");
    let answer = |status: u16, body: &str| {
        let headers = json!({"x-debug": format!("Bearer {token}"), "content-type": "application/json"});
        proxy.practice.fail(MESSAGES, &json!({"kind": "status", "status": status, "headers": headers, "body": body}));
        let mut wire = proxy.begin(MESSAGES, &hello());
        let mut reply = wire.head();
        reply.body = wire.body().unwrap();
        assert_eq!((reply.status, reply.header("x-debug")), (status, Some(format!("Bearer {MASK}").as_str())));
        reply
    };
    for status in [400, 403, 429, 500] {
        let reply = answer(status, &said(token));
        assert_eq!(reply.text(), said(MASK));
        assert_eq!(reply.header("content-length"), Some(said(MASK).len().to_string().as_str()));
        assert_eq!(proxy.line_of(&reply)["outcome"], "complete");
    }
    assert_eq!(answer(400, &said("none")).text(), said("none"));
    answer(200, "{}");
    // Nobody holds back so much for a look at it.
    let large = format!("{}{token}", " ".repeat(1 << 20));
    assert_eq!(answer(400, &large).text(), large);
}

#[test]
fn an_error_that_breaks_off_keeps_its_status_and_shows_no_credential() {
    let provider = Replay::start();
    let mut plan = Fixture::plan("echo-cut");
    plan.login = Login::Key;
    plan.provider = json!({"api_base": format!("http://{}/v1", provider.addr)});
    let proxy = plan.start();
    provider.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
    assert_eq!(proxy.post(MESSAGES, &hello()).status, 200);
    let sent = provider.request();
    let token = values(&sent.headers, "authorization")[0].strip_prefix("Bearer ").unwrap();
    for (framing, status) in [
        ("content-length: 900\r\n\r\n", 403),
        ("transfer-encoding: chunked\r\n\r\n384\r\n", 503),
        ("content-encoding: gzip\r\ncontent-length: 900\r\n\r\n", 429),
    ] {
        let head = format!("HTTP/1.1 {status} No\r\nretry-after: 7\r\n{framing}");
        provider.answer(format!("{head}bad key {token}, ").into_bytes());
        let reply = proxy.post(MESSAGES, &hello());
        assert_eq!((reply.status, code(MESSAGES, &reply).as_str()), (status, "infershield_provider"));
        // Whoever is told to wait knows how long.
        assert_eq!((reply.header("retry-after"), reply.header("content-encoding")), (Some("7"), None));
        assert!(!reply.text().contains(token), "{}", reply.text());
        let line = proxy.line_of(&reply);
        assert_eq!((&line["outcome"], &line["status"]), (&json!("error"), &json!(status)));
    }
}
