//! `key create | list | print | revoke`: local keys, which tools present instead of a provider's token.

use super::args::Args;
use super::context::Context;
use super::terminal::{note, print as say};
use super::{Done, Failure, repeated};
use crate::audit::Event;
use crate::session::now;
use crate::store::{LocalKey, NewKey};
use serde_json::json;

/// Seconds in a day.
const DAY: u64 = 86_400;

pub(super) fn create(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let user = context.user(args);
    let expires_at = match args.value("expires").map(str::parse::<u64>) {
        None => None,
        Some(Ok(days)) if days > 0 => Some(now().saturating_add(days.saturating_mul(DAY))),
        Some(_) => {
            return Err(Failure::usage("--expires takes a number of days, 1 or more"));
        }
    };
    let provider = match args.value("provider") {
        Some(name) => Some(context.provider(name)?.id.clone()),
        None => None,
    };
    let name = match args.value("name") {
        Some(name) => name.to_owned(),
        None => free_name(&context, &user)?,
    };
    let new = NewKey { name, provider, expires_at, once: args.has("once") };
    let (key, secret) = context.store.create_key(&user, &new, now())?;
    record(&context, "key.create", &key)?;
    if args.has("json") {
        return say(json!({"id": key.id, "key": secret.expose(), "user_id": key.user_id, "provider": key.provider,
            "expires_at": key.expires_at, "name": key.name}));
    }
    note(format_args!("Local key `{}` ({}), for programs on this machine:", key.name, key.id));
    say(secret.expose())
}

pub(super) fn list(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let keys = context.store.keys(&context.user(args))?;
    if args.has("json") {
        let row = |key: &LocalKey| {
            json!({"id": key.id, "name": key.name, "user_id": key.user_id, "provider": key.provider,
                "created_at": key.created_at, "expires_at": key.expires_at})
        };
        return say(serde_json::Value::Array(keys.iter().map(row).collect()));
    }
    if keys.is_empty() {
        note("no local keys; type `infershield key create`");
    }
    for key in keys {
        let ends = match key.expires_at {
            Some(at) if at <= now() => "expired".to_owned(),
            Some(at) => format!("ends in {} days", at.saturating_sub(now()) / DAY),
            None => "does not end".to_owned(),
        };
        let provider = key.provider.as_deref().unwrap_or("any provider");
        say(format_args!("{}  {:16}  {:12}  {ends}", key.id, key.name, provider))?;
    }
    Ok(())
}

pub(super) fn print(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let name = args.word(0).unwrap_or_default();
    match context.store.print_key(&context.user(args), name)? {
        Some(secret) => say(secret.expose()),
        None => Err(Failure::new(
            super::Exit::No,
            format_args!("there is no local key named `{}`; type `infershield key list`", repeated(name)),
        )),
    }
}

pub(super) fn revoke(args: &Args) -> Done {
    let context = Context::open(&[])?;
    let (user, id) = (context.user(args), args.word(0).unwrap_or_default());
    let keys = context.store.keys(&user)?;
    let Some(key) = keys.iter().find(|key| key.id == id) else {
        return Err(Failure::new(
            super::Exit::No,
            format_args!("there is no local key with the id `{}`; type `infershield key list`", repeated(id)),
        ));
    };
    context.store.revoke_key(&user, id)?;
    record(&context, "key.revoke", key)?;
    say(format_args!("✓ Local key `{}` revoked.", key.name))
}

/// The key of this name, made when there is none.
pub(super) fn named(context: &Context, user: &str, name: &str) -> Result<crate::secret::Secret, Failure> {
    let usable = |key: &LocalKey| key.name == name && key.expires_at.is_none_or(|at| at > now());
    if context.store.keys(user)?.iter().any(usable)
        && let Some(secret) = context.store.print_key(user, name)?
    {
        return Ok(secret);
    }
    let new = NewKey { name: name.to_owned(), provider: None, expires_at: None, once: false };
    let (key, secret) = context.store.create_key(user, &new, now())?;
    record(context, "key.create", &key)?;
    Ok(secret)
}

fn free_name(context: &Context, user: &str) -> Result<String, Failure> {
    let keys = context.store.keys(user)?;
    let taken = |name: &String| keys.iter().any(|key| key.name == *name);
    let names = (1u32..).map(|number| if number == 1 { "key".to_owned() } else { format!("key-{number}") });
    Ok(names.into_iter().find(|name| !taken(name)).unwrap_or_default())
}

fn record(context: &Context, action: &'static str, key: &LocalKey) -> Done {
    let mut event = Event::new(action);
    event.user_id = Some(key.user_id.clone());
    event.key_id = Some(key.id.clone());
    event.provider.clone_from(&key.provider);
    context.record(&event)
}
