//! What a call of a tool does besides writing into a file: what it says, and which hosts it names.
//! Must never take for the content of a file what a shell may run.

use super::url;
use crate::api::literals;
use std::collections::BTreeSet;

/// Members that hold what is written into a file, also as `newText`. It is judged line by line: it may be about commands,
/// and runs none.
const CONTENT: [&str; 21] = [
    "changes",
    "code-edit",
    "content",
    "contents",
    "description",
    "diff",
    "explanation",
    "file-text",
    "insert-text",
    "new-code",
    "new-source",
    "new-str",
    "new-string",
    "new-text",
    "old-str",
    "old-string",
    "old-text",
    "patch",
    "patch-text",
    "replacement",
    "text",
];
/// Members that name the tool which another one is to call.
const TOOLS: [&str; 5] = ["action", "recipient-name", "tool", "tool-name", "tool-slug"];
/// Commands that do nothing with a text but write it down.
const WRITERS: [&str; 8] = ["apply_patch", "cat", "cd", "chmod", "ls", "mkdir", "tee", "touch"];
/// A tool that agents know.
const PATCHES: &str = " tool: apply-patch ";

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
        // All that this takes is a patch.
        let is_patch = !call.says.is_empty() && call.says.replace(PATCHES, "").is_empty();
        let mut last = None;
        for (name, string) in strings.filter(|_| !is_patch) {
            call.add(name, string, &mut last);
        }
        call.says = call.says.replace(['\n', '\r', ','], " ").replace(['"', '\'', '\\', '[', ']'], "");
        call
    }

    fn add(&mut self, name: &str, string: &str, last: &mut Option<String>) {
        let member = words(name);
        if CONTENT.contains(&member.as_str()) {
            return;
        }
        if TOOLS.contains(&member.as_str()) {
            self.says.push_str(&format!(" tool: {} ", words(string)));
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
        self.leads.extend(url::leads(done));
    }
}

/// Whether a text is a JSON object or list.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
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

/// A command without the here-documents (POSIX shell, section 2.7.4) that it only writes into files. Where anything in it could be read
/// in another way, it is all there.
fn acts(text: &str) -> &str {
    let (mut end, mut begun) = (None, false);
    for line in text.lines() {
        match end {
            Some(word) if line.trim() == word => end = None,
            // The shell joins a line that ends so to the next, which may be the end then.
            Some(_) if line.contains("$(") || line.contains('`') || line.ends_with('\\') => return text,
            Some(_) => {}
            None => {
                let (command, rest) = match line.split_once("<<") {
                    None => (line, ""),
                    Some((command, rest)) => {
                        let Some((word, rest)) = delimiter(rest) else { return text };
                        (end, begun) = (Some(word), true);
                        (command, rest)
                    }
                };
                let mut commands = line.split(['|', ';', '&']).filter_map(|part| part.split_whitespace().next());
                if ![command, rest].into_iter().all(|part| part.chars().all(is_plain))
                    || line.replace("/dev/null", "").contains("/dev/")
                    || !commands.all(|command| WRITERS.contains(&command))
                {
                    return text;
                }
            }
        }
    }
    if begun && end.is_none() { "" } else { text }
}

/// No quotes, comments, substitutions or other lines are made with it.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || " ./~_-+:@%,={}$>|;&".contains(c)
}

/// What ends a here-document, and what else stands behind the `<<`.
fn delimiter(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start_matches(' ');
    let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c));
    let rest = rest.get(quote.map_or(0, char::len_utf8)..)?;
    let (word, behind) = rest.split_at(rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()));
    let behind = quote.map_or(Some(behind), |quote| behind.strip_prefix(quote))?;
    let ends = behind.is_empty() || behind.starts_with([' ', '>', '|', ';', '&']);
    (!word.is_empty() && ends).then_some((word, behind))
}

#[cfg(test)]
mod tests {
    use super::acts;

    #[test]
    fn only_what_a_shell_writes_and_nothing_else_is_left_out() {
        for text in [
            "cat > a <<E\nx\nE",
            "mkdir -p conf && cat <<'EOF' > conf/a.toml\nx # 'y'\nEOF\nls conf",
            "tee a > /dev/null <<E\nx\nE",
            "cat <<-E | tee a\nx\n\tE",
            "cat > a <<E\nx\nE\ncat > b <<\"F\"\ny\nF\n",
            "apply_patch <<'EOF'\n*** Begin Patch\n*** End Patch\nEOF",
        ] {
            assert_eq!(acts(text), "", "{text}");
        }
        for text in [
            "send x",
            "cat a",
            "cat <<E \\\n| send\nx\nE",
            "cat > a <<'E F'\nx\nE F\nsend\nE",
            "cat > a # <<E\nsend\nE",
            "cat > 'a <<E'\nsend\nE",
            "cat > a <<E'F'\nx\nEF\nsend\nE",
            "cat > a <<E\\F\nx\nEF\nsend\nE",
            "cat > a <<E <<F\nx\nE\nsend\nF",
            "cat > a <<E\nx\nE\nsend",
            "cat > a <<E\nx",
            "cat > a <<E\n$(send)\nE",
            "cat > a <<EF\nx\nE\\\nF\nsend\nEF",
            "cat > a`send` <<E\nx\nE",
            "cat > /dev/tcp/host/80 <<E\nx\nE",
            "cat <<E > >(send)\nx\nE",
            "python <<E\nsend\nE",
            "cat <<E | sh\nsend\nE",
            "cat <<<E\nsend\nE",
        ] {
            assert_eq!(acts(text), text);
        }
    }
}
