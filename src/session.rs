//! Joins flow and store: "a valid token for (user, provider)", login and logout.
//! Must never send a token anywhere but to the hosts it was bound to, refresh twice at once, or forget a login by itself.

mod error;
mod exchanged;
mod login;

use crate::audit::{Audit, Event, Outcome, now};
use crate::config::Settings;
use crate::flow::copilot::ShortLived;
use crate::flow::{self, Login, Provider, chatgpt};
use crate::home::Home;
use crate::secret::{self, Secret};
use crate::store::{self, FileStore, Record, State};
use crate::upstream::{Endpoint, Upstream};
pub use error::{Error, Result};
pub use login::{Revoke, given_key, state};
use login::{is_moved, new_record, row_of, take};
use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A token is refreshed when it has less than this left, in seconds; a request may take minutes.
const MARGIN_SECONDS: u64 = 300;
/// How long a request waits for somebody else's refresh: the refresh itself has 30 s.
const REFRESH_WAIT: Duration = Duration::from_secs(40);
/// How often the lock of another refresh is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// After a refresh that failed for a passing reason, requests use the token they have for so long before the next try; after such an
/// exchange they get the same error where they have none.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);
/// So many 401s in a row to a token that was just refreshed make a login suspect.
const STRIKES: u32 = 3;
/// So long after its last refresh, in seconds, a suspect login may be tried once, with tokens refreshed again.
const SUSPECT_PAUSE_SECONDS: u64 = 600;

/// What is wrong with a login; the end of an [`Error::Unusable`].
const DEAD: &str = "ended the login";
const SUSPECT: &str = "keeps refusing this login";
const MOVED: &str = "is configured with other hosts than those this login was made for";
const REFUSED: &str = "refused the stored credential";
const EXPIRED: &str = "gave a token that has expired and cannot be refreshed";

/// What a request is sent with, and the only place that it may go to.
#[derive(Debug)]
pub struct Credential {
    /// The token or key; empty for a provider that takes none.
    pub token: Secret,
    /// The provider's row as it is for this login.
    pub row: Provider,
    /// Stands for the client's `/v1`.
    pub api_base: Endpoint,
    login: LoginId,
    /// This is the one try that a suspect login gets.
    is_suspect: bool,
}

/// A login: the next one of this user at this provider is another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LoginId {
    user: String,
    provider: String,
    created_at: u64,
}

/// Hands out tokens for one process.
pub struct Session {
    home: Home,
    store: Arc<FileStore>,
    audit: Arc<Audit>,
    /// The provider table.
    pub providers: Vec<Provider>,
    clients: HashMap<String, Upstream>,
    /// Whether logins that turn out dead or suspect are ended at the provider too.
    auto_revoke: bool,
    /// Logins of the default user by keys in the environment, which count where none is stored.
    from_environment: Vec<Record>,
    default_user: String,
    lives: Mutex<HashMap<LoginId, Life>>,
}

/// What this process remembers of a login besides its record.
#[derive(Default)]
struct Life {
    /// 401s in a row to a token that was just refreshed.
    strikes: u32,
    /// When and how a refresh last failed for a passing reason.
    failed: Option<(Instant, String)>,
    /// When the last try of the suspect login failed, in seconds since 1970; it then waits again.
    tried_at: u64,
    /// What the login's token was last exchanged for.
    short_lived: Option<ShortLived>,
    /// When and how an exchange last failed for a passing reason.
    unexchanged: Option<(Instant, String)>,
    /// Tokens that the provider gave and the disk did not take: the old ones are worth nothing any more.
    unsaved: Option<Record>,
}

impl Session {
    /// One client for each provider, by its certificate files; no connection is opened.
    pub fn new(
        home: Home,
        store: Arc<FileStore>,
        audit: Arc<Audit>,
        providers: Vec<Provider>,
        settings: &Settings,
    ) -> Result<Self> {
        let mut clients = HashMap::new();
        let mut from_environment = Vec::new();
        for provider in &providers {
            let failed = |error| Error::Flow(provider.id.clone(), error);
            let client = Upstream::new(settings, provider.ca_file.as_deref()).map_err(flow::Error::Network);
            clients.insert(provider.id.clone(), client.map_err(failed)?);
            if let Some(key) = given_key(provider)? {
                let row = provider.of_login(false);
                from_environment.push(Record { access_token: key, ..new_record(&row) });
            }
        }
        let (auto_revoke, default_user) = (settings.auto_revoke, settings.default_user.clone());
        let lives = Mutex::default();
        Ok(Self { home, store, audit, providers, clients, auto_revoke, from_environment, default_user, lives })
    }

    /// The client that trusts what this provider's row says.
    pub fn http(&self, provider: &Provider) -> Result<&Upstream> {
        self.clients.get(&provider.id).ok_or_else(|| Error::NotLoggedIn(provider.id.clone()))
    }

    /// The providers that the user has a login for, usable or not.
    pub fn logins(&self, user: &str) -> store::Result<Vec<String>> {
        Ok(self.records(user)?.into_iter().map(|record| record.provider).collect())
    }

    /// Whether the user's login at this provider is that of a ChatGPT account, which takes less than an API key.
    pub fn is_chatgpt_account(&self, user: &str, provider: &Provider) -> store::Result<bool> {
        let is_account = |record: &Record| record.provider == provider.id && record.bound.token_endpoint.is_some();
        Ok(provider.login == Login::Chatgpt && self.records(user)?.iter().any(is_account))
    }

    /// The user's stored logins, then those by keys in the environment.
    pub fn records(&self, user: &str) -> store::Result<Vec<Record>> {
        let mut records = self.store.records(user)?;
        for record in self.from_environment.iter().filter(|_| user == self.default_user) {
            if records.iter().all(|stored| stored.provider != record.provider) {
                records.push(record.clone());
            }
        }
        Ok(records)
    }

    /// A token that is good for five more minutes (or half its life), refreshed first when needed. After the provider answered
    /// 401 to one, another than that: somebody else's newer one, or a refreshed one.
    pub fn credential(&self, user: &str, provider: &Provider, refused: Option<&Credential>) -> Result<Credential> {
        let mut record = match provider.login {
            Login::None => new_record(provider),
            _ => self.usable_record(user, provider)?,
        };
        let is_refused = refused.is_some_and(|credential| credential.token == record.access_token);
        if is_due(&record) || record.state == State::Suspect || is_refused {
            record = self.refresh(user, provider, &record.access_token, is_refused)?;
        }
        let (login, is_suspect) = (LoginId::of(user, &record), record.state == State::Suspect);
        let moved = || Error::Unusable(provider.id.clone(), MOVED);
        let mut row = row_of(provider, &record).ok_or_else(moved)?;
        if let Some(account) = &record.bound.account_id {
            row.extra_headers.insert(chatgpt::ACCOUNT_HEADER.into(), account.clone());
        }
        if row.login == Login::Chatgpt {
            let (name, value) = chatgpt::ORIGINATOR;
            row.default_headers.insert(name.into(), value.into());
        }
        let mut api_base = record.bound.api_base.clone().ok_or_else(moved)?;
        let mut token = record.access_token.clone();
        if let (Some(_), Some(exchange)) = (&record.bound.exchange_endpoint, &row.exchange) {
            let short_lived = self.short_lived(&login, provider, exchange, &record, refused)?;
            row.default_headers.extend(exchange.headers.clone());
            api_base = short_lived.api_base.unwrap_or(api_base);
            token = short_lived.token;
        }
        Ok(Credential { token, row, api_base, login, is_suspect })
    }

    /// Takes note of the provider's last answer to a credential. The third 401 in a row, each to a token that was just
    /// refreshed, makes the login suspect; when the provider takes the token, what was suspected is forgotten.
    pub fn answered(&self, credential: &Credential, status: u16) -> Result<()> {
        let login = &credential.login;
        // What looks at a request, or counts it, has taken its token.
        let is_told = status < 400 || status == 401 || credential.is_suspect && matches!(status, 400 | 422 | 429);
        if credential.token.is_empty() || !is_told {
            return Ok(());
        }
        let strikes = self.with_life(login, |life| {
            life.strikes = if status == 401 { life.strikes.saturating_add(1) } else { 0 };
            life.strikes
        });
        if strikes == 0 && credential.is_suspect {
            // Should this fail, the login is tried again in ten minutes.
            let _ = self.set_state(login, State::Valid);
        }
        match strikes {
            0 => Ok(()),
            1..STRIKES => Err(Error::Unusable(login.provider.clone(), REFUSED)),
            _ => self.mark(login, State::Suspect),
        }
    }

    /// The record, if it may be used now.
    fn usable_record(&self, user: &str, provider: &Provider) -> Result<Record> {
        let record = self.record(user, &provider.id)?;
        let tried_at = self.with_life(&LoginId::of(user, &record), |life| life.tried_at);
        // The clock may have been ahead then.
        let age = now().checked_sub(record.refreshed_at.unwrap_or(record.created_at).max(tried_at)).unwrap_or(u64::MAX);
        let what = match record.state {
            _ if is_moved(provider, &record) => MOVED,
            State::Dead => DEAD,
            State::Suspect if age < SUSPECT_PAUSE_SECONDS => SUSPECT,
            _ => return Ok(record),
        };
        Err(Error::Unusable(provider.id.clone(), what))
    }

    /// A record whose access token is another than `stale`, if there is one to be had. One refresh at a time, among all threads
    /// and processes: the turn first, then the record is read again, and only then the provider is asked.
    fn refresh(&self, user: &str, provider: &Provider, stale: &Secret, is_refused: bool) -> Result<Record> {
        let _turn = self.turn(user, &provider.id)?;
        let id = provider.id.clone();
        let mut record = self.usable_record(user, provider)?;
        let login = LoginId::of(user, &record);
        if record.access_token != *stale && !is_due(&record) {
            return Ok(record);
        }
        let lives = record.state == State::Valid && record.expires_at.is_none_or(|at| at > now());
        let usable = lives && !is_refused;
        let (Some(token), Some(endpoint)) = (&record.refresh_token, &record.bound.token_endpoint) else {
            let what = if is_refused { REFUSED } else { EXPIRED };
            return if usable { Ok(record) } else { Err(Error::Unusable(id, what)) };
        };
        let paused = |life: &mut Life| life.failed.clone().filter(|(at, _)| at.elapsed() < REFRESH_PAUSE);
        if let (true, Some((_, why))) = (lives, self.with_life(&login, paused)) {
            return if usable { Ok(record) } else { Err(Error::Later(id, why)) };
        }
        let client_id = record.bound.client_id.as_deref().unwrap_or_default();
        let http = self.http(provider)?;
        let refreshed = match provider.login {
            Login::Chatgpt => chatgpt::refresh(http, endpoint, client_id, &record.access_token, token),
            _ => flow::token::refresh(http, endpoint, client_id, token),
        };
        match refreshed {
            Ok(tokens) => {
                take(&mut record, tokens);
                // Never earlier than before, though the clock was set back: the latest wins, see `keep`.
                record.refreshed_at = record.refreshed_at.max(Some(now()));
                self.keep(user, &record);
                self.note(user, &id, "auth.refresh", Outcome::Complete)?;
                Ok(record)
            }
            Err(flow::Error::LoginOver(_)) => self.mark(&login, State::Dead),
            Err(error) => {
                let why = format!("the token cannot be refreshed just now: {error}");
                let tried_at = if record.state == State::Suspect { now() } else { 0 };
                self.with_life(&login, |life| {
                    life.failed = Some((Instant::now(), why.clone()));
                    life.tried_at = tried_at;
                });
                self.note(user, &id, "auth.refresh", Outcome::Error)?;
                match error.is_transient() {
                    _ if usable => Ok(record),
                    true => Err(Error::Later(id, why)),
                    false => {
                        // No word on the token, but nothing that time heals either.
                        self.set_state(&login, State::Suspect)?;
                        Err(Error::Flow(id, error))
                    }
                }
            }
        }
    }

    /// Saves refreshed tokens, or keeps them in memory until the disk takes them: the old ones may be worth nothing any more.
    /// They are not wanted when the user has logged out or in anew, or when there are newer ones.
    fn keep(&self, user: &str, record: &Record) {
        let saved = self.store.update(user, &record.provider, &mut |stored| {
            if stored.created_at == record.created_at && stored.refreshed_at <= record.refreshed_at {
                *stored = Record { state: stored.state, ..record.clone() };
            }
        });
        let unsaved = saved.is_err().then(|| record.clone());
        self.with_life(&LoginId::of(user, record), |life| life.unsaved = unsaved);
    }

    /// The record; or newer tokens of the same login that could not be saved yet, which is tried again.
    fn record(&self, user: &str, provider: &str) -> Result<Record> {
        let found = self.records(user)?.into_iter().find(|record| record.provider == provider);
        let stored = found.ok_or_else(|| Error::NotLoggedIn(provider.to_owned()))?;
        match self.with_life(&LoginId::of(user, &stored), |life| life.unsaved.clone()) {
            Some(newer) if stored.refreshed_at <= newer.refreshed_at => {
                self.keep(user, &newer);
                Ok(newer)
            }
            _ => Ok(stored),
        }
    }

    /// Waits for the turn to refresh. A lock on a handle of its own keeps out the threads of this process as well as others.
    fn turn(&self, user: &str, provider: &str) -> Result<File> {
        let began = Instant::now();
        let locks = Home::open(self.home.path("locks"))?;
        let hash = secret::sha256_hex(&secret::place(&[user, provider]));
        let file = locks.open_or_create(&format!("refresh-{hash}"))?;
        while file.try_lock().is_err() {
            if began.elapsed() >= REFRESH_WAIT {
                return Err(Error::Later(provider.to_owned(), "another refresh takes too long; ask again".to_owned()));
            }
            thread::sleep(LOCK_POLL);
        }
        Ok(file)
    }

    /// Keeps the login and marks it, unless the user has a new one; the provider may be asked to end it too.
    /// Fails with what the user is told.
    fn mark<T>(&self, login: &LoginId, state: State) -> Result<T> {
        let (action, what) = if state == State::Dead { ("auth.dead", DEAD) } else { ("auth.suspect", SUSPECT) };
        if let Some(record) = self.set_state(login, state)? {
            self.note(&login.user, &login.provider, action, Outcome::Refused)?;
            let how = if self.auto_revoke { Revoke::Ordinary } else { Revoke::No };
            self.revoke(&record, how);
        }
        Err(Error::Unusable(login.provider.clone(), what))
    }

    /// The login with its new state; `None` when the user has logged out or in anew.
    fn set_state(&self, login: &LoginId, state: State) -> store::Result<Option<Record>> {
        let mut marked = None;
        self.store.update(&login.user, &login.provider, &mut |stored| {
            if stored.created_at == login.created_at {
                stored.state = state;
                marked = Some(stored.clone());
            }
        })?;
        Ok(marked)
    }

    fn note(&self, user: &str, provider: &str, action: &'static str, outcome: Outcome) -> Result<()> {
        let (user_id, provider) = (Some(user.to_owned()), Some(provider.to_owned()));
        let event = Event { user_id, provider, outcome, ..Event::new(action) };
        self.audit.append(&event).map(drop).map_err(|error| Error::Storage(store::Error::Storage(error.to_string())))
    }

    fn with_life<T>(&self, login: &LoginId, act: impl FnOnce(&mut Life) -> T) -> T {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        act(lives.entry(login.clone()).or_default())
    }
}

impl LoginId {
    fn of(user: &str, record: &Record) -> Self {
        Self { user: user.to_owned(), provider: record.provider.clone(), created_at: record.created_at }
    }
}

/// Whether the token should be refreshed: less than five minutes left, or half its life when it lives less than ten. One that
/// cannot be refreshed is used to its end.
fn is_due(record: &Record) -> bool {
    let Some(expires_at) = record.expires_at else { return false };
    let life = expires_at.saturating_sub(record.refreshed_at.unwrap_or(record.created_at));
    let left = expires_at.saturating_sub(now());
    // Half of a life of a second or less is nothing, and nothing is never less than nothing.
    left == 0 || (record.refresh_token.is_some() && left < MARGIN_SECONDS.min(life / 2))
}
