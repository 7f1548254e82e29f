//! Processes and threads that write at once lose nothing, and what one writes the other sees at once.

use crate::store_support::{NOW, TestHome, add_exception, filled, names, new_key, record, references};
use infershield::store::{Error, Record, State};

#[test]
fn two_processes_that_write_at_once_lose_nothing() {
    let test = TestHome::new();
    test.keys().get("file").unwrap();
    let children = ["left", "right"].map(|name| test.child(&format!("fifty {name}"), None));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = test.store();
    assert_eq!(store.keys("alex").unwrap().len(), 100);
    assert_eq!(store.records("alex").unwrap().len(), 100);
}

#[test]
fn two_processes_that_make_the_first_key_at_once_agree_on_it() {
    let test = TestHome::new();
    test.home();
    let children = [(); 4].map(|()| test.child("use first", None));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let file: serde_json::Value = serde_json::from_slice(&test.bytes("keys.json")).unwrap();
    assert_eq!(file["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn threads_that_change_one_login_at_once_lose_no_change() {
    let test = filled();
    let store = test.store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let more = &mut |record: &mut Record| {
                        record.scopes.push("more".into());
                    };
                    assert!(store.update("alex", "openai", more).unwrap());
                }
            });
        }
    });
    let found = store.record("alex", "openai").unwrap().unwrap();
    assert_eq!(found.scopes.len(), 1 + 40);
}

#[test]
fn a_login_that_was_removed_meanwhile_is_not_brought_back_by_an_update() {
    let test = filled();
    let (proxy, logout) = (test.store(), test.store());
    assert!(proxy.record("alex", "openai").unwrap().is_some());
    assert!(logout.remove("alex", "openai").unwrap());
    assert!(!proxy.update("alex", "openai", &mut |_| {}).unwrap());
    assert_eq!(proxy.record("alex", "openai").unwrap(), None);
}

#[test]
fn an_update_is_given_the_login_as_it_is_now_so_that_it_can_leave_a_newer_one_alone() {
    let test = filled();
    let (proxy, user) = (test.store(), test.store());
    let judged = proxy.record("alex", "openai").unwrap().unwrap();
    let mut renewed = record("openai", "token-renewed");
    renewed.refreshed_at = Some(NOW + 1);
    user.save("alex", &renewed).unwrap();
    let mark = &mut |stored: &mut Record| {
        assert_eq!((stored.created_at, stored.refreshed_at), (NOW, Some(NOW + 1)));
        if stored.access_token == judged.access_token {
            stored.state = State::Dead;
        }
    };
    assert!(proxy.update("alex", "openai", mark).unwrap());
    assert_eq!(proxy.record("alex", "openai").unwrap(), Some(renewed));
}

#[test]
fn a_running_reader_sees_a_key_made_and_revoked_elsewhere_at_its_next_look() {
    let test = filled();
    let (proxy, command) = (test.store(), test.store());
    assert_eq!(proxy.look_up("isk_unknown", NOW).unwrap(), None);
    let (shown, text) = command.create_key("alex", &new_key("new"), NOW).unwrap();
    let found = proxy.look_up(text.expose(), NOW).unwrap();
    assert_eq!(found.as_ref(), Some(&shown));
    assert!(command.revoke_key("alex", &shown.id).unwrap());
    assert_eq!(proxy.look_up(text.expose(), NOW).unwrap(), None);
}

#[test]
fn a_running_reader_sees_a_user_whose_key_was_made_elsewhere() {
    let test = filled();
    let (proxy, command) = (test.store(), test.store());
    assert!(proxy.records("cleo").unwrap().is_empty());
    let login = record("openai", "token-of-cleo");
    command.save("cleo", &login).unwrap();
    assert_eq!(proxy.record("cleo", "openai").unwrap(), Some(login));
}

#[test]
fn an_exception_made_or_removed_elsewhere_counts_at_once() {
    let test = filled();
    let (proxy, command) = (test.store(), test.store());
    let lets_pass = |user: &str| {
        let all = proxy.exceptions(user).unwrap();
        all.iter().any(|one| one.reference == "WXYZ2345")
    };
    assert!(!lets_pass("alex"));
    add_exception(&command, "WXYZ2345").unwrap();
    assert!(lets_pass("alex"));
    assert!(!lets_pass("bo"));
    assert!(!command.remove_exception("bo", "WXYZ2345").unwrap());
    assert!(command.remove_exception("alex", "WXYZ2345").unwrap());
    assert!(!lets_pass("alex"));
}

#[test]
fn no_user_sees_or_ends_what_belongs_to_another() {
    let test = filled();
    let store = test.store();
    assert_eq!(store.records("bo").unwrap().len(), 1);
    assert_eq!(store.keys("bo").unwrap(), []);
    assert_eq!(store.print_key("bo", "default").unwrap(), None);
    assert_eq!(store.exceptions("bo").unwrap(), []);
    let id = store.keys("alex").unwrap().remove(0).id;
    assert!(!store.revoke_key("bo", &id).unwrap());
    assert!(!store.remove("bo", "corp").unwrap());
    assert_eq!(names(store.keys("alex").unwrap()), ["default"]);
    assert_eq!(references(store.exceptions("alex").unwrap()), ["ABCD2345"]);
}

#[test]
fn a_name_is_taken_until_its_key_ends() {
    let test = TestHome::new();
    let store = test.store();
    let mut short = new_key("short");
    short.expires_at = Some(NOW + 10);
    store.create_key("alex", &short, NOW).unwrap();
    let error = store.create_key("alex", &short, NOW + 9).unwrap_err();
    assert!(matches!(error, Error::Refused(text) if text.contains("take another name")));
    store.create_key("bo", &short, NOW + 9).unwrap();
    let (shown, _) = store.create_key("alex", &short, NOW + 10).unwrap();
    assert_eq!(store.keys("alex").unwrap(), [shown]);
}

#[test]
fn a_key_is_handed_out_again_unless_it_was_made_for_once() {
    let test = TestHome::new();
    let store = test.store();
    let (_, kept) = store.create_key("alex", &new_key("kept"), NOW).unwrap();
    let mut once = new_key("once");
    once.once = true;
    let (shown, text) = store.create_key("alex", &once, NOW).unwrap();
    assert_eq!(test.store().print_key("alex", "kept").unwrap(), Some(kept));
    let error = test.store().print_key("alex", "once").unwrap_err();
    assert!(matches!(error, Error::Refused(text) if text.contains("shown once")));
    let found = test.store().look_up(text.expose(), NOW).unwrap();
    assert_eq!(found, Some(shown));
}
