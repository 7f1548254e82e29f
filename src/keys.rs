//! The key hierarchy: the master key derives the root key, and the root key opens `keys.json`, which holds all other keys.
//! Must never write a key unsealed, nor overwrite a `keys.json` that it cannot read.

use crate::home::{self, Error, Home, Lock, Privacy, Result};
use crate::secret::{self, KEY_BYTES, Key, Sealed, Secret, place};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// PBKDF2 rounds that are accepted: fewer protect too little, more would look like a program that hangs.
pub const ITERATIONS: RangeInclusive<u32> = 100_000..=10_000_000;

/// Longest key that is read, a master key or one of a provider, in bytes with its line end.
pub const MAX_KEY_BYTES: usize = 16 << 10;

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
/// What is wrong with a `keys.json` that is not what we wrote.
const DAMAGED: &str = "is cut, damaged or of another version. It is left as it is: put back a copy of it";
/// What is wrong when another master key was given than the one that `keys.json` was made with.
const WRONG_MASTER: &str = "does not open with this master key: give the one that it was made with \
    (after `infershield rekey`: the new one). If it is the right one, the file is damaged: put back a copy";

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

impl MasterSource {
    /// The master key, when it comes from outside the home.
    pub fn given(&self) -> Result<Option<Secret>> {
        let master = match self {
            Self::Value(master) => trimmed(master.expose().as_bytes(), "INFERSHIELD_MASTER_KEY"),
            Self::File(path) => trimmed(&home::read_private(path)?, path.display()),
            Self::Command(words) => trimmed(&output_of(words)?, "master_key_command"),
            Self::Home => return Ok(None),
        };
        master.map(Some)
    }
}

/// The keys of one home. Nothing is read or derived before the first key is asked for; the root key is derived once.
/// Never ask while holding [`Home::lock`]: `keys.json` is read and written under that lock.
#[derive(Debug)]
pub struct Keys {
    /// Where they stand.
    pub home: Home,
    master: MasterSource,
    iterations: u32,
    opened: Mutex<Option<Opened>>,
}

/// A key and the name it goes by in files and logs.
#[derive(Clone, Debug)]
pub struct NamedKey {
    /// 16 hex digits.
    pub id: String,
    /// The key itself.
    pub key: Key,
}

/// All of `keys.json`, open.
#[derive(Debug)]
struct Opened {
    kdf: Kdf,
    /// Opens the file.
    root: Key,
    /// By label.
    keys: BTreeMap<String, NamedKey>,
}

impl Keys {
    /// `iterations`, within [`ITERATIONS`], is what a new or rekeyed `keys.json` gets; an existing one states its own.
    pub fn open(home: Home, master: MasterSource, iterations: u32) -> Result<Self> {
        if !ITERATIONS.contains(&iterations) {
            let (least, most) = ITERATIONS.into_inner();
            return Err(Error::other(format!("{iterations} PBKDF2 rounds: set from {least} to {most}")));
        }
        Ok(Self { home, master, iterations, opened: Mutex::default() })
    }

    /// The key with this label, made when it is asked for the first time. There are `file` (authenticates our state files),
    /// `audit` (chains the log), `head` (seals its head), `placeholder` (for redacted values), `fingerprint` (for findings),
    /// and `user:ID` (seals what belongs to one user).
    pub fn get(&self, label: &str) -> Result<NamedKey> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = opened.as_ref().and_then(|opened| opened.keys.get(label)) {
            return Ok(named.clone());
        }
        let given = self.given(opened.as_ref())?;
        let lock = self.home.lock()?;
        let mut current = self.load(&lock, opened.as_ref(), given)?;
        let named = match current.keys.get(label) {
            Some(named) => named.clone(),
            None => {
                let id = secret::hex(&secret::random::<ID_BYTES>()?);
                let named = NamedKey { id, key: Key::new(secret::random()?) };
                current.keys.insert(label.to_owned(), named.clone());
                current.write(&lock)?;
                named
            }
        };
        *opened = Some(current);
        Ok(named)
    }

    /// Puts all keys under another master key, with a new salt and the rounds given to [`Keys::open`]. They stay what they are, so
    /// that everything sealed or signed before keeps its meaning. Killed at any point, the next start finishes or undoes it.
    ///
    /// The caller sees to it that the next start is given the `given` master key; without one, `master.key` in the home gets a fresh one.
    pub fn rekey(&self, given: Option<&Secret>) -> Result<()> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.given(opened.as_ref())?;
        let lock = self.home.lock()?;
        let keys = self.load(&lock, opened.as_ref(), before)?.keys;
        let master = match given {
            Some(master) => trimmed(master.expose().as_bytes(), "the new value")?,
            None => make_master(&lock, NEW_MASTER_FILE)?,
        };
        let rekeyed = Opened::new(&master, self.iterations, keys)?;
        rekeyed.write(&lock)?;
        *opened = Some(rekeyed);
        match (given, &self.master) {
            (None, _) => lock.rename(NEW_MASTER_FILE, MASTER_FILE),
            (Some(_), MasterSource::Home) => lock.remove(MASTER_FILE),
            (Some(_), _) => Ok(()),
        }
    }

    /// Opens all of `keys.json`, which other processes may have changed since `before`; without one, begins a new one.
    fn load(&self, lock: &Lock<'_>, before: Option<&Opened>, given: Option<Secret>) -> Result<Opened> {
        let Some(bytes) = self.home.read(KEYS_FILE, Privacy::Secret)? else { return self.begin(lock, given) };
        let file = KeyFile::parse(&bytes).ok_or_else(|| self.unusable(DAMAGED))?;
        let root = match before {
            Some(before) if before.kdf == file.kdf => before.root.clone(),
            _ => self.root(lock, &file.kdf, given)?,
        };
        Opened::from(file, root).ok_or_else(|| self.unusable(DAMAGED))
    }

    /// The first start: no key yet, and a root key for those to come.
    fn begin(&self, lock: &Lock<'_>, given: Option<Secret>) -> Result<Opened> {
        if let Some(path) = PROTECTED.map(|name| self.home.path(name)).iter().find(|path| path.exists()) {
            let needs = path.display();
            return Err(self.unusable(&format!(
                "is missing, but {needs} needs it: put back a copy of it. \
                 Without one, type `mv {needs} {needs}.lost` and log in again"
            )));
        }
        let master = self.master(MASTER_FILE, given)?.map_or_else(|| make_master(lock, MASTER_FILE), Ok)?;
        Opened::new(&master, self.iterations, BTreeMap::new())
    }

    /// The root key of `keys.json`. Finishes or undoes a rekey of `master.key` that was killed: of it and `master.key.new`, the one
    /// that fits stays.
    fn root(&self, lock: &Lock<'_>, kdf: &Kdf, given: Option<Secret>) -> Result<Key> {
        if let MasterSource::Home = self.master
            && let Some(root) = self.master(NEW_MASTER_FILE, None)?.and_then(|master| kdf.root(&master))
        {
            lock.rename(NEW_MASTER_FILE, MASTER_FILE)?;
            return Ok(root);
        }
        let master =
            self.master(MASTER_FILE, given)?.ok_or_else(|| no_master(self.home.path(MASTER_FILE).display()))?;
        let root = kdf.root(&master).ok_or_else(|| self.unusable(WRONG_MASTER))?;
        lock.remove(NEW_MASTER_FILE)?;
        Ok(root)
    }

    /// What will be needed of it before the home is locked, for others wait then, and a command may ask a person.
    fn given(&self, opened: Option<&Opened>) -> Result<Option<Secret>> {
        if opened.is_none() { self.master.given() } else { Ok(None) }
    }

    /// The master key, unless it is `given`, from where it comes; `None` when that is the file `name` in the home, and there is none.
    fn master(&self, name: &str, given: Option<Secret>) -> Result<Option<Secret>> {
        let MasterSource::Home = self.master else {
            return given.map_or_else(|| self.master.given(), |given| Ok(Some(given)));
        };
        let bytes = self.home.read(name, Privacy::Secret)?;
        bytes.map(|bytes| trimmed(&bytes, name)).transpose()
    }

    fn unusable(&self, why: &str) -> Error {
        Error::other(format!("{} {why}", self.home.path(KEYS_FILE).display()))
    }
}

impl Opened {
    /// These keys under a root key of their own, derived from this master key with a fresh salt.
    fn new(master: &Secret, iterations: u32, keys: BTreeMap<String, NamedKey>) -> Result<Self> {
        let salt = secret::random::<SALT_BYTES>()?;
        let root = derive(master, &salt, iterations);
        let (name, salt, check) = (KDF_NAME.to_owned(), STANDARD.encode(salt), root.mac(&[CHECK_TEXT]));
        Ok(Self { kdf: Kdf { name, iterations, salt, check }, root, keys })
    }

    /// `None` when a key was not sealed under this root key.
    fn from(file: KeyFile, root: Key) -> Option<Self> {
        let mut keys = BTreeMap::new();
        for Entry { id, label, sealed } in file.keys {
            let plain = root.open(&entry_place(&id, &label), &sealed)?;
            let key = Key::new(plain.as_slice().try_into().ok()?);
            keys.insert(label, NamedKey { id, key });
        }
        Some(Self { kdf: file.kdf, root, keys })
    }

    fn write(&self, lock: &Lock<'_>) -> Result<()> {
        let mut file = KeyFile { version: VERSION, kdf: self.kdf.clone(), keys: Vec::new() };
        for (label, NamedKey { id, key }) in &self.keys {
            let sealed = self.root.seal(&entry_place(id, label), key.expose())?;
            file.keys.push(Entry { id: id.clone(), label: label.clone(), sealed });
        }
        let text = serde_json::to_string(&file)? + "\n";
        lock.write(KEYS_FILE, text.as_bytes())
    }
}

/// `keys.json`.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    kdf: Kdf,
    /// In the order of their labels, each but once.
    keys: Vec<Entry>,
}

impl KeyFile {
    /// `None` for any bytes that this version would not write.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let file: Self = home::parse(bytes.strip_suffix(b"\n")?)?;
        let known = file.version == VERSION && file.kdf.name == KDF_NAME;
        let in_order = file.keys.is_sorted_by(|one, next| one.label < next.label);
        (known && in_order && ITERATIONS.contains(&file.kdf.iterations)).then_some(file)
    }
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

impl Kdf {
    /// The root key; `None` when this is not its master key.
    fn root(&self, master: &Secret) -> Option<Key> {
        let salt = STANDARD.decode(&self.salt).ok()?;
        let root = derive(master, &salt, self.iterations);
        secret::same(root.mac(&[CHECK_TEXT]).as_bytes(), self.check.as_bytes()).then_some(root)
    }
}

/// PBKDF2-HMAC-SHA256.
fn derive(master: &Secret, salt: &[u8], iterations: u32) -> Key {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    pbkdf2::pbkdf2_hmac::<Sha256>(master.expose().as_bytes(), salt, iterations, &mut *bytes);
    Key::new(*bytes)
}

/// A key sealed under the root key.
#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    label: String,
    #[serde(flatten)]
    sealed: Sealed,
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
fn trimmed(bytes: &[u8], source: impl fmt::Display) -> Result<Secret> {
    match std::str::from_utf8(bytes.strip_suffix(b"\n").unwrap_or(bytes)) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text.to_owned())),
        _ => Err(no_master(format_args!("{source} (it is empty or no text)"))),
    }
}

fn no_master(source: impl fmt::Display) -> Error {
    Error::other(format!("no master key from {source}: put it back there, or set INFERSHIELD_MASTER_KEY to it"))
}

/// What the user's command prints. It may talk to the user on standard error; it has no input, which belongs to our own commands.
fn output_of(words: &[String]) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |why: &dyn fmt::Display| no_master(format_args!("master_key_command ({why})"));
    let (program, arguments) = words.split_first().ok_or_else(|| failed(&"empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let mut printed = Zeroizing::new(Vec::with_capacity(MAX_KEY_BYTES + 1));
    if let Some(output) = child.stdout.take() {
        output.take(MAX_KEY_BYTES as u64 + 1).read_to_end(&mut printed)?;
    }
    if printed.len() > MAX_KEY_BYTES {
        child.kill()?;
        child.wait()?;
        return Err(failed(&format_args!("`{program}` prints more than {MAX_KEY_BYTES} bytes")));
    }
    let status = child.wait()?;
    if status.success() { Ok(printed) } else { Err(failed(&status)) }
}
