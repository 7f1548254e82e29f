//! The command line, parsed into an [`Action`] by the table of commands. Must never do anything else.

use super::{COMMANDS, Done, Failure, WHOLE, unknown};
use lexopt::Arg::{Long, Short, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;

/// What the user asked for.
#[derive(Debug)]
pub(super) enum Action {
    /// Print this text to stdout and end well.
    Help(&'static str),
    /// Do it.
    Run(&'static Command, Args),
}

/// One row of the table of commands.
#[derive(Debug)]
pub(super) struct Command {
    name: &'static str,
    help: &'static str,
    words: RangeInclusive<usize>,
    flags: &'static str,
    pub(super) run: fn(&Args) -> Done,
}

/// Makes a row.
pub(super) const fn command(
    name: &'static str,
    help: &'static str,
    words: RangeInclusive<usize>,
    flags: &'static str,
    run: fn(&Args) -> Done,
) -> Command {
    Command { name, help, words, flags, run }
}

impl Command {
    /// The first word of the name: the group (`auth`), or the command itself where it stands alone.
    fn group(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// The words and flags after a command, each known to belong to it.
#[derive(Debug, Default)]
pub(super) struct Args {
    words: Vec<OsString>,
    flags: BTreeMap<&'static str, String>,
}

impl Args {
    /// The first word after the command, if it is UTF-8.
    pub(super) fn word(&self) -> Option<&str> {
        self.words.first()?.to_str()
    }

    /// All words, as the system gave them (file names).
    pub(super) fn words(&self) -> &[OsString] {
        &self.words
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    /// The value of a flag.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag).map(String::as_str)
    }
}

/// Parses the arguments after the program's name.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, Failure> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut path = String::new();
    let mut command: Option<&'static Command> = None;
    let mut args = Args::default();
    while let Some(argument) = parser.next().map_err(plain)? {
        match argument {
            Short('h') | Long("help") => return Ok(Action::Help(help(&path))),
            Short('V') | Long("version") if path.is_empty() => command = named(&mut path, "version")?,
            Value(word) if command.is_some() => args.words.push(word),
            Value(word) => command = named(&mut path, &word.to_string_lossy())?,
            Short(_) | Long(_) => {
                let name = match argument {
                    Short(letter) => letter.to_string(),
                    Long(name) => name.to_owned(),
                    Value(_) => continue,
                };
                let known = command.map_or("", |command| command.flags).split_whitespace();
                let Some(flag) = known.clone().find(|flag| flag.trim_end_matches('=') == name) else {
                    let known = known.map(|flag| flag.trim_end_matches('='));
                    return Err(Failure::usage(unknown("flag", &name, known) + &see(&path)));
                };
                let value = if flag.ends_with('=') { parser.value().map_err(plain)? } else { OsString::new() };
                let wrong = |_| Failure::usage(format_args!("--{name}: the value is not UTF-8"));
                args.flags.insert(flag.trim_end_matches('='), value.into_string().map_err(wrong)?);
            }
        }
    }
    match command {
        None => Ok(Action::Help(help(&path))),
        Some(command) if command.words.contains(&args.words.len()) => Ok(Action::Run(command, args)),
        Some(_) => Err(Failure::usage(format_args!("`{path}` takes more words or fewer{}", see(&path)))),
    }
}

/// The command that `path` names with one more word; `None` as long as that is only a group.
fn named(path: &mut String, word: &str) -> Result<Option<&'static Command>, Failure> {
    if path.is_empty() && word == "help" {
        return Ok(None);
    }
    let longer = if path.is_empty() { word.to_owned() } else { format!("{path} {word}") };
    let known = COMMANDS.iter().flat_map(|command| [command.group(), command.name]);
    if !known.clone().any(|name| name == longer) {
        return Err(Failure::usage(unknown("command", &longer, known) + &see(path)));
    }
    *path = longer;
    Ok(COMMANDS.iter().find(|command| command.name == *path))
}

/// What lexopt says, without a value that does not belong there: it may be a key.
fn plain(error: lexopt::Error) -> Failure {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => Failure::usage(format_args!("{option} takes no value")),
        error => Failure::usage(error),
    }
}

fn see(path: &str) -> String {
    let space = if path.is_empty() { "" } else { " " };
    format!("; type `infershield{space}{path} --help`")
}

/// The help for a command or a group; the whole for no word.
fn help(path: &str) -> &'static str {
    let row = COMMANDS.iter().find(|command| command.name == path || command.group() == path);
    row.map_or(WHOLE, |command| command.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Action, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_mistyped_word_gets_the_nearest() {
        assert!(words("auth lgoin").unwrap_err().message.contains("did you mean `auth login`?"));
        assert!(words("serv").unwrap_err().message.contains("did you mean `serve`?"));
        assert!(words("serve --lisen x").unwrap_err().message.contains("did you mean `listen`?"));
        assert!(!words("version --x").unwrap_err().message.contains("did you mean"));
    }

    #[test]
    fn every_level_has_help() {
        for line in ["", "auth", "auth --help", "auth login --help", "help", "key list -h"] {
            assert!(matches!(words(line), Ok(Action::Help(text)) if !text.is_empty()), "{line}");
        }
    }

    #[test]
    fn flags_belong_to_their_command() {
        assert!(words("version --json").is_err());
        let Ok(Action::Run(Command { name: "audit export", .. }, args)) = words("audit export --format=csv -o out.csv")
        else {
            panic!()
        };
        assert_eq!((args.value("format"), args.value("o")), (Some("csv"), Some("out.csv")));
    }
}
