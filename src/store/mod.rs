//! Token records, local keys and exceptions: what is kept of each user, behind one seam for every backend.
//! Must never know the network, and never give one user what belongs to another.

mod file_store;
mod local_keys;
mod record;

pub use file_store::FileStore;
pub use local_keys::{LocalKey, NewKey, PREFIX as LOCAL_KEY_PREFIX, holds_local_key, url_holds_local_key};
pub use record::{Bound, Record, State};

use crate::home;
use crate::secret::{Key, Sealed, Secret};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What can go wrong. Every text says what to do next.
#[derive(Debug)]
pub enum Error {
    /// A file, a key, or a value that is sealed in a file cannot be used; the text names it. What cannot be read is left as it is.
    Storage(String),
    /// What was asked for cannot be had: a local key whose name is taken or of which no copy was kept, or a login with one as token.
    Refused(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Storage(text) | Self::Refused(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Error {}

/// Errors of the layers below, whose texts already say what to do.
impl From<home::Error> for Error {
    fn from(error: home::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A finding that a person decided to let pass; a user has at most one for each reference. It never holds the matched text.
/// Times are seconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Whose requests it applies to.
    pub user_id: String,
    /// The short reference that the refusal and the audit line carried: the beginning of the finding's keyed fingerprint.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Why, in the person's words.
    pub reason: String,
    /// When it was made.
    pub created_at: u64,
    /// When it ends; `None`: never.
    pub expires_at: Option<u64>,
}

impl Exception {
    /// True until it ends.
    pub fn lives(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Everything that is kept of a user. Each call takes one, but [`Store::look_up`], which is where a request's user comes from.
/// Calls see what other processes wrote before. `now` is in seconds since 1970.
pub trait Store: Send + Sync {
    /// All logins of the user.
    fn records(&self, user: &str) -> Result<Vec<Record>>;

    /// The user's login at a provider, if any.
    fn record(&self, user: &str, provider: &str) -> Result<Option<Record>> {
        let mut records = self.records(user)?.into_iter();
        Ok(records.find(|record| record.provider == provider))
    }

    /// Puts a login in place of the user's former one at that provider.
    fn save(&self, user: &str, record: &Record) -> Result<()>;

    /// Reads, changes and writes the login as one step, so that nothing written in between is lost.
    /// False, and nothing written, when the user has logged out meanwhile.
    /// `change` runs under the lock: it must be quick and not call the store.
    fn update(&self, user: &str, provider: &str, change: &mut dyn FnMut(&mut Record)) -> Result<bool>;

    /// Forgets a login; false when there was none.
    fn remove(&self, user: &str, provider: &str) -> Result<bool>;

    /// Makes a local key; this is the one time that a key made with `once` is seen.
    fn create_key(&self, user: &str, new: &NewKey, now: u64) -> Result<(LocalKey, Secret)>;

    /// All local keys of the user, expired ones too.
    fn keys(&self, user: &str) -> Result<Vec<LocalKey>>;

    /// The key of this name itself; `None` when there is none.
    fn print_key(&self, user: &str, name: &str) -> Result<Option<Secret>>;

    /// Ends a local key; false when the user has none with this id.
    fn revoke_key(&self, user: &str, id: &str) -> Result<bool>;

    /// Whose key a client presented; `None` when it is unknown, revoked or expired.
    fn look_up(&self, presented: &str, now: u64) -> Result<Option<LocalKey>>;

    /// Lets a finding of the user's pass from now on, in place of what was decided on its reference before.
    fn add_exception(&self, user: &str, exception: &Exception) -> Result<()>;

    /// All exceptions of the user, expired ones too.
    fn exceptions(&self, user: &str) -> Result<Vec<Exception>>;

    /// Ends an exception; false when the user has none for this reference.
    fn remove_exception(&self, user: &str, reference: &str) -> Result<bool>;
}

/// Opens a text of the user's that stands sealed in this file.
fn open(key: &Key, place: &[u8], sealed: &Sealed, file: &str) -> Result<Secret> {
    let text = key.open(place, sealed).and_then(|plain| String::from_utf8(plain.to_vec()).ok());
    text.map(Secret::new).ok_or_else(|| {
        Error::Storage(format!(
            "a value of this user in {file} does not open, for keys.json has another key now. \
             Put back a copy of keys.json, or log in and make local keys anew"
        ))
    })
}
