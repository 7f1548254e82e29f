//! Body in, scanned request out: every text of it is looked at and judged before anything is forwarded.
//! Must never put matched text into a message or a log, only rule, place and reference.

use super::admit::Caller;
use super::request::Body;
use super::{Request, Route, Stop};
use crate::api::{self, Family, Refused, Segment};
use crate::audit;
use crate::detect::{self, Action, Reason};
use crate::secret::{self, Key};
use http::HeaderValue;

/// Hexadecimal digits of the keyed fingerprint that make a `ref`: 40 bits are 8 characters of base32.
const REF_HEX_DIGITS: usize = 10;
/// Base32 digits (RFC 4648), lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A request that was scanned and judged, and may be forwarded: the only thing that [`super::forward`] takes.
pub(super) struct Scanned<'a> {
    pub(super) caller: &'a Caller,
    pub(super) route: &'a Route<'a>,
    pub(super) body: Body<'a>,
}

/// Extracts, detects, judges; writes what was found into the audit line; stops what policy blocks.
pub(super) fn scan<'a>(
    request: &mut Request<'_>,
    caller: &'a Caller,
    route: &'a Route<'a>,
    body: Body<'a>,
) -> Result<Scanned<'a>, Stop> {
    let proxy = request.proxy;
    let event = &mut request.event;
    if route.family == Family::Models {
        return Ok(Scanned { caller, route, body });
    }
    let extracted = api::extract(route.family, &body.bytes);
    let extracted = extracted.map_err(|malformed| Stop::new(Refused::MALFORMED, malformed))?;
    event.model = extracted.model.as_deref().and_then(|model| proxy.harmless(model));
    event.unscanned = extracted.unscanned.into();
    let mut worst = (Action::Allow, String::new());
    let mut stopping = Vec::new();
    let mut behind = extracted.segments.iter().filter(|segment| said_last(segment)).count();
    for segment in &extracted.segments {
        behind = behind.saturating_sub(said_last(segment).into());
        let mut findings = proxy.scanner.scan(&segment.text, segment.source);
        let mut risk_score = detect::judge(&mut findings, segment.last_turn, &proxy.policy);
        let refer = |finding: &detect::Finding| {
            let matched = segment.text.get(finding.start..finding.end).unwrap_or_default();
            reference(&proxy.fingerprint, &caller.key.user_id, &finding.rule, matched)
        };
        let blocking = findings.iter().filter(|finding| finding.action == Action::Block);
        let reason = |finding| Reason { key_id: caller.key.id.clone(), reference: refer(finding), behind };
        let blocking: Vec<Reason> = blocking.map(reason).collect();
        // Stopped before, and the user has gone on since: no part of the last turn any more.
        if !blocking.is_empty() && blocking.iter().all(|reason| proxy.stopped.is_history(reason)) {
            risk_score = detect::judge(&mut findings, false, &proxy.policy);
        } else {
            stopping.extend(blocking);
        }
        // That of the worst text, so that a long harmless history does not add up to a threat.
        event.risk_score = event.risk_score.max(risk_score);
        for finding in findings.into_iter().filter(|finding| finding.action > Action::Allow) {
            let reference = refer(&finding);
            if finding.action > worst.0 {
                worst = (finding.action, format!("rule {} in {}, ref {reference}", finding.rule, segment.location));
            }
            event.findings.push(audit::Finding {
                rule: finding.rule,
                category: finding.category.to_string(),
                action: finding.action.to_string(),
                location: segment.location.clone(),
                reference,
            });
        }
    }
    let (strongest, what) = worst;
    let word = if strongest == Action::Allow { "pass".to_owned() } else { strongest.to_string() };
    if let Ok(word) = HeaderValue::try_from(word) {
        request.reply_headers.insert("x-infershield-verdict", word);
    }
    request.reply_headers.insert("x-infershield-risk-score", HeaderValue::from(u16::from(event.risk_score)));
    match strongest {
        Action::Block => {
            proxy.stopped.remember(stopping);
            Err(Stop::new(Refused::BLOCKED, format!("InferShield blocked this request: {what}")))
        }
        _ => Ok(Scanned { caller, route, body }),
    }
}

/// Whether a text of the last turn is what the user said, and not what a client says about it: a role, a type, a name of its own.
fn said_last(segment: &Segment<'_>) -> bool {
    let place = &segment.location;
    segment.last_turn && !place.contains('*') && ["content", "text", "]"].iter().any(|end| place.ends_with(end))
}

/// The short name of a finding: the same for the same text, rule and user, and of no use without the key.
fn reference(key: &Key, user: &str, rule: &str, matched: &str) -> String {
    let mac = key.mac(&[&secret::place(&[user, rule]), matched.as_bytes()]);
    let bits = mac.get(..REF_HEX_DIGITS).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
    let digits = (0..8).rev().filter_map(|at| BASE32.get((bits >> (at * 5) & 31) as usize));
    digits.map(|digit| char::from(*digit)).collect()
}
