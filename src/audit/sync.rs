//! What happens beside the appends: bringing lines to the disk, the reserve for a full disk, and counting refusals.
//! Must never report as synced what the disk did not confirm, and never go on after the disk failed.

use super::append::{Audit, Writer};
use super::event::Event;
use super::verify::{self, Anchor, HEAD, place};
use super::{DIR, Error, Result, failed};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the log is brought to the disk: the most that a power cut can take from it.
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// Name of the file that holds room for the lines of requests in flight.
const RESERVE: &str = "reserve";
/// Its size: the lines of some two thousand requests.
const RESERVE_BYTES: u64 = 1 << 20;
/// What fills it: a disk that compresses would keep no room for zeros.
const RANDOM: &str = "/dev/urandom";
/// Refusals before authentication get at most one line in this time, so that a stranger cannot fill the disk.
const REFUSAL_EVERY: Duration = Duration::from_secs(1);

/// Refusals before authentication that have no line yet.
#[derive(Default)]
pub(super) struct Refusals {
    waiting: Option<Event>,
    written: Option<Instant>,
}

impl Audit {
    /// Starts the thread that syncs every 200 ms, for as long as the process lives.
    pub fn start_sync(self: &Arc<Self>) -> Result<()> {
        let log = Arc::clone(self);
        let thread = thread::Builder::new().name("audit sync".to_owned());
        let started = thread.spawn(move || {
            loop {
                thread::sleep(SYNC_EVERY);
                // A failure of the disk is remembered; any other meets the next append too, and that one is told.
                let _ = log.sync();
                let _ = log.write_refusals();
                let _ = log.writer().map(|writer| writer.keep_reserve());
            }
        });
        started.map(drop).map_err(failed("start", "the sync thread"))
    }

    /// Brings all lines to the disk. Commands call it before they exit. After a failure of the disk the log takes no more lines.
    pub fn sync(&self) -> Result<()> {
        // What is captured here is synced without the lock, so that nobody waits for the disk.
        let captured = self.writer()?.head;
        if captured.at == captured.synced {
            return Ok(());
        }
        self.sync_file(&captured.at.file)?;
        let mut writer = self.writer()?;
        let mut head = writer.head.clone();
        if head.synced.seq < captured.at.seq {
            head.synced = captured.at;
        }
        writer.write_head(head)?;
        drop(writer);
        self.sync_file(HEAD)
    }

    /// Brings a file of the log, and the names in the folder, to the disk.
    pub(super) fn sync_file(&self, name: &str) -> Result<()> {
        let file = verify::open(&self.home, name, false)?;
        let folder = File::open(self.home.path(DIR)).map_err(failed("open", DIR))?;
        let synced = file.sync_data().and_then(|()| folder.sync_all());
        if synced.is_err() {
            // What the disk refused once, the system may forget: trying again would prove nothing.
            self.failed.store(true, Ordering::SeqCst);
        }
        synced.map_err(failed("sync", name))
    }

    /// The newest line, once it is on the disk, for somebody to keep elsewhere.
    pub fn anchor(&self) -> Result<Anchor> {
        self.sync()?;
        let synced = self.writer()?.head.synced;
        Ok(Anchor { seq: synced.seq, mac: synced.mac })
    }

    /// Counts a refusal before authentication, and writes a line for it unless there was one within the last second;
    /// what is left over goes into the next line, with its number in `count`. A kill loses the last second's at most.
    pub fn append_refusal(&self, event: Event) -> Result<()> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refusals.waiting.as_ref().map_or(0, |event| event.count);
        refusals.waiting = Some(Event { count: before.saturating_add(1), ..event });
        drop(refusals);
        self.write_refusals()
    }

    fn write_refusals(&self) -> Result<()> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.written.is_some_and(|at| at.elapsed() < REFUSAL_EVERY) {
            return Ok(());
        }
        if let Some(event) = refusals.waiting.take() {
            refusals.written = Some(Instant::now());
            let written = self.append(&event);
            // They are counted all the same.
            refusals.waiting = written.is_err().then_some(event);
            return written.map(drop);
        }
        Ok(())
    }

    /// Fails when a new request may get no line: after a failure of the disk, without the reserve, and from a line that could not
    /// be written until one can be. Then it must be answered with 503; those in flight still get theirs where there is room.
    pub fn ready(&self) -> Result<()> {
        self.usable()?;
        if !self.has_reserve() {
            return Err(Error::NoSpace);
        }
        // Whether the log can go on shows when it takes a line, which says how many it lacks.
        let count = self.lacking.load(Ordering::SeqCst);
        if count > 0 {
            self.put(&Event { count, ..Event::new("audit.resumed") })?;
            self.lacking.fetch_sub(count, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Fails for good after the disk failed a sync.
    pub(super) fn usable(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            let what = "the disk failed to keep it: type `dmesg`, then start infershield again";
            return Err(Error::Failed(what.to_owned()));
        }
        Ok(())
    }

    fn has_reserve(&self) -> bool {
        let reserve = fs::symlink_metadata(self.home.path(&place(RESERVE)));
        reserve.is_ok_and(|meta| meta.len() == RESERVE_BYTES)
    }
}

impl Writer<'_> {
    /// Makes the reserve unless it is there. New requests are accepted only while it is.
    pub(super) fn keep_reserve(&self) {
        if !self.log.has_reserve() && self.make_reserve().is_err() {
            self.give_reserve_up();
        }
    }

    /// Gives the reserve's room to the lines of requests in flight.
    pub(super) fn give_reserve_up(&self) {
        let _ = fs::remove_file(self.log.home.path(&place(RESERVE)));
    }

    fn make_reserve(&self) -> io::Result<()> {
        let mut file = self.log.home.open_or_create(&place(RESERVE))?;
        file.set_len(0)?;
        io::copy(&mut File::open(RANDOM)?.take(RESERVE_BYTES), &mut file)?;
        file.sync_all()
    }
}
