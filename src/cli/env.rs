//! `env CLIENT` and `clients`: what to set for a client, from a table of data.

use super::args::Args;
use super::context::Context;
use super::terminal::{note, print as say};
use super::{Done, Failure, key, repeated};
use crate::config::did_you_mean;
use serde::{Deserialize, Serialize};

/// The table: what to set, where `{base}` is the proxy's address and `{key}` the client's own local key.
const CLIENTS: &str = include_str!("clients.json");

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Client {
    id: String,
    title: String,
    /// The version that was tried.
    version: String,
    /// Variables and values.
    set: Vec<(String, String)>,
    /// What a person has to do, or should know.
    note: String,
}

/// The quoting rules of a shell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shell {
    Sh,
    Fish,
}

pub(super) fn env(args: &Args) -> Done {
    let clients = table()?;
    let Some(name) = args.word(0) else {
        return Err(Failure::usage("name a client; type `infershield clients` for those that are known"));
    };
    let client = clients.iter().find(|client| client.id == name).ok_or_else(|| {
        let hint = did_you_mean(name, clients.iter().map(|client| client.id.as_str()));
        Failure::usage(format_args!("unknown client `{}`{hint}; type `infershield clients`", repeated(name)))
    })?;
    let shell = match args.value("shell").unwrap_or("sh") {
        "sh" | "bash" | "zsh" => Shell::Sh,
        "fish" => Shell::Fish,
        other => {
            return Err(Failure::usage(format_args!("--shell takes sh or fish, not `{}`", repeated(other))));
        }
    };
    if args.has("undo") {
        for (variable, _) in &client.set {
            say(if shell == Shell::Sh { format!("unset {variable}") } else { format!("set -e {variable}") })?;
        }
        return comment(&client.note, "");
    }
    let context = Context::open(&[])?;
    let base = format!("http://{}", context.config.settings.listen);
    let secret = key::named(&context, &context.user(args), &client.id)?;
    for (variable, value) in &client.set {
        let value = value.replace("{base}", &base).replace("{key}", secret.expose());
        say(match shell {
            Shell::Sh => format!("export {variable}={}", quoted(&value)),
            Shell::Fish => format!("set -gx {variable} {}", quoted(&value)),
        })?;
    }
    comment(&client.note, &base)
}

pub(super) fn clients(args: &Args) -> Done {
    let clients = table()?;
    if args.has("json") {
        return say(serde_json::to_string(&clients).map_err(Failure::storage)?);
    }
    for client in clients {
        say(format_args!("{:12}  {} (tried: {})", client.id, client.title, client.version))?;
    }
    note("what to set: infershield env CLIENT");
    Ok(())
}

fn table() -> Result<Vec<Client>, Failure> {
    serde_json::from_str(CLIENTS).map_err(Failure::storage)
}

/// Lines for a person; a shell that evaluates the output passes over them.
fn comment(text: &str, base: &str) -> Done {
    text.replace("{base}", base).lines().try_for_each(|line| say(format!("# {line}").trim_end()))
}

/// In single quotes, which both shells leave alone; our values hold none, but a configured address might.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', ""))
}
