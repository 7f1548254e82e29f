//! Checks that an expression cannot do: check digits, randomness, placeholders.
//! Must never reject a value only because its check digits are wrong when its form is unmistakable.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Bits per character that a random token reaches and a name does not.
const TOKEN_BITS: f64 = 3.0;
/// Bits per character that a good password reaches and a word does not.
const PASSWORD_BITS: f64 = 2.5;
/// A character repeated this often in a row is filling.
const FILLING: usize = 6;
/// Words that stand where a real value would stand.
const PLACEHOLDERS: &str = "example placeholder changeme change_me your dummy xxxx ... 1234567 abcdefgh redacted insert replace sample \
    todo foobar";
/// Parts of names and code that a guessed password is not made of.
const NOT_PASSWORDS: &str = "password secret token test fake process. env config default mock http";
/// Ends of mail domains that are nobody's (RFC 2606, RFC 6761), or of file names that look like one.
const NOT_DOMAINS: &str = "example.com example.org example.net email.com domain.com test.com users.noreply.github.com example test \
    invalid localhost local png svg jpg js ts";
/// Names before the `@` that are no person's.
const NOT_PERSONS: &str = "git noreply no-reply user me you your name test support info security hello contact admin";
/// Printed on a specimen card, in a leaflet, everywhere, everywhere.
const FAMOUS_SSNS: &str = "078-05-1120 219-09-9999 123-45-6789 987-65-4321";
/// Verhoeff's permutation of the digits.
const VERHOEFF: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];

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

    /// Checks a value that has matched the rule's expression: lengths and alphabets are those of the expression.
    pub(super) fn accepts(self, value: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(value) else {
            return self == Self::None;
        };
        match self {
            Self::None => true,
            Self::Token => !is_placeholder(text),
            Self::Random => !is_placeholder(text) && is_mixed(text) && entropy(text) >= TOKEN_BITS,
            Self::Password => is_password(text),
            Self::BasicAuth => {
                let pair = String::from_utf8(STANDARD.decode(text).unwrap_or_default()).unwrap_or_default();
                pair.split_once(':').is_some_and(|(_, password)| is_password(password))
            }
            Self::Card => is_card(&digits(text)),
            Self::Iban => is_iban(text),
            Self::Cpf => is_cpf(&digits(text)),
            Self::Dni => is_dni(text),
            Self::Aadhaar => is_aadhaar(&digits(text)),
            Self::Ssn => is_ssn(text),
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
    let mut runs = text.as_bytes().chunk_by(|one, other| one == other);
    PLACEHOLDERS.split(' ').any(|word| text.contains(word)) || runs.any(|run| run.len() >= FILLING)
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
        && !NOT_PASSWORDS.split(' ').any(|word| lower.contains(word))
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

/// Luhn (ISO/IEC 7812-1), and the prefixes of the card networks.
fn is_card(digits: &[u32]) -> bool {
    let mut sum = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let weighted = if place % 2 == 0 { *digit } else { digit * 2 };
        sum += weighted / 10 + weighted % 10;
    }
    let prefix = digits.iter().take(4).fold(0, |prefix, digit| prefix * 10 + digit);
    let network = match digits.len() {
        15 => true,
        _ => matches!(prefix, 2221..=2720 | 4000..=4999 | 5100..=5599 | 6011 | 6440..=6599),
    };
    // The numbers of payment providers' manuals (4242…, 4111…) repeat two or three digits.
    let distinct: BTreeSet<&u32> = digits.iter().collect();
    sum.is_multiple_of(10) && network && distinct.len() > 4
}

/// The first four characters go to the end, letters count from 10: the number is 1 mod 97.
fn is_iban(text: &str) -> bool {
    let values = text.chars().filter_map(|c| c.to_digit(36));
    let rotated = values.clone().skip(4).chain(values.take(4));
    let remainder = rotated.fold(0, |sum, value| {
        let shifted = if value > 9 { sum * 100 } else { sum * 10 };
        (shifted + value) % 97
    });
    remainder == 1
}

/// Each of the last two digits checks those before it, weighted 2, 3, … from the right, mod 11.
fn is_cpf(digits: &[u32]) -> bool {
    let is_checked = |at: usize| {
        let sum: u32 = digits.iter().take(at).rev().zip(2..).map(|(digit, weight)| digit * weight).sum();
        digits.get(at) == Some(&(sum * 10 % 11 % 10))
    };
    let varied = digits.iter().any(|digit| Some(digit) != digits.first());
    varied && is_checked(9) && is_checked(10)
}

/// Eight digits and the letter that their number has mod 23.
fn is_dni(text: &str) -> bool {
    let number = text.trim_end_matches(char::is_alphabetic).parse::<usize>().unwrap_or_default();
    "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth(number % 23) == text.chars().last()
}

/// Verhoeff's scheme, by its definition over the dihedral group of order ten: 0 to 4 turn, 5 to 9 mirror and turn.
fn is_aadhaar(digits: &[u32]) -> bool {
    let mut sum = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let permute = |digit: u32| VERHOEFF.get(digit as usize).copied().unwrap_or_default();
        let other = (0..place % 8).fold(*digit, |digit, _| permute(digit));
        let turned = if sum < 5 { sum + other } else { sum + 5 - other };
        let mirrored = (sum < 5) != (other < 5);
        sum = turned % 5 + if mirrored { 5 } else { 0 };
    }
    sum == 0
}

/// `AAA-GG-SSSS`: no area, group or serial that is never given out.
fn is_ssn(text: &str) -> bool {
    let never = ["000", "666", "9"].iter().any(|area| text.starts_with(area));
    !never && !text.contains("-00-") && !text.ends_with("-0000") && !FAMOUS_SSNS.contains(text)
}

fn is_mail(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((name, domain)) = text.split_once('@') else {
        return false;
    };
    let ends_in = |end: &str| domain.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !NOT_DOMAINS.split(' ').any(ends_in) && !NOT_PERSONS.split(' ').any(|other| other == name)
}
