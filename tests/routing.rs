//! Which provider a request goes to, and what a local key is good for.

use crate::support::{Fixture, Practice, Run, Wire, code, hello, repair_status, request, until};
use serde_json::{Value, json};
use std::fs;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// One proxy and two providers besides the built-in ones: `practice` with a login, `second` without the need of one.
struct Two {
    proxy: Fixture,
    second: Practice,
}

impl Two {
    fn start(name: &'static str, default: Value) -> Self {
        let second = Practice::start(&Run::new("second"), &json!({}), &[]);
        let mut proxy = Fixture::start(name);
        let mut two = config(&proxy);
        two["default_provider"] = default;
        let row = json!({"id": "second", "login": "none", "api_base": format!("{}/v1", second.origin),
            "apis": ["chat", "responses"]});
        two["providers"].as_array_mut().unwrap().push(row);
        configure(&mut proxy, &two);
        Self { proxy, second }
    }

    /// Where a request went: how many more reached the first and the second provider.
    fn went(&self, path: &str, key: &str) -> (u16, &'static str) {
        let before = (requests(&self.proxy.practice), requests(&self.second));
        let reply = Wire::call(self.proxy.addr, "POST", path, &[("x-api-key", key)], hello().to_string().as_bytes());
        let after = (requests(&self.proxy.practice), requests(&self.second));
        let place = match (after.0 - before.0, after.1 - before.1) {
            (1, 0) => "practice",
            (0, 1) => "second",
            _ => "nowhere",
        };
        (reply.status, place)
    }
}

/// What a provider was asked, whatever it answered: known before the answer goes.
fn requests(provider: &Practice) -> usize {
    provider.log()["requests"].as_array().unwrap().len()
}

fn config(proxy: &Fixture) -> Value {
    serde_json::from_slice(&fs::read(proxy.home.join("config.json")).unwrap()).unwrap()
}

fn configure(proxy: &mut Fixture, config: &Value) {
    fs::write(proxy.home.join("config.json"), config.to_string()).unwrap();
    proxy.restart();
}

fn new_key(proxy: &Fixture, arguments: &[&str]) -> Value {
    let done = proxy.cli(&[&["key", "create", "--json"], arguments].concat());
    assert_eq!(done.code, 0, "{done:?}");
    let key: Value = serde_json::from_str(&done.stdout).unwrap();
    proxy.run.secret(key["key"].as_str().unwrap());
    key
}

#[test]
fn the_path_decides_before_the_key_and_the_key_before_the_default() {
    let two = Two::start("route-order", json!("practice"));
    let any = two.proxy.key.clone();
    let bound = new_key(&two.proxy, &["--provider", "second"])["key"].as_str().unwrap().to_owned();
    assert_eq!(two.went(CHAT, &any), (200, "practice"));
    assert_eq!(two.went("/second/v1/chat/completions", &any).1, "second");
    assert_eq!(two.went("/second/chat/completions", &any).1, "second");
    assert_eq!(two.went("/practice/chat/completions", &any), (200, "practice"));
    assert_eq!(two.went(CHAT, &bound).1, "second");
    assert_eq!(two.went("/practice/v1/chat/completions", &bound), (400, "nowhere"));
}

#[test]
fn a_default_decides_between_several_and_without_one_the_request_is_refused() {
    let two = Two::start("route-default", json!("second"));
    assert_eq!(two.went(CHAT, &two.proxy.key).1, "second");
    let mut two = two;
    let mut none = config(&two.proxy);
    none["default_provider"] = Value::Null;
    configure(&mut two.proxy, &none);
    let reply = two.proxy.post(CHAT, &hello());
    assert_eq!((reply.status, code(CHAT, &reply).as_str()), (400, "infershield_login_needed"));
    assert!(reply.text().contains("practice") && reply.text().contains("second"), "{}", reply.text());
    // Only one of the two serves this API.
    assert_eq!(two.went("/v1/embeddings", &two.proxy.key), (200, "practice"));
}

/// Two providers whose rows say which models are theirs; the default is neither's word.
fn with_models(name: &'static str, default: Value) -> Two {
    let mut two = Two::start(name, default);
    let mut rows = config(&two.proxy);
    rows["providers"][0]["models"] = json!(["practice-", "shared-"]);
    rows["providers"][1]["models"] = json!(["local-", "practice-mini", "shared-"]);
    configure(&mut two.proxy, &rows);
    two
}

#[test]
fn the_name_of_the_model_decides_between_several_logins_before_the_default() {
    let two = with_models("route-model", json!("second"));
    let ask = |path: &str, model: &str, key: &str| {
        let before = (requests(&two.proxy.practice), requests(&two.second));
        let mut body = hello();
        body["model"] = json!(model);
        let headers = [("x-api-key", key)];
        let reply = Wire::call(two.proxy.addr, "POST", path, &headers, body.to_string().as_bytes());
        let went = (requests(&two.proxy.practice) - before.0, requests(&two.second) - before.1);
        let done = two.proxy.cli(&["route", path, "--model", model, "--json"]);
        let said: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
        (reply, went, said)
    };
    let any = two.proxy.key.clone();
    for (path, model, provider, why) in [
        (CHAT, "practice-1", "practice", "the model's name"),
        (CHAT, "local-8b", "second", "the model's name"),
        (CHAT, "practice-mini-2", "second", "the model's name"),
        (CHAT, "shared-1", "practice", "the model's name"),
        (CHAT, "unheard-of", "second", "default_provider"),
        (CHAT, "Practice-1", "second", "default_provider"),
        ("/second/v1/chat/completions", "practice-1", "second", "named in the path"),
        ("/practice/v1/chat/completions", "local-8b", "practice", "named in the path"),
        // Only one of the two serves this API: nothing is left to decide by the model.
        ("/v1/embeddings", "local-8b", "practice", "the only login that serves it; default_provider does not"),
    ] {
        let (_, went, said) = ask(path, model, &any);
        let expected = if provider == "practice" { (1, 0) } else { (0, 1) };
        assert_eq!(went, expected, "{path} {model}");
        assert_eq!((&said["provider"], &said["why"]), (&json!(provider), &json!(why)), "{path} {model}");
    }
    let bound = new_key(&two.proxy, &["--provider", "second"])["key"].as_str().unwrap().to_owned();
    assert_eq!(ask(CHAT, "practice-1", &bound).1, (0, 1), "the key is stronger");
}

#[test]
fn verbose_says_by_which_rule_a_request_went_where_it_went() {
    let mut plan = Fixture::plan("route-verbose");
    plan.serve = &["--verbose"];
    plan.provider = json!({"models": ["practice-"]});
    let mut proxy = plan.start();
    let mut two = config(&proxy);
    let row = json!({"id": "second", "login": "none", "api_base": "http://127.0.0.1:9/v1", "apis": ["chat"]});
    two["providers"].as_array_mut().unwrap().push(row);
    configure(&mut proxy, &two);
    for (path, body, why) in [
        (CHAT, hello(), "the model's name"),
        (CHAT, json!({"model": "other", "messages": []}), "default_provider"),
        ("/practice/v1/chat/completions", hello(), "named in the path"),
    ] {
        assert_eq!(proxy.post(path, &body).status, 200);
        proxy.serve.complaint(&format!("chat.completion -> practice ({why}): 200"));
    }
}

#[test]
fn without_a_default_the_name_of_the_model_is_enough() {
    let two = with_models("route-model-alone", Value::Null);
    assert_eq!(two.went(CHAT, &two.proxy.key), (200, "practice"));
    let reply = two.proxy.post(CHAT, &json!({"model": "unheard-of", "messages": []}));
    assert_eq!((reply.status, code(CHAT, &reply).as_str()), (400, "infershield_login_needed"));
    // What is no JSON, or names its model twice, names none; it is refused either way.
    for body in [&b"{"[..], br#"{"model":"practice-1","model":"local-1"}"#] {
        assert_eq!(two.proxy.post_bytes(CHAT, body).status, 400);
    }
    assert_eq!(requests(&two.second), 0);
}

#[test]
fn a_default_does_not_block_what_another_login_serves() {
    let mut two = with_models("route-default-blocks", json!("second"));
    assert_eq!(two.went("/v1/embeddings", &two.proxy.key), (200, "practice"));
    assert_eq!(two.went(MESSAGES, &two.proxy.key), (200, "practice"));
    assert_eq!(two.went("/second/v1/embeddings", &two.proxy.key), (400, "nowhere"), "asked for by name");
    let bound = new_key(&two.proxy, &["--provider", "second"])["key"].as_str().unwrap().to_owned();
    assert_eq!(two.went("/v1/embeddings", &bound), (400, "nowhere"), "the key's own");

    // Of several that serve it, the model decides; when that does not, somebody has to.
    let mut three = config(&two.proxy);
    let row = json!({"id": "third", "login": "none", "api_base": "http://127.0.0.1:9/v1", "apis": ["embeddings"]});
    three["providers"].as_array_mut().unwrap().push(row);
    configure(&mut two.proxy, &three);
    assert_eq!(two.went("/v1/embeddings", &two.proxy.key), (200, "practice"));
    let reply = two.proxy.post("/v1/embeddings", &json!({"model": "unheard-of", "input": "hello"}));
    assert_eq!((reply.status, code(CHAT, &reply).as_str()), (400, "infershield_login_needed"));
    assert!(reply.text().contains("several logins fit (practice, third, …)"), "{}", reply.text());
}

#[test]
fn an_api_that_the_provider_does_not_serve_is_not_forwarded_and_the_client_shows_why() {
    let mut two = Two::start("route-apis", json!("second"));
    assert_eq!(two.proxy.cli(&["auth", "logout", "practice"]).code, 0);
    two.proxy.restart();
    let reply = two.proxy.post(MESSAGES, &hello());
    assert_eq!((reply.status, code(MESSAGES, &reply).as_str()), (451, "infershield_not_served"));
    assert!(reply.text().contains("type `infershield auth login anthropic`"), "{}", reply.text());
    assert_eq!(requests(&two.second), 0);
}

#[test]
fn messages_go_to_anthropic_when_logged_in_there() {
    let mut proxy = Fixture::start("route-anthropic");
    let second = Practice::start(&proxy.run, &json!({}), &["practice-anthropic-key-0123"]);
    let mut with = config(&proxy);
    let row = json!({"id": "anthropic", "api_base": format!("{}/v1", second.origin)});
    with["providers"].as_array_mut().unwrap().push(row);
    configure(&mut proxy, &with);
    assert_eq!(proxy.post(MESSAGES, &hello()).status, 200);
    assert_eq!(requests(&second), 0, "not logged in there");

    let key = proxy.run.secret("practice-anthropic-key-0123");
    assert_eq!(proxy.cli_typing(&["auth", "login", "anthropic", "--with-key"], &key).code, 0);
    assert_eq!(proxy.post(MESSAGES, &hello()).status, 200);
    let sent = &second.requests(MESSAGES)[0];
    assert!(sent["headers"].as_array().unwrap().contains(&json!(["x-api-key", key])));
    assert_eq!(proxy.post(CHAT, &hello()).status, 200);
    assert_eq!(requests(&second), 1, "the other APIs stay with the default");
}

#[test]
fn a_path_works_with_and_without_v1() {
    let proxy = Fixture::start("route-v1");
    for path in ["/v1/responses", "/responses", "/practice/v1/responses", "/practice/responses"] {
        assert_eq!(proxy.post(path, &hello()).status, 200, "{path}");
    }
    assert_eq!(proxy.fetch("/v1/models").status, 200);
    assert_eq!(proxy.fetch("/practice/models").status, 200);
    assert_eq!(proxy.practice.requests("/v1/responses").len(), 4, "one place at the provider");
}

#[test]
fn the_command_route_says_what_the_proxy_does() {
    let two = Two::start("route-command", json!("second"));
    for (path, expected) in [(CHAT, "second"), ("/practice/v1/models", "practice"), ("/second/responses", "second")] {
        let done = two.proxy.cli(&["route", path, "--json"]);
        let said: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(said["provider"], expected, "{path}");
    }
    assert_eq!(two.proxy.cli(&["route", "/v1/files"]).code, 1);
}

#[test]
fn without_a_login_the_client_is_told_how_to_log_in() {
    let proxy = Fixture::start("route-no-login");
    assert_eq!(proxy.cli(&["auth", "logout", "practice"]).code, 0);
    for path in [CHAT, MESSAGES] {
        until("logout is in force", || proxy.post(path, &hello()).status == repair_status(path));
        let reply = proxy.post(path, &hello());
        assert_eq!(code(path, &reply), "infershield_login_needed");
        assert!(reply.text().contains("infershield auth login practice"), "{}", reply.text());
    }
}

#[test]
fn a_key_is_taken_from_either_header_on_every_path() {
    let proxy = Fixture::start("key-headers");
    let key = proxy.key.clone();
    for path in crate::support::POSTED {
        for headers in [
            &[("authorization", format!("Bearer {key}"))][..],
            &[("authorization", format!("bearer {key}"))],
            &[("x-api-key", key.clone())],
            // Clients that were given a provider's key in the other variable send both.
            &[("x-api-key", key.clone()), ("authorization", "Bearer sk-none".to_owned())],
            &[("x-api-key", "none".to_owned()), ("authorization", format!("Bearer {key}"))],
        ] {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut wire = proxy.connect();
            wire.send(&request("POST", path, &headers, hello().to_string().as_bytes()));
            assert_eq!(wire.reply().status, 200, "{path} with {} headers", headers.len());
        }
    }
}
