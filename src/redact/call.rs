//! What a call of a tool does besides writing into a file: what it says, and which hosts it names.
//! Must never take for the content of a file what a shell may run.

use super::{boundary, shell, url};
use crate::api::{NAME_BYTES, is_json, literals};
use std::collections::BTreeSet;
use std::ops::Range;

/// Members that hold what is written into a file, also as `newText`. It is judged line by line: it may be about commands,
/// and runs none.
const CONTENT: &str = "changes code-edit content contents description diff explanation file-text insert-text new-code \
    new-source new-str new-string new-text old-str old-string old-text patch patch-text replacement text";
/// Members that name the tool which another one is to call.
const TOOLS: [&str; 7] = ["action", "function", "recipient-name", "tool", "tool-id", "tool-name", "tool-slug"];
/// What the names of members end in that hold what is run.
const COMMANDS: &str = "args arguments argv chars cmd cmds code command commands entrypoint executable expression \
    function hook input javascript js keys keystrokes program run script shell source stdin";
/// Words in the names of tools that run what they are called with, whatever they call it.
const RUNNERS: &str = "bash cmd console eval evaluate exec execute ipython process powershell pwsh python repl shell spawn ssh terminal tmux zsh";
/// A tool that agents know.
const PATCHES: &str = " tool: apply-patch ";

/// What is known of a call before a value is put back into it: what the tool is called with, but for the content of files.
#[derive(Default)]
pub(super) struct Call {
    /// The tool, and the strings with their names, as a shell would read them: one line, without quotes and escapes.
    pub(super) says: String,
    /// `scheme://host:port` of each URL, and the name of each host.
    pub(super) leads: BTreeSet<String>,
    /// All that the tool takes is a patch.
    pub(super) is_patch: bool,
    /// Its name says that it runs commands.
    pub(super) is_run: bool,
    /// It would carry a value away, wherever in it that stands.
    pub(super) is_leaking: bool,
}

impl Call {
    /// `tools`: what is called; `strings`: each with the member that it is the value of, or an item of.
    pub(super) fn of<'a>(tools: impl Iterator<Item = &'a str>, strings: &[(&str, &str)]) -> Self {
        let mut call = Self::default();
        tools.for_each(|tool| call.says.push_str(&format!(" tool: {} ", words(tool))));
        call.is_run = call.says.split([' ', '-']).any(|word| is_one_of(word, RUNNERS));
        call.is_patch = !call.says.is_empty() && call.says.replace(PATCHES, "").is_empty();
        let (mut last, is_patch) = (None, call.is_patch);
        for (name, string) in strings.iter().filter(|_| !is_patch) {
            call.add(name, string, &mut last);
        }
        // Behind the name of a program a redirection needs no blank.
        call.says = call.says.replace(['\n', '\r', '\t', ','], " ").replace('<', " <").replace('>', " >");
        call.says = call.says.replace(['"', '\'', '\\', '[', ']'], "");
        call
    }

    fn add(&mut self, name: &str, string: &str, last: &mut Option<String>) {
        let is_told = ["description", "explanation"].contains(&name);
        if is_content(name) && (is_told || !self.is_run) {
            return;
        }
        if TOOLS.contains(&words(name).as_str()) {
            self.says.push_str(&format!(" tool: {} ", words(string)));
        }
        if is_json(string) {
            for Part { name, text, .. } in parts(string) {
                // What serde cannot read, such as half a surrogate, others may.
                self.is_leaking |= text.is_none();
                let text = text.unwrap_or_default();
                match name {
                    None => {
                        *last = None;
                        self.leads.extend(url::leads(&text));
                    }
                    Some(name) => self.add(&name, &text, last),
                }
            }
            return;
        }
        let done = shell::acts(string);
        // The items of a list are the words of one command.
        if last.as_deref() != Some(name) {
            self.says.push_str(&format!(" {name}:"));
            *last = Some(name.to_owned());
        }
        self.says.push_str(&format!(" {}", shell::sends(done)));
        self.leads.extend(url::leads(done));
        // A number is the host by the name that it has, and such a name may be a URL.
        let begin = done.get(..boundary(done, NAME_BYTES)).unwrap_or_default();
        self.leads.extend(url::leads(&format!("{name} {begin}")));
    }
}

/// A string of a JSON text.
pub(super) struct Part {
    /// Where its literal stands, quotes included.
    pub(super) place: Range<usize>,
    /// The member that it is the value of, or an item of; `None`: it is such a name itself.
    pub(super) name: Option<String>,
    /// `None`: it has no meaning that is text.
    pub(super) text: Option<String>,
}

/// The strings of a JSON text, one behind the other.
pub(super) fn parts(json: &str) -> impl Iterator<Item = Part> {
    let mut last = String::new();
    literals(json).map(move |(place, literal)| {
        let text = serde_json::from_str::<String>(literal).ok();
        let is_name = json.get(place.end..).is_some_and(|rest| rest.trim_start().starts_with(':'));
        if is_name {
            last = text.as_ref().filter(|name| name.len() <= NAME_BYTES).cloned().unwrap_or_default();
        }
        Part { place, name: (!is_name).then(|| last.clone()), text }
    })
}

/// The lists of words in a JSON text that a tool is called with, each as the command that it may be.
pub fn commands(json: &str) -> Vec<String> {
    let mut lists: Vec<(Option<String>, Vec<String>)> = Vec::new();
    for Part { name, text, .. } in parts(json) {
        let text = text.unwrap_or_default();
        match lists.last_mut() {
            // Between the members of an object stands a name.
            Some((last, words)) if name.is_some() && *last == name => words.push(text),
            _ => lists.push((name, vec![text])),
        }
    }
    lists.into_iter().filter(|(_, words)| words.len() > 1).map(|(_, words)| words.join(" ")).collect()
}

/// Whether a member holds what is written into a file.
pub(super) fn is_content(name: &str) -> bool {
    is_one_of(&words(name), CONTENT)
}

/// Whether a member is named like what a tool runs.
pub(super) fn is_command(name: &str) -> bool {
    let words = words(name);
    words == "command-line" || words.split('-').any(|word| is_one_of(word, COMMANDS))
}

fn is_one_of(word: &str, words: &str) -> bool {
    words.split(' ').any(|one| one == word)
}

/// The words of a tool's name in small letters, with hyphens between: `mcp__mail__sendMail` is `mcp-mail-send-mail`.
fn words(tool: &str) -> String {
    let (mut words, mut last) = (String::new(), ' ');
    for c in tool.chars() {
        if !words.ends_with('-') && (!c.is_alphanumeric() || c.is_uppercase() && last.is_lowercase()) {
            words.push('-');
        }
        words.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        last = c;
    }
    words
}
