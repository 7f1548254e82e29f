//! `doctor`: a line for each thing that has to be right, and the command that repairs it.
//! Must never write anything or end at what is wrong, nor contact more than the own port unless `--online` asks for it.

use super::{Args, Done, Exit, Failure, context, key, no, rules, serve, settings, terminal, usage};
use crate::audit::{self, is_near};
use crate::config::{self, Config, Settings};
use crate::detect::Scanner;
use crate::flow::provider::{Provider, table};
use crate::keys::{ITERATIONS, Keys, MasterSource};
use crate::store::{FileStore, LOCAL_KEY_PREFIX};
use crate::upstream::{Error, Origin, Response, Upstream, Watching, watch_client};
use crate::{home::Home, secret::Secret, session};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for a host to begin its answer, once there is a connection: no model has a part in it.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Time for a proxy of ours to say that it is one: it is on this machine.
const OWN_ANSWER_TIME: Duration = Duration::from_secs(3);
/// Bytes of that which are read: it has some forty.
const OWN_ANSWER_BYTES: u64 = 1 << 10;
/// Seconds that our clock may differ from a provider's before tokens seem to live much longer or shorter than they do.
const MAX_DRIFT: u64 = 60;

/// What was found: fine, or a failure, of which [`Exit::No`] is only a warning.
type Found = Result<String, Failure>;
/// What was checked.
type Check = (&'static str, Found);

pub(super) fn doctor(args: &Args) -> Done {
    let usable = Config::load().map_err(Failure::from).and_then(|config| serve::usable(&config));
    // What the settings spoil is judged as if nothing were set.
    let config = Config::load().or_else(|_| Config::built_in())?;
    let providers = table(&config.settings.providers).unwrap_or_default();
    let known = if usable.is_ok() { providers.as_slice() } else { &[] };
    let mut found = vec![("config", usable.map(|_| "can be used".to_owned()))];
    found.extend(config::unknown_variables().into_iter().map(|text| ("config", Err(no(text)))));
    rules::files(&config).into_iter().flatten().for_each(|file| found.extend(samples(&file)));
    let network = settings::network(&config, &providers).into_iter();
    let network: Vec<_> = network.map(|(name, value, origin)| format!("{name} {value} ({origin})")).collect();
    found.push(("network", Ok(network.join(", "))));
    let home = home(&config, known, &mut found);
    found.push(("home", home));
    found.extend(known.iter().filter_map(given));
    found.extend(serve::address(&config.settings.listen).ok().map(|address| ("port", port(address))));
    match variables(&config.settings.listen) {
        Ok(past) if past.is_empty() => found.push(("variables", Ok("none leads past the proxy".to_owned()))),
        Ok(past) => found.extend(past.iter().map(|name| {
            let what = format_args!("{name} leads past the proxy; type `infershield clients`");
            ("variables", Err(no(what)))
        })),
        Err(failure) => found.push(("variables", Err(failure))),
    }
    if args.has("online") {
        providers.iter().for_each(|provider| online(&config.settings, provider, &mut found));
    }
    let mut failures = found.iter().filter_map(|(_, found)| found.as_ref().err());
    let failed = failures.any(|failure| failure.exit != Exit::No);
    terminal::list(args, found.into_iter().map(row), "")?;
    if failed { Err(no("")) } else { Ok(()) }
}

fn row((check, found): Check) -> (Value, String) {
    let (state, mark, what) = match found {
        Ok(what) => ("ok", '✓', what),
        Err(Failure { exit: Exit::No, message }) => ("warning", '!', message),
        Err(Failure { message, .. }) => ("failed", '✗', message),
    };
    let typed = what.split_once("type `").and_then(|(_, rest)| rest.split('`').next());
    let next = (state != "ok").then(|| typed.unwrap_or("infershield doctor"));
    let json = json!({"check": check, "state": state, "what": what, "next": next});
    (json, format!("{mark} {check}: {what}"))
}

/// A file of the user's rules, of which some do not find what they should. One that cannot be used at all is said with the settings.
fn samples((name, json): &(String, String)) -> Option<Check> {
    let wrong = Scanner::wrong_samples(json).ok()?;
    let what = format_args!("not every sample in {name} is as it should be; type `infershield rules check {name}`");
    (!wrong.is_empty()).then(|| ("rules", Err(no(what))))
}

/// Opens what is stored, unless that could write: keys that are missing are made, a rekey that was killed is finished.
fn home(config: &Config, known: &[Provider], found: &mut Vec<Check>) -> Found {
    let there = |name: &str| config.dir.join(name).exists();
    let master = context::master(config)?;
    let is_used = there("tokens.json") || there("local-keys.json");
    let has_keys = is_used || there("audit/head.json");
    if !has_keys || !there("lock") || there("master.key.new") {
        master.given()?;
        return Err(no("not in use yet, or unsettled; type `infershield auth status`"));
    }
    let home = Home::open(config.dir.clone())?;
    let opened_by = match &master {
        MasterSource::Value(_) => "a variable",
        MasterSource::File(_) => "a file",
        MasterSource::Command(_) => "a command",
        MasterSource::Home => {
            let what = "lies beside the tokens, so a stolen home opens; type `infershield rekey --with-key`";
            found.push(("master.key", Err(no(what))));
            "master.key"
        }
    };
    // Rounds are for a new key file only, and none is made here: what is wrong with them is said with the settings.
    let keys = Arc::new(Keys::open(home.clone(), master, *ITERATIONS.start())?);
    let log = audit::verify(&home, &keys.get("audit")?.key, &keys.get("head")?.key, None);
    let log = log.map(|log| format!("{} lines, unbroken", log.lines));
    found.push(("audit log", log.map_err(Failure::from)));
    let store = FileStore::new(&keys);
    let user = &config.settings.default_user;
    // Without its files the store has no key yet, and would make one.
    let records = match is_used {
        true => store.keys(user).and_then(|_| store.records(user))?,
        false => Vec::new(),
    };
    let logins = records.len();
    // Without the settings nobody can say where a login leads.
    for record in records.into_iter().filter(|_| !known.is_empty()) {
        let id = record.provider.clone();
        let row = known.iter().find(|row| row.id == id);
        let login = format!("{id} is {}", session::state(&record, row));
        let repair = usage(format_args!("{login}; type `infershield auth login {id}`"));
        found.push(("login", if login.ends_with(" valid") { Ok(login) } else { Err(repair) }));
    }
    Ok(format!("{} opens, for you alone, with the key from {opened_by}; {logins} logins", config.dir.display()))
}

/// The login by a key in the environment, which counts where none is stored.
fn given(provider: &Provider) -> Option<Check> {
    let (id, variable) = (&provider.id, provider.key_env.as_ref()?);
    let given = session::given_key(provider).transpose()?;
    let given = given.map(|_| format!("{id} has a key in {variable}, used where no login is stored"));
    Some(("login", given.map_err(Failure::from)))
}

fn port(address: SocketAddr) -> Found {
    let Err(error) = TcpListener::bind(address) else { return Ok(format!("{address} is free")) };
    let url = format!("http://{}/health", serve::called(address));
    let request = http::Request::get(&url).body(&[][..])?;
    let client = Upstream::new(&Settings::default(), None)?;
    let _watching = give_up_after(OWN_ANSWER_TIME);
    let ours = concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}").as_bytes();
    let mut body = Vec::new();
    if let Ok(reply) = Origin::parse(&url).and_then(|origin| client.send(&origin, request)) {
        // What was cut is not ours either.
        let _ = reply.into_body().take(OWN_ANSWER_BYTES).read_to_end(&mut body);
    }
    match body.as_slice() {
        body if body.ends_with(ours) => Ok(format!("a proxy answers on {address}")),
        body if body.starts_with(b"{\"status\":") => {
            Err(no(format_args!("another version's proxy has {address}: end it, then type `infershield serve`")))
        }
        _ => Err(serve::cannot_listen(address, &error)),
    }
}

/// The variables that hold something else than what `env` would set them to.
fn variables(listen: &str) -> Result<BTreeSet<String>, Failure> {
    let origin = |url: &str| Origin::parse(&url.replace("//localhost", "//127.0.0.1")).ok();
    let ours = key::base(listen).ok().and_then(|base| origin(&base));
    let mut past = BTreeSet::new();
    for (name, value) in key::known()?.iter().flat_map(|client| &client.set) {
        let Some(set) = config::variable(name)?.map(Secret::new) else { continue };
        let is_ours = match value.as_str() {
            "{key}" => set.expose().starts_with(LOCAL_KEY_PREFIX),
            address if address.starts_with("{base}") => ours.is_some() && origin(set.expose()) == ours,
            _ => true,
        };
        if !is_ours {
            past.insert(name.clone());
        }
    }
    for name in key::known()?.into_iter().flat_map(|client| client.unset) {
        past.extend(config::variable(&name)?.map(|_| name));
    }
    past.extend(key::direct().map(|_| "a proxy in the environment without 127.0.0.1 in NO_PROXY".to_owned()));
    Ok(past)
}

/// Asks each host of a provider for its first page, and compares clocks.
fn online(settings: &Settings, provider: &Provider, found: &mut Vec<Check>) {
    for host in provider.hosts() {
        let reply = ask(settings, provider, &host);
        let clock = reply.as_ref().ok().and_then(|reply| clock(reply, &host));
        found.extend(clock.map(|clock| ("clock", clock)));
        found.push(("host", reply.map(|_| format!("{host} answers"))));
    }
}

/// While it lives, nothing is waited for longer than this.
fn give_up_after(time: Duration) -> Watching {
    let begun = Instant::now();
    watch_client(move || begun.elapsed() > time)
}

fn ask(settings: &Settings, provider: &Provider, host: &Origin) -> Result<Response, Failure> {
    let _watching = give_up_after(ANSWER_TIME);
    let request = http::Request::get(host.to_string()).body(&[][..])?;
    match Upstream::new(settings, provider.ca_file.as_deref())?.send(host, request) {
        Err(Error::ClientLeft) => Err(usage(format_args!("{host} is silent; type `infershield hosts`"))),
        reply => Ok(reply?),
    }
}

/// What a reply's own time says of ours, when it has one.
fn clock(reply: &Response, host: &Origin) -> Option<Found> {
    let date = reply.headers().get("date")?.to_str().ok()?;
    let far = no(format_args!("{host} says {date}; type `timedatectl`"));
    Some(if is_near(date, MAX_DRIFT)? { Ok(format!("as {host} has it")) } else { Err(far) })
}
