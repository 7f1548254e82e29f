//! Checks that an expression cannot do: check digits, randomness, placeholders.
//! Must never reject a value only because its check digits are wrong when its form is unmistakable.

use super::decode::is_coded;
use super::learned::Lesson;
use super::numbers::{self, digits, is_checked};
use super::tokens::{holds_its_inside, is_checked_by_crc32, is_jwt};
use super::words::{Words, contains_any, words};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::borrow::Cow;

/// Full confidence in percent: the rule's own weight.
const SURE: u8 = 100;
/// The form is unmistakable and its check digits are wrong: a test value, or a format that changed.
const DOUBTFUL: u8 = 60;
/// Bits per character that a random token reaches and a name does not.
const TOKEN_BITS: f64 = 2.8;
/// Bits per character that a good password reaches and a word does not.
const PASSWORD_BITS: f64 = 2.5;
/// Of a hundred neighbours in a random token at least this many change between capital, small letter and digit.
const TOKEN_CHURN: usize = 20;
/// The same of a generated password without signs.
const GENERATED_CHURN: usize = 40;
/// So much less is enough for one between quotation marks that begins as a variable or a path does: those have words.
const ODD_CHURN: usize = 10;
/// The same of one with signs, which part its letters.
const SIGNED_CHURN: usize = 12;
/// What a value may stand in.
const QUOTES: [char; 3] = ['"', '\'', '`'];
/// What stands before a value that is one of many in its line: nobody knows where it ends.
const STRUCTURE: [char; 8] = ['{', '[', '(', ',', '&', '?', ';', '|'];
/// What paths, look-ups and names of colours begin with, and few passwords.
const NO_BEGINNING: [char; 5] = ['/', '~', '.', '#', '$'];
/// A block of base64 has a line of this length; sentences have no such word.
const PEM_LINE: usize = 32;
/// A character repeated this often in a row is filling.
const FILLING: usize = 6;
/// What begins a line of test results (DejaGnu, Go) in front of the test's name.
const VERDICT: &str = "PASS: ";
/// How much of the line before a value tells what it is, in bytes.
const NAME_BYTES: usize = 48;
/// How much before a mail address tells whose it is, in bytes.
const AUTHOR_BYTES: usize = 120;
/// So many addresses may stand between.
const AUTHOR_ADDRESSES: usize = 3;
/// An address of a contract or an account (Ethereum, ERC-55): everybody may see it, and whose it is tells nothing.
const ADDRESS_BYTES: usize = 42;
/// Of a hundred letters of a name in code, with capitals inside, more than this stand in words.
const WORDY: usize = 55;
/// What names of types of numbers end in.
const BITS: [&str; 4] = ["8", "16", "32", "64"];
/// Letters of such a password at least: `Sha256` and `Base64` have fewer.
const COINED: usize = 7;
/// Words that stand where a real value would stand; the last are our own, and keys that are public.
static PLACEHOLDERS: Words = Words::new(|| words(include_str!("words/placeholders.txt")));
/// Parts of names and code that a guessed password is not made of.
static NOT_PASSWORDS: Words = Words::new(|| words(include_str!("words/not-passwords.txt")));
/// Parts of addresses whose encoded values say where a list goes on, or what to draw.
static NOT_DATA: Words = Words::new(|| words(include_str!("words/not-data.txt")));
/// Hosts that are asked with a mail address for the picture of its owner.
const PICTURES: &str = include_str!("words/pictures.txt");
/// What no generator of passwords makes, but by a rare chance.
static NOT_GENERATED: Words = Words::new(|| words(include_str!("words/not-generated.txt")));
/// Parts of names whose values are random and open nothing.
static NOT_SECRETS: Words = Words::new(|| words(include_str!("words/not-secrets.txt")));
/// Parts of names that make a secret even of what looks like a hash or an id.
static SECRETS: Words = Words::new(|| words(include_str!("words/secrets.txt")));
/// Words in the line before a mail address that its owner has published: signatures under commits, licences.
static PUBLISHED: Words = Words::new(|| words(include_str!("words/published.txt")));
/// Words in the lines before it that say the same.
static AUTHORS: Words = Words::new(|| words(include_str!("words/authors.txt")));
/// Parts of phone numbers that are kept for films and manuals, in Britain (Ofcom) and France (Arcep); the 555 of North America stands alone.
const FICTION: [&str; 4] = ["7700900", "2079460", "1632960", "019900"];
/// Ends of mail domains that are nobody's (RFC 2606, RFC 6761), or of file names that look like one.
const NOT_DOMAINS: &str = include_str!("words/not-domains.txt");
/// Names before the `@` that are no person's.
const NOT_PERSONS: &str = include_str!("words/not-persons.txt");
/// A known value of this length is recognised inside another, in bytes; a shorter one may be there by chance.
const KNOWN_INSIDE: usize = 12;
/// Values that manuals and standards print, one a line.
static KNOWN_EXAMPLES: Words = Words::new(|| words(include_str!("words/known-examples.txt")));
/// What the text that a rule spans must be besides matching the expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Validator {
    /// Anything.
    #[default]
    None,
    /// Not a placeholder.
    Token,
    /// Not a placeholder and random.
    Random,
    /// Random, and nothing before it names a value that opens nothing: for values that only their name makes a secret.
    Named,
    /// Not a placeholder, not a word, not code: for values that only their neighbourhood makes a password.
    Password,
    /// What a generator of passwords makes, whatever signs it uses; neither a word nor code.
    Generated,
    /// Letters of both cases, not a placeholder.
    Cased,
    /// A token that ends with the CRC-32 of what is before, as its maker writes it.
    Crc32,
    /// Three parts in base64url, the first the JSON object of a JOSE header (RFC 7515).
    Jwt,
    /// A block of base64 between two lines of dashes (RFC 7468) that holds more than dots.
    Pem,
    /// Base64 of `user:password`, and the password is no placeholder (RFC 7617).
    BasicAuth,
    /// A payment card number (ISO/IEC 7812): prefix, length, Luhn.
    Card,
    /// ISO 13616, mod 97.
    Iban,
    /// Brazilian CPF, two check digits mod 11.
    Cpf,
    /// Spanish DNI or NIE, letter mod 23.
    Dni,
    /// Indian Aadhaar, Verhoeff.
    Aadhaar,
    /// Area, group and serial of a social security number are none that is never given out.
    Ssn,
    /// Canadian SIN, Luhn.
    Luhn,
    /// Chinese resident identity number (GB 11643).
    ResidentId,
    /// Korean resident registration number.
    Rrn,
    /// Japanese individual number.
    MyNumber,
    /// British NHS number.
    Nhs,
    /// French NIR, mod 97.
    Nir,
    /// German tax identifier (ISO 7064, mod 11, 10).
    TaxId,
    /// Text in base64, base32 or hex.
    Coded,
    /// A phone number that is not one of fiction.
    Phone,
    /// The learned scorer takes it for an attempt of a user.
    LearnedAttempt,
    /// It takes it for an order to a model.
    LearnedOrder,
    /// A mail address outside the domains reserved for examples (RFC 2606, RFC 6761) that is nobody's signature.
    Mail,
    /// The same in an address that is asked for more than a picture of its owner.
    CarriedMail,
}

impl Validator {
    /// True when the rule would be a guess without the surrounding text.
    pub(super) fn is_guess(self) -> bool {
        matches!(self, Self::Named | Self::Password | Self::Generated | Self::CarriedMail) || self.lesson().is_some()
    }

    /// What the learned scorer is asked for instead of an expression.
    pub(super) fn lesson(self) -> Option<Lesson> {
        match self {
            Self::LearnedAttempt => Some(Lesson::ATTEMPTS),
            Self::LearnedOrder => Some(Lesson::ORDERS),
            _ => None,
        }
    }

    /// How sure a value is that has matched the rule's expression, in percent; 0: it is none. Lengths and alphabets are
    /// those of the expression. `before` is the text up to the value.
    pub(super) fn confidence(self, value: &[u8], before: &[u8]) -> u8 {
        let text = String::from_utf8_lossy(value);
        if let Some(lesson) = self.lesson() {
            return lesson.confidence(&text);
        }
        match self {
            _ if !self.accepts(&text, before) => 0,
            Self::Crc32 if !is_checked_by_crc32(&text) => DOUBTFUL,
            Self::Jwt if !is_jwt(&text) => DOUBTFUL,
            _ if !holds_its_inside(&text) => DOUBTFUL,
            _ => SURE,
        }
    }

    fn accepts(self, text: &str, before: &[u8]) -> bool {
        match self {
            Self::None | Self::LearnedAttempt | Self::LearnedOrder => true,
            Self::Token | Self::Crc32 => !is_placeholder(text),
            Self::Random => is_random(text),
            Self::Named => {
                let is_hidden = readable(text).is_none_or(|plain| is_random(&plain) || is_password(&plain));
                is_random(text) && is_named(text, &line(before)) && is_hidden
            }
            Self::Password => is_password(text) && !is_nothing(&line(before)),
            Self::Generated => {
                let line = line(before);
                let is_quoted = line.ends_with(QUOTES);
                let is_alone = is_quoted || !line.contains(STRUCTURE);
                is_alone && is_generated(text, is_quoted) && !is_nothing(&line)
            }
            Self::Cased => {
                let is_upper = text.bytes().filter(u8::is_ascii_uppercase).count();
                !is_placeholder(text) && is_upper >= 4 && entropy(text) >= TOKEN_BITS
            }
            Self::Jwt => !is_known(text),
            Self::Pem => text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '/')
                .any(|line| line.len() >= PEM_LINE),
            Self::BasicAuth => {
                let pair = String::from_utf8(STANDARD.decode(text).unwrap_or_default()).unwrap_or_default();
                pair.split_once(':').is_some_and(|(_, password)| is_password(password))
            }
            Self::Card => numbers::is_card(&digits(text)) && !is_known(text),
            Self::Iban => numbers::is_iban(text) && !is_known(text),
            Self::Cpf => numbers::is_cpf(text),
            Self::Dni => numbers::is_dni(text),
            Self::Aadhaar => numbers::is_aadhaar(&digits(text)),
            Self::Ssn => numbers::is_ssn(text) && !is_known(text),
            Self::Luhn => numbers::luhn(&digits(text)) && !is_known(text),
            Self::ResidentId => is_checked(text, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2], "10X98765432"),
            Self::Rrn => is_checked(text, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5], "10987654321"),
            Self::MyNumber => is_checked(text, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2], numbers::COMPLETES_11),
            Self::Nhs => is_checked(text, &[10, 9, 8, 7, 6, 5, 4, 3, 2], "0-987654321"),
            Self::Nir => {
                let number = digits(text).into_iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit));
                97 - number / 100 % 97 == number % 100
            }
            Self::TaxId => numbers::is_tax_id(&digits(text)),
            Self::Coded => is_coded(text) && !contains_any(&*line(before), &NOT_DATA),
            Self::Phone => {
                let number = text.replace(|c: char| !c.is_ascii_digit(), "");
                let is_fiction = text.contains("555") || FICTION.iter().any(|known| number.contains(known));
                !is_fiction && !is_placeholder(&number)
            }
            Self::Mail => is_mail(text) && !is_published(before),
            Self::CarriedMail => is_mail(&text.replace("%40", "@")) && !is_picture(before),
        }
    }
}

/// The end of the line before a value.
fn line(before: &[u8]) -> Cow<'_, str> {
    // Cut first: a line may be as long as the text, and every value looks at its own.
    let near = near(before, NAME_BYTES).rsplit(|b| *b == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(near)
}

fn near(before: &[u8], length: usize) -> &[u8] {
    before.get(before.len().saturating_sub(length)..).unwrap_or_default()
}

/// The value's name is one of those that open nothing, or the value is the default of a template's variable, or a test that passed.
fn is_nothing(line: &str) -> bool {
    let trimmed = line.trim_end_matches(|c: char| !c.is_alphanumeric());
    let name = trimmed.rsplit([' ', '\t', '"', '\'', '`', ',', '(']).next().unwrap_or_default();
    let is_verdict = line.trim_start_matches(['-', ' ', 'X']) == VERDICT;
    is_verdict || contains_any(name, &NOT_SECRETS) || line.rsplit('}').next().is_some_and(|open| open.contains("${"))
}

/// A name in a list of authors, or the lines of a signature, a licence, a commit.
fn is_published(before: &[u8]) -> bool {
    let line = line(before);
    let is_author = line.ends_with('<') && !line.contains(':') && line.contains(char::is_alphanumeric);
    let lines = near(before, AUTHOR_BYTES);
    let addresses = lines.iter().enumerate().rev().filter(|(_, b)| **b == b'@');
    let first = addresses.map(|(at, _)| at).nth(AUTHOR_ADDRESSES).unwrap_or_default();
    is_author || contains_any(&*line, &PUBLISHED) || contains_any(lines.get(first..).unwrap_or_default(), &AUTHORS)
}

/// The address that ends here leads to a maker of pictures of people, or to this machine.
fn is_picture(before: &[u8]) -> bool {
    let near = String::from_utf8_lossy(near(before, AUTHOR_BYTES));
    let address = near.rsplit(['(', '<', '"', '\'', ' ']).next().and_then(|address| address.split_once("://"));
    address.is_some_and(|(_, rest)| PICTURES.lines().any(|host| rest.starts_with(host)))
}

fn has_digits(text: &str, least: usize) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() >= least
}

fn is_placeholder(text: &str) -> bool {
    // `A` is a zero in base64: long runs of it are data, as long as there is more than them.
    let is_filling = |run: &[u8]| run.len() >= FILLING && (!run.starts_with(b"A") || run.len() * 3 > text.len());
    let digits = text.strip_prefix("0x").filter(|_| text.len() == ADDRESS_BYTES);
    let is_address = digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    is_address
        || contains_any(text, &PLACEHOLDERS)
        || text.as_bytes().chunk_by(|one, other| one == other).any(is_filling)
        || is_known(text)
}

/// The value, without blanks and dashes, holds one that everybody knows.
fn is_known(text: &str) -> bool {
    let plain = text.replace([' ', '-'], "");
    let is_it = |length: usize| length == plain.len() || length >= KNOWN_INSIDE;
    let known = KNOWN_EXAMPLES.as_ref().map(|known| known.find_overlapping_iter(&plain));
    known.into_iter().flatten().any(|known| is_it(known.len()))
}

/// Letters and digits, changing as often as chance makes them: no name, no path, no sentence.
fn is_random(text: &str) -> bool {
    let has_small = text.bytes().any(|b| b.is_ascii_lowercase());
    let has_capital = text.bytes().any(|b| b.is_ascii_uppercase());
    let least_digits = if has_small && has_capital { 1 } else { 2 };
    let is_mixed = has_digits(text, least_digits) && (has_small || has_capital);
    let is_chance = churn(text) >= TOKEN_CHURN && entropy(text) >= TOKEN_BITS && !is_wordy(text, 2);
    is_mixed && is_chance && !is_placeholder(text)
}

/// Small letters in runs, as in `X509KeyUsage`; chance makes few. Without capitals there is no telling. `least` is the
/// length of the shortest run that counts.
fn is_wordy(text: &str, least: usize) -> bool {
    let words = text.split(|c: char| !c.is_ascii_lowercase()).filter(|word| word.len() >= least);
    let share = words.map(str::len).sum::<usize>() * 100 / text.len().max(1);
    share > WORDY && text.bytes().any(|b| b.is_ascii_uppercase())
}

/// The text behind base64, if it is one: `cGFzc3dvcmQ=` is as little a secret as `password`.
fn readable(text: &str) -> Option<String> {
    let plain = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    plain.bytes().all(|b| b.is_ascii_graphic() || b == b' ').then_some(plain)
}

/// The name says that the value opens something; without such a name, hashes and ids are hashes and ids.
fn is_named(text: &str, line: &str) -> bool {
    let is_hash = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    !is_nothing(line) && (!is_hash || contains_any(line, &SECRETS))
}

/// How many of a hundred neighbours are of different kinds: capital, small, digit. A capital that begins a word is none.
fn churn(text: &str) -> usize {
    let kind = |b: &u8| (b.is_ascii_uppercase(), b.is_ascii_lowercase(), b.is_ascii_digit());
    let changes = |pair: &&[u8]| {
        let [one, other] = pair else { return false };
        let begins_word = one.is_ascii_uppercase() && other.is_ascii_lowercase();
        one.is_ascii_alphanumeric() && other.is_ascii_alphanumeric() && kind(one) != kind(other) && !begins_word
    };
    text.as_bytes().windows(2).filter(changes).count() * 100 / text.len().max(1)
}

/// Capitals, small letters and digits side by side, also where signs part them: names in code have digits at their ends.
fn is_generated(text: &str, is_quoted: bool) -> bool {
    let is_odd = text.starts_with(NO_BEGINNING);
    let is_plain = is_odd || text.bytes().all(|b| b.is_ascii_alphanumeric());
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
    kinds.iter().all(|is_kind| text.as_bytes().iter().any(is_kind))
        && (is_quoted && !text.starts_with("/tmp/") || !is_odd)
        && churn(text) + usize::from(is_odd) * ODD_CHURN >= if is_plain { GENERATED_CHURN } else { SIGNED_CHURN }
        && entropy(text) >= TOKEN_BITS
        && !is_wordy(text, 3)
        && !contains_any(text, &NOT_PASSWORDS)
        && !contains_any(text, &NOT_GENERATED)
        && !is_placeholder(text)
}

fn is_password(text: &str) -> bool {
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, u8::is_ascii_punctuation];
    let kinds = kinds.iter().filter(|is_kind| text.as_bytes().iter().any(is_kind)).count();
    // Names in code are made of letters, digits and these; passwords that people are made to choose have other signs.
    let is_word = !has_digits(text, 1);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:/".contains(&b) || is_word && b == b'-';
    let is_option =
        text.starts_with('-') && text.bytes().all(|b| b.is_ascii_lowercase() || b"0123456789.-".contains(&b));
    let is_heading = text.ends_with(':') && text.bytes().all(|b| is_plain(b) || b"-=".contains(&b));
    let is_chosen = kinds >= 3 && !text.bytes().all(is_plain);
    let is_made = kinds >= 2 && (kinds >= 3 || has_digits(text, 2)) && churn(text) >= TOKEN_CHURN && !is_wordy(text, 3);
    // Words and a year or so, as people choose them: `SunsetFern7366`.
    let words =
        text.trim_end_matches(|c: char| c.is_ascii_punctuation()).trim_end_matches(|c: char| c.is_ascii_digit());
    let is_coined = words.len() >= COINED
        && has_digits(text, 3)
        && words.bytes().all(|b| b.is_ascii_alphabetic())
        && words.starts_with(|c: char| c.is_ascii_uppercase())
        && words.ends_with(|c: char| c.is_ascii_lowercase());
    // Those of variables that may hold nothing: `String?`, `Int64?`.
    let name = text.trim_end_matches(['!', '?']);
    let name = BITS.iter().find_map(|bits| name.strip_suffix(bits).filter(|_| text.ends_with('?'))).unwrap_or(name);
    let is_type = name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'.' && text.ends_with('?'));
    (is_chosen || is_made || is_coined)
        && !is_option
        && !is_type
        && !is_heading
        && !text.starts_with("~/")
        && entropy(text) >= PASSWORD_BITS
        && !contains_any(text, &NOT_PASSWORDS)
        && !is_placeholder(text)
        && readable(text).is_none_or(|plain| is_password(&plain))
}

/// Shannon entropy in bits per byte.
fn entropy(text: &str) -> f64 {
    let mut bytes = text.as_bytes().to_vec();
    bytes.sort_unstable();
    let total = bytes.len() as f64;
    // One of a kind adds nothing to the sum: most are.
    let runs = bytes.chunk_by(|one, other| one == other).map(|run| run.len() as f64).filter(|length| *length > 1.0);
    total.log2() - runs.map(|length| length * length.log2()).sum::<f64>() / total
}

fn is_mail(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((name, domain)) = text.split_once('@') else { return false };
    let mut ends = domain.match_indices('.').filter_map(|(dot, _)| domain.get(dot + 1..)).chain([domain]);
    !ends.any(|end| NOT_DOMAINS.lines().any(|known| known == end)) && !NOT_PERSONS.lines().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::engine::BUILTIN;
    use crate::detect::{Finding, Scanner, Source};
    use serde_json::Value;

    /// The samples of a rule of tokens.
    fn samples(id: &str) -> Vec<String> {
        let rules: Vec<Value> = serde_json::from_str(BUILTIN[0]).unwrap();
        let rule = rules.iter().find(|rule| rule["id"] == id).unwrap();
        rule["positive"].as_array().unwrap().iter().map(|sample| sample.as_str().unwrap().to_owned()).collect()
    }

    fn only(text: &str) -> Finding {
        let mut findings = Scanner::builtin().unwrap().scan(text, Source::User);
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        findings.remove(0)
    }

    #[test]
    fn wrong_check_digits_and_contents_make_a_token_doubtful_and_never_hide_it() {
        // What to write for what, so that nothing but the form is wrong.
        for (id, right, wrong) in [
            ("secret.netbird", "yp1je", "yp1jf"),
            ("secret.polar", "tesl21", "tesl22"),
            ("secret.grafana", "_3886b324", "_24b38638"),
            ("secret.gitlab-token", ".01.0z13", ".01.0y13"),
            ("secret.pypi-token", "pypi-AgEIcHlwaS5vcmc", "pypi-AgEIcHlwaS5vcmd"),
            ("secret.sentry", "sntrys_eyJpYXQi", "sntrys_eyJpYXQo"),
            ("secret.aws-bedrock", "YmVkcm9jay5hbWF6b25hd3MuY29t", "YmVkcm9jay5hbWF6b25hd3MuY29s"),
            ("secret.fly", "fm2_lJ", "fm2_mJ"),
            ("secret.private-key", "b3BlbnNzaC1rZXktdjE", "b3BlbnNzaC1rZXktdjI"),
        ] {
            let sample = samples(id).remove(0);
            let found = only(&sample);
            assert!(found.rule == id && found.weight >= 90 && found.end == sample.len(), "{found:?}");
            // Without the name before it, which makes a token of any value.
            let spoiled = format!("See {}", sample[found.start..].replace(right, wrong));
            let doubtful = only(&spoiled);
            assert_eq!((&doubtful.rule, doubtful.start, doubtful.end), (&found.rule, 4, spoiled.len()));
            assert_eq!(doubtful.weight, (u16::from(found.weight) * u16::from(DOUBTFUL) / 100) as u8, "{spoiled}");
        }
    }

    #[test]
    fn a_token_of_a_maker_whose_other_tokens_have_check_digits_is_as_sure_without_them() {
        for (id, sample) in [("secret.gitlab-token", 1), ("secret.gitlab-token", 2), ("secret.grafana", 2)] {
            assert_eq!(only(&samples(id)[sample]).weight, 90);
        }
        assert_eq!(only(&samples("secret.sentry")[1]).end, samples("secret.sentry")[1].len());
    }

    #[test]
    fn the_type_of_a_variable_that_may_hold_nothing_is_no_password() {
        for text in ["String?", "LocalDateTime?", "DateTime?", "Int64?", "java.time.Instant?", "String!"] {
            assert!(!Validator::Password.accepts(text, b"val password: "), "{text}");
        }
        for text in ["Summer2024?", "Gk7#pLq9?", "Dragon16!", "Falcon99?"] {
            assert!(Validator::Password.accepts(text, b"val password: "), "{text}");
        }
    }
}
