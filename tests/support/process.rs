//! A running program: both outputs go to files and to the test, line by line; it dies with its handle.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long a test waits for anything before it fails: far more than any step takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A program that was started.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// A program that ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote that was not read line by line before.
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub(super) fn start(mut command: Command, stdout: &Path, stderr: &Path) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: tee(child.stdout.take().unwrap(), stdout),
            stderr: tee(child.stderr.take().unwrap(), stderr),
            child,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output, without its end; fails the test when none comes.
    pub fn line(&self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => panic!("no line on stdout ({error}); stderr: {}", drain(&self.stderr)),
        }
    }

    /// Reads lines of standard output up to one that begins so, and returns the rest of that line.
    pub fn line_after(&self, beginning: &str) -> String {
        loop {
            if let Some(rest) = self.line().strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
    }

    /// Reads lines of standard error up to one that holds this, and returns that line.
    pub fn complaint(&self, part: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no `{part}` on stderr ({error})"));
            if line.contains(part) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Writes to standard input.
    pub fn type_in(&mut self, text: &str) {
        self.type_bytes(text.as_bytes());
    }

    /// The same with bytes that need not be text.
    pub fn type_bytes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes standard input and waits for the end.
    pub fn wait(mut self) -> Done {
        self.stdin = None;
        let stdout = until_closed(&self.stdout);
        let stderr = until_closed(&self.stderr);
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Done { code, stdout, stderr }
    }

    /// Ends it at once (SIGKILL); both files are complete afterwards.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        until_closed(&self.stdout);
        until_closed(&self.stderr);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies an output to a file and hands on its lines.
fn tee(output: impl Read + Send + 'static, path: &Path) -> Receiver<String> {
    let (lines, receiver) = mpsc::channel();
    let mut file = File::create_new(path).unwrap();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            file.write_all(&line).unwrap();
            // Nobody may be listening any more; the file is what counts.
            let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    });
    receiver
}

fn until_closed(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => text += &line,
            Err(RecvTimeoutError::Disconnected) => return text,
            Err(RecvTimeoutError::Timeout) => panic!("the program does not end; so far: {text}"),
        }
    }
}

fn drain(lines: &Receiver<String>) -> String {
    lines.try_iter().collect()
}
