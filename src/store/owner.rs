//! A user and the key that seals what is the user's own. Must never open what another key sealed.

use super::{Error, Result};
use crate::secret::{Key, Sealed, Secret};
use std::path::PathBuf;

/// A user with the user's own key.
pub(super) struct Owner<'a> {
    pub(super) user: &'a str,
    pub(super) key: Key,
    /// Id of the key.
    pub(super) kid: String,
    /// The file at hand, for errors.
    pub(super) path: PathBuf,
}

impl Owner<'_> {
    /// Opens a text that the key `kid` sealed for `place`.
    pub(super) fn open(&self, kid: &str, place: &[u8], sealed: &Sealed) -> Result<Secret> {
        let plain = self.key.open(place, sealed);
        let text = plain.as_ref().and_then(|plain| std::str::from_utf8(plain).ok());
        match text {
            Some(text) if kid == self.kid => Ok(Secret::new(text.to_owned())),
            _ => Err(Error::Sealed(self.path.clone())),
        }
    }
}
