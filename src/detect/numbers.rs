//! Numbers that their check digits tell from others: cards, accounts, national identifiers.
//! Must never know where a number stood.

use std::collections::HashSet;

/// Of the second check digit, which also covers the first; the first has the same without the 11.
const CPF_WEIGHTS: &[u32] = &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2];
/// What completes a sum to a multiple of 11, for each remainder; a 10 is written 0.
pub(super) const COMPLETES_11: &str = "00987654321";
/// Verhoeff's permutation of the digits.
const VERHOEFF: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];

pub(super) fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// ISO/IEC 7812-1.
pub(super) fn luhn(digits: &[u32]) -> bool {
    let weighted = digits.iter().rev().zip([1, 2].into_iter().cycle()).map(|(digit, weight)| digit * weight);
    weighted.map(|digit| digit / 10 + digit % 10).sum::<u32>().is_multiple_of(10)
}

/// Luhn, and the prefixes and lengths of the card networks.
pub(super) fn is_card(digits: &[u32]) -> bool {
    let prefix = digits.iter().take(4).fold(0, |prefix, digit| prefix * 10 + digit);
    let network = match digits.len() {
        14 => matches!(prefix, 3000..=3059 | 3600..=3699 | 3800..=3999),
        15 => matches!(prefix, 3400..=3499 | 3700..=3799),
        _ => matches!(prefix, 2221..=2720 | 3528..=3589 | 4000..=4999 | 5100..=5599 | 6011 | 6200..=6299 | 6440..=6599),
    };
    // The numbers of payment providers' manuals (4242…, 4111…) repeat two or three digits.
    let distinct: HashSet<&u32> = digits.iter().collect();
    luhn(digits) && network && distinct.len() > 4
}

/// The character after the weighted digits is that of `checks` at the place of their sum mod 11.
pub(super) fn is_checked(text: &str, weights: &[u32], checks: &str) -> bool {
    let plain = text.replace(|c: char| !c.is_ascii_alphanumeric(), "").to_ascii_uppercase();
    let sum: u32 = plain.chars().zip(weights).filter_map(|(c, weight)| Some(c.to_digit(10)? * weight)).sum();
    plain.chars().nth(weights.len()) == checks.chars().nth(sum as usize % 11)
}

/// ISO 7064, mod 11, 10.
pub(super) fn is_tax_id(digits: &[u32]) -> bool {
    let Some((check, number)) = digits.split_last() else { return false };
    let product = number.iter().fold(10, |product, digit| match (product + digit) % 10 {
        0 => 20 % 11,
        sum => sum * 2 % 11,
    });
    (11 - product) % 10 == *check
}

/// The first four characters go to the end, letters count from 10: the number is 1 mod 97.
pub(super) fn is_iban(text: &str) -> bool {
    let values = text.chars().filter_map(|c| c.to_digit(36));
    let rotated = values.clone().skip(4).chain(values.take(4));
    let remainder = rotated.fold(0, |sum, value| {
        let shifted = if value > 9 { sum * 100 } else { sum * 10 };
        (shifted + value) % 97
    });
    remainder == 1
}

/// Both check digits; the same digit eleven times has right ones, and is nobody's.
pub(super) fn is_cpf(text: &str) -> bool {
    let first = CPF_WEIGHTS.get(1..).unwrap_or_default();
    let is_varied = digits(text).windows(2).any(|pair| pair.first() != pair.last());
    is_varied && is_checked(text, first, COMPLETES_11) && is_checked(text, CPF_WEIGHTS, COMPLETES_11)
}

/// Eight digits, of which the first may be written as X, Y or Z, and the letter that their number has mod 23.
pub(super) fn is_dni(text: &str) -> bool {
    let text = text.replace(['.', '-'], "");
    let number = text.replace('X', "0").replace('Y', "1").replace('Z', "2");
    let number = number.get(..8).and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
    "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth(number % 23) == text.chars().last()
}

/// Verhoeff's scheme, by its definition over the dihedral group of order ten: 0 to 4 turn, 5 to 9 mirror and turn.
pub(super) fn is_aadhaar(digits: &[u32]) -> bool {
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
pub(super) fn is_ssn(text: &str) -> bool {
    let never = ["000", "666", "9"].iter().any(|area| text.starts_with(area));
    !never && !text.contains("-00-") && !text.ends_with("-0000")
}
