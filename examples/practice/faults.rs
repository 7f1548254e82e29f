//! What can be made to go wrong on demand: `POST /_practice/fault` with `{"path":…,"times":1,"kind":…}`.
//! Must never fire more often than it was asked to.

use crate::delivery::{Answer, Content};
use crate::oauth::{self, Dialect};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// One order: the next `times` requests for `path` fail in this way.
#[derive(Deserialize)]
pub(crate) struct Fault {
    /// The path as it is requested; `*` is every path.
    path: String,
    /// How many requests, 1 when absent.
    #[serde(default = "once")]
    times: u32,
    #[serde(flatten)]
    kind: Kind,
}

/// Ways to fail. The first five replace the answer: the request has no effect. The others spoil the delivery of the true answer.
#[derive(Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Any status, headers and body; without a body the error body of the API that was called.
    Status {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        body: Option<String>,
    },
    /// An error of the token endpoint: `slow_down`, `access_denied`, `expired_token` or any other word.
    OauthError { error: String },
    /// A page where JSON was expected.
    Html,
    /// Redirect 307 to another place.
    Redirect { location: String },
    /// A JSON string of this many bytes.
    Oversized { bytes: usize },
    /// The true answer, compressed although nobody asked for it.
    Gzip,
    /// The connection is closed without a byte of reply.
    Close,
    /// Cut after so many events of a stream, or in the middle of a plain body.
    Cut {
        #[serde(default)]
        after: usize,
    },
    /// Nothing more after so many events of a stream, or before the head when `after` is absent; until
    /// `POST /_practice/release` or until the client leaves.
    Silence { after: Option<usize> },
    /// Chunks until the client leaves.
    Endless,
}

fn once() -> u32 {
    1
}

/// The first order that fits a path, counted down and removed when used up.
pub(crate) fn take(faults: &mut Vec<Fault>, path: &str) -> Option<Kind> {
    let fits = |fault: &Fault| fault.path == "*" || fault.path == path;
    let at = faults.iter().position(fits)?;
    let fault = &mut faults[at];
    let kind = fault.kind.clone();
    fault.times = fault.times.saturating_sub(1);
    if fault.times == 0 {
        faults.remove(at);
    }
    Some(kind)
}

impl Kind {
    /// The answer that stands in for the true one, where this fault has one.
    pub(crate) fn stand_in(&self, path: &str, error: impl Fn(u16) -> String) -> Option<Answer> {
        Some(match self {
            Self::Status { status, headers, body } => {
                let body = body.clone().unwrap_or_else(|| error(*status));
                let mut answer = Answer::new(*status, "application/json", body);
                for (name, value) in headers {
                    answer = answer.with(name, value);
                }
                answer
            }
            Self::OauthError { error } => {
                let dialect = if path.starts_with("/login/") { Dialect::GitHub } else { Dialect::Standard };
                let (status, body) = oauth::refuse(dialect, error);
                Answer::new(status, "application/json", body.to_string())
            }
            Self::Html => {
                let page = "<!doctype html><title>Gateway</title><h1>Please sign in</h1>";
                Answer::new(200, "text/html; charset=utf-8", page.to_owned())
            }
            Self::Redirect { location } => {
                let body = json!({"moved": true}).to_string();
                Answer::new(307, "application/json", body).with("location", location)
            }
            Self::Oversized { bytes } => {
                let body = json!("a".repeat(*bytes)).to_string();
                Answer::new(200, "application/json", body)
            }
            Self::Gzip | Self::Close | Self::Cut { .. } | Self::Silence { .. } | Self::Endless => {
                return None;
            }
        })
    }
}

/// The answer as gzip (RFC 1952), its one block stored and not compressed (RFC 1951 section 3.2.4). At most 65,535 bytes.
pub(crate) fn gzip(mut answer: Answer) -> Answer {
    let plain = match answer.content {
        Content::Whole(body) => body,
        Content::Events(events) => events.concat().into_bytes(),
    };
    let length = u16::try_from(plain.len()).expect("practice replies are short");
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(&plain);
    packed.extend(checksum(&plain).to_le_bytes());
    packed.extend(u32::from(length).to_le_bytes());
    answer.content = Content::Whole(packed);
    answer.with("content-encoding", "gzip")
}

/// CRC-32 as RFC 1952 section 8 defines it.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |rest: u32, _| match rest & 1 {
        1 => (rest >> 1) ^ 0xedb8_8320,
        _ => rest >> 1,
    };
    let fold = |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), step);
    !bytes.iter().fold(u32::MAX, fold)
}
