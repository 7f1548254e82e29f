//! OpenAI by ChatGPT account: its own device login, its refresh, its revocation, and the backend that its tokens are good for.

use crate::support::{Fixture, Reply, Wire, code, header, hello, recorded, request};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use infershield::audit::now;
use serde_json::{Value, json};

const LOGIN: [&str; 5] = ["auth", "login", "openai", "--chatgpt", "--no-browser"];
const CODE: &str = "/api/accounts/deviceauth/usercode";
const POLL: &str = "/api/accounts/deviceauth/token";
const TOKEN: &str = "/oauth/token";
const REVOKE: &str = "/oauth/revoke";
const BACKEND: &str = "/backend-api/codex/responses";
const ACCOUNT: &str = "11111111-2222-3333-4444-555555555555";
/// What OpenAI's own CLI is known by.
const THEIR_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// A home without a login, with OpenAI's row led to the practice provider.
fn newcomer(name: &'static str) -> Fixture {
    let row = json!({"id": "openai", "device_endpoint": "BASE/api/accounts/deviceauth/usercode",
        "token_endpoint": "BASE/oauth/token", "revoke_endpoint": "BASE/oauth/revoke", "api_base": "BASE/v1", "chatgpt_base": "BASE/backend-api/codex"});
    let desk = Fixture::with_row(name, &row);
    for known in ["deviceauth_invented01", "ac_invented+01", "v-invented-01"] {
        desk.run.secret(known);
    }
    desk
}

/// A token that looks like OpenAI's, with these claims; each is another.
fn jwt(desk: &Fixture, claims: &Value) -> String {
    let tail = desk.run.random_secret();
    desk.run.secret(&format!("eyJhbGciOiJub25lIn0.{}.{tail}", URL_SAFE_NO_PAD.encode(claims.to_string())))
}

/// An access token that ends so many seconds from now.
fn access(desk: &Fixture, seconds: u64) -> String {
    jwt(desk, &json!({"exp": now() + seconds}))
}

/// The next token reply gives these members.
fn give(desk: &Fixture, members: &Value) {
    desk.practice.answer(TOKEN, 200, &members.to_string());
}

/// A whole login, whose access token lives so long; returns it and the refresh token.
fn log_in(desk: &Fixture, seconds: u64) -> (String, String) {
    let (access, refresh) = (access(desk, seconds), desk.run.random_secret());
    let id = jwt(desk, &recorded("openai")["id_token_claims"]["body"]);
    desk.practice.recorded(CODE, "openai", "code");
    desk.practice.recorded(POLL, "openai", "approved");
    // What the answer says about the life is not what counts.
    give(desk, &json!({"access_token": access, "refresh_token": refresh, "id_token": id, "expires_in": 5}));
    let done = desk.cli(&LOGIN);
    assert_eq!(done.code, 0, "{done:?}");
    (access, refresh)
}

/// What the backend takes.
fn fitting() -> Value {
    json!({"model": "m", "input": "Hello.", "stream": true, "store": false, "instructions": ""})
}

/// A request to the backend, which answers with a stream.
fn ask(desk: &Fixture) -> Reply {
    let body = "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
    let headers = json!({"content-type": "text/event-stream"});
    desk.practice.fail(BACKEND, &json!({"kind": "status", "status": 200, "headers": headers, "body": body}));
    desk.post("/v1/responses", &fitting())
}

fn stored_refresh_token(desk: &Fixture) -> String {
    let record = desk.store().record("local", "openai").unwrap().unwrap();
    record.refresh_token.unwrap().expose().to_owned()
}

#[test]
fn the_three_steps_of_a_login() {
    let desk = newcomer("chatgpt-login");
    let (access, id) = (access(&desk, 864_000), jwt(&desk, &recorded("openai")["id_token_claims"]["body"]));
    desk.practice.recorded(CODE, "openai", "code");
    // Pending is 403 or 404, whatever stands in the body.
    desk.practice.recorded(POLL, "openai", "pending");
    desk.practice.answer(POLL, 404, "<html>not yet</html>");
    desk.practice.recorded(POLL, "openai", "approved");
    give(&desk, &json!({"access_token": access, "refresh_token": desk.run.random_secret(), "id_token": id}));
    let done = desk.cli(&LOGIN);
    let page = format!("{}/codex/device", desk.practice.origin);
    let lines = format!("Visit: {page}\nCode: ABCD-12345\n✓ Authenticated as dev@example.com\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, lines.as_str()), "{done:?}");
    assert!(done.stderr.contains("client id of OpenAI's own CLI"), "{done:?}");
    assert!(done.stderr.contains("The code lives 15 min"), "{done:?}");

    let body = |request: &Value| serde_json::from_str::<Value>(request["body"].as_str().unwrap()).unwrap();
    assert_eq!(body(&desk.practice.last(CODE)), json!({"client_id": THEIR_CLIENT}));
    assert_eq!(header(&desk.practice.last(CODE), "content-type"), Some("application/json"));
    let polls = desk.practice.requests(POLL);
    assert_eq!(polls.len(), 3);
    for poll in polls {
        assert_eq!(body(&poll), json!({"device_auth_id": "deviceauth_invented01", "user_code": "ABCD-12345"}));
    }
    let base = desk.practice.origin.replace(':', "%3A").replace('/', "%2F");
    let form = format!(
        "grant_type=authorization_code&code=ac_invented%2B01&redirect_uri={base}%2Fdeviceauth%2Fcallback\
         &client_id={THEIR_CLIENT}&code_verifier=v-invented-01"
    );
    assert_eq!(desk.practice.last(TOKEN)["body"], form);
    let end = desk.store().record("local", "openai").unwrap().unwrap().expires_at.unwrap();
    assert!((now() + 860_000..now() + 864_001).contains(&end), "{end}");
    let bound = desk.store().record("local", "openai").unwrap().unwrap().bound;
    assert_eq!(bound.account_id.as_deref(), Some(ACCOUNT));
    assert_eq!(bound.api_base.unwrap().as_str(), format!("{}/backend-api/codex", desk.practice.origin));
}

#[test]
fn a_code_may_come_under_its_other_name_and_the_client_id_may_be_another() {
    let desk = newcomer("chatgpt-alias");
    desk.practice.recorded(CODE, "openai", "code_with_the_other_name");
    desk.practice.recorded(POLL, "openai", "another_401");
    let done = desk.cli(&[&LOGIN[..], &["--client-id", "app_mine"]].concat());
    assert_eq!((done.code, done.stdout.contains("Code: ABCD-12345")), (4, true), "{done:?}");
    assert!(done.stderr.contains("something_else"), "{done:?}");
    assert!(desk.practice.last(CODE)["body"].as_str().unwrap().contains("app_mine"));
    desk.configure(|config| config["providers"][0]["client_id"] = json!("app_of_config"));
    desk.practice.recorded(CODE, "openai", "switched_off");
    let done = desk.cli(&LOGIN);
    assert!(desk.practice.last(CODE)["body"].as_str().unwrap().contains("app_of_config"));
    assert_eq!((done.code, done.stdout.as_str()), (4, ""));
    assert!(done.stderr.contains("switch it on in ChatGPT's security settings"), "{done:?}");
}

#[test]
fn without_a_terminal_the_way_to_log_in_must_be_said() {
    let desk = newcomer("chatgpt-which");
    let done = desk.cli(&["auth", "login", "openai"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("--chatgpt`") && done.stderr.contains("--with-key`"), "{done:?}");
    assert_eq!(desk.cli(&["auth", "login", "openai", "--chatgpt", "--with-key"]).code, 2);
    let done = desk.cli(&["auth", "login", "anthropic", "--chatgpt"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("knows no ChatGPT accounts"), "{done:?}");
    assert_eq!(desk.practice.log()["requests"], json!([]));
}

#[test]
fn responses_go_to_the_backend_with_the_account_and_the_clients_own_headers() {
    let desk = newcomer("chatgpt-backend");
    let (access, _) = log_in(&desk, 864_000);
    assert_eq!(ask(&desk).status, 200);
    let sent = desk.practice.last(BACKEND);
    assert_eq!(sent["body"], fitting().to_string(), "the client's own bytes");
    assert_eq!(header(&sent, "authorization").unwrap(), format!("Bearer {access}"));
    assert_eq!(header(&sent, "chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(header(&sent, "originator"), Some("infershield"));

    let headers = [("originator", "codex_cli_rs"), ("session_id", "s-1"), ("chatgpt-account-id", "another")];
    assert_eq!(desk.post_with("/v1/responses", &headers, &fitting()).status, 404);
    let sent = desk.practice.last(BACKEND);
    assert_eq!(header(&sent, "originator"), Some("codex_cli_rs"));
    assert_eq!(header(&sent, "session_id"), Some("s-1"));
    assert_eq!(header(&sent, "chatgpt-account-id"), Some(ACCOUNT), "the account that the token is for");
}

#[test]
fn what_the_backend_does_not_take_is_refused_by_name_and_never_rewritten() {
    let desk = newcomer("chatgpt-unfit");
    log_in(&desk, 864_000);
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/openai/chat/completions"] {
        let reply = desk.post(path, &hello());
        assert_eq!((reply.status, code(path, &reply).as_str()), (400, "infershield_login_unfit"), "{path}");
        let text = reply.text();
        assert!(text.contains("a client that speaks Responses") && text.contains("an API key"), "{text}");
        let done = desk.cli(&["route", path]);
        assert!(done.code == 1 && done.stderr.contains("a client that speaks Responses"), "{done:?}");
    }
    assert_eq!(desk.cli(&["route", "/v1/responses"]).code, 0);
    assert_eq!(desk.fetch("/v1/models").status, 400);
    let cases = [
        ("stream", json!(false)),
        ("stream", Value::Null),
        ("store", json!(true)),
        ("store", Value::Null),
        ("instructions", Value::Null),
        ("instructions", json!(7)),
    ];
    for (name, value) in cases {
        let mut body = fitting();
        body[name] = value;
        let reply = desk.post("/v1/responses", &body);
        assert_eq!((reply.status, code("/v1/responses", &reply).as_str()), (400, "infershield_login_unfit"), "{body}");
        assert!(reply.text().contains(&format!("`{name}`")), "{}", reply.text());
        body.as_object_mut().unwrap().remove(name);
        assert_eq!(desk.post("/v1/responses", &body).status, 400, "{body}");
    }
    let sent = desk.practice.log()["requests"].as_array().unwrap().len();
    assert_eq!(sent, 3, "the login, and no request of a client");
}

#[test]
fn an_api_key_takes_the_place_of_the_account_and_serves_everything() {
    let desk = newcomer("chatgpt-then-key");
    log_in(&desk, 864_000);
    let key = desk.run.random_secret();
    assert_eq!(desk.cli_typing(&["auth", "login", "openai", "--with-key"], &key).code, 0);
    desk.practice.answer("/v1/chat/completions", 200, "{}");
    assert_eq!(desk.post("/v1/chat/completions", &hello()).status, 200);
    let sent = desk.practice.last("/v1/chat/completions");
    assert_eq!(header(&sent, "authorization").unwrap(), format!("Bearer {key}"));
    assert_eq!((header(&sent, "chatgpt-account-id"), header(&sent, "originator")), (None, None));
}

#[test]
fn a_refresh_replaces_what_it_gives_and_keeps_the_rest() {
    let desk = newcomer("chatgpt-refresh");
    let (_, first) = log_in(&desk, 0);
    let new = access(&desk, 0);
    give(&desk, &json!({"access_token": new}));
    assert_eq!(ask(&desk).status, 200);
    let form = format!("grant_type=refresh_token&refresh_token={first}&client_id={THEIR_CLIENT}");
    assert_eq!(desk.practice.last(TOKEN)["body"], form);
    assert_eq!(header(&desk.practice.last(BACKEND), "authorization").unwrap(), format!("Bearer {new}"));
    assert_eq!(stored_refresh_token(&desk), first);

    // Only the refresh token is new: it takes the old one's place, and the access token stays.
    let second = desk.run.random_secret();
    give(&desk, &json!({"refresh_token": second}));
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(header(&desk.practice.last(BACKEND), "authorization").unwrap(), format!("Bearer {new}"));
    assert_eq!(stored_refresh_token(&desk), second);
}

#[test]
fn only_a_401_ends_the_login() {
    let desk = newcomer("chatgpt-dead");
    for name in ["refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "another_401"] {
        log_in(&desk, 0);
        desk.practice.recorded(TOKEN, "openai", name);
        let reply = desk.post("/v1/responses", &fitting());
        assert_eq!((reply.status, code("/v1/responses", &reply).as_str()), (400, "infershield_login_needed"), "{name}");
        let row = desk.status().remove(0);
        assert_eq!(
            (&row["state"], &row["repair"]),
            (&json!("dead"), &json!("infershield auth login openai --chatgpt"))
        );
    }
    log_in(&desk, 0);
    for (status, body) in
        [(400, r#"{"error":"invalid_request"}"#), (401, "<html>"), (403, "{}"), (500, ""), (429, "{}")]
    {
        desk.practice.answer(TOKEN, status, body);
        let reply = desk.post("/v1/responses", &fitting());
        assert_eq!((reply.status, desk.status()[0]["state"].as_str()), (503, Some("valid")), "{status}");
    }
    assert_eq!(desk.practice.requests(BACKEND).len(), 0);
}

#[test]
fn logout_revokes_by_the_refresh_token_in_json() {
    let desk = newcomer("chatgpt-logout");
    let (_, refresh) = log_in(&desk, 864_000);
    desk.practice.answer(REVOKE, 200, "");
    assert_eq!(desk.cli(&["auth", "logout"]).stdout, "✓ Token revoked. Re-authenticate to continue.\n");
    let sent = desk.practice.last(REVOKE);
    let body: Value = serde_json::from_str(sent["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({"token": refresh, "token_type_hint": "refresh_token", "client_id": THEIR_CLIENT}));
    log_in(&desk, 864_000);
    desk.practice.answer(REVOKE, 500, "");
    assert!(desk.cli(&["auth", "logout"]).stdout.starts_with("✓ Logged out. The credential stays valid at openai"));
}

#[test]
fn a_login_does_not_follow_a_row_that_leads_elsewhere() {
    let mut desk = newcomer("chatgpt-moved");
    log_in(&desk, 864_000);
    let elsewhere = desk.practice.origin.replace("127.0.0.1", "localhost");
    let before = desk.practice.log()["requests"].as_array().unwrap().len();
    desk.configure(|config| config["providers"][0]["chatgpt_base"] = json!(format!("{elsewhere}/backend-api/codex")));
    desk.restart();
    let mut wire = Wire::connect(desk.addr);
    let bearer = desk.bearer();
    wire.send(&request("POST", "/v1/responses", &[("authorization", &bearer)], fitting().to_string().as_bytes()));
    assert_eq!(wire.reply().status, 400);
    assert_eq!(desk.status()[0]["state"], "suspect");
    assert_eq!(desk.practice.log()["requests"].as_array().unwrap().len(), before);
}
