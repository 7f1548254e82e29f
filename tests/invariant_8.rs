//! Invariant 8: no `unsafe`, and nothing that comes from the network, a file or a command line makes the program panic.

use crate::support::{Dice, Done, Fixture, hello, request};
use serde_json::json;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The exit codes that mean that a command understood what was wrong: answer no, input, network, credential, storage.
const UNDERSTOOD: [i32; 5] = [1, 2, 3, 4, 5];
/// Random inputs of each kind.
const ROUNDS: u64 = 200;

fn assert_understood(done: &Done, what: &str) {
    assert!(UNDERSTOOD.contains(&done.code), "{what}: {done:?}");
    assert!(!done.stderr.contains("panicked"), "{what}: {done:?}");
    assert!(!done.stderr.trim().is_empty(), "{what}: an error says what is wrong");
}

#[test]
fn invariant_8_the_lints_that_forbid_it_are_in_force() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for lint in ["unwrap_used", "expect_used", "panic", "todo", "unimplemented", "unreachable", "indexing_slicing"] {
        assert!(manifest.contains(&format!("{lint} = \"deny\"")), "{lint}");
    }
    assert!(manifest.contains("overflow-checks = true"));
    let mut looked_at = 0;
    for file in rust_files(&root.join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        looked_at += 1;
        for lint in
            ["unsafe_code", "clippy::unwrap_used", "clippy::expect_used", "clippy::panic", "clippy::indexing_slicing"]
        {
            assert!(!product.contains(lint), "{} allows {lint}", file.display());
        }
    }
    assert!(looked_at > 20, "the sources were read: {looked_at}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    rust.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}

#[test]
fn invariant_8_random_bytes_at_the_port_hurt_nobody() {
    let mut plan = Fixture::plan("random-port");
    plan.config = json!({"limits": {"pbkdf2_iterations": 100_000, "head_timeout_ms": 50}});
    let proxy = plan.start();
    let mut dice = Dice::new(8);
    let good = request("POST", "/v1/messages", &[("x-api-key", &proxy.key)], hello().to_string().as_bytes());
    for round in 0..ROUNDS {
        let bytes = match round % 4 {
            0 => (0..dice.below(2_000)).map(|_| dice.roll() as u8).collect(),
            1 => [b"GET /".as_slice(), &dice.spoil(&good)].concat(),
            _ => dice.spoil(&good),
        };
        let mut wire = proxy.connect();
        wire.try_send(&bytes);
        wire.half_close();
        wire.rest();
    }
    proxy.assert_alive();
    assert_no_panic(proxy);
}

#[test]
fn invariant_8_random_bodies_hurt_nobody() {
    let proxy = Fixture::start("random-bodies");
    let mut dice = Dice::new(9);
    let body = json!({"model": "m", "max_tokens": 3, "stream": false, "system": [{"type": "text", "text": "\u{1F600}"}], "tools": [{"name": "f"}],
        "messages": [{"role": "user", "content": [{"type": "tool_result", "content": "{\"a\":\"b\\n\"}"}, {"type": "image"}]}]})
    .to_string();
    for round in 0..ROUNDS {
        let path = crate::support::POSTED[round as usize % crate::support::POSTED.len()];
        let reply = proxy.post_bytes(path, &dice.spoil(body.as_bytes()));
        assert!([200, 400, 451].contains(&reply.status), "{path}: {}", reply.text());
    }
    assert_no_panic(proxy);
}

#[test]
fn invariant_8_a_provider_that_sends_random_bytes_hurts_nobody() {
    let proxy = Fixture::start("random-replies");
    let mut dice = Dice::new(10);
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\ndata: [DONE]\n\n";
    for round in 0..ROUNDS / 2 {
        let kind = if round % 2 == 0 { "text/event-stream" } else { "application/json" };
        let body = String::from_utf8_lossy(&dice.spoil(events.as_bytes())).into_owned();
        let fault = json!({"kind": "status", "status": 200, "headers": {"content-type": kind}, "body": body});
        let path = crate::support::STREAMING[dice.below(3)];
        proxy.practice.fail(path, &fault);
        assert_eq!(proxy.post(path, &hello()).text(), body, "whatever it is, it passes");
    }
    assert_no_panic(proxy);
}

/// Ends the proxy and reads all that it complained about.
fn assert_no_panic(mut proxy: Fixture) {
    proxy.assert_alive();
    proxy.serve.kill();
    let outputs = fs::read_dir(&proxy.run.dir).unwrap().map(|entry| entry.unwrap().path());
    let errors: Vec<PathBuf> =
        outputs.filter(|path| path.extension().is_some_and(|ending| ending == "stderr")).collect();
    assert!(errors.len() > 2, "the outputs were read");
    for path in errors {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn invariant_8_random_state_files_give_clear_errors_and_stay_as_they_are() {
    let mut proxy = Fixture::start("random-files");
    proxy.serve.kill();
    let cases: [(&str, &[&str]); 5] = [
        ("config.json", &["config", "check"]),
        ("keys.json", &["key", "list"]),
        ("tokens.json", &["auth", "status"]),
        ("local-keys.json", &["key", "list"]),
        ("audit/head.json", &["audit", "head"]),
    ];
    let mut dice = Dice::new(11);
    for (name, command) in cases {
        let path = proxy.home.join(name);
        let good = fs::read(&path).unwrap();
        for round in 0..8 {
            let bad = match round {
                0 => Vec::new(),
                1 => b"\0\xff\xfe".to_vec(),
                2 => "[".repeat(100_000).into_bytes(),
                3 => good[..good.len() / 2].to_vec(),
                _ => dice.spoil(&good[..good.len() - 1]),
            };
            fs::write(&path, &bad).unwrap();
            let done = proxy.cli(command);
            // Settings are written by people: a changed letter in a text may still be a good one.
            if done.code != 0 || name != "config.json" {
                assert_understood(&done, name);
            }
            assert_eq!(fs::read(&path).unwrap(), bad, "{name}: what cannot be read is not overwritten");
        }
        fs::write(&path, &good).unwrap();
        assert!(proxy.cli(command).code <= 1, "{name}: and with the good file all is well");
    }
}

#[test]
fn invariant_8_random_words_and_lines_are_usage_errors() {
    let proxy = Fixture::start("random-words");
    let mut dice = Dice::new(12);
    let mut command = proxy.run.infershield(&proxy.home, &["key", "print"]);
    command.arg(std::ffi::OsString::from_vec(vec![0xff, 0xfe]));
    command.env("INFERSHIELD_MASTER_KEY", &proxy.master);
    assert_understood(&proxy.run.start(command).wait(), "a word that is not UTF-8");
    for words in [
        &["--"][..],
        &["-"],
        &["auth", "--user"],
        &["key", "create", "--expires", "99999999999999999999"],
        &["audit", "show", "--since", "-1y"],
    ] {
        let done = proxy.cli(words);
        assert!(done.code == 0 || UNDERSTOOD.contains(&done.code), "{words:?}: {done:?}");
        assert!(!done.stderr.contains("panicked"), "{words:?}: {done:?}");
    }
    let line = "{\"id\":\"1\",\"text\":\"hello\",\"source\":\"tool\"}";
    let lines: Vec<String> =
        (0..ROUNDS).map(|_| String::from_utf8_lossy(&dice.spoil(line.as_bytes())).replace('\n', " ")).collect();
    let done = proxy.cli_typing(&["scan", "--jsonl"], &format!("{}\n", lines.join("\n")));
    let texts = lines.iter().filter(|line| !line.trim().is_empty()).count();
    assert_eq!((done.code, done.stdout.lines().count()), (2, texts), "an answer for each: {}", done.stderr);
}
