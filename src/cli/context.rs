//! What most commands need: settings, home, keys, store, log, providers. Opened once, in this order.

use super::{Args, Done, Failure, unknown, usage};
use crate::audit::{Audit, AuditKeys, Event};
use crate::config::{self, Config};
use crate::detect::Policy;
use crate::flow::provider::{Provider, table};
use crate::home::Home;
use crate::keys::{Keys, MasterSource};
use crate::secret::Secret;
use crate::session::{Revoke, Session};
use crate::store::{FileStore, Store};
use serde_json::Value;
use std::sync::Arc;

/// Holds the master key itself, if it is set.
const MASTER_KEY: &str = "INFERSHIELD_MASTER_KEY";

/// A home that is open for work.
pub(super) struct Context {
    pub(super) config: Config,
    /// `--user`, or the default user.
    pub(super) user: String,
    pub(super) home: Home,
    pub(super) keys: Arc<Keys>,
    pub(super) store: Arc<dyn Store>,
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

/// The policy of these settings.
pub(super) fn policy(config: &Config) -> Result<Policy, Failure> {
    serde_json::from_value(Value::Object(config.settings.policy.clone())).map_err(|error| {
        let what = config::with_nearest(error);
        usage(format_args!("config.json, policy: {what}; mend it, then type `infershield config check`"))
    })
}

/// The keys of this home, not yet unlocked.
pub(super) fn keys(config: &Config, home: &Home) -> Result<Keys, Failure> {
    Ok(Keys::open(home.clone(), master(config)?, config.settings.limits.pbkdf2_iterations)?)
}

/// The keys of the log.
pub(super) fn audit_keys(keys: &Keys) -> Result<AuditKeys, Failure> {
    let audit = keys.get("audit")?;
    Ok(AuditKeys { audit: audit.key, head: keys.get("head")?.key, kid: audit.id })
}

/// Where the master key comes from, the first that is set: variable, file, command, home.
pub(super) fn master(config: &Config) -> Result<MasterSource, Failure> {
    if let Some(text) = config::variable(MASTER_KEY)? {
        return Ok(MasterSource::Value(Secret::new(text)));
    }
    let settings = &config.settings;
    Ok(match &settings.master_key_file {
        Some(path) => MasterSource::File(path.clone()),
        None if !settings.master_key_command.is_empty() => MasterSource::Command(settings.master_key_command.clone()),
        None => MasterSource::Home,
    })
}

impl Context {
    /// Opens everything; makes the home when there is none.
    pub(super) fn open(args: &Args) -> Result<Self, Failure> {
        let config = load(args)?;
        let user = args.value("user").unwrap_or(&config.settings.default_user).to_owned();
        let providers = table(&config.settings.providers)?;
        let home = Home::open(config.dir.clone())?;
        let keys = Arc::new(keys(&config, &home)?);
        let audit = Arc::new(Audit::open(&home, audit_keys(&keys)?)?);
        let store = Arc::new(FileStore::new(home.clone(), Arc::clone(&keys)));
        Ok(Self { config, user, home, keys, store, audit, providers })
    }

    /// The provider of this name or alias.
    pub(super) fn provider(&self, name: &str) -> Result<&Provider, Failure> {
        let found = self.providers.iter().find(|provider| provider.names().any(|known| known == name));
        found.ok_or_else(|| {
            let known = self.providers.iter().map(|provider| provider.id.as_str());
            usage(unknown("provider", name, known) + "; type `infershield hosts` for those that are known")
        })
    }

    /// Tokens and the way to the providers.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let settings = &self.config.settings;
        let (home, store) = (self.home.clone(), Arc::clone(&self.store));
        let audit = Arc::clone(&self.audit);
        let auto_revoke = if settings.auto_revoke { Revoke::Ordinary } else { Revoke::No };
        Ok(Session::new(home, store, audit, self.providers.clone(), settings, auto_revoke)?)
    }

    /// Writes a line about something that a command did, durably.
    pub(super) fn record(&self, event: &Event) -> Done {
        self.audit.append(event)?;
        Ok(self.audit.sync()?)
    }
}
