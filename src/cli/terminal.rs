//! What a person sees and types: results to stdout, diagnosis to stderr, keys without echo.
//! Must never panic when the other end of a pipe has gone.

use super::{Args, Done, Exit, Failure, usage};
use crate::audit::now;
use crate::keys::MAX_KEY_BYTES;
use crate::secret::Secret;
use serde_json::Value;
use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// A terminal hands over so much of a line, in bytes, and drops the rest (Linux, termios(3)).
const TYPED_BYTES: usize = 4095;
/// Shortest master key that a person may choose, in characters (NIST SP 800-63B, 5.1.1.1).
const SHORTEST_MASTER: usize = 8;
/// What to do about one that is not taken.
const AGAIN: &str = "type `infershield rekey --with-key` again and give it";
/// Longest answer to a question that is read, in bytes; a word is wanted.
const MAX_ANSWER_BYTES: u64 = 64;

/// Switches echo off on the terminal itself, reads one line from there and hands it over a pipe. The trap restores
/// echo however the child ends. `printf` is built into `sh`, so the key is on no command line.
const HIDDEN_PROMPT: &str = r#"
trap 'stty echo </dev/tty' EXIT
trap 'exit 130' INT TERM HUP
stty -echo </dev/tty || exit 1
printf '%s' "$1" >/dev/tty
IFS= read -r line </dev/tty
printf '\n' >/dev/tty
printf '%s' "$line"
"#;

/// One line of result.
pub(super) fn print(line: impl Display) -> Done {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// How writing a result went. A reader that has left (`| head`) is not an error of ours.
pub(super) fn written(result: io::Result<()>) -> Done {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Left, ""),
        _ => Failure::new(Exit::Storage, format_args!("cannot write the result: {error}; send it elsewhere")),
    })
}

/// A result as scripts want it (`--json`), or as a line for a person.
pub(super) fn answer(args: &Args, json: Value, line: impl Display) -> Done {
    if args.has("json") { print(json) } else { print(line) }
}

/// Results, each as in [`answer`]: one array, or a line for each, with a word to a person who gets none.
pub(super) fn list(args: &Args, rows: impl IntoIterator<Item = (Value, String)>, none: &str) -> Done {
    let (json, lines): (Vec<Value>, Vec<String>) = rows.into_iter().unzip();
    if args.has("json") {
        return print(Value::Array(json));
    }
    if lines.is_empty() {
        note(none);
    }
    lines.iter().try_for_each(print)
}

/// One line of diagnosis; nobody may be there to read it. Written in one piece: others share this stderr (`exec`, its command).
pub(super) fn note(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Rewrites the current line of a terminal on stderr; nothing elsewhere.
pub(super) fn progress(line: impl Display) {
    let mut err = io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
    }
}

/// A time in seconds as people say it.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// When something ends, in seconds since 1970, as people say it.
pub(super) fn end(at: Option<u64>) -> String {
    match at {
        Some(at) if at > now() => format!("ends in {}", duration(at - now())),
        Some(_) => "has ended".to_owned(),
        None => "does not end".to_owned(),
    }
}

/// Whether a person sits at both ends.
pub(super) fn interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// A person's answer to a question, one line.
pub(super) fn read_answer(question: &str) -> Result<String, Failure> {
    let (mut err, mut answer) = (io::stderr().lock(), String::new());
    let asked = write!(err, "{question}").and_then(|()| err.flush());
    let read = asked.and_then(|()| io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut answer));
    read.map_err(|error| usage(format_args!("cannot read an answer from the terminal: {error}")))?;
    Ok(answer.trim().to_owned())
}

/// A new master key; one that was typed unseen is asked for twice.
pub(super) fn read_new_master() -> Result<Secret, Failure> {
    let new = read_key("New master key: ")?;
    if new.expose().chars().count() < SHORTEST_MASTER {
        return Err(usage(format_args!(
            "a master key has at least {SHORTEST_MASTER} characters; {AGAIN} a longer one"
        )));
    }
    if io::stdin().is_terminal() && read_key("The same once more: ")? != new {
        return Err(usage(format_args!("the two are not the same and nothing was changed; {AGAIN} the same twice")));
    }
    Ok(new)
}

/// A key: asked for without echo on a terminal, else all of stdin without its line end.
pub(super) fn read_key(prompt: &str) -> Result<Secret, Failure> {
    // Large enough from the start: no part of a key stays behind where a smaller buffer was.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_BYTES + 1));
    let is_typed = io::stdin().is_terminal();
    if is_typed {
        let arguments = ["-c", HIDDEN_PROMPT, "sh", prompt];
        let shell = Command::new("sh").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let shell = shell.map_err(|error| usage(format_args!("cannot start sh: {error}; pipe the key to stdin")))?;
        *bytes = shell.stdout;
    } else {
        let read = io::stdin().lock().take(MAX_KEY_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| usage(format_args!("cannot read the key from stdin: {error}")))?;
    }
    let text = str::from_utf8(&bytes).unwrap_or_default().trim_end_matches(['\r', '\n']);
    let is_cut = bytes.len() > MAX_KEY_BYTES || is_typed && text.len() >= TYPED_BYTES;
    let is_torn = text.contains(|letter: char| letter.is_control() || letter == ' ');
    if text.is_empty() || is_cut || is_torn {
        return Err(usage(format_args!(
            "no key was read: it is one line of at most {MAX_KEY_BYTES} bytes without blanks; copy it again, or pipe it to stdin"
        )));
    }
    Ok(Secret::new(text.to_owned()))
}
