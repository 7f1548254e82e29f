//! A loopback provider to practise with: device login, refresh, revocation, six model APIs, and faults on demand.
//! It is no part of the product: it keeps everything in memory, and whoever reaches its port may steer it and read its log.
//!
//! `practice [--listen HOST:PORT] [--key KEY]... [--settings JSON] [--secrets FILE]`
//!
//! Steering, for tests and the demo:
//!
//! | Call | Effect |
//! |---|---|
//! | `/_practice/approve?user_code=CODE`, `/_practice/deny?…` | a person's answer; without a code, to the newest login |
//! | `POST /_practice/settings` | changes [`oauth::Settings`], replies with all of them |
//! | `POST /_practice/fault` | orders a [`faults::Fault`] |
//! | `POST /_practice/next` | lets a stream in lock step produce one more event |
//! | `POST /_practice/release` | ends every silence |
//! | `GET /_practice/log` | `{"requests":[…],"counts":{…}}`: every request received, and what became of it |
//! | `GET /_practice/wait?for=NAME&count=N` | returns when that count is reached, 408 after half a minute |
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a tool for tests stops at the first surprise")]

mod delivery;
mod faults;
mod models;
mod oauth;
mod room;
mod text;

use delivery::{Answer, Content, deliver};
use http::header::{HeaderMap, HeaderValue};
use infershield::server::{self, Exchange, Handler, Head, Limits, Refusal};
use lexopt::ValueExt as _;
use models::{Api, Said};
use oauth::{ACCOUNT, Dialect, Fields};
use room::{Room, State};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

/// The provider: one per process.
struct Practice {
    origin: String,
    keys: Vec<String>,
    room: Room,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut keys = Vec::new();
    let mut state = State::default();
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            lexopt::Arg::Long("listen") => listen = arguments.value()?.string()?,
            lexopt::Arg::Long("key") => keys.push(arguments.value()?.string()?),
            lexopt::Arg::Long("settings") => {
                state.settings = serde_json::from_str(&arguments.value()?.string()?)?;
            }
            lexopt::Arg::Long("secrets") => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(arguments.value()?)?;
                state.ledger.secrets = Some(file);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let listener = TcpListener::bind(&listen)?;
    let origin = format!("http://{}", listener.local_addr()?);
    writeln!(io::stdout(), "practice listening on {origin}")?;
    let practice = Practice { origin, keys, room: Room::new(state) };
    server::run(&listener, Limits::default(), &Arc::new(practice))
}

impl Handler for Practice {
    fn handle(&self, exchange: &mut Exchange, refused: Option<Refusal>) {
        if let Some(refusal) = refused {
            // Whoever sent it sees at its own end whether the reply arrives.
            let _ = exchange.respond(refusal.status, &HeaderMap::new(), refusal.reason.as_bytes());
            return;
        }
        let head = exchange.head().clone();
        let Ok(body) = exchange.read_body() else {
            return self.room.count("broken request");
        };
        if let Some(order) = head.path.strip_prefix("/_practice/") {
            let answer = self.room.steer(order, &head, &body);
            // Whoever steers sees a failure at its own end.
            let _ = deliver(&self.room, exchange, answer, None);
            return;
        }
        let (number, fault) = self.room.record(&head, &body);
        let api = Api::at(head.method.as_str(), &head.path);
        let error = |status| {
            let api = api.unwrap_or(Api::Chat);
            api.error(status, "made to fail by the practice provider").to_string()
        };
        let stand_in = fault.as_ref().and_then(|kind| kind.stand_in(&head.path, error));
        let answer = stand_in.unwrap_or_else(|| match api {
            Some(api) => self.model(api, &head.headers, &body),
            None => self.site(&head, &body),
        });
        let outcome = deliver(&self.room, exchange, answer, fault.as_ref());
        let outcome = outcome.unwrap_or("left");
        self.room.change(|state| state.requests[number]["outcome"] = json!(outcome));
        self.room.count(outcome);
        self.room.count(&format!("{outcome} {}", head.path));
    }
}

impl Practice {
    /// Discovery, the login endpoints and the pages around them.
    fn site(&self, head: &Head, body: &[u8]) -> Answer {
        let fields = text::fields(&head.headers, body);
        match (head.method.as_str(), head.path.as_str()) {
            ("GET", "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server") => self.metadata(),
            ("GET", "/oauth/jwks") => Answer::json((200, json!({"keys": []}))),
            ("POST", "/oauth/device" | "/v1/oauth/device/code") => self.device(Dialect::Standard, head, &fields),
            ("POST", "/login/device/code") => self.device(Dialect::GitHub, head, &fields),
            ("POST", "/oauth/token" | "/v1/oauth/token") => self.token(Dialect::Standard, head, &fields),
            ("POST", "/login/oauth/access_token") => self.token(Dialect::GitHub, head, &fields),
            ("POST", "/oauth/revoke" | "/v1/oauth/revoke") => {
                self.room.count("revocations");
                Answer::json(self.room.state().ledger.revoke(&fields))
            }
            ("GET", "/device" | "/login/device") => {
                let query = text::form(head.query.as_deref().unwrap_or_default());
                Answer::page(text::approval_page(query.get("user_code")))
            }
            ("POST", "/device" | "/login/device") => {
                let yes = fields.get("answer").is_some_and(|answer| answer == "approve");
                let code = fields.get("user_code").map(|code| code.trim());
                let known = code.is_some() && self.room.change(|state| state.ledger.decide(code, yes));
                Answer::page(text::decision_page(known, yes))
            }
            ("GET", "/oauth/userinfo") => {
                let claims = json!({"sub": "practice-1", "email": ACCOUNT, "preferred_username": "alex"});
                self.identity(&head.headers, claims, json!({"error": "invalid_token"}))
            }
            ("GET", "/user") => {
                let profile = json!({"login": "alex-practice", "id": 987_654, "name": "Alex", "email": null});
                self.identity(&head.headers, profile, json!({"message": "Bad credentials", "status": "401"}))
            }
            _ => Answer::json((404, Api::Chat.error(404, "no such path at the practice provider"))),
        }
    }

    /// OIDC Discovery 1.0 section 3 and RFC 8414 section 2: the same document serves both.
    fn metadata(&self) -> Answer {
        let origin = &self.origin;
        Answer::json((
            200,
            json!({
                "issuer": origin,
                "device_authorization_endpoint": format!("{origin}/oauth/device"),
                "token_endpoint": format!("{origin}/oauth/token"),
                "revocation_endpoint": format!("{origin}/oauth/revoke"),
                "userinfo_endpoint": format!("{origin}/oauth/userinfo"),
                "jwks_uri": format!("{origin}/oauth/jwks"),
                "scopes_supported": ["openid", "offline_access"],
                "grant_types_supported": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }),
        ))
    }

    fn device(&self, dialect: Dialect, head: &Head, fields: &Fields) -> Answer {
        let reply = self.room.change(|state| state.ledger.device(dialect, &state.settings, &self.origin, fields));
        self.room.count("logins");
        login_reply(dialect, head, reply)
    }

    fn token(&self, dialect: Dialect, head: &Head, fields: &Fields) -> Answer {
        let reply = self.room.change(|state| state.ledger.token(dialect, &state.settings, fields));
        let grant = fields.get("grant_type").map(String::as_str).unwrap_or_default();
        let grant = grant.rsplit(':').next().unwrap_or_default();
        let outcome = reply.1["error"].as_str().unwrap_or("ok");
        self.room.count(&format!("token {grant} {outcome}"));
        login_reply(dialect, head, reply)
    }

    fn identity(&self, headers: &HeaderMap, known: Value, unknown: Value) -> Answer {
        if self.admits(headers) { Answer::json((200, known)) } else { Answer::json((401, unknown)) }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let bearer = value("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(credential) = bearer.or(value("x-api-key")) else {
            return false;
        };
        self.keys.iter().any(|key| key == credential) || self.room.state().ledger.holds(credential)
    }

    fn model(&self, api: Api, headers: &HeaderMap, body: &[u8]) -> Answer {
        if !self.admits(headers) {
            return Answer::json((401, api.error(401, "unknown credential")));
        }
        let request = match (api, serde_json::from_slice::<Value>(body)) {
            (Api::Models, _) => Value::Null,
            (_, Ok(request)) => request,
            (_, Err(_)) => return Answer::json((400, api.error(400, "the body is not JSON"))),
        };
        let settings = self.room.state().settings.clone();
        let said = Said::new(api, &request, &settings);
        let mut answer = Answer::json((200, said.unary()));
        let events = said.events();
        if request["stream"] == true && !events.is_empty() {
            answer = answer.with("content-type", "text/event-stream");
            answer.content = Content::Events(events);
        }
        answer.with("x-request-id", "req_practice")
    }
}

/// A reply of a login endpoint; GitHub sends a form unless JSON is asked for.
fn login_reply(dialect: Dialect, head: &Head, (status, body): oauth::Reply) -> Answer {
    let asked = head.headers.get("accept").is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    let answer = match dialect == Dialect::GitHub && !asked {
        true => Answer::new(status, "application/x-www-form-urlencoded", text::to_form(&body)),
        false => Answer::json((status, body)),
    };
    answer.with("cache-control", "no-store")
}
