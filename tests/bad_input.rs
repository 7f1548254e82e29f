//! What is wrong with a request is refused with the status that clients respect, in the shape of the API that was called,
//! and the server serves on.

use crate::support::{Fixture, Reply, Wire, code, hello, request, until};
use serde_json::{Value, json};
use std::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// Small limits, so that a test reaches them with few bytes and little time.
const BODY_BYTES: usize = 64 << 10;
const HEAD_MILLISECONDS: u64 = 300;
/// The server's own limit of a head.
const HEAD_BYTES: usize = 64 << 10;

fn start(name: &'static str) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.config = json!({"limits": {"pbkdf2_iterations": 100_000, "max_body_bytes": BODY_BYTES,
        "head_timeout_ms": HEAD_MILLISECONDS}});
    plan.start()
}

fn send(proxy: &Fixture, bytes: &[u8]) -> Reply {
    let mut wire = proxy.connect();
    // The refusal may come, and the connection end, before everything was sent.
    wire.try_send(bytes);
    wire.reply()
}

/// Status and code on an OpenAI path and on an Anthropic one; nothing is forwarded, and the reply names its audit line.
fn refused(proxy: &Fixture, expected: (u16, u16, &str), make: impl Fn(&str) -> Vec<u8>) {
    let before = proxy.forwarded();
    for (path, status) in [(CHAT, expected.0), (MESSAGES, expected.1)] {
        let reply = send(proxy, &make(path));
        assert_eq!((reply.status, code(path, &reply).as_str()), (status, expected.2), "{path}: {}", reply.text());
        assert!(reply.header("x-infershield-request-id").is_some(), "{path}");
    }
    assert_eq!(proxy.forwarded(), before, "{expected:?} was forwarded");
}

/// The same for an authenticated request, whose line in the log says all of it.
fn refused_and_noted(proxy: &Fixture, expected: (u16, u16, &str), make: impl Fn(&str) -> Vec<u8>) {
    refused(proxy, expected, &make);
    let line = proxy.line_of(&send(proxy, &make(CHAT)));
    assert_eq!(
        (&line["status"], &line["outcome"], &line["user_id"], &line["blocked"]),
        (&json!(expected.0), &json!("refused"), &json!("local"), &json!(false)),
        "{line}"
    );
}

#[test]
fn verbose_says_status_and_code_of_a_refusal() {
    let mut plan = Fixture::plan("verbose");
    plan.serve = &["--verbose"];
    let proxy = plan.start();
    assert_eq!(proxy.post(CHAT, &hello()).status, 200);
    let said = proxy.serve.complaint("chat.completion");
    assert!(said.contains("practice") && said.contains("200"), "{said}");
    proxy.post_bytes(MESSAGES, b"{");
    let said = proxy.serve.complaint("messages");
    assert!(said.contains("451") && said.contains("infershield_malformed"), "{said}");
    proxy.fetch("/v1/files");
    let said = proxy.serve.complaint("404");
    assert!(said.contains("infershield_path_unknown"), "{said}");
    send(&proxy, b"GET / HTTP/2.0\r\n\r\n");
    let said = proxy.serve.complaint("505");
    assert!(said.contains("infershield_http_version"), "{said}");
}

#[test]
fn without_a_local_key_nothing_is_served() {
    let proxy = start("keys");
    let body = hello().to_string();
    let made: Value = serde_json::from_str(&proxy.cli(&["key", "create", "--json"]).stdout).unwrap();
    let revoked = proxy.run.secret(made["key"].as_str().unwrap());
    assert_eq!(proxy.cli(&["key", "revoke", made["id"].as_str().unwrap()]).code, 0);
    let wrong = format!("isk_{}", "A".repeat(49));
    for value in
        ["", "Bearer", "Bearer ", "Bearer sk-proj-1234", &format!("Bearer {wrong}"), &format!("Bearer {revoked}")]
    {
        refused(&proxy, (400, 451, "infershield_key_unknown"), |path| {
            request("POST", path, &[("authorization", value)], body.as_bytes())
        });
    }
    let bare = |path: &str| request("POST", path, &[("x-api-key", &revoked)], body.as_bytes());
    refused(&proxy, (400, 451, "infershield_key_unknown"), bare);
    refused(&proxy, (400, 451, "infershield_key_unknown"), |path| request("POST", path, &[], body.as_bytes()));
    proxy.assert_alive();
}

#[test]
fn refusals_before_authentication_share_lines_and_lose_no_count() {
    let proxy = start("refusal-lines");
    let sent = 50;
    for _ in 0..sent {
        assert_eq!(send(&proxy, &request("POST", CHAT, &[], b"{}")).status, 400);
    }
    let lines = || proxy.audit().into_iter().filter(|line| line["status"] == 400).collect::<Vec<_>>();
    let counted = || lines().iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>();
    until("every refusal is counted", || counted() == sent);
    assert!((lines().len() as u64) < sent / 2, "at most one line a second: {}", lines().len());
}

#[test]
fn other_names_and_other_pages_are_refused() {
    let proxy = start("names");
    let bearer = proxy.bearer();
    let body = hello().to_string();
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.", "127.0.0.2:80", "[::2]", "a@localhost", ""] {
        refused(&proxy, (403, 403, "infershield_host"), |path| {
            request("POST", path, &[("host", host), ("authorization", &bearer)], body.as_bytes())
        });
    }
    for origin in
        ["https://evil.example", "null", "http://localhost.evil.example:8000", "file://", "chrome-extension://a"]
    {
        refused(&proxy, (403, 403, "infershield_origin"), |path| {
            request("POST", path, &[("origin", origin), ("authorization", &bearer)], body.as_bytes())
        });
    }
    refused(&proxy, (403, 403, "infershield_origin"), |path| {
        request("POST", path, &[("sec-fetch-site", "cross-site"), ("authorization", &bearer)], body.as_bytes())
    });
    proxy.assert_alive();

    let serve = proxy.cli_start(&["serve", "--listen", "127.0.0.2:0"]);
    let addr = serve.line_after("infershield listening on http://");
    let headers = [("host", addr.as_str()), ("authorization", &bearer)];
    assert_eq!(Wire::call(addr.parse().unwrap(), "GET", "/v1/models", &headers, b"").status, 200, "its own name");
}

#[test]
fn unknown_paths_and_methods_are_named_as_such() {
    let proxy = start("paths");
    let bearer = proxy.bearer();
    let key = [("authorization", bearer.as_str())];
    for path in
        ["/", "/v1", "/v1/files", "/v1/chat/completions/", "/V1/models", "/nobody/v1/models", "/admin", "/metrics"]
    {
        let reply = send(&proxy, &request("GET", path, &key, b""));
        assert_eq!((reply.status, code(path, &reply).as_str()), (404, "infershield_path_unknown"), "{path}");
        assert!(reply.text().contains("/v1/responses"), "the paths that there are: {}", reply.text());
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let make = |path: &str| request(method, path, &[key[0], ("content-length", "0")], b"");
        refused_and_noted(&proxy, (405, 405, "infershield_method"), make);
        assert_eq!(send(&proxy, &make(CHAT)).header("allow"), Some("POST"), "{method}");
    }
    let reply = send(&proxy, &request("POST", "/v1/models", &key, b"{}"));
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET")));
    proxy.assert_alive();
}

#[test]
fn a_body_that_two_readers_could_understand_differently_is_refused() {
    let proxy = start("bodies");
    let bearer = proxy.bearer();
    let deep = format!("{{\"messages\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"[]",
        b"not json",
        b"{\"model\":\"m\"} {}",
        b"{\"model\":\"m\",\"model\":\"n\",\"messages\":[]}",
        b"{\"model\":\"m\",\"mod\\u0065l\":\"n\",\"messages\":[]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"content\":\"b\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xc0\xaf\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xed\xa0\x80\"}]}",
        deep.as_bytes(),
    ];
    for body in bodies {
        let make = |path: &str| request("POST", path, &[("authorization", &bearer)], body);
        refused_and_noted(&proxy, (400, 451, "infershield_malformed"), make);
    }
    proxy.assert_alive();
}

#[test]
fn an_encoded_body_is_refused_with_the_setting_that_switches_it_off() {
    let proxy = start("encodings");
    let bearer = proxy.bearer();
    for encoding in ["gzip", "br", "zstd", "deflate", "x-unknown", "identity, gzip", "gzip, identity"] {
        let headers = [("authorization", bearer.as_str()), ("content-encoding", encoding)];
        let make = |path: &str| request("POST", path, &headers, b"\x1f\x8b\x08");
        refused_and_noted(&proxy, (400, 451, "infershield_encoding"), make);
        let reply = send(&proxy, &make(CHAT));
        assert!(reply.text().contains("enable_request_compression"), "{}", reply.text());
    }
    let plain = proxy.post_with(CHAT, &[("content-encoding", "Identity")], &hello());
    assert_eq!(plain.status, 200, "{}", plain.text());
}

#[test]
fn what_is_larger_than_its_limit_is_refused() {
    let proxy = start("too-large");
    let bearer = proxy.bearer();
    let long = vec![b' '; BODY_BYTES + 1];
    // An announced length is judged with the head, before the key.
    let body = |path: &str| request("POST", path, &[("authorization", &bearer)], &long);
    refused(&proxy, (413, 413, "infershield_too_large"), body);

    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", long.len(), String::from_utf8_lossy(&long));
    let headers = [("authorization", bearer.as_str()), ("transfer-encoding", "chunked")];
    let chunked = |path: &str| request("POST", path, &headers, chunk.as_bytes());
    refused_and_noted(&proxy, (413, 413, "infershield_too_large"), chunked);

    let header = "a".repeat(HEAD_BYTES);
    let head = |path: &str| request("POST", path, &[("x-long", &header)], b"");
    refused(&proxy, (431, 431, "infershield_head_too_large"), head);

    let huge = |path: &str| request("POST", path, &[("content-length", "4611686018427387904")], b"");
    refused(&proxy, (413, 413, "infershield_too_large"), huge);
    proxy.assert_alive();
}

#[test]
fn a_body_with_two_lengths_is_refused() {
    let proxy = start("two-lengths");
    let lengths: [&[(&str, &str)]; 5] = [
        &[("transfer-encoding", "chunked"), ("content-length", "5")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5, 5")],
        &[("transfer-encoding", "gzip, chunked")],
    ];
    for headers in lengths {
        refused(&proxy, (400, 400, "infershield_bad_request"), |path| {
            request("POST", path, headers, b"0\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n")
        });
    }
    let none = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes();
    refused(&proxy, (411, 411, "infershield_length_required"), none);
    proxy.assert_alive();
}

#[test]
fn another_protocol_is_refused_before_the_key_is_asked_for() {
    let proxy = start("upgrade");
    for path in ["/v1/responses", MESSAGES] {
        let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        let reply = send(&proxy, &request("GET", path, &headers, b""));
        assert_eq!((reply.status, code(path, &reply).as_str()), (426, "infershield_no_websocket"), "{path}");
        assert_eq!((reply.header("upgrade"), reply.header("connection")), (Some("HTTP/1.1"), Some("close, upgrade")));
    }
    proxy.assert_alive();
}

#[test]
fn half_a_request_is_not_waited_for_for_ever() {
    let proxy = start("half");
    let whole = request("POST", MESSAGES, &[("x-api-key", &proxy.key)], b"{}");
    let mut wire = proxy.connect();
    wire.send(&whole[..whole.len() / 2]);
    let reply = wire.reply();
    assert_eq!((reply.status, code(MESSAGES, &reply).as_str()), (408, "infershield_timeout"));
    assert!(wire.rest().is_empty(), "and the connection ends");
    proxy.assert_alive();
}

#[test]
fn idle_connections_keep_nobody_out() {
    let proxy = start("idle");
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(proxy.addr).unwrap()).collect();
    proxy.assert_alive();
    drop(idle);
    proxy.assert_alive();
}

#[test]
fn without_descriptors_the_server_waits_and_serves_on() {
    let proxy = start("descriptors");
    // More connections than descriptors.
    let config = std::fs::read_to_string(proxy.home.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["limits"]["max_connections"] = json!(500);
    std::fs::write(proxy.home.join("config.json"), config.to_string()).unwrap();
    let (serve, addr) = proxy.serve_after(&["sh"], "ulimit -n 48");

    let idle: Vec<Wire> = (0..100).map(|_| Wire::connect(addr)).collect();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", serve.id())).unwrap().count();
    until("all descriptors are in use", || descriptors() >= 48);
    drop(idle);
    let served = || {
        let mut wire = Wire::connect(addr);
        wire.send(&request("POST", CHAT, &[("x-api-key", &proxy.key)], hello().to_string().as_bytes()));
        wire.try_head().is_ok_and(|head| head.status == 200)
    };
    until("it serves again", served);
}
