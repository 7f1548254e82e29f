//! `rules list | show | check`: the rules in force, built in and the user's own in `rules.d`. Needs no keys.
//! Must never go on with fewer rules than stand there.

use super::terminal::{answer, list as rows};
use super::{Args, Done, Failure, context, no, unknown, usage};
use crate::config::Config;
use crate::detect::{BUILTIN, Scanner};
use crate::home::{Home, Privacy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{fs, path::Path};

/// Where the user's own stand, in the home.
const FOLDER: &str = "rules.d";

/// A rule as it stands in its file, already known to be one.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Row {
    id: String,
    category: String,
    severity: String,
    weight: u8,
    sources: Vec<String>,
    /// Its file; empty in the file itself.
    from: String,
    /// What finds it, and its samples.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

pub(super) fn list(args: &Args) -> Done {
    let row = |mut rule: Row| {
        rule.rest.clear();
        let json = json!(rule);
        let Row { id, category, severity, weight, sources, from, .. } = rule;
        let sources = if sources.is_empty() { "everywhere".to_owned() } else { sources.join(",") };
        (json, format!("{id:40}  {category:12}  {severity:8}  {weight:>3}  {sources}  ({from})"))
    };
    rows(args, every(args)?.into_iter().map(row), "no rules")
}

pub(super) fn show(args: &Args) -> Done {
    let rules = every(args)?;
    let id = args.word().unwrap_or_default();
    let Some(rule) = rules.iter().find(|rule| rule.id == id) else {
        let known = rules.iter().map(|rule| rule.id.as_str());
        return Err(no(unknown("rule", id, known) + "; type `infershield rules list`"));
    };
    answer(args, json!(rule), serde_json::to_string_pretty(rule)?)
}

pub(super) fn check(args: &Args) -> Done {
    let name = args.word().unwrap_or_default();
    let cannot = |error| usage(format_args!("cannot read {name}: {error}; name a file of rules"));
    let path = Path::new(name).canonicalize().map_err(cannot)?;
    let text = fs::read_to_string(&path).map_err(cannot)?;
    let mut beside = files(&context::load(args)?)?;
    beside.retain(|(other, _)| Path::new(other).canonicalize().ok().as_ref() != Some(&path));
    beside.push((name.to_owned(), text.clone()));
    Scanner::with(&beside).map_err(usage)?;
    let wrong = Scanner::wrong_samples(&text).map_err(usage)?;
    let line = if wrong.is_empty() { format!("✓ {name}: every sample is as it should be") } else { wrong.join("\n") };
    answer(args, json!({"ok": wrong.is_empty(), "wrong": wrong}), line)?;
    if wrong.is_empty() { Ok(()) } else { Err(no("")) }
}

/// Path and text of each file in `rules.d`; none where there is no such folder.
pub(super) fn files(config: &Config) -> Result<Vec<(String, String)>, Failure> {
    let folder = config.dir.join(FOLDER);
    if folder.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let home = Home::open(folder.clone())?;
    let mut files = Vec::new();
    let path = folder.display().to_string();
    let entries = fs::read_dir(folder);
    for entry in entries.map_err(|why| usage(format_args!("cannot read {path}: {why}; type `chmod 700 {path}`")))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = home.path(&name).display().to_string();
        if name.ends_with(".json")
            && let Some(bytes) = home.read(&name, Privacy::Readable)?
        {
            let text = String::from_utf8(bytes.to_vec()).map_err(|_| usage(format_args!("{path} is not UTF-8")))?;
            files.push((path, text));
        }
    }
    files.sort();
    Ok(files)
}

/// Every rule in force.
fn every(args: &Args) -> Result<Vec<Row>, Failure> {
    let own = files(&context::load(args)?)?;
    Scanner::with(&own).map_err(usage)?;
    let builtin = BUILTIN.map(|json| ("built in".to_owned(), json.to_owned()));
    let mut every = Vec::new();
    for (from, json) in builtin.into_iter().chain(own) {
        let rules: Vec<Row> = serde_json::from_str(&json)?;
        every.extend(rules.into_iter().map(|rule| Row { from: from.clone(), ..rule }));
    }
    Ok(every)
}
