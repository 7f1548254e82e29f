//! `infershield rules`, and rules of the user's own in `rules.d`.

use crate::support::{Done, Fixture, Run, code, say};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

/// A rule for a company's own tokens.
fn rule() -> Value {
    json!({"id": "secret.acme-token", "category": "secret", "severity": "critical", "weight": 90, "keywords": ["acme_"],
        "pattern": ["\\b(acme_[0-9a-f]{16})\\b"], "exact": true,
        "positive": ["key: acme_0123456789abcdef"], "negative": ["acme_0123"]})
}

fn rule_with(member: &str, value: Value) -> Value {
    let mut rule = rule();
    rule[member] = value;
    rule
}

/// A home without keys, in which no command leaves anything.
struct Desk {
    run: Run,
    home: PathBuf,
}

impl Desk {
    fn new(name: &str) -> Self {
        let run = Run::new(name);
        let home = run.home("home");
        fs::create_dir(home.join("rules.d")).unwrap();
        fs::set_permissions(home.join("rules.d"), Permissions::from_mode(0o755)).unwrap();
        Self { run, home }
    }

    fn put(&self, name: &str, rules: &Value) {
        fs::write(self.home.join("rules.d").join(name), rules.to_string()).unwrap();
    }

    fn cli(&self, arguments: &[&str]) -> Done {
        self.run.start(self.run.infershield(&self.home, arguments)).wait()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.cli(arguments);
        serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
    }
}

#[test]
fn every_rule_is_listed_with_where_it_comes_from_and_no_home_is_needed() {
    let run = Run::new("rules-list");
    let none = run.dir.join("none");
    let done = run.start(run.infershield(&none, &["rules", "list", "--json"])).wait();
    let builtin: Vec<Value> = serde_json::from_str(&done.stdout).unwrap();
    assert!(done.code == 0 && !none.exists());
    for rule in &builtin {
        let members: Vec<&String> = rule.as_object().unwrap().keys().collect();
        assert_eq!(members, ["category", "from", "id", "severity", "sources", "weight"]);
        assert!(rule["id"].as_str().unwrap().starts_with(rule["category"].as_str().unwrap()));
        assert_eq!(rule["from"], "built in");
    }
    for category in ["secret", "pii", "injection", "jailbreak", "exfiltration", "command", "obfuscation"] {
        assert!(builtin.iter().any(|rule| rule["category"] == category), "{category}");
    }
    let desk = Desk::new("rules-own");
    desk.put("acme.json", &json!([rule()]));
    desk.put("notes.txt", &json!("no rules"));
    let rows = desk.json(&["rules", "list", "--json"]);
    assert_eq!(rows.as_array().unwrap().len(), builtin.len() + 1);
    let own = rows.as_array().unwrap().last().unwrap();
    assert_eq!(own["id"], "secret.acme-token");
    assert!(own["from"].as_str().unwrap().ends_with("rules.d/acme.json"));
    let text = desk.cli(&["rules", "list"]).stdout;
    assert!(text.lines().last().unwrap().starts_with("secret.acme-token "), "{text}");
    assert!(text.contains("everywhere"));
    assert_eq!(fs::read_dir(&desk.home).unwrap().count(), 1, "nothing is made");
}

#[test]
fn a_rule_is_shown_as_it_stands_in_its_file() {
    let desk = Desk::new("rules-show");
    desk.put("acme.json", &json!([rule()]));
    let mut shown = desk.json(&["rules", "show", "secret.acme-token"]);
    assert_eq!(shown, desk.json(&["rules", "show", "secret.acme-token", "--json"]));
    assert!(shown["from"].as_str().unwrap().ends_with("acme.json"));
    shown.as_object_mut().unwrap().retain(|member, _| member != "from" && member != "sources");
    assert_eq!(shown, rule());
    assert_eq!(desk.json(&["rules", "show", "pii.email"])["category"], "pii");
    let done = desk.cli(&["rules", "show", "pii.emial"]);
    assert!(done.code == 1 && done.stderr.contains("did you mean `pii.email`?"), "{done:?}");
}

#[test]
fn every_built_in_rule_passes_the_check_that_users_rules_pass() {
    let desk = Desk::new("rules-check-all");
    for file in fs::read_dir("src/detect/rules").unwrap() {
        let json = fs::read_to_string(file.unwrap().path()).unwrap();
        let mut rules: Vec<Value> = serde_json::from_str(&json).unwrap();
        for rule in &mut rules {
            rule["id"] = json!(format!("{}-2", rule["id"].as_str().unwrap()));
        }
        fs::write(desk.run.dir.join("again.json"), json!(rules).to_string()).unwrap();
        let done = desk.cli(&["rules", "check", "again.json"]);
        assert_eq!(done.code, 0, "{done:?}");
    }
}

#[test]
fn a_check_tries_the_samples_and_says_which_are_wrong() {
    let desk = Desk::new("rules-samples");
    let check = |rules: Value| {
        fs::write(desk.run.dir.join("new.json"), rules.to_string()).unwrap();
        desk.cli(&["rules", "check", "new.json"])
    };
    let done = check(json!([rule()]));
    assert!(done.code == 0 && done.stdout.starts_with('✓'), "{done:?}");
    let missed = rule_with("positive", json!(["key: acme_0123456789abcdef", "acme_0123456789ABCDEF"]));
    let done = check(json!([missed]));
    assert_eq!((done.code, done.stdout.trim_end()), (1, "secret.acme-token: positive sample 2 is not found"));
    let mistaken = rule_with("negative", json!(["acme_fedcba9876543210"]));
    let done = check(json!([mistaken]));
    assert_eq!((done.code, done.stdout.trim_end()), (1, "secret.acme-token: negative sample 1 is found"));
    fs::write(desk.run.dir.join("new.json"), json!([mistaken]).to_string()).unwrap();
    let said = desk.json(&["rules", "check", "new.json", "--json"]);
    assert_eq!(said, json!({"ok": false, "wrong": ["secret.acme-token: negative sample 1 is found"]}));
    desk.put("acme.json", &json!([rule()]));
    let own = desk.home.join("rules.d/acme.json");
    assert_eq!(desk.cli(&["rules", "check", own.to_str().unwrap()]).code, 0, "where it already lies");
}

#[test]
fn doctor_names_a_file_in_force_whose_samples_are_wrong() {
    let desk = Desk::new("rules-doctor");
    let told = |rules: Value| {
        desk.put("acme.json", &rules);
        let rows = desk.json(&["doctor", "--json"]);
        rows.as_array().unwrap().iter().find(|row| row["check"] == "rules").cloned()
    };
    assert_eq!(told(json!([rule()])), None);
    let row = told(json!([rule_with("negative", json!(["acme_fedcba9876543210"]))])).unwrap();
    let next = row["next"].as_str().unwrap();
    assert!(row["state"] == "warning" && next.ends_with("rules.d/acme.json"), "{row}");
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    assert_eq!(desk.cli(&words).code, 1);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_by_file_rule_and_reason() {
    let desk = Desk::new("rules-bad");
    let id = "rule secret.acme-token is not valid";
    let mut cases: Vec<(String, Vec<&str>)> = [
        (rule_with("weight", json!("heavy")), vec![id, "heavy"]),
        (rule_with("weight", json!(0)), vec![id, "weight is 1 to 100"]),
        (rule_with("category", json!("secrets")), vec![id, "`secrets`"]),
        (rule_with("pattern", json!(["("])), vec![id, "`pattern`"]),
        (rule_with("pattern", json!("text")), vec![id, "expected a sequence"]),
        (rule_with("validator", json!("magic")), vec![id, "`magic`"]),
        (rule_with("sources", json!(["nobody"])), vec![id, "`nobody`"]),
        (rule_with("wieght", json!(1)), vec![id, "`wieght`"]),
        (rule_with("negative", json!([])), vec![id, "negative sample"]),
        (rule_with("keywords", json!(["a"])), vec![id, "keyword"]),
        (rule_with("id", json!("secret.github-token")), vec!["secret.github-token", "`id` is there already"]),
        (rule_with("id", json!("pii.acme")), vec!["pii.acme", "`id`"]),
        (rule_with("id", json!("secret.a\"b")), vec!["`id`"]),
        (rule_with("id", json!(7)), vec!["rule number 1", "expected a string"]),
        (json!(7), vec!["rule number 1"]),
    ]
    .map(|(rule, parts)| (json!([rule]).to_string(), parts))
    .into();
    let mut without = rule();
    without.as_object_mut().unwrap().remove("severity");
    cases.push((json!([without]).to_string(), vec![id, "`severity`"]));
    cases.push((json!([rule(), rule()]).to_string(), vec!["secret.acme-token", "`id` is there already"]));
    cases.push(("{}".into(), vec!["not valid"]));
    cases.push(("[".into(), vec!["line 1"]));
    for (text, parts) in cases {
        fs::write(desk.home.join("rules.d/acme.json"), &text).unwrap();
        fs::write(desk.run.dir.join("new.json"), &text).unwrap();
        let own = desk.home.join("rules.d/acme.json");
        for arguments in [
            &["rules", "check", own.to_str().unwrap()][..],
            &["rules", "list"],
            &["scan", "new.json"],
            &["config", "check"],
        ] {
            let done = desk.cli(arguments);
            assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{text}: {done:?}");
            for part in parts.iter().chain(&["acme.json"]) {
                assert!(done.stderr.contains(part), "{part}: {done:?}");
            }
        }
    }
    assert_eq!(desk.cli(&["serve", "--listen", "127.0.0.1:0"]).code, 2, "nothing starts with it");
}

#[test]
fn rules_that_others_could_write_are_refused() {
    let desk = Desk::new("rules-open");
    desk.put("acme.json", &json!([rule()]));
    let (folder, file) = (desk.home.join("rules.d"), desk.home.join("rules.d/acme.json"));
    for (path, mode) in [(&file, 0o666), (&folder, 0o777)] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let done = desk.cli(&["rules", "list"]);
        assert!(done.code == 5 && done.stderr.contains("type `chmod "), "{done:?}");
        fs::set_permissions(path, before).unwrap();
    }
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(desk.cli(&["rules", "list"]).code, 0, "others may read them");
}

#[test]
fn a_rule_of_the_user_finds_in_scans_and_in_the_proxy() {
    let text = "the key is acme_00ff00ff00ff00ff, keep it";
    let desk = Desk::new("rules-scan");
    desk.put("acme.json", &json!([rule()]));
    fs::write(desk.run.dir.join("text"), text).unwrap();
    let done = desk.cli(&["scan", "text"]);
    assert!(done.code == 1 && done.stdout.contains("text:1: secret.acme-token (secret, redact)"), "{done:?}");

    let mut proxy = Fixture::start("rules-serve");
    let path = "/v1/chat/completions";
    assert_eq!(proxy.post(path, &say(text)).header("x-infershield-verdict"), Some("pass"));
    let policy = proxy.audit().pop().unwrap()["policy"].clone();
    fs::create_dir(proxy.home.join("rules.d")).unwrap();
    fs::set_permissions(proxy.home.join("rules.d"), Permissions::from_mode(0o700)).unwrap();
    let strict = rule_with("category", json!("command"));
    let mut strict = json!([rule(), strict]);
    strict[1]["id"] = json!("command.acme");
    strict[1]["pattern"] = json!(["acme-wipe"]);
    strict[1]["positive"] = json!(["acme_ acme-wipe"]);
    fs::write(proxy.home.join("rules.d/acme.json"), strict.to_string()).unwrap();
    proxy.restart();
    let reply = proxy.post(path, &say(text));
    assert_eq!(reply.header("x-infershield-verdict"), Some("redact"));
    assert_eq!(proxy.line_of(&reply)["findings"][0]["rule"], "secret.acme-token");
    let sent = proxy.practice.requests(path).pop().unwrap()["body"].as_str().unwrap().to_owned();
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert!(!sent["messages"].to_string().contains("acme_00ff"), "{sent}");
    assert_ne!(proxy.line_of(&reply)["policy"], policy, "other rules are another policy");
    let reply = proxy.post(path, &say("do acme_ acme-wipe"));
    assert_eq!(code(path, &reply), "infershield_blocked", "{}", reply.text());
    assert!(reply.text().contains("rule command.acme"), "{}", reply.text());
}

#[test]
fn rules_and_settings_behind_a_link_that_leads_nowhere_are_missed() {
    let desk = Desk::new("rules-link");
    for name in ["rules.d", "config.json"] {
        let link = desk.home.join(name);
        let _ = fs::remove_dir_all(&link);
        symlink(desk.run.dir.join("gone"), &link).unwrap();
        let done = desk.cli(&["rules", "list"]);
        assert!(done.code == 5 && done.stderr.contains(name), "{done:?}");
        fs::remove_file(&link).unwrap();
    }
}
