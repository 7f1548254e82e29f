//! Against a real OpenID server, which is not ours: login by device flow, rotation, a stolen refresh token, revocation.
//! `make test-peers`; the variable `PEERS` names the folder that holds the servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(missing_docs, unreachable_pub, reason = "the name of a test is its documentation")]

mod support;

use infershield::store::{Record, State};
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use support::{Done, Process, Reply, Run, USER, Wire, age, store};

/// Life of an access token at the server, in seconds: long enough for a test, more than twice the margin of a refresh.
const TOKEN_SECONDS: u64 = 900;
const MODELS: &str = "/v1/models";

/// The OpenID server of the peers, on a port and in a folder of its own.
struct OpenId {
    folder: PathBuf,
    state: PathBuf,
    addr: SocketAddr,
    issuer: String,
}

impl OpenId {
    fn start(run: &Run) -> Self {
        let peers = std::env::var_os("PEERS").expect("PEERS names the folder of the peers: type `make test-peers`");
        let folder = fs::canonicalize(peers).expect("the folder that PEERS names").join("oidc");
        let state = run.dir.join("peers");
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let started = Command::new(folder.join("start.sh"))
            .env("PEERS_RUN", &state)
            .env("OIDC_PORT", addr.port().to_string())
            .env("ACCESS_TTL", TOKEN_SECONDS.to_string())
            .stdout(Stdio::null())
            .status();
        assert!(started.unwrap().success(), "the OpenID server starts");
        Self { folder, state, addr, issuer: format!("http://{addr}") }
    }

    /// What a person does in a browser: `approve`, `deny` or `cancel`.
    fn person(&self, what: &str, code: &str) {
        let mut command = Command::new("node");
        command.arg(self.folder.join("human.mjs")).args([what, &self.issuer, code]).stdout(Stdio::null());
        if what == "approve" {
            command.arg("alice");
        }
        assert!(command.status().unwrap().success(), "{what}");
    }

    /// How often the token endpoint was asked so and answered so.
    fn count(&self, name: &str) -> u64 {
        Wire::call(self.addr, "GET", "/_test/stats", &[], b"").json()[name].as_u64().unwrap_or(0)
    }

    /// Makes the next token requests fail or wait.
    fn fail(&self, fault: &Value) {
        let mut fault = fault.clone();
        fault["path"] = json!("/token");
        Wire::call(self.addr, "POST", "/_test/fail", &[], json!([fault]).to_string().as_bytes());
    }

    /// A refresh by somebody who has only the token: no code of ours is involved.
    fn refresh_as_a_thief(&self, token: &str) -> Reply {
        let form = format!("grant_type=refresh_token&client_id=infershield-cli&refresh_token={token}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        Wire::call(self.addr, "POST", "/token", &headers, form.as_bytes())
    }
}

impl Drop for OpenId {
    fn drop(&mut self) {
        let stopped = Command::new(self.folder.join("stop.sh")).arg("--wipe").env("PEERS_RUN", &self.state).status();
        assert!(stopped.is_ok_and(|status| status.success()) || thread::panicking());
    }
}

/// An API that takes whatever token the OpenID server says is good.
fn api(issuer: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve_models(&stream.unwrap(), issuer));
        }
    });
    addr
}

/// Answers one request for the list of models, and closes.
fn serve_models(mut stream: &std::net::TcpStream, issuer: SocketAddr) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let token = head.iter().find_map(|line| line.to_lowercase().starts_with("authorization: ").then(|| &line[15..]));
    let known = Wire::call(issuer, "GET", "/me", &[("authorization", token.unwrap_or_default())], b"").status == 200;
    let (status, body) = if known { ("200 OK", r#"{"data":[]}"#) } else { ("401 Unauthorized", "{}") };
    let reply = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // Whoever asked may have left.
    let _ = stream.write_all(reply.as_bytes());
}

/// A home, logged in at the OpenID server, and a running proxy.
struct Desk {
    run: Run,
    server: OpenId,
    home: PathBuf,
    master: String,
    key: String,
    addr: SocketAddr,
    _serve: Process,
}

impl Desk {
    fn start(name: &str) -> Self {
        let run = Run::new(name);
        let server = OpenId::start(&run);
        let (home, master) = (run.home("home"), run.random_secret());
        let config = json!({"default_provider": "corp", "limits": {"pbkdf2_iterations": 100_000}, "providers": [{
            "id": "corp", "login": "device", "issuer": server.issuer, "client_id": "infershield-cli",
            "scopes": ["openid", "offline_access", "email"],
            "api_base": format!("http://{}/v1", api(server.addr)), "apis": ["models"]}]});
        fs::write(home.join("config.json"), config.to_string()).unwrap();
        let done = log_in(&run, &home, &master, &server, "approve");
        assert_eq!(done.code, 0, "{done:?}");
        let event: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((&event["event"], &event["account"]), (&json!("authenticated"), &json!("alice@example.com")));
        let done = cli(&run, &home, &master, &["key", "create", "--json"]).wait();
        let key: Value = serde_json::from_str(&done.stdout).unwrap();
        let key = run.secret(key["key"].as_str().unwrap());
        let (serve, addr) = proxy(&run, &home, &master);
        let desk = Self { run, server, home, master, key, addr, _serve: serve };
        desk.refresh_token();
        desk
    }

    fn cli(&self, arguments: &[&str]) -> Done {
        cli(&self.run, &self.home, &self.master, arguments).wait()
    }

    fn ask(&self) -> Reply {
        ask(self.addr, &self.key)
    }

    fn record(&self) -> Record {
        store(&self.home, &self.master).record(USER, "corp").unwrap().unwrap()
    }

    /// The refresh token in force; both tokens are registered as secrets.
    fn refresh_token(&self) -> String {
        let record = self.record();
        self.run.secret(record.access_token.expose());
        self.run.secret(record.refresh_token.unwrap().expose())
    }

    /// Makes the login so old that its token must be refreshed; it stays good at the server.
    fn age(&self) {
        let aged = store(&self.home, &self.master).update(USER, "corp", &mut |record| age(record, TOKEN_SECONDS - 100));
        assert!(aged.unwrap());
    }

    fn assert_dead(&self) {
        let reply = self.ask();
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["code"]), (400, &json!("infershield_login_needed")));
        assert!(error["message"].as_str().unwrap().contains("`infershield auth login corp`"), "{error}");
        assert_eq!(self.record().state, State::Dead);
        let done = self.cli(&["auth", "status", "--json"]);
        let rows: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((&rows[0]["state"], &rows[0]["repair"]), (&json!("dead"), &json!("infershield auth login corp")));
        assert_eq!(done.code, 1);
    }
}

fn cli(run: &Run, home: &Path, master: &str, arguments: &[&str]) -> Process {
    let mut command = run.infershield(home, arguments);
    command.env("INFERSHIELD_MASTER_KEY", master);
    run.start(command)
}

fn proxy(run: &Run, home: &Path, master: &str) -> (Process, SocketAddr) {
    let serve = cli(run, home, master, &["serve", "--listen", "127.0.0.1:0"]);
    let addr = serve.line_after("infershield listening on http://").parse().unwrap();
    (serve, addr)
}

fn ask(proxy: SocketAddr, key: &str) -> Reply {
    Wire::call(proxy, "GET", MODELS, &[("x-api-key", key)], b"")
}

/// A login to its end, which a person decides.
fn log_in(run: &Run, home: &Path, master: &str, server: &OpenId, person: &str) -> Done {
    let login = cli(run, home, master, &["auth", "login", "corp", "--no-browser", "--json"]);
    let event: Value = serde_json::from_str(&login.line()).unwrap();
    server.person(person, event["user_code"].as_str().unwrap());
    login.wait()
}

#[test]
fn a_login_rotates_its_tokens_and_ends_with_their_revocation() {
    let desk = Desk::start("oidc-life");
    assert_eq!(desk.ask().status, 200);
    let mut tokens = vec![desk.refresh_token()];
    for count in 1..=2 {
        desk.age();
        assert_eq!(desk.ask().status, 200);
        assert_eq!(desk.server.count("refresh_token ok"), count);
        tokens.push(desk.refresh_token());
    }
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2], "each refresh brings another refresh token");
    let bearer = format!("Bearer {}", desk.record().access_token.expose());
    let me = || Wire::call(desk.server.addr, "GET", "/me", &[("authorization", &bearer)], b"").status;
    assert_eq!(me(), 200);

    let done = desk.cli(&["auth", "logout", "corp"]);
    assert_eq!(done.stdout, "✓ Token revoked. Re-authenticate to continue.\n", "{done:?}");
    assert_eq!(desk.server.count("revocation 200"), 1);
    assert_eq!(me(), 401, "the access token went with it");
    assert_eq!(desk.server.refresh_as_a_thief(&tokens[2]).json()["error"], "invalid_grant");
    assert_eq!(desk.ask().status, 400, "the running proxy has heard of it");
    assert_eq!(desk.cli(&["audit", "verify"]).code, 0);
}

#[test]
fn a_person_s_no_ends_the_login() {
    let desk = Desk::start("oidc-no");
    let before = fs::read(desk.home.join("tokens.json")).unwrap();
    for person in ["deny", "cancel"] {
        let done = log_in(&desk.run, &desk.home, &desk.master, &desk.server, person);
        assert_eq!(done.code, 1, "{person}: {done:?}");
        assert!(done.stdout.contains("\"failed\""), "{person}: {done:?}");
    }
    assert_eq!(fs::read(desk.home.join("tokens.json")).unwrap(), before, "the login from before is untouched");
}

#[test]
fn a_stolen_token_that_is_replayed_ends_the_login_for_both_and_a_new_one_heals_it() {
    let desk = Desk::start("oidc-replay");
    let stolen = desk.refresh_token();
    desk.age();
    assert_eq!(desk.ask().status, 200);
    desk.refresh_token();

    let reply = desk.server.refresh_as_a_thief(&stolen);
    assert_eq!(reply.json()["error"], "invalid_grant", "the server sees that it was used before, and ends the grant");
    desk.assert_dead();
    let asked = desk.server.count("refresh_token invalid_grant");
    for _ in 0..3 {
        desk.assert_dead();
    }
    assert_eq!(desk.server.count("refresh_token invalid_grant"), asked, "the server is not asked again and again");
    assert_eq!(asked, 2, "once by the thief, once by us");

    let done = log_in(&desk.run, &desk.home, &desk.master, &desk.server, "approve");
    assert_eq!(done.code, 0, "{done:?}");
    desk.refresh_token();
    assert_eq!(desk.ask().status, 200, "the running proxy uses the new login at once");
}

#[test]
fn a_thief_who_is_faster_than_we_is_found_out_too() {
    let desk = Desk::start("oidc-thief-first");
    let reply = desk.server.refresh_as_a_thief(&desk.refresh_token());
    assert_eq!(reply.status, 200, "nobody can tell yet");
    let stolen = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    desk.age();
    desk.assert_dead();
    assert_eq!(desk.server.refresh_as_a_thief(&stolen).json()["error"], "invalid_grant", "and has nothing of it");
}

#[test]
fn two_proxies_refresh_once() {
    let desk = Desk::start("oidc-two");
    let (_other, other) = proxy(&desk.run, &desk.home, &desk.master);
    desk.age();
    // While the server thinks, all of them need the token.
    desk.server.fail(&json!({"delay_ms": 500, "times": 1}));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let key = &desk.key;
        let addresses = [desk.addr, other].repeat(4).into_iter();
        let calls: Vec<_> = addresses.map(|addr| scope.spawn(move || ask(addr, key).status)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 8]);
    assert_eq!(desk.server.count("refresh_token ok"), 1);
    desk.refresh_token();
}

#[test]
fn an_outage_of_the_server_costs_no_login() {
    let desk = Desk::start("oidc-outage");
    desk.age();
    desk.server.fail(&json!({"status": 503, "times": 1}));
    assert_eq!(desk.ask().status, 200, "with the token that has not expired yet");
    assert_eq!(desk.record().state, State::Valid);
}
