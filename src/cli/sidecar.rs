//! The proxy of one `exec`: it starts with secrets from a pipe, lasts as long as the command, and then says what happened.
//! Must never take or hand on a secret by a command line, a variable or a file, nor leave a home behind that ends with the run.

use super::context::{Context, MASTER_KEY};
use super::terminal::{note, print};
use super::{Args, Done, Exit, Failure, audit as files, key, no, serve};
use crate::audit::{self, Filter, export, now, parse_since};
use crate::config::{self, Config, HOME_VARIABLE, variable};
use crate::home::Home;
use crate::secret::{KEY_BYTES, Secret, hex, random};
use crate::store::NewKey;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::{Child, Command, Stdio, id};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;

/// How often the proxy looks whether its command still runs.
const LOOK: Duration = Duration::from_millis(200);
/// How often it then looks whether requests that the command left behind have their audit lines: 3 seconds, far more than it
/// takes to notice that a client has left.
const LAST_LOOKS: u32 = 15;
/// A key of a run that could not end it, because it was killed, ends after so many seconds: 30 days, longer than any command runs.
const RUN_SECONDS: u64 = 30 * 24 * 3600;
/// So far, in seconds, a clock may be set back in a run whose lines are found all the same: a day.
const CLOCK_SECONDS: u64 = 24 * 3600;
/// Where homes that end with their run stand: a file system in memory, on Linux.
const IN_MEMORY: &str = "/dev/shm";
/// Random bytes in the name of such a home: nobody can take it before us.
const NAME_BYTES: usize = 16;
/// How a proxy that does not start may end: `exec` ends in the same way.
const FAILURES: [Exit; 6] = [Exit::No, Exit::Usage, Exit::Unreachable, Exit::Credential, Exit::Storage, Exit::Listen];
/// What ends variables, each `NAME=VALUE`, and their list.
const END: u8 = 0;
/// What `--fail-on` takes, the weakest first.
pub(super) const SEVERITIES: [&str; 3] = ["redact", "withhold", "block"];

/// The process of a proxy, its local key and its URL.
type Started = Result<(Child, Secret, String), Failure>;

/// Starts the proxy in a process group of its own: what a terminal signals is for the command alone. It is given the variables
/// `secrets` over a pipe; the pipe's end is the command's, where `exec` waits for that. With `is_passing` its home ends with it.
pub(super) fn start(args: &Args, provider: Option<&str>, secrets: &[&str], is_passing: bool) -> Started {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--tied-to", &id().to_string()]);
    let flags = [("fail-on", args.value("fail-on")), ("audit", args.value("audit")), ("provider", provider)];
    for (flag, value) in flags {
        command.args(value.map(|value| format!("--{flag}={value}")));
    }
    command.args(is_passing.then_some("--passing"));
    let mut given = Zeroizing::new(String::new());
    for name in secrets {
        command.env_remove(name);
        let value = Zeroizing::new(variable(name)?.unwrap_or_default());
        *given += &Zeroizing::new(format!("{name}={}\0", *value));
    }
    let mut proxy = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(stdin) = &mut proxy.stdin {
        stdin.write_all(given.as_bytes()).and_then(|()| stdin.write_all(b"\0"))?;
    }
    let (mut key, mut url) = (String::new(), String::new());
    if let Some(stdout) = proxy.stdout.take() {
        let mut lines = BufReader::new(stdout);
        lines.read_line(&mut key).and_then(|_| lines.read_line(&mut url))?;
    }
    let Some(base) = url.trim_end().strip_prefix(serve::LISTENING_ON) else {
        let code = proxy.wait()?.code();
        let exit = FAILURES.into_iter().find(|exit| code == Some(*exit as i32));
        return Err(Failure::new(exit.unwrap_or(Exit::Bug), "what it said stands above"));
    };
    Ok((proxy, Secret::new(key.trim_end().to_owned()), base.to_owned()))
}

/// The proxy's own part.
pub(super) struct Tie<'a> {
    args: &'a Args,
    begun: u64,
    /// The home that ends with it.
    _passing: Option<Passing>,
    /// What the log is copied to.
    audit: Option<File>,
}

impl<'a> Tie<'a> {
    /// Takes what comes over the pipe, before anything else is looked at.
    pub(super) fn take(args: &'a Args) -> Result<Self, Failure> {
        let mut given = Vec::new();
        // The list ends with an empty entry, or with the pipe.
        for entry in io::stdin().lock().split(END) {
            let entry = Zeroizing::new(String::from_utf8(entry?).unwrap_or_default());
            let Some((name, value)) = entry.split_once('=') else { break };
            given.push((name.to_owned(), Secret::new(value.to_owned())));
        }
        let _passing = args.has("passing").then(|| Passing::begin(&mut given)).transpose()?;
        config::give(given);
        let home = Config::built_in()?.dir;
        let audit = args.value("audit").map(|name| files::create(name, &home)).transpose()?;
        Ok(Self { args, begun: now(), _passing, audit })
    }

    /// Makes the command's key and hands it to `exec`. Gives its id.
    pub(super) fn make_key(&self, context: &Context) -> Result<String, Failure> {
        let (name, provider) = (format!("exec-{}-{}", id(), now()), self.args.value("provider").map(str::to_owned));
        let expires_at = Some(self.begun + RUN_SECONDS);
        let (made, secret) = key::made(context, &NewKey { name, provider, expires_at, once: true })?;
        // A command that is gone already has no use for it, but the key has to end.
        let _ = print(secret.expose());
        Ok(made.id)
    }

    /// Lasts as long as the command, ends its key, and says what happened. `idle`: no client is connected.
    pub(super) fn stay(self, context: &Context, key_id: &str, idle: impl Fn() -> bool) -> Done {
        let fail_on = self.args.value("fail-on");
        if fail_on.is_some() {
            io::copy(&mut io::stdin().lock(), &mut io::sink())?;
        }
        while fail_on.is_none() && self.args.value("tied-to") == Some(&parent_id().to_string()) {
            thread::sleep(LOOK);
        }
        let ended = key::ended(context, key_id);
        (0..LAST_LOOKS).take_while(|_| !idle()).for_each(|_| thread::sleep(LOOK));
        context.audit.sync()?;
        let mut events = Vec::new();
        // The clock may have been set back since.
        let since = parse_since(&self.begun.saturating_sub(CLOCK_SECONDS).to_string(), self.begun);
        let (mut filter, mut first) = (Filter { since, ..Filter::default() }, u64::MAX);
        audit::query(&context.keys.home, &filter, &mut |line, _| {
            if line.event.key_id.as_deref() == Some(key_id) {
                first = first.min(line.seq);
            }
            if line.event.key_id.as_deref() == Some(key_id) && line.event.request_id.is_some() {
                events.push(line.event.clone());
            }
            Ok(())
        })?;
        let blocked = events.iter().filter(|event| event.blocked).count();
        let has = |event: &audit::Event, action| event.findings.iter().any(|found| found.action == action);
        let count = |action| events.iter().filter(|event| has(event, action)).count();
        let (total, redacted, withheld) = (events.len(), count("redact"), count("withhold"));
        note(format_args!(
            "infershield: requests: {total}, redacted: {redacted}, withheld: {withheld}, blocked: {blocked}"
        ));
        if let Some(file) = &self.audit {
            filter.from = first;
            export::jsonl(&context.keys.home, &filter, &mut &*file)?;
        }
        ended?;
        let least = fail_on.and_then(|least| SEVERITIES.iter().position(|one| *one == least));
        let stopped: usize = [redacted, withheld, blocked].iter().skip(least.unwrap_or(SEVERITIES.len())).sum();
        if stopped > 0 { Err(no("")) } else { Ok(()) }
    }
}

/// What stands for a home where there is none: a folder in memory that is removed with this. Its master key is random and is written
/// nowhere, so that nothing sealed opens that a killed proxy leaves behind.
struct Passing(String);

impl Passing {
    /// Makes it, and adds what makes it the home.
    fn begin(given: &mut Vec<(String, Secret)>) -> Result<Self, Failure> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if !mounts.contains(&format!(" {IN_MEMORY} tmpfs ")) {
            let why = format_args!("{IN_MEMORY} is not in memory; set {HOME_VARIABLE} to a folder");
            return Err(Failure::new(Exit::Storage, why));
        }
        let dir = format!("{IN_MEMORY}/infershield-{}-{}", id(), hex(&random::<NAME_BYTES>()?));
        Home::open(dir.clone().into())?;
        let master = hex(&*Zeroizing::new(random::<KEY_BYTES>()?));
        given.push((HOME_VARIABLE.to_owned(), Secret::new(dir.clone())));
        given.push((MASTER_KEY.to_owned(), Secret::new(master)));
        Ok(Self(dir))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Should this fail, no key is left in it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
