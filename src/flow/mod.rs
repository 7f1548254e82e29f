//! OAuth: device grant (RFC 8628), refresh (RFC 6749), revocation (RFC 7009), discovery, what OpenAI and GitHub do besides, and
//! the table of providers.
//! Must never know a store or the proxy, keep a token, or show what a server said without cleaning it first.

pub mod chatgpt;
pub mod copilot;
pub mod device;
pub mod discover;
pub mod provider;
pub mod token;

pub use device::{Clock, DeviceCode, Progress, SystemClock};
pub use discover::Endpoints;
pub use provider::{Family, Login, Provider};
pub use token::Tokens;

use crate::secret::Secret;
use crate::upstream::{self, Endpoint, Upstream};
use http::request::Builder;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// Room for a whole form, in bytes: one that grew would leave parts of tokens behind where a smaller buffer was.
const FORM_BYTES: usize = 64 << 10;
/// Longest text of a server that is shown, in characters.
const SHOWN_CHARS: usize = 200;
/// Longest name of an object whose members are read too, in bytes; it is copied for each of them, so this bounds memory.
const OUTER_NAME_BYTES: usize = 64;
/// Members of requests and replies that hold a secret, of RFC 6749, RFC 7009 and RFC 8628.
const SECRETS: [&str; 8] = [
    "access_token",
    "refresh_token",
    "id_token",
    "device_code",
    "token",
    // Of OpenAI's login, and the proof of RFC 7636.
    "device_auth_id",
    "authorization_code",
    "code_verifier",
];
/// Codes that say nothing about a login or a request, only that the server has no time for it now (RFC 6749, 4.1.2.1; RFC 8628, 3.5).
const NOT_NOW: [&str; 3] = ["temporarily_unavailable", "server_error", "slow_down"];
/// What we call ourselves; GitHub answers nobody without a name.
const USER_AGENT: &str = concat!("infershield/", env!("CARGO_PKG_VERSION"));

/// What can go wrong. What a server said is cleaned and cut before it gets in here; no variant holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The table of providers cannot be used as it is configured: what is wrong, and what to type.
    Config(String),
    /// Nothing came back, or not over a connection that we trust.
    Network(upstream::Error),
    /// What came back is not what OAuth foresees (HTML, cut off, 5xx, 429, metadata of another issuer): from where, why,
    /// and what to do.
    Reply(String),
    /// A server sent a token that no request can carry, or of a kind that we do not know: which server.
    BadToken(String),
    /// The server refused, with its error code and its words.
    Refused(String, String),
    /// The user pressed "cancel".
    Denied,
    /// The user code's time was over before the user came.
    CodeExpired,
    /// The refresh token is not accepted any more, with the server's code: only a new login helps.
    LoginOver(String),
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// True when only a new login helps. The text does not say so, since it does not know at which provider.
    pub fn needs_login(&self) -> bool {
        matches!(self, Self::BadToken(_) | Self::Denied | Self::CodeExpired | Self::LoginOver(_))
    }

    /// True when the same call may succeed later, perhaps on another network, so that nothing stored may be given up.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Reply(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::Reply(text) => f.write_str(text),
            Self::Network(error) => error.fmt(f),
            Self::BadToken(host) => write!(f, "{host} sent a token that cannot be used"),
            Self::Refused(code, words) => {
                let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
                write!(f, "the provider refused: {code}{words}; `infershield config show` says what it was asked with")
            }
            Self::Denied => f.write_str("the login was cancelled in the browser"),
            Self::CodeExpired => f.write_str("the code expired"),
            Self::LoginOver(code) => write!(f, "the provider ended the login ({code})"),
        }
    }
}

impl std::error::Error for Error {}

/// A server's text made fit for a terminal: no control, direction or invisible characters, and not too long.
pub(crate) fn clean(text: &str) -> String {
    visible(text).take(SHOWN_CHARS).collect()
}

fn visible(text: &str) -> impl Iterator<Item = char> {
    let hidden = |c: &char| {
        matches!(*c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(*c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    text.chars().filter(move |c| !c.is_control() && !hidden(c))
}

/// The members of a JSON object or of a form, numbers as texts too; `a.b` is the member `b` of an object `a`. They may be tokens.
pub(crate) type Members = BTreeMap<String, Secret>;

/// What an endpoint answered.
pub(crate) struct Answer {
    host: String,
    pub(crate) status: u16,
    pub(crate) members: Members,
    /// What the server was sent and must not show up in its words.
    sent: Vec<Secret>,
}

impl Answer {
    /// A member.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(Secret::expose)
    }

    /// A text of the server as it may be shown: cleaned, and only if it repeats no secret.
    pub(crate) fn shown(&self, text: &str) -> Option<String> {
        (!self.repeats_secret(text)).then(|| clean(text))
    }

    /// Whether a text holds a secret of the request or of this reply, as it is or as a form has it.
    pub(crate) fn repeats_secret(&self, text: &str) -> bool {
        let text = Zeroizing::new(visible(text).collect::<String>().to_ascii_lowercase());
        let received = SECRETS.iter().filter_map(|name| self.members.get(*name));
        let mut secrets = received.chain(&self.sent).filter(|secret| !secret.is_empty());
        secrets.any(|secret| {
            let plain = Zeroizing::new(secret.expose().to_ascii_lowercase());
            let form = Zeroizing::new(encoded(secret.expose()).to_ascii_lowercase());
            text.contains(plain.as_str()) || text.contains(form.as_str())
        })
    }

    /// A member that is a number, as a whole one; 0 when it is negative.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok().map(|number: f64| number as u64)
    }

    /// A member that is not empty, moved out without a copy.
    pub(crate) fn take(&mut self, name: &str) -> Option<Secret> {
        self.members.remove(name).filter(|text| !text.expose().is_empty())
    }

    /// The error code: `error` (RFC 6749, 5.2), or one of the places where OpenAI has it. Cleaned.
    pub(crate) fn error(&self) -> Option<String> {
        let code = ["error", "error.code", "error.type"].into_iter().find_map(|name| self.text(name));
        let code = code.or_else(|| self.text("code").filter(|_| self.status >= 400));
        let code = code.filter(|code| !code.is_empty())?;
        Some(self.shown(code).unwrap_or_else(|| format!("status {}", self.status)))
    }

    /// The answer if it is a success; else the server's refusal, known by its status when it names no code.
    pub(crate) fn accepted(self) -> Result<Self> {
        match (self.status, self.error()) {
            (200..300, None) => Ok(self),
            // Not now, whatever the body says.
            (408 | 429 | 500.., _) | (..400, None) => Err(self.lacks("a verdict")),
            (_, Some(code)) if NOT_NOW.contains(&&*code) => Err(self.lacks(&format!("a verdict ({code})"))),
            (status, code) => {
                let words = self.text("error_description").and_then(|words| self.shown(words)).unwrap_or_default();
                Err(Error::Refused(code.unwrap_or(format!("status {status}")), words))
            }
        }
    }

    /// The error that the answer is without `what`.
    pub(crate) fn lacks(&self, what: &str) -> Error {
        let Self { host, status, .. } = self;
        Error::Reply(format!("no usable answer from {host}: status {status} without {what}; try again"))
    }
}

/// Posts a form (RFC 6749, appendix B) and reads the answer, whatever its status.
pub(crate) fn post(up: &Upstream, to: &Endpoint, fields: &[(&str, &str)]) -> Result<Answer> {
    let mut form = Zeroizing::new(String::with_capacity(FORM_BYTES));
    for (name, value) in fields {
        let separator = if form.is_empty() { "" } else { "&" };
        form.push_str(&format!("{separator}{name}="));
        form.push_str(&encoded(value));
    }
    let request = http::Request::post(to.as_str()).header("content-type", "application/x-www-form-urlencoded");
    exchange(up, to, request, form.as_bytes(), secrets(fields))
}

/// A value as it stands in a form.
fn encoded(value: &str) -> Zeroizing<String> {
    // An escape has three bytes: with room for all, no part of a secret stays behind where a smaller buffer was.
    let mut text = Zeroizing::new(String::with_capacity(value.len() * 3));
    for byte in value.bytes() {
        match byte {
            b' ' => text.push('+'),
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Gets a JSON object, with a token if one is needed.
pub(crate) fn fetch(up: &Upstream, from: &Endpoint, token: Option<&Secret>) -> Result<Answer> {
    let mut request = http::Request::get(from.as_str());
    if let Some(token) = token {
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        request = request.header("authorization", bearer.as_str());
    }
    exchange(up, from, request, &[], token.cloned().into_iter().collect())
}

/// Posts a JSON object of texts and reads the answer, whatever its status.
pub(crate) fn post_json(up: &Upstream, to: &Endpoint, fields: &[(&str, &str)]) -> Result<Answer> {
    let members: BTreeMap<&str, &str> = fields.iter().copied().collect();
    let body = Zeroizing::new(serde_json::to_vec(&members).unwrap_or_default());
    let request = http::Request::post(to.as_str()).header("content-type", "application/json");
    exchange(up, to, request, &body, secrets(fields))
}

/// The fields that hold a secret.
fn secrets(fields: &[(&str, &str)]) -> Vec<Secret> {
    // In a reply `code` is that of an error.
    let secrets = fields.iter().filter(|(name, _)| SECRETS.contains(name) || *name == "code");
    secrets.map(|(_, value)| Secret::new((*value).to_owned())).collect()
}

/// Sends a request, with these secrets in it, to its endpoint and nowhere else.
pub(crate) fn exchange(
    up: &Upstream,
    to: &Endpoint,
    request: Builder,
    body: &[u8],
    sent: Vec<Secret>,
) -> Result<Answer> {
    let host = to.origin().host().to_owned();
    let request = request.header("accept", "application/json").header("user-agent", USER_AGENT).body(body);
    let request = request.map_err(|_| Error::BadToken(host.clone()))?;
    let (status, bytes) = up.call(to.origin(), request).map_err(Error::Network)?;
    let mut answer = Answer { host, status, members: Members::new(), sent };
    answer.members = members(&bytes).ok_or_else(|| answer.lacks("JSON or a form"))?;
    Ok(answer)
}

/// A JSON object; or a form, which is what GitHub sends to those who do not ask for JSON; or nothing at all.
pub(crate) fn members(body: &[u8]) -> Option<Members> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let mut members = Members::new();
    if text.starts_with('{') {
        let object: Map<String, Value> = serde_json::from_str(text).ok()?;
        object.into_iter().for_each(|(name, value)| insert(&mut members, name, value));
        return Some(members);
    }
    for pair in text.split('&').filter(|_| !text.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        members.insert(name.to_owned(), decode(value)?);
    }
    Some(members)
}

/// Texts and numbers, moved so that no copy is left behind.
fn insert(members: &mut Members, name: String, value: Value) {
    match value {
        Value::String(text) => drop(members.insert(name, Secret::new(text))),
        Value::Number(number) => drop(members.insert(name, Secret::new(number.to_string()))),
        Value::Object(inner) if name.len() <= OUTER_NAME_BYTES => {
            inner.into_iter().for_each(|(below, value)| insert(members, format!("{name}.{below}"), value));
        }
        _ => {}
    }
}

/// A value of a form.
fn decode(value: &str) -> Option<Secret> {
    let spaced = Zeroizing::new(value.replace('+', " "));
    let mut parts = spaced.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_objects_are_read_and_nothing_else() {
        let text = |body: &str| {
            let shown = |(name, value): (&String, &Secret)| format!("{name}={}", value.expose());
            members(body.as_bytes()).map(|all| all.iter().map(shown).collect::<Vec<_>>().join("|"))
        };
        assert_eq!(text("a=b%20c+d&e=").unwrap(), "a=b c d|e=");
        assert_eq!(
            text(r#"{"a":"b c","d":[],"e":7,"error":{"code":"x","type":"y"}}"#).unwrap(),
            "a=b c|e=7|error.code=x|error.type=y"
        );
        assert_eq!(text("").unwrap(), "");
        for body in ["<html>", "[]", "{\"a\":", "a", "a=%", "a=%4", "a=%zz", "a=%+4", "a=%ff", "a=%\u{e9}", "a b=c"] {
            assert_eq!(text(body), None, "{body}");
        }
    }

    #[test]
    fn no_bytes_of_a_server_make_us_panic() {
        let mut state = 1_u64;
        let alphabet = b"{}[]\",:=&%+aZ09 \\u\x00\xff";
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..24 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                bytes.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            if let Some(members) = members(&bytes) {
                let answer = Answer { host: String::new(), status: 400, members, sent: Vec::new() };
                answer.number("a");
                assert!(answer.accepted().is_err());
            }
        }
    }
}
