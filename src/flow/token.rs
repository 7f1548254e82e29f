//! Token replies and whose they are, the refresh grant (RFC 6749, 6) and revocation (RFC 7009).
//! Must never take a fault of the network or of a busy server for the end of a login, or decide by the name of an account.

use super::{Answer, Error, Result, exchange, fetch, members, post};
use crate::secret::Secret;
use crate::upstream::{Endpoint, Upstream};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Codes that end a login for good, of RFC 6749, GitHub, OpenAI and Entra.
const LOGIN_OVER: &str = "invalid_grant bad_refresh_token refresh_token_expired refresh_token_reused \
    refresh_token_invalidated interaction_required";

/// Longest life of an access token that is believed, in seconds: ten years.
const LONGEST_LIFE_SECONDS: u64 = 315_360_000;

/// Members that name an account, the most telling first: GitHub's, then OpenAI's and OpenID Connect's.
const NAMES: [&str; 6] =
    ["login", "email", "https://api.openai.com/profile.email", "preferred_username", "name", "sub"];

/// What a token endpoint gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Sent to the provider's API.
    pub access: Secret,
    /// Gets the next access token. After a refresh: `None` means that the old one stays in force.
    pub refresh: Option<Secret>,
    /// Life of the access token in seconds; `None` when the server does not say.
    pub expires_in: Option<u64>,
    /// Scopes that were granted; empty when the server does not say, which means: those that were asked for.
    pub scopes: Vec<String>,
    /// OpenID Connect identity, for display only: its signature is not checked.
    pub id_token: Option<Secret>,
}

impl Tokens {
    /// Reads the answer of a token endpoint (RFC 6749, 5).
    pub(crate) fn read(answer: Answer) -> Result<Self> {
        let mut answer = answer.accepted()?;
        let scope = answer.text("scope").unwrap_or_default();
        // GitHub separates by comma, everybody else by space.
        let scopes = scope.split([' ', ',']).filter(|scope| !scope.is_empty());
        let scopes = scopes.filter_map(|scope| answer.shown(scope)).collect();
        // What is no number must not become a token without an end.
        let life = answer.text("expires_in").map(|_| answer.number("expires_in").unwrap_or(0));
        let is_bearer = answer.text("token_type").is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let access = answer.members.remove("access_token").ok_or_else(|| answer.lacks("a token"))?;
        if !is_bearer || !access.is_credential() {
            return Err(Error::BadToken(answer.host));
        }
        Ok(Self {
            access,
            refresh: answer.take("refresh_token"),
            expires_in: life.map(|life| life.min(LONGEST_LIFE_SECONDS)),
            scopes,
            id_token: answer.take("id_token"),
        })
    }

    /// A name of their account for display, cleaned and not verified: from the identity token, else asked at `endpoint`;
    /// `None` when neither says.
    pub fn account(&self, up: &Upstream, endpoint: Option<&Endpoint>) -> Option<String> {
        let claimed = self.id_token.as_ref().and_then(|token| named(&self.claims(token)?));
        claimed.or_else(|| {
            let answer = fetch(up, endpoint?, Some(&self.access)).and_then(Answer::accepted);
            named(&answer.ok()?)
        })
    }

    /// The claims of one of these tokens.
    pub(super) fn claims(&self, token: &Secret) -> Option<Answer> {
        claims(token, [Some(&self.access), self.refresh.as_ref()].into_iter().flatten().cloned().collect())
    }
}

/// The claims of a JWT (RFC 7519), unverified. What is `sent` must not show up in them.
pub(super) fn claims(token: &Secret, sent: Vec<Secret>) -> Option<Answer> {
    let payload = token.expose().split('.').nth(1)?.trim_end_matches('=');
    let members = members(&URL_SAFE_NO_PAD.decode(payload).ok()?)?;
    Some(Answer { host: String::new(), status: 200, members, sent })
}

/// New tokens for a refresh token. One at a time per login: a rotated token is worth nothing when it is used twice.
///
/// [`Error::LoginOver`] is final, but may also mean that another process was faster: read the store again first.
/// [`Error::is_transient`] says when to keep what is there and try later; every other error is one of configuration.
pub fn refresh(up: &Upstream, to: &Endpoint, client_id: &str, refresh: &Secret) -> Result<Tokens> {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose()), ("client_id", client_id)];
    match Tokens::read(post(up, to, &fields)?) {
        Err(Error::Refused(code, _)) if LOGIN_OVER.split(' ').any(|over| over == code) => Err(Error::LoginOver(code)),
        result => result,
    }
}

/// Ends a login (RFC 7009) by its refresh token, with which the server drops what was made of it, or else by its access
/// token. `Ok` means that the server confirmed; it confirms unknown tokens too.
pub fn revoke(up: &Upstream, to: &Endpoint, client_id: &str, access: &Secret, refresh: Option<&Secret>) -> Result<()> {
    let (token, kind) = refresh.map_or((access, "access_token"), |refresh| (refresh, "refresh_token"));
    let fields = [("token", token.expose()), ("token_type_hint", kind), ("client_id", client_id)];
    post(up, to, &fields)?.accepted().map(drop)
}

/// Reports the tokens of a login as exposed, which ends them for good; GitHub mails their owner. `Ok` means that it will.
pub fn revoke_exposed(up: &Upstream, to: &Endpoint, access: &Secret, refresh: Option<&Secret>) -> Result<()> {
    let tokens: Vec<&str> = [access].into_iter().chain(refresh).map(Secret::expose).collect();
    let body = serde_json::to_vec(&BTreeMap::from([("credentials", tokens)])).unwrap_or_default();
    let request = http::Request::post(to.as_str()).header("content-type", "application/json");
    let sent = [access].into_iter().chain(refresh).cloned().collect();
    let answer = exchange(up, to, request, &Zeroizing::new(body), sent)?.accepted()?;
    if answer.status == StatusCode::ACCEPTED { Ok(()) } else { Err(answer.lacks("a confirmation")) }
}

fn named(answer: &Answer) -> Option<String> {
    let mut names = NAMES.iter().filter_map(|name| answer.shown(answer.text(name)?));
    names.find(|name| !name.trim().is_empty())
}
