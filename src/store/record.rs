//! One login: as the program uses it, and as it stands in `tokens.json` with its tokens sealed.
//! Must never open a token in another record, field or binding than it was sealed for.

use super::Result;
use super::owner::Owner;
use crate::secret::{Sealed, Secret, place};
use serde::{Deserialize, Serialize};
use std::io;

/// Version of the associated data.
const VERSION: &str = "1";

/// Whether a login can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As far as we know.
    Valid,
    /// The provider refused to refresh it: only a new login helps.
    Dead,
    /// The provider refused it repeatedly though it was just refreshed: not used until the user acts.
    Suspect,
}

/// Where a login's tokens may go, fixed when the user logged in. `None` where the login has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// OAuth client id that the tokens were issued to.
    pub client_id: Option<String>,
    /// Where the refresh token is sent.
    pub token_endpoint: Option<String>,
    /// Where tokens are sent to be revoked (RFC 7009), or reported as exposed where the row has only that.
    pub revoke_endpoint: Option<String>,
    /// Where the access token is sent with each request.
    pub api_base: String,
    /// The provider's own host, where one was chosen at login (`--host`).
    pub host: Option<String>,
    /// The account that the provider's headers must name.
    pub account_id: Option<String>,
}

/// One login of one user at one provider. Times are seconds since 1970, UTC.
/// `Token` is [`Secret`] in the program and [`Sealed`] in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<Token = Secret> {
    /// Provider id; a user has at most one record for each.
    pub provider: String,
    /// What the provider calls the account, for people to read.
    pub account: Option<String>,
    /// Scopes that were granted.
    pub scopes: Vec<String>,
    /// Access token or API key.
    pub access_token: Token,
    /// Refresh token, where there is one.
    pub refresh_token: Option<Token>,
    /// When the access token ends; `None`: not known, or never.
    pub expires_at: Option<u64>,
    /// When the user logged in.
    pub created_at: u64,
    /// When the tokens were last refreshed.
    pub refreshed_at: Option<u64>,
    /// Whether it can be used.
    pub state: State,
    /// Where its tokens may go.
    pub bound: Bound,
}

/// A record of `tokens.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRecord {
    user_id: String,
    /// Id of the user's key that the tokens are sealed with.
    kid: String,
    #[serde(flatten)]
    sealed: Record<Sealed>,
}

impl StoredRecord {
    /// Seals the tokens under the user's key, each with a fresh IV.
    pub(super) fn seal(owner: &Owner<'_>, record: &Record) -> Result<Self> {
        let sealed = record.with_tokens(|field, token: &Secret| {
            let place = token_place(owner.user, record, field)?;
            Ok(owner.key.seal(&place, token.expose().as_bytes())?)
        })?;
        Ok(Self { user_id: owner.user.to_owned(), kid: owner.kid.clone(), sealed })
    }

    /// The record with its tokens open, unless they were sealed by another key or for another place.
    pub(super) fn open(&self, owner: &Owner<'_>) -> Result<Record> {
        self.sealed.with_tokens(|field, sealed| {
            let place = token_place(&self.user_id, &self.sealed, field)?;
            owner.open(&self.kid, &place, sealed)
        })
    }

    /// True for the user's login at this provider.
    pub(super) fn is(&self, user: &str, provider: &str) -> bool {
        self.of(user) && self.sealed.provider == provider
    }

    /// True for a login of the user.
    pub(super) fn of(&self, user: &str) -> bool {
        self.user_id == user
    }
}

impl<T> Record<T> {
    /// The same record with each token turned into something else; `turn` is given the field's name too.
    fn with_tokens<U>(&self, turn: impl Fn(&str, &T) -> Result<U>) -> Result<Record<U>> {
        let refresh_token = self.refresh_token.as_ref();
        Ok(Record {
            provider: self.provider.clone(),
            account: self.account.clone(),
            scopes: self.scopes.clone(),
            access_token: turn("access_token", &self.access_token)?,
            refresh_token: refresh_token.map(|token| turn("refresh_token", token)).transpose()?,
            expires_at: self.expires_at,
            created_at: self.created_at,
            refreshed_at: self.refreshed_at,
            state: self.state,
            bound: self.bound.clone(),
        })
    }
}

/// Associated data of a token: version, user, provider, field name, and `bound` in the JSON that stands in the file.
fn token_place<T>(user: &str, record: &Record<T>, field: &str) -> Result<Vec<u8>> {
    let bound = serde_json::to_string(&record.bound).map_err(io::Error::from)?;
    Ok(place(&[VERSION, user, &record.provider, field, &bound]))
}
