//! What the makers of tokens build into them: check digits, and what their contents begin with.
//! Must never decide what a token is: a wrong one is doubtful, and no more.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What tokens hold that expressions do not see, one of these, by how they begin.
const INSIDE: &str = include_str!("words/inside.txt");
/// Base62 as GitHub and those after it count.
const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// GitHub, npm, NetBird and Polar: six digits in base62, digits before capitals before small letters, of what is between them and the
/// last `_`. Those of Grafana (eight in base16, the low byte first) and of GitLab's routable tokens (seven in base36) cover the
/// prefix too; the other tokens of these two have none.
pub(super) fn is_checked_by_crc32(token: &str) -> bool {
    let (whole, length, base) = match token.get(..2) {
        Some("gl") if token.starts_with("glsa_") => (token, 8, 16),
        Some("gl") if token.contains('.') => (token, 7, 36),
        Some("gl" | "GR") => return true,
        _ => (token.rsplit('_').next().unwrap_or_default(), 6, 62),
    };
    let (random, check) = whole.split_at_checked(whole.len().saturating_sub(length)).unwrap_or_default();
    let crc = !random.trim_end_matches('_').bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    let number = |digit: char| if base == 62 { BASE62.find(digit) } else { Some(digit.to_digit(base)? as usize) };
    let value = check.chars().filter_map(number).fold(0, |value, digit| value * u64::from(base) + digit as u64);
    value == u64::from(if base == 16 { crc.swap_bytes() } else { crc })
}

/// False where a value begins as one of the list and holds none of what such a value holds.
pub(super) fn holds_its_inside(text: &str) -> bool {
    let lines = INSIDE.lines().filter_map(|line| line.split_once(" = "));
    let mut of_it = lines.filter(|(begin, _)| text.starts_with(begin));
    of_it.all(|(_, parts)| parts.split(' ').any(|part| text.contains(part)))
}

pub(super) fn is_jwt(text: &str) -> bool {
    let header = URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap_or_default()).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&header).is_ok_and(|header| header.get("alg").is_some())
}
