//! The proxy: authenticate, route, judge, forward, relay. `request.rs` is one request on one page; here is what all steps share.
//! Must never forward what was not authenticated, scanned and judged, or what cannot be audited.

mod admit;
mod forward;
mod judge;
mod relay;
mod request;
mod route;

pub use route::{Route, called, choose};

use crate::api::Refused;
use crate::audit::{self, Audit, Event, Outcome};
use crate::config::Settings;
use crate::detect::{Policy, Scanner, Seen, Source, Stopped};
use crate::redact::Sent;
use crate::secret::{self, Key};
use crate::server::{Head, Refusal};
use crate::session::{self, Session};
use crate::store::{FileStore, holds_local_key};
use http::header::{AsHeaderName, HeaderMap, HeaderValue, USER_AGENT};
use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Random bytes of a request id.
const REQUEST_ID_BYTES: usize = 12;
/// Characters of a model's or client's name that are looked at. The log takes fewer, so a secret that begins there is seen whole.
const CLIENT_TEXT_CHARS: usize = 256;

/// Says what was done about a request, or about its reply when that was stopped as a whole.
const VERDICT: &str = "x-infershield-verdict";

/// Everything that answering a request needs.
pub struct Proxy {
    /// The settings in force.
    pub settings: Settings,
    /// Local keys and exceptions.
    pub store: Arc<FileStore>,
    /// Valid tokens and the way to the providers.
    pub session: Session,
    /// The log.
    pub audit: Arc<Audit>,
    /// The rules.
    pub scanner: Scanner,
    /// What was scanned before.
    pub seen: Seen,
    /// What is done about findings.
    pub policy: Policy,
    /// Short name of mode and policy for the audit log.
    pub policy_name: String,
    /// What was replaced before.
    pub sent: Sent,
    /// What requests were stopped for.
    pub stopped: Stopped,
    /// For fingerprints.
    pub fingerprint: Key,
    /// For placeholders.
    pub placeholder: Key,
    /// A line on stderr for each request.
    pub verbose: bool,
    /// Bytes of all request bodies held now.
    pub inflight: AtomicU64,
}

/// One request while it is being answered.
struct Request<'a> {
    /// Who answers it.
    proxy: &'a Proxy,
    /// What came before its body.
    head: Head,
    /// Its audit line, as far as it is known.
    event: Event,
    /// Our own headers of the reply.
    reply_headers: HeaderMap,
    /// Why it goes where it goes, or the code with which it goes nowhere.
    why: String,
    /// When its head was there.
    begun: Instant,
}

/// Why a request goes no further.
#[derive(Debug)]
pub struct Stop {
    /// Status and code.
    kind: Refused,
    /// What failed and, where only a person can repair it, what to type.
    pub message: String,
}

impl Proxy {
    /// Fails closed while a request may get no line in the log.
    fn ready(&self) -> Result<(), Stop> {
        let ready = self.audit.ready();
        ready.map_err(|error| Stop::unlogged(&error, format!("nothing is forwarded now: {error}")))
    }

    fn store_failed(&self, error: &dyn Display) -> Stop {
        self.complain(error);
        let message =
            "the stored logins or keys cannot be read; type `infershield auth status` and `infershield key list`";
        Stop::new(Refused::LOGIN_NEEDED, message)
    }

    /// A line for whoever runs the proxy, in one piece: others may share its stderr.
    fn complain(&self, error: &dyn Display) {
        let _ = io::stderr().write_all(format!("infershield: {error}\n").as_bytes());
    }

    /// A text of the client as the log may hold it: its beginning, or none when a secret stands there.
    fn harmless(&self, text: &str) -> Option<String> {
        let beginning: String = text.chars().take(CLIENT_TEXT_CHARS).collect();
        let found = self.scanner.scan(&beginning, Source::Document);
        let harmless = found.is_empty() && !holds_local_key(&beginning);
        harmless.then_some(beginning)
    }
}

impl<'a> Request<'a> {
    /// Starts the clock and draws the request's id; `None` when the system gives no random bytes.
    fn begin(proxy: &'a Proxy, head: Head) -> Option<Self> {
        let id = secret::hex(&secret::random::<REQUEST_ID_BYTES>().ok()?);
        let mut reply_headers = HeaderMap::new();
        reply_headers.insert("x-infershield-request-id", HeaderValue::from_str(&id).ok()?);
        let policy = Some(proxy.policy_name.clone());
        let client = text(&head.headers, USER_AGENT).and_then(|client| proxy.harmless(client));
        let event = Event { request_id: Some(id), policy, client, ..Event::new("request") };
        Some(Self { proxy, head, event, reply_headers, why: String::new(), begun: Instant::now() })
    }

    /// Writes the audit line. Only when this is done may the reply's last byte go (a block's first). Those who have not
    /// authenticated share a line a second. With `--verbose` stderr is told too, but nothing that the client wrote: a path
    /// may hold anything.
    fn write(&mut self, outcome: Outcome, status: u16) -> Result<(), Stop> {
        let proxy = self.proxy;
        let event = &mut self.event;
        event.outcome = outcome;
        event.status = status;
        event.duration_ms = self.begun.elapsed().as_millis() as u64;
        if proxy.verbose {
            let provider = event.provider.as_deref().unwrap_or("-");
            proxy.complain(&format_args!(
                "{} -> {provider} ({}): {status} in {} ms, risk {}",
                event.action, self.why, event.duration_ms, event.risk_score
            ));
        }
        let written = match event.user_id {
            Some(_) => proxy.audit.append(event).map(drop),
            None => proxy.audit.append_refusal(event.clone()),
        };
        written.map_err(|error| {
            proxy.complain(&error);
            let message = "the audit log cannot be written, so nothing is forwarded; type `infershield audit verify`";
            Stop::unlogged(&error, message)
        })
    }
}

impl Stop {
    fn new(kind: Refused, message: impl ToString) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// For want of a line in the log: damage waits for a person, anything else may heal.
    fn unlogged(error: &audit::Error, message: impl ToString) -> Self {
        let is_broken = matches!(error, audit::Error::Broken { .. });
        Self::new(if is_broken { Refused::AUDIT_BROKEN } else { Refused::UNAVAILABLE }, message)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::new(Refused { status: refusal.status, code: refusal.code }, refusal.reason)
    }
}

impl From<session::Error> for Stop {
    fn from(error: session::Error) -> Self {
        let heals = matches!(error, session::Error::Later(..));
        Self::new(if heals { Refused::UNAVAILABLE } else { Refused::LOGIN_NEEDED }, error)
    }
}

/// The value of a header, when it is text.
fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
