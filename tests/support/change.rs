//! What changes in an installation while it runs: its settings, its logins, the time.

use super::fixture::Fixture;
use infershield::home::Home;
use infershield::keys::{ITERATIONS, Keys, MasterSource};
use infershield::secret::Secret;
use infershield::store::{FileStore, Record};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Who logs in when nobody is named.
pub const USER: &str = "local";

impl Fixture {
    /// Changes `config.json`; commands obey at once, `serve` after [`Fixture::restart`].
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.home.join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(&path, config.to_string()).unwrap();
    }

    /// Changes members of the practice provider's row; null takes one out.
    pub fn configure_provider(&self, changes: &Value) {
        self.configure(|config| {
            let row = config["providers"][0].as_object_mut().unwrap();
            for (name, value) in changes.as_object().unwrap() {
                row.remove(name);
                if !value.is_null() {
                    row.insert(name.clone(), value.clone());
                }
            }
        });
    }

    /// `auth status --json` of the usual user: its rows.
    pub fn status(&self) -> Vec<Value> {
        serde_json::from_str(&self.cli(&["auth", "status", "--json"]).stdout).unwrap()
    }

    /// The store of this home, as another process of the same user would open it.
    pub fn store(&self) -> FileStore {
        store(&self.home, &self.master)
    }

    /// Makes the practice login look as if it had been made so much earlier. Its token stays good at the provider.
    pub fn age_login(&self, seconds: u64) {
        let aged = self.store().update(USER, "practice", &mut |record| age(record, seconds));
        assert!(aged.unwrap(), "there is a login");
    }
}

/// The store of a home, as another process of the same user would open it.
pub fn store(home: &Path, master: &str) -> FileStore {
    let home = Home::open(home.to_owned()).unwrap();
    let master = MasterSource::Value(Secret::new(master.to_owned()));
    let keys = Keys::open(home, master, *ITERATIONS.start()).unwrap();
    FileStore::new(&Arc::new(keys))
}

/// Makes a login look as if it had been made so much earlier.
pub fn age(record: &mut Record, seconds: u64) {
    record.created_at -= seconds;
    record.refreshed_at = record.refreshed_at.map(|at| at - seconds);
    record.expires_at = record.expires_at.map(|at| at - seconds);
}
