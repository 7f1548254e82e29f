//! The command line, parsed into an [`Action`] by the table of commands. Must never do anything else.

use super::{COMMANDS, Done, Failure, WHOLE, unknown, usage};
use lexopt::Arg::{Long, Short, Value};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;

/// What the user asked for.
#[derive(Debug)]
pub(super) enum Action {
    /// Print this text to stdout and end well.
    Help(&'static str),
    /// Do it.
    Run(&'static Command, Args),
}

type Text = &'static str;
type Run = fn(&Args) -> Done;

/// One row of the table of commands.
#[derive(Debug)]
pub(super) struct Command {
    name: Text,
    help: Text,
    words: RangeInclusive<usize>,
    flags: Text,
    pub(super) run: Run,
}

/// Makes a row.
pub(super) const fn command(name: Text, help: Text, words: RangeInclusive<usize>, flags: Text, run: Run) -> Command {
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
    /// As the system gave them: they may be names of files.
    pub(super) words: Vec<OsString>,
    /// How many of them stand before `--`, if there is one.
    before: Option<usize>,
    flags: BTreeMap<&'static str, String>,
}

impl Args {
    /// The first word after the command; one that is not UTF-8 is no name of anything.
    pub(super) fn word(&self) -> Option<&str> {
        Some(self.words.first()?.to_str().unwrap_or("\u{fffd}"))
    }

    /// The words before `--` and after it; `None` without one.
    pub(super) fn halves(&self) -> Option<(&[OsString], &[OsString])> {
        self.words.split_at_checked(self.before?)
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    /// The value of a flag.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag).map(String::as_str)
    }

    /// Takes the flag of this name, one of `flags`, with its value if it has one.
    fn take_flag(&mut self, flags: Text, name: String, parser: &mut lexopt::Parser) -> Result<(), String> {
        let flags = flags.split_whitespace();
        let names = flags.clone().map(|flag| flag.trim_end_matches('='));
        let Some((flag, known)) = flags.zip(names.clone()).find(|(_, known)| *known == name) else {
            return Err(unknown("flag", &name, names));
        };
        let value = if flag.ends_with('=') { parser.value().map_err(plain)? } else { OsString::new() };
        let value = value.into_string().map_err(|_| format!("the value of --{name} is not UTF-8"))?;
        self.flags.insert(known, value);
        Ok(())
    }
}

/// Parses the arguments after the program's name.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, Failure> {
    let mut path = String::new();
    let action = read(lexopt::Parser::from_args(arguments), &mut path);
    action.map_err(|what| usage(format_args!("{what}; type `infershield {path}--help`")))
}

/// `path` becomes as much of the command's name as was typed, each word with a space after it.
fn read(mut parser: lexopt::Parser, path: &mut String) -> Result<Action, String> {
    let (mut args, mut is_help) = (Args::default(), false);
    while let Some(argument) = parser.next().map_err(plain)? {
        let command = named(path);
        let flags = command.map_or("", |command| command.flags);
        let is_first = args.words.is_empty() && args.flags.is_empty();
        match argument {
            Short('h') | Long("help") => return Ok(Action::Help(help(path))),
            Short('V') | Long("version") if path.is_empty() => *path = "version ".to_owned(),
            Value(word) if path.is_empty() && word == "help" => is_help = true,
            Value(word) if is_first && goes_on(path, &word) => *path += &format!("{} ", word.display()),
            Value(word) if command.is_some() => args.words.push(word),
            Value(word) => return Err(unknown("command", &format!("{path}{}", word.display()), names())),
            Short(letter) => args.take_flag(flags, letter.to_string(), &mut parser)?,
            Long(name) => args.take_flag(flags, name.to_owned(), &mut parser)?,
        }
        if parser.try_raw_args().is_some_and(|raw| raw.peek() == Some("--".as_ref())) {
            args.before.get_or_insert(args.words.len());
        }
    }
    match named(path) {
        _ if is_help => Ok(Action::Help(help(path))),
        None => Ok(Action::Help(help(path))),
        Some(command) if command.words.contains(&args.words.len()) => Ok(Action::Run(command, args)),
        Some(Command { name, .. }) => Err(format!("`{name}` takes more words or fewer")),
    }
}

/// The name of every command, and of every group of them.
fn names() -> impl Iterator<Item = Text> {
    COMMANDS.iter().flat_map(|command| [command.group(), command.name])
}

/// Whether this word goes on to a command or a group: `allow list` is one besides `allow REF`.
fn goes_on(path: &str, word: &OsStr) -> bool {
    names().any(|name| name.strip_prefix(path).is_some_and(|rest| word == rest))
}

/// The command that `path` names; `None` as long as that is only a group.
fn named(path: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == path.trim_end())
}

/// What lexopt says, without a value that does not belong there: it may be a key.
fn plain(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        error => error.to_string(),
    }
}

/// The help for a command or a group; the whole for no word.
fn help(path: &str) -> &'static str {
    let name = path.trim_end();
    let row = COMMANDS.iter().find(|command| command.name == name || command.group() == name);
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
        assert!(words("login").unwrap_err().message.contains("did you mean `auth login`?"));
        assert!(words("serv").unwrap_err().message.contains("did you mean `serve`?"));
        assert!(words("serve --lisen x").unwrap_err().message.contains("did you mean `listen`?"));
        assert!(!words("version --x").unwrap_err().message.contains("did you mean"));
    }

    #[test]
    fn every_level_has_help() {
        for line in
            ["", "auth", "auth --help", "auth login --help", "help", "help rekey", "help auth logout", "key list -h"]
        {
            assert!(matches!(words(line), Ok(Action::Help(text)) if !text.is_empty()), "{line}");
        }
    }

    #[test]
    fn flags_belong_to_their_command() {
        assert!(words("version --user").is_err());
        let Ok(Action::Run(Command { name: "audit export", .. }, args)) = words("audit export --format=csv -o out.csv")
        else {
            panic!()
        };
        assert_eq!((args.value("format"), args.value("o")), (Some("csv"), Some("out.csv")));
    }
}
