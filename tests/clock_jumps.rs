//! A login outlives what happens to machines and networks: sleep, outages, replies that are lost on the way.

use crate::support::{Fixture, Process, Reply, USER, Wire, faults};
use infershield::store::{Record, State};
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

const TOKEN: &str = "/oauth/token";
const MODELS: &str = "/v1/models";
const REFRESHED: &str = "token refresh_token ok";
/// Life of the practice provider's tokens, in seconds.
const HOUR: u64 = 3600;

/// A proxy whose time of day can be moved.
struct Laptop {
    desk: Fixture,
    clock: PathBuf,
    addr: SocketAddr,
    _serve: Process,
}

impl Laptop {
    fn start(name: &'static str) -> Self {
        let desk = Fixture::start(name);
        let clock = desk.run.dir.join("clock");
        fs::write(&clock, "0").unwrap();
        let mut command = desk.run.infershield(&desk.home, &["serve", "--listen", "127.0.0.1:0"]);
        command.env("INFERSHIELD_MASTER_KEY", &desk.master).env("LD_PRELOAD", faults()).env("CLOCK", &clock);
        let serve = desk.run.start(command);
        let addr = serve.line_after("infershield listening on http://").parse().unwrap();
        Self { desk, clock, addr, _serve: serve }
    }

    /// So many seconds after the start, whatever time has passed.
    fn wake_at(&self, seconds: u64) {
        fs::write(&self.clock, seconds.to_string()).unwrap();
    }

    fn ask(&self) -> Reply {
        let bearer = format!("Bearer {}", self.desk.key);
        Wire::call(self.addr, "GET", MODELS, &[("authorization", &bearer)], b"")
    }
}

fn record(desk: &Fixture) -> Record {
    desk.store().record(USER, "practice").unwrap().unwrap()
}

#[test]
fn a_machine_that_slept_for_hours_refreshes_before_its_next_request() {
    let laptop = Laptop::start("slept");
    assert_eq!(laptop.ask().status, 200);
    assert_eq!(laptop.desk.practice.count(REFRESHED), 0);
    laptop.wake_at(8 * HOUR);
    assert_eq!(laptop.ask().status, 200);
    assert_eq!(laptop.desk.practice.count(REFRESHED), 1);
    let expires_at = record(&laptop.desk).expires_at.unwrap();
    // Somebody sets the clock right again: the token seems to live for hours, and the provider's 401 tells.
    laptop.wake_at(0);
    assert_eq!(laptop.ask().status, 200);
    laptop.desk.practice.fail(MODELS, &json!({"kind": "status", "status": 401}));
    assert_eq!(laptop.ask().status, 200);
    assert_eq!(laptop.desk.practice.count(REFRESHED), 2);
    let kept = record(&laptop.desk);
    assert!(kept.state == State::Valid && kept.expires_at.unwrap() < expires_at);
    assert_eq!(laptop.desk.cli(&["audit", "verify"]).code, 0);
}

#[test]
fn a_provider_that_is_down_for_an_hour_costs_no_login() {
    let laptop = Laptop::start("outage");
    let before = record(&laptop.desk);
    for minutes in (0..=60).step_by(10) {
        laptop.wake_at(HOUR + minutes * 60 + 60);
        laptop.desk.practice.fail(TOKEN, &json!({"kind": "status", "status": 503, "body": "<html>down</html>"}));
        let reply = laptop.ask();
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(record(&laptop.desk), before);
    assert_eq!(laptop.ask().status, 200, "as soon as it is back");
    assert_eq!(laptop.desk.practice.count(REFRESHED), 1);
}

#[test]
fn a_refresh_reply_that_was_lost_is_asked_for_again_within_the_providers_grace() {
    let desk = Fixture::start("lost-grace");
    desk.practice.set(&json!({"grace": true}));
    desk.age_login(2 * HOUR);
    let before = record(&desk);
    desk.practice.fail(TOKEN, &json!({"kind": "cut"}));
    assert_eq!(desk.fetch(MODELS).status, 503);
    assert_eq!(record(&desk), before);
    assert_eq!(desk.fetch(MODELS).status, 200);
    assert_eq!(desk.practice.requests(TOKEN).len(), 3, "the login, the lost one, the next one");
}

#[test]
fn a_lost_refresh_reply_without_grace_ends_in_a_clear_dead_state_and_no_loop() {
    let desk = Fixture::start("lost-dead");
    desk.age_login(2 * HOUR);
    let before = record(&desk);
    desk.practice.fail(TOKEN, &json!({"kind": "cut"}));
    assert_eq!(desk.fetch(MODELS).status, 503);
    for _ in 0..3 {
        let reply = desk.fetch(MODELS);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains("infershield auth login practice"), "{}", reply.text());
    }
    assert_eq!(desk.practice.requests(TOKEN).len(), 3, "whoever comes later asks nobody");
    assert!(desk.practice.requests(MODELS).is_empty());
    assert_eq!(record(&desk), Record { state: State::Dead, ..before }, "nothing is deleted");
    assert_eq!(desk.status()[0]["repair"], "infershield auth login practice");
}

#[test]
fn a_refresh_that_can_never_work_is_no_valid_login_in_the_status() {
    let desk = Fixture::start("never");
    desk.age_login(2 * HOUR);
    let before = record(&desk);
    desk.practice.fail(TOKEN, &json!({"kind": "oauth_error", "error": "invalid_client"}));
    let reply = desk.fetch(MODELS);
    assert!(reply.status >= 400, "{}", reply.text());
    assert_eq!(record(&desk), Record { state: State::Suspect, ..before }, "nothing is deleted");
    assert_eq!((&desk.status()[0]["state"], desk.cli(&["auth", "status"]).code), (&json!("suspect"), 1));
    // Whoever mends the client id needs no new login.
    assert_eq!(desk.fetch(MODELS).status, 200);
    assert_eq!(desk.status()[0]["state"], "valid");
}
