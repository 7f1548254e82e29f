//! OpenAI's login for ChatGPT accounts, as its own CLI does it: three steps that resemble RFC 8628 and are not it. What is
//! answered is put into the words of the RFC, so that `device` does the rest.
//! Must never send a code or a token of it anywhere but to the host of the row's token endpoint.

use super::token::claims;
use super::{Answer, DeviceCode, Error, Members, Result, Tokens, post, post_json};
use crate::secret::Secret;
use crate::upstream::{Endpoint, Upstream};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names the account of a login to the backend, which serves several under one token.
pub const ACCOUNT_HEADER: &str = "chatgpt-account-id";
/// Names the program to the backend where the client has not.
pub const ORIGINATOR: (&str, &str) = ("originator", "infershield");
/// Where a token has the account's id.
const ACCOUNT_CLAIM: &str = "https://api.openai.com/auth.chatgpt_account_id";
/// What to do when no code is given.
const SWITCHED_OFF: &str = "device login is off for this account; switch it on in ChatGPT's security settings or ask \
    your workspace's admin";

/// Asks for a code.
pub(super) fn code(up: &Upstream, to: &Endpoint, client_id: &str) -> Result<Answer> {
    let mut answer = post_json(up, to, &[("client_id", client_id)])?;
    if answer.status == 404 {
        return Err(Error::Refused("status 404".into(), SWITCHED_OFF.into()));
    }
    let page = format!("{}/codex/device", to.origin());
    answer.members.insert("verification_uri".into(), Secret::new(page));
    Ok(answer)
}

/// Asks whether the person has come; if so, the code that this gives is exchanged for tokens.
pub(super) fn poll(up: &Upstream, code: &DeviceCode) -> Result<Answer> {
    let issuer = code.token_endpoint.origin();
    let to = Endpoint::try_from(format!("{issuer}/api/accounts/deviceauth/token")).map_err(Error::Network)?;
    let fields = [("device_auth_id", code.device_code.expose()), ("user_code", code.user_code.expose())];
    let mut answer = post_json(up, &to, &fields)?;
    if matches!(answer.status, 403 | 404) {
        answer.members = Members::from([("error".into(), Secret::new("authorization_pending".into()))]);
    }
    let Some(given) = answer.take("authorization_code") else { return Ok(answer) };
    let redirect = format!("{issuer}/deviceauth/callback");
    // The server made the proof itself (RFC 7636 foresees that the client does).
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", given.expose()),
        ("redirect_uri", &redirect),
        ("client_id", &code.client_id),
        ("code_verifier", answer.text("code_verifier").unwrap_or_default()),
    ];
    post(up, &code.token_endpoint, &fields).map(dated)
}

/// New tokens for a refresh token, as [`super::token::refresh`]. What the answer leaves out stays as it was; every 401 is final.
pub fn refresh(up: &Upstream, to: &Endpoint, client_id: &str, access: &Secret, refresh: &Secret) -> Result<Tokens> {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose()), ("client_id", client_id)];
    let mut answer = post(up, to, &fields)?;
    match answer.status {
        200..300 => {}
        401 => return Err(Error::LoginOver(answer.error().unwrap_or("status 401".into()))),
        _ => return Err(answer.lacks("tokens")),
    }
    let access = answer.take("access_token").unwrap_or_else(|| access.clone());
    answer.members.insert("access_token".into(), access);
    Tokens::read(dated(answer))
}

/// Ends a login, as [`super::token::revoke`].
pub fn revoke(up: &Upstream, to: &Endpoint, client_id: &str, access: &Secret, refresh: Option<&Secret>) -> Result<()> {
    let fields = match refresh {
        Some(token) => vec![("token", token.expose()), ("token_type_hint", "refresh_token"), ("client_id", client_id)],
        None => vec![("token", access.expose()), ("token_type_hint", "access_token")],
    };
    post_json(up, to, &fields)?.accepted().map(drop)
}

/// The id of the account that tokens are for, unverified: the backend checks it against the token.
pub fn account_id(tokens: &Tokens) -> Option<String> {
    let places = [tokens.id_token.as_ref(), Some(&tokens.access)].into_iter().flatten();
    let mut claims = places.filter_map(|token| tokens.claims(token));
    claims.find_map(|claims| claims.shown(claims.text(ACCOUNT_CLAIM)?))
}

/// The life of an access token by the token itself: the answer need not tell it.
fn dated(mut answer: Answer) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = answer.members.get("access_token").and_then(|token| claims(token, Vec::new()));
    if let Some(end) = claims.and_then(|claims| claims.number("exp")) {
        answer.members.insert("expires_in".into(), Secret::new(end.saturating_sub(now).to_string()));
    }
    answer
}
