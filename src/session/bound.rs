//! What a login is bound to, the hosts of its provider's row when it was made, and what state that leaves it in.
//! Must never let a row that leads elsewhere by now have the login's token.

use super::{is_due, now};
use crate::flow::Provider;
use crate::store::{Bound, Record, State};

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
