//! `key create | list | print | revoke`: local keys, which tools present instead of a provider's token.

use super::args::Args;
use super::context::Context;
use super::terminal::{answer, end, list as show, note, print as say};
use super::{Done, Failure, repeated};
use crate::audit::Event;
use crate::secret::Secret;
use crate::session::now;
use crate::store::{LocalKey, NewKey};
use serde_json::json;

/// Seconds in a day.
const DAY: u64 = 86_400;

pub(super) fn create(args: &Args) -> Done {
    let context = Context::open(args)?;
    let expires_at = match args.value("expires").map(str::parse::<u64>) {
        None => None,
        Some(Ok(days)) if days > 0 => Some(now().saturating_add(days.saturating_mul(DAY))),
        Some(_) => return Err(Failure::usage("--expires takes a number of days, 1 or more")),
    };
    let provider = match args.value("provider") {
        Some(name) => Some(context.provider(name)?.id.clone()),
        None => None,
    };
    let name = match args.value("name") {
        Some(name) => name.to_owned(),
        None => free_name(&context)?,
    };
    let (key, secret) = made(&context, &NewKey { name, provider, expires_at, once: args.has("once") })?;
    note(format_args!("Local key `{}` ({}), for programs on this machine", key.name, key.id));
    let json = json!({"id": key.id, "key": secret.expose(), "user_id": key.user_id, "provider": key.provider,
        "expires_at": key.expires_at, "name": key.name});
    answer(args, json, secret.expose())
}

pub(super) fn list(args: &Args) -> Done {
    let context = Context::open(args)?;
    let mut rows = Vec::new();
    for key in context.store.keys(&context.user)? {
        let end = if key.lives(now()) { end(key.expires_at) } else { "expired".to_owned() };
        let provider = key.provider.as_deref().unwrap_or("any provider");
        let text = format!("{}  {:16}  {provider:12}  {end}", key.id, key.name);
        rows.push((serde_json::to_value(key)?, text));
    }
    show(args, rows, "no local keys; type `infershield key create`")
}

pub(super) fn print(args: &Args) -> Done {
    let context = Context::open(args)?;
    let name = args.word().unwrap_or_default();
    match context.store.print_key(&context.user, name)? {
        Some(secret) => say(secret.expose()),
        None => Err(no_such_key(name)),
    }
}

pub(super) fn revoke(args: &Args) -> Done {
    let context = Context::open(args)?;
    let id = args.word().unwrap_or_default();
    let keys = context.store.keys(&context.user)?;
    let key = keys.iter().find(|key| key.id == id).ok_or_else(|| no_such_key(id))?;
    context.store.revoke_key(&context.user, id)?;
    record(&context, "key.revoke", key)?;
    say(format_args!("✓ Local key `{}` revoked.", key.name))
}

/// The user's key of this name, made when there is none.
pub(super) fn named(context: &Context, name: &str) -> Result<Secret, Failure> {
    let keys = context.store.keys(&context.user)?;
    if keys.iter().any(|key| key.name == name && key.lives(now()))
        && let Some(secret) = context.store.print_key(&context.user, name)?
    {
        return Ok(secret);
    }
    let (_, secret) = made(context, &NewKey { name: name.to_owned(), provider: None, expires_at: None, once: false })?;
    Ok(secret)
}

fn made(context: &Context, new: &NewKey) -> Result<(LocalKey, Secret), Failure> {
    let (key, secret) = context.store.create_key(&context.user, new, now())?;
    record(context, "key.create", &key)?;
    Ok((key, secret))
}

fn free_name(context: &Context) -> Result<String, Failure> {
    let keys = context.store.keys(&context.user)?;
    let mut names = (1..).map(|number| format!("key-{number}"));
    Ok(names.find(|name| keys.iter().all(|key| key.name != *name)).unwrap_or_default())
}

fn no_such_key(word: &str) -> Failure {
    Failure::no(format_args!("there is no local key `{}`; type `infershield key list`", repeated(word)))
}

fn record(context: &Context, action: &str, key: &LocalKey) -> Done {
    context.record(&Event {
        user_id: Some(key.user_id.clone()),
        key_id: Some(key.id.clone()),
        provider: key.provider.clone(),
        ..Event::new(action)
    })
}
