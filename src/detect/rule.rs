//! Rules: their form as data, and one rule ready to use.
//! Must never change what a rule means depending on the text, and must never leave out a rule that cannot be used: one
//! such rule and there is no scanner.
//!
//! A rule file is a JSON array of rules. Expressions are those of the `regex` crate, on bytes and without Unicode
//! classes. `exact` rules are case-sensitive. In all others case does not matter, and a space stands for any short run
//! of blanks, line ends and comment or quote marks, so that a sentence is found however it is wrapped.

use super::validate::Validator;
use super::{Category, Severity, Source};
use aho_corasick::AhoCorasick;
use regex::Captures;
use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use serde::Deserialize;
use serde_json::Value;
use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

/// What a space in a rule that is not `exact` stands for: blanks, however many, also behind the backslash that leads a line on;
/// a few of them with quotes and the signs of comments.
const GAP: &str = r"(?:[\s\x22#*/>`_'|~-]{1,8}|\s+|\s*\\\r?\n\s*)";
/// What else it stands for in rules about what is said: what somebody puts between words so that they are not found, such as tags of
/// HTML (`Ignore<br>all, previous … instructions`), but for the end of a sentence.
const FILLER: &str = concat!(
    r"(?:[\x20\x22'*_`]*(?:[,;:=+&@$%^(){}\[\]<\x00-\x08\x0e-\x1f\x7f]|\\\s*|\.\.+|\xe2\x80[\x90-\xbf]|\xc2[\xa0-\xbf]",
    r"|<[/!a-z][^<>]*>\s*|&[a-z]+;)+[\x20\x22'*_`]*|[.!?])",
);
/// Longest distance in bytes between a keyword and the ends of a match, unless the rule says otherwise.
const REACH_BYTES: usize = 256;
/// A compiled expression may not take more memory than this, in bytes: user rules come from outside.
const COMPILED_BYTES: usize = 4 << 20;
/// Escapes and classes of an expression, or the bounds of a repetition that may go on for ten times and more.
const LONG_REPETITIONS: &str = r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{([0-9]+),[0-9]{2,}\}";
/// Heaviest weight.
const FULL_WEIGHT: u8 = 100;

/// A build whose expression is broken keeps all bounds; the tests see to it that it is not.
static BOUNDS: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(LONG_REPETITIONS).ok());

/// A rule as it stands in a rule file, ready to use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the members of a rule")]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) category: Category,
    pub(super) severity: Severity,
    /// What one match adds to the score, 1 to 100.
    pub(super) weight: u8,
    /// One of these must stand near a match. Empty, and no `digits`: the expression runs over the whole text.
    pub(super) keywords: Vec<String>,
    /// Words, of which one must stand within reach too where a match may begin anywhere near its keyword: they
    /// spare the expression where its keywords are common.
    #[serde(default)]
    pub(super) also: Vec<String>,
    /// Instead of keywords: how many digits a number near the match has, least and most.
    pub(super) digits: Option<(usize, usize)>,
    /// Where a match begins.
    #[serde(default)]
    pub(super) begins: Begins,
    /// Pieces of the expression, joined without anything between them. The finding spans the first group that has matched,
    /// if any.
    pattern: Vec<String>,
    /// Case matters and a space is a space.
    #[serde(default)]
    pub(super) exact: bool,
    /// Longest distance in bytes between a keyword and the ends of a match.
    #[serde(default = "default_reach")]
    pub(super) reach: usize,
    /// Looks only at what an encoding hid, where a request is odd that would be none in plain sight; its own weight stands there too.
    #[serde(default)]
    pub(super) hidden: bool,
    /// What the spanned text must be besides matching.
    #[serde(default)]
    pub(super) validator: Validator,
    /// Where the rule applies; empty: everywhere.
    #[serde(default)]
    pub(super) sources: Vec<Source>,
    /// Texts that must be found; at least one.
    pub(super) positive: Vec<String>,
    /// Texts that must not be found, alike enough to be mistaken; at least one.
    pub(super) negative: Vec<String>,
    /// Compiled when a text first asks for it: most never are, and all of them together take longer than the rest of
    /// the start.
    #[serde(skip)]
    regex: OnceLock<Result<Regex, String>>,
    /// The same expression as far as it only tells whether a text matches and where that ends, which is all that most are asked: it
    /// takes half the time to compile. `None` where that is not possible.
    #[serde(skip)]
    quick: OnceLock<Option<DFA>>,
    /// The words of `also`, put together when they are first asked for.
    #[serde(skip)]
    company: OnceLock<Option<AhoCorasick>>,
}

/// Where a match begins, seen from its keyword. An anchored expression is tried once for each keyword and costs what
/// it reads; one that begins anywhere near costs its reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Begins {
    /// Within reach.
    #[default]
    Near,
    /// With the keyword, which may continue a word.
    WithKeyword,
    /// With the keyword, which begins a word.
    WithWord,
}

fn default_reach() -> usize {
    REACH_BYTES
}

/// What the automata of one expression have worked out so far; made when they are first asked.
#[derive(Debug, Default)]
pub(super) struct Memory {
    quick: Option<dfa::Cache>,
    whole: Option<meta::Cache>,
}

impl Memory {
    /// How much of it there is.
    pub(super) fn bytes(&self) -> usize {
        let quick = self.quick.as_ref().map_or(0, dfa::Cache::memory_usage);
        quick + self.whole.as_ref().map_or(0, meta::Cache::memory_usage)
    }
}

/// One match that its validator accepts.
pub(super) struct Hit<'a> {
    pub(super) rule: &'a Rule,
    pub(super) span: Range<usize>,
    /// What it adds to the score, before the source is taken into account: the rule's own weight, less where check digits
    /// are wrong.
    pub(super) weight: u8,
}

impl Rule {
    /// Reads a rule file, rule by rule, and compiles each: errors name the one that is wrong, never a scanned text.
    pub(super) fn read(json: &str) -> Result<Vec<Self>, String> {
        let rules: Vec<Value> =
            serde_json::from_str(json).map_err(|error| format!("the rules are not valid: {error}"))?;
        let read = |(index, rule): (usize, Value)| {
            let id = rule.get("id").and_then(Value::as_str).map_or(format!("number {}", index + 1), str::to_owned);
            let rule = Self::deserialize(rule).map_err(|error| error.to_string());
            rule.and_then(Self::checked).map_err(|why| format!("rule {id} is not valid: {why}"))
        };
        rules.into_iter().enumerate().map(read).collect()
    }

    fn checked(self) -> Result<Self, String> {
        let is_common = |keyword: &String| keyword.len() < 2 && !keyword.bytes().all(|b| b.is_ascii_punctuation());
        let wrong = if !(1..=FULL_WEIGHT).contains(&self.weight) {
            "weight is 1 to 100"
        } else if self.positive.is_empty() || self.negative.is_empty() {
            "it needs a positive and a negative sample"
        } else if self.keywords.iter().chain(&self.also).any(|word| word.is_empty() || is_common(word)) {
            "a keyword, and a word of `also`, has at least two bytes, or is a sign"
        } else {
            self.regex()?;
            return Ok(self);
        };
        Err(wrong.to_owned())
    }

    /// The compiled expression.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn regex(&self) -> Result<&Regex, String> {
        let compile = || {
            let (pattern, syntax) = self.expression();
            let config = Regex::config().utf8_empty(false).nfa_size_limit(Some(COMPILED_BYTES));
            Regex::builder().syntax(syntax).configure(config).build(&pattern).map_err(|error| {
                let why = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
                format!("`pattern`: {why}")
            })
        };
        self.regex.get_or_init(compile).as_ref().map_err(String::clone)
    }

    /// As it is compiled.
    fn expression(&self) -> (String, syntax::Config) {
        let is_said = matches!(
            self.category,
            Category::Injection | Category::Jailbreak | Category::Exfiltration | Category::Obfuscation
        );
        let pattern = match self.pattern.concat() {
            pattern if self.exact => pattern,
            pattern if is_said => pattern.replace(' ', &format!("(?:{GAP}|{FILLER})")),
            pattern => pattern.replace(' ', GAP),
        };
        let pattern = if self.begins == Begins::Near { pattern } else { format!(r"\A(?:{pattern})") };
        (pattern, syntax::Config::new().unicode(false).utf8(false).case_insensitive(!self.exact))
    }

    /// Where the first match ends, if there is one; nothing when only the whole expression can tell.
    fn quick_end(&self, memory: &mut Memory, input: &Input<'_>) -> Option<Option<usize>> {
        let compile = || {
            let (pattern, syntax) = self.expression();
            // Where it begins near its keyword, only whether it matches is asked.
            let pattern = if self.begins == Begins::Near { unbounded(&pattern) } else { pattern };
            let config = thompson::Config::new().utf8(false).which_captures(WhichCaptures::None);
            let nfa =
                NFA::compiler().syntax(syntax).configure(config.nfa_size_limit(Some(COMPILED_BYTES))).build(&pattern);
            DFA::builder().build_from_nfa(nfa.ok()?).ok()
        };
        let quick = self.quick.get_or_init(compile).as_ref()?;
        let cache = memory.quick.get_or_insert_with(|| quick.create_cache());
        Some(quick.try_search_fwd(cache, input).ok()?.map(|end| end.offset()))
    }

    /// Whether one of the words that it also wants stands in this part of a text.
    pub(super) fn has_company(&self, text: &[u8]) -> bool {
        let any = || AhoCorasick::builder().ascii_case_insensitive(true).build(&self.also).ok();
        self.also.is_empty() || self.company.get_or_init(any).as_ref().is_none_or(|any| any.is_match(text))
    }

    /// What a match is, if its validator accepts it.
    pub(super) fn hit(&self, bytes: &[u8], span: Range<usize>) -> Option<Hit<'_>> {
        let (before, from) = bytes.split_at_checked(span.start)?;
        let percent = self.validator.confidence(from.get(..span.len())?, before);
        let weight = (u16::from(self.weight) * u16::from(percent) / u16::from(FULL_WEIGHT)) as u8;
        (weight > 0).then_some(Hit { rule: self, span, weight })
    }

    /// What the finding spans of every match in the window.
    pub(super) fn matches(&self, memory: &mut Memory, bytes: &[u8], window: Range<usize>) -> Vec<Range<usize>> {
        // The text before the window stays visible to `\b`.
        let haystack = bytes.get(..window.end).unwrap_or_default();
        let mut spans = Vec::new();
        let mut at = window.start;
        if self.quick_end(memory, &Input::new(haystack).range(at..).earliest(true)) == Some(None) {
            return spans;
        }
        while at < haystack.len()
            && let Ok(regex) = self.regex()
            && let Some(value) = found_at(regex, memory, haystack, at)
        {
            // What follows a value may be what precedes the next.
            at = value.end.max(at + 1);
            spans.push(value);
        }
        spans
    }

    /// Where the match that begins with the range and lies within it ends, and what the finding spans of it, if it counts.
    pub(super) fn match_at(
        &self,
        memory: &mut Memory,
        bytes: &[u8],
        range: Range<usize>,
        counts: impl Fn(&Range<usize>) -> bool,
    ) -> Option<(usize, Option<Range<usize>>)> {
        if self.begins == Begins::WithWord && !begins_word(bytes, range.start) {
            return None;
        }
        let haystack = bytes.get(range.clone())?;
        let end = match self.quick_end(memory, &Input::new(haystack).anchored(Anchored::Yes)) {
            Some(end) => range.start + end?,
            None => range.start + found_at(self.regex().ok()?, memory, haystack, 0)?.end,
        };
        if !counts(&(range.start..end)) {
            return Some((end, None));
        }
        let value = found_at(self.regex().ok()?, memory, haystack, 0)?;
        Some((end, Some(range.start + value.start..range.start + value.end)))
    }

    /// True when it has something to say about a text of this source.
    pub(super) fn applies(&self, source: Source) -> bool {
        self.sources.is_empty() || self.sources.contains(&source)
    }
}

/// An expression that matches wherever this one does, without the bounds of long repetitions: each count up to a bound is one more state,
/// and texts of a rule's own words would meet thousands of them.
fn unbounded(pattern: &str) -> String {
    let Some(bounds) = BOUNDS.as_ref() else { return pattern.to_owned() };
    let without = |found: &Captures<'_>| match found.get(1) {
        Some(least) => format!("{{{},}}", least.as_str()),
        None => found.get(0).map_or("", |kept| kept.as_str()).to_owned(),
    };
    bounds.replace_all(pattern, without).into_owned()
}

/// What of the next match the finding spans. Most places have no match, and most expressions no group.
fn found_at(regex: &Regex, memory: &mut Memory, haystack: &[u8], at: usize) -> Option<Range<usize>> {
    let cache = memory.whole.get_or_insert_with(|| regex.create_cache());
    let found = regex.search_with(cache, &Input::new(haystack).range(at..))?.range();
    if regex.captures_len() == 1 {
        return Some(found);
    }
    let mut groups = regex.create_captures();
    let input = Input::new(haystack).range(found.clone()).anchored(Anchored::Yes);
    regex.search_captures_with(cache, &input, &mut groups);
    Some((1..regex.captures_len()).find_map(|group| groups.get_group(group)).map_or(found, |value| value.range()))
}

/// No word runs into `at`, but for the letter of an escape (`\n`, `%3D`, `\u003d`), which stands for a sign.
pub(super) fn begins_word(bytes: &[u8], at: usize) -> bool {
    match bytes.get(..at).unwrap_or_default() {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'\\', b'u', a, b, c, d] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => true,
        [.., b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => true,
        // Inside base64, not after the `+` of a changed line.
        [.., before, b'+'] if before.is_ascii_alphanumeric() => false,
        [.., before] => !before.is_ascii_alphanumeric() && *before != b'_',
        [] => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl Fn(&mut serde_json::Value)) -> Result<Vec<Rule>, String> {
        let mut rule = serde_json::json!({
            "id": "command.x", "category": "command", "severity": "low", "weight": 10, "keywords": ["xy"],
            "pattern": ["xy"], "positive": ["xy"], "negative": ["x y"]
        });
        change(&mut rule);
        Rule::read(&serde_json::json!([rule]).to_string())
    }

    #[test]
    fn a_rule_without_both_samples_or_that_does_not_compile_is_refused() {
        assert!(read(|_| ()).is_ok());
        assert!(read(|rule| rule["positive"] = serde_json::json!([])).is_err());
        assert!(read(|rule| rule["negative"] = serde_json::json!([])).is_err());
        assert!(read(|rule| rule["weight"] = serde_json::json!(0)).is_err());
        for words in ["keywords", "also"] {
            assert!(read(|rule| rule[words] = serde_json::json!([""])).is_err());
            assert!(read(|rule| rule[words] = serde_json::json!(["e"])).is_err());
            assert!(read(|rule| rule[words] = serde_json::json!(["@", "é"])).is_ok());
        }
        assert!(read(|rule| rule["pattern"] = serde_json::json!(["("])).is_err());
        assert!(read(|rule| rule["surprise"] = serde_json::json!(1)).is_err());
    }

    #[test]
    fn bounds_are_left_out_but_not_inside_escapes_and_classes() {
        assert_eq!(unbounded(r"a{0,60}b{2,10}?c{1,9}d{12}"), "a{0,}b{2,}?c{1,9}d{12}");
        let kept = r"\{1,20}[{1,20}][^\]{1,20}]";
        assert_eq!(unbounded(kept), kept);
    }

    #[test]
    fn no_expression_repeats_without_a_bound() {
        // Escapes and classes hold `*` and `+` as plain characters.
        let escapes = regex::Regex::new(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]").unwrap();
        for file in std::fs::read_dir("src/detect/rules").unwrap() {
            let json = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for rule in Rule::read(&json).unwrap() {
                assert!(rule.regex().is_ok(), "{}", rule.id);
                let pattern = rule.pattern.concat();
                let bare = escapes.replace_all(&pattern, "c");
                let unbounded = bare.contains(['+', '*']) || bare.contains(",}");
                // What begins with its keyword ends with its reach.
                assert!(!unbounded || rule.begins != Begins::Near, "{}", rule.id);
            }
        }
    }
}
