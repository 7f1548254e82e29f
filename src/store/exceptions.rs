//! Exceptions: findings that a person decided to let pass, as they stand in `exceptions.json`.
//! Must never hold the matched text itself.

use super::Result;
use crate::secret;
use serde::{Deserialize, Serialize};

/// Bytes of an exception's id before hex.
const ID_BYTES: usize = 8;

/// A finding that a person decided to let pass. Times are seconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// 16 hex digits, for `allow remove`.
    pub id: String,
    /// The short reference that the refusal and the audit line carried.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The whole keyed fingerprint, where it was known.
    pub fingerprint: Option<String>,
    /// Why, in the person's words.
    pub reason: String,
    /// Whose requests it applies to.
    pub user_id: String,
    /// When it was made.
    pub created_at: u64,
    /// When it ends; `None`: never.
    pub expires_at: Option<u64>,
}

/// What a new exception shall be.
#[derive(Clone, Debug)]
pub struct NewException {
    /// The short reference that the refusal and the audit line carried.
    pub reference: String,
    /// The whole keyed fingerprint, where it is known.
    pub fingerprint: Option<String>,
    /// Why, in the person's words.
    pub reason: String,
    /// When it ends, in seconds since 1970; `None`: never.
    pub expires_at: Option<u64>,
}

impl Exception {
    /// A new exception of `user`.
    pub(super) fn make(user: &str, new: &NewException, now: u64) -> Result<Self> {
        Ok(Self {
            id: secret::hex(&secret::random::<ID_BYTES>()?),
            reference: new.reference.clone(),
            fingerprint: new.fingerprint.clone(),
            reason: new.reason.clone(),
            user_id: user.to_owned(),
            created_at: now,
            expires_at: new.expires_at,
        })
    }

    /// True when it lets this finding of its user pass. One that was made from a reference alone is matched by that.
    pub fn covers(&self, reference: &str, fingerprint: &str, now: u64) -> bool {
        let known = self.fingerprint.as_deref().unwrap_or(fingerprint);
        self.reference == reference && known == fingerprint && self.expires_at.is_none_or(|end| now < end)
    }
}
