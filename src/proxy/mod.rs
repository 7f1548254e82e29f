//! The proxy: authenticate, route, judge, forward, relay. `request.rs` is one request on one page.
//! Must never forward what was not authenticated, scanned and judged, or what cannot be audited.

mod admit;
mod forward;
mod judge;
mod line;
mod relay;
mod request;
mod route;

pub use route::{Choices, Route, choose};

use crate::api::{self, Family, Refused};
use crate::audit::{Audit, Event, Outcome};
use crate::config::{Mode, Settings};
use crate::detect::{self, Policy, Scanner};
use crate::keys::Keys;
use crate::server::{self, Exchange, Handler, Refusal};
use crate::session::{self, Session};
use crate::store::Store;
use crate::upstream;
use line::Line;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Seconds after which a client may ask again when all body memory is in use or the audit log has no room.
const RETRY_SOON: u32 = 5;

/// Everything that answering a request needs.
pub struct Proxy {
    /// The settings in force.
    pub settings: Settings,
    /// Local keys and exceptions.
    pub store: Arc<dyn Store>,
    /// Valid tokens and the way to the providers.
    pub session: Session,
    /// The log.
    pub audit: Arc<Audit>,
    /// The rules.
    pub scanner: Scanner,
    /// What is done about findings.
    pub policy: Policy,
    /// Short name of mode and policy for the audit log.
    pub policy_name: String,
    /// For fingerprints.
    pub keys: Arc<Keys>,
    /// A line on stderr for each request.
    pub verbose: bool,
    /// Bytes of all request bodies held now.
    pub inflight: AtomicU64,
    /// True from a line that could not be written until one can be.
    pub unaudited: AtomicBool,
}

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) struct Stop {
    kind: Refused,
    message: String,
    retry_after: Option<u32>,
    client_left: bool,
}

/// A request body, counted against the budget of all bodies as long as it lives.
pub(crate) struct Body<'a> {
    bytes: Vec<u8>,
    reserved: u64,
    inflight: &'a AtomicU64,
}

impl Handler for Proxy {
    fn handle(&self, exchange: &mut Exchange) {
        request::answer(self, exchange, None);
    }

    fn refuse(&self, refusal: &Refusal, exchange: &mut Exchange) {
        request::answer(self, exchange, Some(Stop::from_server(refusal)));
    }

    fn trouble(&self, error: &io::Error) {
        self.complain(error);
    }
}

impl Proxy {
    /// What the choice of a provider depends on.
    fn choices<'a>(&'a self, key_provider: Option<&'a str>, logins: &'a [String]) -> Choices<'a> {
        Choices {
            providers: &self.session.providers,
            key_provider,
            default_provider: self.settings.default_provider.as_deref(),
            logins,
        }
    }

    /// Fails closed while the log cannot take another line.
    fn ready(&self) -> Result<(), Stop> {
        if !self.audit.accepting() {
            let message = "the audit log has no room, so nothing is forwarded; free some disk space";
            return Err(Stop::later(message));
        }
        // Whether the log is whole again shows when it takes a line.
        if self.unaudited.load(Ordering::SeqCst) {
            self.audit.append(&Event::new("audit.resumed")).map_err(|error| self.audit_failed(&error))?;
            self.unaudited.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// For those who have not authenticated: at most one line a second, with how many they were.
    fn write_refused(&self, line: &Line, status: u16) -> Result<(), Stop> {
        let mut event = line.event.clone();
        (event.outcome, event.status) = (Outcome::Refused, status);
        self.audit.append_refusal(event).map_err(|error| self.audit_failed(&error))
    }

    fn audit_failed(&self, error: &dyn Display) -> Stop {
        self.unaudited.store(true, Ordering::SeqCst);
        self.complain(error);
        Stop::later("the audit log cannot be written, so nothing is forwarded; type `infershield audit verify`")
    }

    fn store_failed(&self, error: &dyn Display) -> Stop {
        self.complain(error);
        Stop::new(Refused::LOGIN_NEEDED, "the stored logins or keys cannot be read; type `infershield auth status`")
    }

    /// A line for whoever runs the proxy.
    fn complain(&self, error: &dyn Display) {
        let _ = writeln!(io::stderr().lock(), "infershield: {error}");
    }

    /// With `--verbose`: what became of the request, and why it went where it went.
    /// Nothing that the client wrote: a path may hold anything.
    fn tell(&self, line: &Line) {
        if self.verbose {
            let event = &line.event;
            let provider = event.provider.as_deref().unwrap_or("-");
            self.complain(&format_args!(
                "{} -> {provider} ({}): {} in {} ms, risk {}",
                event.action, line.why, event.status, event.duration_ms, event.risk_score
            ));
        }
    }
}

impl Stop {
    fn new(kind: Refused, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, client_left: false }
    }

    /// What heals by itself.
    fn later(message: impl Into<String>) -> Self {
        Self { retry_after: Some(RETRY_SOON), ..Self::new(Refused::UNAVAILABLE, message) }
    }

    fn left() -> Self {
        Self { client_left: true, ..Self::new(Refused::BAD_REQUEST, "the client left") }
    }

    fn from_server(refusal: &Refusal) -> Self {
        Self {
            retry_after: (refusal.status == Refused::UNAVAILABLE.status).then_some(RETRY_SOON),
            client_left: *refusal == Refusal::CLIENT_LEFT,
            ..Self::new(Refused { status: refusal.status, code: refusal.code }, refusal.reason)
        }
    }

    fn reply(&self, family: Option<Family>) -> (u16, Vec<u8>) {
        api::refusal(family, self.kind, &self.message)
    }
}

impl From<upstream::Error> for Stop {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::ClientLeft => Self::left(),
            error => Self::new(Refused::PROVIDER, error.to_string()),
        }
    }
}

impl From<session::Error> for Stop {
    fn from(error: session::Error) -> Self {
        let message = error.to_string();
        match error {
            session::Error::Later(..) => Self::later(message),
            _ => Self::new(Refused::LOGIN_NEEDED, message),
        }
    }
}

impl<'a> Body<'a> {
    /// Takes so many bytes of the budget, or says that there are none left.
    fn reserve(proxy: &'a Proxy, bytes: u64) -> Result<Self, Stop> {
        let body = Self { bytes: Vec::new(), reserved: bytes, inflight: &proxy.inflight };
        let held = proxy.inflight.fetch_add(bytes, Ordering::Relaxed);
        if held.saturating_add(bytes) > proxy.settings.limits.max_inflight_bytes {
            return Err(Stop::later("too many request bodies at once; ask again"));
        }
        Ok(body)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.inflight.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

impl From<Mode> for detect::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Enforce,
            Mode::Monitor => Self::Monitor,
        }
    }
}

/// The server's limits as the settings have them.
pub fn server_limits(limits: &crate::config::Limits) -> server::Limits {
    let mut server = server::Limits { body_bytes: limits.max_body_bytes, ..server::Limits::default() };
    server.head_time = Duration::from_millis(limits.head_timeout_ms);
    if limits.max_connections > 0 {
        server.connections = limits.max_connections;
    }
    server
}
