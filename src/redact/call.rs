//! What a call of a tool does besides writing into a file: what it says, and which hosts it names.
//! Must never take for the content of a file what a shell may run.

use super::url;
use crate::api::literals;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Members that hold what is written into a file. It is judged line by line: it may be about commands, and runs none.
pub(super) const CONTENT: [&str; 12] = [
    "content",
    "contents",
    "diff",
    "file_text",
    "insert_text",
    "new_str",
    "new_string",
    "old_str",
    "old_string",
    "patch",
    "replacement",
    "text",
];
/// Commands that do nothing with a text but write it down.
const WRITERS: [&str; 8] = ["apply_patch", "cat", "cd", "chmod", "ls", "mkdir", "tee", "touch"];
/// How a patch begins that agents write without a shell.
const PATCH: &str = "*** Begin Patch";

/// What a tool is called with, but for the content of files.
#[derive(Default)]
pub(super) struct Call {
    /// The tool, and the strings with their names, as a shell would read them: one line, without quotes and escapes.
    pub(super) says: String,
    /// `scheme://host:port` of each URL, and the name of each host.
    pub(super) leads: BTreeSet<String>,
}

impl Call {
    /// `tools`: what is called; `strings`: each with the member that it is the value of, or an item of.
    pub(super) fn of<'a, 't>(
        tools: impl Iterator<Item = &'a str>,
        strings: impl Iterator<Item = (&'t str, &'t str)>,
    ) -> Self {
        let mut call = Self::default();
        tools.for_each(|tool| call.says.push_str(&format!(" tool: {} ", words(tool))));
        let mut last = None;
        for (name, string) in strings {
            call.add(name, string, &mut last);
        }
        call.says = call.says.replace(['\n', '\r', ','], " ").replace(['"', '\'', '\\', '[', ']'], "");
        call
    }

    fn add(&mut self, name: &str, string: &str, last: &mut Option<String>) {
        if CONTENT.contains(&name) {
            return;
        }
        if is_json(string) {
            let mut name = String::new();
            for (place, literal) in literals(string) {
                let inner = serde_json::from_str::<String>(literal).unwrap_or_default();
                if string.get(place.end..).is_some_and(|rest| rest.trim_start().starts_with(':')) {
                    (name, *last) = (inner, None);
                } else {
                    self.add(&name, &inner, last);
                }
            }
            return;
        }
        let done = acts(string);
        // The items of a list are the words of one command.
        if last.as_deref() != Some(name) {
            self.says.push_str(&format!(" {name}:"));
            *last = Some(name.to_owned());
        }
        self.says.push_str(&format!(" {done}"));
        self.leads.extend(url::leads(&done));
    }
}

/// Whether a text is a JSON object or list.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The words of a tool's name in small letters, with hyphens between: `mcp__mail__sendMail` is `mcp-mail-send-mail`.
fn words(tool: &str) -> String {
    let mut words = String::new();
    for c in tool.chars() {
        if !words.ends_with('-') && (!c.is_alphanumeric() || c.is_uppercase() && words.ends_with(char::is_lowercase)) {
            words.push('-');
        }
        words.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
    }
    words
}

/// A command without the here-documents (POSIX shell, section 2.7.4) that it only writes into files; nothing of a patch.
fn acts(text: &str) -> Cow<'_, str> {
    if text.trim_start().starts_with(PATCH) {
        return "".into();
    }
    let (mut acts, mut end, mut runs) = (String::new(), None, false);
    for line in text.lines() {
        if end.is_none() {
            acts.push_str(line);
            acts.push('\n');
            end = delimiter(line);
        } else if Some(line.trim()) == end {
            end = None;
        } else {
            runs |= line.contains("$(") || line.contains('`');
        }
    }
    let mut commands = acts.split(['\n', '|', ';', '&']).filter_map(|command| command.split_whitespace().next());
    let writes =
        !runs && !acts.contains("/dev/") && !acts.contains("<(") && !acts.contains(">(") && !acts.contains("$(");
    if writes && commands.all(|command| WRITERS.contains(&command)) { acts.into() } else { text.into() }
}

/// What ends the here-document that begins behind a line.
fn delimiter(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("<<").filter(|(_, rest)| !rest.starts_with('<'))?;
    let rest = rest.trim_start_matches(['-', ' ', '\'', '"', '\\']);
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|word| !word.is_empty())
}
