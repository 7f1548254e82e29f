//! Segments in, findings and score out; rules are data. Pure: the same text, source and rules always give the same findings.
//! Must never know HTTP, files or keys, and must never keep or print the text that it was given.

mod engine;
mod line;
mod policy;
mod rule;
mod validate;
mod views;

pub use engine::Scanner;
pub use line::{Answer, Malformed, scan_line};
pub use policy::{Policy, Response, Thresholds, Verdict, judge};
pub use rule::Error;

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What kind of threat a finding is; the names are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// A credential that opens something.
    Secret,
    /// Data about a person.
    Pii,
    /// Orders to the model against its instructions, or for the hidden prompt.
    Injection,
    /// An attempt to talk the model out of its rules.
    Jailbreak,
    /// Secrets, files or the conversation on their way to somebody else.
    Exfiltration,
    /// A command that destroys, or hands over the machine.
    Command,
    /// A threat that was encoded or disguised.
    Obfuscation,
}

impl Category {
    /// The contract's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Pii => "pii",
            Self::Injection => "injection",
            Self::Jailbreak => "jailbreak",
            Self::Exfiltration => "exfiltration",
            Self::Command => "command",
            Self::Obfuscation => "obfuscation",
        }
    }
}

/// How bad it is when the finding is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the four names say it")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// What the policy does about a finding, weakest first; the names are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing.
    Allow,
    /// It is reported and goes on.
    Warn,
    /// The value is replaced by a placeholder.
    Redact,
    /// The segment is replaced by a notice.
    Withhold,
    /// The request is refused.
    Block,
}

impl Action {
    /// The contract's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Redact => "redact",
            Self::Withhold => "withhold",
            Self::Block => "block",
        }
    }
}

/// Who wrote a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The person at the keyboard, as far as the request says.
    #[default]
    User,
    /// The client's own prompt.
    System,
    /// The result of a tool call.
    Tool,
    /// The model.
    Assistant,
    /// A file, a page, the description of a tool.
    Document,
}

/// Where in the conversation a segment stands; decides what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Written by the user after the last assistant item: the one place where refusing the request costs no history.
    LastUserTurn,
    /// The system prompt, which is the client's own.
    System,
    /// Earlier turns, tool results, documents, assistant text.
    Elsewhere,
}

impl Place {
    /// The place of a text that stands alone, as in `scan`: what the user writes is the last user turn.
    pub fn alone(source: Source) -> Self {
        match source {
            Source::User => Self::LastUserTurn,
            Source::System => Self::System,
            Source::Tool | Source::Assistant | Source::Document => Self::Elsewhere,
        }
    }
}

/// One threat in one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Id of the rule, such as `secret.github-token`.
    pub rule: Arc<str>,
    /// The rule's category.
    pub category: Category,
    /// The rule's severity.
    pub severity: Severity,
    /// What this finding alone adds to the score, 0 to 100; the source is already taken into account.
    pub weight: u8,
    /// First byte in the scanned text; a character boundary.
    pub start: usize,
    /// One past the last byte in the scanned text; a character boundary.
    pub end: usize,
}
