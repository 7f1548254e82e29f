//! Small requests of each API, and how to read a refusal and the audit line of a reply.

use super::fixture::Fixture;
use super::process::{PATIENCE, Process};
use super::wire::{Reply, Wire, request};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The three APIs that stream.
pub const STREAMING: [&str; 3] = ["/v1/chat/completions", "/v1/responses", "/v1/messages"];
/// Every path that takes a body.
pub const POSTED: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/completions",
    "/v1/embeddings",
];
/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(10);

/// A harmless request that every API understands.
pub fn hello() -> Value {
    say("Hello.")
}

/// The same with another text of the user.
pub fn say(text: &str) -> Value {
    json!({"model": "practice-1", "max_tokens": 16, "input": text, "prompt": text,
        "messages": [{"role": "user", "content": text}]})
}

/// The same, streamed.
pub fn streamed() -> Value {
    let mut body = hello();
    body["stream"] = json!(true);
    body
}

/// The code of a refusal; fails the test unless the body has the shape of the API at `path` and speaks in our name.
pub fn code(path: &str, reply: &Reply) -> String {
    let body = reply.json();
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("InferShield"), "{body}");
    let code = if path.contains("/messages") {
        assert_eq!(body["type"], "error", "{body}");
        &body["error"]["type"]
    } else {
        assert!(body["error"]["type"].is_string() && body["error"]["param"].is_null(), "{body}");
        &body["error"]["code"]
    };
    code.as_str().unwrap_or_default().to_owned()
}

/// What a refusal that a person must repair has as its status: 451 where clients of that API do not retry it.
pub fn repair_status(path: &str) -> u16 {
    if path.contains("/messages") { 451 } else { 400 }
}

/// Returns when `done` says so; fails the test when it never does.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(TICK);
    }
}

impl Fixture {
    /// The headers of every client of ours.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// A connection on which a POST with the local key was sent.
    pub fn begin(&self, path: &str, body: &Value) -> Wire {
        let mut wire = self.connect();
        wire.send(&request("POST", path, &[("authorization", &self.bearer())], body.to_string().as_bytes()));
        wire
    }

    /// A POST with further headers.
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let bearer = self.bearer();
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        Wire::call(self.addr, "POST", path, &headers, body.to_string().as_bytes())
    }

    /// The audit line of a reply, as soon as it stands in the log.
    pub fn line_of(&self, reply: &Reply) -> Value {
        let id = reply.header("x-infershield-request-id").expect("every reply names its audit line").to_owned();
        let mut line = Value::Null;
        until(&format!("audit line {id}"), || {
            line = self.audit().into_iter().find(|line| line["request_id"] == id.as_str()).unwrap_or_default();
            !line.is_null()
        });
        line
    }

    /// How many requests for any model reached the provider.
    pub fn forwarded(&self) -> usize {
        let log = self.practice.log();
        let requests = log["requests"].as_array().unwrap();
        requests.iter().filter(|request| request["path"].as_str().unwrap().starts_with("/v1/")).count()
    }

    /// One more proxy of this home, in a process that a shell prepared before.
    pub fn serve_after(&self, shell: &[&str], preparation: &str) -> (Process, SocketAddr) {
        let script = format!("{preparation}; exec {} serve --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_infershield"));
        let mut command = self.run.program(shell[0].as_ref());
        command.args(&shell[1..]).args(["-c", &script]);
        command.env("INFERSHIELD_HOME", &self.home).env("INFERSHIELD_MASTER_KEY", &self.master);
        let serve = self.run.start(command);
        let addr = serve.line_after("infershield listening on http://").parse().unwrap();
        (serve, addr)
    }

    /// Fails the test unless the proxy still serves.
    pub fn assert_alive(&self) {
        let health = Wire::call(self.addr, "GET", "/health", &[], b"");
        assert_eq!(health.status, 200, "{}", health.text());
        let reply = self.post("/v1/chat/completions", &hello());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}
