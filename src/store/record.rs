//! One login: as the program uses it, and as it stands in `tokens.json` with its tokens sealed.
//! Must never open a token in another record, field or binding than it was sealed for.

use super::{Error, Result, local_keys::PREFIX};
use crate::keys::NamedKey;
use crate::origin::Endpoint;
use crate::secret::{Key, Sealed, Secret, place};
use serde::{Deserialize, Serialize};
use std::io;

/// Where the sealed records stand.
pub(super) const TOKENS_FILE: &str = "tokens.json";
/// Why a local key is not saved as a provider's token.
const LOCAL_KEY: &str = "that is a local key of infershield: repeat `infershield auth login` with the provider's own";
/// Version of the associated data.
const VERSION: &str = "1";

/// Whether a login can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As far as we know.
    #[default]
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
    pub token_endpoint: Option<Endpoint>,
    /// Where tokens are sent to be revoked (RFC 7009), or reported as exposed where the row has only that.
    pub revoke_endpoint: Option<Endpoint>,
    /// Where the access token is sent with each request.
    pub api_base: Option<Endpoint>,
    /// Where the access token is exchanged for the one that the API takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange_endpoint: Option<Endpoint>,
    /// The provider's own host, where one was chosen at login (`--host`).
    pub host: Option<String>,
    /// The account that the provider's headers must name.
    pub account_id: Option<String>,
}

/// One login of one user at one provider. Times are seconds since 1970, UTC. Its JSON is without the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Provider id; a user has at most one record for each.
    pub provider: String,
    /// What the provider calls the account, for people to read.
    pub account: Option<String>,
    /// Scopes that were granted.
    pub scopes: Vec<String>,
    /// Access token or API key.
    #[serde(skip)]
    pub access_token: Secret,
    /// Refresh token, where there is one.
    #[serde(skip)]
    pub refresh_token: Option<Secret>,
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

/// A record of `tokens.json`: its tokens stand beside it, sealed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SealedRecord {
    pub(super) user_id: String,
    /// Id of the user's key that the tokens are sealed with.
    pub(super) kid: String,
    access_token: Sealed,
    refresh_token: Option<Sealed>,
    #[serde(flatten)]
    pub(super) record: Record,
}

impl SealedRecord {
    /// Seals the tokens under the user's key, each with a fresh IV. Refuses a local key, which no provider gave.
    pub(super) fn seal(user: &str, named: &NamedKey, record: &Record) -> Result<Self> {
        if record.access_token.expose().starts_with(PREFIX) {
            return Err(Error::Refused(LOCAL_KEY.to_owned()));
        }
        let seal = |field, token: &Secret| -> Result<Sealed> {
            Ok(named.key.seal(&token_place(user, record, field)?, token.expose().as_bytes())?)
        };
        Ok(Self {
            user_id: user.to_owned(),
            kid: named.id.clone(),
            access_token: seal("access_token", &record.access_token)?,
            refresh_token: record.refresh_token.as_ref().map(|token| seal("refresh_token", token)).transpose()?,
            record: record.clone(),
        })
    }

    /// The record with its tokens open, unless they were sealed by another key or for another place.
    pub(super) fn open(&self, key: &Key) -> Result<Record> {
        let open = |field, sealed: &Sealed| {
            super::open(key, &token_place(&self.user_id, &self.record, field)?, sealed, TOKENS_FILE)
        };
        Ok(Record {
            access_token: open("access_token", &self.access_token)?,
            refresh_token: self.refresh_token.as_ref().map(|sealed| open("refresh_token", sealed)).transpose()?,
            ..self.record.clone()
        })
    }
}

/// Associated data of a token: version, user, provider, field name, and `bound` in the JSON that stands in the file.
fn token_place(user: &str, record: &Record, field: &str) -> Result<Vec<u8>> {
    let bound = serde_json::to_string(&record.bound).map_err(io::Error::from)?;
    Ok(place(&[VERSION, user, &record.provider, field, &bound]))
}
