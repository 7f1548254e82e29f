//! A token from its first use to its end: renewed in time, by one process at a time, given up only on the provider's word.

use crate::support::{Fixture, Process, Reply, USER, Wire};
use infershield::store::{Record, State};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::thread;

const TOKEN: &str = "/oauth/token";
const MODELS: &str = "/v1/models";
const REFRESHED: &str = "token refresh_token ok";
/// Life of the practice provider's tokens, in seconds, where a test does not say otherwise.
const HOUR: u64 = 3600;
/// How far tests keep from a limit, in seconds: a busy machine is slow.
const CLEAR: u64 = 60;

fn with(name: &'static str, settings: Value) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.settings = settings;
    plan.start()
}

/// A request that needs the token.
fn ask(desk: &Fixture) -> Reply {
    desk.fetch(MODELS)
}

fn record(desk: &Fixture) -> Record {
    desk.store().record(USER, "practice").unwrap().unwrap()
}

fn refreshes(desk: &Fixture) -> u64 {
    desk.practice.count(REFRESHED)
}

fn assert_login_needed(reply: &Reply) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    let error = &reply.json()["error"];
    assert_eq!(error["code"], "infershield_login_needed");
    assert!(error["message"].as_str().unwrap().contains("infershield auth login practice"), "{error}");
}

#[test]
fn a_token_is_refreshed_when_less_than_five_minutes_are_left() {
    let desk = Fixture::start("five-minutes");
    desk.age_login(HOUR - 300 - CLEAR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 0);
    desk.age_login(2 * CLEAR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 1);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 1, "the new one has an hour again");
}

#[test]
fn a_short_lived_token_is_refreshed_after_half_its_life() {
    let desk = with("half-life", json!({"token_seconds": 400}));
    desk.age_login(200 - CLEAR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 0, "although less than five minutes are left");
    desk.age_login(2 * CLEAR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 1);
}

#[test]
fn a_token_that_lives_a_second_is_refreshed_all_the_same() {
    let desk = with("one-second", json!({"token_seconds": 1}));
    desk.age_login(CLEAR);
    desk.practice.set(&json!({"token_seconds": HOUR}));
    assert_eq!(ask(&desk).status, 200);
    assert_eq!((refreshes(&desk), desk.practice.requests(MODELS).len()), (1, 1), "before it is used");
}

#[test]
fn each_refresh_presents_the_newest_refresh_token() {
    let desk = Fixture::start("rotation");
    let mut seen = vec![record(&desk).refresh_token.unwrap()];
    for count in 1..=3 {
        desk.age_login(HOUR);
        assert_eq!(ask(&desk).status, 200);
        assert_eq!(refreshes(&desk), count, "the provider ends the grant when a spent one comes back");
        let newest = record(&desk).refresh_token.unwrap();
        assert!(!seen.contains(&newest));
        seen.push(newest);
    }
    assert_eq!(desk.audit_of("auth.refresh").len(), 3);
    assert!(record(&desk).refreshed_at.is_some());
}

#[test]
fn a_provider_that_does_not_rotate_gets_the_same_refresh_token_again() {
    let desk = with("no-rotation", json!({"rotate": false}));
    let first = record(&desk).refresh_token;
    for count in 1..=2 {
        desk.age_login(HOUR);
        assert_eq!(ask(&desk).status, 200);
        assert_eq!(refreshes(&desk), count);
        assert_eq!(record(&desk).refresh_token, first);
    }
}

#[test]
fn a_token_without_an_end_is_refreshed_when_it_is_refused() {
    let desk = with("no-expiry", json!({"expires_in": false}));
    assert_eq!(record(&desk).expires_at, None);
    desk.age_login(HOUR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 0);
    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401}));
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 1);
    assert_eq!(record(&desk).expires_at, None);
}

#[test]
fn after_a_401_there_is_one_refresh_and_one_more_try() {
    let desk = Fixture::start("retry-once");
    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401}));
    assert_eq!(ask(&desk).status, 200);
    assert_eq!((refreshes(&desk), desk.practice.requests(MODELS).len()), (1, 2));

    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401, "times": 2}));
    assert_login_needed(&ask(&desk));
    assert_eq!((refreshes(&desk), desk.practice.requests(MODELS).len()), (2, 4));
    assert_eq!(record(&desk).state, State::Valid, "once is no reason to give it up");
}

#[test]
fn a_refresh_that_fails_leaves_a_token_in_use_that_has_not_expired() {
    let faults = [
        json!({"kind": "status", "status": 500}),
        json!({"kind": "status", "status": 429}),
        json!({"kind": "html"}),
        json!({"kind": "close"}),
        json!({"kind": "oversized", "bytes": 2 << 20}),
        json!({"kind": "status", "status": 200, "body": "{\"access_token\":"}),
    ];
    for fault in faults {
        let desk = Fixture::start("transient");
        let before = record(&desk).access_token;
        desk.age_login(HOUR - CLEAR);
        desk.practice.fail(TOKEN, &fault);
        assert_eq!(ask(&desk).status, 200, "{fault}");
        assert_eq!(ask(&desk).status, 200, "{fault}");
        let kept = record(&desk);
        assert!(kept.access_token == before && kept.state == State::Valid, "{fault}");
        assert_eq!(desk.practice.requests(TOKEN).len(), 2, "the login, and one try: not one for each request");
        assert_eq!(desk.audit_of("auth.refresh")[0]["outcome"], "error");
    }
}

#[test]
fn an_expired_token_that_cannot_be_refreshed_just_now_is_a_503_that_heals() {
    let desk = Fixture::start("transient-expired");
    desk.age_login(HOUR + CLEAR);
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 503, "times": 2}));
    for _ in 0..2 {
        let reply = ask(&desk);
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("retry-after").is_some());
    }
    assert!(desk.practice.requests(MODELS).is_empty(), "what has expired is not sent");
    assert_eq!(ask(&desk).status, 200, "as soon as the provider is back");
    assert_eq!(refreshes(&desk), 1);
}

#[test]
fn a_provider_that_has_no_time_for_a_refresh_says_nothing_about_the_login() {
    let mut desk = Fixture::start("not-now");
    desk.age_login(HOUR + CLEAR);
    for error in ["temporarily_unavailable", "server_error", "slow_down"] {
        desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": error}));
        let reply = ask(&desk);
        assert_eq!(reply.status, 503, "{error}: {}", reply.text());
        assert!(reply.header("retry-after").is_some() && reply.text().contains(error), "{}", reply.text());
        assert_eq!(record(&desk).state, State::Valid, "{error}");
        // A new process does not wait before it tries again.
        desk.restart();
    }
    assert_eq!(ask(&desk).status, 200, "as soon as the provider has time");
}

#[test]
fn a_401_to_a_token_that_could_not_be_refreshed_is_no_strike() {
    let desk = Fixture::start("no-strike");
    for _ in 0..4 {
        desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401}));
        desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 503}));
        let reply = ask(&desk);
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(record(&desk).state, State::Valid);
    assert_eq!(ask(&desk).status, 200);
}

#[test]
fn invalid_grant_marks_the_login_dead_and_keeps_it() {
    let desk = Fixture::start("invalid-grant");
    let before = record(&desk);
    desk.age_login(HOUR + CLEAR);
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "invalid_grant"}));
    assert_login_needed(&ask(&desk));
    let asked = desk.practice.log()["requests"].as_array().unwrap().len();
    for _ in 0..3 {
        assert_login_needed(&ask(&desk));
    }
    assert_eq!(desk.practice.log()["requests"].as_array().unwrap().len(), asked, "nobody is asked again and again");
    let kept = record(&desk);
    assert_eq!((kept.state, kept.refresh_token), (State::Dead, before.refresh_token));
    assert_eq!(desk.audit_of("auth.dead").len(), 1);

    desk.practice.set(&json!({"approve": true}));
    assert_eq!(desk.cli(&["auth", "login", "practice"]).code, 0);
    assert_eq!(ask(&desk).status, 200, "a new login heals it, and the running proxy sees it");
}

#[test]
fn only_401s_in_a_row_make_a_login_suspect() {
    let desk = Fixture::start("strikes");
    let twice = |status: u16| desk.practice.fail(MODELS, &json!({"kind": "status", "status": status, "times": 2}));
    for _ in 0..2 {
        twice(401);
        assert_login_needed(&ask(&desk));
    }
    assert_eq!(ask(&desk).status, 200, "which ends the row");
    for _ in 0..2 {
        twice(401);
        assert_login_needed(&ask(&desk));
    }
    for status in [403, 429, 500] {
        twice(status);
        assert_eq!((ask(&desk).status, ask(&desk).status), (status, status), "passed on, and no strike");
    }
    assert_eq!(record(&desk).state, State::Valid);
    twice(401);
    assert_login_needed(&ask(&desk));
    assert_eq!(record(&desk).state, State::Suspect);
    assert_eq!(desk.audit_of("auth.suspect").len(), 1);

    let asked = desk.practice.requests(MODELS).len();
    assert_login_needed(&ask(&desk));
    assert_eq!(desk.practice.requests(MODELS).len(), asked, "it is not used until the user acts");
    assert_eq!(desk.practice.count("revocations"), 0, "nor revoked, unless that was asked for");
}

/// Three requests in a row whose token is refused, and refused again when it is fresh.
fn make_suspect(desk: &Fixture) {
    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401, "times": 6}));
    for _ in 0..3 {
        assert_login_needed(&ask(desk));
    }
    assert_eq!(record(desk).state, State::Suspect);
}

#[test]
fn a_suspect_login_gets_one_try_every_ten_minutes_with_fresh_tokens() {
    let desk = Fixture::start("suspect-try");
    make_suspect(&desk);
    let asked = || (refreshes(&desk), desk.practice.requests(MODELS).len());
    let before = asked();
    desk.age_login(600 - CLEAR);
    assert_login_needed(&ask(&desk));
    assert_eq!(asked(), before, "not yet");

    desk.age_login(2 * CLEAR);
    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401}));
    for _ in 0..3 {
        assert_login_needed(&ask(&desk));
    }
    assert_eq!(asked(), (before.0 + 1, before.1 + 1), "one try, and not a second one after its 401");
    assert_eq!(record(&desk).state, State::Suspect);

    desk.age_login(600 + CLEAR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(record(&desk).state, State::Valid, "what was suspected is forgotten");
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(asked(), (before.0 + 2, before.1 + 3));
}

#[test]
fn a_suspect_login_waits_between_its_tries_also_where_they_fail_or_the_clock_was_ahead() {
    let desk = Fixture::start("suspect-waits");
    make_suspect(&desk);
    desk.age_login(600 + CLEAR);
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 503, "times": 9}));
    let before = desk.practice.requests(TOKEN).len();
    for _ in 0..5 {
        assert_ne!(ask(&desk).status, 200);
    }
    assert_eq!(desk.practice.requests(TOKEN).len(), before + 1, "one try");

    let desk = Fixture::start("suspect-ahead");
    make_suspect(&desk);
    let set = desk.store().update(USER, "practice", &mut |record| record.refreshed_at = Some(u64::from(u32::MAX)));
    assert!(set.unwrap());
    assert_eq!(ask(&desk).status, 200, "a day that has not come is no reason to wait for it");

    let desk = Fixture::start("suspect-counted");
    make_suspect(&desk);
    desk.age_login(600 + CLEAR);
    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 429}));
    assert_eq!(ask(&desk).status, 429);
    assert_eq!(record(&desk).state, State::Valid, "who counts the requests of a login has taken its token");
}

#[test]
fn with_auto_revoke_a_dead_login_is_revoked_at_the_provider() {
    let mut plan = Fixture::plan("auto-revoke");
    plan.config = json!({"auto_revoke": true});
    let desk = plan.start();
    desk.age_login(HOUR + CLEAR);
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "invalid_grant"}));
    assert_login_needed(&ask(&desk));
    assert_eq!(desk.practice.count("revocations"), 1);
    assert_eq!(record(&desk).state, State::Dead, "and kept here");
}

/// One more proxy on the same home.
fn another_proxy(desk: &Fixture) -> (Process, SocketAddr) {
    let process = desk.cli_start(&["serve", "--listen", "127.0.0.1:0"]);
    let addr = process.line_after("infershield listening on http://").parse().unwrap();
    (process, addr)
}

#[test]
fn thirty_two_threads_of_each_of_four_processes_refresh_once() {
    let desk = Fixture::start("single-flight");
    let others: Vec<(Process, SocketAddr)> = (0..3).map(|_| another_proxy(&desk)).collect();
    let addresses: Vec<SocketAddr> = others.iter().map(|other| other.1).chain([desk.addr]).collect();
    let bearer = format!("Bearer {}", desk.key);
    for round in 1..=3 {
        desk.age_login(HOUR + CLEAR);
        desk.practice.fail(TOKEN, &json!({"kind": "silence"}));
        let statuses: Vec<u16> = thread::scope(|scope| {
            let one = |addr: SocketAddr| {
                let headers = [("authorization", bearer.as_str())];
                Wire::call(addr, "GET", MODELS, &headers, b"").status
            };
            let calls: Vec<_> = addresses
                .iter()
                .flat_map(|addr| (0..32).map(|_| scope.spawn(move || one(*addr))).collect::<Vec<_>>())
                .collect();
            // The first refresh is made and not yet answered: whoever comes now must wait for it.
            desk.practice.wait("held", round);
            desk.practice.release();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert_eq!(statuses, [200; 4 * 32]);
        assert_eq!(refreshes(&desk), round, "one for all requests");
    }
    assert_eq!(desk.practice.count("token refresh_token invalid_grant"), 0);
    assert_eq!(record(&desk).state, State::Valid);
}

#[test]
fn a_process_that_was_killed_while_refreshing_holds_nobody_up() {
    let mut desk = Fixture::start("killed-refreshing");
    desk.practice.set(&json!({"rotate": false}));
    let (_other, addr) = another_proxy(&desk);
    desk.age_login(HOUR + CLEAR);
    desk.practice.fail(TOKEN, &json!({"kind": "silence"}));
    let bearer = format!("Bearer {}", desk.key);
    let mut asking = desk.connect();
    asking.send(&crate::support::request("GET", MODELS, &[("authorization", &bearer)], b""));
    desk.practice.wait("held", 1);
    desk.serve.kill();
    assert_eq!(Wire::call(addr, "GET", MODELS, &[("authorization", &bearer)], b"").status, 200);
    assert_eq!(record(&desk).state, State::Valid);
}

#[test]
fn tokens_that_cannot_be_saved_are_kept_until_they_can() {
    let mut desk = Fixture::start("unsaved");
    desk.age_login(HOUR + CLEAR);
    let before = record(&desk).refresh_token;
    // Whoever runs the tests may be allowed to write into a read-only folder; nobody can write a file over a folder.
    let obstacle = desk.home.join("tokens.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&desk).status, 200);
        assert_eq!(refreshes(&desk), 1, "the old refresh token is spent: it must not be tried again");
    }
    assert_eq!(record(&desk).refresh_token, before);

    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(ask(&desk).status, 200);
    assert_ne!(record(&desk).refresh_token, before, "saved as soon as that is possible");
    desk.restart();
    desk.age_login(HOUR + CLEAR);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(refreshes(&desk), 2);
}

#[test]
fn logout_is_obeyed_by_a_process_that_holds_unsaved_tokens() {
    let desk = Fixture::start("unsaved-logout");
    desk.age_login(HOUR + CLEAR);
    let obstacle = desk.home.join("tokens.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(ask(&desk).status, 200);
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(desk.cli(&["auth", "logout", "practice", "--keep-remote"]).code, 0);
    assert_login_needed(&ask(&desk));
}

#[test]
fn a_refresh_that_brings_the_same_refused_token_leads_to_a_suspect_login() {
    let desk = Fixture::start("same-token");
    let before = record(&desk);
    let body = json!({"access_token": before.access_token.expose(), "expires_in": HOUR}).to_string();
    desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 200, "body": body, "times": 9}));
    desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401, "times": 99}));
    for _ in 0..3 {
        assert_login_needed(&ask(&desk));
    }
    assert_eq!(record(&desk).state, State::Suspect);
    let asked = (desk.practice.requests(TOKEN).len(), desk.practice.requests(MODELS).len());
    assert_login_needed(&ask(&desk));
    assert_eq!((desk.practice.requests(TOKEN).len(), desk.practice.requests(MODELS).len()), asked);
}

#[test]
fn unsaved_tokens_are_not_written_over_newer_ones() {
    let desk = with("unsaved-older", json!({"rotate": false}));
    desk.age_login(HOUR + CLEAR);
    let obstacle = desk.home.join("tokens.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(ask(&desk).status, 200);
    fs::remove_dir(&obstacle).unwrap();
    let (_other, addr) = another_proxy(&desk);
    let bearer = format!("Bearer {}", desk.key);
    assert_eq!(Wire::call(addr, "GET", MODELS, &[("authorization", &bearer)], b"").status, 200);
    let later = |record: &mut Record| record.refreshed_at = record.refreshed_at.map(|at| at + CLEAR);
    assert!(desk.store().update(USER, "practice", &mut { later }).unwrap());
    let newer = record(&desk);
    assert_eq!(ask(&desk).status, 200);
    assert_eq!(record(&desk), newer);
}

#[test]
fn a_login_that_was_renewed_meanwhile_is_not_marked() {
    let desk = Fixture::start("renewed");
    desk.age_login(CLEAR);
    let refuse = || desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401, "times": 2}));
    for _ in 0..2 {
        refuse();
        assert_login_needed(&ask(&desk));
    }
    refuse();
    desk.practice.fail(TOKEN, &json!({"kind": "silence"}));
    desk.practice.set(&json!({"approve": true}));
    let (addr, bearer) = (desk.addr, format!("Bearer {}", desk.key));
    let third = thread::spawn(move || Wire::call(addr, "GET", MODELS, &[("authorization", &bearer)], b""));
    desk.practice.wait("held", 1);
    assert_eq!(desk.cli(&["auth", "login", "practice"]).code, 0);
    desk.practice.release();
    assert_login_needed(&third.join().unwrap());
    assert_eq!(record(&desk).state, State::Valid, "the third strike was the former login's");
    assert_eq!(ask(&desk).status, 200);
}
