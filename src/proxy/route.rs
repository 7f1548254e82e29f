//! Which API a request speaks, which provider it goes to, and why. Must never send anything.

use super::Stop;
use crate::api::{Family, Refused};
use crate::config::Settings;
use crate::flow::provider::{Login, Provider, named};

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

/// Reads the first line of a request: the provider that the path names, if it names one, and the API. `takes_any`: the client
/// brings its own credential, so that paths count which we know nothing of.
pub fn called<'p>(method: &str, path: &'p str, takes_any: bool) -> Result<(Option<&'p str>, Family), Stop> {
    let any = takes_any.then_some((None, Family::Other));
    let (name, family) = parse(path).or(any).ok_or_else(unknown)?;
    if !family.methods().contains(&method) {
        return Err(Stop::new(Refused::METHOD, format!("{path} takes {} only", family.methods().join(" and "))));
    }
    Ok((name, family))
}

/// Chooses by, in this order: the provider named in the path, `own` (the only one that the local key is good for, if it is
/// bound), `messages` → a provider that speaks only those when logged in, what the name of the `model` begins with when
/// several logins fit, `default_provider` unless it does not serve the API and a login does, the only login that serves it.
/// `logins` are the providers that the user has a login for.
pub fn choose<'a>(
    providers: &'a [Provider],
    settings: &Settings,
    own: Option<&str>,
    logins: &[String],
    (name, family): (Option<&str>, Family),
    model: impl FnOnce() -> Option<String>,
) -> Result<Route<'a>, Stop> {
    let usable = providers.iter().filter(|one| one.login == Login::None || logins.contains(&one.id));
    let anthropic = usable.clone().find(|one| family.is_anthropic() && one.id == "anthropic");
    let fitting: Vec<&Provider> = usable.filter(|one| one.serves(family)).collect();
    // Who does not serve this API cannot be meant by it, as long as somebody does.
    let is_meant = |one: &Provider| one.serves(family) || fitting.is_empty();
    let wanted = settings.default_provider.as_deref();
    let default = wanted.filter(|id| named(providers, id).is_none_or(is_meant));
    let (id, why) = match (name, own, anthropic, by_model(&fitting, model), default) {
        (Some(name), ..) => (name, "named in the path"),
        (_, Some(own), ..) => (own, "the key's own"),
        (_, _, Some(anthropic), ..) => (anthropic.id.as_str(), "messages go to anthropic"),
        (_, _, _, Some(maker), _) => (maker.id.as_str(), "the model's name"),
        (_, _, _, _, Some(default)) => (default, "default_provider"),
        _ if wanted.is_some() => (only(fitting, family)?, "the only login that serves it; default_provider does not"),
        _ => (only(fitting, family)?, "the only login"),
    };
    let provider = named(providers, id).ok_or_else(|| {
        if name.is_some() {
            return unknown();
        }
        let gone = format!("provider `{id}` is not in the table any more; type `infershield hosts` for those that are");
        Stop::new(Refused::LOGIN_NEEDED, gone)
    })?;
    if let Some(own) = own.filter(|own| *own != provider.id) {
        let message =
            format!("this local key is for provider `{own}` only; use a key of its own for `{}`", provider.id);
        return Err(Stop::new(Refused::KEY_UNKNOWN, message));
    }
    if !provider.serves(family) {
        let (id, path) = (&provider.id, family.path());
        let other = if family.is_anthropic() { "anthropic" } else { "PROVIDER" };
        let message = format!(
            "provider `{id}` does not serve {path}; type `infershield auth login {other}` for one that does, or see `apis` in its row"
        );
        return Err(Stop::new(Refused::NOT_SERVED, message));
    }
    Ok(Route { family, provider, why })
}

/// Splits `/{provider}/v1/…`, `/{provider}/…`, `/v1/…` and `/…` into the provider's name and the API.
pub(super) fn parse(path: &str) -> Option<(Option<&str>, Family)> {
    if let Some(family) = Family::from_path(path) {
        return Some((None, family));
    }
    let (name, _) = path.strip_prefix('/')?.split_once('/')?;
    let family = Family::from_path(path.get(name.len() + 1..)?)?;
    Some((Some(name), family))
}

/// Of several providers that fit, the one whose row has the longest beginning of the model's name; of two, the first.
fn by_model<'a>(fitting: &[&'a Provider], model: impl FnOnce() -> Option<String>) -> Option<&'a Provider> {
    let model = if fitting.len() > 1 { model()? } else { return None };
    let known = |one: &&Provider| one.models.iter().filter(|start| model.starts_with(*start)).map(String::len).max();
    fitting.iter().rev().copied().filter(|one| known(one).is_some()).max_by_key(known)
}

/// The one provider that fits, when there is one only.
fn only(fitting: Vec<&Provider>, family: Family) -> Result<&str, Stop> {
    let path = family.path();
    let message = match fitting.as_slice() {
        [only] => return Ok(&only.id),
        [] => format!("no login for {path}; type `infershield auth login PROVIDER`"),
        [one, other, ..] => {
            let (one, other) = (&one.id, &other.id);
            format!("several logins fit ({one}, {other}, …); call /{one}{path} or set default_provider in config.json")
        }
    };
    Err(Stop::new(Refused::LOGIN_NEEDED, message))
}

fn unknown() -> Stop {
    let paths = Family::ALL.map(Family::path).join(", /v1");
    let message = format!("there is no such path; there are /v1{paths}, each also below /PROVIDER, and /health");
    Stop::new(Refused::PATH_UNKNOWN, message)
}
