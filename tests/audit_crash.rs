//! Writers that are killed, and disks that are full, lose no line of an answered request.
//! The writers are this very test binary, started again as another process with a home in its environment.

use crate::audit_place::{Place, clean, event, open};
use crate::support::die_at;
use infershield::audit::{Audit, Error, Filter, Verified, query};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

/// Where the other process finds the home.
const HOME: &str = "INFERSHIELD_TEST_AUDIT_HOME";
/// Which of the writers below the other process is.
const ROLE: &str = "INFERSHIELD_TEST_AUDIT_ROLE";

#[test]
#[ignore = "not a test: the other process of the tests below"]
fn writer() {
    let (Some(dir), Ok(role)) = (std::env::var_os(HOME), std::env::var(ROLE)) else {
        return;
    };
    let dir = PathBuf::from(dir);
    let log = Arc::new(open(&dir));
    match role.as_str() {
        "endless" => {
            log.start_sync().unwrap();
            panic!("{}", append_until_an_error(&log));
        }
        "short" => {
            for number in 0..3 {
                append_and_answer(&log, number).unwrap();
            }
            log.sync().unwrap();
        }
        "until an error" => println!("\nerror {:?}", append_until_an_error(&log)),
        "on a small disk" => {
            fill_the_disk_and_make_room(&log, &dir);
            println!("\nsurvived");
        }
        _ => panic!("no such role"),
    }
}

fn append_until_an_error(log: &Audit) -> Error {
    let error = (0..).find_map(|number| append_and_answer(log, number).err());
    error.unwrap()
}

/// Appends, and tells the number only once the call has returned: an answered request.
fn append_and_answer(log: &Audit, number: usize) -> Result<(), Error> {
    let seq = log.append(&event(number))?;
    let answer = format!("\nanswered {seq}\n");
    io::stdout().write_all(answer.as_bytes()).unwrap();
    Ok(())
}

fn fill_the_disk_and_make_room(log: &Arc<Audit>, dir: &Path) {
    log.start_sync().unwrap();
    log.append(&event(0)).unwrap();
    assert!(log.ready().is_ok());
    fill(&dir.join("filler"));
    let mut written_while_full = 0;
    let error = loop {
        match log.append(&event(0)) {
            Ok(_) => written_while_full += u64::from(log.ready().is_err()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace), "{error}");
    assert!(log.ready().is_err());
    assert!(written_while_full > 1000, "{written_while_full}");
    let lines = log.anchor().unwrap().seq;
    assert_eq!(Place::verify_at(dir), clean(lines));
    fs::remove_file(dir.join("filler")).unwrap();
    while log.ready().is_err() {
        std::thread::yield_now();
    }
    log.append(&event(0)).unwrap();
    // `audit.resumed` is the other one.
    assert_eq!(Place::verify_at(dir), clean(lines + 2));
}

/// This program again, as another process in a role.
fn other_process(role: &str, dir: &Path) -> Command {
    behind(Command::new(this_program()), role, dir)
}

/// The same behind a shell that first runs `setup`.
fn behind_shell(mut shell: Command, setup: &str, role: &str, dir: &Path) -> Command {
    let script = format!("{setup} && exec \"$0\" \"$@\"");
    shell.args(["sh", "-c", &script]).arg(this_program());
    behind(shell, role, dir)
}

fn behind(mut command: Command, role: &str, dir: &Path) -> Command {
    command
        .args(["--exact", "--ignored", "--nocapture", "audit_crash::writer"])
        .env(HOME, dir)
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [65_536, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

/// The next answered number of a writer, `None` when it is gone.
fn next_answer(lines: &mut impl Iterator<Item = io::Result<String>>) -> Option<u64> {
    lines.find_map(|line| line.ok()?.strip_prefix("answered ")?.parse().ok())
}

fn answers(output: ChildStdout) -> impl Iterator<Item = io::Result<String>> {
    BufReader::new(output).lines()
}

/// The numbers of all lines in the log.
fn written(place: &Place) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    query(&place.home(), &Filter::default(), &mut |line, _| {
        assert!(numbers.insert(line.seq));
        Ok(())
    })
    .unwrap();
    numbers
}

fn is_whole(place: &Place) -> bool {
    matches!(place.verify(), Ok(Verified { warning: None, .. }))
}

#[test]
fn two_writers_killed_hundreds_of_times_lose_no_answered_line() {
    let place = Place::new();
    let mut answered = BTreeSet::new();
    let mut state = 1_u64;
    for round in 0..150 {
        let start = || -> Child { other_process("endless", &place.dir).spawn().unwrap() };
        let mut children = [start(), start()];
        let mut outputs = children.each_mut().map(|child| answers(child.stdout.take().unwrap()));
        for (child, output) in children.iter_mut().zip(&mut outputs) {
            // Knuth's linear congruential generator; the moment of the kill is random all the same.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for _ in 0..1 + (state >> 60) {
                assert!(answered.insert(next_answer(output).unwrap()));
            }
            for _ in 0..state >> 48 {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for output in &mut outputs {
            while let Some(number) = next_answer(output) {
                assert!(answered.insert(number), "{number} answered twice");
            }
        }
        assert!(is_whole(&place), "round {round}: {:?}", place.verify());
    }
    place.append(1);
    let written = written(&place);
    assert_eq!(place.verify(), clean(written.len() as u64));
    let lost: Vec<_> = answered.difference(&written).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_writer_killed_at_every_step_leaves_a_log_that_the_next_one_continues() {
    let mut step = 0;
    loop {
        step += 1;
        let place = Place::new();
        let mut command = other_process("short", &place.dir);
        die_at(&mut command, &place.dir, step);
        let mut child = command.spawn().unwrap();
        let mut output = answers(child.stdout.take().unwrap());
        let answered: BTreeSet<u64> = std::iter::from_fn(|| next_answer(&mut output)).collect();
        let finished = child.wait().unwrap().success();
        // Before the head is made there is no log yet, and no answer.
        let begun = place.path("head.json").exists();
        assert!(begun || answered.is_empty(), "step {step}");
        assert!(!begun || is_whole(&place), "step {step}: {:?}", place.verify());
        place.append(1);
        let written = written(&place);
        assert!(answered.is_subset(&written), "step {step}");
        assert!(written.len() <= answered.len() + 2, "step {step}");
        assert_eq!(place.verify(), clean(written.len() as u64), "step {step}");
        if finished {
            assert_eq!(answered.len(), 3);
            break;
        }
    }
    assert!(step > 15, "{step}");
}

/// A file size limit makes a write fail in the middle of a line, as a dying disk would. It needs no rights.
#[test]
fn a_write_that_fails_within_a_line_leaves_no_part_of_it() {
    let place = Place::new();
    let setup = "trap '' XFSZ && ulimit -f 2100";
    let mut writer = behind_shell(Command::new("env"), setup, "until an error", &place.dir);
    let output = writer.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("File too large"), "{text}");
    let answered = text.lines().filter(|line| line.starts_with("answered ")).count();
    assert!(answered > 1000);
    assert_eq!(place.verify(), clean(answered as u64));
    place.append(1);
    assert_eq!(place.verify(), clean(answered as u64 + 1));
}

/// A real full disk: a file system of 3 MiB in a mount namespace of its own. Where the system grants none, this says so and shows nothing.
#[test]
fn on_a_full_disk_requests_in_flight_get_their_lines_and_new_ones_are_not_accepted() {
    let place = Place::new();
    let mount = format!("mount -t tmpfs -o size=3m,mode=700 disk '{}'", place.dir.display());
    let possible = Command::new("unshare").args(["-rm", "sh", "-c", &mount]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this system grants no file system of our own (unshare -rm)");
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.arg("-rm");
    let output = behind_shell(unshare, &mount, "on a small disk", &place.dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("\nsurvived\n"), "{errors}");
}
