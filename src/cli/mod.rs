//! The command line: parse it into an action, do it, map every result to a line and an exit code.
//! Must never decide anything that the modules below can decide.

mod allow;
mod args;
mod audit;
mod auth;
mod context;
mod doctor;
mod exec;
mod key;
mod rules;
mod scan;
mod serve;
mod settings;
mod sidecar;
mod terminal;

use crate::config::{self, did_you_mean};
use crate::{flow, session, store, upstream};
use args::{Action, Args, Command, command};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{error::Error, ffi::OsString, fmt::Display, process::ExitCode};

/// Longest word that an error repeats, in bytes: names are shorter, keys that were pasted into the wrong place are longer.
const LONGEST_REPEATED: usize = 24;

// Help that several commands share.
const WHOLE: &str = include_str!("help/infershield.txt");
const AUTH: &str = include_str!("help/auth.txt");
const ENV: &str = include_str!("help/env.txt");
const KEY: &str = include_str!("help/key.txt");
const ALLOW: &str = include_str!("help/allow.txt");
const RULES: &str = include_str!("help/rules.txt");
const AUDIT: &str = include_str!("help/audit.txt");
const CONFIG: &str = include_str!("help/config.txt");

/// The last five are for `exec` alone.
const SERVE_FLAGS: &str = "listen= monitor verbose insecure-plain-http tied-to= provider= audit= fail-on= passing";

/// Every command of this build: its name, its help, how many words follow it, its flags (`=`: with a value), and what does it.
static COMMANDS: [Command; 29] = [
    command("auth login", AUTH, 0..=1, "user= client-id= with-key chatgpt host= no-browser json", auth::login),
    command("auth logout", AUTH, 0..=1, "all user= keep-remote revoke json", auth::logout),
    command("auth status", AUTH, 0..=0, "user= json", auth::status),
    command("serve", include_str!("help/serve.txt"), 0..=0, SERVE_FLAGS, serve::serve),
    command("exec", include_str!("help/exec.txt"), 0..=usize::MAX, "fail-on= audit=", exec::exec),
    command("env", ENV, 0..=1, "shell= undo user=", key::env),
    command("clients", ENV, 0..=0, "json", key::clients),
    command("key create", KEY, 0..=0, "name= user= provider= expires= once json", key::create),
    command("key list", KEY, 0..=0, "user= json", key::list),
    command("key print", KEY, 1..=1, "user=", key::print),
    command("key revoke", KEY, 1..=1, "user= json", key::revoke),
    command("scan", include_str!("help/scan.txt"), 0..=usize::MAX, "json jsonl explain", scan::scan),
    command("allow", ALLOW, 1..=1, "reason= expires= user= non-interactive json", allow::add),
    command("allow list", ALLOW, 0..=0, "user= json", allow::list),
    command("allow remove", ALLOW, 1..=1, "user=", allow::remove),
    command("rules list", RULES, 0..=0, "json", rules::list),
    command("rules show", RULES, 1..=1, "json", rules::show),
    command("rules check", RULES, 1..=1, "json", rules::check),
    command("audit show", AUDIT, 0..=0, "since= user= blocked request= ref= json", audit::show),
    command("audit verify", AUDIT, 0..=0, "expect= json", audit::verify),
    command("audit head", AUDIT, 0..=0, "json", audit::head),
    command("audit export", AUDIT, 0..=0, "format= o= since= user= blocked request= ref=", audit::export),
    command("config show", CONFIG, 0..=0, "json", settings::show),
    command("config check", CONFIG, 0..=0, "json", settings::check),
    command("route", include_str!("help/route.txt"), 1..=1, "user= model= json", settings::route),
    command("hosts", include_str!("help/hosts.txt"), 0..=0, "json", settings::hosts),
    command("doctor", include_str!("help/doctor.txt"), 0..=0, "online json", doctor::doctor),
    command("rekey", include_str!("help/rekey.txt"), 0..=0, "with-key json", settings::rekey),
    command("version", WHOLE, 0..=0, "json", version),
];

/// How a command ends when it does not end well. The numbers are a contract (DESIGN section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    /// Nobody reads the result any more (`| head`): no error of ours.
    Left = 0,
    /// The answer is no: findings, not logged in, chain broken, denied.
    No = 1,
    /// Usage or bad input.
    Usage = 2,
    /// A provider cannot be reached.
    Unreachable = 3,
    /// A credential is invalid.
    Credential = 4,
    /// Storage.
    Storage = 5,
    /// Cannot listen.
    Listen = 6,
    /// A bug of ours: what happened stands on stderr.
    Bug = 70,
    /// `exec`: the command cannot be run, as a shell says it.
    NotRunnable = 126,
    /// `exec`: there is no such command, as a shell says it.
    NotFound = 127,
}

/// Why a command ends early: its exit code, and a line for stderr that names the next command to type.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

/// Every error of the modules below; its own text says what failed and what to type.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(exit(&error), error)
    }
}

/// What a command gives back.
type Done = Result<(), Failure>;

/// Runs the program with these arguments (without its own name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let exit = exit_of(|| match args::parse(arguments)? {
        Action::Help(text) => terminal::print(text.trim_end()),
        Action::Run(command, args) => (command.run)(&args).map_err(|failure| context::addressed(failure, &args)),
    });
    ExitCode::from(exit)
}

/// The exit code of what was done, after a line for stderr where it did not end well.
fn exit_of(act: impl FnOnce() -> Done) -> u8 {
    let done = catch_unwind(AssertUnwindSafe(act));
    let Err(failure) = done.unwrap_or_else(|_| Err(Failure::new(Exit::Bug, "this is a bug: please report it"))) else {
        return 0;
    };
    if !failure.message.is_empty() {
        terminal::note(format_args!("infershield: {}", failure.message));
    }
    failure.exit as u8
}

/// The exit code of an error; what is not named here is storage.
fn exit(error: &(dyn Error + 'static)) -> Exit {
    if let Some(error) = error.downcast_ref() {
        return match error {
            session::Error::Flow(_, error) => exit(error),
            session::Error::NotLoggedIn(_) => Exit::No,
            session::Error::Later(..) => Exit::Unreachable,
            session::Error::Unusable(..) => Exit::Credential,
            session::Error::Storage(error) => exit(error),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            flow::Error::Network(error) => exit(error),
            flow::Error::Config(_) => Exit::Usage,
            flow::Error::Reply(_) => Exit::Unreachable,
            flow::Error::Denied | flow::Error::CodeExpired => Exit::No,
            flow::Error::Refused(..) | flow::Error::BadToken(_) | flow::Error::LoginOver(_) => Exit::Credential,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            upstream::Error::Unusable(_) => Exit::Usage,
            _ => Exit::Unreachable,
        };
    }
    let is_setting = matches!(error.downcast_ref(), Some(config::Error::Setting(_)));
    let is_refused = matches!(error.downcast_ref(), Some(store::Error::Refused(_)));
    if is_setting || is_refused { Exit::Usage } else { Exit::Storage }
}

/// Usage or bad input.
fn usage(message: impl Display) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// The answer is no; without a message when stdout has said so.
fn no(message: impl Display) -> Failure {
    Failure::new(Exit::No, message)
}

/// A word of the user as an error may show it.
fn repeated(word: &str) -> &str {
    if word.len() > LONGEST_REPEATED { "…" } else { word }
}

/// An error about a word of the user that is none of the known ones, with the nearest of them.
fn unknown<'a>(kind: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    format!("unknown {kind} `{}`{}", repeated(word), did_you_mean(word, known))
}

fn version(args: &Args) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    terminal::answer(args, json!({"version": version}), format_args!("infershield {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_of_ours_ends_with_70_and_a_no_with_1() {
        assert_eq!(exit_of(|| panic!("on purpose")), 70);
        assert_eq!(exit_of(|| Err(no(""))), 1);
        assert_eq!(exit_of(|| Ok(())), 0);
    }
}
