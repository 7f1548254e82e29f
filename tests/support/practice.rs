//! The practice provider (`examples/practice`) as a test sees it.

use super::process::Process;
use super::run::{Run, SECRETS};
use super::wire::{Reply, Wire};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// A running practice provider.
pub struct Practice {
    /// `http://HOST:PORT`
    pub origin: String,
    pub addr: SocketAddr,
    process: Process,
}

impl Practice {
    /// Starts one; `settings` as `POST /_practice/settings` takes them, `keys` are the API keys that it accepts.
    pub fn start(run: &Run, settings: &Value, keys: &[&str]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_infershield"));
        let mut command = run.program(&binary.with_file_name("examples").join("practice"));
        command.arg("--secrets").arg(run.dir.join(SECRETS));
        command.arg("--settings").arg(settings.to_string());
        for key in keys {
            command.args(["--key", key]);
        }
        let process = run.start(command);
        let origin = process.line_after("practice listening on ");
        let addr = origin.trim_start_matches("http://").parse().unwrap();
        Self { origin, addr, process }
    }

    /// `POST /_practice/…`; fails the test unless it is done.
    pub fn steer(&self, order: &str, body: &Value) -> Reply {
        let target = format!("/_practice/{order}");
        let reply = Wire::call(self.addr, "POST", &target, &[], body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply
    }

    /// A person's yes.
    pub fn approve(&self, user_code: &str) {
        self.steer(&format!("approve?user_code={user_code}"), &Value::Null);
    }

    /// A person's no.
    pub fn deny(&self, user_code: &str) {
        self.steer(&format!("deny?user_code={user_code}"), &Value::Null);
    }

    /// Changes settings of the running provider.
    pub fn set(&self, settings: &Value) {
        self.steer("settings", settings);
    }

    /// The next request for `path` fails; `fault` as `{"kind":"status","status":500}`, with `times` for more than one.
    pub fn fail(&self, path: &str, fault: &Value) {
        let mut fault = fault.clone();
        fault["path"] = json!(path);
        self.steer("fault", &fault);
    }

    /// Lets a stream in lock step produce one more event.
    pub fn next(&self) {
        self.steer("next", &Value::Null);
    }

    /// Ends every silence.
    pub fn release(&self) {
        self.steer("release", &Value::Null);
    }

    /// Returns when a count has been reached; fails the test when it never is.
    pub fn wait(&self, name: &str, count: u64) {
        let name = name.replace(' ', "+");
        self.steer(&format!("wait?for={name}&count={count}"), &Value::Null);
    }

    /// A count of the log: `events`, `left`, `held`, `token refresh_token ok`, `POST /v1/messages`, `left /v1/messages`.
    pub fn count(&self, name: &str) -> u64 {
        self.log()["counts"][name].as_u64().unwrap_or(0)
    }

    /// Every request that reached this path.
    pub fn requests(&self, path: &str) -> Vec<Value> {
        let log = self.log();
        let requests = log["requests"].as_array().unwrap();
        requests.iter().filter(|request| request["path"] == path).cloned().collect()
    }

    /// `{"requests":[…],"counts":{…}}`
    pub fn log(&self) -> Value {
        self.steer("log", &Value::Null).json()
    }

    /// Ends it, as a provider that is down.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
