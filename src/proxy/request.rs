//! The story of one request, in the order in which it happens; each step takes what the one before gave.
//! Must never let a step be left out: the types see to it.

use super::line::Line;
use super::{Body, Proxy, Stop, admit, forward, judge, relay, route};
use crate::api::Refused;
use crate::audit::Outcome;
use crate::server::{Exchange, Head};
use crate::upstream;
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};

/// The one path without a key.
const HEALTH: &str = "/health";

/// Answers one request, whatever happens; also one that the server `refused`.
pub(super) fn answer(proxy: &Proxy, exchange: &mut Exchange, refused: Option<Stop>) {
    let head = exchange.head().clone();
    if head.path == HEALTH && refused.is_none() && matches!(head.method, Method::GET | Method::HEAD) {
        return health(proxy, exchange, &head);
    }
    let mut line = match Line::begin(proxy, &head.headers) {
        Ok(line) => line,
        Err(stop) => return drop(exchange.respond(stop.kind.status(None), &HeaderMap::new(), &[])),
    };
    let answered = match refused {
        Some(stop) => Err(stop),
        None => steps(proxy, exchange, &head, &mut line),
    };
    if let Err(stop) = answered {
        refuse(proxy, exchange, &head, stop, &mut line);
    }
    proxy.tell(&line);
}

fn steps(proxy: &Proxy, exchange: &mut Exchange, head: &Head, line: &mut Line) -> Result<(), Stop> {
    // 1. The head was read strictly by the server. Is it addressed to us, and not by somebody's web page?
    let visitor = admit::visitor(proxy, &head.headers)?;
    // 2. Whose request is it?
    let caller = admit::caller(proxy, visitor, &head.headers)?;
    line.event.user_id = Some(caller.user.clone());
    line.event.key_id = Some(caller.key_id.clone());
    // 3. Where would it go?
    let logins = proxy.session.logins(&caller.user).map_err(|error| proxy.store_failed(&error))?;
    let choices = proxy.choices(caller.provider.as_deref(), &logins);
    let route =
        route::choose(&choices, head.method.as_str(), &head.path).map_err(|(kind, why)| Stop::new(kind, why))?;
    line.event.action = route.family.action().to_owned();
    line.event.provider = Some(route.provider.id.clone());
    line.why = route.why;
    // 4. Its body, whole.
    proxy.ready()?;
    let body = read(proxy, exchange, head)?;
    line.event.bytes_in = body.bytes().len() as u64;
    // 5. to 7. Every text of it, what is found there, and what policy says about that.
    let scanned = judge::scan(proxy, &caller, route.family, body, line)?;
    // 8. The provider, with its own credential. As long as it is silent we look whether the client is still there.
    let watching = upstream::watch_client(exchange.watcher());
    let response = forward::send(proxy, &caller.user, &route, scanned, head, line)?;
    // 9. and 10. The reply as it comes, the audit line, the last byte.
    let relayed = relay::relay(proxy, exchange, &route, response, line);
    drop(watching);
    relayed
}

/// Reads the body within its cap and the budget of all bodies; refuses one that we could not read as the provider would.
fn read<'a>(proxy: &'a Proxy, exchange: &mut Exchange, head: &Head) -> Result<Body<'a>, Stop> {
    let encodings = head.headers.get_all(CONTENT_ENCODING).iter();
    if encodings.map(HeaderValue::as_bytes).any(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        let message = "the body is compressed, so it cannot be scanned; switch that off in the client \
                       (Codex: `[features] enable_request_compression = false` in config.toml)";
        return Err(Stop::new(Refused::ENCODING, message));
    }
    let cap = proxy.settings.limits.max_body_bytes;
    let mut body = Body::reserve(proxy, head.body.unwrap_or(cap))?;
    body.bytes = exchange.read_body().map_err(|refusal| Stop::from_server(&refusal))?;
    Ok(body)
}

/// Tells the client why not, in the shape of the API that it called. A block is in the audit log before its first byte goes.
fn refuse(proxy: &Proxy, exchange: &mut Exchange, head: &Head, stop: Stop, line: &mut Line) {
    let family = route::family_of(&head.path);
    let (mut status, mut body) = stop.reply(family);
    let outcome = match stop.kind {
        _ if stop.client_left => Outcome::ClientLeft,
        Refused::BLOCKED => Outcome::Blocked,
        Refused::PROVIDER | Refused::UNAVAILABLE => Outcome::Error,
        _ => Outcome::Refused,
    };
    line.event.blocked = stop.kind == Refused::BLOCKED;
    if stop.client_left {
        // There is no reply.
        status = 0;
    }
    let written = match line.event.user_id {
        Some(_) => line.write(proxy, outcome, status),
        None => proxy.write_refused(line, status),
    };
    let mut stop = stop;
    if let Err(unwritten) = written {
        stop = unwritten;
        (status, body) = stop.reply(family);
    }
    if stop.client_left {
        return;
    }
    let mut headers = line.headers();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = stop.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    let _ = exchange.respond(status, &headers, &body);
}

/// Says only whether requests would be served.
fn health(proxy: &Proxy, exchange: &mut Exchange, head: &Head) {
    let (status, body): (u16, &[u8]) = match admit::visitor(proxy, &head.headers).map(|_| proxy.ready()) {
        Err(_) => (403, br#"{"status":"refused"}"#),
        Ok(Err(_)) => (503, br#"{"status":"not ready"}"#),
        Ok(Ok(())) => (200, br#"{"status":"ok"}"#),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let _ = exchange.respond(status, &headers, body);
}
