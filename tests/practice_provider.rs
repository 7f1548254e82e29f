//! The practice provider does what the other tests rely on.

use crate::support::{Cut, Practice, Reply, Run, Wire, request};
use serde_json::{Value, json};

const KEY: &str = "practice-api-key-0123456789";

fn start(name: &str, settings: &Value) -> Practice {
    let run = Run::new(name);
    Practice::start(&run, settings, &[&run.secret(KEY)])
}

fn form(practice: &Practice, path: &str, fields: &str) -> Reply {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    Wire::call(practice.addr, "POST", path, &headers, fields.as_bytes())
}

fn ask(path: &str, stream: bool) -> Vec<u8> {
    let body = json!({"model": "m", "stream": stream, "input": "hi", "prompt": "hi",
        "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "hi"}]});
    request("POST", path, &[("x-api-key", KEY)], body.to_string().as_bytes())
}

fn log_in(practice: &Practice, approve: bool) -> Value {
    let code = form(practice, "/oauth/device", "client_id=c&scope=openid").json();
    let user_code = code["user_code"].as_str().unwrap();
    if approve {
        practice.approve(user_code);
    } else {
        practice.deny(user_code);
    }
    poll(practice, "/oauth/token", &code).json()
}

fn poll(practice: &Practice, path: &str, code: &Value) -> Reply {
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    let code = code["device_code"].as_str().unwrap();
    form(practice, path, &format!("grant_type={grant}&client_id=c&device_code={code}"))
}

fn refresh(practice: &Practice, token: &Value) -> Reply {
    let token = token.as_str().unwrap();
    form(practice, "/oauth/token", &format!("grant_type=refresh_token&client_id=c&refresh_token={token}"))
}

fn status_with(practice: &Practice, token: &Value) -> u16 {
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    Wire::call(practice.addr, "GET", "/v1/models", &[("authorization", &bearer)], b"").status
}

#[test]
fn a_login_waits_for_a_person() {
    let practice = start("login", &json!({"interval": 0}));
    let code = form(&practice, "/oauth/device", "client_id=c").json();
    assert_eq!(poll(&practice, "/oauth/token", &code).json()["error"], "authorization_pending");
    assert_eq!(log_in(&practice, false)["error"], "access_denied");
    let tokens = log_in(&practice, true);
    assert_eq!(status_with(&practice, &tokens["access_token"]), 200);
    assert_eq!(practice.count("token device_code ok"), 1);
}

#[test]
fn polling_too_fast_is_told_to_slow_down() {
    let practice = start("slow-down", &json!({"interval": 600}));
    let code = form(&practice, "/oauth/device", "client_id=c").json();
    poll(&practice, "/oauth/token", &code);
    assert_eq!(poll(&practice, "/oauth/token", &code).json()["error"], "slow_down");
}

#[test]
fn a_spent_refresh_token_ends_the_whole_grant() {
    let practice = start("rotation", &json!({}));
    let first = log_in(&practice, true);
    let second = refresh(&practice, &first["refresh_token"]).json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(refresh(&practice, &first["refresh_token"]).json()["error"], "invalid_grant");
    assert_eq!(refresh(&practice, &second["refresh_token"]).json()["error"], "invalid_grant");
    assert_eq!(status_with(&practice, &second["access_token"]), 401);
}

#[test]
fn without_rotation_a_refresh_token_is_used_again_and_again() {
    let practice = start("no-rotation", &json!({"rotate": false, "expires_in": false}));
    let first = log_in(&practice, true);
    let second = refresh(&practice, &first["refresh_token"]).json();
    assert_eq!((&second["refresh_token"], &second["expires_in"]), (&Value::Null, &Value::Null));
    assert_eq!(refresh(&practice, &first["refresh_token"]).status, 200);
}

#[test]
fn a_revoked_refresh_token_takes_its_access_tokens_along() {
    let practice = start("revoke", &json!({}));
    let tokens = log_in(&practice, true);
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    form(&practice, "/oauth/revoke", &format!("token={refresh_token}"));
    assert_eq!(status_with(&practice, &tokens["access_token"]), 401);
}

#[test]
fn the_github_paths_answer_in_forms_and_with_200() {
    let practice = start("github", &json!({"interval": 0}));
    let code = form(&practice, "/login/device/code", "client_id=c");
    assert!(code.text().contains("verification_uri=http%3A%2F%2F127.0.0.1"), "{}", code.text());
    let headers = [("accept", "application/json")];
    let code = Wire::call(practice.addr, "POST", "/login/device/code", &headers, b"client_id=c").json();
    let pending = poll(&practice, "/login/oauth/access_token", &code);
    assert_eq!(pending.status, 200);
    assert!(pending.text().contains("error=authorization_pending"), "{}", pending.text());
}

#[test]
fn in_lock_step_an_event_is_made_only_when_asked_for() {
    let practice = start("lock-step", &json!({"lock_step": true}));
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"] {
        let before = practice.count("events");
        let mut wire = Wire::connect(practice.addr);
        wire.send(&ask(path, true));
        assert_eq!(wire.head().header("content-type"), Some("text/event-stream"));
        let mut seen = 0;
        while let Some(event) = wire.event().unwrap() {
            seen += 1;
            assert_eq!(practice.count("events"), before + seen, "{path}: {event}");
            if !event.contains("[DONE]") && !event.contains("response.completed") && !event.contains("message_stop\"") {
                practice.next();
            }
        }
        assert!(seen > 5, "{path} is a stream");
    }
}

#[test]
fn each_fault_happens_as_often_as_ordered_and_then_no_more() {
    let practice = start("faults", &json!({}));
    let path = "/v1/messages";
    let call = || {
        let mut wire = Wire::connect(practice.addr);
        wire.send(&ask(path, false));
        wire.try_head().map(|head| (head.status, wire.body()))
    };
    practice.fail(path, &json!({"kind": "status", "status": 429, "headers": {"retry-after": "7"}, "times": 2}));
    assert_eq!(call().unwrap().0, 429);
    assert_eq!(call().unwrap().0, 429);
    practice.fail(path, &json!({"kind": "redirect", "location": "http://127.0.0.2:9/"}));
    assert_eq!(call().unwrap().0, 307);
    practice.fail(path, &json!({"kind": "close"}));
    assert_eq!(call(), Err(Cut));
    practice.fail(path, &json!({"kind": "cut"}));
    assert_eq!(call(), Ok((200, Err(Cut))));
    practice.fail(path, &json!({"kind": "oversized", "bytes": 100_000}));
    assert_eq!(call().unwrap().1.unwrap().len(), 100_002);
    practice.fail(path, &json!({"kind": "gzip"}));
    assert!(call().unwrap().1.unwrap().starts_with(&[0x1f, 0x8b]));
    assert_eq!(call().unwrap().0, 200);
}

#[test]
fn a_cut_stream_has_no_end_and_a_silent_one_notices_that_its_client_left() {
    let practice = start("broken-streams", &json!({}));
    practice.fail("/v1/messages", &json!({"kind": "cut", "after": 2}));
    let mut wire = Wire::connect(practice.addr);
    wire.send(&ask("/v1/messages", true));
    wire.head();
    assert!(wire.event().unwrap().is_some() && wire.event().unwrap().is_some());
    assert_eq!(wire.event(), Err(Cut));

    practice.fail("/v1/messages", &json!({"kind": "silence", "after": 1}));
    let mut wire = Wire::connect(practice.addr);
    wire.send(&ask("/v1/messages", true));
    wire.head();
    assert!(wire.event().unwrap().is_some());
    practice.wait("held", 1);
    drop(wire);
    practice.wait("left /v1/messages", 1);
}

#[test]
fn the_log_holds_every_request_as_it_came() {
    let practice = start("log", &json!({}));
    Wire::call(practice.addr, "POST", "/v1/messages?beta=true", &[("x-api-key", "wrong"), ("x-mark", "42")], b"{}");
    practice.wait("answered /v1/messages", 1);
    let request = practice.requests("/v1/messages").remove(0);
    assert_eq!(request["query"], "beta=true");
    assert_eq!(request["body"], "{}");
    assert!(request["headers"].as_array().unwrap().contains(&json!(["x-mark", "42"])));
    assert_eq!(request["outcome"], "answered");
}
