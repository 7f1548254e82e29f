//! `audit show | verify | head | export`: the log for people and scripts. The work is `audit`'s.

use super::args::Args;
use super::context::{self, Context};
use super::terminal::{answer, note, print, written};
use super::{Done, Exit, Failure};
use crate::audit::{self, Anchor, Filter, Format, Verdict};
use crate::home::Home;
use crate::session::now;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;

/// Mode of an exported file: the log says who does what.
const EXPORT_MODE: u32 = 0o600;

pub(super) fn show(args: &Args) -> Done {
    let home = Home::open(context::load(args)?.dir)?;
    let mut said = Ok(());
    let found = audit::query(&home, &filter(args)?, &mut |line, text| {
        if said.is_ok() {
            said = if args.has("json") { print(text) } else { print(line.summary()) };
        }
        Ok(())
    })?;
    said?;
    if found.unreadable > 0 {
        note(format_args!("{} lines cannot be read; type `infershield audit verify`", found.unreadable));
    }
    if found.shown == 0 {
        note("no such lines");
    }
    Ok(())
}

pub(super) fn verify(args: &Args) -> Done {
    let config = context::load(args)?;
    let expect = args.value("expect").map(str::parse::<Anchor>).transpose().map_err(Failure::usage)?;
    // Not the context: verifying writes nothing, and opening the log may.
    let home = Home::open(config.dir.clone())?;
    let keys = context::audit_keys(&context::keys(&config, &home)?)?;
    match audit::verify(&home, &keys, expect.as_ref())? {
        Verdict::Verified { lines, notes, warning } => {
            let json = json!({"ok": true, "lines": lines, "notes": notes, "warning": warning});
            answer(args, json, format_args!("✓ {lines} lines, unbroken"))?;
            notes.iter().for_each(|text| note(format_args!("note: {text}")));
            warning.iter().for_each(|text| note(format_args!("warning: {text}")));
            Ok(())
        }
        Verdict::Broken { file, line, what } => {
            let json = json!({"ok": false, "file": file, "line": line, "what": what});
            answer(args, json, format_args!("✗ audit/{file}: line {line} {what}"))?;
            Err(Failure::no(""))
        }
    }
}

pub(super) fn head(args: &Args) -> Done {
    let anchor = Context::open(args)?.audit.anchor()?;
    answer(args, json!({"seq": anchor.seq, "mac": anchor.mac}), &anchor)
}

pub(super) fn export(args: &Args) -> Done {
    let format = match args.value("format") {
        Some("jsonl") => Format::Jsonl,
        Some("csv") => Format::Csv,
        Some("html") => Format::Html,
        _ => return Err(Failure::usage("--format takes jsonl, csv or html")),
    };
    let home = Home::open(context::load(args)?.dir)?;
    let filter = filter(args)?;
    let out: Box<dyn Write> = match args.value("o") {
        None => Box::new(io::stdout()),
        Some(name) => {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(EXPORT_MODE).open(name);
            let cannot = |error| Failure::new(Exit::Storage, format_args!("cannot write {name}: {error}"));
            Box::new(file.map_err(cannot)?)
        }
    };
    let mut out = BufWriter::new(out);
    let found = audit::export(&home, &filter, format, &mut out)?;
    written(out.flush())?;
    if let Some(name) = args.value("o") {
        note(format_args!("{} lines written to {name}", found.shown));
    }
    Ok(())
}

fn filter(args: &Args) -> Result<Filter, Failure> {
    let since = match args.value("since") {
        Some(text) => Some(audit::parse_since(text, now()).ok_or_else(|| {
            Failure::usage("--since takes seconds since 1970, a date (2026-01-31) or an age (90m, 12h, 7d)")
        })?),
        None => None,
    };
    let text = |flag| args.value(flag).map(str::to_owned);
    let (user, request_id, reference) = (text("user"), text("request"), text("ref"));
    Ok(Filter { since, user, blocked: args.has("blocked"), request_id, reference })
}
