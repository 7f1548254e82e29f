//! `hosts` is the whole truth: behind a recording TLS-intercepting proxy each built-in provider's commands reach these and no others.

use crate::support::{Fixture, Login, Process, Wire, age, hello};
use infershield::api::Family;
use infershield::flow::Login as Way;
use infershield::flow::provider::table;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A home in an office: every name outside leads to the practice provider, through a proxy that notes who is asked for.
struct Office {
    desk: Fixture,
    proxy: String,
    recorder: Process,
    certificate: PathBuf,
}

impl Office {
    fn start(name: &'static str) -> Self {
        let mut plan = Fixture::plan(name);
        plan.login = Login::Skip;
        plan.settings = json!({"approve": true, "github_expiring": true, "interval": 1});
        let desk = plan.start();
        let ids = table(&[]).unwrap().into_iter().map(|row| row.id);
        let rows: Vec<Value> = ids.map(|id| json!({"id": id, "client_id": "infershield-tests"})).collect();
        desk.configure(|config| {
            config["providers"] = json!(rows);
            config.as_object_mut().unwrap().remove("default_provider");
        });
        let names: BTreeSet<String> = listed(&desk, None).into_iter().collect();
        let names: Vec<String> =
            names.iter().map(|host| format!("DNS:{}", host.trim_start_matches("https://"))).collect();
        let mut certify = desk.run.program("openssl".as_ref());
        certify.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        certify.args(["-subj", "/CN=office", "-addext", &format!("subjectAltName={}", names.join(","))]);
        certify.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"]);
        assert_eq!(desk.run.start(certify).wait().code, 0);
        let mut recorder = desk.run.program(Path::new("python3"));
        recorder.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorder.py"));
        recorder.args(["cert.pem", "key.pem", &desk.practice.addr.to_string()]);
        let recorder = desk.run.start(recorder);
        let proxy = format!("http://127.0.0.1:{}", recorder.line_after("recorder on "));
        let certificate = desk.run.dir.join("cert.pem");
        Self { desk, proxy, recorder, certificate }
    }

    fn trust(&self) {
        self.desk.configure(|config| config["ca_file"] = json!(self.certificate));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.desk.run.infershield(&self.desk.home, arguments);
        command.env("INFERSHIELD_MASTER_KEY", &self.desk.master).env("HTTPS_PROXY", &self.proxy);
        command
    }

    /// The same on a machine whose system trusts the proxy, or does not: in a mount namespace of its own.
    fn on_machine(&self, trusting: bool, arguments: &[&str]) -> Command {
        let mount = format!("mount --bind {} /etc/ssl/certs/ca-certificates.crt", self.certificate.display());
        let binary = env!("CARGO_BIN_EXE_infershield");
        let script = format!("{}; exec {binary} \"$@\"", if trusting { &mount } else { "true" });
        let mut command = self.desk.run.program("unshare".as_ref());
        command.args(["--map-root-user", "--mount", "sh", "-ec", &script, "sh"]).args(arguments);
        command.env("INFERSHIELD_HOME", &self.desk.home).env("INFERSHIELD_MASTER_KEY", &self.desk.master);
        command.env("HTTPS_PROXY", &self.proxy);
        command
    }

    /// Every host that somebody asked the proxy for since the last look.
    fn contacted(&self) -> BTreeSet<String> {
        self.tunnels().into_iter().collect()
    }

    /// The host of each tunnel since the last look.
    fn tunnels(&self) -> Vec<String> {
        // The line of a tunnel of our own is the end of what came before it.
        let port = self.proxy.rsplit(':').next().unwrap().parse().unwrap();
        let mut wire = Wire::connect(([127, 0, 0, 1], port).into());
        wire.send(b"CONNECT end:443 HTTP/1.1\r\n\r\n");
        let lines =
            std::iter::from_fn(|| Some(self.recorder.line_after("CONNECT "))).take_while(|line| line != "end:443");
        lines.map(|line| format!("https://{}", line.trim_end_matches(":443"))).collect()
    }
}

/// What `hosts` says, of one provider or of all; a domain, below which a login or an exchange leads, is no host.
fn listed(desk: &Fixture, provider: Option<&str>) -> BTreeSet<String> {
    let rows: Vec<Value> = serde_json::from_str(&desk.cli(&["hosts", "--json"]).stdout).unwrap();
    let of = rows.iter().filter(|row| provider.is_none_or(|id| row["provider"] == id));
    of.filter_map(|row| row["host"].as_str().map(str::to_owned)).filter(|host| !host.contains('*')).collect()
}

#[test]
fn hosts_are_exactly_those_that_every_providers_commands_contact() {
    let office = Office::start("hosts");
    office.trust();
    let serve = office.desk.run.start(office.command(&["serve", "--listen", "127.0.0.1:0"]));
    let addr = serve.line_after("infershield listening on http://").parse().unwrap();
    let bearer = format!("Bearer {}", office.desk.key);
    for row in table(&[]).unwrap() {
        let id = row.id.as_str();
        let ways = match row.login {
            Way::Device => &["--no-browser"][..],
            Way::Chatgpt => &["--chatgpt", "--with-key"],
            Way::Key | Way::None => &["--with-key"],
        };
        for way in ways {
            let practice = &office.desk.practice;
            let tokens = json!({"access_token": office.desk.run.random_secret(),
                "refresh_token": office.desk.run.random_secret(), "expires_in": 7200});
            if *way == "--chatgpt" {
                practice.recorded("/api/accounts/deviceauth/usercode", "openai", "code");
                practice.recorded("/api/accounts/deviceauth/token", "openai", "approved");
                practice.answer("/oauth/token", 200, &tokens.to_string());
            }
            let mut login = office.desk.run.start(office.command(&["auth", "login", id, way, "--json"]));
            login.type_in(&format!("{}\n", office.desk.run.random_secret()));
            let done = login.wait();
            assert_eq!(done.code, 0, "{id} {way}: {done:?}");
            // What is due is refreshed before it is used.
            let aged = office.desk.store().update("local", id, &mut |record| age(record, 7200));
            assert!(aged.unwrap());
            if *way == "--chatgpt" {
                practice.answer("/oauth/token", 200, &tokens.to_string());
            }
            for family in &row.apis {
                for stream in [false, true] {
                    let mut body = hello();
                    body["stream"] = json!(stream);
                    body["store"] = json!(false);
                    body["instructions"] = json!("");
                    let (method, body) = match *family {
                        Family::Models => ("GET", String::new()),
                        _ => ("POST", body.to_string()),
                    };
                    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                    let target = format!("/{id}{}", family.path());
                    let reply = Wire::call(addr, method, &target, &headers, body.as_bytes());
                    assert_ne!(reply.status, 502, "{target}: {}", reply.text());
                }
            }
            office.desk.run.start(office.command(&["auth", "logout", id, "--revoke"])).wait();
        }
        assert_eq!(office.contacted(), listed(&office.desk, Some(id)), "{id}");
    }
    for quiet in [&["hosts"][..], &["doctor"], &["auth", "status"], &["config", "show"], &["audit", "verify"]] {
        office.desk.run.start(office.command(quiet)).wait();
    }
    assert!(office.contacted().is_empty());
}

#[test]
fn an_intercepting_proxy_without_its_ca_comes_with_the_line_for_config_json() {
    let office = Office::start("intercepted");
    let online = || office.desk.run.start(office.command(&["doctor", "--online", "--json"])).wait();
    let done = online();
    assert_eq!(done.code, 1);
    let rows: Vec<Value> = serde_json::from_str(&done.stdout).unwrap();
    let hosts: Vec<_> = rows.iter().filter(|row| row["check"] == "host").collect();
    assert_eq!(hosts.len(), listed(&office.desk, None).len());
    for row in hosts {
        let what = row["what"].as_str().unwrap();
        assert!(what.contains("no trust in") && what.contains(r#"put "ca_file": "FILE.pem" into"#), "{what}");
    }
    office.trust();
    let done = online();
    let rows: Vec<Value> = serde_json::from_str(&done.stdout).unwrap();
    assert!(rows.iter().all(|row| row["state"] != "failed"), "{rows:?}");
    let network = rows.iter().find(|row| row["check"] == "network").unwrap()["what"].as_str().unwrap();
    assert!(network.contains(&office.proxy) && network.contains("cert.pem"), "{network}");
    let mut direct = office.command(&["doctor", "--json"]);
    direct.env("NO_PROXY", "github.com");
    assert!(office.desk.run.start(direct).wait().stdout.contains(r#"github.com\" ($NO_PROXY)"#));
}

#[test]
fn every_error_without_the_ca_says_what_the_system_thinks_and_the_line_for_config_json() {
    let office = Office::start("untrusted");
    let desk = &office.desk;
    office.trust();
    let start = |trusting: bool, arguments: &[&str]| desk.run.start(office.on_machine(trusting, arguments));
    let mut key = start(false, &["auth", "login", "openai", "--with-key"]);
    key.type_in(&format!("{}\n", desk.run.random_secret()));
    assert_eq!(key.wait().code, 0);
    assert_eq!(start(false, &["auth", "login", "github", "--no-browser"]).wait().code, 0);
    desk.configure(|config| drop(config.as_object_mut().unwrap().remove("ca_file")));
    assert!(desk.store().update("local", "github", &mut |record| age(record, 100_000)).unwrap());
    let bearer = format!("Bearer {}", desk.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    office.tunnels();
    for (trusting, verdict) in [
        (true, r#"The system accepts it: put "roots": "system" into config.json; type `infershield config check`"#),
        (false, r#"The system does not: put "ca_file": "FILE.pem" into config.json; type `infershield config check`"#),
    ] {
        let is_told = |text: &str, host: &str| {
            assert!(text.contains(&format!("no trust in {host}: ")) && text.contains(verdict), "{text}");
            // The call that failed, and one more for the verdict.
            assert_eq!(office.tunnels(), [format!("https://{host}"), format!("https://{host}")]);
        };
        let done = start(trusting, &["auth", "login", "github", "--no-browser"]).wait();
        assert_eq!(done.code, 3);
        is_told(&done.stderr, "github.com");
        let serve = start(trusting, &["serve", "--listen", "127.0.0.1:0"]);
        let addr = serve.line_after("infershield listening on http://").parse().unwrap();
        let post = |target: &str| {
            let reply = Wire::call(addr, "POST", target, &headers, hello().to_string().as_bytes());
            let error: Value = serde_json::from_slice(&reply.body).unwrap();
            (reply.status, error["error"]["message"].as_str().unwrap().to_owned())
        };
        let (status, message) = post("/openai/v1/chat/completions");
        assert_eq!(status, 502, "{message}");
        is_told(&message, "api.openai.com");
        let (status, message) = post("/github/v1/chat/completions");
        assert_eq!(status, 503, "{message}");
        is_told(&message, "github.com");
    }
    assert_eq!(desk.practice.count("GET /"), 0, "the one more is a handshake and nothing else");
    // With the line it works, on the machine that it was said on.
    desk.configure(|config| config["roots"] = json!("system"));
    assert_eq!(start(true, &["auth", "login", "github", "--no-browser"]).wait().code, 0);
}

#[test]
fn hosts_also_says_what_else_decides_the_way_and_who_is_trusted() {
    let mut plan = Fixture::plan("hosts-settings");
    (plan.login, plan.serve) = (Login::Skip, &[]);
    let desk = plan.start();
    let plain: Vec<Value> = serde_json::from_str(&desk.cli(&["hosts", "--json"]).stdout).unwrap();
    assert!(plain.iter().all(|row| row["host"].is_string() && row["provider"].is_string()), "{plain:?}");
    let [shared, own, bundle] = ["shared.pem", "own.pem", "bundle.pem"].map(|name| json!(desk.run.dir.join(name)));
    desk.configure(|config| {
        config["ca_file"] = shared.clone();
        config["roots"] = json!("system");
        config["providers"].as_array_mut().unwrap().push(json!({"id": "anthropic", "ca_file": own}));
    });
    let hosts = |arguments: &[&str]| {
        let mut command = desk.run.infershield(&desk.home, arguments);
        command.env("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128").env("NO_PROXY", "a.example,.b.example");
        command.env("INFERSHIELD_MASTER_KEY", &desk.master).env("SSL_CERT_FILE", bundle.as_str().unwrap());
        desk.run.start(command)
    };
    let rows: Vec<Value> = serde_json::from_str(&hosts(&["hosts", "--json"]).wait().stdout).unwrap();
    let (before, after) = rows.split_at(plain.len() + 1);
    assert_eq!(before[..plain.len()], plain);
    assert_eq!(before[plain.len()], json!({"host": "…@proxy.example:3128", "provider": "https_proxy"}));
    let set = |setting: &str, value: &Value| json!({"setting": setting, "value": value, "provider": null});
    let no_proxy = json!("a.example,.b.example");
    let mut expected = vec![set("ca_file", &shared), set("no_proxy", &no_proxy), set("roots", &json!("system"))];
    expected.push(set("ssl_cert_file", &bundle));
    expected.push(json!({"setting": "ca_file", "value": own, "provider": "anthropic"}));
    assert_eq!(after, expected);
    let lines = hosts(&["hosts"]).wait().stdout;
    let network = hosts(&["doctor"]).wait().stdout;
    let network = network.lines().find(|line| line.contains(" network: ")).unwrap();
    for (value, setting) in [
        (&shared, "ca_file (config.json)"),
        (&no_proxy, "no_proxy ($NO_PROXY)"),
        (&json!("system"), "roots (config.json)"),
        (&bundle, "ssl_cert_file ($SSL_CERT_FILE)"),
        (&own, "ca_file (anthropic)"),
    ] {
        let line = lines.lines().find(|line| line.starts_with(&format!("{} ", value.as_str().unwrap())));
        assert!(line.is_some_and(|line| line.ends_with(&format!("  {setting}"))), "{lines}");
        let (name, origin) = setting.split_once(' ').unwrap();
        assert!(network.contains(&format!("{name} {value} {origin}")), "{network}");
    }
    assert_eq!(lines.lines().count(), rows.len());
}
