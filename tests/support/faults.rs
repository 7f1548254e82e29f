//! The shim of `tests/faults.c`, which lets a program fail or die at a call of the C library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The shim, built once; for `LD_PRELOAD`.
pub fn faults() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults.c");
        let mut cc = Command::new("cc");
        let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).status();
        assert!(built.expect("a C compiler").success(), "cc builds {source}");
        library
    })
}

/// Lets a program that is about to start die at its call of this number, from 1, among those that change what lies in the folder.
pub fn die_at(command: &mut Command, folder: &Path, call: u64) {
    command.env("LD_PRELOAD", faults()).env("DIE_IN", folder).env("DIE_AT", call.to_string());
}
