//! Plays a whole dialog through the program's standard input, as `postern --config DIR < FILE` does.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::room::Room;

/// One run to be: the room, arguments, variables beside the room's own, a time limit, a program to run it under.
pub struct Play<'a> {
    room: &'a Room,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    under: Vec<OsString>,
    limit: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Exit status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Still running at the time limit, and ended by the test.
    Overtime,
}

/// What a run left to look at.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output: the replies.
    pub output: Vec<u8>,
    /// Standard error: the log.
    pub log: String,
    pub end: End,
    /// Whether nobody held the client's descriptor any more when the program had ended.
    pub released: bool,
    pub elapsed: Duration,
}

impl<'a> Play<'a> {
    pub fn new(room: &'a Room) -> Self {
        Self { room, arguments: Vec::new(), variables: Vec::new(), under: Vec::new(), limit: Duration::from_secs(30) }
    }

    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// An argument after `--config DIR`.
    pub fn argument(mut self, word: impl AsRef<OsStr>) -> Self {
        self.arguments.push(word.as_ref().into());
        self
    }

    /// Makes the stand-in for qmail-queue fail; its own text lists the ways.
    pub fn fault(self, fault: &str) -> Self {
        self.variable("POSTERN_TEST_QUEUE_FAULT", fault)
    }

    /// Runs the program under another one, such as strace.
    pub fn under<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.under = words.into_iter().map(|word| word.as_ref().into()).collect();
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sends `input`, then end of input, and waits for the program's end.
    pub fn run(self, input: &[u8]) -> Outcome {
        let log = tempfile::NamedTempFile::new_in(self.room.path("log")).unwrap();
        let began = Instant::now();
        let mut child = self.spawn(log.reopen().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // Not joined: whoever kept the other end would keep this thread. A program that stops reading is a fine end.
        thread::spawn(move || stdin.write_all(&input));
        let (sender, receiver) = mpsc::channel();
        let mut stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            loop {
                match stdout.read(&mut buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(octets @ 1..) if sender.send(buffer[..octets].to_vec()).is_ok() => {}
                    _ => return,
                }
            }
        });
        let end = wait(&mut child, self.limit);
        let elapsed = began.elapsed();
        let (output, released) = collect(&receiver);
        let log = fs::read(log.path()).unwrap();
        Outcome { output, log: String::from_utf8_lossy(&log).into_owned(), end, released, elapsed }
    }

    fn spawn(&self, log: File) -> Child {
        let mut words = self.under.clone();
        words.extend([self.room.program().into(), "--config".into(), self.room.path("config").into()]);
        words.extend(self.arguments.iter().cloned());
        Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .envs(self.room.environment())
            .envs(self.variables.iter().cloned())
            .current_dir(self.room.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }
}

/// Everything that was written; false if the pipe is still open two seconds after the end.
fn collect(receiver: &mpsc::Receiver<Vec<u8>>) -> (Vec<u8>, bool) {
    let mut output = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_secs(2)) {
            Ok(octets) => output.extend(octets),
            Err(mpsc::RecvTimeoutError::Disconnected) => return (output, true),
            Err(mpsc::RecvTimeoutError::Timeout) => return (output, false),
        }
    }
}

/// Waits for a child that leads its own process group; at the limit it ends the group.
pub fn wait(child: &mut Child, limit: Duration) -> End {
    match wait_until(child, Instant::now() + limit) {
        Some(status) => end_of(status),
        None => {
            end_group(child);
            End::Overtime
        }
    }
}

/// Polls until the child has ended.
pub fn wait_until(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Kills the process group that `child` leads and that the test started, and takes its status.
pub fn end_group(child: &mut Child) {
    // Gone already is as good.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    child.wait().unwrap();
}

fn end_of(status: ExitStatus) -> End {
    status.code().map_or_else(|| End::Signal(status.signal().unwrap_or(0)), End::Code)
}
