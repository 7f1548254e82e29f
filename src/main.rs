//! Arguments in, exit code out; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    infershield::cli::run(std::env::args_os().skip(1))
}
