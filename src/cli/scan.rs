//! `scan`: what the rules find in texts. Works without any home, contacts nobody.

use super::terminal::{note, print};
use super::{Args, Done, Exit, context, no, rules, usage};
use crate::detect::{self, Action, Policy, Scanner, Source};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read as _};
use std::{fmt::Display, fs::File};

/// Largest file or line, in bytes: the proxy's own cap for a body.
const MAX_BYTES: u64 = 32 << 20;

/// The mark of the encoding, which RFC 8259 (8.1) lets us pass over.
const MARK: &str = "\u{feff}";

/// What to do about a file that cannot be read.
const ANOTHER: &str = "name a readable file, or `-`";

/// What the texts are judged with, and what was found in those so far.
struct Scan {
    scanner: Scanner,
    policy: Policy,
    /// Why is said for each finding.
    explains: bool,
    /// Something would be stopped.
    stopped: bool,
    /// A file could not be read, a line was not an object as it should be, or a text was none.
    malformed: bool,
}

pub(super) fn scan(args: &Args) -> Done {
    if args.has("json") && args.has("jsonl") {
        return Err(usage("--json and --jsonl are two shapes; choose one"));
    }
    let config = context::load(args)?;
    let policy = context::policy(&config)?;
    let scanner = Scanner::with(&rules::files(&config)?).map_err(usage)?;
    let mut scan = Scan { scanner, policy, explains: args.has("explain"), stopped: false, malformed: false };
    let stdin = [OsString::from("-")];
    let names = if args.words.is_empty() { &stdin } else { args.words.as_slice() };
    for name in names {
        match scan.input(name, args) {
            // The others are worth a look all the same.
            Err(failure) if failure.exit == Exit::Usage && names.len() > 1 => {
                note(failure.message);
                scan.malformed = true;
            }
            done => done?,
        }
    }
    if scan.malformed {
        return Err(usage("not all of it could be read as it should be: see above, or the lines with `error`"));
    }
    if scan.stopped { Err(no("")) } else { Ok(()) }
}

impl Scan {
    /// One file, or stdin.
    fn input(&mut self, name: &OsStr, args: &Args) -> Done {
        let raw = name.to_string_lossy();
        // A name may come from a stranger's archive.
        let shown = raw.replace(char::is_control, "?");
        let cannot = |error: io::Error| usage(format_args!("cannot open {shown}: {error}; {ANOTHER}"));
        let mut input: Box<dyn BufRead> = match name == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(BufReader::new(File::open(name).map_err(cannot)?)),
        };
        if args.has("jsonl") { self.lines(&mut *input) } else { self.whole(&raw, &shown, &mut *input, args) }
    }

    /// One JSON object a line in, one out, in the same order and at once.
    fn lines(&mut self, input: &mut dyn BufRead) -> Done {
        let mut line = Vec::new();
        let unreadable = |error| usage(format_args!("cannot read: {error}; {ANOTHER}"));
        // Some editors begin a file with this mark; no line is the worse for it.
        if input.fill_buf().map_err(unreadable)?.starts_with(MARK.as_bytes()) {
            input.consume(MARK.len());
        }
        loop {
            line.clear();
            if input.take(MAX_BYTES + 1).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                return Ok(());
            }
            if line.len() as u64 > MAX_BYTES && !line.ends_with(b"\n") {
                self.malformed = true;
                self.say(json!({"id": null, "error": format!("the line is longer than {MAX_BYTES} bytes")}))?;
                // The rest of it is no line of its own.
                input.skip_until(b'\n').map_err(unreadable)?;
                continue;
            }
            if !line.trim_ascii().is_empty() {
                self.line(line.trim_ascii())?;
            }
        }
    }

    /// One JSON object.
    fn line(&mut self, line: &[u8]) -> Done {
        let scanned = detect::scan_line(&self.scanner, &self.policy, line, self.explains);
        self.malformed |= scanned.is_err();
        let (answer, strongest) = scanned.unwrap_or_else(|malformed| (malformed, Action::Allow));
        self.stopped |= strongest >= Action::Redact;
        self.say(answer)
    }

    /// One line of result. What was found was found, also when nobody reads it any more.
    fn say(&self, line: impl Display) -> Done {
        match print(line) {
            Err(failure) if failure.exit == Exit::Left && self.stopped => Err(no("")),
            said => said,
        }
    }

    /// One text, with its name for programs and for people.
    fn whole(&mut self, id: &str, name: &str, input: &mut dyn BufRead, args: &Args) -> Done {
        let mut bytes = Vec::new();
        let read = input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| usage(format_args!("cannot read {name}: {error}; {ANOTHER}")))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(usage(format_args!("{name} is larger than {MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|odd| {
            note(format_args!("{name} is not UTF-8 text; each byte that is none is read as `?`"));
            self.malformed = true;
            // One sign for each byte, so that places stay what they are.
            let parts = odd.as_bytes().utf8_chunks();
            parts.flat_map(|part| [part.valid().to_owned(), "?".repeat(part.invalid().len())]).collect()
        });
        if text.contains('\0') {
            note(format_args!("{name} holds zero bytes: if it is a text, then in an encoding that is not read"));
            self.malformed = true;
        }
        if args.has("json") {
            return self.line(json!({"id": id, "text": text}).to_string().as_bytes());
        }
        let mut findings = self.scanner.scan(&text, Source::User);
        let risk_score = detect::judge(&mut findings, Source::User, true, &self.policy);
        for (finding, why) in findings.iter().zip(detect::explain(&text, Source::User, &findings)) {
            let (rule, category, line) = (&finding.rule, finding.category, why.line);
            self.stopped |= finding.action >= Action::Redact;
            self.say(format_args!("{name}:{line}: {rule} ({category}, {})", finding.action))?;
            if self.explains {
                self.say(format_args!("    bytes {}..{}, {why}", finding.start, finding.end))?;
            }
        }
        note(format_args!("{name}: {} findings, risk score {risk_score}", findings.len()));
        Ok(())
    }
}
