//! `doctor`: what is wrong is found, alone and with what to type; nothing is written, and nobody is contacted unasked.

use crate::flow_support::Responder;
use crate::support::{Done, Fixture, Login, Plan, Run, USER};
use crate::upstream::TlsServer;
use infershield::store::State;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A port that is always free.
const FREE: &str = "127.0.0.1:0";

fn plan(name: &'static str) -> Plan {
    let mut plan = Fixture::plan(name);
    plan.config = json!({ "listen": FREE });
    plan
}

/// A home that is logged in, its proxy stopped, and no row that leads beyond this machine.
fn healthy(mut plan: Plan) -> Fixture {
    plan.serve = &[];
    let mut fixture = plan.start();
    fixture.serve.kill();
    let here = format!("{}/x", fixture.practice.origin);
    fixture.configure(|config| {
        let rows = config["providers"].as_array_mut().unwrap();
        rows.push(json!({"id": "anthropic", "api_base": here}));
        rows.push(json!({"id": "openai", "api_base": here, "chatgpt_base": here, "device_endpoint": here,
            "token_endpoint": here, "revoke_endpoint": here}));
        rows.push(json!({"id": "github", "api_base": here, "device_endpoint": here, "token_endpoint": here,
            "account_endpoint": here, "exposed_endpoint": here,
            "exchange": {"client_ids": [], "endpoint": here, "below": "localhost", "headers": {}}}));
    });
    fixture
}

fn rows(done: &Done) -> Vec<Value> {
    let rows: Vec<Value> = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    for row in &rows {
        let names: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(names, ["check", "next", "state", "what"], "{row}");
        assert_eq!(row["state"] == "ok", row["next"].is_null(), "{row}");
    }
    assert_eq!(done.code, i32::from(rows.iter().any(|row| row["state"] == "failed")), "{done:?}");
    rows
}

fn of_state<'a>(rows: &'a [Value], state: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let text = |row: &'a Value, name: &str| row[name].as_str().unwrap_or_default();
    let wanted = rows.iter().filter(|row| row["state"] == state);
    wanted.map(|row| (text(row, "check"), text(row, "what"), text(row, "next"))).collect()
}

/// What stands in a folder, and when it was changed last.
fn snapshot(folder: &Path) -> Vec<(String, i64, i64, Vec<u8>)> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::metadata(&path).unwrap();
        let bytes = if meta.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        seen.push((path.display().to_string(), meta.ctime(), meta.ctime_nsec(), bytes));
        if meta.is_dir() {
            seen.extend(snapshot(&path));
        }
    }
    seen.sort();
    seen
}

#[test]
fn a_healthy_home_is_fine_and_stays_as_it_is() {
    let fixture = healthy(plan("doctor-healthy"));
    let before = snapshot(&fixture.home);
    let done = fixture.cli(&["doctor"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert!(done.stdout.lines().all(|line| line.starts_with("✓ ")), "{done:?}");
    let done = fixture.cli(&["doctor", "--json"]);
    let rows = rows(&done);
    let checks: Vec<&str> = of_state(&rows, "ok").into_iter().map(|(check, ..)| check).collect();
    assert_eq!(checks, ["config", "network", "audit log", "login", "home", "port", "variables"]);
    assert_eq!(rows.len(), checks.len());
    assert_eq!(snapshot(&fixture.home), before);
    assert_eq!(fixture.practice.count("GET /"), 0);
}

#[test]
fn a_home_that_does_not_exist_is_a_warning_and_is_not_made() {
    let run = Run::new("doctor-no-home");
    let home = run.dir.join("none");
    let mut command = run.infershield(&home, &["doctor", "--json"]);
    command.env("INFERSHIELD_LISTEN", FREE);
    let rows = rows(&run.start(command).wait());
    let warnings = of_state(&rows, "warning");
    assert!(matches!(warnings[..], [("home", _, "infershield auth status")]), "{rows:?}");
    assert!(of_state(&rows, "failed").is_empty() && !home.exists());
}

#[test]
fn a_rekey_that_was_killed_is_left_to_the_next_command() {
    let fixture = healthy(plan("doctor-unsettled"));
    let before = {
        fs::write(fixture.home.join("master.key.new"), fixture.run.random_secret()).unwrap();
        snapshot(&fixture.home)
    };
    let rows = rows(&fixture.cli(&["doctor", "--json"]));
    assert!(matches!(of_state(&rows, "warning")[..], [("home", ..)]), "{rows:?}");
    assert_eq!(snapshot(&fixture.home), before);
}

/// Fails the test unless exactly this check fails, with this to type; gives all rows.
fn alone(done: &Done, check: &str, next: &str) -> Vec<Value> {
    let rows = rows(done);
    let failed = of_state(&rows, "failed");
    assert!(matches!(failed[..], [(found, _, typed)] if found == check && typed.contains(next)), "{check}: {rows:?}");
    rows
}

#[test]
fn each_damage_is_one_failed_check_and_nothing_is_mended() {
    let fixture = healthy(plan("doctor-damage"));
    let month = fs::read_dir(fixture.home.join("audit")).unwrap().map(|entry| entry.unwrap().file_name());
    let month = month.map(|name| name.into_string().unwrap()).find(|name| name.ends_with(".jsonl")).unwrap();
    for (file, check, next) in [
        ("tokens.json", "home", "mv "),
        ("local-keys.json", "home", "mv "),
        ("keys.json", "home", "infershield doctor"),
        ("audit/head.json", "audit log", "infershield audit verify"),
        (&format!("audit/{month}"), "audit log", "infershield audit verify"),
    ] {
        let path = fixture.home.join(file);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let before = snapshot(&fixture.home);
        alone(&fixture.cli(&["doctor", "--json"]), check, next);
        assert_eq!(snapshot(&fixture.home), before, "{file}");
        fs::write(&path, whole).unwrap();
    }
    fs::remove_file(fixture.home.join("keys.json")).unwrap();
    let before = snapshot(&fixture.home);
    alone(&fixture.cli(&["doctor", "--json"]), "home", "mv ");
    assert_eq!(snapshot(&fixture.home), before);
}

#[test]
fn what_others_can_get_at_comes_with_its_chmod() {
    let fixture = healthy(plan("doctor-modes"));
    for (file, mode, check, right) in [
        ("tokens.json", 0o644, "home", "chmod 600 "),
        ("keys.json", 0o640, "home", "chmod 600 "),
        ("config.json", 0o666, "config", "chmod 644 "),
        ("audit/head.json", 0o644, "audit log", "chmod 600 "),
        ("", 0o777, "home", "chmod 700 "),
    ] {
        let path = fixture.home.join(file);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let done = fixture.cli(&["doctor", "--json"]);
        let rows = rows(&done);
        let failed = of_state(&rows, "failed");
        assert!(failed.iter().any(|(found, _, next)| *found == check && next.starts_with(right)), "{file}: {done:?}");
        fs::set_permissions(&path, before).unwrap();
    }
}

#[test]
fn bad_settings_are_one_failed_check_and_the_others_still_run() {
    let fixture = healthy(plan("doctor-config"));
    let file = fixture.home.join("config.json");
    let whole = fs::read_to_string(&file).unwrap();
    for (bad, what) in [
        (whole.replacen("listen", "lisen", 1), "did you mean `listen`?"),
        ("{".to_owned(), "config.json"),
        (whole.replacen(FREE, "nowhere", 1), "cannot listen on `nowhere`"),
        (whole.replacen("127.0.0.1:0\"", "127.0.0.1:0\",\"ca_file\":\"/nonexistent\"", 1), "/nonexistent"),
        (whole.replacen("100000", "5", 1), "limits.pbkdf2_iterations: 5 is not"),
    ] {
        assert_ne!(bad, whole);
        fs::write(&file, bad).unwrap();
        let rows = rows(&fixture.cli(&["doctor", "--json"]));
        // Without settings the usual port is looked at, and somebody may have it.
        let failed = of_state(&rows, "failed").into_iter().filter(|(check, ..)| *check != "port");
        let failed: Vec<_> = failed.collect();
        assert!(matches!(failed[..], [("config", found, _)] if found.contains(what)), "{what}: {rows:?}");
        let fine: Vec<&str> = of_state(&rows, "ok").into_iter().map(|(check, ..)| check).collect();
        assert!(["audit log", "home", "variables"].iter().all(|check| fine.contains(check)), "{what}: {rows:?}");
    }
    fs::write(&file, whole).unwrap();
    fs::create_dir(fixture.home.join("rules.d")).unwrap();
    fs::write(fixture.home.join("rules.d/own.json"), "[{}]").unwrap();
    let rows = rows(&fixture.cli(&["doctor", "--json"]));
    assert!(matches!(of_state(&rows, "failed")[..], [("config", what, _)] if what.contains("own.json")), "{rows:?}");
}

#[test]
fn a_wrong_master_key_fails_and_one_beside_the_tokens_is_a_warning() {
    let fixture = healthy(plan("doctor-master"));
    let wrong = fixture.run.random_secret();
    let mut command = fixture.run.infershield(&fixture.home, &["doctor", "--json"]);
    command.env("INFERSHIELD_MASTER_KEY", &wrong);
    alone(&fixture.run.start(command).wait(), "home", "infershield doctor");
    let own = fixture.run.home("own");
    fs::write(own.join("config.json"), json!({"listen": FREE, "limits": {"pbkdf2_iterations": 100_000}}).to_string())
        .unwrap();
    let cli = |arguments: &[&str]| fixture.run.start(fixture.run.infershield(&own, arguments)).wait();
    let doctor_with = |variable: (&str, &str)| {
        let mut command = fixture.run.infershield(&own, &["doctor", "--json"]);
        command.env(variable.0, variable.1);
        fixture.run.start(command).wait()
    };
    let missing = ("INFERSHIELD_MASTER_KEY_FILE", "/no/such/file");
    alone(&doctor_with(missing), "home", "infershield doctor");
    assert_eq!(cli(&["audit", "head"]).code, 0, "keys, but neither logins nor local keys");
    let before = snapshot(&own);
    for wrong in [missing, ("INFERSHIELD_MASTER_KEY", &wrong)] {
        alone(&doctor_with(wrong), "home", "infershield doctor");
    }
    assert_eq!(cli(&["doctor"]).code, 0);
    assert_eq!(snapshot(&own), before);
    assert_eq!(cli(&["key", "create"]).code, 0);
    let done = cli(&["doctor", "--json"]);
    let rows = rows(&done);
    assert!(matches!(of_state(&rows, "warning")[..], [("master.key", _, "infershield rekey --with-key")]), "{done:?}");
    assert!(cli(&["doctor"]).stdout.contains("! master.key: "));
}

#[test]
fn a_login_that_cannot_be_used_comes_with_the_command_that_repairs_it() {
    let fixture = healthy(plan("doctor-login"));
    for state in [State::Dead, State::Suspect] {
        fixture.store().update(USER, "practice", &mut |record| record.state = state).unwrap();
        alone(&fixture.cli(&["doctor", "--json"]), "login", "infershield auth login practice");
        let said = fixture.cli(&["auth", "status"]).stdout;
        assert!(said.contains("repair: ") && !said.contains("renewed by itself"), "{said}");
    }
    fixture.store().update(USER, "practice", &mut |record| record.state = State::Valid).unwrap();
    fixture.configure_provider(&json!({"api_base": "http://127.0.0.1:1/moved"}));
    alone(&fixture.cli(&["doctor", "--json"]), "login", "infershield auth login practice");
}

#[test]
fn the_port_is_free_or_ours_or_somebody_elses() {
    let mut fixture = healthy(plan("doctor-port"));
    fixture.restart();
    let listen = fixture.addr.to_string();
    fixture.configure(|config| config["listen"] = json!(listen));
    let done = fixture.cli(&["doctor", "--json"]);
    let rows = rows(&done);
    let fine = of_state(&rows, "ok");
    assert!(fine.contains(&("port", &format!("a proxy answers on {listen}"), "")), "{done:?}");
    fixture.serve.kill();
    let health = br#"{"status":"ok","version":"0.0.0"}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", health.len());
    let other = Responder::start(&[[head.as_bytes(), health].concat()]);
    fixture.configure(|config| config["listen"] = json!(other.base.trim_start_matches("http://")));
    let rows = self::rows(&fixture.cli(&["doctor", "--json"]));
    let warned = of_state(&rows, "warning").into_iter().find(|(check, ..)| *check == "port");
    assert!(warned.is_some_and(|(_, what, _)| what.contains("another version")), "{rows:?}");
    let stranger = TcpListener::bind(FREE).unwrap();
    let listen = stranger.local_addr().unwrap().to_string();
    std::thread::spawn(move || while stranger.accept().is_ok() {});
    fixture.configure(|config| config["listen"] = json!(listen));
    let rows = alone(&fixture.cli(&["doctor", "--json"]), "port", "infershield doctor");
    assert!(of_state(&rows, "failed")[0].1.contains("process"), "{rows:?}");
    // Connections to this one wait for ever.
    let silent = TcpListener::bind(FREE).unwrap();
    let listen = silent.local_addr().unwrap().to_string();
    fixture.configure(|config| config["listen"] = json!(listen));
    let begun = Instant::now();
    alone(&fixture.cli(&["doctor", "--json"]), "port", "infershield doctor");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn variables_that_lead_clients_past_the_proxy_are_named_without_their_values() {
    let mut plan = plan("doctor-variables");
    plan.config = json!({"listen": "127.0.0.1:18765"});
    let fixture = healthy(plan);
    let real = fixture.run.secret("sk-real0123456789abcdef");
    let doctor = |name: &str, value: &str| {
        let mut command = fixture.run.infershield(&fixture.home, &["doctor", "--json"]);
        command.env("INFERSHIELD_MASTER_KEY", &fixture.master).env(name, value);
        rows(&fixture.run.start(command).wait())
    };
    for (name, value) in [
        ("OPENAI_API_KEY", real.as_str()),
        ("ANTHROPIC_API_KEY", &real),
        ("ANTHROPIC_AUTH_TOKEN", &real),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1876/v1"),
        ("ANTHROPIC_BASE_URL", "nonsense"),
        ("OPENAI_API_BASE", "http://127.0.0.1.evil.example:18765/v1"),
    ] {
        let rows = doctor(name, value);
        assert!(
            matches!(of_state(&rows, "warning")[..], [("variables", what, typed)] if what.starts_with(name) && typed == "infershield clients"),
            "{rows:?}"
        );
    }
    for (name, value) in [
        ("OPENAI_API_KEY", fixture.key.as_str()),
        ("OPENAI_BASE_URL", "http://127.0.0.1:18765/v1"),
        ("OPENAI_BASE_URL", "http://localhost:18765/practice/v1/"),
        ("OPENAI_API_KEY", ""),
        ("COPILOT_PROVIDER_TYPE", "openai"),
    ] {
        assert!(of_state(&doctor(name, value), "warning").is_empty(), "{name}");
    }
    let mut command = fixture.run.infershield(&fixture.home, &["doctor", "--json"]);
    command.env("INFERSHIELD_MASTER_KEY", &fixture.master).env("ANTHROPIC_BASE_URL", "https://api.anthropic.com");
    command.env("OPENAI_BASE_URL", "https://api.openai.com/v1").env("OPENAI_API_KEY", &real);
    let all = rows(&fixture.run.start(command).wait());
    let named: Vec<&str> =
        of_state(&all, "warning").iter().map(|(_, what, _)| what.split_once(' ').unwrap().0).collect();
    assert_eq!(named, ["ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"], "each of them: {all:?}");
    let logins: Vec<_> = of_state(&all, "ok").into_iter().filter(|(check, ..)| *check == "login").collect();
    assert!(logins.iter().any(|(_, what, _)| what.contains("openai has a key in OPENAI_API_KEY")), "{all:?}");
    let rows = doctor("INFERSHIELD_LISEN", "x");
    assert!(
        matches!(of_state(&rows, "warning")[..], [("config", what, _)] if what.contains("did you mean")),
        "{rows:?}"
    );
}

#[test]
fn online_asks_every_host_once_without_a_credential() {
    let mut fixture = healthy(plan("doctor-online"));
    let rows_up = rows(&fixture.cli(&["doctor", "--online", "--json"]));
    let hosts = of_state(&rows_up, "ok").into_iter().filter(|(check, ..)| *check == "host").count();
    assert_eq!(hosts, 4, "{rows_up:?}");
    assert!(of_state(&rows_up, "failed").is_empty(), "{rows_up:?}");
    let asked = fixture.practice.requests("/");
    assert_eq!(asked.len(), hosts);
    for request in &asked {
        let text = request.to_string().to_lowercase();
        assert!(!text.contains("authorization") && !text.contains("x-api-key"), "{request}");
    }
    fixture.practice.kill();
    let rows_down = rows(&fixture.cli(&["doctor", "--online", "--json"]));
    let down = of_state(&rows_down, "failed");
    assert_eq!(down.len(), hosts, "{rows_down:?}");
    assert!(down.iter().all(|(check, what, _)| *check == "host" && what.contains("cannot reach 127.0.0.1")));
}

/// A moment so many seconds from now, as HTTP writes it.
fn date(seconds: i64) -> String {
    let when = format!("now {seconds:+} seconds");
    let mut command = Command::new("date");
    command.args(["-u", "-d", &when, "+%a, %d %b %Y %H:%M:%S GMT"]).env("LC_ALL", "C");
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn a_clock_that_differs_from_a_providers_is_a_warning() {
    let mut plan = plan("doctor-clock");
    plan.login = Login::Skip;
    let fixture = healthy(plan);
    for (date, far) in [
        (date(0), false),
        (date(-30), false),
        (date(30), false),
        (date(-90), true),
        (date(90), true),
        ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), true),
    ] {
        let reply = format!("HTTP/1.1 404 No\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n");
        let provider = Responder::start(&[reply.into_bytes()]);
        fixture.configure_provider(&json!({"api_base": provider.base}));
        let rows = rows(&fixture.cli(&["doctor", "--online", "--json"]));
        let told = of_state(&rows, if far { "warning" } else { "ok" });
        let clocks: Vec<_> = told.iter().filter(|(check, ..)| *check == "clock").collect();
        assert_eq!(clocks.len(), 1, "{date}: {rows:?}");
        assert_eq!(clocks[0].2, if far { "timedatectl" } else { "" }, "{date}: {rows:?}");
    }
    // What is no date is no clock.
    let reply = b"HTTP/1.1 200 Yes\r\ndate: yesterday, at 5\r\ncontent-length: 0\r\n\r\n".to_vec();
    fixture.configure_provider(&json!({"api_base": Responder::start(&[reply]).base}));
    let rows = rows(&fixture.cli(&["doctor", "--online", "--json"]));
    assert!(rows.iter().all(|row| row["check"] != "clock" && row["state"] != "failed"), "{rows:?}");
}

#[test]
fn an_unknown_issuer_comes_with_the_line_for_config_json() {
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let mut plan = plan("doctor-tls");
    plan.login = Login::Skip;
    let fixture = healthy(plan);
    let server = TlsServer::start("doctor", &["-www"]);
    fixture.configure_provider(&json!({"api_base": server.url()}));
    let certificate = server.certificate().unwrap();
    let doctor = |trusted: bool| {
        let binary = env!("CARGO_BIN_EXE_infershield");
        // In a mount namespace of its own the system trusts what we say.
        let mount = format!("mount --bind {} {}", certificate.display(), bundle.display());
        let script = format!("{}; exec {binary} doctor --online --json", if trusted { &mount } else { "true" });
        let mut command = fixture.run.program(Path::new("unshare"));
        command.args(["--map-root-user", "--mount", "sh", "-ec", &script]);
        command.env("INFERSHIELD_HOME", &fixture.home).env("INFERSHIELD_MASTER_KEY", &fixture.master);
        fixture.run.start(command).wait()
    };
    for (trusted, line) in [(false, r#"put "ca_file": "FILE.pem" into"#), (true, r#"put "roots": "system" into"#)] {
        let rows = alone(&doctor(trusted), "host", "infershield config check");
        let (_, what, _) = of_state(&rows, "failed")[0];
        assert!(what.contains("no trust in localhost") && what.contains(line), "{what}");
    }
    // Both lines are true.
    fixture.configure(|config| config["ca_file"] = json!(certificate));
    assert!(of_state(&rows(&doctor(false)), "failed").is_empty());
    fixture.configure(|config| {
        config.as_object_mut().unwrap().remove("ca_file");
        config["roots"] = json!("system");
    });
    assert!(of_state(&rows(&doctor(true)), "failed").is_empty());
}
