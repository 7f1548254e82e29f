//! Invariant 5: we never discard a stored token; rotation is one at a time; a network fault never deletes anything.

use crate::support::{Fixture, Wire, code, hello, request};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

const CHAT: &str = "/v1/chat/completions";
const REFRESHED: &str = "token refresh_token ok";

/// A login whose token has ended by the time it is stored; the tokens after it live long.
fn expired(name: &'static str) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.settings = json!({"token_seconds": 0});
    let proxy = plan.start();
    proxy.practice.set(&json!({"token_seconds": 3600}));
    proxy
}

/// So many requests to each of these proxies, all let go at the same moment; every one must be answered well.
fn rush(proxy: &Fixture, addresses: &[SocketAddr], each: usize) {
    let gate = Barrier::new(addresses.len() * each);
    let (key, body) = (&proxy.key, hello().to_string());
    let (gate, body) = (&gate, body.as_bytes());
    thread::scope(|scope| {
        for addr in addresses.iter().flat_map(|addr| std::iter::repeat_n(*addr, each)) {
            scope.spawn(move || {
                gate.wait();
                let reply = Wire::call(addr, "POST", CHAT, &[("x-api-key", key)], body);
                assert_eq!(reply.status, 200, "{}", reply.text());
            });
        }
    });
}

fn tokens(proxy: &Fixture) -> Vec<u8> {
    fs::read(proxy.home.join("tokens.json")).unwrap()
}

#[test]
fn invariant_5_an_expired_token_is_refreshed_before_it_is_sent() {
    let proxy = expired("refresh-first");
    assert_eq!(proxy.post(CHAT, &hello()).status, 200);
    assert_eq!(proxy.practice.count(REFRESHED), 1);
    assert_eq!(proxy.practice.requests(CHAT).len(), 1, "no 401 had to say so");
    assert_eq!(proxy.audit_of("auth.refresh").len(), 1);
}

#[test]
fn invariant_5_32_threads_cause_one_refresh() {
    let proxy = expired("one-refresh");
    rush(&proxy, &[proxy.addr], 32);
    assert_eq!(proxy.practice.count(REFRESHED), 1);
    assert_eq!(proxy.practice.count("POST /oauth/token"), 2, "the login's and one more");
}

#[test]
fn invariant_5_four_processes_cause_one_refresh() {
    let proxy = expired("one-refresh-processes");
    let others: Vec<_> = (0..3).map(|_| proxy.cli_start(&["serve", "--listen", "127.0.0.1:0"])).collect();
    let address = |process: &crate::support::Process| {
        process.line_after("infershield listening on http://").parse::<SocketAddr>().unwrap()
    };
    let mut addresses: Vec<SocketAddr> = others.iter().map(address).collect();
    addresses.push(proxy.addr);
    rush(&proxy, &addresses, 8);
    assert_eq!(proxy.practice.count(REFRESHED), 1);
    // A second use of a rotated token would have ended the login for all.
    rush(&proxy, &addresses, 1);
    assert_eq!(proxy.cli(&["audit", "verify"]).code, 0, "four writers, one log");
}

#[test]
fn invariant_5_a_401_to_many_causes_one_refresh() {
    let proxy = Fixture::start("one-refresh-401");
    let threads = 16;
    // The provider forgets the token: every request that carries it is refused.
    proxy.practice.fail(CHAT, &json!({"kind": "status", "status": 401, "times": 1}));
    rush(&proxy, &[proxy.addr], threads);
    assert_eq!(proxy.practice.count(REFRESHED), 1);
}

#[test]
fn invariant_5_a_fault_at_the_token_endpoint_deletes_nothing() {
    let proxy = expired("refresh-faults");
    // When the reply with the next refresh token is lost, only a provider that does not rotate can still help.
    proxy.practice.set(&json!({"rotate": false}));
    let before = tokens(&proxy);
    for fault in [
        json!({"kind": "close"}),
        json!({"kind": "cut"}),
        json!({"kind": "html"}),
        json!({"kind": "oversized", "bytes": 2_000_000}),
        json!({"kind": "status", "status": 500}),
        json!({"kind": "status", "status": 503}),
        json!({"kind": "status", "status": 429}),
    ] {
        proxy.practice.fail("/oauth/token", &fault);
        let reply = proxy.post(CHAT, &hello());
        assert_eq!((reply.status, code(CHAT, &reply).as_str()), (503, "infershield_unavailable"), "{fault}");
        assert!(reply.header("retry-after").is_some(), "{fault}");
        assert_eq!(tokens(&proxy), before, "{fault}");
    }
    assert_eq!(proxy.post(CHAT, &hello()).status, 200, "and it heals by itself");
}

#[test]
fn invariant_5_a_provider_that_is_down_ends_no_login() {
    let mut proxy = expired("refresh-down");
    let before = tokens(&proxy);
    proxy.practice.kill();
    assert_eq!(proxy.post(CHAT, &hello()).status, 503);
    assert_eq!(tokens(&proxy), before);
    let rows: Value = serde_json::from_str(&proxy.cli(&["auth", "status", "--json"]).stdout).unwrap();
    assert_eq!((&rows[0]["state"], &rows[0]["refreshable"]), (&json!("valid"), &json!(true)));
}

#[test]
fn invariant_5_a_client_that_leaves_ends_no_refresh() {
    let mut proxy = expired("refresh-left");
    let path = proxy.home.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let open =
        json!({"id": "open", "login": "none", "api_base": format!("{}/v1", proxy.practice.origin), "apis": ["chat"]});
    config["providers"].as_array_mut().unwrap().push(open);
    fs::write(&path, config.to_string()).unwrap();
    proxy.restart();
    let send = |path: &str, held: u64| {
        let mut client = proxy.connect();
        client.send(&request("POST", path, &[("x-api-key", &proxy.key)], hello().to_string().as_bytes()));
        proxy.practice.wait("held", held);
    };
    proxy.practice.fail("/oauth/token", &json!({"kind": "silence"}));
    send(CHAT, 1);
    // Another client that leaves while its provider is silent is noticed: by then the first one would have been too.
    proxy.practice.fail(CHAT, &json!({"kind": "silence"}));
    send("/open/v1/chat/completions", 2);
    proxy.practice.wait(&format!("left {CHAT}"), 1);
    proxy.practice.release();
    proxy.practice.wait("answered /oauth/token", 2);
    assert_eq!(proxy.post(CHAT, &hello()).status, 200);
    assert_eq!(proxy.practice.count(REFRESHED), 1, "the rotated refresh token is there");
}

#[test]
fn invariant_5_a_login_that_is_over_is_kept_and_marked() {
    let proxy = expired("over");
    proxy.practice.fail("/oauth/token", &json!({"kind": "oauth_error", "error": "invalid_grant"}));
    assert_eq!(proxy.post(CHAT, &hello()).status, 400);
    let stored: Value = serde_json::from_slice(&tokens(&proxy)).unwrap();
    assert_eq!(stored["records"][0]["state"], "dead");
    assert!(stored["records"][0]["refresh_token"]["ciphertext"].is_string(), "kept");
}
