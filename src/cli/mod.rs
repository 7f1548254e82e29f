//! The command line: parse it into an action, do it, map every result to a line and an exit code.
//! Must never decide anything that the modules below can decide.

mod args;
mod audit;
mod auth;
mod context;
mod env;
mod key;
mod scan;
mod serve;
mod settings;
mod terminal;

use args::{Action, Args, Command, command};
use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

/// Longest word that an error repeats, in bytes: names are shorter, keys that were pasted into the wrong place are longer.
const LONGEST_REPEATED: usize = 24;

/// How a command ends when it does not end well. The numbers are a contract (DESIGN section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
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

    fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    fn storage(message: impl Display) -> Self {
        Self::new(Exit::Storage, message)
    }

    /// The answer is no, and stdout has said so already.
    fn no() -> Self {
        Self::new(Exit::No, "")
    }

    /// Nobody reads stdout any more; nothing is left to say.
    fn reader_left() -> Self {
        Self::new(Exit::No, "")
    }
}

/// What a command gives back.
type Done = Result<(), Failure>;

/// Every command of this build: its words, how many more words it takes, its flags (`=`: with a value), and what does it.
static COMMANDS: [Command; 21] = [
    command("auth login", 0..=1, "user= client-id= with-key no-browser json", auth::login),
    command("auth logout", 0..=1, "all user= keep-remote revoke", auth::logout),
    command("auth status", 0..=0, "user= json", auth::status),
    command("serve", 0..=0, "listen= monitor verbose insecure-plain-http", serve::serve),
    command("env", 0..=1, "shell= undo user=", env::env),
    command("clients", 0..=0, "json", env::clients),
    command("key create", 0..=0, "name= user= provider= expires= once json", key::create),
    command("key list", 0..=0, "user= json", key::list),
    command("key print", 1..=1, "user=", key::print),
    command("key revoke", 1..=1, "user=", key::revoke),
    command("scan", 0..=usize::MAX, "json jsonl", scan::scan),
    command("audit show", 0..=0, "since= user= blocked request= ref= json", audit::show),
    command("audit verify", 0..=0, "expect= json", audit::verify),
    command("audit head", 0..=0, "json", audit::head),
    command("audit export", 0..=0, "format= output= since= user= blocked request= ref=", audit::export),
    command("config show", 0..=0, "json", settings::show),
    command("config check", 0..=0, "", settings::check),
    command("route", 1..=1, "user= json", settings::route),
    command("hosts", 0..=0, "json", settings::hosts),
    command("rekey", 0..=0, "with-key", settings::rekey),
    command("version", 0..=0, "", version),
];

/// Runs the program with these arguments (without its own name).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match args::parse(arguments) {
        Ok(Action::Help(text)) => terminal::print(text.trim_end()),
        Ok(Action::Run(command, args)) => (command.run)(&args),
        Err(message) => Err(Failure::usage(message)),
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if !failure.message.is_empty() {
        terminal::note(format_args!("infershield: {}", failure.message));
    }
    ExitCode::from(failure.exit as u8)
}

/// A word of the user as an error may show it.
fn repeated(word: &str) -> &str {
    if word.len() > LONGEST_REPEATED { "…" } else { word }
}

fn version(_: &Args) -> Done {
    terminal::print(concat!("infershield ", env!("CARGO_PKG_VERSION")))
}
