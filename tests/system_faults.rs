//! When the system fails under it: a disk that does not keep what was written, a thread that cannot be had.

use crate::support::{Fixture, Wire, code, faults, hello, request, until};
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

const CHAT: &str = "/v1/chat/completions";

/// A proxy whose calls of the C library fail on order.
struct Faulty {
    proxy: Fixture,
    addr: SocketAddr,
    faults: PathBuf,
    _serve: crate::support::Process,
}

impl Faulty {
    fn start(name: &'static str) -> Self {
        let mut plan = Fixture::plan(name);
        plan.config = json!({"limits": {"max_connections": 8, "pbkdf2_iterations": 100_000}});
        let proxy = plan.start();
        let folder = proxy.run.home("faults");
        let preparation = format!("export FAULTS={} LD_PRELOAD={}", folder.display(), faults().display());
        let (serve, addr) = proxy.serve_after(&["sh"], &preparation);
        Self { proxy, addr, faults: folder, _serve: serve }
    }

    fn order(&self, call: &str) {
        fs::write(self.faults.join(call), "").unwrap();
    }

    fn mend(&self, call: &str) {
        fs::remove_file(self.faults.join(call)).unwrap();
    }

    /// The status of a whole reply; 0 when it was cut.
    fn post(&self) -> u16 {
        let mut wire = Wire::connect(self.addr);
        wire.send(&request("POST", CHAT, &[("authorization", &self.proxy.bearer())], hello().to_string().as_bytes()));
        let head = wire.try_head();
        let body = wire.body();
        head.ok().filter(|_| body.is_ok()).map_or(0, |head| head.status)
    }
}

#[test]
fn a_disk_that_fails_a_sync_stops_all_forwarding_until_a_restart() {
    let faulty = Faulty::start("failed-sync");
    assert_eq!(faulty.post(), 200);
    faulty.order("fdatasync");
    until("a refusal", || faulty.post() == 503);
    let forwarded = faulty.proxy.forwarded();
    // A disk that works again proves nothing about what it lost.
    faulty.mend("fdatasync");
    for _ in 0..3 {
        assert_eq!(faulty.post(), 503);
    }
    assert_eq!(faulty.proxy.forwarded(), forwarded);
    assert_eq!(Wire::call(faulty.addr, "GET", "/health", &[], b"").status, 503);
    assert_eq!(faulty.proxy.cli(&["audit", "verify"]).code, 0);
    assert_eq!(faulty.proxy.post(CHAT, &hello()).status, 200, "another process goes on");
}

#[test]
fn the_first_request_after_a_failed_sync_is_refused_and_told_what_to_type() {
    let mut faulty = Faulty::start("sync-first");
    // The other process of this home would bring the lines to the disk.
    faulty.proxy.serve.kill();
    assert_eq!(faulty.post(), 200);
    faulty.order("fdatasync");
    assert_eq!(Wire::call(faulty.addr, "GET", "/v1/models", &[], b"").status, 400, "its line is there to be synced");
    let health = || Wire::call(faulty.addr, "GET", "/health", &[], b"").status;
    until("the failure shows before any request meets it", || health() == 503);
    let forwarded = faulty.proxy.forwarded();
    let bearer = faulty.proxy.bearer();
    let reply = Wire::call(faulty.addr, "POST", CHAT, &[("authorization", &bearer)], hello().to_string().as_bytes());
    assert_eq!((reply.status, code(CHAT, &reply).as_str()), (503, "infershield_unavailable"));
    assert!(reply.text().contains("dmesg") && reply.text().contains("start infershield again"), "{}", reply.text());
    assert_eq!(faulty.proxy.forwarded(), forwarded);
}

#[test]
fn connections_that_get_no_thread_are_closed_and_take_no_place() {
    let faulty = Faulty::start("no-thread");
    assert_eq!(faulty.post(), 200);
    faulty.order("pthread_create");
    for _ in 0..20 {
        let mut wire = Wire::connect(faulty.addr);
        wire.try_send(&request("GET", "/health", &[], b""));
        assert!(wire.try_head().is_err(), "closed without a reply");
    }
    faulty.mend("pthread_create");
    assert_eq!(faulty.post(), 200);
}

#[test]
fn the_log_says_how_many_lines_it_could_not_take() {
    let proxy = Fixture::start("lost-lines");
    let head = proxy.home.join("audit/head.json");
    let away = proxy.home.join("head.json");
    proxy.practice.fail(CHAT, &json!({"kind": "silence", "times": 3}));
    let (addr, bearer, body) = (proxy.addr, proxy.bearer(), hello().to_string());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut wire = Wire::connect(addr);
                wire.send(&request("POST", CHAT, &[("authorization", &bearer)], body.as_bytes()));
                let _ = wire.try_head();
                assert!(wire.body().is_err(), "without its line no reply is whole");
            });
        }
        proxy.practice.wait("held", 3);
        fs::rename(&head, &away).unwrap();
        proxy.practice.release();
    });
    fs::rename(&away, &head).unwrap();
    until("requests are answered again", || proxy.post(CHAT, &hello()).status == 200);
    let resumed: Vec<_> = proxy.audit_of("audit.resumed").iter().map(|line| line["count"].clone()).collect();
    assert_eq!(resumed, [3]);
    assert_eq!(proxy.cli(&["audit", "verify"]).code, 0);
}
