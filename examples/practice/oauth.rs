//! What the practice provider remembers of logins: codes that wait for a person, grants, tokens.
//! Must never touch a socket; every answer is a status and a JSON object.

use infershield::secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Decoded fields of a request body.
pub(crate) type Fields = BTreeMap<String, String>;
/// Status and JSON body of an answer.
pub(crate) type Reply = (u16, Value);

/// The grant type of RFC 8628 section 3.4.
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What `slow_down` adds to the interval, in seconds (RFC 8628 section 3.5).
const SLOW_DOWN_SECONDS: u64 = 5;
/// Life of a GitHub refresh token, in seconds, as its replies say.
const GITHUB_REFRESH_SECONDS: u64 = 15_811_200;
/// User codes have no vowels and no digits that look like letters (RFC 8628 section 6.1).
const USER_CODE_LETTERS: &[u8; 16] = b"BCDFGHJKLMNPQRST";
/// The person who always approves.
pub(crate) const ACCOUNT: &str = "alex@practice.example";

/// How the provider behaves; changed at run time by `POST /_practice/settings`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Life of an access token, in seconds.
    pub(crate) token_seconds: u64,
    /// Whether replies say `expires_in`.
    pub(crate) expires_in: bool,
    /// Whether a refresh token comes with the access token.
    pub(crate) refresh_tokens: bool,
    /// Whether each refresh replaces the refresh token; the old one then betrays a thief.
    pub(crate) rotate: bool,
    /// Whether a replaced refresh token may come again all the same, as after a reply that was lost.
    pub(crate) grace: bool,
    /// Whether tokens of the GitHub paths expire and can be refreshed (a GitHub App).
    pub(crate) github_expiring: bool,
    /// Life of device and user code, in seconds.
    pub(crate) code_seconds: u64,
    /// Seconds to keep between two polls.
    pub(crate) interval: u64,
    /// Whether every login is approved at once, without a person.
    pub(crate) approve: bool,
    /// Whether each event of a stream after the first waits for `POST /_practice/next`.
    pub(crate) lock_step: bool,
    /// What the model says.
    pub(crate) reply: String,
    /// Characters in each piece of a stream; 0: a word.
    pub(crate) piece: usize,
    /// The model calls a tool: what it says is the arguments, a JSON object.
    pub(crate) call: bool,
    /// The name of that tool.
    pub(crate) tool: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token_seconds: 3600,
            expires_in: true,
            refresh_tokens: true,
            rotate: true,
            grace: false,
            github_expiring: false,
            code_seconds: 900,
            interval: 1,
            approve: false,
            lock_step: false,
            reply: "Hello from the practice provider.".to_owned(),
            piece: 0,
            call: false,
            tool: "run".to_owned(),
        }
    }
}

/// Whose manners an endpoint has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RFC 8628 and RFC 6749 to the letter.
    Standard,
    /// GitHub: errors with status 200, own error names, no expiry unless asked for.
    GitHub,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Waiting,
    Approved,
    Denied,
}

struct Code {
    device_code: String,
    user_code: String,
    client_id: String,
    scope: String,
    decision: Decision,
    until: Instant,
    interval: Duration,
    polled: Option<Instant>,
}

struct Grant {
    client_id: String,
    scope: String,
    revoked: bool,
}

enum Kind {
    Access { until: Instant },
    Refresh { spent: bool },
}

struct Token {
    grant: usize,
    kind: Kind,
}

/// All logins, in memory.
#[derive(Default)]
pub(crate) struct Ledger {
    codes: Vec<Code>,
    grants: Vec<Grant>,
    tokens: HashMap<String, Token>,
    /// Where each secret is written as it is issued, so that a leak test can look for it.
    pub(crate) secrets: Option<File>,
}

impl Ledger {
    /// Device authorization request (RFC 8628 section 3.1).
    pub(crate) fn device(&mut self, dialect: Dialect, settings: &Settings, origin: &str, fields: &Fields) -> Reply {
        let Some(client_id) = fields.get("client_id") else {
            return refuse(dialect, "invalid_request");
        };
        let code = Code {
            device_code: self.issue("dc_"),
            user_code: user_code(),
            client_id: client_id.clone(),
            scope: fields.get("scope").cloned().unwrap_or_default(),
            decision: if settings.approve { Decision::Approved } else { Decision::Waiting },
            until: Instant::now() + Duration::from_secs(settings.code_seconds),
            interval: Duration::from_secs(settings.interval),
            polled: None,
        };
        let page = match dialect {
            Dialect::Standard => format!("{origin}/device"),
            Dialect::GitHub => format!("{origin}/login/device"),
        };
        let mut reply = json!({
            "device_code": code.device_code,
            "user_code": code.user_code,
            "verification_uri": page,
            "expires_in": settings.code_seconds,
            "interval": settings.interval,
        });
        if dialect == Dialect::Standard {
            let complete = format!("{page}?user_code={}", code.user_code);
            reply["verification_uri_complete"] = json!(complete);
        }
        self.codes.push(code);
        (200, reply)
    }

    /// A person's yes or no to a user code; without a code, to the newest one. False when there is no such code.
    pub(crate) fn decide(&mut self, user_code: Option<&str>, yes: bool) -> bool {
        let wanted = |code: &&mut Code| {
            code.decision == Decision::Waiting
                && user_code.is_none_or(|wanted| code.user_code.eq_ignore_ascii_case(wanted))
        };
        let Some(code) = self.codes.iter_mut().rev().find(wanted) else {
            return false;
        };
        code.decision = if yes { Decision::Approved } else { Decision::Denied };
        true
    }

    /// Token request: a poll (RFC 8628 section 3.4) or a refresh (RFC 6749 section 6).
    pub(crate) fn token(&mut self, dialect: Dialect, settings: &Settings, fields: &Fields) -> Reply {
        match fields.get("grant_type").map(String::as_str) {
            Some(DEVICE_GRANT) => self.poll(dialect, settings, fields),
            Some("refresh_token") => self.refresh(dialect, settings, fields),
            _ => refuse(dialect, "unsupported_grant_type"),
        }
    }

    fn poll(&mut self, dialect: Dialect, settings: &Settings, fields: &Fields) -> Reply {
        let unknown = match dialect {
            Dialect::Standard => "invalid_grant",
            Dialect::GitHub => "incorrect_device_code",
        };
        let sent = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let Some(at) = self
            .codes
            .iter()
            .position(|code| code.device_code == sent("device_code") && code.client_id == sent("client_id"))
        else {
            return refuse(dialect, unknown);
        };
        let now = Instant::now();
        let code = &mut self.codes[at];
        let early = code.polled.is_some_and(|last| now - last < code.interval);
        code.polled = Some(now);
        if now >= code.until {
            return refuse(dialect, "expired_token");
        }
        if early {
            code.interval += Duration::from_secs(SLOW_DOWN_SECONDS);
            let (status, mut reply) = refuse(dialect, "slow_down");
            if dialect == Dialect::GitHub {
                reply["interval"] = json!(code.interval.as_secs());
            }
            return (status, reply);
        }
        match code.decision {
            Decision::Waiting => refuse(dialect, "authorization_pending"),
            Decision::Denied => refuse(dialect, "access_denied"),
            Decision::Approved => {
                let code = self.codes.remove(at);
                self.grants.push(Grant { client_id: code.client_id, scope: code.scope, revoked: false });
                (200, self.hand_out(dialect, settings, self.grants.len() - 1))
            }
        }
    }

    fn refresh(&mut self, dialect: Dialect, settings: &Settings, fields: &Fields) -> Reply {
        let error = match dialect {
            Dialect::Standard => "invalid_grant",
            Dialect::GitHub => "bad_refresh_token",
        };
        let sent = fields.get("refresh_token").cloned().unwrap_or_default();
        let Some(Token { grant: at, kind: Kind::Refresh { spent } }) = self.tokens.get_mut(&sent) else {
            return refuse(dialect, error);
        };
        let (at, reused) = (*at, *spent);
        *spent = settings.rotate;
        let grant = &mut self.grants[at];
        if fields.get("client_id") != Some(&grant.client_id) {
            return refuse(dialect, error);
        }
        // RFC 9700 section 4.14: a spent refresh token means that two hold it, so nobody keeps the grant.
        grant.revoked |= reused && !settings.grace;
        if grant.revoked {
            return refuse(dialect, error);
        }
        if dialect == Dialect::GitHub {
            let old = |token: &Token| token.grant == at && matches!(token.kind, Kind::Access { .. });
            self.tokens.retain(|_, token| !old(token));
        }
        (200, self.hand_out(dialect, settings, at))
    }

    fn hand_out(&mut self, dialect: Dialect, settings: &Settings, grant: usize) -> Value {
        let expiring = dialect == Dialect::Standard || settings.github_expiring;
        let prefix = match (dialect, expiring) {
            (Dialect::Standard, _) => "at_",
            (Dialect::GitHub, false) => "gho_",
            (Dialect::GitHub, true) => "ghu_",
        };
        let access = self.issue(prefix);
        let life = if expiring {
            Duration::from_secs(settings.token_seconds)
        } else {
            Duration::from_secs(GITHUB_REFRESH_SECONDS)
        };
        let kind = Kind::Access { until: Instant::now() + life };
        self.tokens.insert(access.clone(), Token { grant, kind });
        let mut reply = json!({
            "access_token": access,
            "token_type": "bearer",
            "scope": self.grants[grant].scope,
        });
        if expiring && settings.expires_in {
            reply["expires_in"] = json!(settings.token_seconds);
        }
        let held = |token: &Token| token.grant == grant && matches!(token.kind, Kind::Refresh { spent: false });
        if expiring && settings.refresh_tokens && !self.tokens.values().any(held) {
            let refresh = self.issue(if prefix == "ghu_" { "ghr_" } else { "rt_" });
            let kind = Kind::Refresh { spent: false };
            self.tokens.insert(refresh.clone(), Token { grant, kind });
            reply["refresh_token"] = json!(refresh);
            if dialect == Dialect::GitHub {
                reply["refresh_token_expires_in"] = json!(GITHUB_REFRESH_SECONDS);
            }
        }
        reply
    }

    /// RFC 7009: 200 whether or not the token was known; a refresh token takes its whole grant along.
    pub(crate) fn revoke(&mut self, fields: &Fields) -> Reply {
        let token = fields.get("token").and_then(|sent| self.tokens.remove(sent));
        if let Some(Token { grant, kind: Kind::Refresh { .. } }) = token {
            self.grants[grant].revoked = true;
        }
        (200, json!({}))
    }

    /// Whether an access token was issued here, lives and was not revoked.
    pub(crate) fn holds(&self, token: &str) -> bool {
        match self.tokens.get(token) {
            Some(Token { grant, kind: Kind::Access { until } }) => {
                Instant::now() < *until && !self.grants[*grant].revoked
            }
            _ => false,
        }
    }

    fn issue(&mut self, prefix: &str) -> String {
        let bytes = secret::random::<20>().expect("the system's random source works");
        let text = format!("{prefix}{}", secret::hex(&bytes));
        if let Some(file) = &mut self.secrets {
            writeln!(file, "{text}").expect("the list of secrets can be written");
        }
        text
    }
}

/// An error reply of the token endpoint (RFC 6749 section 5.2).
pub(crate) fn refuse(dialect: Dialect, error: &str) -> Reply {
    let status = match dialect {
        Dialect::Standard => 400,
        Dialect::GitHub => 200,
    };
    let description = "made by the practice provider";
    (status, json!({"error": error, "error_description": description}))
}

fn user_code() -> String {
    let bytes = secret::random::<8>().expect("the system's random source works");
    let letter = |byte: &u8| char::from(USER_CODE_LETTERS[usize::from(byte % 16)]);
    let (left, right) = bytes.split_at(4);
    let side = |half: &[u8]| half.iter().map(letter).collect::<String>();
    format!("{}-{}", side(left), side(right))
}
