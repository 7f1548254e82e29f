//! `audit show | verify | head | export`: the log for people and scripts. The work is `audit`'s.

use super::args::Args;
use super::context::{self, Context};
use super::terminal::{note, print as say};
use super::{Done, Failure};
use crate::audit::{self, Anchor, AuditKeys, Filter, Format, Verdict};
use crate::home::Home;
use crate::session::now;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

/// Mode of an exported file: the log says who does what.
const EXPORT_MODE: u32 = 0o600;

pub(super) fn show(args: &Args) -> Done {
    let home = Home::open(context::load(&[])?.dir)?;
    let mut said = Ok(());
    let found = audit::query(&home, &filter(args)?, &mut |line, text| {
        if said.is_ok() {
            said = if args.has("json") { say(text) } else { say(line.summary()) };
        }
        Ok(())
    })?;
    said?;
    if found.unreadable > 0 {
        note(format_args!("{} lines cannot be read; type `infershield audit verify`", found.unreadable));
    }
    if found.shown == 0 && !args.has("json") {
        note("no such lines");
    }
    Ok(())
}

pub(super) fn verify(args: &Args) -> Done {
    let (home, keys) = unlocked()?;
    let expect = match args.value("expect").map(str::parse::<Anchor>) {
        None => None,
        Some(Ok(anchor)) => Some(anchor),
        Some(Err(why)) => return Err(Failure::usage(why)),
    };
    let verdict = audit::verify(&home, &keys, expect.as_ref())?;
    if args.has("json") {
        say(match &verdict {
            Verdict::Verified { lines, notes, warning } => {
                json!({"ok": true, "lines": lines, "notes": notes, "warning": warning})
            }
            Verdict::Broken { file, line, what } => {
                json!({"ok": false, "file": file, "line": line, "what": what})
            }
        })?;
    }
    match verdict {
        Verdict::Verified { lines, notes, warning } => {
            if !args.has("json") {
                say(format_args!("✓ {lines} lines, unbroken"))?;
            }
            notes.iter().for_each(|text| note(format_args!("note: {text}")));
            warning.iter().for_each(|text| note(format_args!("warning: {text}")));
            Ok(())
        }
        Verdict::Broken { file, line, what } => {
            if !args.has("json") {
                say(format_args!("✗ audit/{file}: line {line} {what}"))?;
            }
            Err(Failure::no())
        }
    }
}

pub(super) fn head(args: &Args) -> Done {
    let anchor = Context::open(&[])?.audit.anchor()?;
    if args.has("json") {
        return say(json!({"seq": anchor.seq, "mac": anchor.mac}));
    }
    say(anchor)
}

pub(super) fn export(args: &Args) -> Done {
    let format = match args.value("format") {
        Some("jsonl") => Format::Jsonl,
        Some("csv") => Format::Csv,
        Some("html") => Format::Html,
        _ => return Err(Failure::usage("--format takes jsonl, csv or html")),
    };
    let home = Home::open(context::load(&[])?.dir)?;
    let filter = filter(args)?;
    let Some(name) = args.value("output") else {
        let mut out = BufWriter::new(io::stdout().lock());
        audit::export(&home, &filter, format, &mut out)?;
        return out.flush().map_err(|_| Failure::reader_left());
    };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(EXPORT_MODE).open(name);
    let cannot = |error: io::Error| Failure::storage(format_args!("cannot write {name}: {error}"));
    let mut out = BufWriter::new(file.map_err(cannot)?);
    let found = audit::export(&home, &filter, format, &mut out)?;
    out.flush().map_err(cannot)?;
    note(format_args!("{} lines written to {name}", found.shown));
    Ok(())
}

/// The home and the keys of its log. Unlocking them writes nothing.
fn unlocked() -> Result<(Home, AuditKeys), Failure> {
    let config = context::load(&[])?;
    let home = Home::open(config.dir.clone())?;
    let keys = context::keys(&config, &home)?;
    Ok((home, context::audit_keys(&keys)?))
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
