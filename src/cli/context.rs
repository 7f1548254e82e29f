//! What most commands need: settings, home, keys, store, log, providers. Opened once, in this order.

use super::args::Args;
use super::{Done, Exit, Failure, repeated};
use crate::audit::{Audit, AuditKeys, Event};
use crate::config::{self, Config, Roots, did_you_mean};
use crate::flow::{self, Provider};
use crate::home::Home;
use crate::keys::{Keys, MasterSource};
use crate::secret::Secret;
use crate::session::{self, Session};
use crate::store::{self, FileStore, Store};
use crate::upstream;
use std::error::Error;
use std::sync::Arc;

/// Holds the master key itself, if it is set.
const MASTER_KEY: &str = "INFERSHIELD_MASTER_KEY";

/// A home that is open for work.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) home: Home,
    pub(super) keys: Arc<Keys>,
    pub(super) store: Arc<dyn Store>,
    pub(super) audit: Arc<Audit>,
    pub(super) providers: Vec<Provider>,
}

/// The settings alone, without touching the home.
pub(super) fn load(flags: &[(&str, String, &'static str)]) -> Result<Config, Failure> {
    Ok(Config::load(|name| std::env::var_os(name), flags)?)
}

/// The provider table of these settings.
pub(super) fn providers(config: &Config) -> Result<Vec<Provider>, Failure> {
    flow::provider::table(&config.settings.providers).map_err(Failure::from)
}

/// The keys of this home, not yet unlocked.
pub(super) fn keys(config: &Config, home: &Home) -> Result<Keys, Failure> {
    Ok(Keys::open(home.clone(), master(config)?, config.settings.limits.pbkdf2_iterations)?)
}

impl Context {
    /// Opens everything; makes the home when there is none.
    pub(super) fn open(flags: &[(&str, String, &'static str)]) -> Result<Self, Failure> {
        let config = load(flags)?;
        let providers = providers(&config)?;
        let home = Home::open(config.dir.clone())?;
        let keys = Arc::new(keys(&config, &home)?);
        let audit = Arc::new(open_audit(&home, &keys)?);
        let store = Arc::new(FileStore::new(home.clone(), Arc::clone(&keys)));
        Ok(Self { config, home, keys, store, audit, providers })
    }

    /// `--user`, or the default user.
    pub(super) fn user(&self, args: &Args) -> String {
        args.value("user").unwrap_or(&self.config.settings.default_user).to_owned()
    }

    /// The provider of this name or alias.
    pub(super) fn provider(&self, name: &str) -> Result<&Provider, Failure> {
        find(&self.providers, name)
    }

    /// Tokens and the way to the providers.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let settings = &self.config.settings;
        let upstream = upstream::Settings {
            https_proxy: settings.https_proxy.clone(),
            no_proxy: settings.no_proxy.clone(),
            ca_file: settings.ca_file.clone(),
            provider_ca_file: None,
            system_roots: settings.roots == Roots::System,
            ssl_cert_file: settings.ssl_cert_file.clone(),
        };
        let (home, store) = (self.home.clone(), Arc::clone(&self.store));
        let audit = Arc::clone(&self.audit);
        Ok(Session::new(home, store, audit, self.providers.clone(), &upstream, settings.auto_revoke)?)
    }

    /// Writes a line about something that a command did, durably.
    pub(super) fn record(&self, event: &Event) -> Done {
        self.audit.append(event)?;
        Ok(self.audit.sync()?)
    }
}

/// The provider of this name or alias.
pub(super) fn find<'a>(providers: &'a [Provider], name: &str) -> Result<&'a Provider, Failure> {
    providers.iter().find(|provider| provider.names().any(|known| known == name)).ok_or_else(|| {
        let known: Vec<&str> = providers.iter().map(|provider| provider.id.as_str()).collect();
        let hint = did_you_mean(name, known.iter().copied());
        Failure::usage(format_args!("unknown provider `{}`{hint}; there are {}", repeated(name), known.join(", ")))
    })
}

/// The log of this home, with its keys.
pub(super) fn open_audit(home: &Home, keys: &Keys) -> Result<Audit, Failure> {
    Ok(Audit::open(home, audit_keys(keys)?)?)
}

/// The keys of the log.
pub(super) fn audit_keys(keys: &Keys) -> Result<AuditKeys, Failure> {
    Ok(AuditKeys { audit: keys.audit()?, head: keys.head()?, kid: keys.kid("audit")? })
}

/// The first place that is set: variable, file, command, home.
pub(super) fn master(config: &Config) -> Result<MasterSource, Failure> {
    let settings = &config.settings;
    if let Some(text) = std::env::var_os(MASTER_KEY).filter(|text| !text.is_empty()) {
        let text = text.into_string().map_err(|_| Failure::usage(format_args!("{MASTER_KEY} is not UTF-8")))?;
        return Ok(MasterSource::Value(Secret::new(text)));
    }
    Ok(match &settings.master_key_file {
        Some(path) => MasterSource::File(path.clone()),
        None if !settings.master_key_command.is_empty() => MasterSource::Command(settings.master_key_command.clone()),
        None => MasterSource::Home,
    })
}

/// Every error of the modules below; its own text says what failed and what to type.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(exit(&error), error)
    }
}

/// The exit code of an error; what is not named here is storage.
fn exit(error: &(dyn Error + 'static)) -> Exit {
    if let Some(error) = error.downcast_ref() {
        return match error {
            session::Error::Flow(error) => exit(error),
            session::Error::Upstream(error) => exit(error),
            session::Error::NotLoggedIn(_) => Exit::No,
            session::Error::Later(..) => Exit::Unreachable,
            session::Error::Unusable(..) => Exit::Credential,
            session::Error::Store(_) | session::Error::Local(_) => Exit::Storage,
        };
    }
    match error.downcast_ref() {
        Some(flow::Error::Network(error)) => return exit(error),
        Some(flow::Error::Table(..) | flow::Error::NoClientId(_)) => {
            return Exit::Usage;
        }
        Some(flow::Error::Discovery(..) | flow::Error::Reply(..)) => return Exit::Unreachable,
        Some(flow::Error::Denied | flow::Error::CodeExpired) => return Exit::No,
        Some(flow::Error::Refused(..) | flow::Error::LoginOver(_)) => return Exit::Credential,
        None => {}
    }
    match error.downcast_ref() {
        Some(upstream::Error::Settings(_) | upstream::Error::Url(_)) => return Exit::Usage,
        Some(_) => return Exit::Unreachable,
        None => {}
    }
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(config::Error::File(..) | config::Error::Value(..) | config::Error::NoHome), _) => Exit::Usage,
        (_, Some(store::Error::NameTaken(_) | store::Error::OnlyOnce(_))) => Exit::Usage,
        _ => Exit::Storage,
    }
}
