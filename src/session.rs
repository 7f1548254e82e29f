//! Joins flow and store: "a valid token for (user, provider)", login and logout.
//! Must never send a token anywhere but to the hosts it was bound to, refresh twice at once, or forget a login by itself.

use crate::audit::{Audit, Event, Outcome};
use crate::flow::{self, DeviceCode, Login, Provider, SystemClock, Tokens};
use crate::home::Home;
use crate::secret::{self, Secret};
use crate::store::{self, Bound, Record, State, Store};
use crate::upstream::{self, Endpoint, Origin, Upstream};
use std::collections::HashMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A token is refreshed when it has less than this left, in seconds; a request may take minutes.
const MARGIN_SECONDS: u64 = 300;
/// How long a request waits for somebody else's refresh: the refresh itself has 30 s.
const REFRESH_WAIT: Duration = Duration::from_secs(40);
/// How often the lock of another refresh is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// After a refresh that failed for a passing reason, requests use the token they have for so long before the next try.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);
/// So many 401s in a row to a token that was just refreshed make a login suspect.
const STRIKES: u32 = 3;
/// After so long a suspect login may be tried once.
const SUSPECT_PAUSE: Duration = Duration::from_secs(600);

/// Seconds since 1970, by the wall clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is wrong with a login; the end of an [`Error::Unusable`].
const DEAD: &str = "ended the login";
const SUSPECT: &str = "keeps refusing this login";
const EXPIRED: &str = "gave a token that has expired and cannot be refreshed";
const MOVED: &str = "is configured with other hosts than those this login was made for";
const REFUSED: &str = "refused the stored credential";

/// Why there is no token. Every text ends with what to do.
#[derive(Debug)]
pub enum Error {
    /// The user has no login at this provider.
    NotLoggedIn(String),
    /// The provider, and why only the user can repair the login.
    Unusable(String, &'static str),
    /// The provider, and what is in the way just now; it heals by itself.
    Later(String, &'static str),
    /// The provider's own way to log in failed.
    Flow(flow::Error),
    /// The records cannot be read or written.
    Store(store::Error),
    /// The provider's client cannot be built (certificate files).
    Upstream(upstream::Error),
    /// A header, a lock file or the log cannot be used; the text says which.
    Local(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoggedIn(id) => write!(f, "provider {id} is not logged in; type `infershield auth login {id}`"),
            Self::Unusable(id, what) => write!(f, "provider {id} {what}; type `infershield auth login {id}`"),
            Self::Later(id, what) => write!(f, "provider {id}: {what}; ask again"),
            Self::Flow(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Upstream(error) => error.fmt(f),
            Self::Local(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// What a request is sent with, and where it may go.
#[derive(Debug)]
pub struct Credential {
    /// The token or key; `None` for a provider that takes none.
    pub token: Option<Secret>,
    /// Stands for the client's `/v1`.
    pub api_base: String,
    /// The only places that the request may go to.
    pub origins: Vec<Origin>,
}

/// What a logout asks of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// Nothing.
    No,
    /// Its ordinary call (RFC 7009), where it has one.
    Ordinary,
    /// Also the irreversible call for exposed tokens, where it has no ordinary one.
    Exposed,
}

/// Hands out tokens for one process.
pub struct Session {
    home: Home,
    store: Arc<dyn Store>,
    audit: Arc<Audit>,
    providers: Vec<Provider>,
    clients: HashMap<String, Upstream>,
    auto_revoke: bool,
    lives: Mutex<HashMap<(String, String), Life>>,
}

/// What this process remembers of a login besides its record.
#[derive(Default)]
struct Life {
    /// 401s in a row to a token that was just refreshed.
    strikes: u32,
    /// When a suspect login was noticed or last tried.
    suspect_since: Option<Instant>,
    /// When a refresh last failed for a passing reason.
    failed_at: Option<Instant>,
    /// Tokens that the provider gave and the disk did not take: the old ones are worth nothing any more.
    unsaved: Option<Record>,
}

impl Session {
    /// One client for each provider, by its certificate files; no connection is opened.
    pub fn new(
        home: Home,
        store: Arc<dyn Store>,
        audit: Arc<Audit>,
        providers: Vec<Provider>,
        settings: &upstream::Settings,
        auto_revoke: bool,
    ) -> Result<Self> {
        let mut clients = HashMap::new();
        for provider in &providers {
            let settings = upstream::Settings { provider_ca_file: provider.ca_file.clone(), ..settings.clone() };
            clients.insert(provider.id.clone(), Upstream::new(&settings).map_err(Error::Upstream)?);
        }
        Ok(Self { home, store, audit, providers, clients, auto_revoke, lives: Mutex::default() })
    }

    /// The provider table.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The client that trusts what this provider's row says.
    pub fn http(&self, provider: &Provider) -> Result<&Upstream> {
        self.clients.get(&provider.id).ok_or_else(|| Error::NotLoggedIn(provider.id.clone()))
    }

    /// The providers that the user has a login for, usable or not.
    pub fn logins(&self, user: &str) -> std::result::Result<Vec<String>, store::Error> {
        Ok(self.store.records(user)?.into_iter().map(|record| record.provider).collect())
    }

    /// A token that is good for five more minutes (or half its life), refreshed first when needed.
    pub fn credential(&self, user: &str, provider: &Provider) -> Result<Credential> {
        if provider.login == Login::None {
            return Credential::new(provider, None);
        }
        let record = self.record(user, &provider.id)?.ok_or_else(|| Error::NotLoggedIn(provider.id.clone()))?;
        self.check(user, provider, &record)?;
        if !due(&record) {
            return Credential::new(provider, Some(record));
        }
        let stale = record.access_token.clone();
        Credential::new(provider, Some(self.refresh(user, provider, &stale)?))
    }

    /// Another token after the provider answered 401 to this one: somebody else's newer one, or a refreshed one.
    pub fn refused(&self, user: &str, provider: &Provider, credential: &Credential) -> Result<Credential> {
        let record = self.record(user, &provider.id)?.ok_or_else(|| Error::NotLoggedIn(provider.id.clone()))?;
        match &credential.token {
            Some(stale) if record.refresh_token.is_some() || record.access_token != *stale => {
                let record = self.refresh(user, provider, stale)?;
                if record.access_token == *stale {
                    return Err(Error::Later(provider.id.clone(), "the token is refused and cannot be refreshed now"));
                }
                Credential::new(provider, Some(record))
            }
            _ => Err(Error::Unusable(provider.id.clone(), REFUSED)),
        }
    }

    /// Counts a 401 to a token that was just refreshed; the third in a row makes the login suspect.
    pub fn refused_again(&self, user: &str, provider: &Provider) -> Error {
        let strikes = self.with_life(user, &provider.id, |life| {
            life.strikes = life.strikes.saturating_add(1);
            life.strikes
        });
        if strikes < STRIKES {
            return Error::Unusable(provider.id.clone(), REFUSED);
        }
        self.with_life(user, &provider.id, |life| life.suspect_since = Some(Instant::now()));
        match self.mark(user, &provider.id, State::Suspect, "auth.suspect") {
            Ok(()) => Error::Unusable(provider.id.clone(), SUSPECT),
            Err(error) => error,
        }
    }

    /// Notes that the provider took a credential: what was suspected of it is forgotten.
    pub fn accepted(&self, user: &str, provider: &Provider, status: u16) {
        if status >= 400 {
            return;
        }
        let was_suspect = self.with_life(user, &provider.id, |life| {
            life.strikes = 0;
            life.suspect_since.take().is_some()
        });
        if was_suspect {
            // Should this fail, the login is tried again in ten minutes.
            let _ = self.store.update(user, &provider.id, &mut |record| record.state = State::Valid);
        }
    }

    /// Logs in by device flow (RFC 8628). `show` is given the code once, `progress` the time left before each poll.
    pub fn login_device(
        &self,
        user: &str,
        provider: &Provider,
        show: &mut dyn FnMut(&DeviceCode),
        progress: &mut dyn FnMut(Duration),
    ) -> Result<Record> {
        let http = self.http(provider)?;
        let endpoints = flow::discover::endpoints(http, provider).map_err(Error::Flow)?;
        let code = flow::device::start(http, provider, &endpoints, &SystemClock).map_err(Error::Flow)?;
        show(&code);
        let tokens = flow::device::poll(http, &code, &SystemClock, progress).map_err(Error::Flow)?;
        let mut record = new_record(provider, tokens.access.clone());
        record.account = tokens.account(http, endpoints.account.as_ref());
        record.scopes = if tokens.scopes.is_empty() { provider.scopes.clone() } else { tokens.scopes.clone() };
        record.bound.client_id.clone_from(&provider.client_id);
        record.bound.token_endpoint = Some(endpoints.token.as_str().to_owned());
        record.bound.revoke_endpoint =
            endpoints.revoke.map(|endpoint| endpoint.as_str().to_owned()).or(record.bound.revoke_endpoint);
        take(&mut record, tokens);
        self.save_login(user, record)
    }

    /// Stores an API key; contacts nobody.
    pub fn login_key(&self, user: &str, provider: &Provider, key: Secret) -> Result<Record> {
        self.save_login(user, new_record(provider, key))
    }

    /// Forgets a login. True when the provider was asked to end it first, and confirmed that it has.
    pub fn logout(&self, user: &str, provider: &str, revoke: Revoke) -> Result<bool> {
        let record = self.record(user, provider)?.ok_or_else(|| Error::NotLoggedIn(provider.to_owned()))?;
        let revoked = self.revoke(&record, revoke);
        self.store.remove(user, provider).map_err(Error::Store)?;
        self.with_life(user, provider, |life| *life = Life::default());
        let action = if revoked { "auth.revoke" } else { "auth.logout" };
        self.note(user, provider, action, Outcome::Complete)?;
        Ok(revoked)
    }

    /// Every login of the user, with its state as it is now: what the record says, or why it is not used all the same.
    pub fn status(&self, user: &str) -> Result<Vec<(&'static str, Record)>> {
        let records = self.store.records(user).map_err(Error::Store)?;
        let state = |record: &Record| match record.state {
            State::Dead => "dead",
            State::Suspect => "suspect",
            State::Valid if self.provider(&record.provider).is_none_or(|row| is_moved(row, record)) => "suspect",
            State::Valid if record.refresh_token.is_none() && !is_current(record) => "expired",
            State::Valid => "valid",
        };
        Ok(records.into_iter().map(|record| (state(&record), record)).collect())
    }

    fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    /// Whether the login may be used at all.
    fn check(&self, user: &str, provider: &Provider, record: &Record) -> Result<()> {
        let id = || provider.id.clone();
        if is_moved(provider, record) {
            return Err(Error::Unusable(id(), MOVED));
        }
        let may_try = || {
            self.with_life(user, &provider.id, |life| {
                let due = life.suspect_since.is_some_and(|since| since.elapsed() >= SUSPECT_PAUSE);
                if due || life.suspect_since.is_none() {
                    life.suspect_since = Some(Instant::now());
                }
                due
            })
        };
        match record.state {
            State::Dead => Err(Error::Unusable(id(), DEAD)),
            State::Suspect if !may_try() => Err(Error::Unusable(id(), SUSPECT)),
            _ => Ok(()),
        }
    }

    /// A record whose access token is another than `stale`. One refresh at a time, among all threads and
    /// processes: the turn first, then the record is read again, and only then the provider is asked.
    fn refresh(&self, user: &str, provider: &Provider, stale: &Secret) -> Result<Record> {
        let _turn = self.turn(user, &provider.id)?;
        let record = self.record(user, &provider.id)?.ok_or_else(|| Error::NotLoggedIn(provider.id.clone()))?;
        if record.state == State::Dead {
            return Err(Error::Unusable(provider.id.clone(), DEAD));
        }
        if record.access_token != *stale && !due(&record) {
            return Ok(record);
        }
        let usable = is_current(&record);
        let endpoint = record.bound.token_endpoint.clone().and_then(|url| Endpoint::try_from(url).ok());
        let (Some(token), Some(endpoint)) = (&record.refresh_token, &endpoint) else {
            return if usable { Ok(record) } else { Err(Error::Unusable(provider.id.clone(), EXPIRED)) };
        };
        let paused = |life: &mut Life| life.failed_at.is_some_and(|at| at.elapsed() < REFRESH_PAUSE);
        if usable && self.with_life(user, &provider.id, paused) {
            return Ok(record);
        }
        let client_id = record.bound.client_id.as_deref().unwrap_or_default();
        match flow::token::refresh(self.http(provider)?, endpoint, client_id, token) {
            Ok(tokens) => {
                let mut record = record.clone();
                take(&mut record, tokens);
                record.refreshed_at = Some(now());
                self.keep(user, &record);
                self.note(user, &provider.id, "auth.refresh", Outcome::Complete)?;
                Ok(record)
            }
            Err(flow::Error::LoginOver(_)) => {
                self.mark(user, &provider.id, State::Dead, "auth.dead")?;
                Err(Error::Unusable(provider.id.clone(), DEAD))
            }
            Err(error) => {
                self.with_life(user, &provider.id, |life| life.failed_at = Some(Instant::now()));
                self.note(user, &provider.id, "auth.refresh", Outcome::Error)?;
                match (usable, error.is_transient()) {
                    (true, _) => Ok(record),
                    (false, true) => {
                        Err(Error::Later(provider.id.clone(), "the token has expired and cannot be refreshed just now"))
                    }
                    (false, false) => Err(Error::Flow(error)),
                }
            }
        }
    }

    /// Saves refreshed tokens, or keeps them in memory until the disk takes them: the old ones may be worth nothing any more.
    fn keep(&self, user: &str, record: &Record) {
        let saved = self.store.update(user, &record.provider, &mut |stored| {
            // The user may have logged in anew meanwhile.
            if stored.created_at == record.created_at {
                *stored = record.clone();
            }
        });
        self.with_life(user, &record.provider, |life| {
            life.failed_at = None;
            life.unsaved = saved.is_err().then(|| record.clone());
        });
    }

    /// The record, newer tokens that could not be saved yet first.
    fn record(&self, user: &str, provider: &str) -> Result<Option<Record>> {
        let unsaved = || self.with_life(user, provider, |life| life.unsaved.clone());
        if let Some(record) = unsaved() {
            self.keep(user, &record);
        }
        match unsaved() {
            Some(record) => Ok(Some(record)),
            // Saved now, or the user has logged out or in anew: the store knows.
            None => self.store.record(user, provider).map_err(Error::Store),
        }
    }

    /// Waits for the turn to refresh. A lock on a handle of its own keeps out the threads of this process as well as others.
    fn turn(&self, user: &str, provider: &str) -> Result<File> {
        let began = Instant::now();
        let failed = |error: &dyn fmt::Display| Error::Local(format!("the refresh lock cannot be used: {error}"));
        let locks = Home::open(self.home.path("locks")).map_err(|error| failed(&error))?;
        let hash = secret::sha256_hex(&secret::place(&[user, provider]));
        let file = locks.open_or_create(&format!("refresh-{hash}")).map_err(|error| failed(&error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < REFRESH_WAIT => thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Later(provider.to_owned(), "another refresh takes too long"));
                }
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
            }
        }
    }

    fn save_login(&self, user: &str, record: Record) -> Result<Record> {
        self.store.save(user, &record).map_err(Error::Store)?;
        self.with_life(user, &record.provider, |life| *life = Life::default());
        self.note(user, &record.provider, "auth.login", Outcome::Complete)?;
        Ok(record)
    }

    /// Keeps the login and marks it; with `auto_revoke` the provider is asked to end it too.
    fn mark(&self, user: &str, provider: &str, state: State, action: &'static str) -> Result<()> {
        if self.auto_revoke
            && let Some(record) = self.record(user, provider)?
        {
            self.revoke(&record, Revoke::Ordinary);
        }
        self.store.update(user, provider, &mut |record| record.state = state).map_err(Error::Store)?;
        self.note(user, provider, action, Outcome::Refused)
    }

    /// True when the provider confirmed it.
    fn revoke(&self, record: &Record, how: Revoke) -> bool {
        let provider = self.provider(&record.provider);
        let endpoint = record.bound.revoke_endpoint.clone().and_then(|url| Endpoint::try_from(url).ok());
        let (Some(provider), Some(endpoint)) = (provider, endpoint) else { return false };
        let Ok(http) = self.http(provider) else { return false };
        let (access, refresh) = (&record.access_token, record.refresh_token.as_ref());
        let client_id = record.bound.client_id.as_deref().unwrap_or_default();
        // Where the row has no ordinary call, the login is bound to the one for exposed tokens.
        let done = match (how, provider.exposed_endpoint.as_ref() == Some(&endpoint)) {
            (Revoke::No, _) | (Revoke::Ordinary, true) => return false,
            (_, true) => flow::token::revoke_exposed(http, &endpoint, access, refresh),
            (_, false) => flow::token::revoke(http, &endpoint, client_id, access, refresh),
        };
        done.is_ok()
    }

    fn note(&self, user: &str, provider: &str, action: &'static str, outcome: Outcome) -> Result<()> {
        let mut event = Event::new(action);
        event.user_id = Some(user.to_owned());
        event.provider = Some(provider.to_owned());
        event.outcome = outcome;
        self.audit.append(&event).map(drop).map_err(|error| Error::Local(error.to_string()))
    }

    fn with_life<T>(&self, user: &str, provider: &str, act: impl FnOnce(&mut Life) -> T) -> T {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        act(lives.entry((user.to_owned(), provider.to_owned())).or_default())
    }
}

impl Credential {
    fn new(provider: &Provider, record: Option<Record>) -> Result<Self> {
        let (token, api_base) = match record {
            Some(record) => (Some(record.access_token), record.bound.api_base),
            None => (None, provider.api_base.as_ref().map(Endpoint::as_str).unwrap_or_default().to_owned()),
        };
        let endpoint = Endpoint::try_from(api_base.clone()).map_err(Error::Upstream)?;
        Ok(Self { token, api_base, origins: vec![endpoint.origin().clone()] })
    }
}

/// A login made now, bound to where the row leads now.
fn new_record(provider: &Provider, access_token: Secret) -> Record {
    let api_base = provider.api_base.as_ref().map(Endpoint::as_str).unwrap_or_default().to_owned();
    let revoke_endpoint = provider.exposed_endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned());
    Record {
        provider: provider.id.clone(),
        account: None,
        scopes: Vec::new(),
        access_token,
        refresh_token: None,
        expires_at: None,
        created_at: now(),
        refreshed_at: None,
        state: State::Valid,
        bound: Bound { api_base, revoke_endpoint, ..Bound::default() },
    }
}

/// Whether the row now leads elsewhere than where the login was bound to.
fn is_moved(provider: &Provider, record: &Record) -> bool {
    let origin = |url: Option<&str>| url.and_then(|url| Origin::parse(url).ok());
    let base = provider.api_base.as_ref().map(|base| base.as_str());
    let token = provider.token_endpoint.as_ref().map(|endpoint| endpoint.as_str());
    let bound = record.bound.token_endpoint.as_deref();
    // Without a token endpoint of its own the row leads to its issuer, which may only name hosts of the row.
    let named = |host: Option<Origin>| host.is_some_and(|host| provider.hosts().contains(&host));
    base != Some(record.bound.api_base.as_str())
        || (bound.is_some() && (!named(origin(bound)) || token.is_some() && origin(token) != origin(bound)))
}

/// Whether the token should be refreshed: less than five minutes left, or half its life when it lives less than ten. One that
/// cannot be refreshed is used to its end.
fn due(record: &Record) -> bool {
    let Some(expires_at) = record.expires_at.filter(|_| record.refresh_token.is_some()) else {
        return !is_current(record);
    };
    let life = expires_at.saturating_sub(record.refreshed_at.unwrap_or(record.created_at));
    // Half of a life of a second or less is nothing, and nothing is never less than nothing.
    !is_current(record) || expires_at.saturating_sub(now()) < MARGIN_SECONDS.min(life / 2)
}

/// Whether the access token has not expired, as far as we know.
fn is_current(record: &Record) -> bool {
    record.expires_at.is_none_or(|at| at > now())
}

/// Puts new tokens into a record; what the provider left out stays (RFC 6749 section 6).
fn take(record: &mut Record, tokens: Tokens) {
    record.access_token = tokens.access;
    if tokens.refresh.is_some() {
        record.refresh_token = tokens.refresh;
    }
    record.expires_at = tokens.expires_in.map(|seconds| now().saturating_add(seconds));
}
