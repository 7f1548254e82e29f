//! Segments in, findings and score out; rules are data. Pure: the same text, source and rules always give the same findings.
//! Must never know HTTP, files or keys, and must never keep or print the text that it was given.

mod decode;
mod engine;
mod explain;
mod keywords;
mod learned;
mod line;
mod mention;
mod numbers;
mod policy;
mod prefilter;
mod rule;
mod rule_files;
mod seen;
mod tokens;
mod validate;
mod views;
mod words;

pub use engine::BUILTIN;
pub use explain::{Explanation, explain};
pub use line::scan_line;
pub use policy::{Policy, Response, judge};
pub use prefilter::Scanner;
pub use seen::{Memory, Reason, Seen, Stopped};

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of threat a finding is; the names are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl fmt::Display for Category {
    /// The contract's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How bad it is when the finding is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the four names say it")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// What the policy does about a finding, weakest first; the names are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl fmt::Display for Action {
    /// The contract's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Who wrote a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// One threat in one text. As JSON it has the members of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the rule, such as `secret.github-token`.
    pub rule: String,
    /// The rule's category.
    pub category: Category,
    /// The rule's severity.
    pub severity: Severity,
    /// What the policy does about it; [`Action::Block`] until [`judge`] has asked.
    pub action: Action,
    /// First byte in the scanned text; a character boundary.
    pub start: usize,
    /// One past the last byte in the scanned text; a character boundary.
    pub end: usize,
    /// What this finding alone adds to the score, 0 to 100; the source is already taken into account.
    #[serde(skip)]
    pub weight: u8,
}
