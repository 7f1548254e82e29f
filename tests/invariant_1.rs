//! Invariant 1: no credential reaches a log, an error text, a `Debug` print, a panic, the audit log, a URL or a command line.
//! `tests/whole_run.rs` looks through all that all tests wrote, in every encoding; here is what lies outside of files.

use crate::support::{Fixture, Login, SECRETS, SHOWS_KEY, hello, request, until};
use infershield::secret::Secret;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// All that this test must not find anywhere: what it used and what the provider gave out.
fn secrets(proxy: &Fixture) -> Vec<String> {
    let list = fs::read_to_string(proxy.run.dir.join(SECRETS)).unwrap();
    let secrets: Vec<String> = list.lines().map(str::to_owned).collect();
    assert!(secrets.len() >= 3, "master key, provider key, local key at least: {}", secrets.len());
    secrets
}

/// The command lines of a process and of all its descendants, as `ps` shows them to everybody.
fn command_lines(id: u32) -> String {
    let read = |name: &str| fs::read(format!("/proc/{id}/{name}")).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let children = read(&format!("task/{id}/children"));
    for child in String::from_utf8_lossy(&children).split_whitespace() {
        text = text + "\n" + &command_lines(child.parse().unwrap());
    }
    text
}

fn assert_none(secrets: &[String], text: &str, place: &str) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{place} holds a secret: {text}");
    }
}

#[test]
fn invariant_1_secrets_reach_no_command_line() {
    let proxy = Fixture::start("no-argv");
    proxy.practice.set(&json!({"code_seconds": 600}));
    let login = proxy.cli_start(&["auth", "login", "practice", "--no-browser", "--json"]);
    let event: Value = serde_json::from_str(&login.line()).unwrap();
    // The login waits with its device code in memory, the proxy holds a token, and both have a master key.
    let lines = command_lines(login.id()) + &command_lines(proxy.serve.id());
    assert!(lines.contains("auth login") && lines.contains("serve"), "{lines}");
    assert_none(&secrets(&proxy), &lines, "a command line");
    proxy.practice.approve(event["user_code"].as_str().unwrap());
    assert_eq!(login.wait().code, 0);
}

#[test]
fn invariant_1_a_hidden_prompt_gives_the_key_to_no_command_line() {
    let proxy = Fixture::start("no-argv-prompt");
    let typed = proxy.run.random_secret();
    let script = format!("{} auth login practice --with-key", env!("CARGO_BIN_EXE_infershield"));
    // The program of util-linux that gives a command a terminal of its own.
    let mut command = proxy.run.program("script".as_ref());
    command.args(["--quiet", "--flush", "--return", "--command", &script, "screen"]);
    command.env("INFERSHIELD_HOME", &proxy.home).env("INFERSHIELD_MASTER_KEY", &proxy.master);
    let mut terminal = proxy.run.start(command);
    let screen = || fs::read_to_string(proxy.run.dir.join("screen")).unwrap_or_default();
    until("the prompt is shown, and echo is off by then", || screen().contains("API key for practice:"));
    let before = command_lines(terminal.id());
    terminal.type_in(&typed[..32]);
    assert_eq!(command_lines(terminal.id()), before, "typing changes no command line");
    terminal.type_in(&format!("{}\n", &typed[32..]));
    let done = terminal.wait();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!screen().contains(&typed) && !done.stdout.contains(&typed), "nothing is echoed: {}", screen());
}

#[test]
fn invariant_1_secrets_reach_no_url() {
    let mut plan = Fixture::plan("no-url");
    plan.settings = json!({"token_seconds": 0});
    let proxy = plan.start();
    proxy.post("/v1/messages?beta=true", &hello());
    proxy.fetch("/v1/models");
    proxy.cli(&["auth", "logout", "practice"]);
    let log = proxy.practice.log();
    let requests = log["requests"].as_array().unwrap();
    for path in ["/oauth/device", "/oauth/token", "/oauth/revoke", "/v1/messages"] {
        assert!(requests.iter().any(|request| request["path"] == path), "{path} was called");
    }
    for request in requests {
        assert_none(&secrets(&proxy), &format!("{} {}", request["path"], request["query"]), "a URL");
    }
}

#[test]
fn invariant_1_secrets_reach_no_output_and_no_file() {
    let mut plan = Fixture::plan("no-output");
    (plan.login, plan.serve) = (Login::Key, &["--verbose"]);
    let mut proxy = plan.start();
    let bearer = proxy.bearer();
    let everywhere = [("authorization", bearer.as_str()), ("user-agent", &proxy.key), ("x-note", &proxy.key)];
    let key = proxy.key.clone();
    for body in [json!({"model": key, "messages": key}), json!({"model": "m", key.as_str(): {"a": key}}), json!(key)] {
        for target in ["/v1/chat/completions", &format!("/v1/chat/completions?key={key}")] {
            let mut wire = proxy.connect();
            wire.send(&request("POST", target, &everywhere, body.to_string().as_bytes()));
            wire.reply();
        }
    }
    proxy.fetch(&format!("/{key}/v1/models"));
    let leaked = proxy.run.secret(concat!("ghp", "_q7Rt2Yw9Kx4Lm8Np3Vb6Zc1Hd5Jf0GsAeUoT"));
    let agent = format!("client/1.0 {leaked}");
    proxy.post_with("/v1/messages", &[("user-agent", &agent)], &json!({"model": leaked, "messages": []}));
    for status in [401, 403, 500] {
        proxy.practice.fail("/v1/messages", &json!({"kind": "status", "status": status, "times": 2}));
        proxy.post("/v1/messages", &hello());
    }
    // A key that was pasted into the wrong place.
    let flag = format!("--with-key={key}");
    for arguments in [
        &[key.as_str()][..],
        &["auth", &key],
        &["auth", "login", &key],
        &["auth", "login", "practice", &flag],
        &["auth", "status", &format!("--{key}")],
        &["key", "revoke", &key],
        &["key", "print", &key],
        &["env", &key],
        &["env", "codex", "--shell", &key],
        &["route", &key],
        &["audit", "show", "--since", &key],
        &["serve", "--listen", &key],
    ] {
        assert_ne!(proxy.cli(arguments).code, 0, "{arguments:?}");
    }
    proxy.serve.kill();

    let (mut seen, secrets) = (0, secrets(&proxy));
    each_file(&proxy.run.dir, &mut |path, text| {
        seen += 1;
        assert_none(&secrets, text, &path.display().to_string());
    });
    assert!(seen > 10, "only {seen} files");
}

#[test]
fn invariant_1_a_secret_shows_in_no_debug_print() {
    let text = "sk-practice-0123456789";
    let secret = Secret::new(text.to_owned());
    for print in [format!("{secret:?}"), format!("{:?}", Some(&secret)), format!("{:#?}", vec![&secret])] {
        assert!(!print.contains("practice") && !print.contains("0123"), "{print}");
    }
    assert_eq!(secret.expose(), text);
}

fn each_file(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            each_file(&path, look);
        } else if name != SECRETS && !name.ends_with(SHOWS_KEY) {
            look(&path, &String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn a_core_of_the_proxy_would_hold_none_of_its_memory() {
    let proxy = Fixture::start("core");
    let serve = proxy.cli_start(&["serve", "--listen", "127.0.0.1:0"]);
    serve.line_after("infershield listening on");
    let filter = fs::read_to_string(format!("/proc/{}/coredump_filter", serve.id())).unwrap();
    assert_eq!(u32::from_str_radix(filter.trim(), 16).unwrap(), 0, "core(5)");
}
