//! `rules list | show | check`: the rules in force, built in and the user's own in `rules.d`. Needs no keys.
//! Must never go on with fewer rules than stand there.

use super::terminal::{answer, list as rows};
use super::{Args, Done, Failure, context, no, unknown, usage};
use crate::config::Config;
use crate::detect::{BUILTIN, Scanner};
use crate::home::{Home, Privacy};
use serde_json::{Map, Value, json};
use std::fs;

/// Where the user's own stand, in the home.
const FOLDER: &str = "rules.d";

pub(super) fn list(args: &Args) -> Done {
    let row = |rule: Value| {
        let [id, severity, from] = ["id", "severity", "from"].map(|name| member(&rule, name));
        let line = format!("{id:40}  {severity:8}  ({from})");
        (rule, line)
    };
    rows(args, every(args)?.into_iter().map(row), "no rules")
}

pub(super) fn show(args: &Args) -> Done {
    let rules = every(args)?;
    let id = args.word().unwrap_or_default();
    let Some(rule) = rules.iter().find(|rule| member(rule, "id") == id) else {
        let known = rules.iter().map(|rule| member(rule, "id"));
        return Err(no(unknown("rule", id, known) + "; type `infershield rules list`"));
    };
    answer(args, rule.clone(), format_args!("{rule:#}"))
}

pub(super) fn check(args: &Args) -> Done {
    let name = args.word().unwrap_or_default();
    let cannot = |error| usage(format_args!("cannot read {name}: {error}; name a file of rules"));
    let text = fs::read_to_string(name).map_err(cannot)?;
    Scanner::with(&[(name.to_owned(), text.clone())]).map_err(usage)?;
    let wrong = Scanner::wrong_samples(&text).map_err(usage)?;
    let line = if wrong.is_empty() { format!("✓ {name}: every sample is as it should be") } else { wrong.join("\n") };
    answer(args, json!({"ok": wrong.is_empty(), "wrong": wrong}), line)?;
    if wrong.is_empty() { Ok(()) } else { Err(no("")) }
}

/// Path and text of each file in `rules.d`; none where there is no such folder.
pub(super) fn files(config: &Config) -> Result<Vec<(String, String)>, Failure> {
    let folder = config.dir.join(FOLDER);
    if !folder.exists() {
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

/// Every rule in force as it stands in its file, with the file as its member `from`.
fn every(args: &Args) -> Result<Vec<Value>, Failure> {
    let own = files(&context::load(args)?)?;
    Scanner::with(&own).map_err(usage)?;
    let builtin = BUILTIN.map(|json| ("built in".to_owned(), json.to_owned()));
    let mut every = Vec::new();
    for (from, json) in builtin.into_iter().chain(own) {
        for mut rule in serde_json::from_str::<Vec<Map<String, Value>>>(&json)? {
            rule.insert("from".to_owned(), json!(from));
            every.push(Value::Object(rule));
        }
    }
    Ok(every)
}

fn member<'a>(rule: &'a Value, name: &str) -> &'a str {
    rule.get(name).and_then(Value::as_str).unwrap_or_default()
}
