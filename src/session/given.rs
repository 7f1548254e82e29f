//! API keys that the environment gives.
//! Must never take one of our own local keys for a provider's.

use super::{Error, Result};
use crate::config::variable;
use crate::flow::{self, Provider};
use crate::secret::Secret;
use crate::store;
use zeroize::Zeroizing;

/// The API key that the provider's variable holds, without what copying leaves around it; `None` when that is nothing.
///
/// # Errors
/// When it cannot be a key; the text names the variable.
pub fn given_key(provider: &Provider) -> Result<Option<Secret>> {
    let Some(name) = &provider.key_env else { return Ok(None) };
    let failed = |what: String| Error::Flow(provider.id.clone(), flow::Error::Config(what));
    let value = Zeroizing::new(variable(name).map_err(|error| failed(error.to_string()))?.unwrap_or_default());
    let key = Secret::new(value.trim().to_owned());
    // `infershield env` sets the same variables for clients, to keys that are good for nobody but us.
    if key.is_empty() || key.expose().starts_with(store::LOCAL_KEY_PREFIX) {
        return Ok(None);
    }
    let what = "holds a sign that no request can carry, or stands in quotation marks";
    let what = format!("${name} {what}: set it anew, or type `unset {name}`");
    if key.is_credential() { Ok(Some(key)) } else { Err(failed(what)) }
}
