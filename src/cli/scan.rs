//! `scan`: what the rules find in texts. Works without any home, contacts nobody.

use super::args::Args;
use super::terminal::{note, print as say};
use super::{Done, Failure, context, serve};
use crate::detect::{self, Mode, Place, Policy, Scanner, Source};
use serde_json::json;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};

/// Largest file or line, in bytes: the proxy's own cap for a body.
const MAX_BYTES: u64 = 32 << 20;

pub(super) fn scan(args: &Args) -> Done {
    let config = context::load(&[])?;
    let policy = serve::policy(&config.settings)?;
    let scanner = Scanner::builtin().map_err(Failure::usage)?;
    let mut stopped = false;
    let mut malformed = false;
    let names: Vec<&OsStr> = args.words().iter().map(|word| word.as_os_str()).collect();
    let names = if names.is_empty() { vec![OsStr::new("-")] } else { names };
    for name in names {
        let shown = name.to_string_lossy();
        let input: Box<dyn Read> = match name == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(
                File::open(name).map_err(|error| Failure::usage(format_args!("cannot open {shown}: {error}")))?,
            ),
        };
        if args.has("jsonl") {
            let (any_stopped, any_malformed) = lines(&scanner, &policy, input)?;
            stopped |= any_stopped;
            malformed |= any_malformed;
        } else {
            stopped |= whole(&scanner, &policy, &shown, input, args.has("json"))?;
        }
    }
    match (malformed, stopped) {
        (true, _) => Err(Failure::usage("a line was not an object with id, text and perhaps source")),
        (false, true) => Err(Failure::no()),
        (false, false) => Ok(()),
    }
}

/// One JSON object a line in, one out, in the same order and at once. Says whether any was stopped, and whether any was none.
fn lines(scanner: &Scanner, policy: &Policy, input: Box<dyn Read>) -> Result<(bool, bool), Failure> {
    let mut input = BufReader::new(input);
    let mut out = io::stdout().lock();
    let (mut stopped, mut malformed) = (false, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::usage(format_args!("cannot read: {error}")))? == 0 {
            return Ok((stopped, malformed));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = detect::scan_line(scanner, policy, line.trim_ascii());
        stopped |= answer.as_ref().is_ok_and(|answer| answer.stopped);
        malformed |= answer.is_err();
        let text = answer.map_or_else(|malformed| malformed.0, |answer| answer.text);
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Failure::reader_left())?;
    }
}

/// One text; says whether it would be stopped.
fn whole(scanner: &Scanner, policy: &Policy, name: &str, input: Box<dyn Read>, as_json: bool) -> Result<bool, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format_args!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format_args!("{name} is larger than {MAX_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format_args!("{name} is not UTF-8 text")))?;
    if as_json {
        let line = json!({"id": name, "text": text}).to_string();
        let answer = detect::scan_line(scanner, policy, line.as_bytes()).map_err(|error| Failure::usage(error.0))?;
        say(answer.text)?;
        return Ok(answer.stopped);
    }
    let findings = scanner.scan(&text, Source::User);
    let verdict = detect::judge(&[(Place::LastUserTurn, &findings)], policy, Mode::Enforce);
    for (finding, action) in findings.iter().zip(verdict.actions.iter().flatten()) {
        let line = text.get(..finding.start).unwrap_or_default().matches('\n').count() + 1;
        say(format_args!("{name}:{line}: {} ({}, {})", finding.rule, finding.category.name(), action.name()))?;
    }
    note(format_args!("{name}: {} findings, risk score {}", findings.len(), verdict.risk_score));
    Ok(verdict.strongest >= detect::Action::Redact)
}
