//! `key create | list | print | revoke`: local keys, which tools present instead of a provider's token.
//! `env CLIENT`, `clients`: what to set so that a client presents one, from a table of data.

use super::context::{Context, name, provider as find};
use super::terminal::{answer, end, list as show, note, print as say};
use super::{Args, Done, Failure, no, repeated, serve, unknown, usage};
use crate::audit::{Event, now};
use crate::secret::{Secret, hex, random};
use crate::store::{LocalKey, NewKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{self, IsTerminal as _};

/// The table, where `{base}` is the proxy's address and `{key}` the client's own local key.
const CLIENTS: &str = include_str!("clients.json");
/// Random bytes in the name of a key that was given none.
const NAME_BYTES: usize = 4;
/// Seconds in a day.
const DAY: u64 = 86_400;
/// Longest life of a key, in days: a hundred years; whoever wants more wants no end.
const MAX_DAYS: u64 = 36_500;

#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Client {
    id: String,
    pub(super) title: String,
    /// The version whose settings these are.
    version: String,
    /// Variables and values.
    pub(super) set: Vec<(String, String)>,
    /// Variables with which it goes elsewhere, whatever else is set.
    pub(super) unset: Vec<String>,
    /// What a person has to do, or should know.
    note: String,
    /// What a person has to do for the way back.
    undo: String,
    /// File names of its program.
    pub(super) command: Vec<String>,
    /// What stands before its own arguments when `exec` starts it.
    pub(super) arguments: Vec<String>,
    /// Why `exec` would be no use.
    pub(super) past_exec: Option<String>,
    /// Why nothing works.
    pub(super) cannot: Option<String>,
}

pub(super) fn create(args: &Args) -> Done {
    let context = Context::open(args)?;
    let expires_at = expiry(args)?;
    let provider = args.value("provider").map(|name| find(&context.providers, name)).transpose()?;
    let provider = provider.map(|row| row.id.clone());
    let name = match args.value("name") {
        Some(text) => name("key", text)?,
        None => format!("key-{}", hex(&random::<NAME_BYTES>()?)),
    };
    let (key, secret) = made(&context, &NewKey { name, provider, expires_at, once: args.has("once") })?;
    note(format_args!("Local key `{}` ({}), for programs on this machine", key.name, key.id));
    let json = json!({"id": key.id, "key": secret.expose(), "user_id": key.user_id, "provider": key.provider,
        "expires_at": key.expires_at, "name": key.name});
    answer(args, json, secret.expose())
}

pub(super) fn list(args: &Args) -> Done {
    let context = Context::open(args)?;
    let row = |key: LocalKey| {
        let end = if key.lives(now()) { end(key.expires_at) } else { "expired".to_owned() };
        let provider = key.provider.as_deref().unwrap_or("any provider");
        let text = format!("{}  {:16}  {provider:12}  {end}", key.id, key.name);
        // By name: the hash and the sealed copy are for the store alone.
        let json = json!({"id": key.id, "name": key.name, "user_id": key.user_id, "provider": key.provider,
            "created_at": key.created_at, "expires_at": key.expires_at});
        (json, text)
    };
    let none = context.config.settings.for_user(&context.user, "no local keys; type `infershield key create`");
    show(args, context.store.keys(&context.user)?.into_iter().map(row), &none)
}

pub(super) fn print(args: &Args) -> Done {
    let context = Context::open(args)?;
    let name = args.word().unwrap_or_default();
    let secret = context.store.print_key(&context.user, name)?.ok_or_else(|| no_such_key(name))?;
    say(secret.expose())
}

pub(super) fn revoke(args: &Args) -> Done {
    let context = Context::open(args)?;
    let key = ended(&context, args.word().unwrap_or_default())?;
    let json = json!({"id": key.id, "name": key.name, "user_id": key.user_id});
    answer(args, json, format_args!("✓ Local key `{}` revoked.", key.name))
}

/// Ends the user's key with this id, and writes that down.
pub(super) fn ended(context: &Context, id: &str) -> Result<LocalKey, Failure> {
    let mut keys = context.store.keys(&context.user)?.into_iter();
    let key = keys.find(|key| key.id == id).ok_or_else(|| no_such_key(id))?;
    context.store.revoke_key(&context.user, id)?;
    record(context, "key.revoke", &key)?;
    Ok(key)
}

/// When what is made now ends, by `--expires`.
pub(super) fn expiry(args: &Args) -> Result<Option<u64>, Failure> {
    match args.value("expires").map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(days @ 1..=MAX_DAYS)) => Ok(Some(now() + days * DAY)),
        Some(_) => Err(usage(format_args!("--expires takes a number of days, 1 to {MAX_DAYS}"))),
    }
}

/// Every client of the table.
pub(super) fn known() -> Result<Vec<Client>, Failure> {
    Ok(serde_json::from_str(CLIENTS)?)
}

pub(super) fn env(args: &Args) -> Done {
    let clients = known()?;
    let Some(name) = args.word() else {
        return Err(usage("name a client; type `infershield clients` for those that are known"));
    };
    let Some(client) = clients.iter().find(|client| client.id == name) else {
        let known = clients.iter().map(|client| client.id.as_str());
        return Err(usage(unknown("client", name, known) + "; type `infershield clients`"));
    };
    if let Some(why) = &client.cannot {
        return Err(usage(format_args!("{}: {why}", client.title)));
    }
    let (set, between, unset) = match args.value("shell") {
        None | Some("sh" | "bash" | "zsh") => ("export", "=", "unset"),
        Some("fish") => ("set -gx", " ", "set -e"),
        Some(other) => return Err(usage(format_args!("--shell takes sh or fish, not `{}`", repeated(other)))),
    };
    let mut advice = client.undo.clone();
    if args.has("undo") {
        for (variable, _) in &client.set {
            say(format_args!("{unset} {variable}"))?;
        }
    } else {
        let context = Context::open(args)?;
        let settings = &context.config.settings;
        let base = base(&settings.listen)?;
        advice = settings.for_user(&context.user, &client.note.replace("{base}", &base));
        let key = named(&context, &client.id)?;
        for (variable, value) in &client.set {
            // In single quotes, which both shells leave alone; our values hold none, but a configured address might.
            let value = value.replace("{base}", &base).replace("{key}", key.expose()).replace('\'', "");
            say(format_args!("{set} {variable}{between}'{value}'"))?;
        }
        if let Some(direct) = direct() {
            // Some read the one, some the other.
            ["NO_PROXY", "no_proxy"]
                .iter()
                .try_for_each(|name| say(format_args!("{set} {name}{between}'{direct}'")))?;
        }
        client.unset.iter().try_for_each(|variable| say(format_args!("{unset} {variable}")))?;
    }
    // For a person: a shell that evaluates the output passes over it.
    if !advice.is_empty() && !io::stdout().is_terminal() {
        note(format_args!("infershield: {advice}"));
    }
    advice.lines().try_for_each(|line| say(format_args!("# {line}").to_string().trim_end()))
}

/// What `NO_PROXY` has to be where clients would go to a company's proxy with what is for this machine.
pub(super) fn direct() -> Option<String> {
    let set = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    set(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?;
    let before = set(&["no_proxy", "NO_PROXY"]).unwrap_or_default().replace('\'', "");
    let is_direct = before.split(',').any(|host| ["127.0.0.1", "*"].contains(&host.trim()));
    (!is_direct).then(|| format!("127.0.0.1,localhost,{before}").trim_end_matches(',').to_owned())
}

/// Where clients reach a proxy that listens there.
pub(super) fn base(listen: &str) -> Result<String, Failure> {
    let address = serve::address(listen)?;
    if address.port() == 0 {
        return Err(usage(
            "`listen` has port 0: `serve` takes any free one, which nobody can tell a client beforehand; \
             name a port, such as 127.0.0.1:8000, in config.json or INFERSHIELD_LISTEN",
        ));
    }
    // Other addresses and names stay as they are configured.
    let is_any = address.ip().is_unspecified();
    Ok(if is_any { format!("http://{}", serve::called(address)) } else { format!("http://{listen}") })
}

pub(super) fn clients(args: &Args) -> Done {
    let row = |client: Client| {
        let more = client.cannot.clone().unwrap_or_else(|| format!("settings of: {}", client.version));
        let text = format!("{:12}  {} ({more})", client.id, client.title);
        (json!(client), text)
    };
    show(args, known()?.into_iter().map(row), "no clients are known")
}

/// The user's key of this name, made when there is none.
pub(super) fn named(context: &Context, name: &str) -> Result<Secret, Failure> {
    let living = || -> Result<Option<Secret>, Failure> {
        let keys = context.store.keys(&context.user)?;
        let lives = keys.iter().any(|key| key.name == name && key.lives(now()));
        Ok(if lives { context.store.print_key(&context.user, name)? } else { None })
    };
    if let Some(secret) = living()? {
        return Ok(secret);
    }
    let new = NewKey { name: name.to_owned(), provider: None, expires_at: None, once: false };
    match made(context, &new) {
        Ok((_, secret)) => Ok(secret),
        // Another process may have made it just now.
        Err(why) => living()?.ok_or(why),
    }
}

pub(super) fn made(context: &Context, new: &NewKey) -> Result<(LocalKey, Secret), Failure> {
    let (key, secret) = context.store.create_key(&context.user, new, now())?;
    if let Err(why) = record(context, "key.create", &key) {
        // A key that nobody was told of, and that stands in no log.
        context.store.revoke_key(&context.user, &key.id)?;
        return Err(why);
    }
    Ok((key, secret))
}

fn no_such_key(word: &str) -> Failure {
    no(format_args!("there is no local key `{}`; type `infershield key list`", repeated(word)))
}

fn record(context: &Context, action: &str, key: &LocalKey) -> Done {
    let (key_id, provider) = (Some(key.id.clone()), key.provider.clone());
    context.record(Event { key_id, provider, ..Event::new(action) })
}
