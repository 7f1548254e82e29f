//! A log in a home of its own, for the tests of the audit log.

use infershield::audit::{Anchor, Audit, Error, Event, Verified, verify};
use infershield::home::Home;
use infershield::keys::NamedKey;
use infershield::secret::{Key, hex, random};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Place {
    pub dir: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Place {
    pub fn new() -> Self {
        let name = hex(&random::<8>().unwrap());
        let dir = std::env::temp_dir().join(format!("infershield-audit-{name}"));
        Home::open(dir.clone()).unwrap();
        Self { dir }
    }

    pub fn home(&self) -> Home {
        Home::open(self.dir.clone()).unwrap()
    }

    pub fn open(&self) -> Audit {
        open(&self.dir)
    }

    pub fn append(&self, lines: usize) {
        let log = self.open();
        for number in 0..lines {
            log.append(&event(number)).unwrap();
        }
        log.sync().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join("audit").join(name)
    }

    /// The only month file.
    pub fn month(&self) -> PathBuf {
        let files = fs::read_dir(self.dir.join("audit")).unwrap();
        let mut months =
            files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|name| name == "jsonl"));
        let month = months.next().unwrap();
        assert_eq!(months.next(), None, "the month changed within this test: run it again");
        month
    }

    pub fn verify(&self) -> Result<Verified, Error> {
        self.expect(None)
    }

    pub fn expect(&self, anchor: Option<&Anchor>) -> Result<Verified, Error> {
        verify(&self.home(), &chain_key().key, &head_key(), anchor)
    }

    pub fn verify_at(dir: &Path) -> Result<Verified, Error> {
        verify(&Home::open(dir.to_owned()).unwrap(), &chain_key().key, &head_key(), None)
    }

    pub fn is_broken(&self) -> bool {
        match self.verify() {
            Ok(_) => false,
            Err(Error::Broken { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn open(dir: &Path) -> Audit {
    Audit::open(&Home::open(dir.to_owned()).unwrap(), chain_key(), head_key()).unwrap()
}

pub fn chain_key() -> NamedKey {
    NamedKey { id: "audit-1".to_owned(), key: Key::new([1; 32]) }
}

pub fn head_key() -> Key {
    Key::new([2; 32])
}

pub fn event(number: usize) -> Event {
    let mut event = Event::new("chat.completion");
    event.user_id = Some("alex@example.com".to_owned());
    event.request_id = Some(format!("request-{number}"));
    event
}

pub fn clean(lines: u64) -> Result<Verified, Error> {
    Ok(Verified { lines, notes: Vec::new(), warning: None })
}
