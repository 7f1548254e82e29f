//! A scanned request goes to its provider with the provider's own credential, and the head of the reply comes back.
//! Must never send a credential anywhere but to the hosts it was bound to, nor anything of the client's own credentials.

use super::admit::X_API_KEY;
use super::judge::Scanned;
use super::line::Line;
use super::route::Route;
use super::{Proxy, Stop};
use crate::api::Refused;
use crate::flow::Provider;
use crate::server::Head;
use crate::session::Credential;
use crate::upstream::{self, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// Headers of one connection only (RFC 9110 section 7.6.1), and those that are ours to set. `proxy-*` belong here too.
const NOT_PASSED_ON: [HeaderName; 16] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::CONTENT_LENGTH,
    header::HOST,
    header::EXPECT,
    header::COOKIE,
    header::AUTHORIZATION,
    X_API_KEY,
    header::ACCEPT_ENCODING,
];
/// Headers of a reply that mean nothing to our client: cookies that it will not get back, and where not to go.
const NOT_PASSED_BACK: [HeaderName; 2] = [header::SET_COOKIE, header::LOCATION];
/// Prefix of our own headers; a client or provider cannot speak in our name.
const OWN_PREFIX: &str = "x-infershield-";

/// Sends the request; a 401 to our credential is answered by one refresh and one more try. The body is given up with the
/// head of the reply: a stream may last, and its memory is wanted.
pub(super) fn send(
    proxy: &Proxy,
    user: &str,
    route: &Route<'_>,
    scanned: Scanned<'_>,
    head: &Head,
    line: &mut Line,
) -> Result<Response, Stop> {
    let mut credential = proxy.session.credential(user, route.provider, None)?;
    let mut response = attempt(proxy, route, &scanned, head, &credential, line)?;
    if response.status == 401 && !credential.token.is_empty() {
        drop(response);
        credential = proxy.session.credential(user, route.provider, Some(&credential))?;
        response = attempt(proxy, route, &scanned, head, &credential, line)?;
    }
    proxy.session.answered(user, route.provider, &credential, response.status)?;
    // 304 sends nobody anywhere: what the client has is still good.
    if (300..400).contains(&response.status) && response.status != 304 {
        let message = format!("provider `{}` answered with a redirect, which is never followed", route.provider.id);
        return Err(Stop::new(Refused::PROVIDER, message));
    }
    Ok(response)
}

/// The reply's headers that go on to the client.
pub(super) fn passed_back(headers: &HeaderMap) -> HeaderMap {
    let mut passed = passed(headers);
    for name in NOT_PASSED_BACK {
        passed.remove(name);
    }
    passed
}

fn attempt(
    proxy: &Proxy,
    route: &Route<'_>,
    scanned: &Scanned<'_>,
    head: &Head,
    credential: &Credential,
    line: &mut Line,
) -> Result<Response, Stop> {
    let query = head.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{}{}{query}", credential.api_base.as_str().trim_end_matches('/'), route.family.path());
    let build = || {
        let mut request = upstream::Request::new(scanned.body.bytes());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = url.parse().map_err(|_| {
            Stop::new(Refused::PROVIDER, format!("the URL of provider `{}` cannot be used", route.provider.id))
        })?;
        let mut headers = passed(&head.headers);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        authorize(&mut headers, route.provider, credential)?;
        *request.headers_mut() = headers;
        Ok::<_, Stop>(request)
    };
    let http = proxy.session.http(route.provider)?;
    let allowed = std::slice::from_ref(credential.api_base.origin());
    let sent = match http.send(allowed, build()?) {
        // A kept connection that the provider had closed: no byte of a reply was seen, so once more is safe enough.
        Err(upstream::Error::Stale(_)) => {
            line.event.count = 2;
            http.send(allowed, build()?)
        }
        sent => sent,
    };
    sent.map_err(Stop::from)
}

/// Adds the headers of the provider's row and the one that carries the credential.
fn authorize(headers: &mut HeaderMap, provider: &Provider, credential: &Credential) -> Result<(), Stop> {
    let unusable =
        || Stop::new(Refused::LOGIN_NEEDED, format!("a header of provider `{}` cannot be used", provider.id));
    for (name, value) in &provider.extra_headers {
        let name = HeaderName::try_from(name).map_err(|_| unusable())?;
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| unusable())?);
    }
    if !credential.token.is_empty() {
        let name = HeaderName::try_from(&provider.auth_header).map_err(|_| unusable())?;
        let scheme = if name == header::AUTHORIZATION { "Bearer " } else { "" };
        let text = Zeroizing::new(format!("{scheme}{}", credential.token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| unusable())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

/// All headers but those that belong to one connection, or that `Connection` names.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        let dropped = NOT_PASSED_ON.contains(name)
            || named.iter().any(|named| named == name.as_str())
            || name.as_str().starts_with(OWN_PREFIX);
        if !dropped {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}
