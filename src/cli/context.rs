//! What most commands need: settings, home, keys, store, log, providers. Opened once, in this order.

use super::{Args, Done, Failure, unknown, usage};
use crate::audit::{Audit, Event};
use crate::config::{self, Config};
use crate::detect::Policy;
use crate::flow::provider::{Provider, named, table};
use crate::home::Home;
use crate::keys::{ITERATIONS, Keys, MasterSource};
use crate::secret::Secret;
use crate::session::Session;
use crate::store::FileStore;
use serde::Deserialize as _;
use serde_json::Value;
use std::fmt::Display;
use std::sync::Arc;

/// Holds the master key itself, if it is set.
pub(super) const MASTER_KEY: &str = "INFERSHIELD_MASTER_KEY";
/// What gives the master key, or says where it lies.
pub(super) const MASTER_KEY_VARIABLES: [&str; 2] = [MASTER_KEY, "INFERSHIELD_MASTER_KEY_FILE"];

/// Longest name of a user or of a key, in characters: an address by e-mail, or the name of a machine and a program.
const LONGEST_NAME: usize = 128;

/// A home that is open for work.
pub(super) struct Context {
    pub(super) config: Config,
    /// `--user`, or the default user.
    pub(super) user: String,
    pub(super) keys: Arc<Keys>,
    pub(super) store: Arc<FileStore>,
    pub(super) audit: Arc<Audit>,
    pub(super) providers: Vec<Provider>,
}

/// The settings alone, without touching the home.
pub(super) fn load(args: &Args) -> Result<Config, Failure> {
    let mut config = Config::load()?;
    if let Some(address) = args.value("listen") {
        config.set("listen", address.to_owned(), "--listen")?;
    }
    if args.has("monitor") {
        config.set("mode", "monitor".to_owned(), "--monitor")?;
    }
    Ok(config)
}

/// The failure with commands for the user whom `--user` names.
pub(super) fn addressed(failure: Failure, args: &Args) -> Failure {
    let Some((user, config)) = args.value("user").zip(Config::load().ok()) else { return failure };
    Failure::new(failure.exit, config.settings.for_user(user, &failure.message))
}

/// A name that a person chose. It is repeated on terminals and stands in files, so it is short and plain.
pub(super) fn name(of: &str, name: &str) -> Result<String, Failure> {
    if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(is_plain) {
        return Err(usage(format_args!("a {of} name has 1 to {LONGEST_NAME} plain characters; choose another")));
    }
    Ok(name.to_owned())
}

/// No control, nor what turns the text on a terminal round or is not seen there.
fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || letter == ' ' || letter.is_ascii_graphic()
}

/// The policy of these settings.
pub(super) fn policy(config: &Config) -> Result<Policy, Failure> {
    let policy = Policy::deserialize(Value::Object(config.settings.policy.clone())).map_err(config::with_nearest);
    policy.and_then(Policy::checked).map_err(|what| unusable("policy", what))
}

/// An error about a setting that cannot be used.
pub(super) fn unusable(setting: &str, what: impl Display) -> Failure {
    usage(format_args!("{setting}: {what}; mend config.json, then type `infershield config check`"))
}

/// The keys of the home, which is made when there is none, not yet unlocked.
pub(super) fn keys(config: &Config) -> Result<Keys, Failure> {
    Ok(Keys::open(Home::open(config.dir.clone())?, master(config)?, rounds(config)?)?)
}

/// The rounds that derive the root key of a new key file.
pub(super) fn rounds(config: &Config) -> Result<u32, Failure> {
    let (rounds, (least, most)) = (config.settings.limits.pbkdf2_iterations, ITERATIONS.into_inner());
    match ITERATIONS.contains(&rounds) {
        true => Ok(rounds),
        false => Err(unusable("limits.pbkdf2_iterations", format_args!("{rounds} is not from {least} to {most}"))),
    }
}

/// Where the master key comes from, the first that is set: variable, file, command, home.
pub(super) fn master(config: &Config) -> Result<MasterSource, Failure> {
    if let Some(text) = config::variable(MASTER_KEY)? {
        return Ok(MasterSource::Value(Secret::new(text)));
    }
    let settings = &config.settings;
    match (&settings.master_key_file, settings.master_key_command.first()) {
        (Some(path), _) => Ok(MasterSource::File(path.clone())),
        (None, None) => Ok(MasterSource::Home),
        (None, Some(program)) if program.is_empty() => Err(unusable("master_key_command", "it names no program")),
        (None, Some(_)) => Ok(MasterSource::Command(settings.master_key_command.clone())),
    }
}

/// The provider of this name or alias.
pub(super) fn provider<'a>(table: &'a [Provider], name: &str) -> Result<&'a Provider, Failure> {
    named(table, name).ok_or_else(|| {
        let known = table.iter().map(|provider| provider.id.as_str());
        usage(unknown("provider", name, known) + "; type `infershield hosts` for those that are known")
    })
}

impl Context {
    /// Opens everything; makes the home when there is none.
    pub(super) fn open(args: &Args) -> Result<Self, Failure> {
        let config = load(args)?;
        let user = name("user", args.value("user").unwrap_or(&config.settings.default_user))?;
        let providers = table(&config.settings.providers)?;
        let keys = Arc::new(keys(&config)?);
        let home = &keys.home;
        // With logins or keys there was a log; one that begins anew says so, whoever took the old one away.
        let is_used = ["tokens.json", "local-keys.json"].iter().any(|name| home.stamp(name).is_some());
        let is_restart = is_used && home.stamp("audit/head.json").is_none();
        let audit = Arc::new(Audit::open(home, keys.get("audit")?, keys.get("head")?.key)?);
        if is_restart {
            audit.append(&Event::new("audit.restarted"))?;
        }
        let store = Arc::new(FileStore::new(&keys));
        Ok(Self { config, user, keys, store, audit, providers })
    }

    /// Tokens and the way to the providers.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let settings = &self.config.settings;
        let (home, store) = (self.keys.home.clone(), Arc::clone(&self.store));
        let audit = Arc::clone(&self.audit);
        Ok(Session::new(home, store, audit, self.providers.clone(), settings)?)
    }

    /// Writes a line about something that a command did for its user, durably.
    pub(super) fn record(&self, event: Event) -> Done {
        self.audit.append(&Event { user_id: Some(self.user.clone()), ..event })?;
        Ok(self.audit.sync()?)
    }
}
