//! Body in, scanned request out: every text of it is looked at and judged before anything is forwarded.
//! Must never put matched text into a message or a log, only rule, place and reference.

use super::admit::Caller;
use super::request::Body;
use super::{Proxy, Request, Route, Stop, VERDICT};
use crate::api::{self, Family, Kind, Refused, Segment};
use crate::audit::{self, now};
use crate::detect::{self, Action, Category, Reason, Source};
use crate::redact::{self, Hidden, Redaction};
use crate::secret;
use crate::store::{Exception, holds_local_key};
use http::HeaderValue;
use std::iter;

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
    /// One of its parts is an image.
    pub(super) has_image: bool,
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
        return Ok(Scanned { caller, route, body, hidden: Vec::new(), has_image: false });
    }
    let extracted = api::extract(route.family, &body.bytes);
    let extracted = extracted.map_err(|malformed| Stop::new(Refused::MALFORMED, malformed))?;
    // In other texts a rule finds it, and it can be replaced.
    if let Some(place) = extracted.segments.iter().find(|segment| segment.fixed && holds_local_key(&segment.text)) {
        let message = format!("a local key stands in {}, where it would go on; take it out", place.location);
        return Err(Stop::new(Refused::BAD_REQUEST, message));
    }
    event.model = extracted.model.as_deref().and_then(|model| proxy.harmless(model));
    event.unscanned = extracted.unscanned.into();
    let user = &caller.user;
    let key_id = event.key_id.clone().unwrap_or(user.clone());
    let (exceptions, worst, stopping, redaction) = Default::default();
    let mut verdict = Verdict { proxy, user, key_id, exceptions, worst, stopping, redaction };
    let mut behind = extracted.segments.iter().filter(|segment| said_last(segment)).count();
    for (index, segment) in extracted.segments.iter().enumerate() {
        behind = behind.saturating_sub(said_last(segment).into());
        let (risk_score, findings) = verdict.judge(segment, behind)?;
        // That of the worst text, so that a long harmless history does not add up to a threat.
        event.risk_score = event.risk_score.max(risk_score);
        for finding in findings {
            event.findings.push(verdict.carry_out(index, segment, finding));
        }
    }
    let word = verdict.worst.as_ref().map_or("pass".to_owned(), |(action, _)| action.to_string());
    if let Ok(word) = HeaderValue::try_from(word) {
        request.reply_headers.insert(VERDICT, word);
    }
    request.reply_headers.insert("x-infershield-risk-score", HeaderValue::from(u16::from(event.risk_score)));
    if let Some((Action::Block, why)) = verdict.worst {
        proxy.stopped.keep(verdict.stopping);
        return Err(Stop::new(Refused::BLOCKED, format!("InferShield blocked this request: {why}")));
    }
    let has_image = extracted.segments.iter().any(is_image);
    let edits = verdict.redaction.edits(&extracted, &body.bytes, &proxy.sent);
    if !edits.is_empty() {
        body.bytes = redact::apply(&body.bytes, edits);
    }
    Ok(Scanned { caller, route, body, hidden: verdict.redaction.hidden, has_image })
}

/// What a text of a reply, given behind what stands before it, is reported or stopped for: data on its way to somebody else, a secret that
/// the request did not hold, a call that destroys.
pub(super) fn reply(proxy: &Proxy, user: &str, kind: Kind, said: (&str, &str), action: Action) -> Vec<audit::Finding> {
    // A call may give a command as a list of its words.
    let commands = if kind == Kind::Text { Vec::new() } else { redact::commands(said.1) };
    let said = iter::once(said).chain(commands.iter().map(|command| ("", command.as_str())));
    said.flat_map(|said| reply_text(proxy, user, kind, said, action)).collect()
}

fn reply_text(proxy: &Proxy, user: &str, kind: Kind, said: (&str, &str), action: Action) -> Vec<audit::Finding> {
    let mut findings = proxy.scanner.scan_behind(said, Source::Assistant);
    findings.retain(|finding| match finding.category {
        Category::Exfiltration => finding.weight >= REPLY_WEIGHT,
        Category::Command => kind != Kind::Text && finding.weight >= REPLY_WEIGHT,
        // Where secrets pass, a reply may repeat what the request said.
        Category::Secret => !proxy.policy.lets_secrets_pass(),
        _ => false,
    });
    if findings.is_empty() {
        return Vec::new();
    }
    // Where they cannot be read there are none.
    let exceptions = proxy.store.exceptions(user).unwrap_or_default();
    let told = findings.into_iter().map(|found| {
        let reference = reference(proxy, user, said.1, &found);
        let action = if is_allowed(&exceptions, &reference) { Action::Allow } else { action };
        noted(found.rule, found.category, action, "reply", reference)
    });
    told.collect()
}

/// What the texts of one request have shown so far.
struct Verdict<'a> {
    proxy: &'a Proxy,
    /// Whose request it is, and the key that it came with, if it came with one.
    user: &'a str,
    key_id: String,
    /// What the user lets pass; read when the first finding asks for it.
    exceptions: Option<Vec<Exception>>,
    /// The strongest action, and the finding that calls for it.
    worst: Option<(Action, String)>,
    /// With how many texts the user said after each.
    stopping: Vec<(Reason, usize)>,
    redaction: Redaction,
}

impl Verdict<'_> {
    /// The risk score of one text, and what is told of it, each finding with its action. `behind`: how many texts the user said after it.
    fn judge(&mut self, segment: &Segment<'_>, behind: usize) -> Result<(u8, Vec<detect::Finding>), Stop> {
        let proxy = self.proxy;
        let findings = proxy.seen.scan(&proxy.scanner, (&segment.before, &segment.text), segment.source);
        if self.exceptions.is_none() && !findings.is_empty() {
            self.exceptions = Some(proxy.store.exceptions(self.user).map_err(|error| proxy.store_failed(&error))?);
        }
        let exceptions = self.exceptions.as_deref().unwrap_or_default();
        let refer = |finding: &detect::Finding| reference(proxy, self.user, &segment.text, finding);
        let (mut allowed, mut findings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| is_allowed(exceptions, &refer(finding)));
        allowed.iter_mut().for_each(|finding| finding.action = Action::Allow);
        let mut risk_score = detect::judge(&mut findings, segment.source, segment.last_turn, &proxy.policy);
        let blocking = findings.iter().filter(|finding| finding.action == Action::Block);
        let reason = |finding| Reason { key_id: self.key_id.clone(), reference: refer(finding) };
        let blocking: Vec<Reason> = blocking.map(reason).collect();
        // Stopped before, and the user has gone on since: no part of the last turn any more. The same request again is stopped again.
        let is_history = |reason| proxy.stopped.get(reason).is_some_and(|before| behind > before);
        if !blocking.is_empty() && blocking.iter().all(is_history) {
            risk_score = detect::judge(&mut findings, segment.source, false, &proxy.policy);
        } else {
            self.stopping.extend(blocking.into_iter().map(|reason| (reason, behind)));
        }
        findings.retain(|finding| finding.action > Action::Allow);
        findings.append(&mut allowed);
        Ok((risk_score, findings))
    }

    /// Notes what the finding's action asks for; gives what the log says of it.
    fn carry_out(&mut self, index: usize, segment: &Segment<'_>, mut finding: detect::Finding) -> audit::Finding {
        let (proxy, user) = (self.proxy, self.user);
        let reference = reference(proxy, user, &segment.text, &finding);
        match finding.action {
            Action::Redact | Action::Withhold if segment.fixed => finding.action = Action::Warn,
            // Its provider would refuse this turn and every later one: it signed what the model wrote.
            Action::Withhold if segment.thought => finding.action = Action::Warn,
            Action::Redact => {
                // In a thought it stands as its provider has seen it.
                let item = if segment.thought { usize::MAX } else { segment.item };
                self.redaction.hide(&proxy.placeholder, user, &finding, (item, &segment.text), &reference);
            }
            Action::Withhold => {
                let notice = redact::notice(segment.source, &finding.rule, &reference);
                self.redaction.withhold(index, finding.start..finding.end, notice);
            }
            _ => {}
        }
        let strongest = self.worst.as_ref().map_or(Action::Allow, |(action, _)| *action);
        if finding.action > strongest {
            let why = format!("rule {} in {}, ref {reference}", finding.rule, segment.location);
            self.worst = Some((finding.action, why));
        }
        noted(finding.rule, finding.category, finding.action, &segment.location, reference)
    }
}

/// A finding as the log has it.
pub(super) fn noted(
    rule: String,
    category: Category,
    action: impl ToString,
    location: &str,
    reference: String,
) -> audit::Finding {
    let (category, action) = (category.to_string(), action.to_string());
    audit::Finding { rule, category, action, location: location.to_owned(), reference }
}

fn is_allowed(exceptions: &[Exception], reference: &str) -> bool {
    exceptions.iter().any(|exception| exception.reference == reference && exception.lives(now()))
}

/// Whether a text of the last turn is what the user said, and not what a client says about it: a role, a type, a name of its own.
fn said_last(segment: &Segment<'_>) -> bool {
    let place = &segment.location;
    segment.last_turn && !place.contains('*') && ["content", "text", "]"].iter().any(|end| place.ends_with(end))
}

/// Whether this is the type of a part that is an image, in any of the APIs.
fn is_image(segment: &Segment<'_>) -> bool {
    segment.location.ends_with(".type") && ["image", "image_url", "input_image"].contains(&&*segment.text)
}

/// The short name of a finding: the same for the same text, rule and user, and of no use without the key.
fn reference(proxy: &Proxy, user: &str, text: &str, finding: &detect::Finding) -> String {
    let matched = text.get(finding.start..finding.end).unwrap_or_default();
    let mac = proxy.fingerprint.mac(&[&secret::place(&[user, &finding.rule]), matched.as_bytes()]);
    secret::base32(&mac, REF_CHARS)
}
