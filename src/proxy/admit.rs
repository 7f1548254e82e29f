//! Who may ask: `Host` and `Origin` first, then the local key. A request becomes a [`Caller`] here or nowhere.
//! Must never tell a wrong key from an unknown one, nor treat loopback as proof of anything.

use super::{Proxy, Stop};
use crate::api::Refused;
use crate::session::now;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};

/// Names that always mean this machine; a page elsewhere cannot take them (DNS rebinding changes the address, not the name).
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// How every local key begins.
pub(super) const LOCAL_KEY_PREFIX: &str = "isk_";
/// The other header that clients put a key into.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A request that came to one of our names and not from somebody else's web page.
pub(super) struct Visitor(());

/// An authenticated request: whose it is, and what its key allows.
pub(super) struct Caller {
    /// The user whose logins may be used.
    pub(super) user: String,
    /// The local key's id, for the audit log.
    pub(super) key_id: String,
    /// The only provider that the key is good for, if it is bound.
    pub(super) provider: Option<String>,
}

/// Checks `Host` (its name, port ignored) and `Origin` against the names of this proxy.
pub(super) fn visitor(proxy: &Proxy, headers: &HeaderMap) -> Result<Visitor, Stop> {
    let ours = |authority: &str| {
        let name = host_name(authority).to_ascii_lowercase();
        LOOPBACK_NAMES.contains(&name.as_str())
            || proxy.settings.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
    };
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !ours(host) {
        let message = "the Host header is not a name of this proxy; call it as http://127.0.0.1 or http://localhost";
        return Err(Stop::new(Refused::HOST, message));
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(ours) {
            return Err(Stop::new(Refused::ORIGIN, "web pages of other origins may not call this proxy"));
        }
    }
    Ok(Visitor(()))
}

/// Takes the local key from `Authorization: Bearer` or `x-api-key`, whichever holds one, and asks the store whose it is.
pub(super) fn caller(proxy: &Proxy, _visitor: Visitor, headers: &HeaderMap) -> Result<Caller, Stop> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let bare = headers.get(X_API_KEY).and_then(|value| value.to_str().ok()).map(str::trim);
    let local = |key: Option<&str>| key.is_some_and(|key| key.starts_with(LOCAL_KEY_PREFIX));
    let presented = match (bearer, bare) {
        (Some(one), Some(other)) if local(bearer) && local(bare) && one != other => {
            return Err(Stop::new(Refused::BAD_REQUEST, "two different local keys in one request; send one"));
        }
        _ if local(bearer) => bearer,
        _ if local(bare) => bare,
        _ => None,
    };
    let unknown = || {
        let message = "no local key, or one that is unknown, revoked or expired; type `infershield env CLIENT` and use what it prints";
        Stop::new(Refused::KEY_UNKNOWN, message)
    };
    let Some(presented) = presented else {
        return Err(unknown());
    };
    let key = proxy.store.look_up(presented, now()).map_err(|error| proxy.store_failed(&error))?;
    let key = key.ok_or_else(unknown)?;
    Ok(Caller { user: key.user_id, key_id: key.id, provider: key.provider })
}

/// The authority without its port.
fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn a_port_is_no_part_of_the_name() {
        assert_eq!(host_name("localhost:8000"), "localhost");
        assert_eq!(host_name("[::1]:8000"), "[::1]");
        assert_eq!(host_name("[::1]"), "[::1]");
        assert_eq!(host_name("evil.example:8000"), "evil.example");
    }
}
