//! The credential that a request carried, taken out of what its provider says back.
//! Must never let a reply's head, or the text of an error, show it to the client.

use super::Stop;
use crate::api::Refused;
use crate::redact::{Edit, apply};
use crate::secret::Secret;
use crate::upstream::{self, Response};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use memchr::memmem::find_iter;
use std::io::{Cursor, Read};

/// What stands in its place.
const MASK: &str = "[InferShield: credential]";
/// Largest body of an error that is looked through, in bytes; real ones have a few KiB. A larger one passes as it is.
const ERROR_BYTES: u64 = 1 << 20;
/// A credential below so many bytes keeps nobody out, and may be a word of any text.
const SHORTEST: usize = 8;

/// A reply that shows no credential.
type Masked = http::Response<Box<dyn Read>>;

/// The reply without `token`, in its headers and, when its status is an error's, in its body, which is read for that and fails
/// when it breaks off. The status stands all the same, and how long to wait goes to `ours`: by these a client asks again, or does not.
pub(super) fn masked(token: &Secret, reply: Response, ours: &mut HeaderMap) -> Result<Masked, Stop> {
    let (mut parts, mut rest) = reply.into_parts();
    let token = token.expose().as_bytes();
    let mut begun = Vec::new();
    if token.len() >= SHORTEST {
        for value in parts.headers.values_mut() {
            if let Some(Ok(without)) = without(token, value.as_bytes()).map(|bytes| HeaderValue::from_bytes(&bytes)) {
                *value = without;
            }
        }
        if parts.status.as_u16() >= 400
            && let Err(error) = rest.by_ref().take(ERROR_BYTES + 1).read_to_end(&mut begun)
        {
            ours.extend(parts.headers.remove(RETRY_AFTER).map(|wait| (RETRY_AFTER, wait)));
            let status = parts.status.as_u16();
            return Err(match upstream::Error::of("", error.into()) {
                upstream::Error::ClientLeft => Stop::new(Refused::CLIENT_LEFT, "the client left"),
                _ => Stop::new(
                    Refused { status, ..Refused::PROVIDER },
                    format!("the provider answered with status {status}, and what it said broke off; ask again"),
                ),
            });
        }
    }
    // Without a token to look for nothing was read.
    if (1..=ERROR_BYTES).contains(&(begun.len() as u64))
        && let Some(without) = without(token, &begun)
    {
        if parts.headers.contains_key(CONTENT_LENGTH) {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(without.len()));
        }
        begun = without;
    }
    Ok(http::Response::from_parts(parts, Box::new(Cursor::new(begun).chain(rest))))
}

/// The bytes with the mask wherever they hold the token; `None` when they do not.
fn without(token: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let edit = |at| Edit { place: at..at + token.len(), text: MASK.to_owned() };
    let edits: Vec<Edit> = find_iter(bytes, token).map(edit).collect();
    (!edits.is_empty()).then(|| apply(bytes, edits))
}
