//! What a person sees and types: results to stdout, diagnosis to stderr, keys without echo.
//! Must never panic when the other end of a pipe has gone.

use super::Failure;
use crate::secret::Secret;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Longest key or master key that is read, in bytes.
const MAX_KEY_BYTES: u64 = 16 << 10;

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

/// One line of result. A reader that has left (`| head`) is not an error of ours.
pub(crate) fn print(line: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_left()),
        Err(error) => Err(Failure::storage(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// One line of diagnosis; nobody may be there to read it.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Rewrites the current line of a terminal on stderr; nothing elsewhere.
pub(crate) fn progress(line: impl Display) {
    let mut err = io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
    }
}

/// Whether a person sits at both ends.
pub(crate) fn interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// A key: asked for without echo on a terminal, else all of stdin without its line end.
pub(crate) fn read_key(prompt: &str) -> Result<Secret, Failure> {
    let text = if io::stdin().is_terminal() { ask_hidden(prompt)? } else { read_stdin()? };
    let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if text.is_empty() {
        return Err(Failure::usage("no key was given: type it, or pipe it to stdin"));
    }
    if text.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err(Failure::usage("the key holds a blank or a control character: copy it again, one line only"));
    }
    Ok(Secret::new(text.to_string()))
}

fn read_stdin() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = io::stdin().lock().take(MAX_KEY_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("cannot read the key from stdin: {error}")))?;
    Ok(text)
}

fn ask_hidden(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let child = Command::new("sh")
        .args(["-c", HIDDEN_PROMPT, "sh", prompt])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| Failure::usage(format!("cannot start sh to ask for the key: {error}; pipe it to stdin")))?;
    let text = Zeroizing::new(child.stdout);
    if !child.status.success() {
        return Err(Failure::usage("no key was read; pipe it to stdin instead"));
    }
    let text = std::str::from_utf8(&text).map_err(|_| Failure::usage("the key is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
