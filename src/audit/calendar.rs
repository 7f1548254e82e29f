//! The wall clock, and days and months of the civil calendar in UTC, for file names and reports.
//! Must never fail or run long, whatever number it is given.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day; UTC as Unix counts it has no leap seconds.
const DAY: u64 = 86_400;
/// As HTTP writes them.
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
/// The last second that has a four-digit year: 9999-12-31T23:59:59Z. Later ones are taken for it.
const LAST_SECOND: u64 = 253_402_300_799;

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The UTC day of a moment in seconds since 1970, as `2026-11-24`: month after month is taken off.
pub(super) fn day(timestamp: u64) -> String {
    let mut days = timestamp.min(LAST_SECOND) / DAY;
    let (mut year, mut month) = (1970, 1);
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The moment as `2026-11-24 04:07:32` (UTC).
pub(super) fn moment(timestamp: u64) -> String {
    let second = timestamp.min(LAST_SECOND) % DAY;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{} {hour:02}:{minute:02}:{:02}", day(timestamp), second % 60)
}

/// The file in which a line of this moment belongs: `2026-11.jsonl`. Names sort like months.
pub(super) fn month_file(timestamp: u64) -> String {
    let mut name = day(timestamp);
    name.truncate("2026-11".len());
    name + ".jsonl"
}

/// True for the names that [`month_file`] makes.
pub(super) fn is_month_file(name: &str) -> bool {
    is_like("0000-00.jsonl", name)
}

/// What a person types after `--since`, as the earliest wanted moment in the form of `moment`: a UTC day (`2026-11-24`),
/// an age before `now` (`30m`, `24h`, `7d`), or seconds since 1970. `None` when it is none of these.
pub fn parse_since(text: &str, now: u64) -> Option<String> {
    // Moments sort like their texts, so a day can be compared as it is.
    if is_like("0000-00-00", text) {
        return is_day(text).then(|| text.to_owned());
    }
    for (unit, seconds) in [('m', 60), ('h', 3600), ('d', DAY)] {
        if let Some(number) = text.strip_suffix(unit) {
            let age = number.parse::<u64>().ok()?.saturating_mul(seconds);
            return Some(moment(now.saturating_sub(age)));
        }
    }
    text.parse().ok().map(moment)
}

/// Whether this moment, as HTTP writes it (RFC 9110, 5.6.7), is within so many seconds of now; `None` when it is no moment.
pub fn is_near(date: &str, seconds: u64) -> Option<bool> {
    let mut words = date.split(' ').skip(1);
    let (day, month) = (words.next()?, MONTHS.find(words.next()?)? / 3 + 1);
    let there = format!("{}-{month:02}-{day} {}", words.next()?, words.next()?);
    let (from, to) = (now().saturating_sub(seconds), now().saturating_add(seconds));
    Some((moment(from)..=moment(to)).contains(&there))
}

/// Whether the calendar has this day.
fn is_day(text: &str) -> bool {
    let parts: Vec<u64> = text.split('-').filter_map(|part| part.parse().ok()).collect();
    matches!(parts.as_slice(), &[year, month @ 1..=12, day] if (1..=days_of_month(year, month)).contains(&day))
}

/// True when a text has digits where the form has them, and is like it elsewhere.
fn is_like(form: &str, text: &str) -> bool {
    let fits = |(form, byte): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    form.len() == text.len() && form.bytes().zip(text.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_until_2500_is_the_day_after_the_one_before() {
        let mut before = day(0);
        assert_eq!(before, "1970-01-01");
        for number in 1..193_000 {
            let now = day(number * DAY + 1);
            assert!(now > before);
            assert_eq!(now[8..] != *"01", now[..7] == before[..7]);
            before = now;
        }
    }

    #[test]
    fn known_moments_read_as_the_world_reads_them() {
        assert_eq!(moment(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(moment(1_795_493_252), "2026-11-24 04:07:32");
        assert_eq!(month_file(4_107_542_400), "2100-03.jsonl");
        assert_eq!(moment(u64::MAX), "9999-12-31 23:59:59");
        assert!(is_month_file(&month_file(0)));
        assert!(!is_month_file("2026-1.jsonl") && !is_month_file("head.json"));
    }

    #[test]
    fn since_is_a_number_a_day_or_an_age() {
        let at = |text| parse_since(text, 951_782_399);
        assert_eq!(at("951782400").unwrap(), "2000-02-29 00:00:00");
        assert_eq!(at("1h").unwrap(), "2000-02-28 22:59:59");
        assert_eq!(at("99999d").unwrap(), "1970-01-01 00:00:00");
        assert_eq!(at("2026-11-24").unwrap(), "2026-11-24");
        assert_eq!(at("2024-02-29").unwrap(), "2024-02-29");
        for nonsense in [
            "",
            "h",
            "24.11.2026",
            "yesterday",
            "-1",
            "1.5h",
            "2026-11-2x",
            "2026-13-45",
            "2026-00-01",
            "2026-04-31",
            "2026-02-29",
            "2026-11-00",
            "2026-11-24T04:07Z",
            "99999999999999999999",
        ] {
            assert_eq!(at(nonsense), None, "{nonsense}");
        }
    }
}
