//! Token replies and whose they are, the refresh grant (RFC 6749, 6) and revocation (RFC 7009).
//! Must never take a fault of the network or of a busy server for the end of a login, or decide by the name of an account.

use super::{Answer, Error, Members, Result, clean, exchange, fetch, members, post};
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

/// Members that name an account, the most telling first: GitHub's, then OpenID Connect's.
const NAMES: [&str; 5] = ["login", "email", "preferred_username", "name", "sub"];

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
        let scopes = scope.split([' ', ',']).filter(|scope| !scope.is_empty()).map(clean).collect();
        Ok(Self {
            access: answer.take("access_token").ok_or_else(|| answer.lacks("a token"))?,
            refresh: answer.take("refresh_token"),
            expires_in: answer.number("expires_in"),
            scopes,
            id_token: answer.take("id_token"),
        })
    }

    /// A name of their account for display, cleaned and not verified: from the identity token, else asked at `endpoint`;
    /// `None` when neither says.
    pub fn account(&self, up: &Upstream, endpoint: Option<&Endpoint>) -> Option<String> {
        let claimed = self.id_token.as_ref().and_then(claims).and_then(named);
        claimed.or_else(|| {
            let answer = fetch(up, endpoint?, Some(&self.access)).and_then(Answer::accepted);
            named(answer.ok()?.members)
        })
    }
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
    let answer = exchange(up, to, request, &Zeroizing::new(body))?.accepted()?;
    if answer.status == StatusCode::ACCEPTED { Ok(()) } else { Err(answer.lacks("a confirmation")) }
}

/// The claims of a JWT (RFC 7519), unverified.
fn claims(token: &Secret) -> Option<Members> {
    let payload = token.expose().split('.').nth(1)?.trim_end_matches('=');
    members(&URL_SAFE_NO_PAD.decode(payload).ok()?)
}

fn named(members: Members) -> Option<String> {
    let mut names = NAMES.iter().filter_map(|name| members.get(*name)).map(|name| clean(name.expose()));
    names.find(|name| !name.trim().is_empty())
}
