//! Whatever is done to the log behind our back is found by `verify`.

use crate::audit_place::{Place, chain_key, clean, event, head_key};
use infershield::audit::{Anchor, Error, verify};
use infershield::secret::Key;
use std::fs;

const LINES: usize = 5;

/// A log of five lines, its month file, and the lines as they stand there.
fn small_log() -> (Place, std::path::PathBuf, Vec<Vec<u8>>) {
    let place = Place::new();
    place.append(LINES);
    assert_eq!(place.verify(), clean(LINES as u64));
    let month = place.month();
    let bytes = fs::read(&month).unwrap();
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    assert_eq!(lines.len(), LINES);
    (place, month, lines)
}

#[test]
fn every_changed_byte_of_the_log_is_found() {
    let (place, month, lines) = small_log();
    let whole = lines.concat();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&month, &changed).unwrap();
        assert!(place.is_broken(), "byte {at}");
    }
    fs::write(&month, &whole).unwrap();
    assert_eq!(place.verify(), clean(LINES as u64));
}

#[test]
fn every_cut_of_the_log_is_found() {
    let (place, month, lines) = small_log();
    let whole = lines.concat();
    for len in 0..whole.len() {
        fs::write(&month, &whole[..len]).unwrap();
        assert!(place.is_broken(), "{len} bytes");
    }
}

#[test]
fn every_removed_repeated_or_moved_line_is_found_where_it_is() {
    let (place, month, lines) = small_log();
    for at in 0..LINES {
        let mut without = lines.clone();
        let line = without.remove(at);
        for to in 0..=LINES {
            let mut repeated = lines.clone();
            repeated.insert(to, line.clone());
            fs::write(&month, repeated.concat()).unwrap();
            assert!(place.is_broken(), "line {at} again at {to}");
        }
        for to in (0..LINES).filter(|to| *to != at) {
            let mut moved = without.clone();
            moved.insert(to, line.clone());
            fs::write(&month, moved.concat()).unwrap();
            assert!(place.is_broken(), "line {at} moved to {to}");
        }
        fs::write(&month, without.concat()).unwrap();
        match place.verify() {
            Err(Error::Broken { line, .. }) => assert_eq!(line, Some(at as u64 + 1)),
            verdict => panic!("line {at} removed: {verdict:?}"),
        }
    }
}

#[test]
fn a_line_of_another_log_is_found_though_its_number_fits() {
    let (place, month, mut lines) = small_log();
    let other = Place::new();
    for number in 0..LINES {
        other.open().append(&event(number + 100)).unwrap();
    }
    let foreign = fs::read(other.month()).unwrap();
    let foreign: Vec<&[u8]> = foreign.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..LINES {
        let own = std::mem::replace(&mut lines[at], foreign[at].to_vec());
        fs::write(&month, lines.concat()).unwrap();
        assert!(place.is_broken(), "line {at}");
        lines[at] = own;
    }
}

#[test]
fn every_changed_byte_of_the_head_and_every_cut_is_found() {
    let (place, _, _) = small_log();
    let head = place.path("head.json");
    let whole = fs::read(&head).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&head, &changed).unwrap();
        assert!(place.is_broken(), "byte {at}");
        fs::write(&head, &whole[..at]).unwrap();
        assert!(place.is_broken(), "{at} bytes");
    }
    fs::write(&head, [&whole[..], b" "].concat()).unwrap();
    assert!(place.is_broken());
}

#[test]
fn the_head_has_the_members_and_the_length_it_promises() {
    let (place, month, _) = small_log();
    let bytes = fs::read(place.path("head.json")).unwrap();
    assert_eq!(bytes.len(), 439);
    let head: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let members: Vec<&str> = head.as_object().unwrap().keys().map(String::as_str).collect();
    let mut named = ["v", "file", "len", "seq", "mac", "synced", "boot", "seal"];
    named.sort_unstable();
    assert_eq!(members, named);
    assert_eq!(head["seq"], LINES);
    assert_eq!(head["len"], fs::metadata(&month).unwrap().len());
    assert_eq!(head["synced"]["mac"], head["mac"]);
    let text = String::from_utf8(bytes).unwrap();
    let (body, seal) = text.split_once(",\"seal\":\"").unwrap();
    assert_eq!(seal, format!("{}\"}}\n", head_key().mac(&[body.as_bytes()])));
}

#[test]
fn a_missing_head_month_or_folder_is_found() {
    let (place, month, _) = small_log();
    for file in [month, place.path("head.json")] {
        let away = place.dir.join("away");
        fs::rename(&file, &away).unwrap();
        assert!(place.is_broken(), "{}", file.display());
        fs::rename(&away, &file).unwrap();
    }
    fs::rename(place.dir.join("audit"), place.dir.join("away")).unwrap();
    assert!(place.is_broken());
}

#[test]
fn an_older_log_and_head_put_back_together_are_caught_by_the_anchor_alone() {
    let place = Place::new();
    place.append(3);
    let (month, head) = (place.month(), place.path("head.json"));
    let older = (fs::read(&month).unwrap(), fs::read(&head).unwrap());
    let early = place.open().anchor().unwrap();
    place.append(2);
    let late = Anchor::parse(&place.open().anchor().unwrap().to_string()).unwrap();
    assert_eq!(place.expect(Some(&early)), clean(5));
    assert_eq!(place.expect(Some(&late)), clean(5));
    fs::write(&month, older.0).unwrap();
    fs::write(&head, older.1).unwrap();
    assert_eq!(place.verify(), clean(3));
    assert_eq!(place.expect(Some(&early)), clean(3));
    assert!(matches!(place.expect(Some(&late)), Err(Error::Broken { line: Some(3), .. })));
}

#[test]
fn without_the_right_keys_nothing_is_called_whole() {
    let (place, _, _) = small_log();
    let other = || Key::new([9; 32]);
    for (chain_key, head_key) in [(other(), head_key()), (chain_key().key, other())] {
        assert!(matches!(verify(&place.home(), &chain_key, &head_key, None), Err(Error::Broken { .. })));
    }
}

#[test]
fn random_bytes_in_place_of_log_and_head_never_panic_and_never_verify() {
    let (place, month, lines) = small_log();
    let head = fs::read(place.path("head.json")).unwrap();
    let mut state = 7_u64;
    let mut random = || {
        // Knuth's linear congruential generator: the same bytes in every run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..500 {
        let mut bytes = lines.concat();
        for _ in 0..=random() % 20 {
            let (at, len) = (random() % bytes.len(), random() % 40);
            let junk: Vec<u8> = (0..len).map(|_| random() as u8).collect();
            let end = (at + random() % 40).min(bytes.len());
            bytes.splice(at..end, junk);
            bytes.push(b'\n');
        }
        fs::write(&month, &bytes).unwrap();
        assert!(place.is_broken());
        let cut = random() % head.len();
        fs::write(place.path("head.json"), bytes.get(..cut).unwrap_or(&bytes)).unwrap();
        assert!(place.is_broken());
        fs::write(place.path("head.json"), &head).unwrap();
    }
}
