//! Why there is no token, and what to do about it. Must never say more of a token than whose it is.

use crate::{flow, store};
use std::fmt;

/// Why there is no token. Every text ends with what to do.
#[derive(Debug)]
pub enum Error {
    /// The user has no login at this provider.
    NotLoggedIn(String),
    /// The provider, and why only the user can repair the login.
    Unusable(String, &'static str),
    /// The provider, and what is in the way just now; it heals by itself.
    Later(String, String),
    /// The provider, and how its own way to log in failed, or why its client cannot be built (certificate files).
    Flow(String, flow::Error),
    /// The records, a lock file or the log cannot be used, or not for this; the text says which.
    Storage(store::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoggedIn(id) => write!(f, "provider {id} is not logged in; type `infershield auth login {id}`"),
            Self::Unusable(id, what) => write!(f, "provider {id} {what}; type `infershield auth login {id}`"),
            Self::Later(id, what) => write!(f, "provider {id}: {what}"),
            Self::Flow(id, error) if error.needs_login() => write!(f, "{error}; type `infershield auth login {id}`"),
            Self::Flow(_, error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Errors of the store and of what is below it, whose texts already say what to do.
impl<E: Into<store::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;
