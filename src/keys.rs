//! The key hierarchy: the master key derives the root key, and the root key opens `keys.json`, which holds all other keys.
//! Must never write a key unsealed, nor overwrite a `keys.json` that it cannot read.

use crate::home::{self, Home, Lock, Privacy};
use crate::secret::{self, KEY_BYTES, Key, Sealed, Secret, place};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{fmt, io};
use zeroize::Zeroizing;

/// PBKDF2 rounds that are accepted: fewer protect too little, more would look like a program that hangs.
pub const ITERATIONS: RangeInclusive<u32> = 100_000..=10_000_000;

/// Holds the sealed keys.
const KEYS_FILE: &str = "keys.json";
/// Holds the master key, where nothing else gives one.
const MASTER_FILE: &str = "master.key";
/// The coming master key while [`Keys::rekey`] is at work.
const NEW_MASTER_FILE: &str = "master.key.new";
/// Version of `keys.json`.
const VERSION: u32 = 1;
/// The one derivation that we know (RFC 8018, section 5.2).
const KDF_NAME: &str = "pbkdf2-hmac-sha256";
/// Length of the PBKDF2 salt, in bytes (NIST SP 800-132 asks for at least 16).
const SALT_BYTES: usize = 16;
/// Length of a key's id, in bytes before hex: enough that two never meet.
const ID_BYTES: usize = 8;
/// What the root key signs so that it can be recognised.
const CHECK_TEXT: &[u8] = b"infershield keys.json check";
/// While one of these exists, a missing `keys.json` is a loss and not a first start.
const PROTECTED: [&str; 4] = ["tokens.json", "local-keys.json", "exceptions.json", "audit"];

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub enum MasterSource {
    /// The text itself (`INFERSHIELD_MASTER_KEY`).
    Value(Secret),
    /// A private file; it may be a link (`INFERSHIELD_MASTER_KEY_FILE`). One newline at its end does not count.
    File(PathBuf),
    /// Standard output of a command and its arguments (`master_key_command`). One newline at its end does not count.
    Command(Vec<String>),
    /// `master.key` in the home, made at first use.
    Home,
}

/// Where the master key shall come from after [`Keys::rekey`].
#[derive(Clone, Debug)]
pub enum NewMaster {
    /// This text; the caller sees to it that the next start is given it.
    Given(Secret),
    /// A fresh `master.key` in the home.
    Home,
}

/// What can go wrong with keys. The text says what to do; it never holds a key.
#[derive(Debug)]
pub enum Error {
    /// A file could not be read or written.
    Home(home::Error),
    /// The system gave no random bytes.
    Random(io::Error),
    /// The number of PBKDF2 rounds is outside [`ITERATIONS`].
    Iterations(u32),
    /// There is no master key to be had from here.
    NoMaster(String),
    /// The master key does not fit `keys.json`.
    WrongMaster(PathBuf),
    /// `keys.json` is not what we wrote; why. It is left as it is.
    Damaged(PathBuf, &'static str),
    /// `keys.json` is gone, but something that its keys protect is still there.
    Missing(PathBuf, PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = ITERATIONS.into_inner();
        match self {
            Self::Home(error) => error.fmt(f),
            Self::Random(error) => error.fmt(f),
            Self::Iterations(given) => {
                write!(f, "{given} PBKDF2 rounds: set from {least} to {most}")
            }
            Self::NoMaster(source) => {
                write!(f, "no master key from {source}: put it back there, or set INFERSHIELD_MASTER_KEY to it")
            }
            Self::WrongMaster(path) => write!(
                f,
                "the master key does not open {}: give the one that it was made with (after `infershield rekey`: the new one). \
                 If it is the right one, the file is damaged: put back a copy",
                path.display()
            ),
            Self::Damaged(path, why) => {
                write!(f, "{} {why}. It is left as it is: put back a copy of it", path.display())
            }
            Self::Missing(path, needs) => write!(
                f,
                "{0} is missing, but {1} needs it: put back a copy of it. Without one, type `mv {1} {1}.lost` and log in again",
                path.display(),
                needs.display()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<home::Error> for Error {
    fn from(error: home::Error) -> Self {
        Self::Home(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Random(error)
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// The keys of one home. Nothing is read or derived before the first key is asked for; the root key is derived once.
/// Never ask while holding [`Home::lock`]: `keys.json` is read and written under that lock.
#[derive(Debug)]
pub struct Keys {
    home: Home,
    master: MasterSource,
    iterations: u32,
    opened: Mutex<Opened>,
}

/// What was opened so far.
#[derive(Debug, Default)]
struct Opened {
    root: Option<Root>,
    /// By label.
    keys: BTreeMap<String, Named>,
}

/// A key with its id.
#[derive(Clone, Debug)]
struct Named {
    id: String,
    key: Key,
}

impl Keys {
    /// `iterations`, within [`ITERATIONS`], is what a new or rekeyed `keys.json` gets; an existing one states its own.
    pub fn open(home: Home, master: MasterSource, iterations: u32) -> Result<Self> {
        if !ITERATIONS.contains(&iterations) {
            return Err(Error::Iterations(iterations));
        }
        Ok(Self { home, master, iterations, opened: Mutex::default() })
    }

    /// Seals what belongs to one user.
    pub fn user(&self, user: &str) -> Result<Key> {
        Ok(self.named(&format!("user:{user}"))?.key)
    }

    /// Authenticates our state files.
    pub fn file(&self) -> Result<Key> {
        Ok(self.named("file")?.key)
    }

    /// Chains the audit log.
    pub fn audit(&self) -> Result<Key> {
        Ok(self.named("audit")?.key)
    }

    /// Seals the head of the audit log.
    pub fn head(&self) -> Result<Key> {
        Ok(self.named("head")?.key)
    }

    /// Makes the placeholders of redacted values.
    pub fn placeholder(&self) -> Result<Key> {
        Ok(self.named("placeholder")?.key)
    }

    /// Makes the fingerprints of findings.
    pub fn fingerprint(&self) -> Result<Key> {
        Ok(self.named("fingerprint")?.key)
    }

    /// The id, 16 hex digits, of the key with this label (`audit`, `user:alex@example.com`, …).
    /// Like every key, it is made when it is asked for the first time.
    pub fn kid(&self, label: &str) -> Result<String> {
        Ok(self.named(label)?.id)
    }

    /// Puts all keys under another master key, with a new salt and the rounds given to [`Keys::open`]. They stay what they are, so
    /// that everything sealed or signed before keeps its meaning. Killed at any point, the next start finishes or undoes it.
    pub fn rekey(&self, new: &NewMaster) -> Result<()> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.home.lock()?;
        self.load(&lock, &mut opened)?;
        let master = match new {
            NewMaster::Given(master) => trimmed(master.expose().as_bytes(), "the new value")?,
            NewMaster::Home => make_master(&lock, NEW_MASTER_FILE)?,
        };
        let root = Root::derive(&master, secret::random()?, self.iterations);
        self.write(&lock, &root, &opened.keys)?;
        opened.root = Some(root);
        match (new, &self.master) {
            (NewMaster::Home, _) => lock.rename(NEW_MASTER_FILE, MASTER_FILE)?,
            (NewMaster::Given(_), MasterSource::Home) => lock.remove(MASTER_FILE)?,
            (NewMaster::Given(_), _) => {}
        }
        Ok(())
    }

    /// The key with this label: opened before, or in the file, or made now.
    fn named(&self, label: &str) -> Result<Named> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = opened.keys.get(label) {
            return Ok(named.clone());
        }
        let lock = self.home.lock()?;
        let root = self.load(&lock, &mut opened)?;
        if let Some(named) = opened.keys.get(label) {
            return Ok(named.clone());
        }
        let named = Named { id: secret::hex(&secret::random::<ID_BYTES>()?), key: Key::new(secret::random()?) };
        let mut keys = opened.keys.clone();
        keys.insert(label.to_owned(), named.clone());
        self.write(&lock, &root, &keys)?;
        opened.keys = keys;
        Ok(named)
    }

    /// Opens all of `keys.json`, which other processes may have changed; without one, prepares the root key of a new one.
    fn load(&self, lock: &Lock<'_>, opened: &mut Opened) -> Result<Root> {
        let file = self.read()?;
        let root = match (&file, &opened.root) {
            (Some(file), Some(root)) if root.kdf == file.kdf => root.clone(),
            (Some(file), _) => self.fitting_root(lock, &file.kdf)?,
            (None, _) => {
                let master = match self.given_master()? {
                    Some(master) => Some(master),
                    None => self.master_in_home(MASTER_FILE)?,
                };
                let master = master.map_or_else(|| make_master(lock, MASTER_FILE), Ok)?;
                Root::derive(&master, secret::random()?, self.iterations)
            }
        };
        let mut keys = BTreeMap::new();
        for entry in file.into_iter().flat_map(|file| file.keys) {
            let key = root.open(&entry).ok_or_else(|| self.damaged("holds a key that does not open"))?;
            let named = Named { id: entry.id, key };
            if keys.insert(entry.label, named).is_some() {
                return Err(self.damaged("holds two keys of one name"));
            }
        }
        *opened = Opened { root: Some(root.clone()), keys };
        Ok(root)
    }

    /// The root key that `keys.json` was made with. Where the master key lies in the home, finishes or undoes a rekey that was killed.
    fn fitting_root(&self, lock: &Lock<'_>, kdf: &Kdf) -> Result<Root> {
        let wrong = || Error::WrongMaster(self.home.path(KEYS_FILE));
        if let Some(master) = self.given_master()? {
            return Root::fitting(&master, kdf).ok_or_else(wrong);
        }
        let coming = self.master_in_home(NEW_MASTER_FILE)?;
        let fitting = coming.as_ref().map(|master| Root::fitting(master, kdf));
        if let Some(Some(root)) = fitting {
            lock.rename(NEW_MASTER_FILE, MASTER_FILE)?;
            return Ok(root);
        }
        let master = self
            .master_in_home(MASTER_FILE)?
            .ok_or_else(|| Error::NoMaster(self.home.path(MASTER_FILE).display().to_string()))?;
        let root = Root::fitting(&master, kdf).ok_or_else(wrong)?;
        if coming.is_some() {
            lock.remove(NEW_MASTER_FILE)?;
        }
        Ok(root)
    }

    /// The master key, where it comes from outside the home.
    fn given_master(&self) -> Result<Option<Secret>> {
        let master = match &self.master {
            MasterSource::Home => return Ok(None),
            MasterSource::Value(master) => trimmed(master.expose().as_bytes(), "INFERSHIELD_MASTER_KEY"),
            MasterSource::File(path) => trimmed(&home::read_private(path)?, &path.display().to_string()),
            MasterSource::Command(words) => trimmed(&output_of(words)?, "master_key_command"),
        };
        master.map(Some)
    }

    fn master_in_home(&self, name: &str) -> Result<Option<Secret>> {
        let bytes = self.home.read(name, Privacy::Secret)?;
        bytes.map(|bytes| trimmed(&bytes, name)).transpose()
    }

    fn read(&self) -> Result<Option<KeyFile>> {
        let Some(bytes) = self.home.read(KEYS_FILE, Privacy::Secret)? else {
            let mut needing = PROTECTED.iter().map(|name| self.home.path(name));
            return match needing.find(|path| path.exists()) {
                Some(path) => Err(Error::Missing(self.home.path(KEYS_FILE), path)),
                None => Ok(None),
            };
        };
        let file: KeyFile =
            serde_json::from_slice(&bytes).map_err(|_| self.damaged("is cut, damaged or of another version"))?;
        // We write it in one way only, so this finds unknown members and whatever else is not ours.
        if self.bytes_of(&file)? != *bytes {
            return Err(self.damaged("is not written as we write it"));
        }
        if file.version != VERSION || file.kdf.name != KDF_NAME {
            return Err(self.damaged("was made by another version of infershield"));
        }
        if !ITERATIONS.contains(&file.kdf.iterations) {
            return Err(self.damaged("states an impossible number of rounds"));
        }
        Ok(Some(file))
    }

    fn write(&self, lock: &Lock<'_>, root: &Root, keys: &BTreeMap<String, Named>) -> Result<()> {
        let mut file = KeyFile { version: VERSION, kdf: root.kdf.clone(), keys: Vec::new() };
        for (label, named) in keys {
            file.keys.push(root.seal(label, named)?);
        }
        Ok(lock.write(KEYS_FILE, &self.bytes_of(&file)?)?)
    }

    fn bytes_of(&self, file: &KeyFile) -> Result<Vec<u8>> {
        let text = serde_json::to_string(file).map_err(|_| self.damaged("cannot be written"))?;
        Ok((text + "\n").into_bytes())
    }

    fn damaged(&self, why: &'static str) -> Error {
        Error::Damaged(self.home.path(KEYS_FILE), why)
    }
}

/// `keys.json`.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    kdf: Kdf,
    keys: Vec<Entry>,
}

/// How the root key is derived, and how to recognise it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kdf {
    name: String,
    iterations: u32,
    /// Base64 of 16 bytes.
    salt: String,
    /// HMAC of a fixed text under the root key, in hex: a wrong master key gives another one.
    check: String,
}

/// A key sealed under the root key.
#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    label: String,
    #[serde(flatten)]
    sealed: Sealed,
}

/// The key that opens `keys.json`, with the derivation it came from.
#[derive(Clone, Debug)]
struct Root {
    kdf: Kdf,
    key: Key,
}

impl Root {
    fn derive(master: &Secret, salt: [u8; SALT_BYTES], iterations: u32) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::pbkdf2_hmac::<Sha256>(master.expose().as_bytes(), &salt, iterations, &mut *bytes);
        let key = Key::new(*bytes);
        let kdf =
            Kdf { name: KDF_NAME.to_owned(), iterations, salt: STANDARD.encode(salt), check: key.mac(&[CHECK_TEXT]) };
        Self { kdf, key }
    }

    /// The root key of an existing `keys.json`; `None` when this is not its master key.
    fn fitting(master: &Secret, kdf: &Kdf) -> Option<Self> {
        let salt = STANDARD.decode(&kdf.salt).ok()?.try_into().ok()?;
        let root = Self::derive(master, salt, kdf.iterations);
        secret::same(root.kdf.check.as_bytes(), kdf.check.as_bytes()).then_some(root)
    }

    fn seal(&self, label: &str, named: &Named) -> Result<Entry> {
        let place = entry_place(&named.id, label);
        Ok(Entry { id: named.id.clone(), label: label.to_owned(), sealed: self.key.seal(&place, named.key.expose())? })
    }

    fn open(&self, entry: &Entry) -> Option<Key> {
        let place = entry_place(&entry.id, &entry.label);
        Key::from_slice(&self.key.open(&place, &entry.sealed)?)
    }
}

/// Binds a sealed key to its id and label.
fn entry_place(id: &str, label: &str) -> Vec<u8> {
    place(&[&VERSION.to_string(), id, label])
}

/// Writes a new random master key into the home.
fn make_master(lock: &Lock<'_>, name: &str) -> Result<Secret> {
    let bytes = Zeroizing::new(secret::random::<KEY_BYTES>()?);
    let master = Secret::new(STANDARD.encode(*bytes));
    lock.write(name, master.expose().as_bytes())?;
    Ok(master)
}

/// The text of a master key, without the newline that an editor or a command puts at its end.
fn trimmed(bytes: &[u8], source: &str) -> Result<Secret> {
    match std::str::from_utf8(bytes.strip_suffix(b"\n").unwrap_or(bytes)) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text.to_owned())),
        _ => Err(Error::NoMaster(format!("{source} (it is empty or no text)"))),
    }
}

/// What the user's command prints. It may talk to the user on standard error; it has no input, which belongs to our own commands.
fn output_of(words: &[String]) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |why: String| Error::NoMaster(format!("master_key_command ({why})"));
    let (program, arguments) = words.split_first().ok_or_else(|| failed("empty".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    let printed = Zeroizing::new(output.stdout);
    match output.status.success() {
        true => Ok(printed),
        false => Err(failed(output.status.to_string())),
    }
}
