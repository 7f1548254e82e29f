//! Okta and Entra: where their device logins differ from RFC 8628 and from each other, through the real binary.

use crate::support::{Done, Fixture, code, hello};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
/// What a provider answers to each command of the login: the code, then the polls.
const ENTRA: [&str; 3] = ["entra", "/tenant/oauth2/v2.0/devicecode", "/tenant/oauth2/v2.0/token"];
const OKTA: [&str; 3] = ["okta", "/oauth2/default/v1/device/authorize", "/oauth2/default/v1/token"];

/// A home without a login, at a provider with these endpoints and no metadata.
fn newcomer(name: &'static str, [_, device, token]: [&str; 3]) -> Fixture {
    let row = json!({"id": "corp", "login": "device", "client_id": "c", "scopes": ["openid", "offline_access"],
        "device_endpoint": format!("BASE{device}"), "token_endpoint": format!("BASE{token}"), "api_base": "BASE/v1",
        "apis": ["chat"]});
    Fixture::with_row(name, &row)
}

/// A login whose polls are answered like this, after this code.
fn log_in(desk: &Fixture, [provider, device, token]: [&str; 3], code: &str, polls: &[&str]) -> Done {
    desk.practice.recorded(device, provider, code);
    polls.iter().for_each(|name| desk.practice.recorded(token, provider, name));
    desk.cli(&["auth", "login", "corp", "--no-browser", "--json"])
}

fn events(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A logged-in home whose token is due: the next request refreshes, and is answered like this.
fn refreshed(desk: &Fixture, [provider, _, token]: [&str; 3], reply: &str) -> (u16, String, Value) {
    let aged = desk.store();
    aged.update("local", "corp", &mut |record| crate::support::age(record, 4000)).unwrap();
    desk.practice.recorded(token, provider, reply);
    let reply = desk.post(CHAT, &hello());
    (reply.status, code(CHAT, &reply), desk.status()[0]["state"].clone())
}

fn dead() -> (u16, String, Value) {
    (400, "infershield_login_needed".to_owned(), json!("dead"))
}

#[test]
fn entra_logs_in_at_explicit_endpoints_without_a_complete_uri() {
    let desk = newcomer("entra-login", ENTRA);
    desk.run.secret("EwB-invented-access-1");
    let done = log_in(&desk, ENTRA, "quick_code", &["pending", "tokens"]);
    assert_eq!(done.code, 0, "{done:?}");
    let code = json!({"event": "code", "verification_uri": "https://microsoft.com/devicelogin",
        "verification_uri_complete": null, "user_code": "FRINVENT7", "expires_in": 900});
    assert_eq!(events(&done)[0], code);
    assert_eq!(desk.practice.requests("/tenant/oauth2/v2.0/devicecode").len(), 1);
    assert_eq!(desk.practice.log()["requests"].as_array().unwrap().len(), 3, "no metadata is asked for");
    assert_eq!(desk.status()[0]["refreshable"], true);
}

#[test]
fn entras_own_words_end_a_login() {
    let desk = newcomer("entra-ends", ENTRA);
    for (name, exit, words) in [
        ("declined", 1, "cancelled in the browser"),
        ("bad_code", 4, "bad_verification_code"),
        ("expired", 1, "the code expired"),
    ] {
        let done = log_in(&desk, ENTRA, "quick_code", &[name]);
        assert_eq!(done.code, exit, "{name}: {done:?}");
        let last = events(&done).pop().unwrap();
        assert_eq!(last["event"], "failed");
        assert!(last["error"].as_str().unwrap().contains(words), "{last}");
    }
    assert_eq!(desk.practice.requests(ENTRA[2]).len(), 3, "each was the last poll of its login");
    assert_eq!(desk.cli(&["auth", "status"]).code, 1);
}

#[test]
fn entras_refresh_errors_mean_a_new_login_only_when_they_say_so() {
    let desk = newcomer("entra-refresh", ENTRA);
    for name in ["refresh_expired", "refresh_needs_mfa", "interaction_required"] {
        assert_eq!(log_in(&desk, ENTRA, "quick_code", &["tokens"]).code, 0);
        assert_eq!(refreshed(&desk, ENTRA, name), dead(), "{name}");
    }
    assert_eq!(log_in(&desk, ENTRA, "quick_code", &["tokens"]).code, 0);
    assert_eq!(refreshed(&desk, ENTRA, "busy"), (503, "infershield_unavailable".to_owned(), json!("valid")));
}

#[test]
fn okta_logs_in_with_and_without_a_complete_uri() {
    let desk = newcomer("okta-login", OKTA);
    for (name, complete) in
        [("code", json!("https://ORG.okta.com/activate?user_code=HMBSRJRC")), ("old_code", Value::Null)]
    {
        let done = log_in(&desk, OKTA, name, &["pending", "tokens"]);
        assert_eq!(done.code, 0, "{done:?}");
        let code = events(&done).remove(0);
        assert_eq!((&code["verification_uri_complete"], &code["expires_in"]), (&complete, &json!(600)));
    }
    assert_eq!(refreshed(&desk, OKTA, "refresh_over"), dead());
}

#[test]
fn an_okta_app_without_the_grant_is_told_so() {
    let desk = newcomer("okta-grant", OKTA);
    let done = log_in(&desk, OKTA, "not_allowed", &[]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stderr.contains("unauthorized_client") && done.stderr.contains("provided grant type"), "{done:?}");
    assert_eq!(desk.practice.requests(OKTA[2]).len(), 0);
}
