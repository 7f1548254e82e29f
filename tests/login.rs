//! Logging in: what a person sees and types, every answer a provider may give, and that nothing is left half done.

use crate::support::{Done, Fixture, Login, PATIENCE, Process, SECRETS, Terminal, Wire};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

const TOKEN: &str = "/oauth/token";
const DEVICE: &str = "/oauth/device";
const LOGIN: [&str; 4] = ["auth", "login", "practice", "--no-browser"];

/// A home without a login, at a provider with these settings.
fn newcomer(name: &'static str, settings: Value) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.login = Login::Skip;
    plan.settings = settings;
    plan.start()
}

/// A login under way, and the code that it shows.
fn begin(desk: &Fixture) -> (Process, String) {
    let login = desk.cli_start(&LOGIN);
    let code = login.line_after("Code: ");
    (login, code)
}

/// A whole login of somebody whom the provider lets in at once, or an error that comes first.
fn log_in(desk: &Fixture, more: &[&str]) -> Done {
    desk.cli(&[&LOGIN, more].concat())
}

fn assert_nobody_is_logged_in(desk: &Fixture) {
    let status = desk.cli(&["auth", "status", "--json"]);
    assert_eq!((status.code, status.stdout.trim()), (1, "[]"));
    assert!(!desk.home.join("tokens.json").exists());
}

/// The fields of a recorded form, decoded as far as these tests need it.
fn fields(request: &Value) -> Vec<String> {
    let body = request["body"].as_str().unwrap().replace("%20", " ").replace('+', " ");
    body.split('&').map(str::to_owned).collect()
}

fn members(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Every login endpoint of the practice provider that speaks GitHub's dialect.
fn github_row(origin: &str) -> Value {
    json!({
        "issuer": null,
        "device_endpoint": format!("{origin}/login/device/code"),
        "token_endpoint": format!("{origin}/login/oauth/access_token"),
        "account_endpoint": format!("{origin}/user"),
        "scopes": ["read:user"],
    })
}

#[test]
fn the_first_two_lines_say_where_to_go_and_what_to_type() {
    let desk = newcomer("two-lines", json!({}));
    let login = desk.cli_start(&LOGIN);
    assert_eq!(login.line(), format!("Visit: {}/device", desk.practice.origin));
    let line = login.line();
    desk.practice.approve(line.strip_prefix("Code: ").unwrap());
    let done = login.wait();
    assert_eq!(done.stdout, "✓ Authenticated as alex@practice.example\n");
    assert_eq!(done.code, 0);
    assert!(done.stderr.contains("Enter the code on that page only"), "{done:?}");
    assert!(done.stderr.contains("The code lives 15 min"), "{done:?}");
    assert!(!done.stderr.contains(['\r', '\x1b']), "no terminal, no time left: {done:?}");
    assert_eq!(desk.status()[0]["state"], "valid");
}

#[test]
fn with_json_each_event_is_an_object_on_a_line() {
    let desk = newcomer("json-events", json!({}));
    let login = desk.cli_start(&[&LOGIN[..], &["--json"]].concat());
    let code: Value = serde_json::from_str(&login.line()).unwrap();
    let (page, user_code) = (format!("{}/device", desk.practice.origin), code["user_code"].as_str().unwrap());
    let complete = format!("{page}?user_code={user_code}");
    assert_eq!(
        code,
        json!({"event": "code", "verification_uri": page, "verification_uri_complete": complete,
            "user_code": user_code, "expires_in": 900})
    );
    desk.practice.approve(user_code);
    let done = login.wait();
    let event: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(members(&event), ["account", "event", "expires_at", "provider"]);
    assert_eq!(event["event"], "authenticated");
    assert_eq!(event["provider"], "practice");
    assert_eq!(event["account"], "alex@practice.example");
    assert_eq!(event["expires_at"], desk.status()[0]["expires_at"]);
    assert!(event["expires_at"].is_u64());
}

#[test]
fn with_json_a_failure_is_an_event_too() {
    let desk = newcomer("json-failed", json!({}));
    let login = desk.cli_start(&[&LOGIN[..], &["--json"]].concat());
    let code: Value = serde_json::from_str(&login.line()).unwrap();
    desk.practice.deny(code["user_code"].as_str().unwrap());
    let done = login.wait();
    let event: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(members(&event), ["error", "event"]);
    assert_eq!(event["event"], "failed");
    assert_eq!(done.code, 1);
}

#[test]
fn with_json_nothing_that_ends_a_login_goes_without_its_event() {
    let mut desk = newcomer("json-failures", json!({}));
    desk.serve.kill();
    let failed = |what: &str, words: &[&str], code: i32, part: &str| {
        let done = desk.cli(&[&["auth", "login", "--json"], words].concat());
        let event: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{what}: {error} {done:?}"));
        let error = event["error"].as_str().unwrap();
        assert_eq!((done.code, &event["event"], members(&event).len()), (code, &json!("failed"), 2), "{what}");
        assert!(error.contains(part) && done.stderr.contains(error), "{what}: {done:?}");
    };
    failed("unknown provider", &["practise"], 2, "did you mean `practice`?");
    failed("a user's hint", &["openai", "--user", "bob"], 2, "infershield auth login openai --chatgpt --user bob`");
    let spoilt = |name: &str, text: &str, part: &str, code: i32| {
        let path = desk.home.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        failed(name, &["practice"], code, part);
        fs::write(&path, whole).unwrap();
    };
    spoilt("config.json", "{", "config.json", 2);
    spoilt("keys.json", "{}", "keys.json", 5);
    spoilt("audit/head.json", "{}", "infershield audit verify", 5);
    let chmod = |mode| fs::set_permissions(&desk.home, fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o777);
    failed("unusable home", &["practice"], 5, "chmod 700");
    chmod(0o700);
    let master = desk.run.random_secret();
    let mut command = desk.run.infershield(&desk.home, &["auth", "login", "practice", "--json"]);
    command.env("INFERSHIELD_MASTER_KEY", master);
    let done = desk.run.start(command).wait();
    let event: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(event["error"].as_str().unwrap().contains("does not open with this master key"), "{done:?}");
}

#[test]
fn as_long_as_the_person_has_not_come_the_provider_is_asked_again() {
    let desk = newcomer("pending", json!({}));
    let (login, code) = begin(&desk);
    desk.practice.wait("token device_code authorization_pending", 2);
    desk.practice.approve(&code);
    assert_eq!(login.wait().code, 0);
    assert_eq!(desk.practice.count("token device_code slow_down"), 0, "never faster than the provider asked");
}

#[test]
fn slow_down_without_an_interval_means_five_seconds_more() {
    // After it the next poll would come when the code has expired: it must not come before.
    let desk = newcomer("slow-down", json!({"code_seconds": 5}));
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "slow_down"}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(desk.practice.count("POST /oauth/token"), 1);
}

#[test]
fn slow_down_with_an_interval_means_that_interval() {
    // Five seconds more would allow a second poll before the code expires.
    let desk = newcomer("slow-down-to", json!({"code_seconds": 11}));
    let told = json!({"error": "slow_down", "interval": 60}).to_string();
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 200, "body": told}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(desk.practice.count("POST /oauth/token"), 1);
}

#[test]
fn after_slow_down_the_login_still_succeeds() {
    let desk = newcomer("slow-down-then", json!({"approve": true}));
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "slow_down"}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(desk.practice.count("POST /oauth/token"), 2);
}

#[test]
fn a_no_in_the_browser_ends_the_login() {
    let desk = newcomer("denied", json!({}));
    let (login, code) = begin(&desk);
    desk.practice.deny(&code);
    let done = login.wait();
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("type `infershield auth login practice`"), "{done:?}");
    assert_nobody_is_logged_in(&desk);
}

#[test]
fn a_code_that_has_run_out_is_not_asked_for_any_more() {
    let desk = newcomer("expired-token", json!({}));
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "expired_token"}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("the code expired; type `infershield auth login practice`"), "{done:?}");
    assert_eq!(desk.practice.count("POST /oauth/token"), 1);

    // By our own clock, the provider need not say so.
    desk.practice.set(&json!({"code_seconds": 1}));
    assert_eq!(log_in(&desk, &[]).code, 1);
    assert_eq!(desk.practice.count("POST /oauth/token"), 1);
    assert_nobody_is_logged_in(&desk);
}

#[test]
fn an_error_that_nobody_knows_ends_the_login_under_its_name() {
    let desk = newcomer("unknown-error", json!({}));
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "moon_is_full"}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 4);
    assert!(done.stderr.contains("moon_is_full") && done.stderr.contains("made by the practice provider"), "{done:?}");
    assert_nobody_is_logged_in(&desk);
}

#[test]
fn a_provider_that_repeats_the_device_code_has_its_words_dropped() {
    let desk = newcomer("echo", json!({}));
    let (login, _) = begin(&desk);
    let issued = fs::read_to_string(desk.run.dir.join(SECRETS)).unwrap();
    let code = issued.lines().find(|line| line.starts_with("dc_")).unwrap();
    let body = json!({"error": "odd", "error_description": format!("unknown device code {code}")});
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 400, "body": body.to_string()}));
    let done = login.wait();
    assert_eq!(done.code, 4);
    assert!(done.stderr.contains("odd") && !done.stderr.contains(code), "{done:?}");
}

#[test]
fn a_token_that_cannot_be_used_is_no_login() {
    let desk = newcomer("odd-token", json!({}));
    for body in [
        json!({"access_token": "two\r\nlines"}),
        json!({"access_token": ""}),
        json!({"access_token": "at_invented", "token_type": "mac"}),
    ] {
        desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 200, "body": body.to_string()}));
        let done = log_in(&desk, &[]);
        assert_eq!(done.code, 4, "{done:?}");
        assert!(
            done.stderr.contains("sent a token that cannot be used; type `infershield auth login practice`"),
            "{done:?}"
        );
        assert_nobody_is_logged_in(&desk);
    }
}

#[test]
fn a_token_that_ended_before_it_came_is_expired() {
    let desk = newcomer("negative-life", json!({}));
    let body = json!({"access_token": "at_invented", "expires_in": -1});
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 200, "body": body.to_string()}));
    assert_eq!(log_in(&desk, &[]).code, 0);
    assert_eq!(desk.status()[0]["state"], "expired");
}

#[test]
fn where_no_login_can_be_stored_no_code_is_asked_for() {
    let desk = newcomer("damaged-store", json!({"approve": true}));
    fs::write(desk.home.join("tokens.json"), "{}").unwrap();
    fs::set_permissions(desk.home.join("tokens.json"), fs::Permissions::from_mode(0o600)).unwrap();
    let done = log_in(&desk, &[]);
    assert_eq!((done.code, done.stdout.as_str()), (5, ""), "{done:?}");
    assert!(done.stderr.contains("tokens.json"), "{done:?}");
    assert!(desk.practice.requests(DEVICE).is_empty());
}

#[test]
fn a_login_that_cannot_be_saved_is_revoked_where_that_is_possible() {
    let desk = newcomer("unsaved-login", json!({"approve": true}));
    // Nobody can write a file over a folder.
    fs::create_dir(desk.home.join("tokens.json.tmp")).unwrap();
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stderr.contains("the provider has revoked what it issued"), "{done:?}");
    assert_eq!(desk.practice.count("revocations"), 1);

    desk.practice.fail("/oauth/revoke", &json!({"kind": "status", "status": 503}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stderr.contains("stays valid at the provider: revoke it there"), "{done:?}");
}

#[test]
fn faults_and_answers_that_are_none_are_waited_out() {
    let faults = [
        json!({"kind": "html"}),
        json!({"kind": "cut"}),
        json!({"kind": "close"}),
        json!({"kind": "endless"}),
        json!({"kind": "oversized", "bytes": 2 << 20}),
        json!({"kind": "status", "status": 500, "body": "down"}),
        json!({"kind": "status", "status": 503}),
        json!({"kind": "status", "status": 429, "body": "{}"}),
        json!({"kind": "status", "status": 200, "body": ""}),
    ];
    let desk = newcomer("waited-out", json!({}));
    let elsewhere = format!("{}/elsewhere", desk.practice.origin);
    desk.practice.fail(TOKEN, &json!({"kind": "redirect", "location": elsewhere}));
    faults.iter().for_each(|fault| desk.practice.fail(TOKEN, fault));
    // One login for each, so that they need not wait for one another.
    let users: Vec<String> = (0..=faults.len()).map(|number| format!("user-{number}")).collect();
    let start = |user: &String| desk.cli_start(&[&LOGIN[..], &["--user", user]].concat());
    let logins: Vec<Process> = users.iter().map(start).collect();
    let codes: Vec<String> = logins.iter().map(|login| login.line_after("Code: ")).collect();
    // Each poll takes one fault; then all have been taken.
    desk.practice.wait("POST /oauth/token", 1 + faults.len() as u64);
    codes.iter().for_each(|code| desk.practice.approve(code));
    for login in logins {
        let done = login.wait();
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert!(desk.practice.requests("/elsewhere").is_empty(), "a redirect is not followed");
}

#[test]
fn what_keeps_failing_is_told_once_and_waited_out() {
    let desk = newcomer("keeps-failing", json!({}));
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 500, "body": "down"}));
    desk.practice.fail(TOKEN, &json!({"kind": "html"}));
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 200, "body": "{\"status\":\"ok\"}"}));
    let login = desk.cli_start(&LOGIN);
    let code = login.line_after("Code: ");
    desk.practice.wait("POST /oauth/token", 3);
    desk.practice.approve(&code);
    let done = login.wait();
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stderr.matches("the login waits on, but: ").count(), 1, "{done:?}");
}

#[test]
fn a_provider_that_vanishes_is_waited_for_until_the_code_expires() {
    let mut desk = newcomer("vanished", json!({"code_seconds": 4}));
    let (login, _) = begin(&desk);
    desk.practice.kill();
    let done = login.wait();
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("the code expired"), "{done:?}");
}

#[test]
fn ctrl_c_leaves_no_half_login() {
    let desk = newcomer("ctrl-c", json!({}));
    let before = names(&desk.home);
    // Whoever starts the tests may have switched SIGINT off for all their children.
    let mut command = desk.run.program(Path::new("env"));
    command.arg("--default-signal=INT").arg(env!("CARGO_BIN_EXE_infershield")).args(LOGIN);
    command.env("INFERSHIELD_HOME", &desk.home).env("INFERSHIELD_MASTER_KEY", &desk.master);
    let login = desk.run.start(command);
    let code = login.line_after("Code: ");
    desk.practice.wait("token device_code authorization_pending", 1);
    let sent = Command::new("sh").args(["-c", "kill -INT \"$1\"", "sh", &login.id().to_string()]).status();
    assert!(sent.unwrap().success());
    assert_eq!(login.wait().code, -1, "ended by the signal");
    desk.practice.approve(&code);
    assert_nobody_is_logged_in(&desk);
    assert_eq!(names(&desk.home), before, "nothing is left behind");
    assert_eq!(desk.practice.count("token device_code ok"), 0);
}

#[test]
fn a_login_that_fails_leaves_the_one_before_as_it_was() {
    let desk = newcomer("second-login", json!({"approve": true}));
    assert_eq!(log_in(&desk, &[]).code, 0);
    let before = fs::read(desk.home.join("tokens.json")).unwrap();
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "access_denied"}));
    assert_eq!(log_in(&desk, &[]).code, 1);
    assert_eq!(fs::read(desk.home.join("tokens.json")).unwrap(), before);

    assert_eq!(log_in(&desk, &[]).code, 0);
    assert_eq!(desk.status().len(), 1, "the new login takes the place of the old one");
    let stored: Value = serde_json::from_slice(&fs::read(desk.home.join("tokens.json")).unwrap()).unwrap();
    assert_ne!(
        stored["records"][0]["access_token"],
        serde_json::from_slice::<Value>(&before).unwrap()["records"][0]["access_token"]
    );
}

#[test]
fn a_login_is_audited() {
    let desk = newcomer("audited", json!({"approve": true}));
    assert_eq!(log_in(&desk, &[]).code, 0);
    let line = desk.audit_of("auth.login").remove(0);
    assert_eq!(
        (&line["provider"], &line["user_id"], &line["outcome"]),
        (&json!("practice"), &json!("local"), &json!("complete"))
    );
    assert_eq!(desk.cli(&["audit", "verify"]).code, 0);
}

#[test]
fn a_login_that_fails_is_audited_too() {
    let mut desk = newcomer("audited-failures", json!({"approve": true}));
    for (what, outcome) in [
        (json!({"kind": "oauth_error", "error": "access_denied"}), "refused"),
        (json!({"kind": "oauth_error", "error": "expired_token"}), "refused"),
        (json!({"kind": "oauth_error", "error": "moon_is_full"}), "refused"),
    ] {
        desk.practice.fail(TOKEN, &what);
        assert_ne!(log_in(&desk, &[]).code, 0, "{what}");
        let line = desk.audit_of("auth.login").pop().unwrap();
        assert_eq!((&line["provider"], &line["user_id"]), (&json!("practice"), &json!("local")), "{what}");
        assert_eq!(line["outcome"], outcome, "{what}");
    }
    desk.practice.kill();
    assert_eq!(log_in(&desk, &[]).code, 3);
    let lines = desk.audit_of("auth.login");
    assert_eq!((lines.len(), &lines[3]["outcome"]), (4, &json!("error")), "one for each");
    assert_eq!(desk.cli(&["audit", "verify"]).code, 0);
}

#[test]
fn a_client_id_is_needed_and_can_be_given() {
    let desk = newcomer("client-id", json!({"approve": true}));
    desk.configure_provider(&json!({"client_id": null}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("type `infershield auth login practice --client-id ID`"), "{done:?}");
    assert_eq!(desk.practice.count("logins"), 0);

    assert_eq!(log_in(&desk, &["--client-id", "my-own-app"]).code, 0);
    let asked = desk.practice.requests(DEVICE).remove(0);
    assert_eq!(fields(&asked), ["client_id=my-own-app", "scope=openid offline_access"]);
    // The refresh must come from the same app.
    desk.age_login(3500);
    assert_eq!(desk.fetch("/v1/models").status, 200);
    assert_eq!(desk.practice.count("token refresh_token ok"), 1);
}

#[test]
fn a_client_id_that_the_provider_does_not_know_is_refused() {
    let desk = newcomer("wrong-client", json!({}));
    let body = json!({"error": "invalid_client", "error_description": "who?"}).to_string();
    desk.practice.fail(DEVICE, &json!({"kind": "status", "status": 401, "body": body}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 4);
    assert!(done.stderr.contains("invalid_client") && done.stderr.contains("who?"), "{done:?}");
    assert_eq!(done.stdout, "");
}

#[test]
fn endpoints_are_discovered_by_openid_connect_and_by_rfc_8414() {
    let desk = newcomer("discovery", json!({"approve": true}));
    assert_eq!(log_in(&desk, &[]).code, 0);
    assert_eq!(desk.practice.requests("/.well-known/openid-configuration").len(), 1);
    assert_eq!(desk.practice.requests("/.well-known/oauth-authorization-server").len(), 0);

    let gone = json!({"kind": "status", "status": 404, "body": "{}"});
    desk.practice.fail("/.well-known/openid-configuration", &gone);
    assert_eq!(log_in(&desk, &[]).code, 0);
    assert_eq!(desk.practice.requests("/.well-known/oauth-authorization-server").len(), 1);
}

#[test]
fn metadata_that_cannot_be_trusted_ends_the_login() {
    let desk = newcomer("bad-metadata", json!({}));
    let origin = &desk.practice.origin;
    let document = |issuer: &str, token: &str| {
        let device = format!("{origin}/oauth/device");
        json!({"issuer": issuer, "device_authorization_endpoint": device, "token_endpoint": token}).to_string()
    };
    let cases = [
        (document("https://login.evil.example", &format!("{origin}/oauth/token")), "https://login.evil.example"),
        (document(origin, "https://login.evil.example/token"), "https://login.evil.example"),
        (
            json!({"issuer": origin, "token_endpoint": format!("{origin}/oauth/token")}).to_string(),
            "device_authorization_endpoint",
        ),
        ("<html>".to_owned(), "metadata of"),
    ];
    for (body, why) in cases {
        desk.practice
            .fail("/.well-known/openid-configuration", &json!({"kind": "status", "status": 200, "body": body}));
        desk.practice
            .fail("/.well-known/oauth-authorization-server", &json!({"kind": "status", "status": 404, "body": "{}"}));
        let done = log_in(&desk, &[]);
        assert_eq!(done.code, 3, "{done:?}");
        assert!(
            done.stderr.contains(why)
                && done.stderr.contains("name `device_endpoint` and `token_endpoint` in config.json"),
            "{done:?}"
        );
    }
    assert_eq!(desk.practice.count("logins"), 0, "nothing was asked for");
}

#[test]
fn the_first_design_s_openai_endpoints_work_as_a_configured_provider() {
    let mut desk = newcomer("first-design", json!({}));
    let origin = desk.practice.origin.clone();
    desk.configure_provider(&json!({
        "issuer": null,
        "device_endpoint": format!("{origin}/v1/oauth/device/code"),
        "token_endpoint": format!("{origin}/v1/oauth/token"),
        "revoke_endpoint": format!("{origin}/v1/oauth/revoke"),
        "scopes": ["api.read", "api.write"],
    }));
    desk.restart();
    let (login, code) = begin(&desk);
    desk.practice.approve(&code);
    let done = login.wait();
    assert_eq!(done.stdout, "✓ Authenticated as local\n", "this provider does not say who it is");
    let asked = desk.practice.requests("/v1/oauth/device/code").remove(0);
    assert_eq!(fields(&asked), ["client_id=infershield-tests", "scope=api.read api.write"]);
    assert_eq!(desk.fetch("/v1/models").status, 200);

    desk.age_login(3500);
    assert_eq!(desk.fetch("/v1/models").status, 200);
    assert_eq!(desk.practice.requests("/v1/oauth/token").last().unwrap()["outcome"], "answered");
    assert_eq!(desk.practice.count("token refresh_token ok"), 1);
    assert_eq!(desk.cli(&["auth", "logout"]).stdout, "✓ Token revoked. Re-authenticate to continue.\n");
}

#[test]
fn github_s_errors_come_with_status_200() {
    let desk = newcomer("github", json!({}));
    desk.configure_provider(&github_row(&desk.practice.origin));
    let (login, code) = begin(&desk);
    desk.practice.wait("token device_code authorization_pending", 1);
    desk.practice.approve(&code);
    let done = login.wait();
    assert_eq!(done.stdout, "✓ Authenticated as alex-practice\n", "{done:?}");
    let status = desk.status().remove(0);
    assert_eq!((&status["expires_at"], &status["refreshable"]), (&Value::Null, &json!(false)), "the token never ends");

    let (login, code) = begin(&desk);
    desk.practice.deny(&code);
    assert_eq!(login.wait().code, 1);
    desk.practice.fail("/login/oauth/access_token", &json!({"kind": "oauth_error", "error": "incorrect_device_code"}));
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 4);
    assert!(done.stderr.contains("incorrect_device_code"), "{done:?}");
}

#[test]
fn replies_may_be_forms() {
    let desk = newcomer("forms", json!({}));
    desk.configure_provider(&github_row(&desk.practice.origin));
    // What GitHub's endpoints say to a client that does not ask for JSON, got by hand and replayed to one that does.
    let ask = |path: &str, fields: &str| Wire::call(desk.practice.addr, "POST", path, &[], fields.as_bytes()).text();
    let replay = |path: &str, body: &str| {
        let headers = json!({"content-type": "application/x-www-form-urlencoded"});
        desk.practice.fail(path, &json!({"kind": "status", "status": 200, "headers": headers, "body": body}));
    };
    let (device, token) = ("/login/device/code", "/login/oauth/access_token");
    let code = ask(device, "client_id=infershield-tests");
    let field = |name: &str| code.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap();
    desk.practice.approve(field("user_code="));
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    let tokens = ask(token, &format!("{grant}&client_id=infershield-tests&device_code={}", field("device_code=")));
    assert!(tokens.contains("access_token="), "{tokens}");
    replay(device, &code);
    replay(token, "error=authorization_pending&error_description=Still+waiting.");
    replay(token, &tokens);

    let done = log_in(&desk, &["--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let event: Value = serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(event["user_code"], field("user_code="));
    assert_eq!(event["verification_uri"], format!("{}/login/device", desk.practice.origin));
    assert_eq!(event["verification_uri_complete"], Value::Null);
    assert!(done.stdout.contains("alex-practice"), "{done:?}");
}

#[test]
fn what_a_provider_says_cannot_disturb_the_terminal() {
    let desk = newcomer("hostile", json!({"code_seconds": 1}));
    let answer = |page: &str| {
        let code = "AB\u{1b}[31mCD\r\n\u{202e}EF";
        let body = json!({"device_code": "dc", "user_code": code, "verification_uri": page, "expires_in": 1});
        desk.practice.fail(DEVICE, &json!({"kind": "status", "status": 200, "body": body.to_string()}));
        log_in(&desk, &[])
    };
    let done = answer("https://login.example/device");
    assert_eq!(done.stdout, "Visit: https://login.example/device\nCode: AB[31mCDEF\n");
    for page in [
        "javascript:alert(1)",
        "https://a.example@evil.example/",
        "https://x/\u{1b}]0;t\u{7}",
        "file:///etc/passwd",
        "",
    ] {
        let done = answer(page);
        assert_eq!((done.code, done.stdout.as_str()), (3, ""), "{page}");
        assert!(done.stderr.contains("verification_uri"), "{done:?}");
        assert!(!done.stderr.contains('\u{1b}'), "{done:?}");
    }
}

#[test]
fn a_provider_that_cannot_be_reached_is_named() {
    let mut desk = newcomer("unreachable", json!({}));
    desk.practice.kill();
    let done = log_in(&desk, &[]);
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains("127.0.0.1"), "{done:?}");
}

#[test]
fn a_home_that_others_can_write_takes_no_login() {
    let desk = newcomer("open-home", json!({"approve": true}));
    let chmod = |mode: &str| assert!(Command::new("chmod").arg(mode).arg(&desk.home).status().unwrap().success());
    chmod("777");
    let done = log_in(&desk, &[]);
    chmod("700");
    assert_eq!(done.code, 5);
    assert!(done.stderr.contains("chmod 700"), "{done:?}");
    assert_eq!(desk.practice.count("logins"), 0);
}

#[test]
fn a_provider_must_be_one_that_is_known() {
    let desk = newcomer("which-provider", json!({"approve": true}));
    let done = desk.cli(&["auth", "login", "practise"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("did you mean `practice`?"), "{done:?}");
    assert_eq!(desk.cli(&["auth", "login", "--no-browser"]).code, 0, "the default provider when none is named");
}

#[test]
fn without_a_terminal_an_api_key_must_be_asked_for_by_name() {
    let desk = newcomer("no-terminal", json!({}));
    for provider in ["openai", "anthropic"] {
        let done = desk.cli(&["auth", "login", provider]);
        assert_eq!(done.code, 2);
        assert!(done.stderr.contains(&format!("`infershield auth login {provider} --with-key`")), "{done:?}");
    }
}

#[test]
fn a_key_is_read_from_stdin_and_nobody_is_contacted() {
    let mut plan = Fixture::plan("with-key");
    plan.login = Login::Key;
    let desk = plan.start();
    assert_eq!(desk.practice.log()["requests"], json!([]));
    assert_eq!(desk.status()[0]["state"], "valid");
    assert_eq!(desk.fetch("/v1/models").status, 200, "and it is the key that is sent");

    let key = desk.run.random_secret();
    let done = desk.cli_typing(&["auth", "login", "practice", "--with-key", "--json"], &format!("{key}\r\n"));
    let event: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        event,
        json!({"event": "authenticated", "provider": "practice", "account": "local", "expires_at": null})
    );
}

#[test]
fn what_cannot_be_a_key_is_not_taken_for_one() {
    let desk = newcomer("no-key", json!({}));
    let torn = ["", "\n", "two words\n", "first-line\nsecond-line\n", "bell\u{7}\n"];
    for text in
        torn.into_iter().chain(["\u{feff}sk-invented\n", "schl\u{fc}ssel\n", "\"sk-invented\"\n", "'sk-invented'"])
    {
        let done = desk.cli_typing(&["auth", "login", "practice", "--with-key"], text);
        assert_eq!(done.code, 2, "{text:?}");
        assert!(done.stderr.contains("copy it again"), "{done:?}");
    }
    assert_nobody_is_logged_in(&desk);
}

#[test]
fn on_a_terminal_the_key_is_asked_for_and_not_echoed() {
    let desk = newcomer("hidden-prompt", json!({}));
    let key = desk.run.random_secret();
    let mut terminal = Terminal::start(&desk, "auth login practice --with-key");
    terminal.wait_for("API key for practice: ");
    terminal.type_in(&format!("{key}\n"));
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("✓ Authenticated as local"), "{seen}");
    assert!(!seen.contains(&key[..8]), "{seen}");
    assert_eq!(desk.status()[0]["state"], "valid");
}

#[test]
fn on_a_terminal_openai_asks_for_an_account_or_a_key() {
    let row =
        json!({"id": "openai", "device_endpoint": "BASE/api/accounts/deviceauth/usercode", "api_base": "BASE/v1"});
    let desk = Fixture::with_row("openai-asks", &row);
    let key = desk.run.random_secret();
    let answer = |text: &str| {
        let mut terminal = Terminal::start(&desk, "auth login openai --no-browser");
        terminal.wait_for("1 a ChatGPT account, 2 an API key? ");
        let shown = String::from_utf8_lossy(&terminal.seen).into_owned();
        assert!(shown.contains("client id of OpenAI's own CLI"), "before the question: {shown}");
        terminal.type_in(text);
        terminal
    };
    let mut terminal = answer("2\n");
    terminal.wait_for("API key for openai: ");
    terminal.type_in(&format!("{key}\n"));
    assert_eq!(terminal.end().0, Some(0));
    assert_eq!(desk.practice.log()["requests"], json!([]));

    let (code, seen) = answer("1\n").end();
    assert_eq!(code, Some(4), "the practice provider has no such login: {seen}");
    assert_eq!(desk.practice.requests("/api/accounts/deviceauth/usercode").len(), 1);
    assert_eq!(answer("x\n").end().0, Some(2));
}

#[test]
fn on_a_terminal_the_time_left_is_shown() {
    let desk = newcomer("time-left", json!({"approve": true}));
    let terminal = Terminal::start(&desk, "auth login practice --no-browser");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("waiting for you; the code lives"), "{seen}");
    assert!(seen.contains("✓ Authenticated as alex@practice.example"), "{seen}");
}

#[test]
fn on_a_terminal_the_page_is_opened_without_the_code_and_only_when_wanted() {
    let desk = newcomer("browser", json!({"approve": true}));
    let (browser, seen) = (desk.run.dir.join("bin/xdg-open"), desk.run.dir.join("seen"));
    fs::create_dir(desk.run.dir.join("bin")).unwrap();
    // The terminal's end must not end it.
    let script = format!("#!/bin/sh\ntrap '' HUP\nprintf '%s\\n' \"$*\" > '{}'\n", seen.display());
    fs::write(&browser, script).unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
    // Whoever writes into it waits for a reader: nothing is missed, whenever the browser starts.
    assert!(Command::new("mkfifo").arg(&seen).status().unwrap().success());
    assert_eq!(log_in(&desk, &[]).code, 0);
    assert_eq!(Terminal::start(&desk, "auth login practice --no-browser").end().0, Some(0));
    assert_eq!(Terminal::start(&desk, "auth login practice").end().0, Some(0));
    let (said, hear) = mpsc::channel();
    thread::spawn(move || said.send(fs::read_to_string(seen)));
    let opened = hear.recv_timeout(PATIENCE).expect("a browser was opened").unwrap();
    assert_eq!(opened, format!("{}/device\n", desk.practice.origin));
}

/// Names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
