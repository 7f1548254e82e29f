//! `audit show | verify | head | export` as a person or a script types them.

use crate::support::{Fixture, Login, Run};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const MODELS: &str = "/v1/models";

/// A home with a few lines: a key, a start, two requests, another user's key.
fn desk(name: &'static str) -> (Fixture, Vec<String>) {
    let mut plan = Fixture::plan(name);
    plan.login = Login::Key;
    let desk = plan.start();
    let id = |desk: &Fixture| desk.fetch(MODELS).header("x-infershield-request-id").unwrap().to_owned();
    let ids = vec![id(&desk), id(&desk)];
    assert_eq!(desk.cli(&["key", "create", "--user", "bob"]).code, 0);
    (desk, ids)
}

/// The one file of the log.
fn log(desk: &Fixture) -> PathBuf {
    let entries = fs::read_dir(desk.home.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).last().unwrap()
}

fn shown(desk: &Fixture, more: &[&str]) -> Vec<Value> {
    let done = desk.cli(&[&["audit", "show", "--json"], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn show_gives_the_lines_as_they_stand_or_for_people() {
    let (desk, ids) = desk("audit-show");
    assert_eq!(shown(&desk, &[]), desk.audit());
    let done = desk.cli(&["audit", "show"]);
    assert_eq!((done.stdout.lines().count(), done.stderr.as_str()), (desk.audit().len(), ""));
    assert!(done.stdout.contains("auth.login") && done.stdout.contains("serve.start"), "{done:?}");
    let one = shown(&desk, &["--request", &ids[1]]);
    assert_eq!((one.len(), &one[0]["request_id"]), (1, &json!(ids[1])), "the id that the client was given");
    assert!(shown(&desk, &["--user", "bob"]).iter().all(|line| line["user_id"] == "bob"));
    assert_eq!(shown(&desk, &["--user", "bob"]).len(), 1);
    assert_eq!(shown(&desk, &["--blocked"]), Vec::<Value>::new());
    assert_eq!(shown(&desk, &["--ref", "aaaaaaaa"]), Vec::<Value>::new());
    assert_eq!(shown(&desk, &["--since", "7d"]).len(), desk.audit().len());
    assert_eq!(shown(&desk, &["--since", "2100-01-01"]), Vec::<Value>::new());
    for wrong in ["yesterday", "2026-13-45", "2026-02-30"] {
        let done = desk.cli(&["audit", "show", "--since", wrong]);
        assert_eq!(done.code, 2, "{wrong}");
        assert!(done.stderr.contains("2026-01-31"), "{done:?}");
    }
}

#[test]
fn verify_is_content_with_what_was_written_and_with_nothing_else() {
    let (desk, _) = desk("audit-verify");
    let done = desk.cli(&["audit", "verify"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains(&format!("{} lines", desk.audit().len())), "{done:?}");
    let said: Value = serde_json::from_str(&desk.cli(&["audit", "verify", "--json"]).stdout).unwrap();
    assert_eq!(said, json!({"ok": true, "lines": desk.audit().len(), "notes": [], "warning": null}));

    let text = fs::read_to_string(log(&desk)).unwrap();
    fs::write(log(&desk), text.replacen("\"auth.login\"", "\"auth.logIn\"", 1)).unwrap();
    let done = desk.cli(&["audit", "verify"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.starts_with("✗ audit/"), "{done:?}");
    let done = desk.cli(&["audit", "show"]);
    assert!(done.code == 0 && done.stdout.contains("auth.logIn"), "shown as it stands: {done:?}");
    assert!(done.stderr.contains("does not verify") && done.stderr.contains("`infershield audit verify`"), "{done:?}");
    let done = desk.cli(&["audit", "verify", "--json"]);
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, &said["ok"]), (1, &json!(false)));
    assert!(said["line"].is_u64() && said["file"].is_string() && said["what"].is_string(), "{said}");
}

#[test]
fn what_is_wrong_with_a_file_is_not_said_of_a_line() {
    let (desk, _) = desk("audit-no-line");
    fs::remove_file(desk.home.join("audit/head.json")).unwrap();
    assert_eq!(desk.cli(&["audit", "verify"]).stdout, "✗ audit/head.json is missing\n");
    let said: Value = serde_json::from_str(&desk.cli(&["audit", "verify", "--json"]).stdout).unwrap();
    assert_eq!(said, json!({"ok": false, "file": "head.json", "line": null, "what": "is missing"}));
    let done = desk.cli(&["key", "create"]);
    assert_eq!(done.code, 5);
    assert!(done.stderr.contains("is broken: audit/head.json is missing; type"), "{done:?}");
}

#[test]
fn an_anchor_kept_elsewhere_finds_a_log_that_was_put_back() {
    let (desk, _) = desk("audit-anchor");
    let before = (fs::read(log(&desk)).unwrap(), fs::read(desk.home.join("audit/head.json")).unwrap());
    assert_eq!(desk.cli(&["key", "create"]).code, 0);
    let anchor = desk.cli(&["audit", "head"]).stdout.trim_end().to_owned();
    let head: Value = serde_json::from_str(&desk.cli(&["audit", "head", "--json"]).stdout).unwrap();
    assert_eq!(anchor, format!("{}:{}", head["seq"], head["mac"].as_str().unwrap()));
    assert_eq!(desk.cli(&["audit", "verify", "--expect", &anchor]).code, 0);
    assert_eq!(desk.cli(&["key", "create"]).code, 0);
    assert_eq!(desk.cli(&["audit", "verify", "--expect", &anchor]).code, 0, "a later log holds the anchor too");

    fs::write(log(&desk), before.0).unwrap();
    fs::write(desk.home.join("audit/head.json"), before.1).unwrap();
    assert_eq!(desk.cli(&["audit", "verify"]).code, 0, "which nothing inside the home can show");
    assert_eq!(desk.cli(&["audit", "verify", "--expect", &anchor]).code, 1);
    assert_eq!(desk.cli(&["audit", "verify", "--expect", "nonsense"]).code, 2);
}

/// A mount of its own. Where the system grants none, this says so and shows nothing.
#[test]
fn a_log_that_can_only_be_read_is_verified() {
    let (mut desk, _) = desk("audit-read-only");
    desk.serve.kill();
    let lines = desk.audit().len();
    let mount = format!("mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}'", desk.home.display());
    let read_only = |then: &str| {
        let mut command = desk.run.program("unshare".as_ref());
        command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {then}")]);
        command.env("INFERSHIELD_HOME", &desk.home).env("INFERSHIELD_MASTER_KEY", &desk.master);
        desk.run.start(command).wait()
    };
    if read_only("true").code != 0 {
        eprintln!("skipped: this system grants no mount of our own (unshare --mount)");
        return;
    }
    for _ in 0..2 {
        let done = read_only(&format!("exec {} audit verify", env!("CARGO_BIN_EXE_infershield")));
        assert_eq!((done.code, done.stdout), (0, format!("✓ {lines} lines, unbroken\n")), "{}", done.stderr);
        // A copy may lack the file that writers lock.
        let _ = fs::remove_file(desk.home.join("lock"));
    }
    let done = read_only(&format!("exec {} key create", env!("CARGO_BIN_EXE_infershield")));
    assert_eq!((done.code, done.stdout.as_str()), (5, ""), "which it says of itself: {done:?}");
}

#[test]
fn export_writes_each_format_to_stdout_or_into_a_private_file() {
    let (desk, ids) = desk("audit-export");
    let log = fs::read_to_string(log(&desk)).unwrap();
    let export = |more: &[&str]| desk.cli(&[&["audit", "export"], more].concat());
    assert_eq!(export(&["--format", "jsonl"]).stdout, log);
    let csv = export(&["--format", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 1 + log.lines().count(), "a row for each, and their names");
    assert!(csv.starts_with("seq,timestamp,user_id"), "{csv}");
    let one = export(&["--format", "jsonl", "--request", &ids[0]]).stdout;
    assert!(one.lines().count() == 1 && one.contains(&ids[0]), "{one}");

    let file = desk.run.dir.join("report.html");
    let done = export(&["--format", "html", "-o", file.to_str().unwrap()]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
    assert_eq!(done.stderr, "", "no word when all is well");
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.to_lowercase().contains("<!doctype html>") && page.contains("serve.start"), "{page}");
    assert!(
        !page.contains("<script src") && !page.contains("http://") && !page.contains("https://"),
        "nothing from elsewhere"
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    for wrong in [&[][..], &["--format", "xml"]] {
        let done = export(wrong);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""));
        assert!(done.stderr.contains("jsonl, csv or html"), "{done:?}");
    }
    let done = export(&["--format", "csv", "-o", "/no/such/folder/x.csv"]);
    assert_eq!(done.code, 5);
    assert!(done.stderr.contains("/no/such/folder/x.csv") && done.stderr.contains("-o"), "{done:?}");
}

#[test]
fn export_overwrites_nothing_and_writes_nothing_into_the_home() {
    let (desk, _) = desk("audit-export-place");
    let export = |file: &Path| desk.cli(&["audit", "export", "--format", "csv", "-o", file.to_str().unwrap()]);
    let (mine, link, dangling) = (desk.run.dir.join("mine"), desk.run.dir.join("link"), desk.run.dir.join("dangling"));
    fs::write(&mine, "mine").unwrap();
    symlink(&mine, &link).unwrap();
    symlink(desk.run.dir.join("nothing"), &dangling).unwrap();
    for file in [&mine, &link, &dangling] {
        let done = export(file);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(done.stderr.contains("exists already; remove it or name another file"), "{done:?}");
    }
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert!(!desk.run.dir.join("nothing").exists());

    let way_in = desk.run.dir.join("way-in");
    symlink(desk.home.join("audit"), &way_in).unwrap();
    let before = (fs::read(log(&desk)).unwrap(), fs::read(desk.home.join("tokens.json")).unwrap());
    let inside = ["tokens.json", "new.csv", "audit/new.csv", "audit/../new.csv"].map(|name| desk.home.join(name));
    for file in inside.iter().chain([&log(&desk), &way_in.join("new.csv")]) {
        let done = export(file);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(done.stderr.contains("in the home"), "{done:?}");
    }
    assert_eq!((fs::read(log(&desk)).unwrap(), fs::read(desk.home.join("tokens.json")).unwrap()), before);
    assert!(!desk.home.join("new.csv").exists() && !desk.home.join("audit/new.csv").exists());
    assert_eq!(desk.cli(&["audit", "verify"]).code, 0);
}

#[test]
fn a_home_without_a_log_has_nothing_to_show() {
    let run = Run::new("audit-nothing");
    let home = run.home("home");
    let cli = |arguments: &[&str]| run.start(run.infershield(&home, arguments)).wait();
    assert_eq!((cli(&["audit", "show"]).code, cli(&["audit", "show", "--json"]).stdout), (0, String::new()));
    let done = cli(&["audit", "verify"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, "✗ there is no log\n"), "what is missing proves nothing");
    assert!(!home.join("keys.json").exists(), "nor is a home begun");
}

#[test]
fn a_wrong_master_key_verifies_nothing() {
    let (desk, _) = desk("audit-wrong-key");
    let mut command = desk.run.infershield(&desk.home, &["audit", "verify"]);
    command.env("INFERSHIELD_MASTER_KEY", desk.run.random_secret());
    let done = desk.run.start(command).wait();
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stderr.contains("does not open"), "{done:?}");
}

#[test]
fn a_log_that_was_taken_away_as_a_whole_begins_anew_and_says_so() {
    let (desk, _) = desk("audit-restart");
    assert!(desk.audit_of("audit.restarted").is_empty());
    fs::rename(desk.home.join("audit"), desk.home.join("taken")).unwrap();
    let done = desk.cli(&["audit", "verify"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("move the folder `audit` away"), "{done:?}");
    assert_eq!(desk.cli(&["key", "create"]).code, 0);
    let actions: Vec<Value> = desk.audit().into_iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["audit.restarted", "key.create"]);
    assert_eq!(desk.cli(&["audit", "verify"]).code, 0);
}
