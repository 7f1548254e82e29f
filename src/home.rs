//! The folder that holds our state: who may read it, whole writes that survive a crash, and the lock around them.
//! Must never follow a link inside the folder, change a file in place, or trust a file that others can write.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// The largest state file that is read, in bytes: ten thousand records of a few KiB each.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Mode of every file that we make.
const FILE_MODE: u32 = 0o600;
/// Mode of every folder that we make.
const DIR_MODE: u32 = 0o700;

/// Serialises the writers of this process; the advisory lock on `lock` serialises processes.
static WRITERS: Mutex<()> = Mutex::new(());

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Nobody but the owner may read or write it.
    Secret,
    /// Others may read it, nobody else may write it.
    Readable,
}

/// The folder of state, `$INFERSHIELD_HOME` or `~/.infershield`.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// What tells two versions of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64, i64, i64, u64);

/// What can go wrong with files. The text names the file and the next command.
#[derive(Debug)]
pub enum Error {
    /// The system refused; the text says what was tried.
    Io(String, io::Error),
    /// Others could read or write it; the text holds the `chmod` to type.
    TooOpen(PathBuf, u32, u32),
    /// Not a regular file (a link, a folder, a device).
    NotAFile(PathBuf),
    /// Larger than any file of ours can be.
    TooLarge(PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::TooOpen(path, mode, right) => write!(
                f,
                "{} has mode {:03o}, so others can get at it: type `chmod {right:03o} {}`",
                path.display(),
                mode & 0o777,
                path.display()
            ),
            Self::NotAFile(path) => {
                write!(f, "{} is not a regular file; move it away", path.display())
            }
            Self::TooLarge(path) => write!(f, "{} is larger than {MAX_FILE_BYTES} bytes; move it away", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Results of this module.
pub type Result<T> = std::result::Result<T, Error>;

impl Home {
    /// Opens the folder, making it (mode 0700) when there is none.
    pub fn open(dir: PathBuf) -> Result<Self> {
        make_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Where a file or folder of this name stands.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a folder inside the home, mode 0700, and refuses one that others can write.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path(name);
        make_dir(&dir)?;
        Ok(dir)
    }

    /// The whole file, or `None` when there is none.
    pub fn read(&self, name: &str, privacy: Privacy) -> Result<Option<Zeroizing<Vec<u8>>>> {
        match self.open_file(name, privacy, OpenOptions::new().read(true))? {
            Some(file) => read_all(file, &self.path(name)).map(Some),
            None => Ok(None),
        }
    }

    /// Opens an existing file as `options` say; kind, mode and identity are judged on the opened handle.
    pub fn open_file(&self, name: &str, privacy: Privacy, options: &OpenOptions) -> Result<Option<File>> {
        let path = self.path(name);
        let seen = match fs::symlink_metadata(&path) {
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot look at", &path, error)),
        };
        if !seen.is_file() {
            return Err(Error::NotAFile(path));
        }
        let file = options.open(&path).map_err(|error| failed("cannot open", &path, error))?;
        let meta = file.metadata().map_err(|error| failed("cannot look at", &path, error))?;
        // The name may have been exchanged for a link between the look and the opening.
        if !meta.is_file() || (meta.dev(), meta.ino()) != (seen.dev(), seen.ino()) {
            return Err(Error::NotAFile(path));
        }
        judge(&path, meta.mode(), privacy)?;
        Ok(Some(file))
    }

    /// Opens a private file for reading and writing, making it (mode 0600) when there is none.
    pub fn open_or_create(&self, name: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if let Some(file) = self.open_file(name, Privacy::Secret, &options)? {
            return Ok(file);
        }
        match create(&self.path(name)) {
            // Another process made it in between.
            Err(Error::Io(_, error)) if error.kind() == io::ErrorKind::AlreadyExists => self
                .open_file(name, Privacy::Secret, &options)?
                .ok_or_else(|| failed("cannot open", &self.path(name), error)),
            made => made,
        }
    }

    /// Changes with every version of a file that [`Lock::write`] puts there; `None` when there is no file.
    pub fn stamp(&self, name: &str) -> Option<Stamp> {
        let meta = fs::symlink_metadata(self.path(name)).ok()?;
        Some(Stamp(meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
    }

    /// Waits for the right to write; held only over one read-modify-write.
    pub fn lock(&self) -> Result<Lock<'_>> {
        let writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.open_or_create("lock")?;
        file.lock().map_err(|error| failed("cannot lock", &self.path("lock"), error))?;
        Ok(Lock { home: self, _file: file, _writers: writers })
    }
}

/// The right to write. Unlocks on drop.
pub struct Lock<'a> {
    home: &'a Home,
    _file: File,
    _writers: MutexGuard<'a, ()>,
}

impl Lock<'_> {
    /// Replaces the file as a whole, durably: temporary file beside it, fsync, rename, fsync of the folder.
    /// After a crash at any point the old or the new content stands there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.home.path(name);
        let temporary = self.home.path(&format!("{name}.tmp"));
        // Left by a writer that was killed; we hold the lock, so nobody is still writing it.
        let _ = fs::remove_file(&temporary);
        step();
        let mut file = create(&temporary)?;
        step();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let write = |file: &mut File, part: &[u8]| {
            file.write_all(part).map_err(|error| failed("cannot write", &temporary, error))
        };
        write(&mut file, first)?;
        step();
        write(&mut file, second)?;
        step();
        file.sync_all().map_err(|error| failed("cannot sync", &temporary, error))?;
        step();
        self.rename_path(&temporary, &path)
    }

    /// Gives a file of the home another name, durably.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.rename_path(&self.home.path(from), &self.home.path(to))
    }

    /// Removes a file, durably; it may be missing.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.home.path(name);
        step();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("cannot remove", &path, error));
            }
            _ => step(),
        }
        sync_dir(&self.home.dir)
    }

    fn rename_path(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|error| failed("cannot rename to", to, error))?;
        step();
        sync_dir(&self.home.dir)?;
        step();
        Ok(())
    }
}

/// Reads a private file anywhere on disk, links followed: for key files that the user names.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path).map_err(|error| failed("cannot open", path, error))?;
    let meta = file.metadata().map_err(|error| failed("cannot look at", path, error))?;
    if meta.is_file() {
        judge(path, meta.mode(), Privacy::Secret)?;
    }
    read_all(file, path)
}

/// A point at which a test may kill the process: the number in `INFERSHIELD_TEST_DIE_AT_STEP` counts them down.
/// Only debug builds look.
pub fn step() {
    #[cfg(debug_assertions)]
    {
        use std::sync::atomic::{AtomicU64, Ordering};
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let wanted = std::env::var("INFERSHIELD_TEST_DIE_AT_STEP").ok().and_then(|text| text.parse().ok());
        if wanted == Some(PASSED.fetch_add(1, Ordering::SeqCst) + 1) {
            std::process::abort();
        }
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::Io(format!("{what} {}", path.display()), error)
}

fn judge(path: &Path, mode: u32, privacy: Privacy) -> Result<()> {
    let (forbidden, right) = match privacy {
        Privacy::Secret => (0o077, 0o600),
        Privacy::Readable => (0o022, 0o644),
    };
    if mode & forbidden != 0 { Err(Error::TooOpen(path.to_owned(), mode, right)) } else { Ok(()) }
}

fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
    let file = file.map_err(|error| failed("cannot create", path, error))?;
    // A strange umask may have taken our own rights away.
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE)).map_err(|error| failed("cannot chmod", path, error))?;
    Ok(file)
}

fn make_dir(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(DIR_MODE).recursive(true).create(dir) {
        Ok(()) => {}
        Err(error) => return Err(failed("cannot make the folder", dir, error)),
    }
    let meta = fs::metadata(dir).map_err(|error| failed("cannot look at", dir, error))?;
    if meta.mode() & 0o022 != 0 { Err(Error::TooOpen(dir.to_owned(), meta.mode(), DIR_MODE)) } else { Ok(()) }
}

fn read_all(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a buffer that grows leaves unwiped copies behind.
    let length = file.metadata().map_or(0, |meta| meta.len());
    let room = usize::try_from(length.min(MAX_FILE_BYTES)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed("cannot read", path, error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err(Error::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("cannot sync", dir, error))
}
