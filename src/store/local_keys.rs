//! Local keys: what tools present to us instead of a provider's token.
//! Must never keep a key unsealed, nor compare one in variable time.

use super::{Error, Result};
use crate::secret::{self, Key, Sealed, Secret, place};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Where they stand.
pub(super) const LOCAL_KEYS_FILE: &str = "local-keys.json";
/// What every local key begins with.
pub const PREFIX: &str = "isk_";
/// Random bytes in a key.
const RANDOM_BYTES: usize = 32;
/// Base62 digits that hold [`RANDOM_BYTES`]: 62^43 is a little more than 2^256.
const RANDOM_DIGITS: usize = 43;
/// Base62 digits of the check: a typing error or another tool's key passes once in 5 * 10^10.
const CHECK_DIGITS: usize = 6;
/// Bytes of a key's id before hex.
const ID_BYTES: usize = 8;
/// Digits of base62 by value.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A local key, as it stands in `local-keys.json`; the key itself is in it only as hash and sealed. Times are seconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalKey {
    /// 16 hex digits, for `key revoke` and the audit log.
    pub id: String,
    /// Whose requests it makes.
    pub user_id: String,
    /// The only provider it may be used for, if any.
    pub provider: Option<String>,
    /// Unique among the user's keys.
    pub name: String,
    /// When it was made.
    pub created_at: u64,
    /// When it ends; `None`: never.
    pub expires_at: Option<u64>,
    /// Of the whole key, in hex. The key holds 256 random bits, so no slow hash is needed.
    sha256: String,
    /// The key itself, under the user's own key; `None` when it was made with `once`.
    copy: Option<Sealed>,
}

/// What a new local key shall be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Unique among the user's keys that have not expired.
    pub name: String,
    /// The only provider it may be used for, if any.
    pub provider: Option<String>,
    /// When it ends, in seconds since 1970; `None`: never.
    pub expires_at: Option<u64>,
    /// Keep no copy: it can be handed out this one time only.
    pub once: bool,
}

impl LocalKey {
    /// A new random key, its copy sealed under the user's own key.
    pub(super) fn make(user: &str, key: &Key, new: &NewKey, now: u64) -> Result<(Self, Secret)> {
        let text = new_text()?;
        let bytes = text.expose().as_bytes();
        let id = secret::hex(&secret::random::<ID_BYTES>()?);
        let copy = if new.once { None } else { Some(key.seal(&copy_place(user, &id), bytes)?) };
        let made = Self {
            id,
            user_id: user.to_owned(),
            provider: new.provider.clone(),
            name: new.name.clone(),
            created_at: now,
            expires_at: new.expires_at,
            sha256: secret::sha256_hex(bytes),
            copy,
        };
        Ok((made, text))
    }

    /// The key itself, from the copy.
    pub(super) fn open(&self, key: &Key) -> Result<Secret> {
        match &self.copy {
            Some(copy) => super::open(key, &copy_place(&self.user_id, &self.id), copy, LOCAL_KEYS_FILE),
            None => Err(Error::Refused(format!(
                "the local key {:?} was shown once and not kept; type `infershield key create` for another one",
                self.name
            ))),
        }
    }

    /// True until the key ends.
    pub fn lives(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Associated data of the copy: version, user, what it is, the key's id.
fn copy_place(user: &str, id: &str) -> Vec<u8> {
    place(&["1", user, "local key", id])
}

/// The living key that this text is. Looks at all keys, so that the time does not tell where it stands.
pub(super) fn find<'a>(keys: &'a [LocalKey], presented: &str, now: u64) -> Option<&'a LocalKey> {
    let hash = secret::sha256_hex(presented.as_bytes());
    let found: Vec<_> = keys.iter().filter(|key| secret::same(hash.as_bytes(), key.sha256.as_bytes())).collect();
    found.first().copied().filter(|key| key.lives(now))
}

/// Whether a whole local key stands somewhere in this text.
pub fn holds_local_key(text: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
    text.split(PREFIX).skip(1).any(|rest| digits(rest) >= RANDOM_DIGITS + CHECK_DIGITS)
}

/// Whether one stands in a part of a URL, perhaps with escapes.
pub fn url_holds_local_key(part: &str) -> bool {
    let mut pieces = part.split('%');
    let mut text = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let escape =
            piece.split_at_checked(2).and_then(|(code, rest)| Some((u8::from_str_radix(code, 16).ok()?, rest)));
        // What is no escape is no part of a key either.
        let (byte, rest) = escape.unwrap_or((b'%', piece));
        text.push(byte);
        text.extend_from_slice(rest.as_bytes());
    }
    holds_local_key(&String::from_utf8_lossy(&text))
}

/// A new key: `isk_`, 43 digits of base62 (`0-9A-Za-z`, most significant first, filled up with `0`) that hold 32 random bytes,
/// and 6 more of a check, so that scanners can recognise one.
fn new_text() -> Result<Secret> {
    let mut bytes = Zeroizing::new(secret::random::<RANDOM_BYTES>()?);
    let digits = Zeroizing::new(base62(&mut *bytes, RANDOM_DIGITS));
    let body = Zeroizing::new(format!("{PREFIX}{}", *digits));
    Ok(Secret::new(format!("{}{}", *body, check_of(&body))))
}

/// The SHA-256 of everything before, as a big-endian number, modulo 62^6.
fn check_of(body: &str) -> String {
    base62(&mut Sha256::digest(body.as_bytes()), CHECK_DIGITS)
}

/// The lowest `digits` digits of a big-endian number, which is used up.
fn base62(number: &mut [u8], digits: usize) -> String {
    let mut out = String::with_capacity(digits);
    for _ in 0..digits {
        let mut rest = 0;
        for byte in number.iter_mut() {
            let value = rest * 256 + usize::from(*byte);
            // At most (61 * 256 + 255) / 62 = 255.
            *byte = (value / ALPHABET.len()) as u8;
            rest = value % ALPHABET.len();
        }
        let digit = ALPHABET.get(rest).copied().unwrap_or_default();
        out.insert(0, char::from(digit));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True for a text that has the form of a local key, its check included; it need not be one that exists.
    fn well_formed(text: &str) -> bool {
        let digits = text.strip_prefix("isk_").unwrap_or_default();
        digits.len() == 49
            && digits.bytes().all(|digit| digit.is_ascii_alphanumeric())
            && check_of(&text[..47]) == text[47..]
    }

    #[test]
    fn a_new_key_has_the_form_that_scanners_know() {
        let (one, other) = (new_text().unwrap(), new_text().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), 53);
        assert!(well_formed(one.expose()) && well_formed(other.expose()));
    }

    #[test]
    fn the_form_is_fixed() {
        let largest = base62(&mut [255; RANDOM_BYTES], RANDOM_DIGITS);
        assert_eq!(largest, "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
        assert_eq!(base62(&mut [0, 61], 3), "00z");
        assert_eq!(base62(&mut [1, 0], 3), "048");
    }

    #[test]
    fn a_changed_digit_breaks_the_form() {
        let text = new_text().unwrap();
        for at in 0..text.expose().len() {
            let mut changed = text.expose().as_bytes().to_vec();
            changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
            assert!(!well_formed(std::str::from_utf8(&changed).unwrap()));
        }
        for text in ["", "isk_", "isk_é", &text.expose()[1..]] {
            assert!(!well_formed(text));
        }
    }

    #[test]
    fn a_key_is_known_in_a_url_however_it_is_escaped() {
        let text = new_text().unwrap();
        let key = text.expose();
        let all: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for part in [key.to_owned(), key.replace('_', "%5F"), all, format!("a=%&b=%zz%é{key}%")] {
            assert!(url_holds_local_key(&part), "{part}");
        }
        for part in ["", "%", "risk_level=1", &key[1..], &key[..52], &key.replace('_', "%255F")] {
            assert!(!url_holds_local_key(part), "{part}");
        }
    }

    #[test]
    fn an_expired_key_is_not_found_and_a_living_one_is() {
        let new = NewKey { name: "short".into(), provider: Some("corp".into()), expires_at: Some(100), once: true };
        let key = Key::new(secret::random().unwrap());
        let (made, text) = LocalKey::make("alex", &key, &new, 50).unwrap();
        assert_eq!(made.copy, None);
        assert!(matches!(made.open(&key), Err(Error::Refused(_))));
        let all = [made];
        let found = find(&all, text.expose(), 99).unwrap();
        assert_eq!((found.user_id.as_str(), found.provider.as_deref()), ("alex", Some("corp")));
        assert!(find(&all, text.expose(), 100).is_none());
        assert!(find(&all, "", 99).is_none());
    }
}
