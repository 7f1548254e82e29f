//! Body in, scanned request out: every text of it is looked at and judged before anything is forwarded.
//! Must never put matched text into a message or a log, only rule, place and reference.

use super::admit::Caller;
use super::line::{self, Line};
use super::{Body, Proxy, Stop};
use crate::api::{self, Family, Refused};
use crate::audit::Finding as Noted;
use crate::detect::{self, Action, Place, Source};
use crate::secret::Key;

/// Bytes of the keyed fingerprint that make a `ref`: 40 bits are 8 characters of base32.
const REF_BYTES: usize = 5;
/// Base32 digits (RFC 4648), lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A request that was scanned and judged, and may be forwarded: the only thing that [`super::forward`] takes.
pub(super) struct Scanned<'a> {
    /// The bytes to forward.
    pub(super) body: Body<'a>,
}

/// Extracts, detects, judges; writes what was found into the audit line; stops what policy blocks.
pub(super) fn scan<'a>(
    proxy: &Proxy,
    caller: &Caller,
    family: Family,
    body: Body<'a>,
    line: &mut Line,
) -> Result<Scanned<'a>, Stop> {
    if family == Family::Models {
        return Ok(Scanned { body });
    }
    let extracted =
        api::extract(family, body.bytes()).map_err(|malformed| Stop::new(Refused::MALFORMED, malformed.to_string()))?;
    line.event.model = extracted.model.as_deref().and_then(|model| line::harmless(&proxy.scanner, model));
    line.event.unscanned = extracted.unscanned.into();
    let found: Vec<(Place, Vec<detect::Finding>)> = extracted
        .segments
        .iter()
        .map(|segment| (place(segment), proxy.scanner.scan(&segment.text, segment.source)))
        .collect();
    let judged: Vec<(Place, &[detect::Finding])> =
        found.iter().map(|(place, findings)| (*place, findings.as_slice())).collect();
    let verdict = detect::judge(&judged, &proxy.policy, proxy.settings.mode.into());
    let fingerprint = proxy.keys.get("fingerprint").map_err(|error| proxy.store_failed(&error))?;
    let mut worst: Option<(Action, String)> = None;
    for ((segment, (_, findings)), actions) in extracted.segments.iter().zip(&found).zip(&verdict.actions) {
        for (finding, action) in findings.iter().zip(actions).filter(|(_, action)| **action > Action::Allow) {
            let matched = segment.text.get(finding.start..finding.end).unwrap_or_default();
            let reference = reference(&fingerprint.key, &caller.user, &finding.rule, matched);
            if worst.as_ref().is_none_or(|(strongest, _)| action > strongest) {
                let what = format!("rule {} in {}, ref {reference}", finding.rule, segment.location);
                worst = Some((*action, what));
            }
            line.event.findings.push(Noted {
                rule: finding.rule.to_string(),
                category: finding.category.name().to_owned(),
                action: action.name().to_owned(),
                location: segment.location.clone(),
                reference,
            });
        }
    }
    line.event.risk_score = verdict.risk_score;
    line.verdict = Some((verdict.strongest, verdict.risk_score));
    match worst {
        Some((Action::Block | Action::Withhold, what)) => {
            Err(Stop::new(Refused::BLOCKED, format!("InferShield blocked this request: {what}")))
        }
        _ => Ok(Scanned { body }),
    }
}

fn place(segment: &api::Segment<'_>) -> Place {
    match segment.source {
        Source::User if segment.last_turn => Place::LastUserTurn,
        Source::System => Place::System,
        _ => Place::Elsewhere,
    }
}

/// The short name of a finding: the same for the same text, rule and user, and of no use without the key.
fn reference(key: &Key, user: &str, rule: &str, matched: &str) -> String {
    let mac = key.mac_bytes(&[&crate::secret::place(&[user, rule]), matched.as_bytes()]);
    let bits = mac.iter().take(REF_BYTES).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |at: usize| BASE32.get(bits.checked_shr(35 - 5 * at as u32).unwrap_or_default() as usize & 31);
    (0..8).filter_map(digit).map(|digit| char::from(*digit)).collect()
}
