//! What the backend of ChatGPT accounts takes of the Responses API. Must never change a body: it says what is wrong with one.

use super::Family;
use serde::Deserialize;
use serde_json::Value;

/// The members that it has rules about.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    stream: Value,
    store: Value,
    instructions: Value,
}

/// Checks a request whose body [`super::extract`] has read.
///
/// # Errors
/// When the backend would refuse the request: what it would have to be, for the client.
pub fn chatgpt_takes(family: Family, body: &[u8]) -> Result<(), String> {
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let wanted = match (family, body.stream, body.store, body.instructions) {
        (Family::Responses, Value::Bool(true), Value::Bool(false), Value::String(_)) => return Ok(()),
        (Family::Responses, Value::Bool(true), Value::Bool(false), _) => "`instructions` as a text, which may be empty",
        (Family::Responses, Value::Bool(true), ..) => "`store` false",
        (Family::Responses, ..) => "`stream` true",
        _ => "/responses; use a client that speaks Responses, or log in with an API key",
    };
    Err(format!("a login with a ChatGPT account takes only {wanted}"))
}
