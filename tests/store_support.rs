//! Homes, records and child processes for the tests of keys and store.

use crate::support::die_at;
use infershield::home::Home;
use infershield::keys::{Keys, MasterSource};
use infershield::secret::Secret;
use infershield::store::{Bound, Exception, FileStore, LocalKey, NewKey, Record, State};
use infershield::upstream::Endpoint;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The fewest rounds that are allowed.
pub const ITERATIONS: u32 = 100_000;
/// A moment, in seconds since 1970.
pub const NOW: u64 = 1_708_538_400;
/// The master key that a rekey to a given one uses.
pub const GIVEN: &str = "another master key";

/// A folder of state that goes away with the test.
pub struct TestHome(pub PathBuf);

impl TestHome {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("infershield-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        Self(std::env::temp_dir().join(name))
    }

    pub fn home(&self) -> Home {
        Home::open(self.0.clone()).unwrap()
    }

    /// The keys of this home as a newly started process sees them.
    pub fn keys(&self) -> Keys {
        self.keys_with(MasterSource::Home)
    }

    pub fn keys_with(&self, master: MasterSource) -> Keys {
        Keys::open(self.home(), master, ITERATIONS).unwrap()
    }

    /// The store as a newly started process sees it.
    pub fn store(&self) -> FileStore {
        FileStore::new(&Arc::new(self.keys()))
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// Takes the content of another home in place of this one's.
    pub fn become_copy_of(&self, other: &TestHome) {
        let _ = std::fs::remove_dir_all(&self.0);
        self.home();
        for entry in std::fs::read_dir(&other.0).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), self.0.join(entry.file_name())).unwrap();
        }
    }

    /// Starts this program again to do one thing in this home.
    pub fn child(&self, work: &str, die_at_step: Option<u64>) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "store_support::child"])
            .env("STORE_TEST_HOME", &self.0)
            .env("STORE_TEST_WORK", work)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(step) = die_at_step {
            die_at(&mut command, &self.0, step);
        }
        command.spawn().unwrap()
    }

    /// Does `work` in a child that dies at the first, second, third … call that changes a file, each time in a fresh copy of this home; then `look`.
    /// Ends with the first child that lives through. Returns how many died.
    pub fn die_at_every_step(&self, work: &str, look: impl Fn(&TestHome)) -> u64 {
        let copy = TestHome::new();
        for step in 1.. {
            copy.become_copy_of(self);
            let lived = copy.child(work, Some(step)).wait().unwrap().success();
            look(&copy);
            if lived {
                return step - 1;
            }
        }
        0
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn endpoint(url: &str) -> Option<Endpoint> {
    Some(Endpoint::try_from(url.to_owned()).unwrap())
}

pub fn record(provider: &str, token: &str) -> Record {
    Record {
        provider: provider.into(),
        account: Some("alex".into()),
        scopes: vec!["openid".into()],
        access_token: Secret::new(token.into()),
        refresh_token: Some(Secret::new(format!("refresh-{token}"))),
        expires_at: Some(NOW + 3600),
        created_at: NOW,
        refreshed_at: None,
        state: State::Valid,
        bound: Bound {
            client_id: Some("infershield".into()),
            token_endpoint: endpoint("https://login.example/token"),
            revoke_endpoint: None,
            api_base: endpoint("https://llm.example/v1"),
            exchange_endpoint: None,
            host: None,
            account_id: None,
        },
    }
}

pub fn new_key(name: &str) -> NewKey {
    NewKey { name: name.into(), provider: None, expires_at: None, once: false }
}

/// Lets alex's findings of this reference pass.
pub fn add_exception(store: &FileStore, reference: &str) -> infershield::store::Result<()> {
    let exception = Exception {
        user_id: "alex".into(),
        reference: reference.into(),
        reason: "a test key of ours".into(),
        created_at: NOW,
        expires_at: None,
    };
    store.add_exception("alex", &exception)
}

/// Something of each kind for two users, so that every file is there.
pub fn filled() -> TestHome {
    let test = TestHome::new();
    let store = test.store();
    store.save("alex", &record("openai", "token-a")).unwrap();
    store.save("alex", &record("corp", "token-b")).unwrap();
    store.save("bo", &record("openai", "token-c")).unwrap();
    store.create_key("alex", &new_key("default"), NOW).unwrap();
    add_exception(&store, "ABCD2345").unwrap();
    test
}

pub fn token(store: &FileStore, user: &str, provider: &str) -> String {
    let found = store.record(user, provider).unwrap().unwrap();
    found.access_token.expose().to_owned()
}

pub fn names(keys: Vec<LocalKey>) -> Vec<String> {
    keys.into_iter().map(|key| key.name).collect()
}

pub fn references(exceptions: Vec<Exception>) -> Vec<String> {
    exceptions.into_iter().map(|exception| exception.reference).collect()
}

#[test]
#[ignore = "what the children of the other tests run"]
fn child() {
    let folder = std::env::var_os("STORE_TEST_HOME").unwrap();
    let work = std::env::var("STORE_TEST_WORK").unwrap();
    // The folder belongs to the parent: no drop.
    let test = std::mem::ManuallyDrop::new(TestHome(folder.into()));
    work_in(&test, &work);
}

fn work_in(test: &TestHome, work: &str) {
    let store = test.store();
    match work.split_once(' ').unwrap_or((work, "")) {
        ("save", token) => store.save("alex", &record("openai", token)).unwrap(),
        ("fifty", name) => {
            for number in 0..50 {
                let key = new_key(&format!("{name}-{number}"));
                store.create_key("alex", &key, NOW).unwrap();
                let login = record(&key.name, &key.name);
                store.save("alex", &login).unwrap();
            }
        }
        ("rekey", "home") => test.keys().rekey(None).unwrap(),
        ("rekey", "given") => {
            let given = Secret::new(GIVEN.into());
            test.keys().rekey(Some(&given)).unwrap();
        }
        ("rekey", "given to home") => {
            let keys = test.keys_with(MasterSource::Value(Secret::new(GIVEN.into())));
            keys.rekey(None).unwrap();
        }
        ("use", "first") => {
            test.keys().get("audit").unwrap();
        }
        other => panic!("no such work: {other:?}"),
    }
}
