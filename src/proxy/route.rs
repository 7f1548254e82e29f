//! Which provider a request goes to, and why. Must never look at the body, nor send anything.

use crate::api::{Family, Refused};
use crate::flow::{Api, Login, Provider};

/// What the choice depends on, besides the path.
pub struct Choices<'a> {
    /// The provider table.
    pub providers: &'a [Provider],
    /// The only provider that the local key is good for, if it is bound.
    pub key_provider: Option<&'a str>,
    /// `default_provider` of the configuration.
    pub default_provider: Option<&'a str>,
    /// Providers that the user has a login for.
    pub logins: &'a [String],
}

/// Where a request goes.
#[derive(Debug)]
pub struct Route<'a> {
    /// Which API it speaks.
    pub family: Family,
    /// The provider.
    pub provider: &'a Provider,
    /// The rule that decided, for people.
    pub why: &'static str,
}

/// Every path that is served, for the 404.
const PATHS: &str = "/v1/chat/completions, /v1/responses, /v1/messages, /v1/messages/count_tokens, /v1/completions, \
                     /v1/embeddings, /v1/models, each also below /PROVIDER, and /health";

/// Chooses by, in this order: the provider named in the path, the key's own, `messages` → a provider that speaks only
/// those when logged in, `default_provider`, the only login.
pub fn choose<'a>(choices: &Choices<'a>, method: &str, path: &str) -> Result<Route<'a>, (Refused, String)> {
    let (named, family) = parse(choices.providers, path)?;
    if method != family.method() {
        return Err((Refused::METHOD, format!("{path} takes {} only", family.method())));
    }
    let (id, why) = pick(choices, named, family)?;
    let provider = find(choices.providers, id).ok_or_else(|| {
        let message =
            format!("provider `{id}` is not in the table any more; type `infershield hosts` for those that are");
        (Refused::LOGIN_NEEDED, message)
    })?;
    if !provider.apis.contains(&api(family)) {
        let message = format!("provider `{}` does not serve {}; see `apis` in its row", provider.id, family.path());
        return Err((Refused::PATH_UNKNOWN, message));
    }
    Ok(Route { family, provider, why })
}

/// The family of a path as far as it can be told, for the shape of a refusal.
pub(super) fn family_of(path: &str) -> Option<Family> {
    Family::from_path(path).or_else(|| Family::from_path(path.get(1..)?.find('/').and_then(|at| path.get(at + 1..))?))
}

/// The word of the provider table for a family.
fn api(family: Family) -> Api {
    match family {
        Family::Chat => Api::Chat,
        Family::Responses => Api::Responses,
        Family::Messages | Family::CountTokens => Api::Messages,
        Family::Completions => Api::Completions,
        Family::Embeddings => Api::Embeddings,
        Family::Models => Api::Models,
    }
}

fn find<'a>(providers: &'a [Provider], name: &str) -> Option<&'a Provider> {
    providers.iter().find(|provider| provider.names().any(|known| known == name))
}

/// Splits `/{provider}/v1/…`, `/{provider}/…`, `/v1/…` and `/…`.
fn parse<'a>(providers: &'a [Provider], path: &str) -> Result<(Option<&'a Provider>, Family), (Refused, String)> {
    let unknown = || (Refused::PATH_UNKNOWN, format!("there is no such path; there are {PATHS}"));
    if let Some(family) = Family::from_path(path) {
        return Ok((None, family));
    }
    let (name, _) = path.strip_prefix('/').and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
    let provider = find(providers, name).ok_or_else(unknown)?;
    Ok((Some(provider), family_of(path).ok_or_else(unknown)?))
}

fn pick<'a>(
    choices: &Choices<'a>,
    named: Option<&'a Provider>,
    family: Family,
) -> Result<(&'a str, &'static str), (Refused, String)> {
    match (named, choices.key_provider) {
        (Some(named), Some(own)) if named.id != own => {
            let message =
                format!("this local key is for provider `{own}` only; use a key of its own for `{}`", named.id);
            return Err((Refused::KEY_UNKNOWN, message));
        }
        (Some(named), _) => return Ok((&named.id, "named in the path")),
        (None, Some(own)) => return Ok((own, "the key's own")),
        (None, None) => {}
    }
    let usable = |provider: &&Provider| provider.login == Login::None || choices.logins.contains(&provider.id);
    if family.is_anthropic()
        && let Some(provider) = choices.providers.iter().filter(usable).find(|provider| provider.id == "anthropic")
    {
        return Ok((&provider.id, "messages go to anthropic"));
    }
    if let Some(default) = choices.default_provider {
        return Ok((default, "default_provider"));
    }
    let mut able = choices.providers.iter().filter(usable).filter(|provider| provider.apis.contains(&api(family)));
    match (able.next(), able.next()) {
        (Some(only), None) => Ok((&only.id, "the only login")),
        (None, _) => Err((
            Refused::LOGIN_NEEDED,
            format!("no login for {}; type `infershield auth login PROVIDER`", family.path()),
        )),
        (Some(one), Some(other)) => Err((
            Refused::LOGIN_NEEDED,
            format!(
                "several logins fit ({}, {}, …); call /{}{} or set default_provider in config.json",
                one.id,
                other.id,
                one.id,
                family.path()
            ),
        )),
    }
}
