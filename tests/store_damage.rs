//! Whatever is done to our files: a clear error that names the file, and the file is left as it is.

use crate::store_support::{NOW, TestHome, add_exception, filled, new_key, record};
use infershield::home::Privacy;
use infershield::keys::Keys;
use infershield::secret::{Sealed, Secret};
use infershield::store::{FileStore, State};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

/// One low bit, the bit of upper and lower case, and the highest one, which breaks UTF-8.
const FLIPS: [u8; 3] = [0x01, 0x20, 0x80];

/// Reads and tries to write one file; the first error as text.
type Use = fn(&FileStore) -> Result<(), String>;

fn text_of<T>(result: infershield::store::Result<T>) -> Result<(), String> {
    result.map(|_| ()).map_err(|error| error.to_string())
}

fn use_tokens(store: &FileStore) -> Result<(), String> {
    text_of(store.records("alex")).and(text_of(store.records("bo")))
}

fn write_tokens(store: &FileStore) -> Result<(), String> {
    text_of(store.save("alex", &record("openai", "newer")))
}

fn use_keys(store: &FileStore) -> Result<(), String> {
    text_of(store.look_up("isk_unknown", NOW))
}

fn write_keys(store: &FileStore) -> Result<(), String> {
    text_of(store.create_key("alex", &new_key("newer"), NOW))
}

fn use_exceptions(store: &FileStore) -> Result<(), String> {
    text_of(store.exceptions("alex"))
}

fn write_exceptions(store: &FileStore) -> Result<(), String> {
    text_of(add_exception(store, "newer"))
}

const FILES: [(&str, Use, Use); 3] = [
    ("tokens.json", use_tokens, write_tokens),
    ("local-keys.json", use_keys, write_keys),
    ("exceptions.json", use_exceptions, write_exceptions),
];

/// Puts `bytes` in the file's place and expects reader and writer to refuse it by name and leave it alone.
fn refused(test: &TestHome, store: &FileStore, file: &str, uses: [Use; 2], bytes: &[u8]) {
    test.put(file, bytes);
    for action in uses {
        let Err(error) = action(store) else {
            panic!("taken: {}", String::from_utf8_lossy(bytes));
        };
        assert!(error.contains(&test.0.join(file).display().to_string()));
        assert!(error.contains("left as it is"));
    }
    assert_eq!(test.bytes(file), bytes);
}

#[test]
fn every_flipped_byte_of_a_state_file_is_refused() {
    let test = filled();
    let store = test.store();
    // One entry in each file is enough, and three times as quick.
    assert!(store.remove("alex", "corp").unwrap() && store.remove("bo", "openai").unwrap());
    for (file, read, write) in FILES {
        let whole = test.bytes(file);
        for at in 0..whole.len() {
            for flip in FLIPS {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                refused(&test, &store, file, [read, write], &bytes);
            }
        }
        test.put(file, &whole);
        read(&store).unwrap();
    }
}

#[test]
fn every_cut_and_every_addition_to_a_state_file_is_refused() {
    let test = filled();
    let store = test.store();
    for (file, read, write) in FILES {
        let whole = test.bytes(file);
        for length in 0..whole.len() {
            refused(&test, &store, file, [read, write], &whole[..length]);
        }
        let longer = [&whole[..], b"\n"].concat();
        refused(&test, &store, file, [read, write], &longer);
        test.put(file, &whole);
        read(&store).unwrap();
    }
}

#[test]
fn every_flipped_byte_and_every_cut_of_the_keys_is_refused_and_left_as_it_is() {
    let test = filled();
    let whole = test.bytes("keys.json");
    // The derivation is done once: a key of an unknown name makes it read the file again.
    let keys = test.keys();
    keys.get("file").unwrap();
    let refused = |bytes: &[u8]| {
        test.put("keys.json", bytes);
        let error = keys.get("user:unknown").expect_err(&String::from_utf8_lossy(bytes));
        assert!(error.to_string().contains("keys.json"), "{error}");
        assert_eq!(test.bytes("keys.json"), bytes);
    };
    let kdf = String::from_utf8_lossy(&whole).find("\"keys\"").unwrap();
    for at in 0..whole.len() {
        // Each flip in the derivation's own values costs a derivation, so one has to do there.
        let flips = if at < kdf { &FLIPS[..1] } else { &FLIPS };
        for flip in flips {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            refused(&bytes);
        }
        refused(&whole[..at]);
    }
    refused(&[&whole[..], b"\n"].concat());
    test.put("keys.json", &whole);
    keys.get("user:unknown").unwrap();
}

#[test]
fn unknown_members_and_versions_of_the_keys_are_refused() {
    let test = filled();
    let whole = String::from_utf8(test.bytes("keys.json")).unwrap();
    for (from, to) in [
        ("{\"version\":1", "{\"version\":2"),
        ("{\"version\":1", "{\"version\":1,\"note\":\"x\""),
        ("\"kdf\":{", "\"kdf\":{\"note\":\"x\","),
        ("\"keys\":[{", "\"keys\":[{\"note\":\"x\","),
        ("\"iterations\":100000", "\"iterations\":99999"),
        ("\"iterations\":100000", "\"iterations\":10000001"),
        ("\"keys\":", " \"keys\":"),
    ] {
        let edited = whole.replace(from, to);
        assert_ne!(edited, whole);
        test.put("keys.json", edited.as_bytes());
        let error = test.keys().get("file").unwrap_err().to_string();
        assert!(error.contains("keys.json") && error.contains("left as it is"));
        assert_eq!(test.bytes("keys.json"), edited.as_bytes());
    }
}

/// Edits the text of `tokens.json` and gives it a MAC that is right, as only somebody could who knows the `file` key.
fn edit_with_right_mac(test: &TestHome, edit: impl Fn(&str) -> String) {
    let whole = String::from_utf8(test.bytes("tokens.json")).unwrap();
    let (body, _) = whole.rsplit_once(",\"mac\":").unwrap();
    let body = edit(body);
    let mac = test.keys().get("file").unwrap().key.mac(&[body.as_bytes()]);
    let text = format!("{body},\"mac\":\"{mac}\"}}\n");
    test.put("tokens.json", text.as_bytes());
}

/// The sealed tokens in the order of the file: alex at openai, alex at corp, bo at openai; access token, then refresh token.
fn sealed_texts(test: &TestHome) -> Vec<String> {
    let file: Value = serde_json::from_slice(&test.bytes("tokens.json")).unwrap();
    let mut texts = Vec::new();
    for record in file["records"].as_array().unwrap() {
        for field in ["access_token", "refresh_token"] {
            let sealed: Sealed = serde_json::from_value(record[field].clone()).unwrap();
            texts.push(serde_json::to_string(&sealed).unwrap());
        }
    }
    texts
}

#[test]
fn edits_of_what_is_not_sealed_are_refused() {
    let test = filled();
    let store = test.store();
    let whole = String::from_utf8(test.bytes("tokens.json")).unwrap();
    for (from, to) in [
        ("\"state\":\"valid\"", "\"state\":\"dead\""),
        ("\"expires_at\":1708542000", "\"expires_at\":1908542000"),
        ("\"expires_at\":1708542000", "\"expires_at\":null"),
        ("https://llm.example/v1", "https://evil.example/v1"),
        ("https://login.example/token", "https://evil.example/token"),
        ("\"user_id\":\"bo\"", "\"user_id\":\"alex\""),
        ("\"scopes\":[\"openid\"]", "\"scopes\":[]"),
        ("{\"version\":1", "{\"version\":2"),
        ("\"records\":[{", "\"records\":[{\"note\":1,"),
    ] {
        let edited = whole.replacen(from, to, 1);
        assert_ne!(edited, whole);
        refused(&test, &store, "tokens.json", [use_tokens, write_tokens], edited.as_bytes());
    }
}

#[test]
fn a_ciphertext_in_another_record_user_provider_or_field_does_not_open_even_under_a_right_mac() {
    let test = filled();
    let whole = test.bytes("tokens.json");
    edit_with_right_mac(&test, str::to_owned);
    assert_eq!(test.bytes("tokens.json"), whole);
    let texts = sealed_texts(&test);
    let [access, refresh, provider, _, user, _] = &texts[..] else { panic!("three records") };
    for other in [refresh, provider, user] {
        test.put("tokens.json", &whole);
        edit_with_right_mac(&test, |body| {
            let body = body.replace(access, "HERE").replace(other, access);
            body.replace("HERE", other)
        });
        assert_ne!(test.bytes("tokens.json"), whole);
        let error = use_tokens(&test.store()).unwrap_err();
        assert!(error.contains("tokens.json") && error.contains("does not open"));
    }
}

#[test]
fn an_edited_user_provider_or_binding_does_not_open_even_under_a_right_mac() {
    let test = filled();
    let whole = test.bytes("tokens.json");
    for (from, to) in [
        ("\"user_id\":\"bo\"", "\"user_id\":\"alex\""),
        ("\"provider\":\"corp\"", "\"provider\":\"evil\""),
        ("\"client_id\":\"infershield\"", "\"client_id\":null"),
        ("https://login.example/token", "https://evil.example/token"),
        ("\"revoke_endpoint\":null", "\"revoke_endpoint\":\"https://evil.example\""),
        ("https://llm.example/v1", "https://evil.example/v1"),
        ("\"host\":null", "\"host\":\"evil.example\""),
        ("\"account_id\":null", "\"account_id\":\"\""),
    ] {
        test.put("tokens.json", &whole);
        edit_with_right_mac(&test, |body| body.replacen(from, to, 1));
        assert_ne!(test.bytes("tokens.json"), whole);
        let error = use_tokens(&test.store()).expect_err(from);
        assert!(error.contains("does not open"), "{error}");
    }
}

#[test]
fn a_member_that_this_version_does_not_know_is_refused_and_kept() {
    let test = filled();
    for (from, to) in [
        ("{\"user_id\"", "{\"colour\":\"blue\",\"user_id\""),
        ("\"bound\":{", "\"bound\":{\"colour\":\"blue\","),
        ("}]", "},{}]"),
        ("]", "],\"more\":[]"),
    ] {
        let whole = test.bytes("tokens.json");
        edit_with_right_mac(&test, |body| body.replacen(from, to, 1));
        let bytes = test.bytes("tokens.json");
        assert_ne!(bytes, whole);
        refused(&test, &test.store(), "tokens.json", [use_tokens, write_tokens], &bytes);
        test.put("tokens.json", &whole);
    }
}

#[test]
fn tokens_do_not_open_with_the_keys_of_another_home() {
    let (test, other) = (filled(), filled());
    other.put("tokens.json", &test.bytes("tokens.json"));
    let error = use_tokens(&other.store()).unwrap_err();
    assert!(error.contains("tokens.json"), "{error}");
}

#[test]
fn a_file_that_others_can_read_is_refused_with_the_chmod_to_type() {
    let test = filled();
    for file in ["tokens.json", "local-keys.json", "exceptions.json", "keys.json", "master.key"] {
        let path = test.0.join(file);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let store = test.store();
        let uses = [use_tokens, use_keys, use_exceptions].map(|action| action(&store));
        let error = uses.into_iter().find_map(Result::err).expect(file);
        let advice = format!("chmod 600 {}", path.display());
        assert!(error.contains(&advice), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    assert!(use_tokens(&test.store()).is_ok());
}

#[test]
fn a_file_of_another_user_is_refused_with_the_chown_to_type() {
    let test = filled();
    let path = test.0.join("tokens.json");
    if std::os::unix::fs::chown(&path, Some(1234), None).is_err() {
        eprintln!("skipped: only root can give a file to somebody else");
        return;
    }
    let error = use_tokens(&test.store()).unwrap_err();
    assert!(error.contains("belongs to user 1234") && error.contains("chown "), "{error}");
}

#[test]
fn a_link_in_place_of_a_state_file_is_refused() {
    let test = filled();
    let path = test.0.join("tokens.json");
    fs::rename(&path, test.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(test.0.join("elsewhere"), &path).unwrap();
    let error = use_tokens(&test.store()).unwrap_err();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn our_files_are_private_whatever_wrote_them() {
    let test = filled();
    for entry in fs::read_dir(&test.0).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(test.home().read("tokens.json", Privacy::Secret).is_ok());
}

#[test]
fn lost_keys_are_not_made_anew_while_something_needs_them() {
    for needs in ["tokens.json", "local-keys.json", "exceptions.json"] {
        let test = filled();
        fs::remove_file(test.0.join("keys.json")).unwrap();
        for other in FILES.map(|(file, ..)| file) {
            if other != needs {
                fs::remove_file(test.0.join(other)).unwrap();
            }
        }
        let error = test.keys().get("file").unwrap_err().to_string();
        assert!(error.contains("keys.json is missing") && error.contains(needs));
        assert!(!test.has("keys.json"));
    }
}

#[test]
fn a_lost_master_key_is_not_made_anew() {
    let test = filled();
    fs::remove_file(test.0.join("master.key")).unwrap();
    let error = test.keys().get("file").unwrap_err().to_string();
    assert!(error.contains("no master key from") && error.contains("master.key"), "{error}");
    assert!(!test.has("master.key"));
}

#[test]
fn a_login_whose_key_was_replaced_says_so() {
    let test = filled();
    let tokens = test.bytes("tokens.json");
    // Two homes with one past, in which cleo then logged in separately: the keys of the one, the tokens of the other.
    let early = TestHome::new();
    early.home();
    for file in ["keys.json", "master.key"] {
        early.put(file, &test.bytes(file));
        fs::set_permissions(early.0.join(file), Permissions::from_mode(0o600)).unwrap();
    }
    let keys: Keys = early.keys();
    keys.get("user:cleo").unwrap();
    let store = FileStore::new(&Arc::new(keys));
    store.save("cleo", &record("openai", "token-d")).unwrap();
    test.put("tokens.json", &early.bytes("tokens.json"));
    let error = text_of(test.store().records("cleo")).unwrap_err();
    assert!(error.contains("tokens.json") && error.contains("keys.json"), "{error}");
    test.put("tokens.json", &tokens);
    use_tokens(&test.store()).unwrap();
}

#[test]
fn no_secret_stands_in_plain_in_any_file() {
    let test = filled();
    let key: Secret = test.store().print_key("alex", "default").unwrap().unwrap();
    let master = String::from_utf8(test.bytes("master.key")).unwrap();
    for entry in fs::read_dir(&test.0).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = String::from_utf8(test.bytes(&name)).unwrap();
        for secret in ["token-a", "token-b", "token-c", key.expose()] {
            assert!(!text.contains(secret), "{name}");
        }
        assert!(name == "master.key" || !text.contains(&master));
    }
}

#[test]
fn everything_of_a_login_comes_back() {
    let test = filled();
    let mut login = record("corp", "token \u{1f511} with \"quotes\"");
    login.state = State::Suspect;
    login.refresh_token = None;
    login.account = None;
    test.store().save("bo", &login).unwrap();
    assert_eq!(test.store().record("bo", "corp").unwrap(), Some(login));
}
