//! Values that must never be seen: [`Secret`] text and 32-byte [`Key`]s, and what is done with them (seal, open, mac).
//! Must never print, compare in variable time, or leave behind what it holds.

use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt, io};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Length of every symmetric key, in bytes (AES-256, HMAC-SHA256).
pub const KEY_BYTES: usize = 32;
/// Base32 digits (RFC 4648), lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Length of a GCM nonce, in bytes (NIST SP 800-38D, the recommended 96 bits).
const IV_BYTES: usize = 12;
/// Length of a GCM tag, in bytes.
const TAG_BYTES: usize = 16;

/// A token, key or password as text. Wiped on drop; `Debug` shows nothing of it; there is no `Display`. Compared in a
/// time that does not depend on where two differ.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the caller keeps no copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that must send or seal it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a header can carry it as a credential (RFC 9110, 5.5). Quotation marks around it are a shell's or an editor's.
    pub fn is_credential(&self) -> bool {
        !self.0.is_empty()
            && self.0.bytes().all(|byte| byte.is_ascii_graphic())
            && !self.0.starts_with(['"', '\''])
            && !self.0.ends_with(['"', '\''])
    }

    /// True when there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A 32-byte key. Wiped on drop; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A sealed value as it stands in our files, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// 12 bytes.
    pub iv: String,
    /// 16 bytes.
    pub auth_tag: String,
    /// As long as the plain bytes.
    pub ciphertext: String,
}

impl Key {
    /// Takes the bytes over.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that seals this key under another.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// AES-256-GCM under a fresh random IV; `place` is the associated data (see [`place`]). Fails without random bytes.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> io::Result<Sealed> {
        let iv: [u8; IV_BYTES] = random()?;
        let mut bytes = Zeroizing::new(plain.to_vec());
        let tag = self.cipher().encrypt_inout_detached(&iv.into(), place, bytes.as_mut_slice().into());
        let tag = tag.map_err(|_| io::Error::other("the value is too long to be sealed"))?;
        Ok(Sealed { iv: STANDARD.encode(iv), auth_tag: STANDARD.encode(tag), ciphertext: STANDARD.encode(&*bytes) })
    }

    /// The plain bytes, if `sealed` was made by this key for this very `place`.
    pub fn open(&self, place: &[u8], sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let iv: [u8; IV_BYTES] = STANDARD.decode(&sealed.iv).ok()?.try_into().ok()?;
        let tag: [u8; TAG_BYTES] = STANDARD.decode(&sealed.auth_tag).ok()?.try_into().ok()?;
        let mut bytes = Zeroizing::new(STANDARD.decode(&sealed.ciphertext).ok()?);
        self.cipher().decrypt_inout_detached(&iv.into(), place, bytes.as_mut_slice().into(), &tag.into()).ok()?;
        Some(bytes)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }

    /// HMAC-SHA256 over the parts, one after the other, as 64 lower-case hex digits.
    pub fn mac(&self, parts: &[&[u8]]) -> String {
        // RFC 2104: a key shorter than the block of 64 bytes is filled up with zeros; so no length can fail.
        let mut block = Zeroizing::new([0; 64]);
        for (to, from) in block.iter_mut().zip(self.0.iter()) {
            *to = *from;
        }
        let mut mac = <Hmac<Sha256>>::new((&*block).into());
        for part in parts {
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes())
    }

    /// A JSON object whose last member is the mac of `before` and of all that stands before that member, with a line end; and that mac.
    /// `body` is the object without that member and its end.
    pub fn signed(&self, before: &str, body: &str, member: &str) -> (String, String) {
        let mac = self.mac(&[before.as_bytes(), body.as_bytes()]);
        (format!("{body},\"{member}\":\"{mac}\"}}\n"), mac)
    }

    /// The body and the mac of what [`Key::signed`] made; `None` for all that this key did not sign so.
    pub fn checked<'a>(&self, before: &str, text: &'a [u8], member: &str) -> Option<(&'a str, String)> {
        let (body, _) = std::str::from_utf8(text).ok()?.rsplit_once(&format!(",\"{member}\":\""))?;
        let (right, mac) = self.signed(before, body, member);
        same(right.as_bytes(), text).then_some((body, mac))
    }
}

/// Associated data of a sealed value: every part with its length before it, so that no two places read alike.
pub fn place(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// Random bytes from the system (`getrandom(2)`).
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| io::Error::other("the system's random source failed; try again"))?;
    Ok(bytes)
}

/// Equal, in a time that does not depend on where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// SHA-256 as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// So many base32 digits (RFC 4648, lower case) of the bits that stand there as hex.
pub fn base32(hex: &str, digits: usize) -> String {
    let nibbles = hex.chars().filter_map(|digit| digit.to_digit(16));
    let bits: Vec<u32> =
        nibbles.flat_map(|nibble| [nibble >> 3, nibble >> 2, nibble >> 1, nibble].map(|bit| bit & 1)).collect();
    let values = bits.chunks_exact(5).map(|five| five.iter().fold(0, |value, bit| value * 2 + bit));
    values.take(digits).filter_map(|value| BASE32.get(value as usize)).map(|digit| char::from(*digit)).collect()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_with_its_key_in_its_place() {
        let [key, other] = [random().unwrap(), random().unwrap()].map(Key::new);
        let here = place(&["a", "bc"]);
        let sealed = key.seal(&here, b"token").unwrap();
        assert_eq!(key.open(&here, &sealed).unwrap().as_slice(), b"token");
        assert_eq!(key.open(&place(&["ab", "c"]), &sealed), None);
        assert_eq!(other.open(&here, &sealed), None);
    }

    #[test]
    fn debug_shows_nothing() {
        let text = format!("{:?} {:?}", Secret::new("hunter2".into()), Key::new([0x41; 32]));
        assert_eq!(text, "Secret(…) Key(…)");
    }
}
