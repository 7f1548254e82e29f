//! The reply goes to the client as it comes, with what the request hid put back; it is looked at and counted on the way.
//! Must never end a broken reply as if it were whole, or let the last byte go before the audit line is written.

use super::forward::{Masked, form, is_encoded, passed};
use super::{Request, VERDICT, judge, text};
use crate::api::{Family, Kind};
use crate::audit::Outcome;
use crate::detect::{Action, Category, Finding, Source};
use crate::redact::{Guard, Hidden, Rewriter, Stops};
use crate::server::{Exchange, Writer};
use crate::upstream;
use http::header::{self, HeaderMap, HeaderValue};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;

/// One read from the provider, in bytes: as much as its connection buffers.
const READ_BYTES: usize = 16 << 10;

/// The rules that are about calls only begin so: words that send in a command are words in a sentence.
const CALLED: &str = "exfiltration.placeholder-called";

/// Relays the reply. When something fails the connection is cut, and the audit line says why.
pub(super) fn relay(
    request: &mut Request<'_>,
    exchange: &mut Exchange,
    family: Family,
    hidden: &[Hidden],
    response: Masked,
) {
    let (http::response::Parts { status, headers, .. }, mut body) = response.into_parts();
    let status = status.as_u16();
    let form = form(&headers);
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter().filter_map(|coding| coding.to_str().ok());
    let chunked = codings.any(|coding| coding.to_ascii_lowercase().contains("chunked"));
    let length = match status {
        // Without a body, whatever length they name (RFC 9112 section 6.3).
        204 | 304 => Some(0),
        // The chunks count, whatever length is named beside them; nobody after us shall have to choose.
        _ if chunked => None,
        _ => text(&headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
    };
    let proxy = request.proxy;
    let user = request.event.user_id.clone().unwrap_or_default();
    let action = proxy.policy.on_replies();
    let leaks = |kind: Kind, text: &str| {
        let leads_away = |finding: &Finding| {
            finding.category == Category::Exfiltration && (kind != Kind::Text || !finding.rule.starts_with(CALLED))
        };
        proxy.scanner.scan(text, Source::Assistant).iter().any(leads_away)
    };
    let stopping = RefCell::new(None);
    let stops = |kind: Kind, said: (&str, &str)| {
        let mut found = judge::reply(proxy, &user, kind, said, action).into_iter();
        let found = found.find(|found| found.action == action.to_string())?;
        let why = format!("[InferShield stopped this reply: rule {}, ref {}]", found.rule, found.reference);
        stopping.replace(Some(found));
        Some(why)
    };
    let stops_replies = action == Action::Block && form.is_some();
    let guard = Guard { leaks: &leaks, stops: stops_replies.then_some(&stops as &Stops<'_>) };
    // JSON may come without its type, or as text. Lines of it (NDJSON) would have to wait for each other.
    let is_read =
        form.is_some() || headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/"));
    let mut rewriter = is_read.then(|| Rewriter::new(hidden, guard, family, form == Some(true)));
    let restores = is_read && (!hidden.is_empty() || stops_replies);
    let mut reply_headers = passed(&headers);
    reply_headers.extend(request.reply_headers.clone());
    // What is put back, or stopped, changes the length.
    let announced = length.filter(|length| !restores || *length == 0);
    // A whole reply may yet be stopped, which its head then says; a stream's head cannot wait for that.
    let waits = restores && stops_replies && form == Some(false);
    let (mut unstarted, mut writer) = (Some(exchange), None);
    let mut send = |bytes: &[u8], headers: &HeaderMap| {
        if let Some(exchange) = unstarted.take() {
            writer = Some(exchange.start(status, headers, announced)?);
        }
        writer.as_mut().map_or(Ok(()), |writer| writer.write(bytes))
    };
    if !waits && send(b"", &reply_headers).is_err() {
        let _ = request.write(Outcome::ClientLeft, status);
        return;
    }
    let event = &mut request.event;
    event.ttfb_ms = request.begun.elapsed().as_millis() as u64;
    let mut buffer = vec![0; READ_BYTES];
    let outcome = loop {
        let bytes = match body.read(&mut buffer) {
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) => match upstream::Error::of("", error.into()) {
                upstream::Error::ClientLeft => break Outcome::ClientLeft,
                _ => break Outcome::UpstreamCut,
            },
        };
        let is_end = bytes.is_empty();
        if form.is_none() && event.bytes_out == 0 && !bytes.trim_ascii_start().starts_with(b"{") {
            rewriter = None;
        }
        event.bytes_out += bytes.len() as u64;
        let restored = rewriter.as_mut().map(|rewriter| rewriter.feed(bytes, is_end)).filter(|_| restores);
        let is_stopped = rewriter.as_ref().is_some_and(Rewriter::is_stopped);
        if is_stopped {
            reply_headers.insert(VERDICT, HeaderValue::from_static("block"));
        }
        let ready = restored.as_deref().unwrap_or(bytes);
        let goes = is_end || !waits || !ready.is_empty();
        if goes && send(ready, &reply_headers).is_err() {
            break Outcome::ClientLeft;
        }
        if is_stopped {
            event.blocked = true;
            break Outcome::Blocked;
        }
        if is_end {
            // One with framing that ends before its end is an error of the reading. One without ends when its connection does,
            // however that came about: a stream without its own closing event, or JSON that is not whole, was cut.
            let has_end = length.is_some() || chunked || is_encoded(&headers);
            let ended = has_end || rewriter.as_ref().is_none_or(|rewriter| rewriter.ended);
            break if ended { Outcome::Complete } else { Outcome::UpstreamCut };
        }
    };
    if waits && outcome == Outcome::UpstreamCut {
        // So that the client sees a broken reply, and not none: that it would ask for again.
        let _ = send(b"", &reply_headers);
    }
    (event.tokens_in, event.tokens_out) = rewriter.as_ref().map_or((0, 0), |rewriter| rewriter.tokens);
    for hidden in rewriter.iter().flat_map(Rewriter::refused) {
        let (rule, reference) = (hidden.rule.clone(), hidden.reference.clone());
        event.findings.push(judge::noted(rule, hidden.category, "restore_refused", "reply", reference));
    }
    // What was found when it had gone was reported, and not stopped.
    let done = if event.blocked { action } else { action.min(Action::Warn) };
    let said = rewriter.iter().flat_map(Rewriter::said).filter(|_| action != Action::Allow);
    let found = said.flat_map(|(kind, said)| judge::reply(proxy, &user, kind, said, done));
    // Several events may say the same, each in its own way, and what stopped the reply may be more than is kept.
    let mut told = BTreeSet::new();
    let found = stopping.take().into_iter().chain(found);
    event.findings.extend(found.filter(|found| told.insert((found.rule.clone(), found.reference.clone()))));
    // The client has its status already: when the line cannot be written, all that is left is to cut the connection.
    if request.write(outcome, status).is_ok() && matches!(outcome, Outcome::Complete | Outcome::Blocked) {
        let _ = writer.map(Writer::finish);
    }
}
