//! Body in, scanned request out: every text of it is looked at and judged before anything is forwarded.
//! Must never put matched text into a message or a log, only rule, place and reference.

use super::admit::Caller;
use super::request::Body;
use super::{Proxy, Request, Route, Stop};
use crate::api::{self, Extracted, Family, Kind, Refused, Segment};
use crate::audit::{self, now};
use crate::detect::{self, Action, Category, Reason, Source};
use crate::redact::{self, Edit, Hidden, Redaction};
use crate::secret::{self, Key};
use http::HeaderValue;
use std::collections::BTreeMap;
use std::ops::Range;

/// Characters of the keyed fingerprint that make a `ref`: 40 bits.
const REF_CHARS: usize = 8;
/// From this weight on an attack in a reply is reported: less is a hint.
const REPLY_WEIGHT: u8 = 40;

/// A request that was scanned and judged, and may be forwarded: the only thing that [`super::forward`] takes.
pub(super) struct Scanned<'a> {
    pub(super) caller: &'a Caller,
    pub(super) route: &'a Route<'a>,
    pub(super) body: Body<'a>,
    /// What its placeholders stand for.
    pub(super) hidden: Vec<Hidden>,
}

/// Extracts, detects, judges; writes what was found into the audit line; stops, withholds and redacts what policy says.
pub(super) fn scan<'a>(
    request: &mut Request<'_>,
    caller: &'a Caller,
    route: &'a Route<'a>,
    mut body: Body<'a>,
) -> Result<Scanned<'a>, Stop> {
    let proxy = request.proxy;
    let event = &mut request.event;
    if route.family == Family::Models || route.family == Family::Other && body.bytes.is_empty() {
        return Ok(Scanned { caller, route, body, hidden: Vec::new() });
    }
    let extracted = api::extract(route.family, &body.bytes);
    let extracted = extracted.map_err(|malformed| Stop::new(Refused::MALFORMED, malformed))?;
    event.model = extracted.model.as_deref().and_then(|model| proxy.harmless(model));
    event.unscanned = extracted.unscanned.into();
    let user = &caller.user;
    let mut worst = (Action::Allow, String::new());
    let mut redaction = Redaction::default();
    let mut withheld = BTreeMap::new();
    let mut stopping = Vec::new();
    let mut exceptions = None;
    let mut behind = extracted.segments.iter().filter(|segment| said_last(segment)).count();
    for (index, segment) in extracted.segments.iter().enumerate() {
        behind = behind.saturating_sub(said_last(segment).into());
        let findings = proxy.seen.scan(&proxy.scanner, &segment.text, segment.source);
        let refer = |finding: &detect::Finding| {
            let matched = segment.text.get(finding.start..finding.end).unwrap_or_default();
            reference(&proxy.fingerprint, user, &finding.rule, matched)
        };
        if exceptions.is_none() && !findings.is_empty() {
            exceptions = Some(proxy.store.exceptions(user).map_err(|error| proxy.store_failed(&error))?);
        }
        let is_allowed = |finding: &detect::Finding| {
            let reference = refer(finding);
            exceptions.iter().flatten().any(|exception| exception.reference == reference && exception.lives(now()))
        };
        let (mut allowed, mut findings): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_allowed);
        allowed.iter_mut().for_each(|finding| finding.action = Action::Allow);
        let mut risk_score = detect::judge(&mut findings, segment.source, segment.last_turn, &proxy.policy);
        let blocking = findings.iter().filter(|finding| finding.action == Action::Block);
        let key_id = event.key_id.as_ref().unwrap_or(user);
        let reason = |finding| Reason { key_id: key_id.clone(), reference: refer(finding), behind };
        let blocking: Vec<Reason> = blocking.map(reason).collect();
        // Stopped before, and the user has gone on since: no part of the last turn any more.
        if !blocking.is_empty() && blocking.iter().all(|reason| proxy.stopped.is_history(reason)) {
            risk_score = detect::judge(&mut findings, segment.source, false, &proxy.policy);
        } else {
            stopping.extend(blocking);
        }
        // That of the worst text, so that a long harmless history does not add up to a threat.
        event.risk_score = event.risk_score.max(risk_score);
        let told = findings.into_iter().filter(|finding| finding.action > Action::Allow);
        for mut finding in told.chain(allowed) {
            let reference = refer(&finding);
            let span = finding.start..finding.end;
            let matched = segment.text.get(span.clone()).unwrap_or_default();
            match finding.action {
                Action::Redact | Action::Withhold if segment.fixed => finding.action = Action::Warn,
                Action::Redact => {
                    redaction.hide(&proxy.placeholder, user, finding.category, matched, &finding.rule, &reference);
                }
                Action::Withhold => {
                    let notice = || (redact::notice(segment.source, &finding.rule, &reference), Vec::new());
                    withheld.entry(index).or_insert_with(notice).1.push(span);
                }
                _ => {}
            }
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
    if strongest == Action::Block {
        proxy.stopped.remember(stopping);
        return Err(Stop::new(Refused::BLOCKED, format!("InferShield blocked this request: {what}")));
    }
    let edits = edits(&extracted, &body.bytes, &mut redaction, &withheld);
    if !edits.is_empty() {
        body.bytes = redact::apply(&body.bytes, edits);
    }
    Ok(Scanned { caller, route, body, hidden: redaction.hidden })
}

/// What a text of a reply is reported or stopped for: data on its way to somebody else, a secret that the request did not hold, a call that
/// destroys.
pub(super) fn reply(proxy: &Proxy, user: &str, kind: Kind, text: &str, action: Action) -> Vec<audit::Finding> {
    let matters = |finding: &detect::Finding| match finding.category {
        Category::Exfiltration => finding.weight >= REPLY_WEIGHT,
        Category::Command => kind != Kind::Text && finding.weight >= REPLY_WEIGHT,
        Category::Secret => true,
        _ => false,
    };
    let found = proxy.scanner.scan(text, Source::Assistant).into_iter().filter(matters);
    let told = found.map(|finding| {
        let matched = text.get(finding.start..finding.end).unwrap_or_default();
        audit::Finding {
            reference: reference(&proxy.fingerprint, user, &finding.rule, matched),
            rule: finding.rule,
            category: finding.category.to_string(),
            action: action.to_string(),
            location: "reply".to_owned(),
        }
    });
    let mut told: Vec<_> = told.collect();
    if !told.is_empty() {
        // Where they cannot be read there are none.
        let exceptions = proxy.store.exceptions(user).unwrap_or_default();
        let is_allowed = |finding: &audit::Finding| {
            exceptions.iter().any(|exception| exception.reference == finding.reference && exception.lives(now()))
        };
        told.iter_mut().filter(|told| is_allowed(told)).for_each(|told| told.action = Action::Allow.to_string());
    }
    told
}

/// For a segment the notice that stands for what is withheld of it, and where that is.
type Withheld = BTreeMap<usize, (String, Vec<Range<usize>>)>;

/// The bytes to change: what is withheld, and hidden values wherever they stand.
fn edits(extracted: &Extracted<'_>, body: &[u8], redaction: &mut Redaction, withheld: &Withheld) -> Vec<Edit> {
    let mut edits = Vec::new();
    let finder = redaction.finder();
    for (index, segment) in extracted.segments.iter().enumerate().filter(|(_, segment)| !segment.fixed) {
        let mut change = |texts: Vec<(Range<usize>, String)>| {
            let parts: Vec<_> = texts.iter().map(|(part, _)| part.clone()).collect();
            let places = extracted.places(body, index, &parts).into_iter();
            edits.extend(places.zip(texts).map(|(place, (_, text))| Edit { place, text }));
        };
        if let Some((notice, spans)) = withheld.get(&index) {
            let parts = api::withheld(&segment.text, spans).into_iter();
            change(parts.map(|part| (part, notice.clone())).collect());
        }
        if let Some(finder) = &finder {
            change(redaction.find(finder, &segment.text));
        }
    }
    edits
}

/// Whether a text of the last turn is what the user said, and not what a client says about it: a role, a type, a name of its own.
fn said_last(segment: &Segment<'_>) -> bool {
    let place = &segment.location;
    segment.last_turn && !place.contains('*') && ["content", "text", "]"].iter().any(|end| place.ends_with(end))
}

/// The short name of a finding: the same for the same text, rule and user, and of no use without the key.
fn reference(key: &Key, user: &str, rule: &str, matched: &str) -> String {
    secret::base32(&key.mac(&[&secret::place(&[user, rule]), matched.as_bytes()]), REF_CHARS)
}
