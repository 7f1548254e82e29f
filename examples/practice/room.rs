//! Everything that changes in the practice provider, the bell that tells of it, and the calls that steer it.
//! Must never be locked while something waits for a socket.

use crate::delivery::Answer;
use crate::faults::{self, Fault, Kind};
use crate::oauth::{Ledger, Settings};
use crate::text;
use http::header::{HeaderName, HeaderValue};
use infershield::server::Head;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a held stream looks whether its client has left.
const TICK: Duration = Duration::from_millis(20);
/// How long `/_practice/wait` waits: far longer than any step of a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that changes.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    faults: Vec<Fault>,
    pub(crate) requests: Vec<Value>,
    counts: BTreeMap<String, u64>,
    /// Calls of `next` that no stream has used yet.
    steps: u64,
    /// How often `release` was called.
    releases: u64,
}

/// The state behind its lock.
pub(crate) struct Room {
    state: Mutex<State>,
    /// Rings whenever anything changes.
    bell: Condvar,
}

impl Room {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), bell: Condvar::new() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.bell.notify_all();
        result
    }

    pub(crate) fn count(&self, name: &str) {
        self.change(|state| *state.counts.entry(name.to_owned()).or_default() += 1);
    }

    /// Waits until `done` says so or `left` does; false when left.
    fn wait(&self, left: impl Fn() -> bool, done: impl Fn(&mut State) -> bool) -> bool {
        let mut state = self.state();
        while !done(&mut state) {
            if left() {
                return false;
            }
            state = match self.bell.wait_timeout(state, TICK) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// Writes a request down; its number and the fault that was ordered for it.
    pub(crate) fn record(&self, head: &Head, body: &[u8]) -> (usize, Option<Kind>) {
        let pair = |(name, value): (&HeaderName, &HeaderValue)| {
            json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
        };
        let headers: Vec<Value> = head.headers.iter().map(pair).collect();
        let request = json!({
            "method": head.method.as_str(),
            "path": head.path,
            "query": head.query,
            "headers": headers,
            "body": String::from_utf8_lossy(body),
            "outcome": null,
        });
        let recorded = self.change(|state| {
            state.requests.push(request);
            let fault = faults::take(&mut state.faults, &head.path);
            (state.requests.len() - 1, fault)
        });
        self.count(&format!("{} {}", head.method, head.path));
        recorded
    }

    /// Nothing until `release`; an error when the client leaves first.
    pub(crate) fn hold(&self, left: impl Fn() -> bool) -> io::Result<()> {
        let before = self.state().releases;
        self.count("held");
        if self.wait(left, |state| state.releases > before) { Ok(()) } else { Err(io::Error::other("left")) }
    }

    /// Nothing until an unused `next`; an error when the client leaves first.
    pub(crate) fn step(&self, left: impl Fn() -> bool) -> io::Result<()> {
        let take = |state: &mut State| match state.steps.checked_sub(1) {
            Some(left) => {
                state.steps = left;
                true
            }
            None => false,
        };
        if self.wait(left, take) { Ok(()) } else { Err(io::Error::other("left")) }
    }

    /// A call below `/_practice/`.
    pub(crate) fn steer(&self, order: &str, head: &Head, body: &[u8]) -> Answer {
        let query = text::form(head.query.as_deref().unwrap_or_default());
        let done = |done: bool| Answer::json((if done { 200 } else { 404 }, json!({"done": done})));
        match order {
            "approve" | "deny" => {
                let code = query.get("user_code").map(String::as_str);
                done(self.change(|state| state.ledger.decide(code, order == "approve")))
            }
            "settings" => self.settings(body),
            "fault" => match serde_json::from_slice(body) {
                Ok(fault) => {
                    self.change(|state| state.faults.push(fault));
                    done(true)
                }
                Err(error) => Answer::json((400, json!({"error": error.to_string()}))),
            },
            "next" => {
                self.change(|state| state.steps += 1);
                done(true)
            }
            "release" => {
                self.change(|state| state.releases += 1);
                done(true)
            }
            "log" => {
                let state = self.state();
                Answer::json((200, json!({"requests": state.requests, "counts": state.counts})))
            }
            "wait" => {
                let name = query.get("for").cloned().unwrap_or_default();
                let wanted = query.get("count").and_then(|count| count.parse().ok()).unwrap_or(1);
                let begun = Instant::now();
                let reached = |state: &mut State| state.counts.get(&name) >= Some(&wanted);
                if self.wait(|| begun.elapsed() > PATIENCE, reached) {
                    done(true)
                } else {
                    Answer::json((408, json!({"counts": self.state().counts})))
                }
            }
            _ => done(false),
        }
    }

    fn settings(&self, body: &[u8]) -> Answer {
        let mut state = self.state();
        let changed = (|| {
            let mut settings = serde_json::to_value(&state.settings)?;
            let changes: BTreeMap<String, Value> = serde_json::from_slice(body)?;
            for (name, value) in changes {
                settings[name] = value;
            }
            serde_json::from_value::<Settings>(settings)
        })();
        match changed {
            Ok(settings) => {
                state.settings = settings;
                Answer::json((200, json!(state.settings)))
            }
            Err(error) => Answer::json((400, json!({"error": error.to_string()}))),
        }
    }
}
