//! The folder that holds our state: who may read it, whole writes that survive a crash, and the lock around them.
//! Must never follow a link inside the folder, change a file in place, or trust a file that others can write.

use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What can go wrong with files, and in [`crate::keys`] with keys. The text says what was tried or is wrong, and what to type; the
/// kind is the system's.
pub use std::io::{Error, Result};

/// The largest state file that is read, in bytes: ten thousand records of a few KiB each.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Mode of every file that we make.
const FILE_MODE: u32 = 0o600;
/// Mode of every folder that we make.
const DIR_MODE: u32 = 0o700;
/// Why a link, a folder or a device is refused.
const NOT_A_FILE: &str = "is not a regular file; move it away";

/// Who may get at a file. The numbers are the bits that its mode must not have.
#[derive(Clone, Copy)]
pub enum Privacy {
    /// Nobody but the owner may read or write it.
    Secret = 0o077,
    /// Others may read it, nobody else may write it.
    Readable = 0o022,
}

/// The folder of state, `$INFERSHIELD_HOME` or `~/.infershield`, or a folder inside it.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// What tells two versions of a file apart without reading it.
pub type Stamp = (u64, i64, i64, u64);

impl Home {
    /// Opens the folder, making it (mode 0700) when there is none; refuses one that others can write.
    pub fn open(dir: PathBuf) -> Result<Self> {
        DirBuilder::new().mode(DIR_MODE).recursive(true).create(&dir).map_err(failed("make the folder", &dir))?;
        let meta = fs::metadata(&dir).map_err(failed("look at", &dir))?;
        judge(&dir, &meta, Privacy::Readable)?;
        Ok(Self(dir))
    }

    /// Where a file or folder of this name stands.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The whole file, or `None` when there is none.
    pub fn read(&self, name: &str, privacy: Privacy) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let file = self.open_file(name, privacy, false)?;
        file.map(|file| read_all(file, &self.path(name))).transpose()
    }

    /// Opens an existing file for reading, and for writing too if wanted; kind, mode and identity are judged on the opened handle.
    pub fn open_file(&self, name: &str, privacy: Privacy, to_write: bool) -> Result<Option<File>> {
        let path = self.path(name);
        let seen = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            seen => seen.map_err(failed("look at", &path))?,
        };
        if !seen.is_file() {
            return Err(refused(&path, NOT_A_FILE));
        }
        let opened = OpenOptions::new().read(true).write(to_write).open(&path);
        let file = opened.map_err(failed("open", &path))?;
        let meta = file.metadata().map_err(failed("look at", &path))?;
        // The name may have been exchanged for a link between the look and the opening.
        if !meta.is_file() || (meta.dev(), meta.ino()) != (seen.dev(), seen.ino()) {
            return Err(refused(&path, NOT_A_FILE));
        }
        judge(&path, &meta, privacy)?;
        Ok(Some(file))
    }

    /// Opens a private file for reading and writing, making it (mode 0600) when there is none.
    pub fn open_or_create(&self, name: &str) -> Result<File> {
        match create(&self.path(name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.open_file(name, Privacy::Secret, true)?.ok_or(error)
            }
            made => made,
        }
    }

    /// Changes with every version of a file that [`Lock::write`] puts there; `None` when there is no file.
    pub fn stamp(&self, name: &str) -> Option<Stamp> {
        let meta = fs::symlink_metadata(self.path(name)).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
    }

    /// Waits for the right to write; held only over one read-modify-write. The lock is on a handle of its own, so it keeps out
    /// the threads of this process as well as others.
    pub fn lock(&self) -> Result<Lock<'_>> {
        let file = match self.open_or_create("lock") {
            // Where it cannot be made nothing else can be written, and whoever reads sees whole files without it too.
            Err(error) if is_read_only(&error) => self.open_file("lock", Privacy::Secret, false)?,
            file => Some(file?),
        };
        file.iter().try_for_each(File::lock).map_err(failed("lock", &self.path("lock")))?;
        Ok(Lock { home: self, _file: file })
    }
}

/// The right to write. Unlocks on drop.
pub struct Lock<'a> {
    home: &'a Home,
    _file: Option<File>,
}

impl Lock<'_> {
    /// Replaces the file as a whole, durably: temporary file beside it, fsync, rename, fsync of the folder.
    /// After a crash at any point the old or the new content stands there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = format!("{name}.tmp");
        let path = self.home.path(&temporary);
        // Left by a writer that was killed; we hold the lock, so nobody is still writing it.
        let _ = fs::remove_file(&path);
        let mut file = create(&path)?;
        let written = file.write_all(bytes).map_err(failed("write", &path));
        let written = written.and_then(|()| file.sync_all().map_err(failed("sync", &path)));
        let written = written.and_then(|()| self.rename(&temporary, name));
        if written.is_err() {
            // Part of a file is of no use to anybody, and on a full disk its room is.
            let _ = fs::remove_file(&path);
        }
        written
    }

    /// Gives a file of the home another name, durably.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let path = self.home.path(to);
        fs::rename(self.home.path(from), &path).map_err(failed("rename to", &path))?;
        self.sync_dir()
    }

    /// Removes a file, durably; it may be missing.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.home.path(name);
        // Looked for first: where nothing can be written, the system does not say that it is missing.
        match fs::symlink_metadata(&path).and_then(|_| fs::remove_file(&path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
            Ok(()) => self.sync_dir(),
        }
    }

    fn sync_dir(&self) -> Result<()> {
        let synced = File::open(&self.home.0).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync", &self.home.0))
    }
}

/// Whether this is the refusal of a place that can be read and not written.
fn is_read_only(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Reads a private file anywhere on disk, links followed: for key files that the user names.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path).map_err(failed("open", path))?;
    let meta = file.metadata().map_err(failed("look at", path))?;
    judge(path, &meta, Privacy::Secret)?;
    read_all(file, path)
}

/// The value of a JSON text that we wrote. We write it in one way only: any other text is `None`, one with members that only another
/// version knows too.
pub fn parse<T: DeserializeOwned + Serialize>(json: &[u8]) -> Option<T> {
    let value = serde_json::from_slice(json).ok()?;
    (serde_json::to_vec(&value).ok()? == json).then_some(value)
}

/// Wraps a refusal of the system, saying what was tried.
fn failed(what: &str, path: &Path) -> impl FnOnce(Error) -> Error {
    move |error| Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

fn refused(path: &Path, why: &str) -> Error {
    Error::other(format!("{} {why}", path.display()))
}

/// Refuses a file or folder that others can get at.
fn judge(path: &Path, meta: &Metadata, privacy: Privacy) -> Result<()> {
    let own = fs::metadata("/proc/self").map_or(meta.uid(), |process| process.uid());
    if ![0, own].contains(&meta.uid()) {
        return Err(refused(path, &format!("belongs to user {}: type `chown {own} {}`", meta.uid(), path.display())));
    }
    let (mode, forbidden) = (meta.mode() & 0o777, privacy as u32);
    if mode & forbidden == 0 {
        return Ok(());
    }
    let right = if meta.is_dir() { DIR_MODE } else { mode & !forbidden };
    let advice = format!("type `chmod {right:03o} {}`", path.display());
    Err(refused(path, &format!("has mode {mode:03o}, so others can get at it: {advice}")))
}

fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    let file = file.map_err(failed("create", path))?;
    // A strange umask may have taken our own rights away.
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed("chmod", path))?;
    Ok(file)
}

fn read_all(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a buffer that grows leaves unwiped copies behind.
    let length = file.metadata().map_or(0, |meta| meta.len()).min(MAX_FILE_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused(path, &format!("is larger than {MAX_FILE_BYTES} bytes; move it away")));
    }
    Ok(bytes)
}
