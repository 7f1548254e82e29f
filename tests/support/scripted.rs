//! Replies from `fixtures/oauth/` for the real binary, by way of the practice provider's faults.

use super::fixture::{Fixture, Login};
use super::practice::Practice;
use serde_json::{Value, json};
use std::fs;

impl Practice {
    /// The next request for `path` is answered like this.
    pub fn answer(&self, path: &str, status: u16, body: &str) {
        self.fail(path, &json!({"kind": "status", "status": status, "body": body}));
    }

    /// The same with a recorded reply, `BASE` being this provider.
    pub fn recorded(&self, path: &str, provider: &str, name: &str) {
        let reply = &recorded(provider)[name];
        let body = reply["body"].to_string().replace("BASE", &self.origin);
        self.answer(path, reply["status"].as_u64().unwrap() as u16, &body);
    }

    /// The last request for a path.
    pub fn last(&self, path: &str) -> Value {
        self.requests(path).pop().unwrap_or_else(|| panic!("nobody asked for {path}"))
    }
}

impl Fixture {
    /// A provider and a home without a login, where `row` overrides or adds a provider; `BASE` is the practice provider.
    pub fn with_row(name: &'static str, row: &Value) -> Self {
        let mut plan = Self::plan(name);
        plan.login = Login::Skip;
        let mut desk = plan.start();
        let row: Value = serde_json::from_str(&row.to_string().replace("BASE", &desk.practice.origin)).unwrap();
        desk.configure(|config| {
            config["default_provider"] = row["id"].clone();
            config["providers"] = json!([row]);
        });
        desk.restart();
        desk
    }
}

/// All recorded replies of a provider.
pub fn recorded(provider: &str) -> Value {
    let path = format!("{}/fixtures/oauth/{provider}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The value of a recorded request's header.
pub fn header<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    let mut pairs = request["headers"].as_array().unwrap().iter();
    pairs.find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str())
}
