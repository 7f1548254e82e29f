//! Token records, local keys and exceptions: three files in the home, each a list of what belongs to whom.
//! Must never know the network, give one user what belongs to another, ask for a key under the home's lock, write over a file that it
//! cannot read, or believe one whose MAC is wrong.

mod local_keys;
mod record;

pub use local_keys::{LocalKey, NewKey, PREFIX as LOCAL_KEY_PREFIX, holds_local_key, url_holds_local_key};
pub use record::{Bound, Record, State};

use crate::home::{self, Privacy, Stamp};
use crate::keys::{Keys, NamedKey};
use crate::secret::{Key, Sealed, Secret};
use local_keys::LOCAL_KEYS_FILE;
use record::{SealedRecord, TOKENS_FILE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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

/// `tokens.json`, `local-keys.json` and `exceptions.json`: everything that is kept of a user. Each call takes one, but
/// [`FileStore::look_up`], which is where a request's user comes from. Calls see what other processes wrote before. `now` is in seconds
/// since 1970.
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

    /// All logins of the user.
    pub fn records(&self, user: &str) -> Result<Vec<Record>> {
        let own = self.tokens.of(user)?;
        // The key is asked for only where there is a record, for asking makes it.
        own.iter().map(|row| row.open(&self.key_of(user)?.key)).collect()
    }

    /// The user's login at a provider, if any.
    pub fn record(&self, user: &str, provider: &str) -> Result<Option<Record>> {
        let mut records = self.records(user)?.into_iter();
        Ok(records.find(|record| record.provider == provider))
    }

    /// Puts a login in place of the user's former one at that provider.
    pub fn save(&self, user: &str, record: &Record) -> Result<()> {
        let sealed = SealedRecord::seal(user, &self.key_of(user)?, record)?;
        self.tokens.replace(user, |row| row.record.provider == record.provider, Some(sealed)).map(drop)
    }

    /// Reads, changes and writes the login as one step, so that nothing written in between is lost.
    /// False, and nothing written, when the user has logged out meanwhile.
    /// `change` runs under the lock: it must be quick and not call the store.
    pub fn update(&self, user: &str, provider: &str, change: &mut dyn FnMut(&mut Record)) -> Result<bool> {
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

    /// Forgets a login; false when there was none.
    pub fn remove(&self, user: &str, provider: &str) -> Result<bool> {
        self.tokens.replace(user, |row| row.record.provider == provider, None)
    }

    /// Makes a local key; this is the one time that a key made with `once` is seen.
    pub fn create_key(&self, user: &str, new: &NewKey, now: u64) -> Result<(LocalKey, Secret)> {
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

    /// All local keys of the user, expired ones too.
    pub fn keys(&self, user: &str) -> Result<Vec<LocalKey>> {
        self.local_keys.of(user)
    }

    /// The key of this name itself; `None` when there is none.
    pub fn print_key(&self, user: &str, name: &str) -> Result<Option<Secret>> {
        let own = self.local_keys.of(user)?;
        let named = own.iter().find(|key| key.name == name);
        named.map(|key| key.open(&self.key_of(user)?.key)).transpose()
    }

    /// Ends a local key; false when the user has none with this id.
    pub fn revoke_key(&self, user: &str, id: &str) -> Result<bool> {
        self.local_keys.replace(user, |row| row.id == id, None)
    }

    /// Whose key a client presented; `None` when it is unknown, revoked or expired.
    pub fn look_up(&self, presented: &str, now: u64) -> Result<Option<LocalKey>> {
        Ok(local_keys::find(&self.local_keys.all()?, presented, now).cloned())
    }

    /// Lets a finding of the user's pass from now on, in place of what was decided on its reference before.
    pub fn add_exception(&self, user: &str, exception: &Exception) -> Result<()> {
        let own = Exception { user_id: user.to_owned(), ..exception.clone() };
        self.exceptions.replace(user, |row| row.reference == exception.reference, Some(own)).map(drop)
    }

    /// All exceptions of the user, expired ones too.
    pub fn exceptions(&self, user: &str) -> Result<Vec<Exception>> {
        self.exceptions.of(user)
    }

    /// Ends an exception; false when the user has none for this reference.
    pub fn remove_exception(&self, user: &str, reference: &str) -> Result<bool> {
        self.exceptions.replace(user, |row| row.reference == reference, None)
    }

    /// What seals the user's own.
    fn key_of(&self, user: &str) -> Result<NamedKey> {
        Ok(self.tokens.keys.get(&format!("user:{user}"))?)
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
