//! The writer: one line at the end of the log and the head moved on, or nothing at all and an error.
//! Must never return before both stand in the system's hands, and never write after something it does not understand.
//!
//! A process may be killed between any two steps, and what it leaves is settled by the next writer:
//! a fragment of a line is cut off, a whole line without its head is adopted. The head itself is never half written:
//! it lies inside one page, and the kernel looks for a kill signal only between the pages of a write; it lies inside
//! one disk sector, which a disk writes wholly or not.

use super::chain::{Head, Point};
use super::event::Event;
use super::sync::Refusals;
use super::verify::{self, BOOT_ID, HEAD, place};
use super::{DIR, Error, Result, calendar, failed};
use crate::home::Home;
use crate::keys::NamedKey;
use crate::secret::Key;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The log, open for writing.
pub struct Audit {
    pub(super) home: Home,
    /// Ties the lines together; its id stands in every line.
    chain_key: NamedKey,
    /// Seals the head.
    head_key: Key,
    /// Serialises the threads; the lock on the head serialises processes.
    threads: Mutex<()>,
    /// True after the disk failed a sync.
    pub(super) failed: AtomicBool,
    /// How many lines could not be written since the log last said so.
    pub(super) lacking: AtomicU64,
    pub(super) refusals: Mutex<Refusals>,
}

impl Audit {
    /// Opens the log of this home, beginning one when there is none, and settles what a killed writer or a power cut left.
    pub fn open(home: &Home, chain_key: NamedKey, head_key: Key) -> Result<Self> {
        Home::open(home.path(DIR))?;
        let lock = home.lock()?;
        if !home.path(&place(HEAD)).exists() && verify::months(home)?.is_empty() {
            let start = Point::start(&calendar::month_file(calendar::now()));
            let head = Head { at: start.clone(), synced: start, boot: BOOT_ID.clone() };
            lock.write(&place(HEAD), &head.bytes(&head_key))?;
        }
        drop(lock);
        let (home, (threads, failed, lacking, refusals)) = (home.clone(), Default::default());
        let log = Self { home, chain_key, head_key, threads, failed, lacking, refusals };
        log.writer()?.keep_reserve();
        Ok(log)
    }

    /// Writes one line and gives its number. When this returns, no kill of the process can lose the line.
    /// Any error means that nothing was written, and that the request must not be answered.
    pub fn append(&self, event: &Event) -> Result<u64> {
        let put = self.put(event);
        self.lacking.fetch_add(put.is_err().into(), Ordering::SeqCst);
        put
    }

    /// The same; a line that is not written is not counted among those that the log lacks.
    pub(super) fn put(&self, event: &Event) -> Result<u64> {
        let mut writer = self.usable().and_then(|()| self.writer())?;
        writer.put(event)?;
        Ok(writer.head.at.seq)
    }

    /// Waits for the right to write, and settles what stands after the head.
    pub(super) fn writer(&self) -> Result<Writer<'_>> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, head) = verify::lock_head(&self.home, &self.head_key, true)?;
        let mut writer = Writer { log: self, now: calendar::now(), head, file, _threads: threads };
        writer.settle()?;
        Ok(writer)
    }
}

/// The right to write, over threads and processes. Given back on drop: closing the head unlocks it.
pub(super) struct Writer<'a> {
    pub(super) log: &'a Audit,
    now: u64,
    /// As it stands on disk.
    pub(super) head: Head,
    file: File,
    _threads: MutexGuard<'a, ()>,
}

impl Writer<'_> {
    /// Overwrites the head with one positioned write of constant length.
    pub(super) fn write_head(&mut self, head: Head) -> Result<()> {
        let bytes = head.bytes(&self.log.head_key);
        self.file.write_all_at(&bytes, 0).map_err(failed("write", HEAD))?;
        self.head = head;
        Ok(())
    }

    /// Puts in order what a killed writer or a power cut left after the head.
    fn settle(&mut self) -> Result<()> {
        let (home, at) = (&self.log.home, &self.head.at);
        let there = fs::symlink_metadata(home.path(&place(&at.file))).map_or(0, |meta| meta.len());
        // Nearly always the file of this month ends where the head says.
        if self.head.boot == *BOOT_ID && at.file == calendar::month_file(self.now) && at.len == there {
            return Ok(());
        }
        let (end, cut) = verify::settle(home, &self.log.chain_key.key, &self.head)?;
        if let Some(name) = &cut {
            let file = home.open_or_create(&place(name))?;
            file.set_len(end.in_file(name).len).map_err(failed("cut", name))?;
        }
        let recovered = verify::is_recovered(&self.head, &end);
        let settled = Head { at: end, boot: BOOT_ID.clone(), synced: self.head.synced.clone() };
        if recovered {
            // The head goes to the disk with this line, not before: else a kill here would hide the loss.
            self.head = settled;
            return self.put(&Event::new("audit.recovered"));
        }
        self.write_head(settled)
    }

    /// Writes one line after the head and moves the head on; with the reserve's room when the disk is full.
    fn put(&mut self, event: &Event) -> Result<()> {
        let done = self.try_put(event);
        if done != Err(Error::NoSpace) {
            return done;
        }
        self.give_reserve_up();
        self.try_put(event)
    }

    fn try_put(&mut self, event: &Event) -> Result<()> {
        let mut head = self.head.clone();
        // Never back to an older file when the clock is set back.
        let name = calendar::month_file(self.now).max(head.at.file.clone());
        if name != head.at.file {
            if head.at.len > 0 {
                self.log.sync_file(&head.at.file)?;
            }
            head.synced = head.at.clone();
            head.at = head.at.in_file(&name);
        }
        let len = head.at.len;
        let (line, next) = head.at.line(&self.log.chain_key, self.now, event)?;
        head.at = next;
        let month = self.log.home.open_or_create(&place(&name))?;
        let written = month.write_all_at(line.as_bytes(), len).map_err(failed("write", &name));
        let written = written.and_then(|()| self.write_head(head));
        if written.is_err() {
            // If this fails too, the next writer settles what stands there.
            let _ = month.set_len(len);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify::months;
    use crate::audit::{Verified, verify};
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    /// Another start of the machine than this one.
    const OTHER_BOOT: &str = "11111111-2222-3333-4444-555555555555";

    /// A log in a home of its own, with what a test needs to stage an accident.
    struct Stage {
        dir: PathBuf,
        home: Home,
        chain_key: NamedKey,
        head_key: Key,
    }

    impl Drop for Stage {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    impl Stage {
        fn new() -> Self {
            let name = crate::secret::hex(&crate::secret::random::<8>().unwrap());
            let dir = std::env::temp_dir().join(format!("infershield-audit-{name}"));
            let home = Home::open(dir.clone()).unwrap();
            let chain_key = NamedKey { id: "audit-1".to_owned(), key: Key::new([1; 32]) };
            Self { dir, home, chain_key, head_key: Key::new([2; 32]) }
        }

        fn open(&self) -> Result<Audit> {
            Audit::open(&self.home, self.chain_key.clone(), self.head_key.clone())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.join(DIR).join(name)
        }

        fn append(&self, lines: usize) -> Audit {
            let log = self.open().unwrap();
            for _ in 0..lines {
                log.append(&Event::new("test")).unwrap();
            }
            log
        }

        fn head(&self) -> Head {
            let bytes = fs::read(self.path(HEAD)).unwrap();
            Head::parse(&bytes, &self.head_key).unwrap()
        }

        fn write_head(&self, head: &Head) {
            fs::write(self.path(HEAD), head.bytes(&self.head_key)).unwrap();
        }

        /// Brings the log to the disk, adds `lines` that are not, and lets the machine go down with `keep` bytes of them.
        fn power_cut(&self, lines: usize, keep: u64) -> Head {
            self.open().unwrap().sync().unwrap();
            let synced = self.head().at;
            self.append(lines);
            let mut head = self.head();
            head.synced = synced;
            head.boot = OTHER_BOOT.to_owned();
            self.write_head(&head);
            let log = File::options().write(true).open(self.path(&head.at.file)).unwrap();
            log.set_len(head.synced.len + keep).unwrap();
            head
        }

        /// Lets all that was written so far belong to January 2020.
        fn age(&self) {
            let mut head = self.head();
            let old = "2020-01.jsonl";
            fs::rename(self.path(&head.at.file), self.path(old)).unwrap();
            head.at.file = old.to_owned();
            head.synced.file = old.to_owned();
            self.write_head(&head);
        }

        fn verify(&self) -> Result<Verified> {
            verify(&self.home, &self.chain_key.key, &self.head_key, None)
        }

        fn actions(&self) -> Vec<String> {
            let mut actions = Vec::new();
            let all = crate::audit::Filter::default();
            crate::audit::query(&self.home, &all, &mut |line, _| {
                actions.push(line.event.action.clone());
                Ok(())
            })
            .unwrap();
            actions
        }
    }

    fn clean(lines: u64) -> Result<Verified> {
        Ok(Verified { lines, notes: Vec::new(), warning: None })
    }

    fn has_warning(verified: &Result<Verified>) -> bool {
        matches!(verified, Ok(Verified { warning: Some(_), .. }))
    }

    fn has_note(verified: &Result<Verified>) -> bool {
        matches!(verified, Ok(Verified { notes, warning: None, .. }) if notes.len() == 1)
    }

    #[test]
    fn a_line_holds_every_member_in_the_order_of_the_contract() {
        let stage = Stage::new();
        let mut event = Event::new("chat.completion");
        event.model = Some(format!("m\u{1b}<script>\"{}", "x".repeat(100)));
        stage.open().unwrap().append(&event).unwrap();
        let file = stage.head().at.file;
        let text = fs::read_to_string(stage.path(&file)).unwrap();
        let zeros = "0".repeat(64);
        let time = &text[21..31];
        let body = format!(
            concat!(
                r#"{{"seq":1,"timestamp":{},"user_id":null,"key_id":null,"provider":null,"action":"chat.completion","#,
                r#""risk_score":0,"blocked":false,"outcome":"complete","request_id":null,"model":"m__script__{}","client":null,"status":0,"#,
                r#""duration_ms":0,"ttfb_ms":0,"bytes_in":0,"bytes_out":0,"tokens_in":0,"tokens_out":0,"unscanned":0,"findings":[],"policy":null,"count":1,"kid":"audit-1","prev":"{}""#,
            ),
            time,
            "x".repeat(53),
            zeros
        );
        let mac = stage.chain_key.key.mac(&[zeros.as_bytes(), body.as_bytes()]);
        assert_eq!(text, format!("{body},\"mac\":\"{mac}\"}}\n"));
    }

    #[test]
    fn a_fragment_of_a_line_is_noted_and_cut_off() {
        let stage = Stage::new();
        stage.append(2);
        let file = stage.path(&stage.head().at.file);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole[..], b"{\"seq\":3,"].concat()).unwrap();
        assert!(has_note(&stage.verify()));
        stage.append(1);
        assert_eq!(stage.verify(), clean(3));
    }

    #[test]
    fn one_line_without_its_head_is_noted_and_adopted_but_not_two() {
        let stage = Stage::new();
        stage.append(1);
        let (first, log) = (stage.head(), stage.append(1));
        let second = stage.head();
        log.append(&Event::new("test")).unwrap();
        stage.write_head(&second);
        assert!(has_note(&stage.verify()));
        stage.write_head(&first);
        assert!(matches!(stage.verify(), Err(Error::Broken { line: Some(4), .. })));
        assert!(matches!(log.append(&Event::new("test")), Err(Error::Broken { .. })));
        assert_eq!(stage.actions().len(), 3);
        stage.write_head(&second);
        assert_eq!(log.append(&Event::new("test")).unwrap(), 4);
        assert_eq!(stage.verify(), clean(4));
    }

    #[test]
    fn a_power_cut_at_any_byte_is_a_warning_and_then_a_line() {
        let stage = Stage::new();
        stage.append(2);
        let before = (fs::read(stage.path(&stage.head().at.file)).unwrap(), stage.head());
        let len = {
            let head = stage.power_cut(2, 0);
            head.at.len - head.synced.len
        };
        for keep in (0..len).step_by(17).chain([len / 2, len - 1]) {
            fs::write(stage.path(&before.1.at.file), &before.0).unwrap();
            stage.write_head(&before.1);
            stage.power_cut(2, keep);
            assert!(has_warning(&stage.verify()), "{keep}");
            stage.append(1);
            let actions = stage.actions();
            assert_eq!(actions[actions.len() - 2..], ["audit.recovered", "test"]);
            assert_eq!(stage.verify(), clean(actions.len() as u64), "{keep}");
        }
    }

    #[test]
    fn a_power_cut_that_took_nothing_leaves_no_trace() {
        let stage = Stage::new();
        stage.append(1);
        let mut head = stage.head();
        head.boot = OTHER_BOOT.to_owned();
        stage.write_head(&head);
        assert_eq!(stage.verify(), clean(1));
        stage.append(1);
        assert_eq!(stage.actions(), ["test", "test"]);
        assert_eq!(stage.verify(), clean(2));
    }

    #[test]
    fn pages_that_never_reached_the_disk_are_a_power_cut_but_changed_bytes_are_not() {
        let stage = Stage::new();
        stage.append(1);
        let head = stage.power_cut(2, 400);
        let file = stage.path(&head.at.file);
        let kept = fs::read(&file).unwrap();
        fs::write(&file, [&kept[..], b"changed\"}\n"].concat()).unwrap();
        assert!(matches!(stage.verify(), Err(Error::Broken { line: Some(2), .. })));
        assert!(matches!(stage.open(), Err(Error::Broken { .. })));
        fs::write(&file, [&kept[..], &[0; 64], b"\"}\n"].concat()).unwrap();
        assert!(has_warning(&stage.verify()));
        stage.append(1);
        assert_eq!(stage.verify(), clean(3));
    }

    #[test]
    fn a_power_cut_does_not_excuse_what_the_disk_had_confirmed() {
        let stage = Stage::new();
        stage.append(2);
        let head = stage.power_cut(1, 0);
        let file = File::options().write(true).open(stage.path(&head.at.file)).unwrap();
        file.set_len(head.synced.len - 1).unwrap();
        assert!(matches!(stage.verify(), Err(Error::Broken { .. })));
        assert!(stage.open().is_err());
    }

    #[test]
    fn the_chain_goes_on_in_a_new_month_and_a_missing_month_is_found() {
        let stage = Stage::new();
        stage.append(2);
        stage.age();
        stage.append(2);
        assert_eq!(months(&stage.home).unwrap().len(), 2);
        assert_eq!(stage.verify(), clean(4));
        let newer = stage.path(&stage.head().at.file);
        for month in [stage.path("2020-01.jsonl"), newer] {
            let (whole, away) = (fs::read(&month).unwrap(), stage.path("away"));
            fs::rename(&month, &away).unwrap();
            assert!(matches!(stage.verify(), Err(Error::Broken { .. })));
            fs::rename(&away, &month).unwrap();
            fs::write(&month, b"").unwrap();
            assert!(matches!(stage.verify(), Err(Error::Broken { .. })));
            fs::write(&month, &whole).unwrap();
            assert_eq!(stage.verify(), clean(4));
        }
    }

    #[test]
    fn a_writer_killed_while_the_month_changes_is_settled() {
        let stage = Stage::new();
        stage.append(2);
        stage.age();
        let old = stage.head();
        stage.append(1);
        let month = stage.path(&stage.head().at.file);
        let line = fs::read(&month).unwrap();
        for keep in [0, 1, line.len() - 1, line.len()] {
            stage.write_head(&old);
            File::options().write(true).open(&month).unwrap().set_len(0).unwrap();
            fs::write(&month, &line[..keep]).unwrap();
            assert!(keep == 0 || has_note(&stage.verify()), "{keep}");
            stage.append(1);
            let lines = if keep == line.len() { 4 } else { 3 };
            assert_eq!(stage.verify(), clean(lines), "{keep}");
        }
    }

    #[test]
    fn a_clock_set_back_never_leads_to_an_older_file() {
        let stage = Stage::new();
        stage.append(1);
        let mut head = stage.head();
        fs::rename(stage.path(&head.at.file), stage.path("9999-12.jsonl")).unwrap();
        head.at.file = "9999-12.jsonl".to_owned();
        stage.write_head(&head);
        stage.append(1);
        assert_eq!(months(&stage.home).unwrap(), ["9999-12.jsonl"]);
        assert_eq!(stage.verify(), clean(2));
    }

    #[test]
    fn a_removed_head_stops_the_writer_and_is_never_made_anew() {
        let stage = Stage::new();
        let log = stage.append(1);
        fs::remove_file(stage.path(HEAD)).unwrap();
        assert!(matches!(log.append(&Event::new("test")), Err(Error::Broken { line: None, .. })));
        assert!(matches!(stage.open(), Err(Error::Broken { line: None, .. })));
        assert!(log.sync().is_err());
        assert_eq!(stage.actions().len(), 1);
    }

    #[test]
    fn refusals_of_strangers_share_lines_and_none_is_uncounted() {
        let stage = Stage::new();
        let log = Arc::new(stage.open().unwrap());
        let start = std::time::Instant::now();
        for _ in 0..50 {
            log.append_refusal(Event::new("refused")).unwrap();
        }
        let most = start.elapsed().as_secs() as usize + 1;
        assert!((1..=most).contains(&stage.actions().len()));
        log.start_sync().unwrap();
        let counted = || {
            let mut sum = 0;
            let all = crate::audit::Filter::default();
            crate::audit::query(&stage.home, &all, &mut |line, _| {
                sum += line.event.count;
                Ok(())
            })
            .unwrap();
            sum
        };
        while counted() < 50 {
            std::thread::yield_now();
        }
        assert_eq!(counted(), 50);
        assert!(stage.actions().len() <= most + 1 + start.elapsed().as_secs() as usize);
    }
}
