//! What goes wrong at the provider: told to the client as what it is, and never at the price of a login.

use crate::support::{Fixture, Login, RawProvider, Reply, Run, code, hello, repair_status, request, streamed, until};
use serde_json::{Value, json};
use std::fs;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// Both shapes of errors.
const BOTH: [&str; 2] = [CHAT, MESSAGES];

fn assert_refused(path: &str, reply: &Reply, status: u16, expected: &str) {
    assert_eq!((reply.status, code(path, reply).as_str()), (status, expected), "{path}: {}", reply.text());
}

fn login_state(proxy: &Fixture) -> Value {
    let rows: Value = serde_json::from_str(&proxy.cli(&["auth", "status", "--json"]).stdout).unwrap();
    rows[0].clone()
}

/// A proxy whose only provider is at this address and wants no login.
fn with_provider_at(name: &'static str, api_base: &str) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.login = Login::Skip;
    plan.provider = json!({"login": "none", "api_base": api_base});
    plan.start()
}

#[test]
fn a_provider_that_is_down_is_a_502_and_no_logout() {
    let mut proxy = Fixture::start("down");
    let tokens = fs::read(proxy.home.join("tokens.json")).unwrap();
    proxy.practice.kill();
    for path in BOTH {
        let reply = proxy.post(path, &hello());
        assert_refused(path, &reply, 502, "infershield_provider");
        assert_eq!(proxy.line_of(&reply)["outcome"], "error");
    }
    assert_eq!(fs::read(proxy.home.join("tokens.json")).unwrap(), tokens);
    assert_eq!(login_state(&proxy)["state"], "valid");
}

#[test]
fn a_provider_that_speaks_no_tls_is_a_502() {
    let plain = RawProvider::start(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let proxy = with_provider_at("no-tls", &format!("https://{}/v1", plain.addr));
    for path in BOTH {
        assert_refused(path, &proxy.post(path, &hello()), 502, "infershield_provider");
    }
}

#[test]
fn a_provider_whose_certificate_nobody_vouches_for_is_a_502() {
    let run = Run::new("self-signed");
    let mut certify = run.program("openssl".as_ref());
    certify.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    certify.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    certify.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"]);
    assert_eq!(run.start(certify).wait().code, 0);
    let mut server = run.program("openssl".as_ref());
    server.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", "-www"]);
    let server = run.start(server);
    let port = server.line_after("ACCEPT ").rsplit(':').next().unwrap().to_owned();

    for (certificate, status) in [(json!(null), 502), (json!(run.dir.join("cert.pem")), 200)] {
        let mut plan = Fixture::plan("certificate");
        plan.login = Login::Skip;
        let api_base = format!("https://localhost:{port}/v1");
        plan.provider = json!({"login": "none", "api_base": api_base, "ca_file": certificate});
        let reply = plan.start().fetch("/v1/models");
        assert_eq!(reply.status, status, "{}", reply.text());
    }
}

#[test]
fn a_provider_that_breaks_the_protocol_is_a_502() {
    for (number, reply) in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 199 Odd\r\ncontent-length: 2\r\n\r\n{}",
        b"",
    ]
    .into_iter()
    .enumerate()
    {
        let provider = RawProvider::start(reply);
        let proxy = with_provider_at("protocol", &format!("http://{}/v1", provider.addr));
        let reply = proxy.post(CHAT, &hello());
        assert_eq!(reply.status, 502, "reply {number}: {}", reply.text());
        assert_refused(CHAT, &reply, 502, "infershield_provider");
        assert_eq!(proxy.line_of(&reply)["outcome"], "error", "reply {number}");
    }
}

#[test]
fn a_status_that_has_no_body_is_whole_whatever_length_it_names() {
    for reply in [
        &b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: \"a\"\r\n\r\n"[..],
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
    ] {
        let provider = RawProvider::start(reply);
        let proxy = with_provider_at("bodiless", &format!("http://{}/v1", provider.addr));
        let mut wire = proxy.begin(CHAT, &hello());
        let reply = wire.reply();
        assert!(matches!(reply.status, 204 | 304), "{reply:?}");
        assert_eq!((reply.header("content-length"), reply.header("connection")), (None, None));
        assert_eq!(proxy.line_of(&reply)["outcome"], "complete", "{reply:?}");
        wire.send(&request("GET", "/health", &[], b""));
        assert_eq!(wire.reply().status, 200, "the connection was not cut");
    }
}

#[test]
fn one_401_is_healed_by_one_refresh_and_one_more_try() {
    let proxy = Fixture::start("one-401");
    for (turn, path) in BOTH.into_iter().enumerate() {
        proxy.practice.fail(path, &json!({"kind": "status", "status": 401}));
        assert_eq!(proxy.post(path, &hello()).status, 200, "{path}");
        assert_eq!(proxy.practice.count(&format!("POST {path}")), 2);
        assert_eq!(proxy.practice.count("token refresh_token ok"), turn as u64 + 1);
    }
}

#[test]
fn a_second_401_needs_a_person() {
    let proxy = Fixture::start("two-401");
    for path in BOTH {
        proxy.practice.fail(path, &json!({"kind": "status", "status": 401, "times": 2}));
        let reply = proxy.post(path, &hello());
        assert_refused(path, &reply, repair_status(path), "infershield_login_needed");
        assert!(reply.text().contains("infershield auth login practice"), "{}", reply.text());
        assert_eq!(proxy.practice.count(&format!("POST {path}")), 2, "no third try");
    }
    assert_eq!(proxy.post(CHAT, &hello()).status, 200, "the login was not thrown away");
}

#[test]
fn three_refused_refreshed_tokens_in_a_row_make_a_login_suspect() {
    let proxy = Fixture::start("suspect");
    let tokens = || fs::read_to_string(proxy.home.join("tokens.json")).unwrap();
    proxy.practice.fail(CHAT, &json!({"kind": "status", "status": 401, "times": 6}));
    for _ in 0..3 {
        assert_eq!(login_state(&proxy)["state"], "valid");
        assert_refused(CHAT, &proxy.post(CHAT, &hello()), 400, "infershield_login_needed");
    }
    assert_eq!(login_state(&proxy)["state"], "suspect");
    assert_eq!(login_state(&proxy)["repair"], "infershield auth login practice");
    assert!(tokens().contains("\"suspect\"") && tokens().contains("refresh_token"), "kept, not deleted");

    let before = proxy.forwarded();
    assert_refused(CHAT, &proxy.post(CHAT, &hello()), 400, "infershield_login_needed");
    assert_eq!(proxy.forwarded(), before, "not used until the user acts");
    assert_eq!(proxy.practice.count("revocations"), 0, "nor revoked unasked");
    assert_eq!(proxy.audit_of("auth.suspect").len(), 1);
}

#[test]
fn other_errors_between_do_not_make_a_login_suspect() {
    let proxy = Fixture::start("not-suspect");
    for status in [403, 429, 500, 403, 429, 500] {
        proxy.practice.fail(CHAT, &json!({"kind": "status", "status": status}));
        assert_eq!(proxy.post(CHAT, &hello()).status, status);
    }
    assert_eq!(login_state(&proxy)["state"], "valid");
    assert_eq!(proxy.practice.count("token refresh_token ok"), 0, "only a 401 is about the token");
}

#[test]
fn the_providers_own_errors_pass_unchanged() {
    let proxy = Fixture::start("own-errors");
    for status in [400, 402, 403, 404, 409, 422, 429, 500, 502, 503, 529] {
        for path in BOTH {
            let body = format!("{{\"error\" : {{ \"type\":\"their_own\", \"status\":{status} }} }}");
            let headers = json!({"retry-after": "7", "x-ratelimit-remaining": "0"});
            let fault = json!({"kind": "status", "status": status, "headers": headers, "body": body});
            proxy.practice.fail(path, &fault);
            let reply = proxy.post(path, &hello());
            assert_eq!((reply.status, reply.text()), (status, body), "{path}");
            assert_eq!(reply.header("retry-after"), Some("7"));
            assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
            assert_eq!(proxy.line_of(&reply)["status"], status);
        }
    }
}

#[test]
fn a_redirect_is_neither_followed_nor_passed_on() {
    let proxy = Fixture::start("redirect");
    for path in BOTH {
        let elsewhere = format!("{}/v1/elsewhere", proxy.practice.origin);
        for status in [301, 302, 303, 307, 308] {
            let headers = json!({"location": elsewhere});
            proxy.practice.fail(path, &json!({"kind": "status", "status": status, "headers": headers}));
            let reply = proxy.post(path, &hello());
            assert_refused(path, &reply, 502, "infershield_provider");
            assert_eq!(reply.header("location"), None);
            assert!(!reply.text().contains("elsewhere"), "{}", reply.text());
        }
    }
    assert!(proxy.practice.requests("/v1/elsewhere").is_empty());
}

#[test]
fn a_connection_that_closes_without_a_reply_is_a_502() {
    let proxy = Fixture::start("closed");
    for path in BOTH {
        proxy.practice.fail(path, &json!({"kind": "close"}));
        assert_refused(path, &proxy.post(path, &hello()), 502, "infershield_provider");
    }
    proxy.assert_alive();
}

#[test]
fn a_silent_provider_is_left_when_its_client_leaves() {
    let proxy = Fixture::start("silent");
    for after in [json!(null), json!(1)] {
        for path in BOTH {
            let (held, left) = (proxy.practice.count("held"), proxy.practice.count(&format!("left {path}")));
            proxy.practice.fail(path, &json!({"kind": "silence", "after": after}));
            let wire = proxy.begin(path, &streamed());
            proxy.practice.wait("held", held + 1);
            drop(wire);
            proxy.practice.wait(&format!("left {path}"), left + 1);
        }
    }
    let left = || proxy.audit().iter().filter(|line| line["outcome"] == "client_left").count();
    until("each has its line", || left() == 4);
}

#[test]
fn a_login_that_the_provider_ended_is_marked_and_kept() {
    let mut plan = Fixture::plan("login-over");
    plan.settings = json!({"token_seconds": 0});
    let proxy = plan.start();
    proxy.practice.fail("/oauth/token", &json!({"kind": "oauth_error", "error": "invalid_grant"}));
    let reply = proxy.post(MESSAGES, &hello());
    assert_refused(MESSAGES, &reply, 451, "infershield_login_needed");
    assert_eq!(login_state(&proxy)["state"], "dead");
    assert_eq!(proxy.audit_of("auth.dead").len(), 1);
    assert_refused(CHAT, &proxy.post(CHAT, &hello()), 400, "infershield_login_needed");
    assert_eq!(proxy.practice.count("POST /oauth/token"), 2, "login and one refresh: a dead login is not tried again");
}
