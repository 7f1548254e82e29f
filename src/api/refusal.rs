//! What a refused client is told, in the error shape of the API that it called.
//! Must never quote what the client sent; statuses are those that real clients show word for word and do not retry.

use super::Family;
use serde_json::json;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status, but see [`Refused::status`].
    pub status: u16,
    /// What follows `infershield_` in the machine-readable code.
    pub code: &'static str,
}

impl Refused {
    /// The head is not allowed HTTP, or two readers could understand it differently.
    pub const BAD_REQUEST: Self = Self { status: 400, code: "bad_request" };
    /// `Host` is not a name of this proxy.
    pub const HOST: Self = Self { status: 403, code: "host" };
    /// `Origin` belongs to a web page of somebody else.
    pub const ORIGIN: Self = Self { status: 403, code: "origin" };
    /// No local key, an unknown one, a revoked or expired one.
    pub const KEY_UNKNOWN: Self = Self { status: 400, code: "key_unknown" };
    /// No such path.
    pub const PATH_UNKNOWN: Self = Self { status: 404, code: "path_unknown" };
    /// The provider does not speak this API. Not 404: Claude Code would say that the model does not exist.
    pub const NOT_SERVED: Self = Self { status: 400, code: "not_served" };
    /// The path exists, the method does not.
    pub const METHOD: Self = Self { status: 405, code: "method" };
    /// The body is compressed or otherwise encoded.
    pub const ENCODING: Self = Self { status: 400, code: "encoding" };
    /// The body cannot be read in one way only; see [`super::extract`].
    pub const MALFORMED: Self = Self { status: 400, code: "malformed" };
    /// Policy stopped the request.
    pub const BLOCKED: Self = Self { status: 400, code: "blocked" };
    /// The provider login is missing, dead or suspect, or the provider refused our credential.
    pub const LOGIN_NEEDED: Self = Self { status: 400, code: "login_needed" };
    /// The audit log is not what was written.
    pub const AUDIT_BROKEN: Self = Self { status: 400, code: "audit_broken" };
    /// The login is good, but not for this API, or not for a body like this.
    pub const LOGIN_UNFIT: Self = Self { status: 400, code: "login_unfit" };
    /// The provider cannot be reached, breaks the protocol or redirects.
    pub const PROVIDER: Self = Self { status: 502, code: "provider" };
    /// Something that heals by itself; belongs together with a `retry-after` header.
    pub const UNAVAILABLE: Self = Self { status: 503, code: "unavailable" };
    /// The client left: there is no reply.
    pub const CLIENT_LEFT: Self = Self { status: 0, code: "client_left" };

    /// The HTTP status. What only a person can repair is 400, on Anthropic's paths 451: of all statuses tried with
    /// real clients these are shown and not retried.
    pub fn status(self, family: Option<Family>) -> u16 {
        let is_for_a_person = self.status == 400 && ![Self::BAD_REQUEST.code, Self::PROVIDER.code].contains(&self.code);
        if is_for_a_person && family.is_some_and(Family::is_anthropic) { 451 } else { self.status }
    }
}

/// Status and JSON body of a refusal; without a family the shape is OpenAI's, which all clients understand.
/// A `message` that does not begin with `InferShield` gets that word put before it.
pub fn refusal(family: Option<Family>, kind: Refused, message: &str) -> (u16, Vec<u8>) {
    let begun = if message.starts_with("InferShield") { "" } else { "InferShield: " };
    let message = format!("{begun}{message}");
    let (status, code) = (kind.status(family), format!("infershield_{}", kind.code));
    let class = if status < 500 { "invalid_request_error" } else { "server_error" };
    let body = match family {
        Some(family) if family.is_anthropic() => json!({"type": "error", "error": {"type": code, "message": message}}),
        _ => json!({"error": {"message": message, "type": class, "param": null, "code": code}}),
    };
    (status, body.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_refusal_has_the_shape_of_the_api_that_was_called() {
        let (status, body) = refusal(Some(Family::Chat), Refused::BLOCKED, "InferShield blocked this");
        let expected = json!({"error": {"message": "InferShield blocked this", "type": "invalid_request_error",
            "param": null, "code": "infershield_blocked"}});
        assert_eq!((status, serde_json::from_slice::<Value>(&body).unwrap()), (400, expected));

        let (status, body) = refusal(Some(Family::Messages), Refused::BLOCKED, "a \"quoted\" reason");
        let expected = json!({"type": "error", "error": {"type": "infershield_blocked",
            "message": "InferShield: a \"quoted\" reason"}});
        assert_eq!((status, serde_json::from_slice::<Value>(&body).unwrap()), (451, expected));
    }

    #[test]
    fn what_a_person_must_repair_has_the_status_that_clients_show_and_do_not_retry() {
        let by_a_person = [Refused::KEY_UNKNOWN, Refused::LOGIN_NEEDED, Refused::NOT_SERVED, Refused::AUDIT_BROKEN];
        for kind in by_a_person.into_iter().chain([Refused::BLOCKED, Refused::MALFORMED, Refused::ENCODING]) {
            for family in Family::ALL {
                let expected = if family.path().starts_with("/messages") { 451 } else { 400 };
                assert_eq!(kind.status(Some(family)), expected, "{kind:?} {family:?}");
            }
            assert_eq!(kind.status(None), 400);
        }
        let upgrade = Refused { status: 426, code: "no_websocket" };
        let too_large = Refused { status: 413, code: "too_large" };
        assert_eq!(Refused::BAD_REQUEST.status(Some(Family::Messages)), 400);
        assert_eq!(upgrade.status(Some(Family::Responses)), 426);
        assert_eq!(too_large.status(Some(Family::Messages)), 413);
    }
}
