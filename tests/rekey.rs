//! Rekey: everything sealed before opens after; killed at any step, the next start finishes or undoes it.

use crate::store_support::{GIVEN, ITERATIONS, TestHome, filled, token};
use crate::support::until;
use infershield::keys::{Keys, MasterSource};
use infershield::secret::Secret;
use infershield::store::FileStore;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

fn given(text: &str) -> MasterSource {
    MasterSource::Value(Secret::new(text.into()))
}

fn new(text: &str) -> Secret {
    Secret::new(text.into())
}

fn kids(keys: &Keys) -> [String; 2] {
    [keys.get("file").unwrap().id, keys.get("user:alex").unwrap().id]
}

/// Everything that was sealed before opens with these keys.
fn all_opens(keys: Keys) {
    let store = FileStore::new(&Arc::new(keys));
    assert_eq!(token(&store, "alex", "openai"), "token-a");
    assert_eq!(token(&store, "bo", "openai"), "token-c");
    assert!(store.print_key("alex", "default").unwrap().is_some());
    assert_eq!(store.exceptions("alex").unwrap().len(), 1);
}

#[test]
fn a_rekey_changes_master_key_salt_and_nothing_else() {
    let test = filled();
    let before = (test.bytes("master.key"), test.bytes("keys.json"));
    let (tokens, names) = (test.bytes("tokens.json"), kids(&test.keys()));
    let keys = test.keys();
    keys.rekey(None).unwrap();
    assert_eq!(kids(&keys), names);
    assert_eq!(kids(&test.keys()), names);
    assert_ne!(test.bytes("master.key"), before.0);
    assert_ne!(salt(&test.bytes("keys.json")), salt(&before.1));
    assert_eq!(test.bytes("tokens.json"), tokens);
    assert!(!test.has("master.key.new"));
    all_opens(test.keys());
    // The old master key is worth nothing now.
    test.put("master.key", &before.0);
    let error = test.keys().get("file").unwrap_err().to_string();
    assert!(error.contains("keys.json does not open with this master key"), "{error}");
}

fn salt(keys_json: &[u8]) -> String {
    let file: serde_json::Value = serde_json::from_slice(keys_json).unwrap();
    file["kdf"]["salt"].as_str().unwrap().to_owned()
}

#[test]
fn a_rekey_of_master_key_killed_at_any_step_is_finished_or_undone_at_the_next_start() {
    let test = filled();
    let deaths = test.die_at_every_step("rekey home", |copy| {
        all_opens(copy.keys());
        assert!(!copy.has("master.key.new"));
        // The next rekey works, whatever was left lying about.
        copy.keys().rekey(None).unwrap();
        all_opens(copy.keys());
    });
    // The new master key, keys.json, the last rename.
    assert!(deaths >= 6 + 6 + 2, "{deaths}");
}

#[test]
fn a_move_to_a_given_key_killed_at_any_step_opens_with_one_of_the_two() {
    let test = filled();
    let deaths = test.die_at_every_step("rekey given", |copy| {
        let moved = copy.keys_with(given(GIVEN)).get("file").is_ok();
        let source = if moved { given(GIVEN) } else { MasterSource::Home };
        all_opens(copy.keys_with(source));
        assert!(moved || copy.has("master.key"));
    });
    assert!(deaths >= 6 + 2, "{deaths}");
}

#[test]
fn a_move_back_to_the_home_killed_at_any_step_opens_with_one_of_the_two() {
    let test = filled();
    test.keys().rekey(Some(&new(GIVEN))).unwrap();
    assert!(!test.has("master.key"));
    let deaths = test.die_at_every_step("rekey given to home", |copy| {
        let old = copy.keys_with(given(GIVEN)).get("file").is_ok();
        let source = if old { given(GIVEN) } else { MasterSource::Home };
        all_opens(copy.keys_with(source));
        assert!(old || !copy.has("master.key.new"));
    });
    assert!(deaths >= 6 + 6 + 2, "{deaths}");
}

#[test]
fn a_given_key_is_replaced_by_another_one() {
    let test = filled();
    test.keys().rekey(Some(&new("first\n"))).unwrap();
    test.keys_with(given("first")).rekey(Some(&new("second"))).unwrap();
    all_opens(test.keys_with(given("second\n")));
    let error = test.keys_with(given("first")).get("file").unwrap_err().to_string();
    assert!(error.contains("keys.json") && error.contains("after `infershield rekey`"));
    assert!(!error.contains("first") && !error.contains("second"));
}

#[test]
fn an_empty_new_key_is_refused_and_changes_nothing() {
    let test = filled();
    let before = test.bytes("keys.json");
    assert!(test.keys().rekey(Some(&new("\n"))).is_err());
    assert_eq!(test.bytes("keys.json"), before);
}

#[test]
fn a_running_process_keeps_its_keys_over_a_rekey_elsewhere() {
    let test = filled();
    let running = test.keys();
    let names = kids(&running);
    test.keys().rekey(None).unwrap();
    assert_eq!(kids(&running), names);
    // A key of a new user makes it read the file again.
    let made = running.get("user:cleo").unwrap().id;
    assert_eq!(test.keys().get("user:cleo").unwrap().id, made);
}

#[test]
fn iterations_out_of_range_are_refused() {
    let test = TestHome::new();
    for iterations in [0, 99_999, 10_000_001] {
        let error = Keys::open(test.home(), MasterSource::Home, iterations).unwrap_err().to_string();
        assert!(error.contains(&format!("{iterations} PBKDF2 rounds: set from 100000 to 10000000")), "{error}");
    }
    assert!(Keys::open(test.home(), MasterSource::Home, ITERATIONS).is_ok());
}

#[test]
fn nothing_is_read_or_derived_before_the_first_key_is_asked_for() {
    let test = TestHome::new();
    let keys = test.keys_with(MasterSource::File(PathBuf::from("/nowhere")));
    assert_eq!(fs::read_dir(&test.0).unwrap().count(), 0);
    assert!(keys.get("file").is_err());
}

#[test]
fn a_key_file_may_be_a_link_but_not_open_to_others() {
    let test = TestHome::new();
    test.home();
    let (file, link) = (test.0.join("key"), test.0.join("link"));
    test.put("key", b"from a file\n");
    symlink(&file, &link).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = test.keys_with(MasterSource::File(link.clone())).get("file");
    assert!(error.unwrap_err().to_string().contains("chmod 600"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let made = test.keys_with(MasterSource::File(link)).get("file");
    assert_eq!(test.keys_with(given("from a file")).get("file").unwrap().id, made.unwrap().id);
}

#[test]
fn a_command_gives_the_key_on_its_standard_output() {
    let test = TestHome::new();
    let command = |script: &str| {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        test.keys_with(MasterSource::Command(words)).get("file").map(|named| named.id)
    };
    for fails in ["echo secret; exit 3", "true", "echo", "printf '\\377'"] {
        let error = command(fails).unwrap_err().to_string();
        assert!(error.contains("master_key_command"), "{error}");
        assert!(!error.contains("secret"));
    }
    assert!(!test.has("keys.json"));
    let made = command("echo from a command").unwrap();
    let keys = test.keys_with(given("from a command"));
    assert_eq!(keys.get("file").unwrap().id, made);
}

#[test]
fn a_command_that_waits_for_a_person_keeps_no_other_process_waiting() {
    let test = TestHome::new();
    test.keys_with(given("typed")).get("file").unwrap();
    let [asked, typed] = ["asked", "typed"].map(|name| test.0.join(name).display().to_string());
    let script = format!("touch {asked}; until [ -e {typed} ]; do sleep 0.05; done; echo typed");
    let command = test.keys_with(MasterSource::Command(["sh", "-c", &script].map(str::to_owned).to_vec()));
    let (done, others) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| command.get("file").unwrap());
        until("the command runs", || test.has("asked"));
        let other = test.keys_with(given("typed"));
        scope.spawn(move || done.send(other.get("audit").is_ok()));
        let is_done = others.recv_timeout(Duration::from_secs(20));
        fs::write(&typed, "").unwrap();
        waiting.join().unwrap();
        assert_eq!(is_done, Ok(true));
    });
}
