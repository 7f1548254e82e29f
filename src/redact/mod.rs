//! Findings in, placeholders and notices out; `reply` is the way back. Pure.
//! Must never put a part of a value into its placeholder, nor let a value be seen anywhere but in a restored reply.

mod call;
mod place;
mod reply;
mod restore;
mod shell;
mod url;

pub use call::commands;
pub use reply::Rewriter;
pub use restore::{Guard, Stops};

use crate::api::{Extracted, Segment, is_json};
use crate::detect::{Category, Finding, Memory, Source};
use crate::secret::{self, Key, Secret};
use aho_corasick::{AhoCorasick, MatchKind};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What every placeholder begins with. What follows is six letters for its type, and 80 bits in base32 (RFC 4648).
pub const PREFIX: &str = "INFERSHIELD_";
/// Bytes of a placeholder, whatever it stands for.
pub const PLACEHOLDER_BYTES: usize = PREFIX.len() + 7 + HASH_DIGITS;
/// Base32 digits of the keyed hash: 80 bits, so that no two values of a user share one.
const HASH_DIGITS: usize = 16;
/// How far around a value a request is read for what it is named with, in bytes: names are as long as in a reply's URL at most.
const NEAR_BYTES: usize = 1 << 10;
/// What begins a text tells whether it is JSON, in characters: each value of it asks.
const BEGIN_CHARS: usize = 64;

/// A value that a request must not carry.
#[derive(Debug)]
pub struct Hidden {
    /// What stands in its place.
    pub placeholder: String,
    /// Id of the rule that found it.
    pub rule: String,
    /// Its category.
    pub category: Category,
    /// The finding's reference.
    pub reference: String,
    value: Secret,
    /// It is spelled with the escapes of a string of JSON or code.
    is_escaped: bool,
    /// The first item of the conversation in which it was found, but for thoughts.
    found: usize,
    named: Named,
}

/// What a request says of a value: where a reply may put it.
#[derive(Debug, Default)]
struct Named {
    /// Where URLs led that held it.
    origins: BTreeSet<String>,
    /// The lines that held it, each as [`place::line_hash`].
    lines: BTreeSet<u64>,
    /// What short ones of these named besides, as [`url::leads`].
    neighbours: BTreeSet<String>,
}

/// Bytes of the body that something else stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes.
    pub place: Range<usize>,
    /// Text that needs no escaping, however deep it stands in strings of JSON.
    pub text: String,
}

/// All that one request must not carry.
#[derive(Debug, Default)]
pub struct Redaction {
    /// The values, each once.
    pub hidden: Vec<Hidden>,
    /// For each placeholder its number among the values.
    placeholders: BTreeMap<String, usize>,
    /// For a segment the notice that stands for what is withheld of it, and where that is.
    withheld: BTreeMap<usize, (String, Vec<Range<usize>>)>,
}

impl Redaction {
    /// Hides what was `found` in a text of an item of the conversation: thoughts up to there keep it. Its placeholder is the same for the same
    /// user, category and value, in every request.
    pub fn hide(&mut self, key: &Key, user: &str, found: &Finding, (item, text): (usize, &str), reference: &str) {
        let kind = match found.category {
            Category::Secret => "SECRET",
            Category::Pii => "PERSON",
            _ => "THREAT",
        };
        let (before, _) = text.split_at_checked(found.start).unwrap_or_default();
        let value = text.get(found.start..found.end).unwrap_or_default();
        let mac = key.mac(&[&secret::place(&[user, kind]), value.as_bytes()]);
        let placeholder = format!("{PREFIX}{kind}_{}", secret::base32(&mac, HASH_DIGITS).to_ascii_uppercase());
        let number = *self.placeholders.entry(placeholder.clone()).or_insert(self.hidden.len());
        if let Some(hidden) = self.hidden.get_mut(number) {
            hidden.found = hidden.found.min(item);
            return;
        }
        let (rule, category, reference) = (found.rule.clone(), found.category, reference.to_owned());
        let mut begin = text.chars().take(BEGIN_CHARS).filter(|c| !c.is_whitespace());
        let is_json = matches!((begin.next(), begin.next()), (Some('{' | '['), Some('"' | '{')));
        let is_escaped = value.contains('\\') && (before.ends_with('"') || is_json);
        let value = Secret::new(value.to_owned());
        let named = Named::default();
        self.hidden.push(Hidden { placeholder, rule, category, reference, value, is_escaped, found: item, named });
    }

    /// Withholds what stands at `span` in a segment. The first notice stands for all that is withheld there.
    pub fn withhold(&mut self, segment: usize, span: Range<usize>, notice: String) {
        self.withheld.entry(segment).or_insert((notice, Vec::new())).1.push(span);
    }

    /// The bytes of the body to change: what is withheld, and hidden values wherever they stand, also where no rule would know them:
    /// what was restored in a reply comes back with the history. Notes to where the URLs lead that hold one.
    pub fn edits(&mut self, extracted: &Extracted<'_>, body: &[u8], sent: &Sent) -> Vec<Edit> {
        let finder = finder(self.hidden.iter().map(|hidden| hidden.value.expose()));
        let finder = finder.filter(|_| !self.hidden.is_empty());
        let values = || AhoCorasick::new(self.hidden.iter().map(|hidden| hidden.value.expose())).ok();
        let parts = extracted.segments.iter().any(|segment| segment.thought).then(values).flatten();
        if let Some(parts) = &parts {
            find_parts(&mut self.hidden, parts);
            let hidden = self.hidden.iter_mut().filter(|hidden| sent.get(&hidden.placeholder).is_some());
            hidden.for_each(|hidden| hidden.found = 0);
        }
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        let mut made_up = BTreeSet::new();
        let said = LazyCell::new(|| said_first(&extracted.segments));
        // A text before the strings inside it: how a value is spelled there is what a file holds.
        for (index, segment) in extracted.segments.iter().enumerate().filter(|(_, segment)| !segment.fixed) {
            if let Some((notice, spans)) = self.withheld.get(&index) {
                let parts = withheld(&segment.text, spans);
                texts.extend(vec![notice.clone(); parts.len()]);
                places.extend(parts.into_iter().map(|part| (index, part)));
            }
            let Some(finder) = finder.as_ref().filter(|finder| finder.is_match(&*segment.text)) else { continue };
            // Its provider signed a thought as the model wrote it: with the placeholders of what had been hidden before.
            let is_new = |index: &usize| self.hidden.get(*index).is_some_and(|hidden| hidden.found >= segment.item);
            let found = finder.find_iter(&*segment.text).filter(|_| segment.thought);
            let new: Vec<usize> = found.map(|found| found.pattern().as_usize()).filter(is_new).collect();
            if !new.is_empty() {
                let all = parts.iter().flat_map(|parts| parts.find_overlapping_iter(&*segment.text));
                let known = all.map(|found| found.pattern().as_usize()).filter(|index| !is_new(index));
                let known = known.filter_map(|index| self.hidden.get(index));
                let known: BTreeMap<_, _> = known.map(|hidden| (hidden.value.expose(), &hidden.placeholder)).collect();
                let finder = self::finder(known.keys().copied());
                for place in finder.iter().flat_map(|finder| finder.find_iter(&*segment.text)) {
                    let value = segment.text.get(place.range()).unwrap_or_default();
                    texts.push(known.get(value).map_or_else(String::new, |placeholder| (*placeholder).clone()));
                    places.push((index, place.range()));
                }
                made_up.extend(new);
                continue;
            }
            // A tool says what the model makes it say.
            let is_made = matches!(segment.source, Source::Tool | Source::Document);
            let is_before = |host| said.get(&host).copied().flatten().is_some_and(|item| item <= segment.item);
            // Some spellings of a host are others than those that were said.
            let is_odd = |lead: &String| lead.contains("//") && (!lead.is_ascii() || lead.contains(['%', '[']));
            let is_told = |lead: &String| is_made && (is_odd(lead) || url::hosts(lead).any(is_before));
            let (found, values) = find(&mut self.hidden, finder, segment, is_told);
            places.extend(found.into_iter().map(|place| (index, place)));
            texts.extend(values);
        }
        let places = extracted.places(body, &places).into_iter();
        let edits = places.zip(texts).map(|(place, text)| Edit { place, text }).collect();
        let hidden = self.hidden.iter().enumerate().filter(|(index, _)| !made_up.contains(index));
        sent.keep(hidden.map(|(_, hidden)| (hidden.placeholder.clone(), ())));
        edits
    }
}

/// The placeholders that providers have been sent: a client may leave out of its history where a value was found and keep a thought that
/// quotes it.
pub type Sent = Memory<String, ()>;

/// The hosts that a request names, but for those that only tools name: each with the item in which the model said it before anybody else, if it
/// did.
fn said_first(segments: &[Segment<'_>]) -> BTreeMap<String, Option<usize>> {
    let is_told = |segment: &&Segment<'_>| matches!(segment.source, Source::Tool | Source::Document);
    let mut segments: Vec<_> = segments.iter().filter(|segment| !is_told(segment)).collect();
    segments.sort_by_key(|segment| segment.item);
    let mut said = BTreeMap::new();
    for segment in segments {
        let item = (segment.source == Source::Assistant).then_some(segment.item);
        for host in url::hosts(&segment.text) {
            said.entry(host).or_insert(item);
        }
    }
    said
}

/// What is a part of another value was hidden with that.
fn find_parts(hidden: &mut [Hidden], parts: &AhoCorasick) {
    for whole in 0..hidden.len() {
        let Some(Hidden { found, value, .. }) = hidden.get(whole) else { continue };
        let (found, parts) = (*found, parts.find_overlapping_iter(value.expose()));
        let parts: Vec<usize> = parts.map(|part| part.pattern().as_usize()).collect();
        for part in parts {
            if let Some(part) = hidden.get_mut(part) {
                part.found = part.found.min(found);
            }
        }
    }
}

/// Finds values, of those that begin at the same place the longest.
fn finder<'v>(values: impl Iterator<Item = &'v str>) -> Option<AhoCorasick> {
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(values).ok()
}

/// Where hidden values stand in a text, and what to write there. Notes their lines and where its URLs lead, but for those that `is_told` says.
fn find(
    hidden: &mut [Hidden],
    finder: &AhoCorasick,
    segment: &Segment<'_>,
    is_told: impl Fn(&String) -> bool,
) -> (Vec<Range<usize>>, Vec<String>) {
    let (mut found, mut redacted) = (Vec::new(), String::new());
    finder.replace_all_with(&segment.text, &mut redacted, |place, _, redacted| {
        found.push((place.pattern().as_usize(), place.range(), redacted.len()));
        redacted.push_str(hidden.get(place.pattern().as_usize()).map_or("", |hidden| &hidden.placeholder));
        true
    });
    // Where URLs lead is read with placeholders, as in the reply: a value may hold what ends a host.
    let noted = |(index, place, at)| {
        let hidden: &mut Hidden = hidden.get_mut(index)?;
        // What the model wrote names nothing: it may have been told to write it.
        if segment.source != Source::Assistant {
            let from = boundary(&redacted, usize::saturating_sub(at, NEAR_BYTES));
            let end = boundary(&redacted, at + PLACEHOLDER_BYTES + NEAR_BYTES);
            let (near, at) = (redacted.get(from..end).unwrap_or_default(), at - from);
            let line = place::line_at(near, at);
            hidden.named.lines.insert(place::line_hash(line));
            hidden.named.neighbours.extend(place::neighbours(line).into_iter().filter(|lead| !is_told(lead)));
            let held = url::held(near, at..at + PLACEHOLDER_BYTES).into_iter();
            hidden.named.origins.extend(held.filter(|origin| !is_told(origin)));
        }
        Some((place, hidden.placeholder.clone()))
    };
    found.into_iter().filter_map(noted).unzip()
}

/// The first border of a character from there on.
fn boundary(text: &str, from: usize) -> usize {
    (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// The parts of a text that a notice replaces when something at `spans` must not go on: the values that hold it, without their quotes, where
/// the text is a JSON array or object, so that it stays one; else the whole.
fn withheld(text: &str, spans: &[Range<usize>]) -> Vec<Range<usize>> {
    let holds = |place: &Range<usize>| spans.iter().any(|span| span.start < place.end && place.start < span.end);
    let values = call::parts(text).filter(|part| part.name.is_some() && holds(&part.place));
    let values = values.map(|part| part.place.start + 1..part.place.end - 1);
    let mut parts = if is_json(text) { values.collect() } else { Vec::new() };
    if parts.is_empty() {
        parts.push(0..text.len());
    }
    parts
}

/// What stands for a text that must not go on. It is the same every time, so that what a provider has cached stays good.
pub fn notice(source: Source, rule: &str, reference: &str) -> String {
    let what = match source {
        Source::Tool => "tool result",
        Source::Document => "document",
        Source::User | Source::Assistant | Source::System => "message",
    };
    format!("[InferShield withheld this {what}: rule {rule}, ref {reference}]")
}

/// The body with the edits made. Of those that overlap the first is made, and of two that begin at the same place the wider; what only
/// the other covers goes too, since it must not go on.
pub fn apply(body: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|edit| (edit.place.start, std::cmp::Reverse(edit.place.end)));
    let mut edited = Vec::with_capacity(body.len());
    let mut at = 0;
    for Edit { place, text } in edits {
        if place.start >= at {
            edited.extend_from_slice(body.get(at..place.start).unwrap_or_default());
            edited.extend_from_slice(text.as_bytes());
        }
        at = at.max(place.end);
    }
    edited.extend_from_slice(body.get(at..).unwrap_or_default());
    edited
}
