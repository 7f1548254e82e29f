//! Invariant 2: a provider token goes to the hosts it was bound to at login, over https or to this machine, and nowhere else.

use crate::support::{Fixture, Login, Practice, Run, STREAMING, code, hello, repair_status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

const CHAT: &str = "/v1/chat/completions";

/// Another provider, which must not be asked for anything.
fn stranger(proxy: &Fixture) -> Practice {
    Practice::start(&proxy.run, &json!({}), &[])
}

fn asked(stranger: &Practice) -> usize {
    stranger.log()["requests"].as_array().unwrap().len()
}

/// Changes members of the provider's row in a home that is logged in, and starts the proxy again.
fn change_row(proxy: &mut Fixture, members: Value) {
    let path = proxy.home.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, value) in members.as_object().unwrap() {
        config["providers"][0][name] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
    proxy.restart();
}

fn state(proxy: &Fixture) -> Value {
    let rows: Value = serde_json::from_str(&proxy.cli(&["auth", "status", "--json"]).stdout).unwrap();
    rows[0]["state"].clone()
}

fn hosts(proxy: &Fixture) -> BTreeSet<String> {
    let done = proxy.cli(&["hosts", "--json"]);
    let rows: Value = serde_json::from_str(&done.stdout).unwrap();
    rows.as_array().unwrap().iter().map(|row| row["host"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn invariant_2_a_changed_api_base_gets_no_token() {
    let mut proxy = Fixture::start("moved-api");
    let thief = stranger(&proxy);
    change_row(&mut proxy, json!({"api_base": format!("{}/v1", thief.origin)}));
    for path in STREAMING {
        let reply = proxy.post(path, &hello());
        assert_eq!((reply.status, code(path, &reply).as_str()), (repair_status(path), "infershield_login_needed"));
    }
    assert_eq!(asked(&thief), 0, "not even without the token");
    assert_eq!(state(&proxy), "suspect");
    assert_eq!(proxy.cli(&["auth", "status"]).code, 1);
}

#[test]
fn invariant_2_a_changed_issuer_or_token_endpoint_gets_no_refresh_token() {
    for (member, path) in [("issuer", ""), ("token_endpoint", "/oauth/token")] {
        let api = Practice::start(&Run::new("api"), &json!({}), &[]);
        let mut plan = Fixture::plan("moved-issuer");
        plan.settings = json!({"token_seconds": 0});
        plan.provider = json!({"api_base": format!("{}/v1", api.origin)});
        let mut proxy = plan.start();
        let thief = stranger(&proxy);
        change_row(&mut proxy, json!({member: format!("{}{path}", thief.origin)}));
        let reply = proxy.post(CHAT, &hello());
        assert_eq!((reply.status, code(CHAT, &reply).as_str()), (400, "infershield_login_needed"), "{member}");
        assert_eq!(state(&proxy), "suspect", "{member}");
        assert_eq!(asked(&thief), 0, "{member}");
        // Nor is the old one asked, which `hosts` may not list any more.
        assert_eq!(proxy.practice.count("POST /oauth/token"), 1, "{member}: the login's own");
    }
}

#[test]
fn invariant_2_an_edited_record_opens_for_nobody() {
    let mut proxy = Fixture::start("edited-record");
    let thief = stranger(&proxy);
    change_row(&mut proxy, json!({"api_base": format!("{}/v1", thief.origin)}));
    let path = proxy.home.join("tokens.json");
    let tokens = fs::read_to_string(&path).unwrap();
    let edited = tokens.replace(&proxy.practice.origin, &thief.origin);
    assert_ne!(tokens, edited);
    fs::write(&path, &edited).unwrap();
    let reply = proxy.post(CHAT, &hello());
    assert_eq!((reply.status, asked(&thief)), (400, 0));
    assert_eq!(fs::read_to_string(&path).unwrap(), edited, "what cannot be believed is left as it is");
}

#[test]
fn invariant_2_a_redirect_takes_no_token_along() {
    let mut plan = Fixture::plan("redirects");
    plan.settings = json!({"token_seconds": 0});
    let proxy = plan.start();
    let thief = stranger(&proxy);
    for path in [CHAT, "/v1/messages", "/oauth/token", "/oauth/revoke"] {
        let location = format!("{}{path}", thief.origin);
        proxy.practice.fail(path, &json!({"kind": "redirect", "location": location, "times": 2}));
    }
    for path in [CHAT, "/v1/messages"] {
        let reply = proxy.post(path, &hello());
        assert!(reply.status >= 400, "{}", reply.text());
        assert!(!reply.text().contains(&thief.addr.to_string()) && reply.header("location").is_none());
    }
    proxy.cli(&["auth", "logout", "practice"]);
    assert_eq!(asked(&thief), 0);
}

#[test]
fn invariant_2_metadata_cannot_name_other_hosts() {
    let mut plan = Fixture::plan("metadata");
    plan.login = Login::Skip;
    let proxy = plan.start();
    let thief = stranger(&proxy);
    let origin = &proxy.practice.origin;
    for (device, token) in [(origin, &thief.origin), (&thief.origin, origin)] {
        let body = json!({"issuer": origin, "token_endpoint": format!("{token}/oauth/token"),
            "device_authorization_endpoint": format!("{device}/oauth/device")});
        let fault = json!({"kind": "status", "status": 200, "body": body.to_string()});
        proxy.practice.fail("/.well-known/openid-configuration", &fault);
        assert_eq!(proxy.cli(&["auth", "login", "practice", "--no-browser"]).code, 3);
    }
    assert_eq!(asked(&thief), 0);
}

#[test]
fn invariant_2_plain_http_is_for_this_machine_only() {
    let mut plan = Fixture::plan("plain-http");
    plan.login = Login::Skip;
    let mut proxy = plan.start();
    for base in [
        "http://192.0.2.1/v1",
        "http://localhost.evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "ftp://127.0.0.1/",
    ] {
        for member in ["api_base", "issuer", "token_endpoint"] {
            let path = proxy.home.join("config.json");
            let good = fs::read(&path).unwrap();
            let mut config: Value = serde_json::from_slice(&good).unwrap();
            config["providers"][0][member] = json!(base);
            fs::write(&path, config.to_string()).unwrap();
            assert_eq!(proxy.cli(&["config", "check"]).code, 2, "{member} {base}");
            assert_eq!(proxy.cli(&["serve", "--listen", "127.0.0.1:0"]).code, 2, "{member} {base}");
            fs::write(&path, good).unwrap();
        }
    }
    change_row(&mut proxy, json!({"login": "none", "api_base": "http://localhost:1/v1"}));
    assert_eq!(proxy.cli(&["config", "check"]).code, 0);
}

#[test]
fn invariant_2_hosts_lists_all_and_only_those_of_the_configuration() {
    let mut plan = Fixture::plan("hosts");
    plan.login = Login::Skip;
    let mut proxy = plan.start();
    let built_in = [
        "https://api.anthropic.com",
        "https://api.githubcopilot.com",
        "https://api.github.com",
        "https://api.openai.com",
        "https://auth.openai.com",
        "https://chatgpt.com",
        "https://github.com",
        "https://*.ghe.com",
        "https://*.githubcopilot.com",
    ];
    let mut expected: BTreeSet<String> = built_in.map(str::to_owned).into();
    expected.insert(proxy.practice.origin.clone());
    assert_eq!(hosts(&proxy), expected);

    let row = json!({"issuer": "https://a.example", "token_endpoint": "https://b.example:8443/t", "account_endpoint": "https://c.example/me",
        "device_endpoint": "https://d.example/d", "revoke_endpoint": "https://e.example/r", "api_base": "https://f.example/v1"});
    change_row(&mut proxy, row);
    expected.remove(&proxy.practice.origin);
    for host in ["a.example", "b.example:8443", "c.example", "d.example", "e.example", "f.example"] {
        expected.insert(format!("https://{host}"));
    }
    assert_eq!(hosts(&proxy), expected);
}
