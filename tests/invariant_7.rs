//! Invariant 7: every limit is a named constant with its reason, or a setting; and every setting of a limit is in force.

use crate::support::{Fixture, Run, Wire, code, hello, request, until};
use regex::Regex;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const CHAT: &str = "/v1/chat/completions";

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// The lines before the unit tests, without comments and texts.
fn product_lines(text: &str) -> Vec<String> {
    let quoted = Regex::new(r#""(\\.|[^"\\])*""#).unwrap();
    let product = text.lines().take_while(|line| *line != "#[cfg(test)]");
    product.map(|line| quoted.replace_all(line, "\"\"").split("//").next().unwrap().to_owned()).collect()
}

/// Limits that stand in the middle of code: times, sizes, and numbers given to calls that bound something.
fn unnamed_limits(text: &str) -> Vec<String> {
    let limit = Regex::new(
        r"Duration::from_\w+\(\s*\d|\b\d+\s*<<\s*[1-9]\d\b|(sleep|timeout|take|with_capacity|sync_channel|chunks)\(\s*\d{3,}",
    )
    .unwrap();
    let named = Regex::new(r"^\s*(pub(\(\w+\))? )?const [A-Z_0-9]+:").unwrap();
    let mut in_defaults = false;
    let mut unnamed = Vec::new();
    for line in product_lines(text) {
        if line.contains("fn ") {
            in_defaults = line.contains("fn default() -> Self");
        }
        if limit.is_match(&line) && !named.is_match(&line) && !in_defaults {
            unnamed.push(line);
        }
    }
    unnamed
}

/// Constants that hold a number and have no word about it above them.
fn unexplained(text: &str) -> Vec<String> {
    let number = Regex::new(r"^\s*(pub(\(\w+\))? )?const [A-Z_0-9]+: (u8|u16|u32|u64|usize|Duration) = .*\d").unwrap();
    let lines: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
    let pairs = lines.windows(2).filter(|pair| number.is_match(pair[1]));
    pairs.filter(|pair| !pair[0].trim_start().starts_with("//")).map(|pair| pair[1].to_owned()).collect()
}

#[test]
fn invariant_7_every_limit_has_a_name_and_a_reason() {
    let (mut limits, mut wrong) = (0, Vec::new());
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        limits += text.matches("const ").count();
        for line in unnamed_limits(&text).into_iter().chain(unexplained(&text)) {
            wrong.push(format!("{}: {}", path.display(), line.trim()));
        }
    }
    assert!(limits > 50, "the sources were read: {limits}");
    assert!(wrong.is_empty(), "limits without a name or a reason:\n{}", wrong.join("\n"));
}

#[test]
fn invariant_7_the_search_finds_what_it_looks_for() {
    for line in [
        "thread::sleep(Duration::from_millis(50));",
        "let cap = 64 << 10;",
        "text.chars().take(120)",
        "sync_channel(100)",
    ] {
        assert_eq!(unnamed_limits(line).len(), 1, "{line}");
    }
    for line in
        ["const WAIT: Duration = Duration::from_secs(1);", "// at most 64 << 10", "bits << 8 | 1 << 3", "\"take(100)\""]
    {
        assert_eq!(unnamed_limits(line).len(), 0, "{line}");
    }
    assert_eq!(unexplained("\nconst CAP: usize = 5;").len(), 1);
    assert_eq!(unexplained("/// Why.\nconst CAP: usize = 5;").len(), 0);
}

fn with_limits(name: &'static str, limits: Value) -> Fixture {
    let mut plan = Fixture::plan(name);
    let mut all = json!({"pbkdf2_iterations": 100_000});
    for (key, value) in limits.as_object().unwrap() {
        all[key] = value.clone();
    }
    plan.config = json!({"limits": all});
    plan.start()
}

#[test]
fn invariant_7_settings_of_limits_are_shown_with_where_they_came_from() {
    let proxy = with_limits("limits-shown", json!({"max_body_bytes": 1000}));
    let shown: Value = serde_json::from_str(&proxy.cli(&["config", "show", "--json"]).stdout).unwrap();
    assert_eq!(shown["limits.max_body_bytes"], json!({"value": 1000, "origin": "config.json"}));
    assert_eq!(shown["limits.max_inflight_bytes"], json!({"value": 256 << 20, "origin": "built in"}));
    for name in ["max_connections", "head_timeout_ms", "pbkdf2_iterations"] {
        assert!(shown[format!("limits.{name}")]["value"].is_u64(), "{name}: {shown}");
    }
}

#[test]
fn invariant_7_a_limit_that_is_none_is_refused() {
    let run = Run::new("limits-wrong");
    let home = run.home("home");
    for (limits, told) in [
        (json!({"max_body_byte": 5}), "max_body_bytes"),
        (json!({"max_body_bytes": -1}), "u64"),
        (json!({"max_body_bytes": "32M"}), "string"),
        (json!({"head_timeout_ms": 1.5}), "floating"),
    ] {
        fs::write(home.join("config.json"), json!({"limits": limits}).to_string()).unwrap();
        let done = run.start(run.infershield(&home, &["config", "check"])).wait();
        assert_eq!(done.code, 2, "{limits}");
        assert!(done.stderr.contains(told), "{limits}: {}", done.stderr);
    }
    for rounds in [1_000, 99_999, 10_000_001] {
        fs::write(home.join("config.json"), json!({"limits": {"pbkdf2_iterations": rounds}}).to_string()).unwrap();
        assert_ne!(run.start(run.infershield(&home, &["key", "list"])).wait().code, 0, "{rounds} rounds");
    }
}

#[test]
fn invariant_7_the_limit_of_one_body_is_in_force_to_the_byte() {
    let body = hello().to_string();
    let proxy = with_limits("limit-body", json!({"max_body_bytes": body.len()}));
    assert_eq!(proxy.post_bytes(CHAT, body.as_bytes()).status, 200);
    let reply = proxy.post_bytes(CHAT, format!("{body} ").as_bytes());
    assert_eq!((reply.status, code(CHAT, &reply).as_str()), (413, "infershield_too_large"));
}

#[test]
fn invariant_7_the_limit_of_all_bodies_is_in_force() {
    let body = hello().to_string();
    let proxy = with_limits("limit-bodies", json!({"max_inflight_bytes": body.len() + 10}));
    // One request announces its body and waits to be asked for it: when it is asked, the room is taken.
    let mut slow = proxy.connect();
    let headers = [("x-api-key", proxy.key.as_str()), ("expect", "100-continue")];
    let whole = request("POST", CHAT, &headers, body.as_bytes());
    slow.send(&whole[..whole.len() - body.len()]);
    assert_eq!(slow.head().status, 100);
    for _ in 0..3 {
        let reply = proxy.post(CHAT, &hello());
        assert_eq!((reply.status, code(CHAT, &reply).as_str()), (503, "infershield_unavailable"));
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(proxy.post(CHAT, &json!([])).status, 400, "what was refused took no room: a smaller one fits");
    slow.send(body.as_bytes());
    assert_eq!(slow.reply().status, 200);
    assert_eq!(proxy.post(CHAT, &hello()).status, 200, "and it was given back");
}

#[test]
fn invariant_7_a_body_in_chunks_takes_no_more_room_than_it_needs_once_it_is_there() {
    let body = hello().to_string();
    let proxy = with_limits("limit-chunks", json!({"max_body_bytes": 1 << 20, "max_inflight_bytes": 3 << 19}));
    let headers = [("x-api-key", proxy.key.as_str()), ("transfer-encoding", "chunked")];
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let mut held = Vec::new();
    for count in 1..=4 {
        proxy.practice.fail(CHAT, &json!({"kind": "silence"}));
        let mut wire = proxy.connect();
        wire.send(&request("POST", CHAT, &headers, chunked.as_bytes()));
        proxy.practice.wait("held", count);
        held.push(wire);
    }
    proxy.practice.release();
}

#[test]
fn invariant_7_the_limit_of_connections_is_in_force() {
    let proxy = with_limits("limit-connections", json!({"max_connections": 2}));
    let health = |wire: &mut Wire| {
        wire.send(&request("GET", "/health", &[], b""));
        wire.reply()
    };
    let mut served = [proxy.connect(), proxy.connect()];
    assert!(served.iter_mut().all(|wire| health(wire).status == 200));
    let mut third = proxy.connect();
    let reply = third.reply();
    assert_eq!((reply.status, code("", &reply).as_str()), (503, "infershield_unavailable"));
    assert!(reply.header("retry-after").is_some());
    drop(served);
    until("a place is free again", || {
        let mut wire = proxy.connect();
        wire.try_send(&request("GET", "/health", &[], b""));
        wire.try_head().is_ok_and(|head| head.status == 200)
    });
}

#[test]
fn invariant_7_the_limit_of_a_heads_time_is_in_force() {
    let proxy = with_limits("limit-head", json!({"head_timeout_ms": 50}));
    let mut wire = proxy.connect();
    wire.send(b"GET /health HT");
    assert_eq!(wire.reply().status, 408);
    assert!(wire.rest().is_empty(), "and the connection ends");
}
