//! `audit show | verify | head | export`: the log for people and scripts. The work is `audit`'s.

use super::context::{self, Context};
use super::terminal::{answer, note, written};
use super::{Args, Done, Exit, Failure, no, usage};
use crate::audit::{self, Anchor, Filter, Verified, export as shapes};
use crate::config::Config;
use crate::home::Home;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, absolute};

/// Mode of an exported file: the log says who does what.
const EXPORT_MODE: u32 = 0o600;

/// What to do about a file that cannot be written.
const ELSEWHERE: &str = "name another file (-o, or --audit of `exec`)";

/// Writes the wanted lines in one shape; gives how many cannot be read.
type Export = fn(&Home, &Filter, &mut dyn Write) -> audit::Result<u64>;

pub(super) fn show(args: &Args) -> Done {
    export_as(if args.has("json") { shapes::jsonl } else { shapes::text }, args)
}

pub(super) fn verify(args: &Args) -> Done {
    let config = context::load(args)?;
    let wrong = || usage("an anchor is SEQ:MAC as `infershield audit head` prints it");
    let expect = args.value("expect").map(|text| Anchor::parse(text).ok_or_else(wrong)).transpose()?;
    if !config.dir.join("keys.json").exists() && !config.dir.join("audit").exists() {
        let json = json!({"ok": false, "file": "head.json", "line": null, "what": "is missing"});
        answer(args, json, "✗ there is no log")?;
        return Err(no("the first request or login begins one; INFERSHIELD_HOME says in which folder"));
    }
    match verified(&config, expect.as_ref())? {
        Ok(log) => {
            let json = json!({"ok": true, "lines": log.lines, "notes": log.notes, "warning": log.warning});
            answer(args, json, format_args!("✓ {} lines, unbroken", log.lines))?;
            log.notes.iter().for_each(|text| note(format_args!("note: {text}")));
            log.warning.iter().for_each(|text| note(format_args!("warning: {text}")));
            Ok(())
        }
        Err(audit::Error::Broken { file, line, what }) => {
            let json = json!({"ok": false, "file": file, "line": line, "what": what});
            // The answer is no, whether or not anybody reads why.
            let _ = answer(args, json, format_args!("✗ {} {what}", audit::place_of(&file, line)));
            Err(no(
                "put back what is missing, or move the folder `audit` away: the next command begins a new log and says so",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the log is what was written. Not by the context: this writes nothing, and opening the log may.
fn verified(config: &Config, expect: Option<&Anchor>) -> Result<audit::Result<Verified>, Failure> {
    let keys = context::keys(config)?;
    Ok(audit::verify(&keys.home, &keys.get("audit")?.key, &keys.get("head")?.key, expect))
}

pub(super) fn head(args: &Args) -> Done {
    let anchor = Context::open(args)?.audit.anchor()?;
    answer(args, json!({"seq": anchor.seq, "mac": anchor.mac}), &anchor)
}

pub(super) fn export(args: &Args) -> Done {
    match args.value("format") {
        Some("jsonl") => export_as(shapes::jsonl, args),
        Some("csv") => export_as(shapes::csv, args),
        Some("html") => export_as(shapes::html, args),
        _ => Err(usage("--format takes jsonl, csv or html")),
    }
}

fn export_as(export: Export, args: &Args) -> Done {
    let config = context::load(args)?;
    let home = Home::open(config.dir.clone())?;
    let filter = filter(args)?;
    // First, for whoever reads may leave. Where there is no log, this would make keys.
    if config.dir.join("audit").exists() {
        let untrue = "so its lines may be untrue; type `infershield audit verify`";
        match verified(&config, None) {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => note(format_args!("warning: the log does not verify, {untrue}")),
            Err(Failure { message, .. }) => {
                note(format_args!("warning: the log cannot be verified, {untrue}: {message}"))
            }
        }
    }
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match args.value("o") {
        None | Some("-") => Box::new(io::stdout()),
        Some(name) => Box::new(create(name, &config.dir)?),
    });
    let unreadable = match export(&home, &filter, &mut out) {
        Err(audit::Error::Export(kind)) => return written(Err(kind.into())),
        found => found?,
    };
    written(out.flush())?;
    if unreadable > 0 {
        note(format_args!("{unreadable} lines cannot be read; type `infershield audit verify`"));
    }
    Ok(())
}

/// A new file outside the home: what stands there already may be the log itself, or lie behind a link.
pub(super) fn create(name: &str, home: &Path) -> Result<File, Failure> {
    let cannot = |error| Failure::new(Exit::Storage, format_args!("cannot write {name}: {error}; {ELSEWHERE}"));
    let path = absolute(name).map_err(cannot)?;
    let folder = path.parent().unwrap_or(&path).canonicalize().map_err(cannot)?;
    // Nothing lies in a home that is not there yet.
    if home.canonicalize().is_ok_and(|home| folder.starts_with(home)) {
        return Err(usage(format_args!("{name} would lie in the home; {ELSEWHERE}")));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(EXPORT_MODE).open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => usage(format_args!("{name} exists already; remove it or {ELSEWHERE}")),
        _ => cannot(error),
    })
}

fn filter(args: &Args) -> Result<Filter, Failure> {
    let wrong = || usage("--since takes seconds since 1970, a date (2026-01-31) or an age (90m, 12h, 7d)");
    let since = args.value("since").map(|text| audit::parse_since(text, audit::now()).ok_or_else(wrong)).transpose()?;
    let text = |flag| args.value(flag).map(str::to_owned);
    let (user, request_id, reference) = (text("user"), text("request"), text("ref"));
    Ok(Filter { from: 0, since, user, blocked: args.has("blocked"), request_id, reference })
}
