//! `exec`: run a command with a proxy and a local key of its own, which end with it.
//! Must never put that key on a command line or into a file, nor run a command that would go past the proxy.

use super::context::{self, MASTER_KEY, MASTER_KEY_VARIABLES, provider as find};
use super::sidecar::{self, SEVERITIES};
use super::terminal::note;
use super::{Args, Done, Exit, Failure, key, no, serve, usage};
use crate::config::{Config, HOME_VARIABLE, variable};
use crate::flow::provider::table;
use crate::store::LOCAL_KEY_PREFIX;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Command, exit};
use std::{ffi::OsString, io, path::Path};

/// What a shell adds to the number of a signal that ended a command.
const BY_SIGNAL: i32 = 128;
/// What `--fail-on` says of a command that ended well.
const FAILED: &str =
    "failed by --fail-on, for what the proxy says above that it stopped, or because it did not end well";

/// What makes a folder a home that somebody uses: more than the keys and the empty log that any command makes.
const USED: [&str; 5] = ["config.json", "exceptions.json", "local-keys.json", "rules.d", "tokens.json"];

pub(super) fn exec(args: &Args) -> Done {
    let Some((before @ ([] | [_]), [program, arguments @ ..])) = args.halves() else {
        return Err(usage("write `infershield exec -- COMMAND`, or `infershield exec PROVIDER -- COMMAND`"));
    };
    let clients = key::known()?;
    let name = Path::new(program).file_name().unwrap_or_default();
    let client = clients.iter().find(|client| client.command.iter().any(|known| name == known.as_str()));
    if let Some(why) = client.and_then(|client| client.cannot.as_ref().or(client.past_exec.as_ref())) {
        return Err(usage(format_args!("this would go past the proxy: {why}")));
    }
    if args.value("fail-on").is_some_and(|least| !SEVERITIES.contains(&least)) {
        return Err(usage("--fail-on takes block, withhold or redact"));
    }
    if let Some(name) = args.value("audit").filter(|name| Path::new(name).symlink_metadata().is_ok()) {
        return Err(usage(format_args!("{name} exists already; remove it, or name another file with --audit")));
    }
    if args.has("audit") && !args.has("fail-on") && process::id() == 1 {
        let why = "as the first process of a container it takes the proxy with it, and the log: add --fail-on block";
        return Err(usage(format_args!("{why}, or start the container with an init")));
    }
    let config = context::load(args)?;
    serve::usable(&config)?;
    let providers = table(&config.settings.providers)?;
    let provider = before.first().map(|name| find(&providers, &name.to_string_lossy())).transpose()?;
    let provider_keys: Vec<&str> = providers.iter().filter_map(|provider| provider.key_env.as_deref()).collect();
    let is_passing = is_homeless(&config, &provider_keys)?;
    let secrets = [&[MASTER_KEY], &*provider_keys].concat();
    let started = sidecar::start(args, provider.map(|row| row.id.as_str()), &secrets, is_passing);
    let (mut proxy, key, base) = started.map_err(|Failure { exit, message }| {
        Failure::new(exit, format_args!("the proxy did not start: {message}; try `infershield serve`"))
    })?;

    let mut command = Command::new(program);
    // A build's key often stands in the variable of its secret too.
    let values = provider_keys.iter().filter_map(|name| variable(name).transpose()).collect::<Result<Vec<_>, _>>()?;
    for (name, value) in std::env::vars_os() {
        if value.to_str().is_some_and(|value| values.iter().any(|key| key.trim() == value.trim())) {
            command.env_remove(name);
        }
    }
    let elsewhere = clients.iter().flat_map(|client| client.unset.iter().map(String::as_str));
    for variable in provider_keys.into_iter().chain(MASTER_KEY_VARIABLES).chain(elsewhere) {
        command.env_remove(variable);
    }
    for (variable, value) in clients.iter().flat_map(|client| &client.set) {
        command.env(variable, value.replace("{base}", &base).replace("{key}", key.expose()));
    }
    // What is for our proxy must not go to the company's before it.
    let direct = format!("127.0.0.1,{}", config.settings.no_proxy.unwrap_or_default());
    command.env("INFERSHIELD_EXEC", "1").env("NO_PROXY", &direct).env("no_proxy", &direct);
    let given = |word: &str| word.replace("{base}", &base).replace("{direct}", &direct);
    if let Some(client) = client {
        let settings = client.arguments.as_chunks::<2>().0.iter().cloned();
        let (own, added): (Vec<_>, Vec<_>) = settings.partition(|setting| is_given(setting, arguments));
        for (how, words) in [("with", added.concat()), ("with your own instead of", own.concat())] {
            if !words.is_empty() {
                let words = given(&words.join(" "));
                note(format_args!("infershield: {} is started {how} {words}", client.title));
            }
        }
        command.args(added.as_flattened().iter().map(|word| given(word)));
    }
    command.args(arguments);
    let error = match args.value("fail-on") {
        // This process becomes the command; the proxy sees that when it ends, and also when there is none.
        None => command.exec(),
        Some(_) => match command.status() {
            // Waiting closes the pipe, which tells the proxy that the command has ended.
            Ok(status) if !proxy.wait().is_ok_and(|proxy| proxy.success()) && status.success() => {
                return Err(no(FAILED));
            }
            Ok(status) => exit(status.code().unwrap_or_else(|| BY_SIGNAL + status.signal().unwrap_or_default())),
            Err(error) => error,
        },
    };
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotRunnable };
    Err(Failure::new(exit, format_args!("cannot run {0}: {error}; type `command -v {0}`", program.display())))
}

/// Whether the user's own words hold this setting: its option, which many programs do not take twice; where that takes `NAME=VALUE`
/// (`-c` of Codex), the name too.
fn is_given([option, value]: &[String; 2], arguments: &[OsString]) -> bool {
    let own = arguments.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let own = own.fold(String::new(), |own, word| own + "\0" + &word) + "\0";
    match value.split_once('=') {
        Some((name, _)) => own.contains(&format!("\0{option}\0{name}=")),
        None => ["\0", "="].iter().any(|end| own.contains(&format!("\0{option}{end}"))),
    }
}

/// Whether this run has keys of providers in its environment and no home: a build machine, where nothing is written to disk.
fn is_homeless(config: &Config, provider_keys: &[&str]) -> Result<bool, Failure> {
    let is_named = std::env::var_os(HOME_VARIABLE).is_some_and(|dir| !dir.is_empty());
    if is_named || USED.iter().any(|name| config.dir.join(name).exists()) {
        return Ok(false);
    }
    let keys = provider_keys.iter().filter_map(|name| variable(name).transpose()).collect::<Result<Vec<_>, _>>()?;
    let is_homeless = keys.iter().any(|key| !key.starts_with(LOCAL_KEY_PREFIX));
    if !is_homeless && variable("INFERSHIELD_EXEC")?.is_some() {
        return Err(usage("this runs inside `infershield exec` already and is guarded: leave exec out"));
    }
    Ok(is_homeless)
}
