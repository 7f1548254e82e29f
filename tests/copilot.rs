//! GitHub Copilot by the client id of an editor: the second exchange, what is kept of it, and where its tokens may go.

use crate::support::{Fixture, Practice, Reply, Wire, code, header, hello, recorded};
use infershield::audit::now;
use infershield::secret::Secret;
use infershield::store::Record;
use serde_json::{Value, json};
use std::sync::Barrier;
use std::{fs, thread};

const EXCHANGE: &str = "/copilot_internal/v2/token";
const LOGIN: &str = "/login/oauth/access_token";
const CHAT: &str = "/chat/completions";
const CLIENT_CHAT: &str = "/v1/chat/completions";
const EDITOR: &str = "Iv1.b507a08c87ecfe98";

/// A home that is logged in by this client id, with GitHub's row led to the practice provider.
fn copilot(name: &'static str, client_id: &str, more: &[&str]) -> Fixture {
    // `localhost` stands for github.com, and 127.0.0.1 for a tenant: it is "below" the name 0.0.1.
    let row = json!({"id": "github", "device_endpoint": "BASE/login/device/code", "token_endpoint": "BASE/login/oauth/access_token",
        "account_endpoint": "BASE/user", "exposed_endpoint": "BASE/credentials/revoke", "api_base": "BASE",
        "exchange": {"client_ids": [EDITOR], "endpoint": "BASE/copilot_internal/v2/token", "below": "0.0.1",
            "headers": {"copilot-integration-id": "vscode-chat", "editor-version": "vscode/1.107.0"}},
        "tenants": {"below": "0.0.1", "prefixes": {"localhost": ""}}});
    let desk = Fixture::with_row(name, &row);
    log_in(&desk, client_id, more);
    desk
}

fn log_in(desk: &Fixture, client_id: &str, more: &[&str]) {
    desk.practice.set(&json!({"approve": true}));
    let done = desk.cli(&[&["auth", "login", "github", "--no-browser", "--client-id", client_id], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("your account bears the risk"), "{done:?}");
}

/// What GitHub answers to an exchange: a new token each, that is renewed after so many seconds.
fn give(desk: &Fixture, refresh_in: u64, ends_in: u64, api: Option<&str>) -> String {
    let token = format!("tid=1nv3nt3d;exp=1;sku=x:{}", desk.run.random_secret());
    desk.run.secret(&token);
    let mut body = recorded("github")["copilot"]["body"].clone();
    let changes = json!({"token": token, "refresh_in": refresh_in, "expires_at": now() + ends_in});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body["endpoints"]["api"] = json!(api);
    desk.practice.answer(EXCHANGE, 200, &body.to_string());
    token
}

fn ask(desk: &Fixture) -> Reply {
    desk.practice.answer(CHAT, 200, "{}");
    desk.post(CLIENT_CHAT, &hello())
}

fn refused(desk: &Fixture) -> (u16, String) {
    let reply = desk.post(CLIENT_CHAT, &hello());
    (reply.status, code(CLIENT_CHAT, &reply))
}

fn bearer(sent: &Value) -> &str {
    header(sent, "authorization").unwrap().strip_prefix("Bearer ").unwrap()
}

fn stored(desk: &Fixture) -> String {
    desk.store().record("local", "github").unwrap().unwrap().access_token.expose().to_owned()
}

#[test]
fn a_client_id_of_your_own_sends_its_token_as_it_is() {
    let desk = copilot("copilot-direct", "my-own-app", &[]);
    assert_eq!(ask(&desk).status, 200);
    let sent = desk.practice.last(CHAT);
    assert_eq!(bearer(&sent), stored(&desk));
    assert_eq!((header(&sent, "copilot-integration-id"), header(&sent, "editor-version")), (None, None));
    assert_eq!(desk.practice.requests(EXCHANGE).len(), 0);
}

#[test]
fn an_editors_token_is_exchanged_and_the_new_one_kept_in_memory_until_it_is_due() {
    let mut desk = copilot("copilot-exchange", EDITOR, &[]);
    let token = give(&desk, 1500, 1800, None);
    for _ in 0..2 {
        assert_eq!(ask(&desk).status, 200);
    }
    let sent = desk.practice.last(CHAT);
    assert_eq!(bearer(&sent), token);
    assert_eq!(header(&sent, "copilot-integration-id"), Some("vscode-chat"));
    assert_eq!(header(&sent, "editor-version"), Some("vscode/1.107.0"));
    let exchanges = desk.practice.requests(EXCHANGE);
    assert_eq!(exchanges.len(), 1, "one exchange for both requests");
    assert_eq!((exchanges[0]["method"].as_str(), bearer(&exchanges[0])), (Some("GET"), stored(&desk).as_str()));
    assert_eq!(desk.audit_of("auth.exchange").len(), 1);
    let headers = [("editor-version", "JetBrains-IC/251.1"), ("x-initiator", "user")];
    desk.practice.answer(CHAT, 200, "{}");
    assert_eq!(desk.post_with(CLIENT_CHAT, &headers, &hello()).status, 200);
    let sent = desk.practice.last(CHAT);
    assert_eq!(header(&sent, "editor-version"), Some("JetBrains-IC/251.1"), "the client's own comes first");
    assert_eq!(header(&sent, "x-initiator"), Some("user"));

    // It is nowhere on disk: another process must exchange again. (The leak test looks for it everywhere.)
    assert!(!fs::read_to_string(desk.home.join("tokens.json")).unwrap().contains("tid="));
    desk.restart();
    let due = give(&desk, 0, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(bearer(&desk.practice.last(CHAT)), due);
    let next = give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(bearer(&desk.practice.last(CHAT)), next, "the answer said when to renew it: at once");
    assert_eq!(desk.practice.requests(EXCHANGE).len(), 3);
}

#[test]
fn requests_that_come_together_are_served_by_one_exchange() {
    let desk = copilot("copilot-together", EDITOR, &[]);
    let token = give(&desk, 1500, 1800, None);
    for _ in 0..8 {
        desk.practice.answer(CHAT, 200, "{}");
    }
    let (all, addr, bearer_of_ours, body) = (Barrier::new(8), desk.addr, desk.bearer(), hello().to_string());
    let one = || {
        all.wait();
        let headers = [("authorization", bearer_of_ours.as_str())];
        Wire::call(addr, "POST", CLIENT_CHAT, &headers, body.as_bytes()).status
    };
    let statuses: Vec<u16> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 8]);
    assert_eq!((desk.practice.requests(EXCHANGE).len(), bearer(&desk.practice.last(CHAT))), (1, token.as_str()));
}

#[test]
fn a_plain_401_brings_one_more_exchange_and_one_more_try() {
    let desk = copilot("copilot-401", EDITOR, &[]);
    give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    let second = give(&desk, 1500, 1800, None);
    desk.practice.answer(CHAT, 401, "IDE token expired: unauthorized: token expired\n");
    assert_eq!(ask(&desk).status, 200);
    assert_eq!((bearer(&desk.practice.last(CHAT)), desk.practice.requests(EXCHANGE).len()), (second.as_str(), 2));

    give(&desk, 1500, 1800, None);
    for _ in 0..2 {
        desk.practice.answer(CHAT, 401, "unauthorized: token expired\n");
    }
    assert_eq!(refused(&desk), (400, "infershield_login_needed".to_owned()));
    assert_eq!((desk.practice.requests(CHAT).len(), desk.practice.requests(EXCHANGE).len()), (5, 3), "once more only");
    assert_eq!(desk.status()[0]["state"], "valid");
}

#[test]
fn a_refused_exchange_says_why_and_ends_no_login() {
    let mut desk = copilot("copilot-refused", EDITOR, &[]);
    for (name, words) in [("no_seat", "Your plan has no Copilot seat."), ("wrong_app", "status 404")] {
        desk.practice.recorded(EXCHANGE, "github", name);
        let reply = desk.post(CLIENT_CHAT, &hello());
        assert_eq!((reply.status, code(CLIENT_CHAT, &reply).as_str()), (400, "infershield_login_needed"), "{name}");
        assert!(reply.text().contains(words), "{}", reply.text());
        assert_eq!(desk.status()[0]["state"], "valid", "{name}");
    }
    desk.practice.recorded(EXCHANGE, "github", "rate_limited");
    assert_eq!(refused(&desk), (503, "infershield_unavailable".to_owned()));
    for fault in [json!({"kind": "close"}), json!({"kind": "html"}), json!({"kind": "status", "status": 500})] {
        // A new process does not wait before it tries again.
        desk.restart();
        desk.practice.fail(EXCHANGE, &fault);
        let asked = desk.practice.requests(EXCHANGE).len();
        assert_eq!((refused(&desk).0, refused(&desk).0), (503, 503), "{fault}");
        assert_eq!(desk.practice.requests(EXCHANGE).len(), asked + 1, "one try, not one for each request: {fault}");
    }
    desk.restart();
    assert_eq!(desk.practice.requests(CHAT).len(), 0, "the token is not sent to the API instead");
    // A token that is due, but has not ended, goes on while there is no other.
    let token = give(&desk, 0, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    desk.practice.recorded(EXCHANGE, "github", "rate_limited");
    for _ in 0..2 {
        assert_eq!(ask(&desk).status, 200);
        assert_eq!(bearer(&desk.practice.last(CHAT)), token);
    }
    assert_eq!(desk.status()[0]["state"], "valid");
}

#[test]
fn a_login_that_github_has_revoked_is_dead_and_is_not_exchanged_again() {
    let desk = copilot("copilot-revoked", EDITOR, &[]);
    desk.practice.recorded(EXCHANGE, "github", "bad_credentials");
    for _ in 0..3 {
        let reply = desk.post(CLIENT_CHAT, &hello());
        assert_eq!((reply.status, code(CLIENT_CHAT, &reply).as_str()), (400, "infershield_login_needed"));
        assert!(reply.text().contains("infershield auth login github`"), "{}", reply.text());
    }
    assert_eq!(desk.practice.requests(EXCHANGE).len(), 1, "nobody is asked again and again");
    let row = &desk.status()[0];
    assert_eq!((&row["state"], &row["repair"]), (&json!("dead"), &json!("infershield auth login github")));
    let doctor = desk.cli(&["doctor"]).stdout;
    assert!(doctor.contains("✗ login: github is dead; type `infershield auth login github`"), "{doctor}");
    assert_eq!(desk.audit_of("auth.dead").len(), 1);
    assert_eq!(desk.practice.requests(CHAT).len(), 0);

    log_in(&desk, EDITOR, &[]);
    give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200, "a new login heals it, and the running proxy sees it");
}

#[test]
fn a_token_that_github_does_not_exchange_any_more_is_refreshed_once_where_it_can_be() {
    let desk = copilot("copilot-renewed", EDITOR, &[]);
    let renewable = |record: &mut Record| record.refresh_token = Some(Secret::new("ghr_spent".to_owned()));
    desk.store().update("local", "github", &mut { renewable }).unwrap();
    let renewed = desk.run.random_secret();
    let tokens = json!({"access_token": renewed, "token_type": "bearer", "refresh_token": desk.run.random_secret()});
    desk.practice.answer(LOGIN, 200, &tokens.to_string());
    desk.practice.recorded(EXCHANGE, "github", "bad_credentials");
    let token = give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(bearer(&desk.practice.last(CHAT)), token);
    assert_eq!(bearer(&desk.practice.last(EXCHANGE)), renewed);
    assert_eq!(desk.status()[0]["state"], "valid");

    desk.practice.answer(CHAT, 401, "unauthorized: token expired\n");
    desk.practice.answer(LOGIN, 200, &tokens.to_string());
    for _ in 0..2 {
        desk.practice.recorded(EXCHANGE, "github", "bad_credentials");
    }
    assert_eq!(refused(&desk), (400, "infershield_login_needed".to_owned()));
    assert_eq!((desk.practice.requests(EXCHANGE).len(), &desk.status()[0]["state"]), (4, &json!("dead")));
}

#[test]
fn a_rate_limit_of_the_api_passes_and_ends_no_login() {
    let desk = copilot("copilot-rate", EDITOR, &[]);
    give(&desk, 1500, 1800, None);
    for _ in 0..4 {
        desk.practice.recorded(CHAT, "github", "rate_limited");
        let reply = desk.post(CLIENT_CHAT, &hello());
        assert_eq!((reply.status, reply.json()), (403, recorded("github")["rate_limited"]["body"].clone()));
    }
    assert_eq!((desk.practice.requests(EXCHANGE).len(), &desk.status()[0]["state"]), (1, &json!("valid")));
}

#[test]
fn the_api_may_be_another_host_only_below_the_rows_domain() {
    let desk = copilot("copilot-hosts", EDITOR, &[]);
    let plan = Practice::start(&desk.run, &json!({}), &[]);
    let thief = plan.origin.replace("127.0.0.1", "localhost");
    for api in
        [thief.as_str(), "https://0.0.1", "https://api.0.0.1.evil.example", "http://api.0.0.1", "https://evil0.0.1"]
    {
        give(&desk, 1500, 1800, Some(api));
        let reply = desk.post(CLIENT_CHAT, &hello());
        assert_eq!((reply.status, code(CLIENT_CHAT, &reply).as_str()), (400, "infershield_login_needed"), "{api}");
    }
    assert_eq!(plan.log()["requests"], json!([]));
    assert_eq!(desk.practice.requests(CHAT).len(), 0, "nor to the usual one instead");

    let token = give(&desk, 1500, 1800, Some(&plan.origin));
    plan.answer(CHAT, 200, "{}");
    assert_eq!(desk.post(CLIENT_CHAT, &hello()).status, 200);
    assert_eq!(bearer(&plan.last(CHAT)), token);
    assert!(desk.cli(&["hosts"]).stdout.contains("https://*.0.0.1"));
}

#[test]
fn a_moved_exchange_gets_no_token() {
    let mut desk = copilot("copilot-moved", EDITOR, &[]);
    let elsewhere = desk.practice.origin.replace("127.0.0.1", "localhost");
    desk.configure(|config| config["providers"][0]["exchange"]["endpoint"] = json!(format!("{elsewhere}{EXCHANGE}")));
    desk.restart();
    assert_eq!(refused(&desk), (400, "infershield_login_needed".to_owned()));
    assert_eq!((desk.practice.requests(EXCHANGE).len(), &desk.status()[0]["state"]), (0, &json!("suspect")));
}

#[test]
fn a_new_login_does_not_use_what_the_old_one_was_exchanged_for() {
    let desk = copilot("copilot-again", EDITOR, &[]);
    give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    log_in(&desk, EDITOR, &[]);
    let token = give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(bearer(&desk.practice.last(CHAT)), token);
}

#[test]
fn a_tenant_has_every_endpoint_at_its_own_host() {
    let mut desk = copilot("copilot-tenant", "my-own-app", &[]);
    let usual = desk.practice.origin.replace("127.0.0.1", "localhost");
    desk.configure(|config| {
        let row = config["providers"][0].to_string().replace(&desk.practice.origin, &usual);
        config["providers"][0] = serde_json::from_str(&row).unwrap();
    });
    desk.restart();
    log_in(&desk, EDITOR, &["--host", "127.0.0.1"]);
    let bound = desk.store().record("local", "github").unwrap().unwrap().bound;
    assert_eq!(bound.host.as_deref(), Some("127.0.0.1"));
    let base = &desk.practice.origin;
    assert_eq!(bound.token_endpoint.unwrap().as_str(), format!("{base}{LOGIN}"));
    assert_eq!(bound.api_base.unwrap().as_str(), base);
    assert_eq!(bound.exchange_endpoint.unwrap().as_str(), format!("{base}{EXCHANGE}"));
    give(&desk, 1500, 1800, None);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(desk.status()[0]["state"], "valid");
    desk.practice.answer("/credentials/revoke", 202, "");
    assert_eq!(desk.cli(&["auth", "logout", "--revoke"]).stdout, "✓ Token revoked. Re-authenticate to continue.\n");

    let asked = desk.practice.log()["requests"].as_array().unwrap().len();
    for host in ["evil.example", "0.0.1", "evil.example/.0.0.1", "a@127.0.0.1", "evil.example#.0.0.1", "localhost"] {
        let done = desk.cli(&["auth", "login", "github", "--client-id", EDITOR, "--host", host]);
        assert_eq!(done.code, 2, "{host}: {done:?}");
        assert!(done.stderr.contains("`infershield hosts`"), "{done:?}");
    }
    assert_eq!(desk.cli(&["auth", "login", "openai", "--host", "127.0.0.1", "--with-key"]).code, 2);
    assert_eq!(desk.practice.log()["requests"].as_array().unwrap().len(), asked);
}

#[test]
fn a_request_that_holds_an_image_says_so_unless_the_client_does() {
    let desk = copilot("copilot-image", "my-own-app", &[]);
    let image = "data:image/png;base64,iVBORw0KGgo=";
    let chat = |part: Value| json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
    for (path, body, said) in [
        (CHAT, chat(json!({"type": "image_url", "image_url": {"url": image}})), Some("true")),
        (CHAT, chat(json!({"type": "text", "text": "an image_url, said as text"})), None),
        (
            "/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": image}]}]}),
            Some("true"),
        ),
    ] {
        desk.practice.answer(path, 200, "{}");
        assert_eq!(desk.post(&format!("/github{path}"), &body).status, 200);
        assert_eq!(header(&desk.practice.last(path), "copilot-vision-request"), said, "{body}");
    }
    desk.practice.answer(CHAT, 200, "{}");
    let body = chat(json!({"type": "image_url", "image_url": {"url": image}}));
    assert_eq!(desk.post_with(CLIENT_CHAT, &[("copilot-vision-request", "false")], &body).status, 200);
    assert_eq!(
        header(&desk.practice.last(CHAT), "copilot-vision-request"),
        Some("false"),
        "the client's own comes first"
    );
}

#[test]
fn errors_of_ours_have_an_id_where_githubs_editors_look_for_one() {
    let desk = copilot("copilot-request-id", "my-own-app", &[]);
    let held = |reply: &Reply| reply.header("x-github-request-id").map(str::to_owned);
    let wrong_key = Wire::call(desk.addr, "POST", "/copilot/chat/completions", &[("x-api-key", "none")], b"{}");
    let malformed = desk.post_bytes(CLIENT_CHAT, b"{");
    for reply in [wrong_key, malformed] {
        assert_eq!(reply.status, 400);
        assert_eq!(held(&reply), reply.header("x-infershield-request-id").map(str::to_owned), "{}", reply.text());
    }
    let elsewhere = Wire::call(desk.addr, "POST", CLIENT_CHAT, &[("x-api-key", "none")], b"{}");
    assert_eq!((elsewhere.status, held(&elsewhere)), (400, None), "nobody knows yet where this would go");
}
