//! Token records, local keys and exceptions: what is kept of each user, behind one seam for every backend.
//! Must never know the network, and never give one user what belongs to another.

mod exceptions;
mod file_store;
mod local_keys;
mod owner;
mod record;
mod sealed_file;

pub use exceptions::{Exception, NewException};
pub use file_store::FileStore;
pub use local_keys::{LocalKey, NewKey, well_formed};
pub use record::{Bound, Record, State};

use crate::keys;
use crate::secret::Secret;
use std::fmt;
use std::path::PathBuf;

/// What can go wrong with the store. The text names the file and what to do; it never holds a secret.
#[derive(Debug)]
pub enum Error {
    /// The keys could not be had, or a file could not be read or written.
    Keys(keys::Error),
    /// The file is not what we wrote: cut, flipped, edited, or of another version. It is left as it is.
    Damaged(PathBuf, &'static str),
    /// Something sealed in this file does not open: the user's key in `keys.json` is another one now.
    Sealed(PathBuf),
    /// This user already has a local key of this name.
    NameTaken(String),
    /// This local key was made with `--once`, so there is no copy to print.
    OnlyOnce(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(error) => error.fmt(f),
            Self::Damaged(path, why) => write!(
                f,
                "{0} {why}. It is left as it is. Put back a copy of it, or type `mv {0} {0}.damaged` to go on without it",
                path.display()
            ),
            Self::Sealed(path) => write!(
                f,
                "a value of this user in {} does not open, for keys.json has another key now. \
                 Put back a copy of keys.json, or log in and make local keys anew",
                path.display()
            ),
            Self::NameTaken(name) => write!(
                f,
                "there is a local key {name:?} already; take another name, or type `infershield key revoke ID`"
            ),
            Self::OnlyOnce(name) => write!(
                f,
                "the local key {name:?} was shown once and not kept; type `infershield key create` for another one"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Errors of the layers below, whose texts already say what to do.
impl<E: Into<keys::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Keys(error.into())
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

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

    /// Lets a finding pass from now on.
    fn add_exception(&self, user: &str, new: &NewException, now: u64) -> Result<Exception>;

    /// All exceptions of the user, expired ones too; [`Exception::covers`] tells what they let pass.
    fn exceptions(&self, user: &str) -> Result<Vec<Exception>>;

    /// Ends an exception; false when the user has none with this id.
    fn remove_exception(&self, user: &str, id: &str) -> Result<bool>;
}
