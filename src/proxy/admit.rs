//! Who may ask: `Host` and `Origin` first, then the local key, or where a provider's row allows it the client's own credential.
//! A request becomes a [`Caller`] here or nowhere.
//! Must never tell a wrong key from an unknown one, treat loopback as proof of anything, or keep a client's own credential.

use super::{Proxy, Stop, text};
use crate::api::Refused;
use crate::audit::now;
use crate::detect::{Finding, Severity, Source};
use crate::flow::provider::{Login, Provider, named};
use crate::server::Head;
use crate::store::{LOCAL_KEY_PREFIX, LocalKey, url_holds_local_key};
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};

/// Names that always mean this machine; a page elsewhere cannot take them (DNS rebinding changes the address, not the name).
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What a page elsewhere is told.
const FOREIGN_PAGE: &str = "web pages of other origins may not call this proxy";

/// A request that came to one of our names and not from somebody else's web page.
pub(super) struct Visitor(());

/// An authenticated request.
pub(super) struct Caller {
    /// Whose it is.
    pub(super) user: String,
    /// What it was authenticated by.
    pub(super) credential: Presented,
}

/// What a client presents.
pub(super) enum Presented {
    /// A local key, which stays here.
    Key(LocalKey),
    /// The client's own credential for a provider, the only one that it may go to.
    Own {
        /// As one that needs no login of ours: nothing is stored, refreshed or remembered.
        provider: Box<Provider>,
        /// The credential in the headers that the client put it in. None of the values shows in a `Debug` print.
        headers: HeaderMap,
    },
}

/// Checks `Host` (its name, port ignored) and `Origin` against the names of this proxy.
pub(super) fn visitor(proxy: &Proxy, headers: &HeaderMap) -> Result<Visitor, Stop> {
    let ours = |authority: &str| {
        let name = host_name(authority);
        let allowed = proxy.settings.allowed_hosts.iter().map(String::as_str);
        let own = Some(host_name(&proxy.settings.listen)).filter(|own| own.starts_with("127."));
        LOOPBACK_NAMES.into_iter().chain(own).chain(allowed).any(|known| known.eq_ignore_ascii_case(name))
    };
    if !ours(text(headers, HOST).unwrap_or_default()) {
        let message = "the Host header is not a name of this proxy; call it as http://127.0.0.1 or http://localhost";
        return Err(Stop::new(Refused::HOST, message));
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(ours) {
            return Err(Stop::new(Refused::ORIGIN, FOREIGN_PAGE));
        }
    }
    // A page may send the browser here, which says no `Origin` then (Fetch Metadata, section 2.3).
    if !headers.contains_key(ORIGIN) && text(headers, "sec-fetch-site") == Some("cross-site") {
        return Err(Stop::new(Refused::ORIGIN, FOREIGN_PAGE));
    }
    Ok(Visitor(()))
}

/// Takes the local key from `Authorization: Bearer` or `x-api-key`, whichever holds one, and asks the store whose it is. Without one,
/// below a provider that takes them, the client's own credential.
pub(super) fn caller(proxy: &Proxy, _visitor: Visitor, head: &Head) -> Result<Caller, Stop> {
    let headers = &head.headers;
    // The query goes on as it is, and so may the path.
    if [Some(head.path.as_str()), head.query.as_deref()].into_iter().flatten().any(url_holds_local_key) {
        let message = "a local key must not stand in a URL; send it as `Authorization: Bearer` or `x-api-key`";
        return Err(Stop::new(Refused::BAD_REQUEST, message));
    }
    let local = |key: &&str| key.starts_with(LOCAL_KEY_PREFIX);
    let bearer = match text(headers, AUTHORIZATION).and_then(|value| value.split_once(' ')) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Some(key.trim()),
        _ => None,
    };
    let bare = text(headers, "x-api-key").map(str::trim);
    let presented = match (bearer.filter(local), bare.filter(local)) {
        (Some(one), Some(other)) if one != other => {
            return Err(Stop::new(Refused::BAD_REQUEST, "two different local keys in one request; send one"));
        }
        (one, other) => one.or(other),
    };
    let own = if presented.is_none() { own(proxy, head)? } else { None };
    if let Some(credential) = own {
        return Ok(Caller { user: proxy.settings.default_user.clone(), credential });
    }
    // None at all is looked up like a wrong one.
    let found = proxy.store.look_up(presented.unwrap_or_default(), now());
    let found = found.map_err(|error| proxy.store_failed(&error))?;
    let key = found.ok_or_else(|| {
        let message = "no local key, or one that is unknown, revoked or expired; type `infershield env CLIENT` and use what it prints";
        Stop::new(Refused::KEY_UNKNOWN, message)
    })?;
    Ok(Caller { user: key.user_id.clone(), credential: Presented::Key(key) })
}

/// The client's own credential, if the provider that the path names takes such: whatever stands in the headers for keys. None may
/// hold a word that begins like a local key, or what our rules recognise as the key of somebody else.
fn own(proxy: &Proxy, head: &Head) -> Result<Option<Presented>, Stop> {
    let row = named(&proxy.session.providers, head.path.split('/').nth(1).unwrap_or_default());
    let Some(row) = row.filter(|row| row.passthrough) else { return Ok(None) };
    let is_place = |name: &HeaderName| *name == AUTHORIZATION || *name == "x-api-key" || *name == *row.auth_header;
    // A rule of full severity knows one issuer, the others know forms that many use.
    let is_foreign = |found: &Finding| found.severity == Severity::Critical && !row.key_rules.contains(&found.rule);
    let mut headers = HeaderMap::new();
    for (name, value) in head.headers.iter().filter(|(name, value)| is_place(name) && !value.is_empty()) {
        let text = value.to_str().unwrap_or_default();
        if text.split_whitespace().any(|word| word.starts_with(LOCAL_KEY_PREFIX)) {
            return Ok(None);
        }
        if let Some(found) = proxy.scanner.scan(text, Source::Document).into_iter().find(is_foreign) {
            let message = format!("the credential is not one for `{}`: it is of the kind {}", row.id, found.rule);
            return Err(Stop::new(Refused::KEY_UNKNOWN, message));
        }
        headers.append(name, value.clone());
    }
    let provider = Box::new(Provider { login: Login::None, ..row.clone() });
    Ok((!headers.is_empty()).then_some(Presented::Own { provider, headers }))
}

/// The authority without its port.
fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
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
