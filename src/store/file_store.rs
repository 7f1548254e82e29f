//! The store of one developer on one machine: three files in the home.
//! Must never ask for a key while it holds the home's lock.

use super::exceptions::{Exception, NewException};
use super::local_keys::{self, LocalKey, NewKey, StoredKey};
use super::owner::Owner;
use super::record::{Record, StoredRecord};
use super::sealed_file::SealedFile;
use super::{Error, Result, Store};
use crate::home::Home;
use crate::keys::Keys;
use crate::secret::Secret;
use std::sync::Arc;

const TOKENS_FILE: &str = "tokens.json";
const LOCAL_KEYS_FILE: &str = "local-keys.json";
const EXCEPTIONS_FILE: &str = "exceptions.json";

/// `tokens.json`, `local-keys.json` and `exceptions.json`.
pub struct FileStore {
    home: Home,
    keys: Arc<Keys>,
    tokens: SealedFile<StoredRecord>,
    local_keys: SealedFile<StoredKey>,
    exceptions: SealedFile<Exception>,
}

impl FileStore {
    /// Reads nothing yet: a file that is missing counts as empty.
    pub fn new(home: Home, keys: Arc<Keys>) -> Self {
        Self {
            tokens: SealedFile::new(&home, &keys, TOKENS_FILE, "records"),
            local_keys: SealedFile::new(&home, &keys, LOCAL_KEYS_FILE, "keys"),
            exceptions: SealedFile::new(&home, &keys, EXCEPTIONS_FILE, "exceptions"),
            home,
            keys,
        }
    }

    /// The user with the user's own key, to work on this file.
    fn owner<'a>(&self, user: &'a str, file: &str) -> Result<Owner<'a>> {
        let named = self.keys.get(&format!("user:{user}"))?;
        Ok(Owner { user, key: named.key, kid: named.id, path: self.home.path(file) })
    }
}

impl Store for FileStore {
    fn records(&self, user: &str) -> Result<Vec<Record>> {
        let all = self.tokens.read()?;
        let mut own = all.iter().filter(|stored| stored.of(user)).peekable();
        if own.peek().is_none() {
            return Ok(Vec::new());
        }
        let owner = self.owner(user, TOKENS_FILE)?;
        own.map(|stored| stored.open(&owner)).collect()
    }

    fn save(&self, user: &str, record: &Record) -> Result<()> {
        let stored = StoredRecord::seal(&self.owner(user, TOKENS_FILE)?, record)?;
        let save = |all: &mut Vec<StoredRecord>| {
            all.retain(|other| !other.is(user, &record.provider));
            all.push(stored);
            Ok(true)
        };
        self.tokens.change(save).map(drop)
    }

    fn update(&self, user: &str, provider: &str, change: &mut dyn FnMut(&mut Record)) -> Result<bool> {
        let owner = self.owner(user, TOKENS_FILE)?;
        self.tokens.change(|all| {
            let Some(stored) = all.iter_mut().find(|stored| stored.is(user, provider)) else {
                return Ok(false);
            };
            let mut record = stored.open(&owner)?;
            change(&mut record);
            // Whatever else was changed, it stays this login.
            provider.clone_into(&mut record.provider);
            *stored = StoredRecord::seal(&owner, &record)?;
            Ok(true)
        })
    }

    fn remove(&self, user: &str, provider: &str) -> Result<bool> {
        self.tokens.remove(|stored| stored.is(user, provider))
    }

    fn create_key(&self, user: &str, new: &NewKey, now: u64) -> Result<(LocalKey, Secret)> {
        let owner = self.owner(user, LOCAL_KEYS_FILE)?;
        let (stored, text) = StoredKey::make(&owner, new, now)?;
        let shown = stored.shown.clone();
        self.local_keys.change(|all| {
            let namesake = |other: &LocalKey| other.user_id == user && other.name == new.name;
            all.retain(|other| !namesake(&other.shown) || other.shown.lives(now));
            if all.iter().any(|other| namesake(&other.shown)) {
                return Err(Error::NameTaken(new.name.clone()));
            }
            all.push(stored);
            Ok(true)
        })?;
        Ok((shown, text))
    }

    fn keys(&self, user: &str) -> Result<Vec<LocalKey>> {
        let all = self.local_keys.read()?;
        let shown = all.iter().map(|stored| &stored.shown);
        Ok(shown.filter(|key| key.user_id == user).cloned().collect())
    }

    fn print_key(&self, user: &str, name: &str) -> Result<Option<Secret>> {
        let all = self.local_keys.read()?;
        let named = |key: &LocalKey| key.user_id == user && key.name == name;
        let Some(stored) = all.iter().find(|stored| named(&stored.shown)) else {
            return Ok(None);
        };
        stored.open(&self.owner(user, LOCAL_KEYS_FILE)?).map(Some)
    }

    fn revoke_key(&self, user: &str, id: &str) -> Result<bool> {
        let fits = |key: &LocalKey| key.user_id == user && key.id == id;
        self.local_keys.remove(|stored| fits(&stored.shown))
    }

    fn look_up(&self, presented: &str, now: u64) -> Result<Option<LocalKey>> {
        let all = self.local_keys.read()?;
        Ok(local_keys::find(&all, presented, now).cloned())
    }

    fn add_exception(&self, user: &str, new: &NewException, now: u64) -> Result<Exception> {
        let exception = Exception::make(user, new, now)?;
        self.exceptions.change(|all| {
            all.push(exception.clone());
            Ok(true)
        })?;
        Ok(exception)
    }

    fn exceptions(&self, user: &str) -> Result<Vec<Exception>> {
        let all = self.exceptions.read()?;
        let own = all.iter().filter(|exception| exception.user_id == user);
        Ok(own.cloned().collect())
    }

    fn remove_exception(&self, user: &str, id: &str) -> Result<bool> {
        let fits = |exception: &Exception| exception.user_id == user && exception.id == id;
        self.exceptions.remove(fits)
    }
}
