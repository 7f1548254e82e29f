//! The folder of one test: homes, outputs of every program, and the list of secrets that must not show up in them.

use super::process::Process;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the folders of all tests stand: `ALL_RUNS/TARGET-PROCESS/NAME-NUMBER/`.
pub const ALL_RUNS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/run");
/// The list in each folder, one secret a line; the practice provider adds what it issues.
pub const SECRETS: &str = "secrets.txt";
/// How the name of a captured output ends that shows a local key on purpose.
pub const SHOWS_KEY: &str = ".shows-key";

/// Commands whose purpose is to print a local key.
const KEY_COMMANDS: [&[&str]; 4] =
    [&["key", "create"], &["key", "print"], &["env"], &["serve", "--listen", "127.0.0.1:0", "--tied-to"]];

static STARTED: Once = Once::new();
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// One test's folder. It stays after the test, so that the leak test can look through it.
#[derive(Clone)]
pub struct Run {
    pub dir: PathBuf,
}

impl Run {
    pub fn new(name: &str) -> Self {
        STARTED.call_once(forget_the_dead);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let process = format!("{}-{}", env!("CARGO_CRATE_NAME"), std::process::id());
        let dir = Path::new(ALL_RUNS).join(process).join(format!("{name}-{number}"));
        fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    /// Registers what must never be found in this folder, and hands it back.
    pub fn secret(&self, text: &str) -> String {
        assert!(text.len() >= 8 && !text.contains('\n'), "too short to be looked for");
        let mut options = OpenOptions::new();
        let mut list = options.create(true).append(true).open(self.dir.join(SECRETS)).unwrap();
        writeln!(list, "{text}").unwrap();
        text.to_owned()
    }

    /// A new random secret of 64 hexadecimal digits, registered.
    pub fn random_secret(&self) -> String {
        let bytes = infershield::secret::random::<32>().unwrap();
        self.secret(&infershield::secret::hex(&bytes))
    }

    /// A fresh, empty, private folder.
    pub fn home(&self, name: &str) -> PathBuf {
        let home = self.dir.join(name);
        fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
        home
    }

    /// The real binary in a clean environment; a variable more with `.env(…)`.
    pub fn infershield(&self, home: &Path, arguments: &[&str]) -> Command {
        let mut command = self.program(Path::new(env!("CARGO_BIN_EXE_infershield")));
        command.env("INFERSHIELD_HOME", home).args(arguments);
        command
    }

    /// Any program in a clean environment.
    pub fn program(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.env_clear().current_dir(&self.dir).env("HOME", &self.dir);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// Starts a command and keeps both its outputs in this folder.
    pub fn start(&self, command: Command) -> Process {
        let words: Vec<&str> = command.get_args().filter_map(|word| word.to_str()).collect();
        let shows = KEY_COMMANDS.iter().any(|shown| words.starts_with(shown));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let plain = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        let names = words.iter().filter(|word| word.chars().all(plain)).take(3);
        let label = names.fold(format!("{number:03}"), |label, word| format!("{label}-{word}"));
        let out = format!("{label}.stdout{}", if shows { SHOWS_KEY } else { "" });
        let err = format!("{label}.stderr");
        Process::start(command, &self.dir.join(out), &self.dir.join(err))
    }
}

/// Removes what earlier processes of this test target left; the leak test looks through what those of the others left.
fn forget_the_dead() {
    let Ok(folders) = fs::read_dir(ALL_RUNS) else {
        return;
    };
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(concat!(env!("CARGO_CRATE_NAME"), "-"));
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            fs::remove_dir_all(folder.path()).unwrap();
        }
    }
}
