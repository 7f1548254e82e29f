//! A save that is killed at any of its steps leaves the old or the new state, whole.

use crate::store_support::{TestHome, filled, new_key, record, token};

/// Calls of one [`infershield::home::Lock::write`]: make, write, sync, rename, sync the folder; the removal of a left-over before.
const CALLS_OF_A_WRITE: u64 = 6;

#[test]
fn a_save_killed_at_any_step_leaves_the_old_or_the_new_login_and_never_neither() {
    let test = filled();
    let deaths = test.die_at_every_step("save token-new", |copy| {
        let store = copy.store();
        let found = token(&store, "alex", "openai");
        assert!(["token-a", "token-new"].contains(&found.as_str()));
        assert_eq!(token(&store, "bo", "openai"), "token-c");
        // The next save works, whatever was left lying about.
        store.save("alex", &record("openai", "token-next")).unwrap();
        assert_eq!(token(&store, "alex", "openai"), "token-next");
    });
    assert!(deaths >= CALLS_OF_A_WRITE, "{deaths}");
}

#[test]
fn a_first_use_killed_at_any_step_is_made_good_by_the_next_one() {
    let test = TestHome::new();
    test.home();
    let deaths = test.die_at_every_step("use first", |copy| {
        let audit = copy.keys().get("audit").unwrap().key;
        assert_eq!(copy.keys().get("audit").unwrap().key.expose(), audit.expose());
        let key = copy.store().create_key("alex", &new_key("default"), 1);
        let (shown, text) = key.unwrap();
        let found = copy.store().look_up(text.expose(), 2).unwrap();
        assert_eq!(found, Some(shown));
    });
    // The master key and keys.json.
    assert!(deaths >= 2 * CALLS_OF_A_WRITE, "{deaths}");
}
