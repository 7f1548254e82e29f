//! Local keys: made, listed, printed, given to clients and taken back, while the proxy runs.

use crate::support::{Fixture, Login, Reply, Run, USER, Wire};
use infershield::store::NewKey;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const MODELS: &str = "/v1/models";
const DAY: u64 = 86_400;

/// A home with a login by key, which is the fastest.
fn desk(name: &'static str) -> Fixture {
    let mut plan = Fixture::plan(name);
    plan.login = Login::Key;
    plan.start()
}

/// `key create --json` with more arguments: what it said.
fn create(desk: &Fixture, more: &[&str]) -> Value {
    let done = desk.cli(&[&["key", "create", "--json"], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    let key: Value = serde_json::from_str(&done.stdout).unwrap();
    desk.run.secret(key["key"].as_str().unwrap());
    key
}

fn listed(desk: &Fixture, more: &[&str]) -> Vec<Value> {
    let done = desk.cli(&[&["key", "list", "--json"], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn ask(desk: &Fixture, headers: &[(&str, &str)]) -> Reply {
    Wire::call(desk.addr, "GET", MODELS, headers, b"")
}

fn status_of(desk: &Fixture, key: &Value) -> u16 {
    ask(desk, &[("x-api-key", key["key"].as_str().unwrap())]).status
}

fn assert_unknown(reply: &Reply) {
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("infershield_key_unknown")));
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn shells_that_ask_for_the_same_key_at_once_all_get_it() {
    let desk = desk("same-key");
    let asking: Vec<_> = (0..8).map(|_| desk.cli_start(&["env", "aider"])).collect();
    let told: BTreeSet<String> = asking
        .into_iter()
        .map(|asking| asking.wait())
        .map(|done| {
            assert_eq!(done.code, 0, "{}", done.stderr);
            done.stdout
        })
        .collect();
    assert_eq!(told.len(), 1);
}

#[test]
fn create_tells_everything_once_and_list_all_but_the_key() {
    let desk = desk("create");
    let key = create(&desk, &["--name", "editor"]);
    let text = key["key"].as_str().unwrap();
    assert_eq!(
        key,
        json!({"id": key["id"], "key": text, "user_id": "local", "provider": null, "expires_at": null, "name": "editor"})
    );
    assert!(text.starts_with("isk_") && text.len() == 53, "a scanner can recognise it");
    assert!(text[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));

    let done = desk.cli(&["key", "list", "--json"]);
    assert!(!done.stdout.contains("isk_"), "{done:?}");
    let rows = listed(&desk, &[]);
    let row = rows.iter().find(|row| row["name"] == "editor").unwrap();
    assert_eq!(
        *row,
        json!({"id": key["id"], "name": "editor", "user_id": "local", "provider": null,
            "created_at": row["created_at"], "expires_at": null})
    );
    let done = desk.cli(&["key", "list"]);
    for part in [key["id"].as_str().unwrap(), "editor", "any provider", "does not end"] {
        assert!(done.stdout.contains(part), "{part}: {done:?}");
    }
    assert!(!done.stdout.contains("isk_"));
    assert_eq!(desk.audit_of("key.create").last().unwrap()["key_id"], key["id"]);
}

#[test]
fn print_hands_a_key_out_again() {
    let desk = desk("print");
    let key = create(&desk, &["--name", "editor"]);
    let done = desk.cli(&["key", "print", "editor"]);
    assert_eq!((done.code, done.stdout.trim_end()), (0, key["key"].as_str().unwrap()));

    let done = desk.cli(&["key", "print", "nobody"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert!(done.stderr.contains("`infershield key list`"), "{done:?}");
    assert_eq!(desk.cli(&["key", "print"]).code, 2);
}

#[test]
fn without_json_the_key_stands_alone_on_stdout() {
    let desk = desk("create-plain");
    let done = desk.cli(&["key", "create", "--name", "plain"]);
    let key = desk.run.secret(done.stdout.trim_end());
    assert_eq!(ask(&desk, &[("x-api-key", &key)]).status, 200);
    assert!(done.stderr.contains("`plain`"), "{done:?}");
}

#[test]
fn a_revoked_key_is_refused_by_the_next_request() {
    let desk = desk("revoke");
    let (key, other) = (create(&desk, &[]), create(&desk, &[]));
    assert_eq!(status_of(&desk, &key), 200, "a running proxy knows a new key at once");
    let done = desk.cli(&["key", "revoke", key["id"].as_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_unknown(&ask(&desk, &[("x-api-key", key["key"].as_str().unwrap())]));
    assert_eq!(status_of(&desk, &other), 200);
    assert!(listed(&desk, &[]).iter().all(|row| row["id"] != key["id"]));
    assert_eq!(desk.audit_of("key.revoke")[0]["key_id"], key["id"]);

    let done = desk.cli(&["key", "revoke", key["id"].as_str().unwrap()]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("`infershield key list`"), "{done:?}");
}

#[test]
fn a_key_made_with_once_is_never_seen_again() {
    let desk = desk("once");
    let key = create(&desk, &["--name", "ci", "--once"]);
    assert_eq!(status_of(&desk, &key), 200);
    let done = desk.cli(&["key", "print", "ci"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("`infershield key create`"), "{done:?}");
}

#[test]
fn a_key_ends_on_its_day() {
    let desk = desk("expires");
    let before = now();
    let key = create(&desk, &["--expires", "30"]);
    let ends = key["expires_at"].as_u64().unwrap();
    assert!((before + 30 * DAY..=now() + 30 * DAY).contains(&ends));
    assert_eq!(status_of(&desk, &key), 200);

    // Made by the same code, as if yesterday for a day.
    let new = NewKey { name: "old".to_owned(), provider: None, expires_at: Some(now() - 1), once: false };
    let (old, text) = desk.store().create_key(USER, &new, now() - DAY).unwrap();
    desk.run.secret(text.expose());
    assert_unknown(&ask(&desk, &[("x-api-key", text.expose())]));
    assert!(desk.cli(&["key", "list"]).stdout.contains("expired"));
    assert!(listed(&desk, &[]).iter().any(|row| row["id"] == json!(old.id)), "and is still listed");
    for days in ["0", "-1", "soon", "1.5", "36501", "999999999999", "99999999999999999999"] {
        let done = desk.cli(&["key", "create", &format!("--expires={days}")]);
        assert_eq!(done.code, 2, "{days}");
        assert!(done.stderr.contains("1 to 36500"), "{done:?}");
    }
    create(&desk, &["--expires", "36500"]);
}

#[test]
fn a_name_is_taken_only_once() {
    let desk = desk("name-taken");
    create(&desk, &["--name", "editor"]);
    let done = desk.cli(&["key", "create", "--name", "editor"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("`infershield key revoke ID`"), "{done:?}");
    assert_ne!(create(&desk, &[])["name"], create(&desk, &[])["name"], "without a name a free one is found");
    assert_eq!(create(&desk, &["--name", "editor", "--user", "bob"])["user_id"], "bob", "names are each user's own");
}

#[test]
fn a_name_that_nobody_could_read_is_refused() {
    let desk = desk("names");
    let long = "ü".repeat(129);
    for (flag, of) in [("--user", "user"), ("--name", "key")] {
        for name in ["", "a\nb", "\x1b[2J", "a\u{85}b", &long] {
            let done = desk.cli(&["key", "create", flag, name]);
            assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{flag} {name:?}");
            assert!(done.stderr.contains(&format!("a {of} name has 1 to 128 plain characters")), "{done:?}");
            assert!(!done.stderr.contains('\x1b'), "{done:?}");
        }
        create(&desk, &[flag, &"ü".repeat(128)]);
    }
}

#[test]
fn a_key_for_one_provider_opens_no_other() {
    let desk = desk("bound-key");
    let key = create(&desk, &["--provider", "practice"]);
    assert_eq!(key["provider"], "practice");
    assert_eq!(status_of(&desk, &key), 200);
    let headers = [("x-api-key", key["key"].as_str().unwrap())];
    assert_eq!(Wire::call(desk.addr, "GET", "/practice/v1/models", &headers, b"").status, 200);
    assert_unknown(&Wire::call(desk.addr, "GET", "/anthropic/v1/models", &headers, b""));
    let done = desk.cli(&["key", "create", "--provider", "practise"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("did you mean `practice`?"), "{done:?}");
}

#[test]
fn keys_that_cannot_be_read_are_shown_by_the_command_that_the_refusal_names() {
    let desk = desk("unreadable-keys");
    let file = desk.home.join("local-keys.json");
    // A file of its own, as a careless copy makes one.
    let copy = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, copy).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let reply = desk.fetch(MODELS);
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("infershield_login_needed")));
    assert!(reply.text().contains("`infershield key list`"), "{}", reply.text());
    let done = desk.cli(&["key", "list"]);
    assert!(done.code != 0 && done.stderr.contains("chmod 600"), "{done:?}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(desk.fetch(MODELS).status, 200);
}

#[test]
fn a_key_brings_its_own_user_and_never_another_s_login() {
    let desk = desk("users-keys");
    let key = create(&desk, &["--user", "bob", "--name", "bobs"]);
    let reply = ask(&desk, &[("x-api-key", key["key"].as_str().unwrap())]);
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("infershield_login_needed")));
    assert_eq!(desk.practice.requests(MODELS).len(), 0);
    assert_eq!(listed(&desk, &["--user", "bob"]).len(), 1);
    assert!(listed(&desk, &[]).iter().all(|row| row["name"] != "bobs"));
    assert_eq!(desk.cli(&["key", "print", "bobs"]).code, 1);
    assert_eq!(desk.cli(&["key", "revoke", key["id"].as_str().unwrap()]).code, 1, "not even by its id");
    let done = desk.cli(&["key", "revoke", key["id"].as_str().unwrap(), "--user", "bob", "--json"]);
    let revoked: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(revoked, json!({"id": key["id"], "name": "bobs", "user_id": "bob"}));
}

#[test]
fn a_local_key_is_not_taken_for_a_provider_s() {
    let desk = desk("local-key");
    let before = std::fs::read(desk.home.join("tokens.json")).unwrap();
    let key = create(&desk, &["--name", "editor"])["key"].as_str().unwrap().to_owned();
    for provider in ["practice", "openai"] {
        let done = desk.cli_typing(&["auth", "login", provider, "--with-key"], &format!("{key}\n"));
        assert_eq!(done.code, 2, "{done:?}");
        assert!(
            done.stderr.contains("that is a local key of infershield: repeat `infershield auth login`"),
            "{done:?}"
        );
        assert!(!done.stderr.contains(&key[..8]), "{done:?}");
    }
    assert_eq!(std::fs::read(desk.home.join("tokens.json")).unwrap(), before, "the login before is as it was");
    assert_eq!(desk.status().len(), 1);
    assert_eq!(desk.fetch(MODELS).status, 200);
}

#[test]
fn a_key_is_taken_from_either_header() {
    let desk = desk("headers");
    let key = desk.key.as_str();
    let bearer = format!("Bearer {key}");
    let other = create(&desk, &[]);
    let other = other["key"].as_str().unwrap();
    for headers in [
        &[("authorization", bearer.as_str())][..],
        &[("x-api-key", key)],
        &[("Authorization", &bearer), ("X-Api-Key", key)],
        &[("authorization", "Bearer sk-of-the-client"), ("x-api-key", key)],
        &[("authorization", &bearer), ("x-api-key", "sk-of-the-client")],
        &[("authorization", &bearer.replace("Bearer", "bearer"))],
    ] {
        assert_eq!(ask(&desk, headers).status, 200, "{headers:?}");
    }
    let both = ask(&desk, &[("authorization", &bearer), ("x-api-key", other)]);
    assert_eq!(both.status, 400, "whose request would it be?");
    let basic = format!("Basic {key}");
    for headers in [&[][..], &[("authorization", key)], &[("authorization", &basic)], &[("x-api-key", &key[..52])]] {
        assert_unknown(&ask(&desk, headers));
    }
    assert!(desk.practice.requests(MODELS).iter().all(|request| !request["headers"].to_string().contains("isk_")));
}

#[test]
fn serve_makes_a_key_where_there_is_none_and_never_prints_one() {
    let run = Run::new("serve-key");
    let home = run.home("home");
    let mut command = run.infershield(&home, &["serve", "--listen", "127.0.0.1:0"]);
    command.env("INFERSHIELD_MASTER_KEY", run.random_secret());
    let mut serve = run.start(command);
    let addr = serve.line_after("infershield listening on http://").parse().unwrap();
    assert_eq!(Wire::call(addr, "GET", "/health", &[], b"").status, 200);
    serve.kill();
    let written = outputs(&run.dir);
    assert!(written.contains("eval \"$(infershield env CLIENT)\""), "{written}");
    assert!(written.contains("`default`") && !written.contains("isk_"), "{written}");
    assert_eq!(written.matches("listening").count(), 1, "{written}");
}

/// Everything that the programs of a run wrote to either output.
fn outputs(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let outputs = entries.filter(|path| path.is_file() && path.to_string_lossy().contains("std"));
    outputs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// What `env CLIENT` says when the proxy listens where this one does.
fn env(desk: &Fixture, arguments: &[&str]) -> String {
    let mut command = desk.run.infershield(&desk.home, &[&["env"], arguments].concat());
    command.env("INFERSHIELD_MASTER_KEY", &desk.master).env("INFERSHIELD_LISTEN", desk.addr.to_string());
    let done = desk.run.start(command).wait();
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout
}

/// The environment of a shell that has evaluated these texts, one after the other.
fn after_eval(desk: &Fixture, texts: &[&str]) -> BTreeMap<String, String> {
    let mut command = desk.run.program(Path::new("sh"));
    command.args(["-c", "for text; do eval \"$text\" || exit; done; env", "sh"]).args(texts);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn in_a_shell_with_a_company_s_proxy_the_settings_keep_this_machine_out_of_it() {
    let desk = desk("env-proxy");
    for (name, before, after) in
        [("http_proxy", "", "127.0.0.1,localhost"), ("ALL_PROXY", "a.example", "127.0.0.1,localhost,a.example")]
    {
        let mut command = desk.run.infershield(&desk.home, &["env", "aider"]);
        command
            .env("INFERSHIELD_MASTER_KEY", &desk.master)
            .env(name, "http://corp.example:3128")
            .env("NO_PROXY", before);
        let set = after_eval(&desk, &[&desk.run.start(command).wait().stdout]);
        assert_eq!((set["NO_PROXY"].as_str(), set["no_proxy"].as_str()), (after, after), "{name}");
    }
    assert!(!env(&desk, &["aider"]).contains("NO_PROXY"));
}

#[test]
fn every_client_s_settings_can_be_evaluated_and_undone() {
    let desk = desk("env");
    let clients: Value = serde_json::from_str(&desk.cli(&["clients", "--json"]).stdout).unwrap();
    let ids: Vec<&str> = clients.as_array().unwrap().iter().map(|client| client["id"].as_str().unwrap()).collect();
    for needed in ["codex", "claude-code", "openai", "anthropic", "curl"] {
        assert!(ids.contains(&needed), "{needed}");
    }
    let before = after_eval(&desk, &[]);
    let base = format!("http://{}", desk.addr);
    for client in clients.as_array().unwrap().iter().filter(|client| client["cannot"].is_null()) {
        let id = client["id"].as_str().unwrap();
        let text = env(&desk, &[id]);
        let key = desk.run.secret(desk.cli(&["key", "print", id]).stdout.trim_end());
        let set = after_eval(&desk, &[&text]);
        let fish = env(&desk, &[id, "--shell", "fish"]);
        for pair in client["set"].as_array().unwrap() {
            let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            let value = value.replace("{base}", &base).replace("{key}", &key);
            assert_eq!(set.get(name), Some(&value), "{id}");
            assert!(fish.contains(&format!("set -gx {name} '{value}'\n")), "{id}: {fish}");
            let gone = env(&desk, &[id, "--undo", "--shell", "fish"]);
            assert!(gone.contains(&format!("set -e {name}\n")), "{id}: {gone}");
        }
        assert_eq!(env(&desk, &[id]), text, "{id}: the same key again");
        assert_eq!(after_eval(&desk, &[&text, &env(&desk, &[id, "--undo"])]), before, "{id}: undone");
        assert_eq!(ask(&desk, &[("x-api-key", &key)]).status, 200, "{id}");
    }
}

#[test]
fn a_program_with_the_settings_of_env_reaches_the_proxy() {
    let desk = desk("env-works");
    let set = after_eval(&desk, &[&env(&desk, &["openai"])]);
    let key = desk.run.secret(&set["OPENAI_API_KEY"]);
    let base = set["OPENAI_BASE_URL"].strip_prefix("http://").unwrap();
    let (addr, path) = base.split_once('/').unwrap();
    let bearer = format!("Bearer {key}");
    let target = format!("/{path}/models");
    let reply = Wire::call(addr.parse().unwrap(), "GET", &target, &[("authorization", &bearer)], b"");
    assert_eq!(reply.status, 200);
}

#[test]
fn env_names_an_address_that_the_proxy_answers_to() {
    let desk = desk("env-listen");
    let said = |listen: &str| {
        let mut command = desk.run.infershield(&desk.home, &["env", "openai"]);
        command.env("INFERSHIELD_MASTER_KEY", &desk.master).env("INFERSHIELD_LISTEN", listen);
        desk.run.start(command).wait()
    };
    for (listen, base) in [
        ("0.0.0.0:8001", "http://127.0.0.1:8001/"),
        ("[::]:8001", "http://[::1]:8001/"),
        ("localhost:8001", "http://localhost:8001/"),
    ] {
        assert!(said(listen).stdout.contains(base), "{listen}: {:?}", said(listen));
    }
    let done = said("127.0.0.1:0");
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("port 0") && done.stderr.contains("name a port"), "{done:?}");
}

#[test]
fn undo_prints_the_way_back_and_nothing_else() {
    let run = Run::new("env-undo-all");
    let undo = |id: &str| run.start(run.infershield(&run.dir.join("none"), &["env", id, "--undo"])).wait().stdout;
    for id in ["claude-code", "openai", "anthropic", "aider", "curl"] {
        let text = undo(id);
        assert!(!text.is_empty() && text.lines().all(|line| line.starts_with("unset ")), "{id}: {text}");
    }
    let text = undo("codex");
    let (unset, rest) = text.split_once('\n').unwrap();
    assert_eq!(unset, "unset INFERSHIELD_KEY");
    assert!(
        rest.contains("Take out of ~/.codex/config.toml") && rest.contains("[model_providers.infershield]"),
        "{rest}"
    );
    assert!(!rest.contains("base_url"), "{rest}");
}

#[test]
fn what_codex_needs_is_put_where_it_holds() {
    let desk = desk("env-codex");
    let text = env(&desk, &["codex"]);
    let (top, end) = text.split_once("at its end").unwrap();
    assert!(top.contains("at the top of ~/.codex/config.toml") && top.contains("# model_provider = \"infershield\"\n"));
    assert!(end.contains("# [model_providers.infershield]\n") && end.contains(&format!("http://{}/v1", desk.addr)));
}

#[test]
fn undo_needs_no_home() {
    let run = Run::new("env-undo");
    let home = run.dir.join("none");
    let done = run.start(run.infershield(&home, &["env", "openai", "--undo"])).wait();
    assert_eq!((done.code, done.stdout.as_str()), (0, "unset OPENAI_BASE_URL\nunset OPENAI_API_KEY\n"));
    assert!(!home.exists());
}

#[test]
fn an_unknown_client_or_shell_is_a_usage_error_with_a_hint() {
    let desk = desk("env-unknown");
    let done = desk.cli(&["env", "claude-cod"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("did you mean `claude-code`?"), "{done:?}");
    assert!(done.stderr.contains("`infershield clients`"), "{done:?}");
    let done = desk.cli(&["env"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("`infershield clients`"), "{done:?}");
    let done = desk.cli(&["env", "openai", "--shell", "tcsh"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("--shell takes sh or fish"), "{done:?}");
}

#[test]
fn an_expired_client_key_is_replaced() {
    let desk = desk("env-expired");
    let new = NewKey { name: "openai".to_owned(), provider: None, expires_at: Some(now() - 1), once: false };
    let (_, old) = desk.store().create_key(USER, &new, now() - DAY).unwrap();
    desk.run.secret(old.expose());
    let set = after_eval(&desk, &[&env(&desk, &["openai"])]);
    let key = desk.run.secret(&set["OPENAI_API_KEY"]);
    assert_ne!(key, old.expose());
    assert_eq!(ask(&desk, &[("x-api-key", &key)]).status, 200);
}
