//! A whole installation: provider, home, login, local key, running proxy.

use super::practice::Practice;
use super::process::{Done, Process};
use super::run::Run;
use super::wire::{Reply, Wire};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The lowest number of rounds that is allowed: tests start many processes.
const ITERATIONS: u32 = 100_000;

/// How the home is logged in at the provider.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Device flow.
    Device,
    /// An API key on standard input.
    Key,
    /// Not at all.
    Skip,
}

/// What to build; change the fields, then [`Plan::start`].
pub struct Plan {
    pub name: &'static str,
    pub login: Login,
    /// Settings of the practice provider.
    pub settings: Value,
    /// Members that replace those of the whole `config.json`.
    pub config: Value,
    /// Members that replace those of the provider's row.
    pub provider: Value,
    /// Further arguments of `serve`.
    pub serve: &'static [&'static str],
}

/// Everything running.
pub struct Fixture {
    pub run: Run,
    pub practice: Practice,
    pub home: PathBuf,
    /// The master key, given in the environment.
    pub master: String,
    /// A local key.
    pub key: String,
    /// `infershield serve` and where it listens.
    pub serve: Process,
    pub addr: SocketAddr,
    serve_arguments: Vec<&'static str>,
}

impl Fixture {
    /// The usual one: device login, default policy.
    pub fn start(name: &'static str) -> Self {
        Self::plan(name).start()
    }

    pub fn plan(name: &'static str) -> Plan {
        Plan { name, login: Login::Device, settings: json!({}), config: json!({}), provider: json!({}), serve: &[] }
    }

    /// Runs a command in this home to its end.
    pub fn cli(&self, arguments: &[&str]) -> Done {
        cli(&self.run, &self.home, &self.master, arguments).wait()
    }

    /// The same, with something on standard input.
    pub fn cli_typing(&self, arguments: &[&str], text: &str) -> Done {
        let mut process = cli(&self.run, &self.home, &self.master, arguments);
        process.type_in(text);
        process.wait()
    }

    /// The same, not waited for.
    pub fn cli_start(&self, arguments: &[&str]) -> Process {
        cli(&self.run, &self.home, &self.master, arguments)
    }

    pub fn connect(&self) -> Wire {
        Wire::connect(self.addr)
    }

    /// A POST of JSON with the local key, and its whole reply.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// The same with any bytes.
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Reply {
        let bearer = format!("Bearer {}", self.key);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        Wire::call(self.addr, "POST", path, &headers, body)
    }

    /// A GET with the local key.
    pub fn fetch(&self, path: &str) -> Reply {
        let bearer = format!("Bearer {}", self.key);
        Wire::call(self.addr, "GET", path, &[("authorization", &bearer)], b"")
    }

    /// Every audit line, oldest first.
    pub fn audit(&self) -> Vec<Value> {
        let folder = fs::read_dir(self.home.join("audit")).unwrap();
        let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
        files.sort();
        let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The audit lines of one action.
    pub fn audit_of(&self, action: &str) -> Vec<Value> {
        let mut lines = self.audit();
        lines.retain(|line| line["action"] == action);
        lines
    }

    /// Ends the proxy (SIGKILL) and starts it again; `addr` changes.
    pub fn restart(&mut self) {
        self.serve.kill();
        (self.serve, self.addr) = serve(&self.run, &self.home, &self.master, &self.serve_arguments);
    }
}

impl Plan {
    pub fn start(self) -> Fixture {
        let run = Run::new(self.name);
        let provider_key = run.random_secret();
        let practice = Practice::start(&run, &self.settings, &[&provider_key]);
        let home = run.home("home");
        let master = run.random_secret();
        let config = self.config(&practice.origin);
        fs::write(home.join("config.json"), config.to_string()).unwrap();
        match self.login {
            Login::Device => log_in(&run, &home, &master, &practice),
            Login::Key => {
                let arguments = ["auth", "login", "practice", "--with-key", "--json"];
                let mut login = cli(&run, &home, &master, &arguments);
                login.type_in(&format!("{provider_key}\n"));
                let done = login.wait();
                assert_eq!(done.code, 0, "{done:?}");
            }
            Login::Skip => {}
        }
        let done = cli(&run, &home, &master, &["key", "create", "--name", "test", "--json"]).wait();
        assert_eq!(done.code, 0, "{}", done.stderr);
        let key: Value = serde_json::from_str(&done.stdout).unwrap();
        let key = run.secret(key["key"].as_str().unwrap());
        let serve_arguments = [&["serve", "--listen", "127.0.0.1:0"], self.serve].concat();
        let (serve, addr) = serve(&run, &home, &master, &serve_arguments);
        Fixture { run, practice, home, master, key, serve, addr, serve_arguments }
    }

    fn config(&self, origin: &str) -> Value {
        let login = match self.login {
            Login::Key => "key",
            Login::Device | Login::Skip => "device",
        };
        let mut provider = json!({
            "id": "practice",
            "title": "Practice provider",
            "login": login,
            "api_base": format!("{origin}/v1"),
            "auth_header": "authorization",
            "apis": ["chat", "responses", "messages", "completions", "embeddings", "models"],
        });
        if login == "device" {
            provider["issuer"] = json!(origin);
            provider["client_id"] = json!("infershield-tests");
            provider["scopes"] = json!(["openid", "offline_access"]);
        }
        replace(&mut provider, &self.provider);
        let mut config = json!({
            "default_provider": "practice",
            "limits": {"pbkdf2_iterations": ITERATIONS},
            "providers": [provider],
        });
        replace(&mut config, &self.config);
        config
    }
}

/// A whole device login, the person included.
fn log_in(run: &Run, home: &std::path::Path, master: &str, practice: &Practice) {
    let arguments = ["auth", "login", "practice", "--no-browser", "--json"];
    let login = cli(run, home, master, &arguments);
    let event: Value = serde_json::from_str(&login.line()).unwrap();
    assert_eq!(event["event"], "code");
    practice.approve(event["user_code"].as_str().unwrap());
    let done = login.wait();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("\"authenticated\""), "{done:?}");
}

fn cli(run: &Run, home: &std::path::Path, master: &str, arguments: &[&str]) -> Process {
    let mut command = run.infershield(home, arguments);
    command.env("INFERSHIELD_MASTER_KEY", master);
    run.start(command)
}

fn serve(run: &Run, home: &std::path::Path, master: &str, arguments: &[&str]) -> (Process, SocketAddr) {
    let process = cli(run, home, master, arguments);
    let addr = process.line_after("infershield listening on http://").parse().unwrap();
    (process, addr)
}

/// Members of `changes` take the place of those of `object`.
fn replace(object: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
}
