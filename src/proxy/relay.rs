//! The provider's reply goes to the client as it comes, every read written and flushed at once, and is counted on the way.
//! Must never end a broken reply as if it were whole, nor let the last byte go before the audit line is written.

use super::line::Line;
use super::route::Route;
use super::{Proxy, Stop, forward};
use crate::api::Observer;
use crate::audit::Outcome;
use crate::server::{Exchange, Writer};
use crate::upstream::{self, Body, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use std::io::{self, Read as _};

/// One read from the provider, in bytes: as much as its connection buffers.
const READ_BYTES: usize = 16 << 10;

/// How a reply came to its end.
enum End {
    /// With everything that it announced.
    Whole,
    /// The provider broke off.
    Cut,
    /// The client left.
    Left,
}

/// Relays the reply. Errors only before the first byte; afterwards the connection is cut and the audit line says why.
pub(super) fn relay(
    proxy: &Proxy,
    exchange: &mut Exchange,
    route: &Route<'_>,
    response: Response,
    line: &mut Line,
) -> Result<(), Stop> {
    let Response { status, headers, mut body } = response;
    let streamed = is_event_stream(&headers);
    let length = announced(&headers);
    let framed = length.is_some() || headers.contains_key(TRANSFER_ENCODING);
    let mut observer = Observer::new(route.family, streamed);
    let mut reply_headers = forward::passed_back(&headers);
    reply_headers.extend(line.headers());
    let started = exchange.start(status, &reply_headers, length);
    let Ok(mut writer) = started else {
        return line.write(proxy, Outcome::ClientLeft, status);
    };
    let (end, last) = pass(&mut body, &mut writer, &mut observer, length, line);
    observer.finish();
    line.event.tokens_in = observer.tokens_in;
    line.event.tokens_out = observer.tokens_out;
    // A reply without framing ends when its connection does, however that came about: only its own closing event proves it whole.
    let whole = matches!(end, End::Whole) && (framed || !streamed || observer.ended);
    let outcome = match end {
        End::Left => Outcome::ClientLeft,
        _ if whole => Outcome::Complete,
        _ => Outcome::UpstreamCut,
    };
    // The client has its status already: when the line cannot be written, all that is left is to cut the connection.
    if line.write(proxy, outcome, status).is_ok() && whole {
        let _ = writer.write(&last).and_then(|()| writer.finish());
    }
    Ok(())
}

/// Copies until the end; holds back the last byte of a reply of known length.
fn pass(
    body: &mut Body,
    writer: &mut Writer<'_>,
    observer: &mut Observer,
    length: Option<u64>,
    line: &mut Line,
) -> (End, Vec<u8>) {
    let mut left = length;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let bytes = match body.read(&mut buffer) {
            Ok(0) => {
                return (if left.unwrap_or(0) == 0 { End::Whole } else { End::Cut }, Vec::new());
            }
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) => return (broken(error), Vec::new()),
        };
        observer.feed(bytes);
        line.event.bytes_out = line.event.bytes_out.saturating_add(bytes.len() as u64);
        left = left.map(|left| left.saturating_sub(bytes.len() as u64));
        let last = usize::from(left == Some(0));
        let (now, last) = bytes.split_at(bytes.len().saturating_sub(last));
        if writer.write(now).is_err() {
            return (End::Left, Vec::new());
        }
        if line.event.ttfb_ms == 0 {
            line.event.ttfb_ms = line.elapsed_ms();
        }
        if left == Some(0) {
            return (End::Whole, last.to_vec());
        }
    }
}

fn broken(error: io::Error) -> End {
    match upstream::Error::of_body("", error) {
        upstream::Error::ClientLeft => End::Left,
        _ => End::Cut,
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
