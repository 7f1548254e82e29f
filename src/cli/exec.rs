//! `exec`: run a command with a proxy and a local key of its own, which end with it.
//! Must never put that key on a command line or into a file, nor run a command that would go past the proxy.

use super::context::{Context, MASTER_KEY_VARIABLES, provider as find};
use super::terminal::note;
use super::{Args, Done, Exit, Failure, key, serve, usage};
use crate::audit::{self, Filter, now, parse_since};
use crate::store::NewKey;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, parent_id};
use std::path::Path;
use std::process::{Command, Stdio, id};
use std::thread;
use std::time::Duration;

/// How often the proxy looks whether its command still runs.
const LOOK: Duration = Duration::from_millis(200);
/// How often it then looks whether requests that the command left behind have their audit lines: 3 seconds, far more than it
/// takes to notice that a client has left.
const LAST_LOOKS: u32 = 15;

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
    let context = Context::open(args)?;
    serve::usable(&context.config)?;
    let provider = before.first().map(|name| find(&context.providers, &name.to_string_lossy())).transpose()?;
    let provider = provider.map(|row| row.id.clone());
    let name = format!("exec-{}-{}", id(), now());
    let (made, secret) = key::made(&context, &NewKey { name, provider, expires_at: None, once: true })?;
    let failed = |error| format!("the proxy did not start: {error}; try `infershield serve`");
    let base = sidecar(&made.id).map_err(|error| Failure::new(Exit::Listen, failed(error)))?;

    let mut command = Command::new(program);
    let provider_keys = context.providers.iter().filter_map(|provider| provider.key_env.as_deref());
    for variable in provider_keys.chain(MASTER_KEY_VARIABLES) {
        command.env_remove(variable);
    }
    for (variable, value) in clients.iter().flat_map(|client| &client.set) {
        command.env(variable, value.replace("{base}", &base).replace("{key}", secret.expose()));
    }
    // What is for our proxy must not go to the company's before it.
    let direct = format!("127.0.0.1,{}", context.config.settings.no_proxy.unwrap_or_default());
    command.env("INFERSHIELD_EXEC", "1").env("NO_PROXY", &direct).env("no_proxy", &direct);
    if let Some(client) = client.filter(|client| !client.arguments.is_empty()) {
        let added: Vec<String> = client.arguments.iter().map(|word| word.replace("{base}", &base)).collect();
        note(format_args!("infershield: {} is started with {}", client.title, added.join(" ")));
        command.args(added);
    }
    // This process becomes the command; the proxy sees that when it ends, and also when there is none.
    let error = command.args(arguments).exec();
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotRunnable };
    Err(Failure::new(exit, format_args!("cannot run {0}: {error}; type `command -v {0}`", program.display())))
}

/// Starts the proxy and gives its URL. It inherits the master key, and is in a process group of its own: what a terminal signals
/// is for the command alone.
fn sidecar(key_id: &str) -> io::Result<String> {
    let tie = format!("{}:{key_id}", id());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--tied-to", &tie]).process_group(0);
    let proxy = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(proxy.stdout.ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
    let url = line.trim_end().strip_prefix(serve::LISTENING_ON).map(str::to_owned);
    url.ok_or_else(|| io::Error::other("what it said stands above"))
}

/// The proxy's part: lasts as long as the command (`PROCESS:KEY`), ends its key, and says what happened. `idle`: no client is connected.
pub(super) fn stay(context: &Context, tie: &str, idle: impl Fn() -> bool) -> Done {
    let (command, key_id) = tie.split_once(':').unwrap_or_default();
    let begun = now();
    while parent_id().to_string() == command {
        thread::sleep(LOOK);
    }
    let ended = key::ended(context, key_id);
    (0..LAST_LOOKS).take_while(|_| !idle()).for_each(|_| thread::sleep(LOOK));
    context.audit.sync()?;
    let mut events = Vec::new();
    let filter = Filter { since: parse_since(&begun.to_string(), begun), ..Filter::default() };
    audit::query(&context.home, &filter, &mut |line, _| {
        if line.event.key_id.as_deref() == Some(key_id) {
            events.push(line.event.clone());
        }
        Ok(())
    })?;
    events.retain(|event| event.request_id.is_some());
    let blocked = events.iter().filter(|event| event.blocked).count();
    let count = |action| events.iter().flat_map(|event| &event.findings).filter(|found| found.action == action).count();
    let (total, redacted, withheld) = (events.len(), count("redact"), count("withhold"));
    note(format_args!(
        "infershield: requests: {total}, redacted: {redacted}, withheld: {withheld}, blocked: {blocked}"
    ));
    ended.map(drop)
}
