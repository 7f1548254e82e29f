//! Checks that an expression cannot do: check digits, randomness, placeholders.
//! Must never reject a value only because its check digits are wrong when its form is unmistakable.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Bits per character that a random token reaches and a name does not.
const TOKEN_BITS: f64 = 3.0;
/// Bits per character that a good password reaches and a word does not.
const PASSWORD_BITS: f64 = 2.5;
/// A character repeated this often in a row is filling.
const FILLING: usize = 6;
/// Words that stand where a real value would stand.
const PLACEHOLDERS: [&str; 17] = [
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "your",
    "dummy",
    "xxxx",
    "...",
    "1234567",
    "abcdefgh",
    "redacted",
    "insert",
    "replace",
    "sample",
    "todo",
    "foobar",
    "0000000",
];
/// Parts of names, code and words that a guessed password is not made of.
const NOT_PASSWORDS: [&str; 18] = [
    "password",
    "secret",
    "token",
    "test",
    "fake",
    "process.",
    "env",
    "config",
    "null",
    "none",
    "true",
    "false",
    "undefined",
    "function",
    "default",
    "string",
    "mock",
    "http",
];

/// What the text that a rule spans must be besides matching the expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Validator {
    /// Anything.
    #[default]
    None,
    /// Not a placeholder.
    Token,
    /// Not a placeholder and random: for values that only their neighbourhood makes a secret.
    Random,
    /// Not a placeholder, not a word, not code: for values that only their neighbourhood makes a password.
    Password,
    /// Base64 of a JSON object up to the first dot (RFC 7519).
    Base64Json,
    /// Base64 of `user:password`, and the password is no placeholder (RFC 7617).
    BasicAuth,
    /// A payment card number (ISO/IEC 7812): prefix, length, Luhn.
    Card,
    /// ISO 13616, mod 97.
    Iban,
    /// Brazilian CPF, two check digits mod 11.
    Cpf,
    /// Spanish DNI, letter mod 23.
    Dni,
    /// Indian Aadhaar, Verhoeff.
    Aadhaar,
    /// Area, group and serial of a social security number are none that is never given out.
    Ssn,
    /// A phone number that is not one of fiction.
    Phone,
    /// A mail address outside the domains reserved for examples (RFC 2606, RFC 6761).
    Mail,
}

impl Validator {
    /// True when the rule would be a guess without the surrounding text.
    pub(super) fn is_guess(self) -> bool {
        matches!(self, Self::Random | Self::Password)
    }

    pub(super) fn accepts(self, value: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(value) else {
            return self == Self::None;
        };
        match self {
            Self::None => true,
            Self::Token => !is_placeholder(text),
            Self::Random => !is_placeholder(text) && is_mixed(text) && entropy(text) >= TOKEN_BITS,
            Self::Password => is_password(text),
            Self::Base64Json => {
                let header = text.split('.').next().unwrap_or_default();
                let json = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
                json.starts_with(b"{")
            }
            Self::BasicAuth => {
                let pair = STANDARD.decode(text).unwrap_or_default();
                let pair = String::from_utf8(pair).unwrap_or_default();
                pair.split_once(':').is_some_and(|(_, password)| is_password(password))
            }
            Self::Card => is_card(&digits(text)),
            Self::Iban => is_iban(text),
            Self::Cpf => is_cpf(&digits(text)),
            Self::Dni => is_dni(text),
            Self::Aadhaar => is_aadhaar(&digits(text)),
            Self::Ssn => is_ssn(&digits(text)),
            Self::Phone => !text.contains("555") && !text.contains("1234") && !is_placeholder(text),
            Self::Mail => is_mail(text),
        }
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn is_placeholder(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let filled = text.as_bytes().chunk_by(|one, other| one == other);
    PLACEHOLDERS.iter().any(|word| text.contains(word)) || filled.into_iter().any(|run| run.len() >= FILLING)
}

/// Letters and at least two digits, as in nearly every random token and hardly any name.
fn is_mixed(text: &str) -> bool {
    digits(text).len() >= 2 && text.bytes().any(|b| b.is_ascii_alphabetic())
}

fn is_password(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let kinds = [
        text.bytes().any(|b| b.is_ascii_lowercase()),
        text.bytes().any(|b| b.is_ascii_uppercase()),
        text.bytes().any(|b| b.is_ascii_digit()),
        text.bytes().any(|b| b.is_ascii_punctuation()),
    ];
    !is_placeholder(text)
        && !NOT_PASSWORDS.iter().any(|word| lower.contains(word))
        && kinds.iter().filter(|present| **present).count() >= 3
        && entropy(text) >= PASSWORD_BITS
}

/// Shannon entropy in bits per byte.
fn entropy(text: &str) -> f64 {
    let mut bytes = text.as_bytes().to_vec();
    bytes.sort_unstable();
    let total = bytes.len() as f64;
    let runs = bytes.chunk_by(|one, other| one == other);
    -runs.map(|run| run.len() as f64 / total).map(|share| share * share.log2()).sum::<f64>()
}

/// Luhn (ISO/IEC 7812-1), and the prefixes and lengths of the card networks.
fn is_card(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    let prefix = number(digits.iter().take(4));
    let network = match digits.len() {
        15 => matches!(prefix / 100, 34 | 37),
        16 => matches!(prefix, 2221..=2720 | 4000..=4999 | 5100..=5599 | 6011 | 6440..=6599),
        _ => false,
    };
    // The numbers of payment providers' manuals (4242…, 4111…) repeat two or three digits.
    let mut distinct = digits.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    sum.is_multiple_of(10) && network && distinct.len() > 4
}

fn number<'a>(digits: impl Iterator<Item = &'a u32>) -> u32 {
    digits.fold(0, |sum, digit| sum.saturating_mul(10).saturating_add(*digit))
}

fn is_iban(text: &str) -> bool {
    let text: Vec<u32> = text.chars().filter_map(|c| c.to_digit(36)).collect();
    let Some((head, tail)) = text.split_at_checked(4) else {
        return false;
    };
    let remainder = tail.iter().chain(head).fold(0, |sum, &value| {
        let shifted = if value > 9 { sum * 100 } else { sum * 10 };
        (shifted + value) % 97
    });
    remainder == 1
}

fn is_cpf(digits: &[u32]) -> bool {
    let check = |count: usize| {
        let weights = (2..).take(count).collect::<Vec<u32>>();
        let sum: u32 = digits.iter().take(count).zip(weights.iter().rev()).map(|(d, w)| d * w).sum();
        sum * 10 % 11 % 10
    };
    let varied = digits.windows(2).any(|pair| pair.first() != pair.last());
    varied && digits.len() == 11 && digits.get(9) == Some(&check(9)) && digits.get(10) == Some(&check(10))
}

fn is_dni(text: &str) -> bool {
    let letter = text.bytes().last();
    let number = number(digits(text).iter());
    let expected = b"TRWAGMYFPDXBNJZSQVHLCKE".get((number % 23) as usize);
    letter.as_ref() == expected
}

/// Verhoeff's scheme, by its definition over the dihedral group of order ten.
fn is_aadhaar(digits: &[u32]) -> bool {
    let turn = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permute = |digit: u32, times: usize| {
        (0..times).fold(digit, |digit, _| [1, 5, 7, 6, 2, 8, 3, 0, 9, 4].get(digit as usize).copied().unwrap_or(0))
    };
    let sum = digits.iter().rev().enumerate();
    let sum = sum.fold(0, |sum, (place, &digit)| turn(sum, permute(digit, place % 8)));
    digits.len() == 12 && digits.first() > Some(&1) && sum == 0
}

fn is_ssn(digits: &[u32]) -> bool {
    let area = number(digits.iter().take(3));
    let group = number(digits.iter().skip(3).take(2));
    let serial = number(digits.iter().skip(5));
    // 078-05-1120 was printed on a specimen card, 219-09-9999 in a leaflet, 123-45-6789 everywhere.
    let famous = matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999) | (123, 45, 6789) | (987, 65, 4321));
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !famous
}

fn is_mail(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((name, domain)) = text.split_once('@') else {
        return false;
    };
    let reserved = [
        "example.com",
        "example.org",
        "example.net",
        "email.com",
        "domain.com",
        "test.com",
        "users.noreply.github.com",
    ];
    let reserved_ends = [".example", ".test", ".invalid", ".localhost", ".local", ".png", ".svg", ".jpg", ".js", ".ts"];
    !reserved.iter().any(|word| domain == *word || domain.ends_with(&format!(".{word}")))
        && !reserved_ends.iter().any(|end| domain.ends_with(end))
        && !matches!(
            name,
            "git"
                | "noreply"
                | "no-reply"
                | "user"
                | "me"
                | "you"
                | "your"
                | "name"
                | "test"
                | "support"
                | "info"
                | "security"
                | "hello"
                | "contact"
                | "admin"
        )
}
