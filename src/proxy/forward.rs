//! A scanned request goes to its provider with the provider's own credential, which is taken out of what the provider says back.
//! Must never send a credential anywhere but to the hosts it was bound to, nor anything of the client's own credentials; nor let the
//! head of a reply, or the text of an error, show it to the client.

use super::admit::Presented;
use super::judge::Scanned;
use super::{Request, Route, Stop, text};
use crate::api::{Family, Refused, chatgpt_takes};
use crate::detect::Action;
use crate::flow::{Login, copilot};
use crate::redact::{Edit, Hidden, apply};
use crate::secret::Secret;
use crate::server::Head;
use crate::session::Credential;
use crate::store::holds_local_key;
use crate::upstream::{self, Endpoint, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem::find_iter;
use std::io::{Cursor, Read};
use zeroize::Zeroizing;

/// What stands in the place of the credential.
const MASK: &str = "[InferShield: credential]";
/// Largest body of an error that is looked through, in bytes; real ones have a few KiB. A larger one passes as it is.
const ERROR_BYTES: u64 = 1 << 20;
/// A credential below so many bytes keeps nobody out, and may be a word of any text.
const SHORTEST: usize = 8;

/// A reply that shows no credential.
pub(super) type Masked = http::Response<Box<dyn Read>>;

/// Sends the request; a 401 to our credential is answered by one refresh and one more try. The body is given up with the
/// head of the reply: a stream may last, and its memory is wanted. What the request hid is needed for the reply.
pub(super) fn send(request: &mut Request<'_>, scanned: Scanned<'_>) -> Result<(Masked, Vec<Hidden>), Stop> {
    let session = &request.proxy.session;
    let user = &scanned.caller.user;
    let provider = scanned.route.provider;
    let mut credential = session.credential(user, provider, None)?;
    if credential.row.login == Login::Chatgpt {
        let fits = chatgpt_takes(scanned.route.family, &scanned.body.bytes);
        fits.map_err(|why| Stop::new(Refused::LOGIN_UNFIT, why))?;
    }
    let mut response = attempt(request, &scanned, &credential)?;
    if response.status() == 401 && !credential.token.is_empty() {
        drop(response);
        credential = session.credential(user, provider, Some(&credential))?;
        response = attempt(request, &scanned, &credential)?;
    }
    let status = response.status().as_u16();
    // 304 sends nobody anywhere: what the client has is still good.
    if status < 200 || (300..400).contains(&status) && status != 304 {
        let id = &provider.id;
        let message = format!("provider `{id}` answered with status {status}, which is neither followed nor passed on");
        return Err(Stop::new(Refused::PROVIDER, message));
    }
    session.answered(&credential, status)?;
    let is_encoded = is_encoded(response.headers());
    let speaks =
        matches!(scanned.route.family, Family::Chat | Family::Responses | Family::Messages | Family::Completions);
    let guards = request.proxy.policy.on_replies() == Action::Block && speaks && response.status().is_success();
    if is_encoded && (guards || !scanned.hidden.is_empty()) || guards && form(response.headers()).is_none() {
        let message = format!(
            "provider `{}` sent a reply that is neither plain JSON nor plain server-sent events, so it is not passed on",
            provider.id
        );
        return Err(Stop::new(Refused::PROVIDER, message));
    }
    drop(scanned.body);
    let response = masked(&credential.token, response, &mut request.reply_headers)?;
    Ok((response, scanned.hidden))
}

/// The reply without `token`, in its headers and, when its status is an error's, in its body, which is read for that and fails
/// when it breaks off. The status stands all the same, and how long to wait goes to `ours`: by these a client asks again, or does not.
fn masked(token: &Secret, reply: Response, ours: &mut HeaderMap) -> Result<Masked, Stop> {
    let (mut parts, mut rest) = reply.into_parts();
    let token = token.expose().as_bytes();
    let mut begun = Vec::new();
    if token.len() >= SHORTEST {
        for value in parts.headers.values_mut() {
            if let Ok(without) = HeaderValue::from_bytes(&without(token, value.as_bytes())) {
                *value = without;
            }
        }
        if parts.status.as_u16() >= 400
            && let Err(error) = rest.by_ref().take(ERROR_BYTES + 1).read_to_end(&mut begun)
        {
            ours.extend(parts.headers.remove(header::RETRY_AFTER).map(|wait| (header::RETRY_AFTER, wait)));
            let status = parts.status.as_u16();
            let broke_off =
                format!("the provider answered with status {status}, and what it said broke off; ask again");
            return Err(match failed(upstream::Error::of("", error.into())) {
                left if left.kind == Refused::CLIENT_LEFT => left,
                _ => Stop::new(Refused { status, ..Refused::PROVIDER }, broke_off),
            });
        }
    }
    // Without a token to look for nothing was read.
    if (1..=ERROR_BYTES).contains(&(begun.len() as u64)) {
        begun = without(token, &begun);
        if let Some(length) = parts.headers.get_mut(header::CONTENT_LENGTH) {
            *length = HeaderValue::from(begun.len());
        }
    }
    Ok(http::Response::from_parts(parts, Box::new(Cursor::new(begun).chain(rest))))
}

/// The bytes with the mask wherever they hold the token.
fn without(token: &[u8], bytes: &[u8]) -> Vec<u8> {
    let edit = |at| Edit { place: at..at + token.len(), text: MASK.to_owned() };
    apply(bytes, find_iter(bytes, token).map(edit).collect())
}

fn attempt(request: &mut Request<'_>, scanned: &Scanned<'_>, credential: &Credential) -> Result<Response, Stop> {
    let provider = scanned.route.provider;
    let outgoing = build(&request.head, scanned, credential).map_err(|_| {
        let message = format!("the URL or a header of provider `{}` cannot be used", provider.id);
        Stop::new(Refused::LOGIN_NEEDED, message)
    })?;
    let http = request.proxy.session.http(provider)?;
    http.send(credential.api_base.origin(), outgoing).map_err(failed)
}

/// Why there is no reply to relay.
fn failed(error: upstream::Error) -> Stop {
    match error {
        upstream::Error::ClientLeft => Stop::new(Refused::CLIENT_LEFT, error),
        error => Stop::new(Refused::PROVIDER, error),
    }
}

/// The client's request with the headers of the provider's row and the one that carries the credential.
fn build<'a>(head: &Head, scanned: &'a Scanned<'_>, credential: &Credential) -> http::Result<upstream::Request<'a>> {
    let provider = &credential.row;
    let mut url = url(head, scanned, &credential.api_base);
    if let Some(query) = &head.query {
        url = format!("{url}?{query}");
    }
    let mut outgoing = upstream::Request::new(&scanned.body.bytes);
    *outgoing.method_mut() = head.method.clone();
    *outgoing.uri_mut() = url.parse()?;
    let headers = outgoing.headers_mut();
    *headers = passed(&head.headers);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // The provider must read the body as what was scanned.
    if !scanned.body.bytes.is_empty() && !is_json(headers) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &provider.extra_headers {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    for (name, value) in &provider.default_headers {
        headers.entry(HeaderName::try_from(name)?).or_insert(HeaderValue::try_from(value)?);
    }
    if scanned.has_image && provider.is_copilot() {
        let (name, value) = copilot::VISION;
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Presented::Own { headers: own, .. } = &scanned.caller.credential {
        headers.extend(own.clone());
    }
    if !credential.token.is_empty() {
        let name = HeaderName::try_from(&provider.auth_header)?;
        let scheme = if name == header::AUTHORIZATION { "Bearer " } else { "" };
        let text = Zeroizing::new(format!("{scheme}{}", credential.token.expose()));
        let mut value = HeaderValue::from_str(&text)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(outgoing)
}

/// Where a request goes. What the row does not serve, which only clients with their own credential may ask for, keeps the path that they
/// wrote, but for `/v1` where `api_base` has a path to put in its place.
fn url(head: &Head, scanned: &Scanned<'_>, api_base: &Endpoint) -> String {
    let Route { family, provider, .. } = scanned.route;
    let base = api_base.as_str().trim_end_matches('/');
    let written = head.path.splitn(3, '/').nth(2).unwrap_or_default();
    match written.strip_prefix("v1/") {
        _ if provider.serves(*family) => format!("{base}{}", family.path()),
        Some(below) if base.split('/').nth(3).is_some() => format!("{base}/{below}"),
        _ => format!("{}/{written}", api_base.origin()),
    }
}

/// Whether the content type says JSON in UTF-8 and nothing else.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let lower = text(headers, header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let mut parts = lower.split(';').map(str::trim);
    parts.next() == Some("application/json") && parts.all(|parameter| parameter == "charset=utf-8")
}

/// Whether a body is compressed, so that nobody can read it here.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a reply that can be read is a stream of server-sent events, else it is one JSON value; `None` for anything else.
pub(super) fn form(headers: &HeaderMap) -> Option<bool> {
    let kind = text(headers, header::CONTENT_TYPE)?.split(';').next()?.trim().to_ascii_lowercase();
    match kind.rsplit(['/', '+']).next()? {
        "event-stream" => Some(true),
        "json" => Some(false),
        _ => None,
    }
}

/// The headers that go on, in either direction: none that holds a local key, wherever the client put it.
pub(super) fn passed(headers: &HeaderMap) -> HeaderMap {
    let lists = headers.get_all(header::CONNECTION).iter().filter_map(|list| list.to_str().ok());
    let named: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        let is_named = named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str()));
        let holds_key = value.to_str().is_ok_and(holds_local_key);
        if !is_named && !holds_key && !stays(name.as_str()) {
            passed.append(name, value.clone());
        }
    }
    passed
}

/// Whether a header goes no further, in either direction, even if `Connection` does not name it.
fn stays(name: &str) -> bool {
    match name {
        // Of one connection only (RFC 9110 section 7.6.1), or set anew for each.
        "connection" | "content-length" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" => true,
        // Ours to set, or to answer.
        "accept-encoding" | "expect" | "host" => true,
        // Credentials, cookies that would not come back, and where not to go.
        "authorization" | "cookie" | "location" | "set-cookie" | "x-api-key" => true,
        // More of one connection, and our own: nobody else speaks in our name.
        _ => name.starts_with("proxy-") || name.starts_with("x-infershield-"),
    }
}
