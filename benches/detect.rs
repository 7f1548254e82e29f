//! What scanning costs: source code, each kind of text, the worst text that a search by mutation finds, the start of the
//! rules, memory. `make bench-detect` runs it; the corpus stands beside the project, or `CORPUS` names it.
//! Speeds are also given as shares of SHA-256 over the same bytes in the same run, so that machines can be compared.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise and prints its table"
)]

use infershield::detect::{Scanner, Source};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

/// Benign kinds that are source code in the sense of the promise.
const CODE: [&str; 6] = ["code", "test", "diff", "config", "ci", "shell"];
/// Length of the texts in the search for the worst one, in bytes.
const MUTANT_BYTES: usize = 64 * 1024;
/// Mutants tried; `MUTANTS` in the environment asks for more.
const MUTANTS: usize = 1_500;
/// The best of so many measurements counts: what else runs on the machine only makes it slower.
const REPEATS: usize = 3;
/// Size of the text that memory is measured with, in bytes.
const LARGE_BYTES: usize = 32 << 20;
/// Connections that come one after another.
const THREADS: usize = 12;
/// Texts that are put together of what the rules wait for, and words of each.
const MIXED: usize = 128;
const MIXED_WORDS: usize = 3_000;
const MEGABYTE: f64 = 1e6;

fn main() {
    let start = (0..20).map(|_| timed(|| Scanner::builtin().unwrap()).0).min().unwrap();
    println!("start of the rules            {:7.2} ms", start.as_secs_f64() * 1e3);

    let scanner = Scanner::builtin().unwrap();
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in corpus().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (label, kind) = (record["label"].as_str().unwrap(), record["kind"].as_str().unwrap());
        let kind = if label == "benign" { kind } else { label };
        kinds.entry(kind.to_owned()).or_default().push(record["text"].as_str().unwrap().to_owned());
    }
    let code: Vec<String> = CODE.iter().filter_map(|kind| kinds.get(*kind)).flatten().cloned().collect();
    first_sight(&scanner, &code);
    report(&scanner, "source code", &code);
    for (kind, texts) in &kinds {
        report(&scanner, kind, texts);
    }

    let pool: Vec<&String> = kinds.values().flatten().filter(|text| text.is_ascii() || text.len() < 4096).collect();
    let (rate, worst) = worst_of(&scanner, &pool);
    println!("worst of the mutants          {rate:7.1} MB/s: {:?}", worst.chars().take(200).collect::<String>());
    let long = worst.repeat(4);
    let (short, long) = (best(|| scan(&scanner, &worst)), best(|| scan(&scanner, &long)));
    println!("four times the worst takes    {:7.2} times as long", long.as_secs_f64() / short.as_secs_f64());
    if let Ok(path) = std::env::var("WORST") {
        fs::write(path, worst).unwrap();
    }
    threads(&code);
    mixed(&code);
    memory(&scanner, "source code", &code.concat());
    memory(&scanner, "Cyrillic", "Сделай это потом, а не сейчас. ");
    memory(&scanner, "escapes", r"a\u0041\n%41&#65;");
}

/// Texts that the automata of the rules have not seen, when they have seen as many others.
fn first_sight(scanner: &Scanner, texts: &[String]) {
    let half = |skipped| texts.iter().skip(skipped).step_by(2);
    half(0).for_each(|text| scan(scanner, text));
    let (took, ()) = timed(|| half(1).for_each(|text| scan(scanner, text)));
    let bytes: usize = half(1).map(String::len).sum();
    println!("source code at first sight    {:7.1} MB/s", bytes as f64 / MEGABYTE / took.as_secs_f64());
}

fn corpus() -> String {
    let path = std::env::var("CORPUS").unwrap_or_else(|_| "../shared/corpus/dev.jsonl.gz".into());
    let output = Command::new("gzip").args(["-dc", &path]).output().unwrap();
    assert!(output.status.success(), "cannot read {path}; set CORPUS");
    String::from_utf8(output.stdout).unwrap()
}

fn scan(scanner: &Scanner, text: &str) {
    black_box(scanner.scan(text, Source::Tool));
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn best(work: impl Fn()) -> Duration {
    (0..REPEATS).map(|_| timed(&work).0).min().unwrap()
}

fn report(scanner: &Scanner, name: &str, texts: &[String]) {
    let bytes = texts.iter().map(String::len).sum::<usize>() as f64 / MEGABYTE;
    let scanned = best(|| texts.iter().for_each(|text| scan(scanner, text)));
    let hashed = best(|| texts.iter().for_each(|text| _ = black_box(Sha256::digest(text))));
    let share = hashed.as_secs_f64() / scanned.as_secs_f64() * 100.0;
    println!("{name:28}  {:7.1} MB/s  {share:5.1} % of SHA-256  ({bytes:.2} MB)", bytes / scanned.as_secs_f64());
}

/// Small steps from the slowest texts so far to slower ones, the first of which are what rules wait for, again and again; the
/// seed is fixed, the clock is not.
fn worst_of(scanner: &Scanner, pool: &[&String]) -> (f64, String) {
    let mutants = std::env::var("MUTANTS").ok().and_then(|number| number.parse().ok()).unwrap_or(MUTANTS);
    let mut random = Random(20_260_401);
    let measured = |text: String| {
        let rate = text.len() as f64 / MEGABYTE / best(|| scan(scanner, &text)).as_secs_f64();
        (rate, text)
    };
    let rate = |text: &String| text.len() as f64 / timed(|| scan(scanner, text)).0.as_secs_f64();
    let mut seeds: Vec<(f64, String)> = seeds().into_iter().map(|seed| (rate(&fill(&seed)), seed)).collect();
    seeds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut slowest: Vec<(f64, String)> = seeds.into_iter().take(12).map(|(_, seed)| measured(fill(&seed))).collect();
    for round in 0..mutants {
        let parent = if round % 4 == 0 {
            pool[random.below(pool.len())].clone()
        } else {
            slowest[random.below(slowest.len())].1.clone()
        };
        slowest.push(measured(fill(&mutate(parent, pool, &mut random))));
        slowest.sort_by(|one, other| one.0.total_cmp(&other.0));
        slowest.truncate(12);
    }
    slowest.swap_remove(0)
}

/// Each keyword and sample of the rules, whole and half, with what may stand behind it.
fn seeds() -> Vec<String> {
    let mut seeds = Vec::new();
    for file in fs::read_dir("src/detect/rules").unwrap() {
        let rules: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        for rule in rules.as_array().unwrap() {
            for text in ["keywords", "also", "positive"].iter().filter_map(|name| rule[name].as_array()).flatten() {
                let text = text.as_str().unwrap();
                let half = &text[..boundary(text, text.len() / 2 + 1)];
                seeds.extend(
                    [text, half]
                        .iter()
                        .flat_map(|text| ["", " ", "\n", "x ", "a1B2"].map(|end| format!("{text}{end}"))),
                );
            }
        }
    }
    seeds.retain(|seed| !seed.trim().is_empty());
    seeds
}

fn mutate(mut text: String, pool: &[&String], random: &mut Random) -> String {
    for _ in 0..=random.below(3) {
        let other = piece(pool[random.below(pool.len())], random);
        let at = boundary(&text, random.below(text.len() + 1));
        match random.below(5) {
            0 => text = piece(&text, random),
            1 => text.insert_str(at, &other),
            2 => text = format!("{}{}", piece(&text, random), other),
            3 => text = piece(&text, random).repeat(2 + random.below(30)),
            _ => text.truncate(at),
        }
        if text.is_empty() {
            text = other + "x";
        }
        let end = boundary(&text, MUTANT_BYTES.min(text.len()));
        text.truncate(end);
    }
    text
}

/// A short or a long part of a text.
fn piece(text: &str, random: &mut Random) -> String {
    let start = boundary(text, random.below(text.len() + 1));
    let longest = if random.below(2) == 0 { 24 } else { 2_000 };
    let end = boundary(text, (start + 1 + random.below(longest)).min(text.len()));
    text[start..end.max(start)].to_owned()
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap()
}

fn fill(text: &str) -> String {
    text.repeat(MUTANT_BYTES / text.len().max(1) + 1)[..].chars().take(MUTANT_BYTES).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// The peak that a scan adds to the memory of this process, in parts of the text (Linux tells; others print nothing).
fn memory(scanner: &Scanner, name: &str, piece: &str) {
    let text = piece.repeat(LARGE_BYTES / piece.len() + 1);
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return;
    }
    let before = peak();
    scan(scanner, &text);
    let added = peak().saturating_sub(before) as f64;
    println!("memory for {name:17}  {:7.2} times the text", added / text.len() as f64);
}

/// What connections leave behind that come one after another, each on a thread of its own, against the first of them.
fn threads(texts: &[String]) {
    let scanner = Scanner::builtin().unwrap();
    let one = || std::thread::scope(|scope| drop(scope.spawn(|| texts.iter().for_each(|text| scan(&scanner, text)))));
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return;
    }
    let before = peak();
    one();
    let first = peak() - before;
    (1..THREADS).for_each(|_| one());
    let all = (peak() - before) as f64;
    println!("memory of {THREADS} threads in turn   {:7.2} times that of the first", all / first as f64);
}

/// What texts leave behind that give the automata of all rules much to work out, against source code.
fn mixed(texts: &[String]) {
    let scanner = Scanner::builtin().unwrap();
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return;
    }
    let before = peak();
    texts.iter().for_each(|text| scan(&scanner, text));
    let code = peak() - before;
    let (seeds, mut random) = (seeds(), Random(20_261_127));
    let words: Vec<&str> = seeds.iter().flat_map(|seed| seed.split(' ')).collect();
    for _ in 0..MIXED {
        let text: Vec<&str> = (0..MIXED_WORDS).map(|_| words[random.below(words.len())]).collect();
        scan(&scanner, &text.join(" "));
    }
    let all = (peak() - before) as f64;
    println!("memory of {MIXED} made for it     {:7.2} times that of source code", all / code as f64);
}

/// The highest resident size since the counter was cleared, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
