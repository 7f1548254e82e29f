//! The device grant (RFC 8628): ask for a code, wait until a person has entered it somewhere else.
//! Must never poll faster than the server asked, or beyond the life of the code.

use super::{Answer, Endpoints, Error, Login, Provider, Result, Tokens, chatgpt, post};
use crate::secret::Secret;
use crate::upstream::{Endpoint, Origin, Upstream};
use std::time::{Duration, Instant, SystemTime};

/// Interval when the server names none (RFC 8628, 3.2).
const USUAL_INTERVAL_SECONDS: u64 = 5;
/// What `slow_down` adds for good (RFC 8628, 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// Life of a code when the server names none, against the RFC: what most of them use, and what OpenAI's own CLI takes.
const USUAL_LIFE_SECONDS: u64 = 900;
/// Longest life and interval that is believed; nobody waits longer at a prompt.
const LONGEST_LIFE_SECONDS: u64 = 86_400;
/// Longest pause after faults, unless the interval is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest URL that is shown, in bytes.
const PAGE_MAX_BYTES: usize = 2048;

/// Time as the poller sees it, by itself the machine's; tests bring their own.
pub trait Clock {
    /// Two clocks: one that never goes back but may stand still while the machine sleeps, and one that goes on but may jump.
    fn now(&self) -> (Instant, SystemTime) {
        (Instant::now(), SystemTime::now())
    }

    /// Returns after this time.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {}

/// A code that waits for its user.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    /// What the user types, cleaned.
    pub user_code: Secret,
    /// Where the user types it: an http(s) URL without anything that could disturb a terminal.
    pub verification_uri: String,
    /// The same page with the code filled in; as secret as the code.
    pub verification_uri_complete: Option<Secret>,
    /// Life of the code in seconds.
    pub expires_in: u64,
    pub(super) device_code: Secret,
    pub(super) client_id: String,
    is_chatgpt: bool,
    pub(super) token_endpoint: Endpoint,
    interval: Duration,
    /// By both clocks.
    end: (Instant, SystemTime),
}

/// Asks for a code (RFC 8628, 3.1). The client id is the row's.
pub fn start(up: &Upstream, provider: &Provider, endpoints: &Endpoints, clock: &dyn Clock) -> Result<DeviceCode> {
    let client_id = provider.client_id.clone().filter(|id| !id.is_empty());
    let id = &provider.id;
    let what = format!("`{id}` needs an OAuth app of your own: type `infershield auth login {id} --client-id ID`");
    let client_id = client_id.ok_or(Error::Config(what))?;
    let scope = provider.scopes.join(" ");
    let mut fields = vec![("client_id", client_id.as_str())];
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    let (now, wall) = clock.now();
    let is_chatgpt = provider.login == Login::Chatgpt;
    let answer = match is_chatgpt {
        true => chatgpt::code(up, &endpoints.device, &client_id)?,
        false => post(up, &endpoints.device, &fields)?,
    };
    let mut answer = answer.accepted()?;
    let user_code = answer.text("user_code").or_else(|| answer.text("usercode"));
    let user_code = user_code.and_then(|code| answer.shown(code)).filter(|code| !code.is_empty());
    let page =
        |name: &str| answer.text(name).filter(|url| is_page(url) && !answer.repeats_secret(url)).map(str::to_owned);
    // Google and its followers say `verification_url`.
    let uri = page("verification_uri").or_else(|| page("verification_url"));
    let complete = page("verification_uri_complete").or_else(|| page("verification_url_complete"));
    let device_code = answer.take("device_code").or_else(|| answer.take("device_auth_id"));
    let expires_in = answer.number("expires_in").unwrap_or(USUAL_LIFE_SECONDS).min(LONGEST_LIFE_SECONDS);
    let life = Duration::from_secs(expires_in);
    let interval = answer.number("interval").unwrap_or(USUAL_INTERVAL_SECONDS).clamp(1, LONGEST_LIFE_SECONDS);
    Ok(DeviceCode {
        user_code: Secret::new(user_code.ok_or_else(|| answer.lacks("a `user_code`"))?),
        verification_uri: uri.ok_or_else(|| answer.lacks("a usable `verification_uri`"))?,
        verification_uri_complete: complete.map(Secret::new),
        expires_in,
        device_code: device_code.ok_or_else(|| answer.lacks("a `device_code`"))?,
        client_id,
        is_chatgpt,
        token_endpoint: endpoints.token.clone(),
        interval: Duration::from_secs(interval),
        end: (now + life, wall + life),
    })
}

/// Told before each wait how long the code lives, and what was wrong with the last answer if there was none.
pub type Progress<'a> = dyn FnMut(Duration, Option<Error>) + 'a;

/// Waits for the user (RFC 8628, 3.4 and 3.5).
///
/// Faults of the network and answers that are no OAuth answers do not end it; only the server's word or the end of the code does.
pub fn poll(up: &Upstream, code: &DeviceCode, clock: &dyn Clock, progress: &mut Progress<'_>) -> Result<Tokens> {
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", code.device_code.expose()),
        ("client_id", &code.client_id),
    ];
    let mut interval = code.interval;
    // Doubled by every fault in a row, and at least the interval.
    let mut pause = interval;
    let mut fault = None;
    loop {
        let left = code.left(clock);
        progress(left, fault.take());
        // A margin of a fifth: clocks of virtual machines run fast, and servers count strictly.
        clock.sleep((pause + pause / 5).min(left));
        if code.left(clock).is_zero() {
            return Err(Error::CodeExpired);
        }
        let answer = match code.is_chatgpt {
            true => chatgpt::poll(up, code),
            false => post(up, &code.token_endpoint, &fields),
        };
        // The code decides, not the status: GitHub reports errors with 200, others slow down with 429.
        let error = answer.as_ref().ok().and_then(Answer::error);
        match error.as_deref() {
            Some("authorization_pending") => pause = interval,
            Some("slow_down") => {
                let wanted = answer?.number("interval").unwrap_or(0).min(LONGEST_LIFE_SECONDS);
                interval = (interval + SLOW_DOWN).max(Duration::from_secs(wanted));
                pause = interval;
            }
            Some("access_denied" | "authorization_declined") => return Err(Error::Denied),
            Some("expired_token" | "token_expired") => return Err(Error::CodeExpired),
            _ => match answer.and_then(Tokens::read) {
                last @ (Ok(_) | Err(Error::Refused(..) | Error::BadToken(_))) => return last,
                // Even a wrong certificate: a hotel's login page between us and a server that answered a minute ago.
                Err(error) => {
                    fault = Some(error);
                    pause = (pause * 2).min(LONGEST_PAUSE).max(interval);
                }
            },
        }
    }
}

impl DeviceCode {
    /// By the clock that says less: one stands still while the machine sleeps, the other may jump back.
    fn left(&self, clock: &dyn Clock) -> Duration {
        let ((now, wall), (end, wall_end)) = (clock.now(), self.end);
        end.saturating_duration_since(now).min(wall_end.duration_since(wall).unwrap_or_default())
    }
}

/// True for a URL that we would call ourselves, and that can be printed and handed to a browser as it is.
fn is_page(url: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'`\\".contains(&byte);
    let origin = url.parse().map(|url| Origin::of(&url));
    matches!(origin, Ok(Ok(_))) && url.len() <= PAGE_MAX_BYTES && url.bytes().all(plain)
}
