//! GitHub Copilot's second exchange: a login's token for a short-lived one, which is what its API takes from editors.
//! Must never let the new token be sent to a host that the row does not foresee.

use super::{Error, Result, clean, fetch};
use crate::origin::{Endpoint, is_below};
use crate::secret::Secret;
use crate::upstream::Upstream;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a request that holds an image says of itself, else the API refuses it; added where the client does not say so.
pub const VISION: (&str, &str) = ("copilot-vision-request", "true");
/// The name that GitHub's replies have their id under. Its editors take an error without one for that of a network which breaks
/// connections open, and warn.
pub const REQUEST_ID: &str = "x-github-request-id";

/// A part of a provider's row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Client ids whose tokens need it; the API takes those of others as they are.
    pub client_ids: Vec<String>,
    /// Where a token is exchanged.
    pub endpoint: Endpoint,
    /// The host of the API that the answer names must be below this name.
    pub below: String,
    /// Headers that the API wants with an exchanged token, added where the client sends none of that name.
    pub headers: BTreeMap<String, String>,
}

/// An exchanged token. Times are seconds since 1970.
#[derive(Clone, Debug)]
pub struct ShortLived {
    /// Sent to the API.
    pub token: Secret,
    /// The token that it was made of.
    pub made_of: Secret,
    /// The API, where the answer names it.
    pub api_base: Option<Endpoint>,
    /// When the server wants it renewed.
    pub renew_at: u64,
    /// When it ends.
    pub ends_at: u64,
}

/// Exchanges a login's token at `now`. [`Error::LoginOver`] means that it is not taken any more.
pub fn exchange(up: &Upstream, row: &Exchange, token: &Secret, now: u64) -> Result<ShortLived> {
    let mut answer = fetch(up, &row.endpoint, Some(token))?;
    let words = answer.text("error_details.message").or_else(|| answer.text("message")).map(clean);
    match (answer.status, words.unwrap_or_default()) {
        (401, _) => return Err(Error::LoginOver("status 401".into())),
        // A limit, and no verdict on the login.
        (403, words) if words.contains("rate limit") => return Err(answer.lacks("a token")),
        (_, words) => drop(answer.members.insert("error_description".into(), Secret::new(words))),
    }
    let mut answer = answer.accepted()?;
    let api_base = answer.text("endpoints.api").map(|url| {
        let api = Endpoint::try_from(url.to_owned()).ok().filter(|api| is_below(api.origin().host(), &row.below));
        let what =
            format!("the token is for {}, which is not below {}; type `infershield hosts`", clean(url), row.below);
        api.ok_or(Error::Config(what))
    });
    let api_base = api_base.transpose()?;
    let ends_at = answer.number("expires_at").ok_or_else(|| answer.lacks("`expires_at`"))?;
    let renew_at = now.saturating_add(answer.number("refresh_in").unwrap_or(0));
    let made_of = token.clone();
    let token = answer.take("token").ok_or_else(|| answer.lacks("a token"))?;
    Ok(ShortLived { token, made_of, api_base, renew_at, ends_at })
}
