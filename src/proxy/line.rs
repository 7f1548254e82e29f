//! The audit line of one request while it is being answered, and what of it goes into the reply's headers.

use super::admit::LOCAL_KEY_PREFIX;
use super::{Proxy, Stop};
use crate::api::Refused;
use crate::audit::{Event, Outcome};
use crate::detect::{Action, Scanner, Source};
use crate::secret;
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use std::time::Instant;

/// Every reply names the request's audit line.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-infershield-request-id");
/// What was done with a judged request.
const VERDICT: HeaderName = HeaderName::from_static("x-infershield-verdict");
/// How risky it looked, 0 to 100.
const RISK_SCORE: HeaderName = HeaderName::from_static("x-infershield-risk-score");
/// Random bytes of a request id.
const REQUEST_ID_BYTES: usize = 12;
/// Characters of a model's or client's name that are looked at. The log takes fewer, so a secret that begins there is seen whole.
const CLIENT_TEXT_CHARS: usize = 256;

/// One request's audit line under way.
pub(super) struct Line {
    /// What will be written.
    pub(super) event: Event,
    /// Strongest action and risk score, once judged.
    pub(super) verdict: Option<(Action, u8)>,
    /// Why it goes where it goes.
    pub(super) why: &'static str,
    begun: Instant,
}

impl Line {
    /// Starts the clock and draws the request's id.
    pub(super) fn begin(proxy: &Proxy, headers: &HeaderMap) -> Result<Self, Stop> {
        let id =
            secret::random::<REQUEST_ID_BYTES>().map_err(|error| Stop::new(Refused::UNAVAILABLE, error.to_string()))?;
        let mut event = Event::new("request");
        event.request_id = Some(secret::hex(&id));
        event.policy = Some(proxy.policy_name.clone());
        let client = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        event.client = client.and_then(|client| harmless(&proxy.scanner, client));
        Ok(Self { event, verdict: None, why: "refused", begun: Instant::now() })
    }

    /// Milliseconds since the request came.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// Our own headers of the reply.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(id) = self.event.request_id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some((action, risk_score)) = self.verdict {
            let word = match action {
                Action::Allow => "pass",
                Action::Warn => "warn",
                Action::Redact => "redact",
                Action::Withhold => "withhold",
                Action::Block => "block",
            };
            headers.insert(VERDICT, HeaderValue::from_static(word));
            headers.insert(RISK_SCORE, HeaderValue::from(u16::from(risk_score)));
        }
        headers
    }

    /// Writes the line. Only when this is done may the reply's last byte go (a block's first).
    pub(super) fn write(&mut self, proxy: &Proxy, outcome: Outcome, status: u16) -> Result<(), Stop> {
        self.event.outcome = outcome;
        self.event.status = status;
        self.event.duration_ms = self.elapsed_ms();
        proxy.audit.append(&self.event).map(drop).map_err(|error| proxy.audit_failed(&error))
    }
}

/// A text of the client as the log may hold it: its beginning, or none when a secret stands there.
pub(super) fn harmless(scanner: &Scanner, text: &str) -> Option<String> {
    let beginning: String = text.chars().take(CLIENT_TEXT_CHARS).collect();
    let secret = beginning.contains(LOCAL_KEY_PREFIX) || !scanner.scan(&beginning, Source::Document).is_empty();
    (!secret).then_some(beginning)
}
