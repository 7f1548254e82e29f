//! Logins, refreshes and revocations against a scripted provider on a real socket.

use crate::flow_support::{FakeClock, Responder, raw, recorded};
use infershield::config::Settings;
use infershield::flow::{self, DeviceCode, Error, Provider, Tokens, device, discover, token};
use infershield::secret::Secret;
use infershield::upstream::{Endpoint, Upstream};
use serde_json::json;
use std::time::Duration;

fn upstream() -> Upstream {
    Upstream::new(&Settings::default(), None).unwrap()
}

/// A provider at `base`, with `issuer` or with explicit endpoints.
fn provider(base: &str, members: serde_json::Value) -> Provider {
    let mut row = json!({"id": "corp", "login": "device", "client_id": "our-client", "scopes": ["openid", "offline_access"],
        "api_base": format!("{base}/v1"), "apis": ["chat"]});
    for (name, value) in members.as_object().unwrap() {
        row[name] = value.clone();
    }
    let mut table = flow::provider::table(&[row]).unwrap();
    table.pop().unwrap()
}

fn explicit(base: &str) -> Provider {
    provider(base, json!({"device_endpoint": format!("{base}/device"), "token_endpoint": format!("{base}/token")}))
}

/// Runs a whole login against these replies, the first one to the request for a code.
fn login(replies: &[Vec<u8>], clock: &FakeClock) -> (Result<Tokens, Error>, Responder) {
    let server = Responder::start(replies);
    let provider = explicit(&server.base);
    let endpoints = discover::endpoints(&upstream(), &provider).unwrap();
    let code = device::start(&upstream(), &provider, &endpoints, clock);
    let tokens = code.and_then(|code| device::poll(&upstream(), &code, clock, &mut |_, _| {}));
    (tokens, server)
}

/// The outcome of polls that are answered like this, after the usual code.
fn polled(replies: &[Vec<u8>]) -> (Result<Tokens, Error>, Vec<u64>) {
    let mut all = vec![recorded("rfc", "code")];
    all.extend_from_slice(replies);
    let clock = FakeClock::new();
    (login(&all, &clock).0, clock.slept())
}

fn code(reply: Vec<u8>) -> Result<DeviceCode, Error> {
    let server = Responder::start(&[reply]);
    let provider = explicit(&server.base);
    let endpoints = discover::endpoints(&upstream(), &provider).unwrap();
    device::start(&upstream(), &provider, &endpoints, &FakeClock::new())
}

fn refused(code: &str) -> Error {
    Error::Refused(code.into(), String::new())
}

#[test]
fn a_device_login_sends_what_the_rfc_asks_for_and_no_more() {
    let replies = [recorded("rfc", "code"), recorded("rfc", "pending"), recorded("rfc", "tokens")];
    let (tokens, server) = login(&replies, &FakeClock::new());
    let tokens = tokens.unwrap();
    assert_eq!(tokens.access.expose(), "at-invented-1");
    assert_eq!(tokens.refresh.unwrap().expose(), "rt-invented-1");
    assert_eq!(tokens.expires_in, Some(3600));
    assert_eq!(tokens.scopes, ["openid", "offline_access"]);
    let requests = server.requests();
    assert!(requests[0].starts_with("POST /device HTTP/1.1\r\n"));
    assert!(requests[0].ends_with("\r\n\r\nclient_id=our-client&scope=openid+offline_access"));
    assert!(requests[1].ends_with("\r\n\r\ngrant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=GmRh-invented-9f3c&client_id=our-client"));
    assert_eq!(requests[1], requests[2]);
    let mut names: Vec<_> =
        requests[1].lines().skip(1).map_while(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "content-type", "host", "user-agent"]);
}

#[test]
fn polling_is_never_faster_than_the_server_asked() {
    let (pending, slow, slow_429, tokens) = (
        recorded("rfc", "pending"),
        recorded("rfc", "slow_down"),
        recorded("rfc", "slow_down_429"),
        recorded("rfc", "tokens"),
    );
    let (done, slept) = polled(&[pending.clone(), slow, pending, slow_429, recorded("github", "slow_down"), tokens]);
    assert!(done.is_ok());
    // 5, 5, 10, 10, 15, 20 seconds and a fifth of each.
    assert_eq!(slept, [6, 6, 12, 12, 18, 24]);
}

#[test]
fn a_code_without_interval_is_polled_every_five_seconds() {
    let clock = FakeClock::new();
    let replies = [recorded("rfc", "code_without_interval"), recorded("rfc", "tokens")];
    assert!(login(&replies, &clock).0.is_ok());
    assert_eq!(clock.slept(), [6]);
}

#[test]
fn errors_count_whatever_their_status() {
    let (done, slept) = polled(&[
        recorded("github", "pending"),
        recorded("entra", "pending"),
        recorded("github", "tokens_of_an_oauth_app"),
    ]);
    let tokens = done.unwrap();
    assert_eq!(slept.len(), 3);
    assert_eq!((tokens.refresh, tokens.expires_in), (None, None));
    assert_eq!(tokens.scopes, ["read:user", "gist"]);
}

#[test]
fn every_final_answer_ends_the_wait() {
    for (provider, name, error) in [
        ("rfc", "denied", Error::Denied),
        ("entra", "declined", Error::Denied),
        ("rfc", "expired", Error::CodeExpired),
        ("github", "expired", Error::CodeExpired),
        ("entra", "bad_code", refused("bad_verification_code")),
        ("github", "wrong_code", refused("incorrect_device_code")),
        ("github", "wrong_client", refused("incorrect_client_credentials")),
        ("rfc", "invalid_client", refused("invalid_client")),
    ] {
        assert_eq!(polled(&[recorded(provider, name)]).0.unwrap_err(), error, "{name}");
    }
}

#[test]
fn faults_are_waited_out_with_doubling_pauses() {
    let faults = [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"access_to".to_vec(),
        b"no HTTP at all".to_vec(),
        raw(200, "text/html", "<html>Sign in to the hotel</html>"),
        raw(502, "text/html", "<html>Bad gateway</html>"),
    ];
    let others = [
        raw(302, "text/plain", ""),
        raw(429, "text/plain", "slower"),
        raw(200, "application/json", "{\"access_token\": \"cut"),
        raw(200, "application/json", "[]"),
        raw(200, "application/json", &format!("{{\"a\":\"{}\"}}", "a".repeat(2 << 20))),
        recorded("rfc", "busy"),
    ];
    let mut replies = faults.to_vec();
    replies.push(recorded("rfc", "pending"));
    replies.extend_from_slice(&others);
    replies.push(recorded("rfc", "tokens"));
    let (done, slept) = polled(&replies);
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(slept, [6, 12, 24, 48, 72, 72, 6, 12, 24, 48, 72, 72, 72]);
}

#[test]
fn the_wait_ends_with_the_code_even_when_nobody_answers() {
    let clock = FakeClock::new();
    let (done, _) = login(&[recorded("rfc", "code")], &clock);
    assert_eq!(done.unwrap_err(), Error::CodeExpired);
    assert_eq!(clock.slept().iter().sum::<u64>(), 1800);
}

#[test]
fn the_wait_ends_with_the_code_when_the_machine_slept() {
    let clock = FakeClock::new();
    clock.suspended.set(Duration::from_secs(3600));
    let (done, server) = login(&[recorded("rfc", "code"), recorded("rfc", "tokens")], &clock);
    assert_eq!(done.unwrap_err(), Error::CodeExpired);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_refused_code_says_why() {
    for (name, expected) in [("disabled", "device_flow_disabled"), ("not_found", "Not Found")] {
        let error = code(recorded("github", name)).unwrap_err();
        assert!(matches!(&error, Error::Refused(code, _) if code == expected), "{error:?}");
    }
    assert!(matches!(code(raw(200, "text/html", "<html>")).unwrap_err(), Error::Reply(_)));
}

#[test]
fn a_form_is_read_like_json() {
    let form = "device_code=abc&expires_in=899&interval=7&user_code=AB%2DCD&verification_uri=https%3A%2F%2Fgithub.com%2Flogin%2Fdevice";
    let code = code(raw(200, "application/x-www-form-urlencoded", form)).unwrap();
    assert_eq!((code.user_code.expose(), code.expires_in), ("AB-CD", 899));
    assert_eq!(code.verification_uri, "https://github.com/login/device");
}

#[test]
fn nothing_of_a_server_reaches_a_terminal_unclean() {
    let reply = |uri: &str| {
        json!({"device_code": "dc-9", "user_code": "AB\u{1b}[2J-\u{202e}CD", "verification_uri": uri, "expires_in": 60})
            .to_string()
    };
    let shown = code(raw(200, "application/json", &reply("https://idp.example/device"))).unwrap();
    assert_eq!(shown.user_code.expose(), "AB[2J-CD");
    let debug = format!("{shown:?}");
    assert!(debug.contains("user_code: Secret(…)") && debug.contains("device_code: Secret(…)"), "{debug}");
    for uri in [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://idp.example/\u{1b}[2J",
        "https://",
        "https://bank.example@evil.example/",
        "https://a.example/'$(id)",
    ] {
        assert!(code(raw(200, "application/json", &reply(uri))).is_err(), "{uri}");
    }
    let words = polled(&[recorded("rfc", "unknown")]).0.unwrap_err();
    assert_eq!(words, Error::Refused("something_new".into(), "words[2J of the server".into()));
}

#[test]
fn numbers_out_of_this_world_neither_panic_nor_wait_for_ever() {
    let reply = json!({"device_code": "dc-9", "user_code": "A", "verification_uri": "https://idp.example/", "expires_in": u64::MAX, "interval": u64::MAX}).to_string();
    let code = code(raw(200, "application/json", &reply)).unwrap();
    assert_eq!(code.expires_in, 86_400);
}

#[test]
fn without_a_client_id_nothing_is_sent() {
    let mut github = flow::provider::table(&[]).unwrap().into_iter().find(|row| row.id == "github").unwrap();
    let endpoints = discover::endpoints(&upstream(), &github).unwrap();
    let start = |github: &Provider| device::start(&upstream(), github, &endpoints, &FakeClock::new()).unwrap_err();
    let wanted =
        |error| matches!(error, Error::Config(text) if text.contains("infershield auth login github --client-id ID"));
    assert!(wanted(start(&github)));
    github.client_id = Some(String::new());
    assert!(wanted(start(&github)));
}

fn discovered(replies: &[Vec<u8>]) -> (Result<discover::Endpoints, Error>, Responder) {
    let server = Responder::start(replies);
    let row = provider(&server.base, json!({"issuer": format!("{}/t1", server.base)}));
    (discover::endpoints(&upstream(), &row), server)
}

#[test]
fn discovery_asks_openid_connect_first_and_then_rfc_8414() {
    let (found, server) = discovered(&[raw(404, "text/html", "<html>"), recorded("rfc", "metadata")]);
    let found = found.unwrap();
    assert_eq!(found.device.as_str(), format!("{}/t1/device", server.base));
    assert_eq!(found.account.unwrap().as_str(), format!("{}/t1/me", server.base));
    assert!(server.requests()[0].starts_with("GET /t1/.well-known/openid-configuration HTTP/1.1\r\n"));
    assert!(server.requests()[1].starts_with("GET /.well-known/oauth-authorization-server/t1 HTTP/1.1\r\n"));
}

#[test]
fn metadata_is_believed_only_about_its_own_issuer_and_named_hosts() {
    for name in ["metadata_of_another", "metadata_elsewhere", "metadata_in_the_clear"] {
        let error = discovered(&[recorded("rfc", name)]).0.unwrap_err();
        assert!(matches!(&error, Error::Reply(why) if why.starts_with("metadata of")), "{name}: {error}");
    }
}

#[test]
fn an_unreachable_issuer_is_a_fault_and_not_a_verdict() {
    assert!(discovered(&[]).0.unwrap_err().is_transient());
}

fn refreshed(reply: Vec<u8>) -> (Result<Tokens, Error>, Responder) {
    let server = Responder::start(&[reply]);
    let to = Endpoint::try_from(format!("{}/token", server.base)).unwrap();
    let old = Secret::new("rt+invented/1".into());
    (token::refresh(&upstream(), &to, "our-client", &old), server)
}

#[test]
fn a_refresh_brings_the_new_pair_or_keeps_the_old_refresh_token() {
    let (done, server) = refreshed(recorded("rfc", "refreshed_with_rotation"));
    let tokens = done.unwrap();
    assert_eq!(tokens.refresh.unwrap().expose(), "rt-invented-2");
    assert_eq!(tokens.expires_in, Some(3600));
    assert!(
        server.requests()[0]
            .ends_with("\r\n\r\ngrant_type=refresh_token&refresh_token=rt%2Binvented%2F1&client_id=our-client")
    );
    let tokens = refreshed(recorded("rfc", "refreshed_without_rotation")).0.unwrap();
    assert_eq!((tokens.refresh, tokens.expires_in), (None, None));
    let tokens = refreshed(recorded("github", "tokens_of_a_github_app")).0.unwrap();
    assert_eq!(tokens.expires_in, Some(28_800));
}

#[test]
fn only_the_servers_word_ends_a_login() {
    for (provider, name) in [
        ("rfc", "invalid_grant"),
        ("github", "bad_refresh_token"),
        ("openai", "refresh_token_expired"),
        ("openai", "refresh_token_reused"),
        ("openai", "refresh_token_invalidated"),
        ("entra", "interaction_required"),
    ] {
        let error = refreshed(recorded(provider, name)).0.unwrap_err();
        assert!(matches!(error, Error::LoginOver(_)), "{name}: {error:?}");
        assert!(!error.is_transient());
    }
    for reply in [
        Vec::new(),
        recorded("rfc", "busy"),
        raw(429, "application/json", "{\"error\":\"invalid_grant\"}"),
        raw(500, "application/json", "{\"error\":\"invalid_grant\"}"),
        raw(400, "text/html", "<html>"),
        raw(400, "application/json", "{\"error\":\"temporarily_unavailable\"}"),
        raw(400, "application/json", "{\"error\":\"server_error\"}"),
        raw(400, "application/json", "{\"error\":\"slow_down\"}"),
        raw(200, "text/html", "<html>"),
        raw(200, "application/json", "{}"),
        raw(302, "text/plain", ""),
    ] {
        let error = refreshed(reply.clone()).0.unwrap_err();
        assert!(error.is_transient(), "{}: {error:?}", String::from_utf8_lossy(&reply));
    }
    for (provider, name) in [("github", "rate_limited"), ("rfc", "invalid_client")] {
        let error = refreshed(recorded(provider, name)).0.unwrap_err();
        assert!(matches!(error, Error::Refused(..)), "{name}: {error:?}");
    }
}

#[test]
fn revocation_is_claimed_only_when_the_server_confirmed_it() {
    let revoke = |reply: Vec<u8>| {
        let server = Responder::start(&[reply]);
        let to = Endpoint::try_from(format!("{}/revoke", server.base)).unwrap();
        let token = Secret::new("rt-invented-1".into());
        let done = token::revoke(&upstream(), &to, "our-client", &Secret::new("at-invented-1".into()), Some(&token));
        (done, server)
    };
    let (done, server) = revoke(raw(200, "text/plain", ""));
    done.unwrap();
    assert!(
        server.requests()[0]
            .ends_with("\r\n\r\ntoken=rt-invented-1&token_type_hint=refresh_token&client_id=our-client")
    );
    let error = revoke(recorded("rfc", "unsupported_token_type")).0.unwrap_err();
    assert_eq!(error, refused("unsupported_token_type"));
    for reply in [raw(503, "text/plain", ""), Vec::new(), raw(302, "text/plain", "")] {
        assert!(revoke(reply).0.unwrap_err().is_transient());
    }
}

#[test]
fn exposed_tokens_are_reported_without_a_login_and_only_202_confirms() {
    let report = |reply: Vec<u8>| {
        let server = Responder::start(&[reply]);
        let to = Endpoint::try_from(format!("{}/credentials/revoke", server.base)).unwrap();
        let (access, refresh) = (Secret::new("gho_Invented1".into()), Secret::new("ghr_Invented\"2".into()));
        (token::revoke_exposed(&upstream(), &to, &access, Some(&refresh)), server)
    };
    let (done, server) = report(raw(202, "application/json", ""));
    done.unwrap();
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /credentials/revoke HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-type: application/json\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"credentials\":[\"gho_Invented1\",\"ghr_Invented\\\"2\"]}"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("\r\nauthorization:"), "{request}");
    for status in [200, 204, 302, 403, 422, 429, 500] {
        assert!(report(raw(status, "application/json", "{}")).0.is_err(), "{status}");
    }
    assert!(report(Vec::new()).0.is_err());
}

#[test]
fn the_account_has_a_name_when_somebody_says_it() {
    let mut tokens = Tokens {
        access: Secret::new("gho_Invented".into()),
        refresh: None,
        expires_in: None,
        scopes: Vec::new(),
        id_token: None,
    };
    let ask = |reply: Vec<u8>, tokens: &Tokens| {
        let server = Responder::start(&[reply]);
        let at = Endpoint::try_from(format!("{}/user", server.base)).unwrap();
        (tokens.account(&upstream(), Some(&at)), server)
    };
    let (name, server) = ask(recorded("github", "user"), &tokens);
    assert_eq!(name.as_deref(), Some("octo-invented"));
    assert!(server.requests()[0].contains("\r\nauthorization: Bearer gho_Invented\r\n"));
    assert_eq!(ask(recorded("rfc", "userinfo"), &tokens).0.as_deref(), Some("dev@example.com"));
    assert_eq!(ask(recorded("github", "rate_limited"), &tokens).0, None);
    assert_eq!(tokens.account(&upstream(), None), None);
    // {"sub":"1","email":"dev@example.com\u001b[2J"}
    tokens.id_token = Some(Secret::new("e30.eyJzdWIiOiIxIiwiZW1haWwiOiJkZXZAZXhhbXBsZS5jb21cdTAwMWJbMkoifQ.x".into()));
    assert_eq!(tokens.account(&upstream(), None).as_deref(), Some("dev@example.com[2J"));
}

/// A refusal that says this, to a refresh with the token `rt+invented/1`.
fn refusal_of_refresh(body: serde_json::Value) -> String {
    refreshed(raw(400, "application/json", &body.to_string())).0.unwrap_err().to_string()
}

#[test]
fn what_a_server_says_is_dropped_when_it_repeats_a_secret() {
    let long = "a".repeat(190);
    for words in [
        "unknown token rt+invented/1",
        "rt%2Binvented%2F1",
        "100% rt%2binvented%2f1 &c",
        "RT+INVENTED/1",
        "rt+inv\u{200b}ented/1",
        &format!("{long} rt+invented/1"),
    ] {
        let said = refusal_of_refresh(json!({"error": "odd", "error_description": words}));
        assert!(said.contains("refused: odd; "), "{said}");
        let said = refusal_of_refresh(json!({"error": words, "error_description": "well"}));
        assert!(said.contains("refused: status 400 (well)"), "{said}");
        let said = refusal_of_refresh(json!({"error": {"code": words}}));
        assert!(said.contains("refused: status 400; "), "{said}");
    }
    let said = refusal_of_refresh(json!({"error": "odd", "error_description": "not at-9", "access_token": "at-9"}));
    assert!(said.contains("refused: odd; "), "{said}");
    let said = refusal_of_refresh(json!({"error": "odd", "error_description": "refresh_token of our-client"}));
    assert!(said.contains("odd (refresh_token of our-client)"), "what is no secret stays: {said}");

    let echo = json!({"error": "odd", "error_description": "GmRh-invented-9f3c"});
    assert_eq!(polled(&[raw(400, "application/json", &echo.to_string())]).0.unwrap_err(), refused("odd"));
    for echo in ["user_code", "verification_uri"] {
        let mut reply = json!({"device_code": "dc-9", "user_code": "AB", "verification_uri": "https://idp.example/"});
        reply[echo] = json!("https://idp.example/?dc-9");
        assert!(code(raw(200, "application/json", &reply.to_string())).is_err(), "{echo}");
    }
}

#[test]
fn neither_scope_nor_account_is_a_token() {
    let reply = json!({"access_token": "at-9", "refresh_token": "rt-9", "scope": "openid at-9 rt-9"});
    let tokens = refreshed(raw(200, "application/json", &reply.to_string())).0.unwrap();
    assert_eq!(tokens.scopes, ["openid"]);
    let server = Responder::start(&[raw(200, "application/json", "{\"login\":\"at-9\",\"name\":\"dev\"}")]);
    let at = Endpoint::try_from(format!("{}/user", server.base)).unwrap();
    assert_eq!(tokens.account(&upstream(), Some(&at)).as_deref(), Some("dev"));
    // {"login":"rt-9","email":"dev@example.com"}
    let claims = "e30.eyJsb2dpbiI6InJ0LTkiLCJlbWFpbCI6ImRldkBleGFtcGxlLmNvbSJ9.x";
    let tokens = Tokens { id_token: Some(Secret::new(claims.into())), ..tokens };
    assert_eq!(tokens.account(&upstream(), None).as_deref(), Some("dev@example.com"));
}

#[test]
fn a_token_that_no_request_can_carry_is_refused() {
    let odd = ["", "a b", "a\nb", "a\u{7f}", "t\u{f6}ken", " a"].map(|token| json!({"access_token": token}));
    for reply in odd.into_iter().chain([json!({"access_token": "a", "token_type": "mac"})]) {
        let reply = raw(200, "application/json", &reply.to_string());
        for error in [refreshed(reply.clone()).0.unwrap_err(), polled(&[reply]).0.unwrap_err()] {
            assert!(error.to_string().contains("sent a token that cannot be used"), "{error}");
            assert!(!error.is_transient(), "{error}");
        }
    }
    for kind in ["Bearer", "bearer", "BEARER"] {
        let reply = json!({"access_token": "a", "token_type": kind}).to_string();
        assert!(refreshed(raw(200, "application/json", &reply)).0.is_ok());
    }
}

#[test]
fn no_odd_life_makes_a_token_without_end() {
    let ten_years = 315_360_000;
    for (life, expected) in [
        ("-1", Some(0)),
        ("-1e300", Some(0)),
        ("\"soon\"", Some(0)),
        ("\"\"", Some(0)),
        ("3600.9", Some(3600)),
        ("\"3600\"", Some(3600)),
        ("18446744073709551615", Some(ten_years)),
        ("999999999999999999999999999999", Some(ten_years)),
        ("null", None),
    ] {
        let reply = format!("{{\"access_token\":\"a\",\"expires_in\":{life}}}");
        let tokens = refreshed(raw(200, "application/json", &reply)).0.unwrap();
        assert_eq!(tokens.expires_in, expected, "{life}");
    }
}
