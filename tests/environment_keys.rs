//! API keys from the environment: they count where nothing is stored, and are never written down.

use crate::support::{Done, Fixture, Process, Reply, Wire, header, hello};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// A home without a login, both of whose providers are the practice provider.
fn newcomer(name: &'static str) -> Fixture {
    let desk = Fixture::with_row(name, &json!({"id": "openai", "api_base": "BASE/v1"}));
    let row = json!({"id": "anthropic", "api_base": format!("{}/v1", desk.practice.origin)});
    desk.configure(|config| config["providers"].as_array_mut().unwrap().push(row));
    desk
}

/// A command with variables.
fn start(desk: &Fixture, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = desk.run.infershield(&desk.home, arguments);
    command.env("INFERSHIELD_MASTER_KEY", &desk.master).envs(variables.iter().copied());
    desk.run.start(command)
}

fn serve(desk: &Fixture, variables: &[(&str, &str)]) -> (Process, SocketAddr) {
    let serve = start(desk, &["serve", "--listen", "127.0.0.1:0"], variables);
    let addr = serve.line_after("infershield listening on http://").parse().unwrap();
    (serve, addr)
}

fn ask(desk: &Fixture, addr: SocketAddr, path: &str) -> Reply {
    desk.practice.answer(path, 200, "{}");
    let headers = [("authorization", desk.bearer())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    Wire::call(addr, "POST", path, &headers, hello().to_string().as_bytes())
}

fn rows(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn a_key_in_the_environment_is_a_login_that_stands_nowhere_else() {
    let desk = newcomer("environment-key");
    let (openai, anthropic) = (desk.run.random_secret(), desk.run.random_secret());
    let variables = [("OPENAI_API_KEY", openai.as_str()), ("ANTHROPIC_API_KEY", &anthropic)];
    let done = start(&desk, &["auth", "status", "--json"], &variables).wait();
    let row = |provider: &str, source: &str| {
        json!({"user_id": "local", "provider": provider, "account": null, "state": "valid", "expires_at": null, "last_used": null,
            "refreshable": false, "source": source, "repair": null})
    };
    assert_eq!(rows(&done), json!([row("openai", "OPENAI_API_KEY"), row("anthropic", "ANTHROPIC_API_KEY")]));
    assert_eq!(done.code, 0);
    assert!(start(&desk, &["auth", "status"], &variables).wait().stdout.contains("key in OPENAI_API_KEY"));

    let (_serve, addr) = serve(&desk, &variables);
    assert_eq!(ask(&desk, addr, CHAT).status, 200);
    assert_eq!(header(&desk.practice.last(CHAT), "authorization").unwrap(), format!("Bearer {openai}"));
    assert_eq!(ask(&desk, addr, MESSAGES).status, 200, "messages go to anthropic when logged in there");
    assert_eq!(header(&desk.practice.last(MESSAGES), "x-api-key"), Some(anthropic.as_str()));
    assert!(!desk.home.join("tokens.json").exists(), "and the leak test looks through everything else");
    assert_eq!(start(&desk, &["auth", "logout", "openai"], &variables).wait().code, 1, "there is nothing to forget");
}

#[test]
fn a_stored_login_comes_first_and_other_users_have_no_part_in_it() {
    let desk = newcomer("environment-second");
    let (stored, given) = (desk.run.random_secret(), desk.run.random_secret());
    assert_eq!(desk.cli_typing(&["auth", "login", "openai", "--with-key"], &stored).code, 0);
    let variables = [("OPENAI_API_KEY", given.as_str())];
    let before = fs::read(desk.home.join("tokens.json")).unwrap();
    let (_serve, addr) = serve(&desk, &variables);
    assert_eq!(ask(&desk, addr, CHAT).status, 200);
    assert_eq!(header(&desk.practice.last(CHAT), "authorization").unwrap(), format!("Bearer {stored}"));
    assert_eq!(rows(&start(&desk, &["auth", "status", "--json"], &variables).wait())[0]["source"], "login");

    assert_eq!(rows(&start(&desk, &["auth", "status", "--json", "--user", "bob"], &variables).wait()), json!([]));
    assert_eq!(fs::read(desk.home.join("tokens.json")).unwrap(), before);
    assert_eq!(desk.cli(&["auth", "logout", "openai"]).code, 0);
    assert_eq!(ask(&desk, addr, CHAT).status, 200, "what is stored no longer hides it");
    assert_eq!(header(&desk.practice.last(CHAT), "authorization").unwrap(), format!("Bearer {given}"));
}

#[test]
fn a_key_of_ours_in_the_environment_is_not_taken_for_the_provider_s() {
    // `eval "$(infershield env openai)"` in the shell that starts `serve`.
    let desk = newcomer("environment-ours");
    for value in [desk.key.as_str(), ""] {
        let (_serve, addr) = serve(&desk, &[("OPENAI_API_KEY", value)]);
        assert_eq!(ask(&desk, addr, CHAT).status, 400);
    }
    assert_eq!(desk.practice.requests(CHAT).len(), 0);
}

#[test]
fn what_copying_leaves_around_a_key_is_taken_off_and_what_is_inside_it_is_an_error() {
    let desk = newcomer("environment-blanks");
    let key = desk.run.random_secret();
    for value in [format!("{key}\n"), format!("  {key}\r\n")] {
        let (_serve, addr) = serve(&desk, &[("OPENAI_API_KEY", &value)]);
        assert_eq!(ask(&desk, addr, CHAT).status, 200, "{value:?}");
        assert_eq!(header(&desk.practice.last(CHAT), "authorization").unwrap(), format!("Bearer {key}"));
    }
    let none = start(&desk, &["auth", "status", "--json"], &[("OPENAI_API_KEY", " \n")]).wait();
    assert_eq!((rows(&none), none.code), (json!([]), 1), "blanks alone are no key");

    let torn = [format!("{key} {key}"), format!("{key}\n{key}"), format!("{key}\u{7}x")];
    for value in torn.into_iter().chain([format!("\u{feff}{key}"), format!("{key}\u{f6}"), format!("'{key}'")]) {
        for command in [&["auth", "status"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let done = start(&desk, command, &[("OPENAI_API_KEY", &value)]).wait();
            assert_ne!(done.code, 0, "{done:?}");
            let words = ["$OPENAI_API_KEY holds a sign that no request can carry", "`unset OPENAI_API_KEY`"];
            assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:?}");
        }
        let done = start(&desk, &["doctor"], &[("OPENAI_API_KEY", &value)]).wait();
        assert!(done.stdout.contains("✗ login: $OPENAI_API_KEY holds a sign"), "{done:?}");
    }
}
