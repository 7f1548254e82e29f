//! `env CLIENT` and `clients`: what to set for a client, from a table of data.

use super::args::Args;
use super::context::Context;
use super::terminal::{list, print};
use super::{Done, Failure, key, repeated, unknown};
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

pub(super) fn env(args: &Args) -> Done {
    let clients = table()?;
    let Some(name) = args.word() else {
        return Err(Failure::usage("name a client; type `infershield clients` for those that are known"));
    };
    let Some(client) = clients.iter().find(|client| client.id == name) else {
        let known = clients.iter().map(|client| client.id.as_str());
        return Err(Failure::usage(unknown("client", name, known) + "; type `infershield clients`"));
    };
    let (set, between, unset) = match args.value("shell") {
        None | Some("sh" | "bash" | "zsh") => ("export", "=", "unset"),
        Some("fish") => ("set -gx", " ", "set -e"),
        Some(other) => {
            return Err(Failure::usage(format_args!("--shell takes sh or fish, not `{}`", repeated(other))));
        }
    };
    let mut base = String::new();
    if args.has("undo") {
        for (variable, _) in &client.set {
            print(format_args!("{unset} {variable}"))?;
        }
    } else {
        let context = Context::open(args)?;
        base = format!("http://{}", context.config.settings.listen);
        let key = key::named(&context, &client.id)?;
        for (variable, value) in &client.set {
            // In single quotes, which both shells leave alone; our values hold none, but a configured address might.
            let value = value.replace("{base}", &base).replace("{key}", key.expose()).replace('\'', "");
            print(format_args!("{set} {variable}{between}'{value}'"))?;
        }
    }
    // For a person; a shell that evaluates the output passes over it.
    let lines = client.note.replace("{base}", &base);
    lines.lines().try_for_each(|line| print(format_args!("# {line}").to_string().trim_end()))
}

pub(super) fn clients(args: &Args) -> Done {
    let mut rows = Vec::new();
    for client in table()? {
        let text = format!("{:12}  {} (tried: {})", client.id, client.title, client.version);
        rows.push((serde_json::to_value(client)?, text));
    }
    list(args, rows, "no clients are known")
}

fn table() -> Result<Vec<Client>, Failure> {
    Ok(serde_json::from_str(CLIENTS)?)
}
