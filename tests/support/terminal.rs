//! A command of this program on a real terminal.

use super::fixture::Fixture;
use super::process::PATIENCE;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

/// A command on a real terminal, which `script` (util-linux) provides.
pub struct Terminal {
    child: Child,
    pub seen: Vec<u8>,
}

impl Terminal {
    pub fn start(desk: &Fixture, arguments: &str) -> Self {
        let mut command = desk.run.program(Path::new("script"));
        command.env("INFERSHIELD_HOME", &desk.home).env("INFERSHIELD_MASTER_KEY", &desk.master);
        // A browser of the test's own comes first.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", desk.run.dir.join("bin").display()));
        command.args(["-qec", &format!("'{}' {arguments}", env!("CARGO_BIN_EXE_infershield")), "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("`script` is installed (package util-linux or bsdutils)");
        Self { child, seen: Vec::new() }
    }

    pub fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            let bytes = self.child.stdout.as_mut().unwrap().read(&mut buffer).unwrap();
            assert!(bytes > 0 && begun.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&self.seen));
            self.seen.extend(&buffer[..bytes]);
        }
    }

    pub fn type_in(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The exit code and everything that the terminal showed.
    pub fn end(mut self) -> (Option<i32>, String) {
        self.child.stdout.as_mut().unwrap().read_to_end(&mut self.seen).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, String::from_utf8_lossy(&self.seen).into_owned())
    }
}
