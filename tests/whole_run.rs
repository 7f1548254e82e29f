//! Invariant 1: no secret in anything that the binary wrote. Runs after all other tests and looks through the files that they left:
//! homes, audit logs and both outputs of every program, for every secret that was used, as it is and encoded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(missing_docs, unreachable_pub, reason = "the name of a test is its documentation")]

mod support;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use support::{ALL_RUNS, Fixture, Run, SECRETS, SHOWS_KEY, Wire};

/// What one scenario leaves at least; fewer means that nothing was looked at.
const LEAST_FILES: usize = 20;
/// Master key, API key, local key, device code, access and refresh tokens, prompt secrets.
const LEAST_SECRETS: usize = 8;

#[test]
fn no_secret_is_written_anywhere() {
    live_a_full_life();
    let files = files_below(Path::new(ALL_RUNS));
    let secrets = secrets_of(&files);
    assert!(secrets.len() >= LEAST_SECRETS, "only {} secrets", secrets.len());
    assert!(files.len() >= LEAST_FILES, "only {} files", files.len());

    let forms: Vec<(String, &String)> =
        secrets.iter().flat_map(|secret| disguises(secret).into_iter().map(move |form| (form, secret))).collect();
    let search = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(forms.iter().map(|(form, _)| form))
        .unwrap();
    let mut leaks = Vec::new();
    for file in &files {
        let bytes = fs::read(file).unwrap();
        for found in search.find_iter(&bytes) {
            let (form, secret) = &forms[found.pattern().as_usize()];
            if !on_purpose(file, secret) {
                leaks.push(format!("{} at byte {}: {form}", file.display(), found.start()));
            }
        }
    }
    assert!(leaks.is_empty(), "secrets were written:\n{}", leaks.join("\n"));
}

#[test]
fn the_search_finds_a_secret_in_every_disguise() {
    let secret = "sk-Practice/0123+4567=89";
    let hex: String = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
    let mut texts = vec![
        format!("at the end {secret}"),
        format!("hex {hex}"),
        format!("hex {}", hex.to_lowercase()),
        "https://host/?key=sk-Practice%2F0123%2B4567%3D89&x".to_owned(),
        "https://host/?key=sk-Practice%2f0123%2b4567%3d89&x".to_owned(),
    ];
    for before in ["", "a", "ab", "abc"] {
        for after in ["", "y", "yz"] {
            let text = format!("{before}{secret}{after}");
            texts.push(format!("\"{}\"", STANDARD_NO_PAD.encode(&text)));
            texts.push(format!("\"{}\"", URL_SAFE_NO_PAD.encode(&text)));
        }
    }
    let forms = disguises(secret);
    for text in texts {
        assert!(forms.iter().any(|form| text.contains(form)), "not found in {text}");
    }
}

/// Login, requests of every kind, refusals, faults, errors, a refresh, logout: whatever could tempt a program to write down a secret.
fn live_a_full_life() {
    let mut plan = Fixture::plan("full-life");
    // Less than the margin within which tokens are refreshed.
    plan.settings = json!({"token_seconds": 2});
    plan.serve = &["--verbose"];
    let mut life = plan.start();
    let leaked = life.run.secret(concat!("ghp", "_q7Rt2Yw9Kx4Lm8Np3Vb6Zc1Hd5Jf0GsAeUoT"));
    let chat = |text: &str| json!({"model": "practice-1", "messages": [{"role": "user", "content": text}]});
    let clean = chat("Say hello.");
    let path = "/v1/chat/completions";

    assert_eq!(life.post(path, &clean).status, 200);
    assert_eq!(life.post(path, &chat(&format!("my token is {leaked}"))).status, 200, "redacted");
    let half = format!("{{\"model\":\"{leaked}");
    assert_eq!(life.post_bytes("/v1/responses", half.as_bytes()).status, 400);
    life.post("/v1/messages", &json!({"model": leaked, "messages": leaked}));
    life.fetch(&format!("/v1/{leaked}?key={leaked}"));
    let unknown = life.run.secret("isk_NoSuchKeyWasEverMadeHere0123456789abcdefghij");
    let bearer = format!("Bearer {unknown}");
    let refused = Wire::call(life.addr, "POST", path, &[("authorization", &bearer)], b"{}");
    assert_eq!(refused.status, 400);
    // A 401 is tried again after a refresh, the others are passed on.
    for (status, times) in [(403, 1), (429, 1), (500, 1), (401, 2)] {
        let fault = json!({"kind": "status", "status": status, "times": times});
        life.practice.fail(path, &fault);
        life.post(path, &clean);
    }
    life.practice.fail("/oauth/token", &json!({"kind": "html"}));
    life.restart();
    life.post(path, &clean);

    for arguments in [
        &["auth", "status", "--json"][..],
        &["config", "show"],
        &["key", "list", "--json"],
        &["key", "print", "test"],
        &["key", "revoke", &life.key],
        &["env", "codex"],
        &["hosts"],
        &["doctor"],
        &["audit", "show", "--json"],
        &["audit", "verify"],
        &["audit", "export", "--format", "html"],
        &["auth", "login", "nobody"],
    ] {
        life.cli(arguments);
    }
    life.cli_typing(&["scan", "--json"], &leaked);
    let bad_key = life.run.secret("sk-practice two words 0123456789");
    life.cli_typing(&["auth", "login", "practice", "--with-key"], &bad_key);
    wrong_master_key(&life);
    life.practice.kill();
    life.post(path, &clean);
    life.cli(&["auth", "logout", "practice"]);
    home_with_its_own_master_key(&life.run);
}

/// Every error text about sealed things.
fn wrong_master_key(life: &Fixture) {
    let wrong = life.run.random_secret();
    for arguments in [&["auth", "status"][..], &["key", "list"], &["audit", "verify"]] {
        let mut command = life.run.infershield(&life.home, arguments);
        command.env("INFERSHIELD_MASTER_KEY", &wrong);
        let done = life.run.start(command).wait();
        assert_ne!(done.code, 0, "a wrong master key opens nothing: {done:?}");
    }
}

/// `master.key` is made at first use; it is read from there by [`secrets_of`].
fn home_with_its_own_master_key(run: &Run) {
    let home = run.home("own-master-key");
    let done = run.start(run.infershield(&home, &["key", "create", "--json"])).wait();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let key: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    run.secret(key["key"].as_str().unwrap());
    assert!(home.join("master.key").exists());
}

/// A local key may be seen where it was asked for, and the master key is what `master.key` holds.
fn on_purpose(file: &Path, secret: &str) -> bool {
    let name = file.file_name().unwrap().to_string_lossy();
    (secret.starts_with("isk_") && name.ends_with(SHOWS_KEY)) || name.starts_with("master.key")
}

/// All registered secrets, and all master keys that homes made for themselves.
fn secrets_of(files: &[PathBuf]) -> BTreeSet<String> {
    let mut lists: Vec<PathBuf> = files.iter().filter(|file| file.ends_with("master.key")).cloned().collect();
    let folders: BTreeSet<&Path> = files.iter().flat_map(|file| file.ancestors()).collect();
    lists.extend(folders.iter().map(|folder| folder.join(SECRETS)).filter(|list| list.is_file()));
    let text: String = lists.iter().map(|list| fs::read_to_string(list).unwrap() + "\n").collect();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Every file but the lists of secrets themselves and the audit log's reserve, which is empty space.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.is_file() && !path.ends_with(SECRETS) && !path.ends_with("audit/reserve") {
            files.push(path);
        }
    }
    files
}

/// A secret as it is, in hexadecimal, in URLs and in base64, wherever in the encoded text it may begin.
fn disguises(secret: &str) -> BTreeSet<String> {
    let hex = infershield::secret::hex(secret.as_bytes());
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let escaped: String = secret.bytes().map(escape).collect();
    let lower = secret.bytes().map(|byte| match escape(byte) {
        long if long.len() > 1 => long.to_lowercase(),
        same => same,
    });
    let mut forms = BTreeSet::from([secret.to_owned(), hex.to_uppercase(), hex, escaped, lower.collect()]);
    for offset in 0..3 {
        let shifted = [&vec![0; offset], secret.as_bytes()].concat();
        // Only characters whose six bits all come from the secret: the others depend on what stands around it.
        let whole = (offset * 8).div_ceil(6)..shifted.len() * 8 / 6;
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.insert(encoded[whole.clone()].to_owned());
        }
    }
    forms
}
