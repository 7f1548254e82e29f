//! The story of one request, in the order in which it happens; each step takes what the one before gave.
//! Must never let a step be left out: the types see to it.

use super::admit::{self, Presented};
use super::{Proxy, Request, Route, Stop, forward, judge, relay, route};
use crate::api::{self, Family, Refused};
use crate::audit::Outcome;
use crate::flow::copilot;
use crate::flow::provider::{Provider, named};
use crate::server::{Exchange, Handler, Refusal};
use crate::upstream;
use http::Method;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE};
use std::io;
use std::sync::atomic::Ordering::Relaxed;

/// The one path without a key.
const HEALTH: &str = "/health";
/// Seconds after which a client may ask again when all connections or body memory are in use, or the audit log has no room.
const RETRY_SOON: u32 = 5;

impl Handler for Proxy {
    /// Answers one request, whatever happens; also one that the server `refused`.
    fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>) {
        // A system that gives no random bytes cannot make TLS either: the connection closes.
        let Some(mut request) = Request::begin(self, exchange.head().clone()) else { return };
        let is_health = request.head.path == HEALTH && matches!(request.head.method, Method::GET | Method::HEAD);
        let answered = match refused {
            Some(refusal) => Err(refusal.into()),
            None if is_health => health(&request, exchange),
            None => steps(&mut request, exchange),
        };
        if let Err(stop) = answered {
            refuse(&mut request, exchange, stop);
        }
    }

    fn trouble(&self, error: &io::Error) {
        self.complain(error);
    }
}

fn steps(request: &mut Request<'_>, exchange: &mut Exchange) -> Result<(), Stop> {
    let proxy = request.proxy;
    let head = &request.head;
    // 1. The head was read strictly by the server. Is it addressed to us, and not by somebody's web page?
    let visitor = admit::visitor(proxy, &head.headers)?;
    // 2. Whose request is it?
    let caller = admit::caller(proxy, visitor, head)?;
    // Without room in the log there is no line of its own for a refusal either: it is counted like those before.
    proxy.ready()?;
    request.event.user_id = Some(caller.user.clone());
    match &caller.credential {
        Presented::Key(key) => request.event.key_id = Some(key.id.clone()),
        Presented::Own { provider, .. } => request.event.provider = Some(provider.id.clone()),
    }
    // 3. What does it ask for?
    let takes_any = matches!(caller.credential, Presented::Own { .. });
    let (name, family) = route::called(head.method.as_str(), &head.path, takes_any)?;
    request.event.action = family.action().to_owned();
    // 4. Its body, whole.
    let body = Body::read(proxy, exchange, family)?;
    request.event.bytes_in = body.bytes.len() as u64;
    // 5. Where would it go? The name of its model is looked for only when several logins serve the path.
    let route = match &caller.credential {
        Presented::Own { provider, .. } => Route { family, provider, why: "the client's own credential" },
        Presented::Key(key) => {
            let logins = proxy.session.logins(&caller.user).map_err(|error| proxy.store_failed(&error))?;
            let (providers, own) = (&proxy.session.providers, key.provider.as_deref());
            route::choose(providers, &proxy.settings, own, &logins, (name, family), || api::model(&body.bytes))?
        }
    };
    request.event.provider = Some(route.provider.id.clone());
    request.why = route.why.to_owned();
    // 6. and 7. Every text of it, what is found there, and what policy says about that.
    let scanned = judge::scan(request, &caller, &route, body)?;
    // 8. The provider, with the credential that is for it. As long as it is silent we look whether the client is still there.
    proxy.ready()?;
    let _watching = upstream::watch_client(exchange.watcher());
    let (response, hidden) = forward::send(request, scanned)?;
    // 9. and 10. The reply as it comes, what was hidden put back, the audit line, the last byte.
    relay::relay(request, exchange, route.family, &hidden, response);
    Ok(())
}

/// A request body, counted against the budget of all bodies as long as it lives.
pub(super) struct Body<'a> {
    pub(super) bytes: Vec<u8>,
    reserved: u64,
    proxy: &'a Proxy,
}

impl<'a> Body<'a> {
    /// Reads the body within its cap and the budget; refuses one that we could not read as the provider would.
    fn read(proxy: &'a Proxy, exchange: &mut Exchange, family: Family) -> Result<Self, Stop> {
        let limits = &proxy.settings.limits;
        if forward::is_encoded(&exchange.head().headers) {
            let message = "the body is compressed, so it cannot be scanned; switch that off in the client \
                           (Codex: `[features] enable_request_compression = false` in config.toml)";
            return Err(Stop::new(Refused::ENCODING, message));
        }
        // In the APIs that we know JSON is what every body is taken for, and forwarded as.
        if family == Family::Other && exchange.head().body != Some(0) && !forward::is_json(&exchange.head().headers) {
            let message = "only JSON can be scanned here, so a body needs `content-type: application/json`";
            return Err(Stop::new(Refused::ENCODING, message));
        }
        // One in chunks says nothing of its size until it is there.
        let reserved = exchange.head().body.unwrap_or(limits.max_body_bytes);
        let room = |held: u64| held.checked_add(reserved).filter(|held| *held <= limits.max_inflight_bytes);
        if proxy.inflight.fetch_update(Relaxed, Relaxed, room).is_err() {
            return Err(Stop::new(Refused::UNAVAILABLE, "too many request bodies at once; ask again"));
        }
        let mut body = Self { bytes: Vec::new(), reserved, proxy };
        body.bytes = exchange.read_body()?;
        let unused = reserved.saturating_sub(body.bytes.len() as u64);
        proxy.inflight.fetch_sub(unused, Relaxed);
        body.reserved -= unused;
        Ok(body)
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.proxy.inflight.fetch_sub(self.reserved, Relaxed);
    }
}

/// Tells the client why not, in the shape of the API that it called. A block is in the audit log before its first byte goes.
fn refuse(request: &mut Request<'_>, exchange: &mut Exchange, mut stop: Stop) {
    let family = route::parse(&request.head.path).map(|(_, family)| family);
    request.event.blocked = stop.kind == Refused::BLOCKED;
    let outcome = match stop.kind {
        _ if request.event.user_id.is_none() => Outcome::Refused,
        Refused::CLIENT_LEFT => Outcome::ClientLeft,
        Refused::BLOCKED => Outcome::Blocked,
        kind if [Refused::PROVIDER.code, Refused::UNAVAILABLE.code].contains(&kind.code) => Outcome::Error,
        _ => Outcome::Refused,
    };
    request.why = format!("infershield_{}", stop.kind.code);
    let written = request.write(outcome, stop.kind.status(family));
    // Whoever asked first why there is no line has said so already.
    if let Err(unwritten) = written
        && !matches!(stop.kind, Refused::UNAVAILABLE | Refused::AUDIT_BROKEN)
    {
        stop = unwritten;
    }
    if stop.kind == Refused::CLIENT_LEFT {
        return;
    }
    if let Some(user) = &request.event.user_id {
        stop.message = request.proxy.settings.for_user(user, &stop.message);
    }
    let mut headers = request.reply_headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if stop.kind == Refused::UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SOON));
    }
    // What is possible instead (RFC 9110 sections 15.5.6 and 15.5.22).
    if stop.kind == Refused::METHOD {
        let methods = family.unwrap_or(Family::Other).methods().join(", ");
        headers.extend(HeaderValue::try_from(methods).map(|methods| (ALLOW, methods)));
    }
    if stop.kind.status == 426 && stop.kind.code != Refused::PROVIDER.code {
        headers.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    }
    let name = request.event.provider.as_deref().or(request.head.path.split('/').nth(1)).unwrap_or_default();
    if named(&request.proxy.session.providers, name).is_some_and(Provider::is_copilot) {
        let id = request.event.request_id.as_deref().map(HeaderValue::try_from);
        headers.extend(id.and_then(Result::ok).map(|id| (HeaderName::from_static(copilot::REQUEST_ID), id)));
    }
    let (status, body) = api::refusal(family, stop.kind, &stop.message);
    let _ = exchange.respond(status, &headers, &body);
}

/// Says only whether requests would be served, and by which version.
fn health(request: &Request<'_>, exchange: &mut Exchange) -> Result<(), Stop> {
    admit::visitor(request.proxy, &request.head.headers)?;
    let unready = (Refused::UNAVAILABLE.status, Refused::UNAVAILABLE.code);
    let (status, word) = request.proxy.ready().map_or(unready, |()| (200, "ok"));
    let mut headers = request.reply_headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = format!("{{\"status\":\"{word}\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let _ = exchange.respond(status, &headers, body.as_bytes());
    Ok(())
}
