//! The command line, parsed into an [`Action`] by one table of commands. Must never do anything else.

use super::{COMMANDS, Done, repeated};
use crate::config::did_you_mean;
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
    words: RangeInclusive<usize>,
    flags: &'static str,
    pub(super) run: fn(&Args) -> Done,
}

/// Makes a row.
pub(super) const fn command(
    name: &'static str,
    words: RangeInclusive<usize>,
    flags: &'static str,
    run: fn(&Args) -> Done,
) -> Command {
    Command { name, words, flags, run }
}

/// The words and flags after a command, each known to belong to it.
#[derive(Debug, Default)]
pub(super) struct Args {
    words: Vec<OsString>,
    flags: BTreeMap<&'static str, String>,
}

/// Help texts by command, group (`auth`) or `""` for all; each a file.
const HELP: [(&str, &str); 12] = [
    ("", include_str!("help/infershield.txt")),
    ("auth", include_str!("help/auth.txt")),
    ("serve", include_str!("help/serve.txt")),
    ("env", include_str!("help/env.txt")),
    ("clients", include_str!("help/env.txt")),
    ("key", include_str!("help/key.txt")),
    ("scan", include_str!("help/scan.txt")),
    ("audit", include_str!("help/audit.txt")),
    ("config", include_str!("help/config.txt")),
    ("route", include_str!("help/route.txt")),
    ("hosts", include_str!("help/hosts.txt")),
    ("rekey", include_str!("help/rekey.txt")),
];

impl Args {
    /// The word at `index` after the command, if it is UTF-8.
    pub(super) fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index)?.to_str()
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

/// Parses the arguments after the program's name. An error is one line for the user.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut path = String::new();
    let mut command: Option<&'static Command> = None;
    let mut args = Args::default();
    while let Some(argument) = parser.next().map_err(plain)? {
        match argument {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(Action::Help(help(&path))),
            lexopt::Arg::Short('V') | lexopt::Arg::Long("version") if path.is_empty() => {
                command = next_word(&mut path, "version")?;
            }
            lexopt::Arg::Value(word) => match command {
                Some(Command { name, words, .. }) if args.words.len() >= *words.end() => {
                    return Err(format!("`{name}` takes no more words; type `infershield {name} --help`"));
                }
                Some(_) => args.words.push(word),
                None => command = next_word(&mut path, &word.to_string_lossy())?,
            },
            flag => {
                let name = match flag {
                    lexopt::Arg::Short('o') => "output".to_owned(),
                    lexopt::Arg::Short(letter) => letter.to_string(),
                    lexopt::Arg::Long(name) => name.to_owned(),
                    lexopt::Arg::Value(_) => continue,
                };
                let known = command.map(|command| command.flags).unwrap_or_default();
                let names = known.split(' ').map(|known| known.trim_end_matches('='));
                let Some(flag) = names.clone().find(|known| *known == name) else {
                    let hint = did_you_mean(&name, names);
                    return Err(format!("unknown flag --{}{hint}{}", repeated(&name), see(&path)));
                };
                let mut value = OsString::new();
                if known.split(' ').any(|known| known.strip_suffix('=') == Some(flag)) {
                    value = parser.value().map_err(plain)?;
                }
                let value = value.into_string().map_err(|_| format!("--{flag}: the value is not UTF-8"))?;
                args.flags.insert(flag, value);
            }
        }
    }
    match command {
        Some(Command { name, words, .. }) if args.words.len() < *words.start() => {
            Err(format!("`{name}` needs one more word; type `infershield {name} --help`"))
        }
        Some(command) => Ok(Action::Run(command, args)),
        None => Ok(Action::Help(help(&path))),
    }
}

/// Takes one more word of the command's name; `None` as long as it names only a group.
fn next_word(path: &mut String, word: &str) -> Result<Option<&'static Command>, String> {
    if path.is_empty() && word == "help" {
        return Ok(None);
    }
    let wanted = if path.is_empty() { word.to_owned() } else { format!("{path} {word}") };
    if let Some(command) = COMMANDS.iter().find(|command| command.name == wanted) {
        *path = wanted;
        return Ok(Some(command));
    }
    if COMMANDS.iter().any(|command| command.name.split(' ').next() == Some(wanted.as_str())) {
        *path = wanted;
        return Ok(None);
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path} ") };
    let first = |name: &'static str| name.split(' ').next().unwrap_or_default();
    let known = COMMANDS.iter().map(|command| if path.is_empty() { first(command.name) } else { command.name });
    Err(format!("unknown command `{prefix}{}`{}{}", repeated(word), did_you_mean(&wanted, known), see(path)))
}

/// What lexopt says, without a value that does not belong there: it may be a key.
fn plain(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        error => error.to_string(),
    }
}

fn see(path: &str) -> String {
    let space = if path.is_empty() { "" } else { " " };
    format!("; type `infershield{space}{path} --help`")
}

/// The help for a command: its own text, else its group's, else the whole.
fn help(path: &str) -> &'static str {
    let group = path.split(' ').next().unwrap_or_default();
    let find = |name: &str| HELP.iter().find(|(of, _)| *of == name).map(|(_, text)| *text);
    find(path).or_else(|| find(group)).or_else(|| find("")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Action, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_mistyped_word_gets_the_nearest() {
        assert!(words("auth lgoin").unwrap_err().contains("did you mean `auth login`?"));
        assert!(words("serv").unwrap_err().contains("did you mean `serve`?"));
        assert!(words("serve --lisen x").unwrap_err().contains("did you mean `listen`?"));
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
        assert_eq!((args.value("format"), args.value("output")), (Some("csv"), Some("out.csv")));
    }
}
