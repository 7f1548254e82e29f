//! `allow REF`, `allow list`, `allow remove REF`: what a person lets pass, with a reason and perhaps an end.
//! Must never let anything pass for a model: it takes a terminal, and no text of it names a way without one.

use super::context::Context;
use super::terminal::{answer, end, interactive, list as rows, print};
use super::{Args, Done, Failure, key, no, repeated, usage};
use crate::audit::{self, Event, Filter, Finding, now};
use crate::config::variable;
use crate::store::Exception;
use serde_json::json;
use std::fs;
use std::iter::successors;

/// Longest reason, in characters: a sentence or two.
const LONGEST_REASON: usize = 256;

/// Set for every command of `exec`.
const EXEC: &str = "INFERSHIELD_EXEC";

pub(super) fn add(args: &Args) -> Done {
    let alone = args.has("non-interactive");
    if variable(EXEC)?.is_some() || ancestors().any(|id| is_of_exec(&id)) {
        return Err(no("a command of `infershield exec` cannot decide this: a person does, at a terminal"));
    }
    if !alone && !interactive() {
        return Err(no("a person has to decide this: type the whole line at a terminal"));
    }
    let reason = args.value("reason").unwrap_or_default().trim().to_owned();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON || reason.contains(char::is_control) {
        return Err(usage(format_args!("say why with --reason TEXT, 1 to {LONGEST_REASON} plain characters")));
    }
    let (created_at, expires_at) = (now(), key::expiry(args)?);
    let context = Context::open(args)?;
    let reference = args.word().unwrap_or_default().to_owned();
    let Some(found) = find(&context, &reference)? else {
        let unknown = "no such finding of this user stands in the audit log; type `infershield audit show`";
        return Err(no(format_args!("`{}`: {unknown}", repeated(&reference))));
    };
    let what = format!("{} ({}), ref {reference}; {}", found.rule, found.category, end(expires_at));
    // Before it takes effect: nothing passes that stands nowhere.
    record(&context, "allow.add", if alone { "non-interactive" } else { "terminal" }, Some(found))?;
    let user_id = context.user.clone();
    let exception = Exception { user_id, reference, reason, created_at, expires_at };
    context.store.add_exception(&context.user, &exception)?;
    answer(args, json!(exception), format_args!("✓ Allowed: {what}."))
}

pub(super) fn list(args: &Args) -> Done {
    let context = Context::open(args)?;
    let row = |exception: Exception| {
        let text = format!("{}  {:16}  {}", exception.reference, end(exception.expires_at), exception.reason);
        (json!(exception), text)
    };
    rows(args, context.store.exceptions(&context.user)?.into_iter().map(row), "nothing is allowed")
}

pub(super) fn remove(args: &Args) -> Done {
    let context = Context::open(args)?;
    let reference = args.word().unwrap_or_default();
    if !context.store.remove_exception(&context.user, reference)? {
        return Err(no(format_args!("`{}` is not allowed; type `infershield allow list`", repeated(reference))));
    }
    record(&context, "allow.remove", "", find(&context, reference)?)?;
    print(format_args!("✓ {reference} is no longer allowed."))
}

/// The process that started this one, its own, and so on; none where there is no `/proc`.
fn ancestors() -> impl Iterator<Item = String> {
    // proc_pid_stat(5): the name in brackets may hold anything; behind it come state and parent.
    let parent = |id: &String| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
    };
    successors(parent(&"self".to_owned()), parent)
}

fn is_of_exec(id: &str) -> bool {
    let given = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let set = format!("{EXEC}=");
    given.split(|byte| *byte == 0).any(|entry| entry.starts_with(set.as_bytes()))
}

/// The user's newest finding of this reference.
fn find(context: &Context, reference: &str) -> Result<Option<Finding>, Failure> {
    let (user, wanted) = (Some(context.user.clone()), Some(reference.to_owned()));
    let filter = Filter { user, reference: wanted, ..Filter::default() };
    let mut newest = None;
    audit::query(&context.keys.home, &filter, &mut |line, _| {
        newest = line.event.findings.iter().find(|finding| finding.reference == reference).cloned();
        Ok(())
    })?;
    Ok(newest)
}

/// Writes down what was decided about a finding, and `how`.
fn record(context: &Context, action: &str, how: &str, found: Option<Finding>) -> Done {
    let decided = |found| Finding { action: "allow".to_owned(), location: how.to_owned(), ..found };
    let findings = found.map(decided).into_iter().collect();
    context.record(Event { findings, ..Event::new(action) })
}
