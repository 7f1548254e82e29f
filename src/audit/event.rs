//! What one line of the log says about one request or act.
//! Must never be given content or matched text: texts of the client are cut to a few safe characters here.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text of the client (`model`, `client`) in a line, in characters.
const MAX_CLIENT_TEXT: usize = 64;
/// Most findings in one line, so that no request can make a line without end.
const MAX_FINDINGS: usize = 200;

/// How a request or act ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, and the whole answer was handed over.
    #[default]
    Complete,
    /// The client left before the end.
    ClientLeft,
    /// The provider's answer ended before its end.
    UpstreamCut,
    /// Refused before the policy was asked: key, route, limits, malformed body.
    Refused,
    /// Stopped by policy.
    Blocked,
    /// Failed on our side or on the way to the provider.
    Error,
}

/// One finding of the scanner, without what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: String,
    /// One of the seven categories.
    pub category: String,
    /// What was done: `block`, `withhold`, `redact`, `warn`, `allow`, or `restore_refused`.
    pub action: String,
    /// Where in the body: known field names and indexes only, such as `messages[2].content`.
    pub location: String,
    /// The 8 characters by which `infershield allow` names it.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// What a caller says about one request or act. [`Event::new`] fills in 0, none and `complete`; set the public members that apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Whose request or login.
    pub user_id: Option<String>,
    /// Id of the local key, never the key.
    pub key_id: Option<String>,
    /// Id of the provider.
    pub provider: Option<String>,
    /// `chat.completion`, `responses`, `messages`, `embeddings`, `models`, `serve.start`, `auth.login`, …
    pub action: String,
    /// 0 to 100.
    pub risk_score: u8,
    /// True when policy stopped the request.
    pub blocked: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The id in the reply's `x-infershield-request-id`.
    pub request_id: Option<String>,
    /// The model as the client named it; cut to 64 safe characters in the line.
    pub model: Option<String>,
    /// The client's `user-agent`; cut to 64 safe characters in the line.
    pub client: Option<String>,
    /// HTTP status of the reply, 0 when there was none.
    pub status: u16,
    /// Milliseconds from the end of the request's head to the end of the reply.
    pub duration_ms: u64,
    /// Milliseconds from the end of the request's head to the first byte of the reply.
    pub ttfb_ms: u64,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body.
    pub bytes_out: u64,
    /// Prompt tokens as the provider counted them.
    pub tokens_in: u64,
    /// Completion tokens as the provider counted them.
    pub tokens_out: u64,
    /// Parts of the request that cannot be scanned: images, files, references.
    pub unscanned: u64,
    /// What the scanner found, the worst first: a line holds 200 at most.
    pub findings: Vec<Finding>,
    /// Which policy judged.
    pub policy: Option<String>,
    /// How many alike events the line stands for: 1, or more for refusals before authentication.
    pub count: u64,
}

/// A line as it stands in the log, all but its last member, the mac.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Number of the line, from 1, without gaps over all months.
    pub seq: u64,
    /// Seconds since 1970 (UTC).
    pub timestamp: u64,
    /// What the line says.
    #[serde(flatten)]
    pub event: Event,
    /// Id of the audit key.
    pub kid: String,
    /// `mac` of the line before; 64 zeros in the first line.
    pub prev: String,
}

impl fmt::Display for Outcome {
    /// The word in the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Event {
    /// An event that says nothing but its action.
    pub fn new(action: &str) -> Self {
        Self { action: action.to_owned(), count: 1, ..Self::default() }
    }

    /// As much of this event as a line may hold. In what is left of the client's texts there is nothing that a terminal,
    /// a browser, a spreadsheet or a shell could take for more than text.
    pub(super) fn trimmed(&self) -> Self {
        let mut event = self.clone();
        let harmless = |c: char| c.is_ascii_alphanumeric() || " ._-:;,/()[]".contains(c);
        for text in [&mut event.model, &mut event.client].into_iter().flatten() {
            let kept = text.chars().take(MAX_CLIENT_TEXT);
            *text = kept.map(|c| if harmless(c) { c } else { '_' }).collect();
        }
        event.findings.truncate(MAX_FINDINGS);
        event
    }
}
