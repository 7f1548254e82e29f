//! A JSON list in a file whose last member is its MAC: `{"version":1,"LIST":[…],"mac":"…"}` and a newline.
//! Must never write over a file that it cannot read, nor return anything of one whose MAC is wrong.

use super::{Error, Result};
use crate::home::{Home, Privacy, Stamp};
use crate::keys::Keys;
use crate::secret::{self, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// What stands between the list and the MAC.
const MAC_MEMBER: &str = ",\"mac\":\"";
/// Length of an HMAC-SHA256 in hex.
const MAC_DIGITS: usize = 64;
/// What stands after the MAC.
const END: &str = "\"}\n";

/// One such file.
pub(super) struct SealedFile<E> {
    home: Home,
    keys: Arc<Keys>,
    name: &'static str,
    /// Everything before the list.
    start: String,
    seen: Mutex<Option<Seen<E>>>,
}

/// What was read last.
struct Seen<E> {
    stamp: Stamp,
    entries: Arc<Vec<E>>,
}

impl<E: Serialize + DeserializeOwned> SealedFile<E> {
    /// `list` is the name of the member that holds the entries.
    pub(super) fn new(home: &Home, keys: &Arc<Keys>, name: &'static str, list: &str) -> Self {
        Self {
            home: home.clone(),
            keys: Arc::clone(keys),
            name,
            start: format!("{{\"version\":1,\"{list}\":"),
            seen: Mutex::new(None),
        }
    }

    /// The entries as they stand in the file now; none when there is no file.
    pub(super) fn read(&self) -> Result<Arc<Vec<E>>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the reading: a change in between makes the next call read again.
        let stamp = self.home.stamp(self.name);
        if let (Some(stamp), Some(seen)) = (stamp, &*seen)
            && stamp == seen.stamp
        {
            return Ok(Arc::clone(&seen.entries));
        }
        let entries = Arc::new(match self.bytes()? {
            Some(bytes) => self.decode(&self.keys.get("file")?.key, &bytes)?,
            None => Vec::new(),
        });
        *seen = stamp.map(|stamp| Seen { stamp, entries: Arc::clone(&entries) });
        Ok(entries)
    }

    /// Reads, changes and writes as one step; nothing is written when `change` returns false, which is then the answer.
    /// `change` runs under the lock of the home, so it must not ask for keys.
    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<E>) -> Result<bool>) -> Result<bool> {
        let key = self.keys.get("file")?.key;
        let lock = self.home.lock()?;
        let mut entries = match self.bytes()? {
            Some(bytes) => self.decode(&key, &bytes)?,
            None => Vec::new(),
        };
        let changed = change(&mut entries)?;
        if changed {
            let body = format!("{}{}", self.start, self.json(&entries)?);
            let mac = key.mac(&[body.as_bytes()]);
            lock.write(self.name, format!("{body}{MAC_MEMBER}{mac}{END}").as_bytes())?;
        }
        Ok(changed)
    }

    /// Removes the entries that fit; false when there were none.
    pub(super) fn remove(&self, fits: impl Fn(&E) -> bool) -> Result<bool> {
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|entry| !fits(entry));
            Ok(entries.len() < before)
        })
    }

    fn bytes(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.home.read(self.name, Privacy::Secret)?)
    }

    fn decode(&self, key: &Key, bytes: &[u8]) -> Result<Vec<E>> {
        let tail = MAC_MEMBER.len() + MAC_DIGITS + END.len();
        let (body, tail) = bytes.split_at(bytes.len().saturating_sub(tail));
        let list = body
            .strip_prefix(self.start.as_bytes())
            .ok_or_else(|| self.damaged("is cut, damaged or of another version"))?;
        let wanted = format!("{MAC_MEMBER}{}{END}", key.mac(&[body]));
        if !secret::same(wanted.as_bytes(), tail) {
            return Err(self.damaged("is cut, damaged or was edited"));
        }
        // We write it in one way only, so this finds members that only another version knows.
        match serde_json::from_slice(list) {
            Ok(entries) if self.json(&entries)?.as_bytes() == list => Ok(entries),
            _ => Err(self.damaged("holds what this version does not know")),
        }
    }

    fn json(&self, entries: &Vec<E>) -> Result<String> {
        serde_json::to_string(entries).map_err(|_| self.damaged("cannot be written"))
    }

    fn damaged(&self, why: &'static str) -> Error {
        Error::Damaged(self.home.path(self.name), why)
    }
}
