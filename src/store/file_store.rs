//! The store of one developer on one machine: three files in the home, each a list of what belongs to whom.
//! Must never ask for a key under the home's lock, write over a file that it cannot read, or believe one whose MAC is wrong.

use super::local_keys::{self, LOCAL_KEYS_FILE, LocalKey, NewKey};
use super::record::{Record, SealedRecord, TOKENS_FILE};
use super::{Error, Exception, Result, Store};
use crate::home::{self, Privacy, Stamp};
use crate::keys::{Keys, NamedKey};
use crate::secret::{Key, Secret};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::{Arc, Mutex, PoisonError};

/// `tokens.json`, `local-keys.json` and `exceptions.json`.
pub struct FileStore {
    tokens: Table<SealedRecord>,
    local_keys: Table<LocalKey>,
    exceptions: Table<Exception>,
}

impl FileStore {
    /// The store in the home of these keys. Reads nothing yet: a file that is missing counts as empty.
    pub fn new(keys: &Arc<Keys>) -> Self {
        Self {
            tokens: Table::new(keys, TOKENS_FILE, "records", |row| &row.user_id),
            local_keys: Table::new(keys, LOCAL_KEYS_FILE, "keys", |row| &row.user_id),
            exceptions: Table::new(keys, "exceptions.json", "exceptions", |row| &row.user_id),
        }
    }

    /// What seals the user's own.
    fn key_of(&self, user: &str) -> Result<NamedKey> {
        Ok(self.tokens.keys.get(&format!("user:{user}"))?)
    }
}

impl Store for FileStore {
    fn records(&self, user: &str) -> Result<Vec<Record>> {
        let own = self.tokens.of(user)?;
        // The key is asked for only where there is a record, for asking makes it.
        own.iter().map(|row| row.open(&self.key_of(user)?.key)).collect()
    }

    fn save(&self, user: &str, record: &Record) -> Result<()> {
        let sealed = SealedRecord::seal(user, &self.key_of(user)?, record)?;
        self.tokens.replace(user, |row| row.record.provider == record.provider, Some(sealed)).map(drop)
    }

    fn update(&self, user: &str, provider: &str, change: &mut dyn FnMut(&mut Record)) -> Result<bool> {
        let named = self.key_of(user)?;
        self.tokens.change(user, |own| {
            let Some(sealed) = own.iter_mut().find(|sealed| sealed.record.provider == provider) else {
                return Ok(false);
            };
            let mut record = sealed.open(&named.key)?;
            change(&mut record);
            // Whatever else was changed, it stays this login.
            provider.clone_into(&mut record.provider);
            *sealed = SealedRecord::seal(user, &named, &record)?;
            Ok(true)
        })
    }

    fn remove(&self, user: &str, provider: &str) -> Result<bool> {
        self.tokens.replace(user, |row| row.record.provider == provider, None)
    }

    fn create_key(&self, user: &str, new: &NewKey, now: u64) -> Result<(LocalKey, Secret)> {
        let (key, text) = LocalKey::make(user, &self.key_of(user)?.key, new, now)?;
        self.local_keys.change(user, |own| {
            own.retain(|other| other.name != new.name || other.lives(now));
            if own.iter().any(|other| other.name == new.name) {
                return Err(Error::Refused(format!(
                    "there is a local key {:?} already; take another name, or type `infershield key revoke ID`",
                    new.name
                )));
            }
            own.push(key.clone());
            Ok(true)
        })?;
        Ok((key, text))
    }

    fn keys(&self, user: &str) -> Result<Vec<LocalKey>> {
        self.local_keys.of(user)
    }

    fn print_key(&self, user: &str, name: &str) -> Result<Option<Secret>> {
        let own = self.local_keys.of(user)?;
        let named = own.iter().find(|key| key.name == name);
        named.map(|key| key.open(&self.key_of(user)?.key)).transpose()
    }

    fn revoke_key(&self, user: &str, id: &str) -> Result<bool> {
        self.local_keys.replace(user, |row| row.id == id, None)
    }

    fn look_up(&self, presented: &str, now: u64) -> Result<Option<LocalKey>> {
        Ok(local_keys::find(&self.local_keys.all()?, presented, now).cloned())
    }

    fn add_exception(&self, user: &str, exception: &Exception) -> Result<()> {
        let own = Exception { user_id: user.to_owned(), ..exception.clone() };
        self.exceptions.replace(user, |row| row.reference == exception.reference, Some(own)).map(drop)
    }

    fn exceptions(&self, user: &str) -> Result<Vec<Exception>> {
        self.exceptions.of(user)
    }

    fn remove_exception(&self, user: &str, reference: &str) -> Result<bool> {
        self.exceptions.replace(user, |row| row.reference == reference, None)
    }
}

/// One file: `{"version":1,"LIST":[…],"mac":"…"}` and a newline. Its rows are only handed out user by user, but for [`Table::all`].
struct Table<Row> {
    keys: Arc<Keys>,
    file: &'static str,
    /// Everything before the list.
    start: String,
    user_of: fn(&Row) -> &str,
    /// What was read last.
    seen: Mutex<(Option<Stamp>, Arc<Vec<Row>>)>,
}

impl<Row: Clone + Serialize + DeserializeOwned> Table<Row> {
    /// `list` is the name of the member that holds the rows.
    fn new(keys: &Arc<Keys>, file: &'static str, list: &str, user_of: fn(&Row) -> &str) -> Self {
        let start = format!("{{\"version\":1,\"{list}\":");
        Self { keys: Arc::clone(keys), file, start, user_of, seen: Mutex::default() }
    }

    /// The rows of all users as they stand in the file now; none when there is no file.
    fn all(&self) -> Result<Arc<Vec<Row>>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the reading: a change in between makes the next call read again.
        let stamp = self.keys.home.stamp(self.file);
        if stamp.is_none() || stamp != seen.0 {
            *seen = (stamp, Arc::new(self.load(&self.keys.get("file")?.key)?));
        }
        Ok(Arc::clone(&seen.1))
    }

    /// The rows of the user.
    fn of(&self, user: &str) -> Result<Vec<Row>> {
        let all = self.all()?;
        Ok(all.iter().filter(|row| (self.user_of)(row) == user).cloned().collect())
    }

    /// Reads, changes and writes the user's rows as one step; nothing is written when `change` returns false, which is then
    /// the answer. It runs under the lock of the home, so it must not ask for keys.
    fn change(&self, user: &str, change: impl FnOnce(&mut Vec<Row>) -> Result<bool>) -> Result<bool> {
        let key = self.keys.get("file")?.key;
        let lock = self.keys.home.lock()?;
        let all = self.load(&key)?.into_iter();
        let (mut own, mut rows): (Vec<Row>, Vec<Row>) = all.partition(|row| (self.user_of)(row) == user);
        let changed = change(&mut own)?;
        if changed {
            rows.append(&mut own);
            let list = serde_json::to_string(&rows).map_err(|_| self.damaged("cannot be written"))?;
            let body = format!("{}{list}", self.start);
            lock.write(self.file, key.signed("", &body, "mac").0.as_bytes())?;
        }
        Ok(changed)
    }

    /// Takes out the user's rows that fit and puts in a new one, if there is one; false when that changes nothing.
    fn replace(&self, user: &str, fits: impl Fn(&Row) -> bool, new: Option<Row>) -> Result<bool> {
        self.change(user, |own| {
            let before = own.len();
            own.retain(|row| !fits(row));
            let changed = new.is_some() || own.len() < before;
            own.extend(new);
            Ok(changed)
        })
    }

    fn load(&self, key: &Key) -> Result<Vec<Row>> {
        let Some(bytes) = self.keys.home.read(self.file, Privacy::Secret)? else { return Ok(Vec::new()) };
        let checked = key.checked("", &bytes, "mac");
        let (body, _) = checked.ok_or_else(|| self.damaged("is cut, damaged or was edited"))?;
        let list = body.strip_prefix(&self.start).unwrap_or_default();
        home::parse(list.as_bytes()).ok_or_else(|| self.damaged("holds what this version does not know"))
    }

    fn damaged(&self, why: &str) -> Error {
        let path = self.keys.home.path(self.file);
        Error::Storage(format!(
            "{0} {why}. It is left as it is. Put back a copy of it, or type `mv {0} {0}.damaged` to go on without it",
            path.display()
        ))
    }
}
