//! How a login begins and ends, and what it is bound to: the hosts of its provider's row when it was made.
//! Must never leave a token alive at the provider that nobody here knows of, take one of our own local keys for a provider's, or let a
//! row that leads elsewhere by now have the login's token.

use super::{Error, Result, Session, is_due};
use crate::audit::{Outcome, now};
use crate::config::variable;
use crate::flow::{self, DeviceCode, Login, Progress, Provider, SystemClock, Tokens, chatgpt};
use crate::secret::Secret;
use crate::store::{self, Bound, Record, State};
use zeroize::Zeroizing;

/// What the provider is asked when a login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// Nothing.
    No,
    /// Its ordinary call (RFC 7009), where it has one.
    Ordinary,
    /// Also the irreversible call for exposed tokens, where it has no ordinary one.
    Exposed,
}

impl Session {
    /// Logs in by device flow (RFC 8628, or OpenAI's own). `show` is given the code once.
    pub fn login_device(
        &self,
        user: &str,
        provider: &Provider,
        show: &mut dyn FnMut(&DeviceCode),
        progress: &mut Progress<'_>,
    ) -> Result<Record> {
        let http = self.http(provider)?;
        let failed = |error: flow::Error| {
            let outcome = if error.is_transient() { Outcome::Error } else { Outcome::Refused };
            let noted = self.note(user, &provider.id, "auth.login", outcome);
            noted.err().unwrap_or_else(|| Error::Flow(provider.id.clone(), error))
        };
        // What cannot be stored should not be issued.
        self.store.record(user, &provider.id)?;
        let endpoints = flow::discover::endpoints(http, provider).map_err(failed)?;
        let code = flow::device::start(http, provider, &endpoints, &SystemClock).map_err(failed)?;
        show(&code);
        let tokens = flow::device::poll(http, &code, &SystemClock, progress).map_err(failed)?;
        let mut record = new_record(provider);
        record.account = tokens.account(http, endpoints.account.as_ref());
        record.scopes = if tokens.scopes.is_empty() { provider.scopes.clone() } else { tokens.scopes.clone() };
        record.bound.client_id.clone_from(&provider.client_id);
        record.bound.token_endpoint = Some(endpoints.token);
        let exchange = provider.exchange.as_ref().zip(provider.client_id.as_ref());
        let exchange = exchange.filter(|(exchange, id)| exchange.client_ids.contains(id));
        record.bound.exchange_endpoint = exchange.map(|(exchange, _)| exchange.endpoint.clone());
        record.bound.account_id = chatgpt::account_id(&tokens).filter(|_| provider.login == Login::Chatgpt);
        record.bound.revoke_endpoint = endpoints.revoke.or(record.bound.revoke_endpoint);
        take(&mut record, tokens);
        self.save_login(user, record)
    }

    /// Stores an API key; contacts nobody.
    pub fn login_key(&self, user: &str, provider: &Provider, key: Secret) -> Result<Record> {
        self.save_login(user, Record { access_token: key, ..new_record(provider) })
    }

    /// Forgets a login. True when the provider was asked to end it first, and confirmed that it has.
    pub fn logout(&self, user: &str, provider: &str, revoke: Revoke) -> Result<bool> {
        // What a refresh that is under way brings has to end too.
        let _turn = self.turn(user, provider)?;
        let record = self.record(user, provider)?;
        // Written once more as it is: a login that cannot be forgotten here is not to be ended there.
        if !self.store.update(user, provider, &mut |_| {})? {
            return Err(Error::NotLoggedIn(provider.to_owned()));
        }
        let revoked = self.revoke(&record, revoke).is_some();
        let removed = self.store.remove(user, provider);
        if let (true, Err(why)) = (revoked, &removed) {
            // The disk may refuse this line too; what the user is told matters more.
            let _ = self.note(user, provider, "auth.revoke", Outcome::Error);
            let what = format!(
                "{why}. The login is revoked at the provider, not forgotten here: type `infershield auth logout {provider}` again"
            );
            return Err(store::Error::Storage(what).into());
        }
        removed?;
        let action = if revoked { "auth.revoke" } else { "auth.logout" };
        self.note(user, provider, action, Outcome::Complete)?;
        Ok(revoked)
    }

    /// Stores a login. One that cannot be stored must not live on at the provider without anybody who knows of it.
    fn save_login(&self, user: &str, record: Record) -> Result<Record> {
        let saved = self.store.save(user, &record);
        if let Err(store::Error::Storage(why)) = &saved {
            let end = match self.revoke(&record, Revoke::Ordinary) {
                Some(()) => "the provider has revoked what it issued",
                None => "the credential stays valid at the provider: revoke it there",
            };
            return Err(store::Error::Storage(format!("{why}. The login was not kept; {end}")).into());
        }
        saved?;
        self.note(user, &record.provider, "auth.login", Outcome::Complete)?;
        Ok(record)
    }

    /// `Some` when the provider confirmed it.
    pub(super) fn revoke(&self, record: &Record, how: Revoke) -> Option<()> {
        let provider = self.providers.iter().find(|provider| provider.id == record.provider)?;
        let provider = row_of(provider, record)?;
        // Where the row leads elsewhere by now, `hosts` does not name it.
        let endpoint = record.bound.revoke_endpoint.as_ref().filter(|at| provider.hosts().contains(at.origin()))?;
        let http = self.http(&provider).ok()?;
        let (access, refresh) = (&record.access_token, record.refresh_token.as_ref());
        let client_id = record.bound.client_id.as_deref().unwrap_or_default();
        // Where the row has no ordinary call, the login is bound to the one for exposed tokens.
        let done = match (how, provider.exposed_endpoint.as_ref() == Some(endpoint)) {
            (Revoke::No, _) | (Revoke::Ordinary, true) => return None,
            (_, true) => flow::token::revoke_exposed(http, endpoint, access, refresh),
            _ if provider.login == Login::Chatgpt => chatgpt::revoke(http, endpoint, client_id, access, refresh),
            (_, false) => flow::token::revoke(http, endpoint, client_id, access, refresh),
        };
        done.ok()
    }
}

/// The API key that the provider's variable holds, without what copying leaves around it; `None` when that is nothing.
///
/// # Errors
/// When it cannot be a key; the text names the variable.
pub fn given_key(provider: &Provider) -> Result<Option<Secret>> {
    let Some(name) = &provider.key_env else { return Ok(None) };
    let failed = |what: String| Error::Flow(provider.id.clone(), flow::Error::Config(what));
    let value = Zeroizing::new(variable(name).map_err(|error| failed(error.to_string()))?.unwrap_or_default());
    let key = Secret::new(value.trim().to_owned());
    // `infershield env` sets the same variables for clients, to keys that are good for nobody but us.
    if key.is_empty() || key.expose().starts_with(store::LOCAL_KEY_PREFIX) {
        return Ok(None);
    }
    let what = "holds a sign that no request can carry, or stands in quotation marks";
    let what = format!("${name} {what}: set it anew, or type `unset {name}`");
    if key.is_credential() { Ok(Some(key)) } else { Err(failed(what)) }
}

/// Puts new tokens into a record; what the provider left out stays (RFC 6749 section 6).
pub(super) fn take(record: &mut Record, tokens: Tokens) {
    record.access_token = tokens.access;
    record.refresh_token = tokens.refresh.or(record.refresh_token.take());
    record.expires_at = tokens.expires_in.map(|seconds| now().saturating_add(seconds));
}

/// A login made now, bound to where the row leads now; still without a token.
pub(super) fn new_record(provider: &Provider) -> Record {
    let api_base = provider.api_base.clone();
    let revoke_endpoint = provider.exposed_endpoint.clone();
    Record {
        provider: provider.id.clone(),
        created_at: now(),
        bound: Bound { api_base, revoke_endpoint, host: provider.host.clone(), ..Bound::default() },
        ..Record::default()
    }
}

/// The row as it is for this login; `None` when it has no such tenants any more.
pub(super) fn row_of(provider: &Provider, record: &Record) -> Option<Provider> {
    match &record.bound.host {
        Some(host) => provider.at(host).ok(),
        None => Some(provider.of_login(record.bound.token_endpoint.is_some())),
    }
}

/// Whether the row now leads elsewhere than where the login was bound to.
pub(super) fn is_moved(provider: &Provider, record: &Record) -> bool {
    let Some(provider) = row_of(provider, record) else { return true };
    let exchange = provider.exchange.as_ref().map(|exchange| &exchange.endpoint);
    let is_exchange_moved = record.bound.exchange_endpoint.as_ref().is_some_and(|bound| exchange != Some(bound));
    let is_token_moved = match (&record.bound.token_endpoint, &provider.token_endpoint) {
        (None, _) => false,
        (Some(bound), Some(row)) => row.origin() != bound.origin(),
        // The row leads to its issuer, which may only name hosts of the row.
        (Some(bound), None) => !provider.hosts().contains(bound.origin()),
    };
    is_token_moved || is_exchange_moved || provider.api_base != record.bound.api_base
}

/// The state of a login as it is now: what the record says, or why it is not used all the same. `row` is its provider's, if there is one.
pub fn state(record: &Record, row: Option<&Provider>) -> &'static str {
    match record.state {
        State::Dead => "dead",
        State::Suspect => "suspect",
        State::Valid if row.is_none_or(|row| is_moved(row, record)) => "suspect",
        State::Valid if record.refresh_token.is_none() && is_due(record) => "expired",
        State::Valid => "valid",
    }
}
