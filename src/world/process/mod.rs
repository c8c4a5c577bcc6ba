//! Other programs: queue programs, scanners, filters.
//!
//! In: a [`Job`]: program, words, variables, pipes. Out: a [`Child`] that is written to, read from and waited for, each step
//! within the deadline and a pace. Nothing passes through a shell, no child gets the client's descriptors, and none
//! outlives its [`Child`] unless it has ended by itself or asked its own children to.

mod child;
mod dialog;
mod fake;

use std::ffi::{CString, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

pub use fake::{Canned, FakeProcess, Ran};

use child::{End, RealChild};

use super::{Deadline, PACE_DEFAULT, Stream};
use crate::sys::{self, watchdog};

/// Other programs.
pub trait Process {
    /// Starts one. A program that cannot be started is an error here, never an exit status.
    fn spawn(&self, job: &Job) -> io::Result<Box<dyn Child>>;

    /// Starts one to talk with: what is written is its standard input, what is read its standard output, in place of the
    /// pipes that the job names. The beginning of its standard error is kept for [`Stream::aside`]. After
    /// [`Stream::finish`] it may end by itself, within the pace; dropped before that, or after an error, it is killed.
    fn converse(&self, job: &Job) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(dialog::Dialog::new(self.spawn(&dialog::job(job))?, job.pace)))
    }
}

/// A program to run. Descriptors that no pipe names: 0 and 1 are /dev/null; 2 is ours, which `launch` has pointed away from
/// the client; all others are closed.
#[derive(Debug, Clone)]
pub struct Job {
    /// The file, not searched for in PATH; a relative one starts at `directory`.
    pub program: PathBuf,
    /// Words after the program's own name.
    pub arguments: Vec<OsString>,
    /// Variables set on top of our own, which are passed on whole.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts; ours if None.
    pub directory: Option<PathBuf>,
    /// A file that it reads at descriptor 0, from where the file stands. How far it has read then shows in that.
    pub input: Option<Rc<File>>,
    /// Its pipes; [`Child`] knows them by their place here.
    pub pipes: Vec<Pipe>,
    /// Longest time without any progress in one step (60 s unless set).
    pub pace: Duration,
}

/// The same program with the same words; an input is the same only if it is the same open file.
impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        let parts = |job: &Self| {
            let input = job.input.as_ref().map(Rc::as_ptr);
            (job.program.clone(), job.arguments.clone(), job.environment.clone(), job.directory.clone(), input)
        };
        parts(self) == parts(other) && self.pipes == other.pipes && self.pace == other.pace
    }
}

impl Eq for Job {}

impl Job {
    /// A program without words, variables and pipes.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            input: None,
            pipes: Vec::new(),
            pace: PACE_DEFAULT,
        }
    }
}

/// A pipe between us and a child, under one or more of the child's descriptor numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe {
    /// Who writes.
    pub direction: Direction,
    /// The child's end, at all of these numbers.
    pub descriptors: Vec<i32>,
}

/// Who writes to a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// We do.
    ToChild,
    /// The child does.
    FromChild,
    /// The child does, and what it says is of interest only where something went wrong: it is read beside everything else,
    /// and its first 4,096 octets are kept for [`Child::prose`].
    Prose,
}

impl Pipe {
    /// One that the child reads at these numbers. (qmail-queue reads its envelope from descriptor 1.)
    pub fn to_child(descriptors: &[i32]) -> Self {
        Self { direction: Direction::ToChild, descriptors: descriptors.to_vec() }
    }

    /// One that the child writes to at these numbers.
    pub fn from_child(descriptors: &[i32]) -> Self {
        Self { direction: Direction::FromChild, descriptors: descriptors.to_vec() }
    }

    /// One that the child writes prose to at these numbers.
    pub fn prose(descriptors: &[i32]) -> Self {
        Self { direction: Direction::Prose, descriptors: descriptors.to_vec() }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    /// 0 for a real-time one.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// A program that runs. Dropped before it has been waited for, it is killed with its whole process group.
///
/// After `TimedOut` it still runs: kill or drop it.
pub trait Child {
    /// Writes all of it. `BrokenPipe`: the child reads no more; its exit status will say why. What the child says meanwhile
    /// is kept for `read`.
    fn write(&mut self, pipe: usize, octets: &[u8]) -> io::Result<()>;
    /// Waits until everything written to `pipe` has been read. False: it has not been, and will not be; the child has ended or
    /// has closed its end. A write that succeeds says nothing of this: a pipe holds 64 KiB.
    fn drained(&mut self, pipe: usize) -> io::Result<bool>;
    /// Closes our end, so that a child that reads sees the end.
    fn close(&mut self, pipe: usize);
    /// Reads to the end of what the child writes, or until it has exited; keeps the first `octets_max`, drops the rest.
    fn read(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>>;
    /// Waits until there is something to be read, and takes at most `octets_max` of it; nothing: it has closed its end, or has
    /// exited.
    fn read_some(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>>;
    /// The beginning of what it has said so far in a pipe of prose; does not wait.
    fn prose(&mut self, pipe: usize) -> Vec<u8>;
    /// Sets the longest time without any progress in one step, which the job set first.
    fn set_pace(&mut self, pace: Duration);
    /// Waits for its end. Read its pipes first: a child that cannot get rid of its output does not end.
    fn wait(&mut self) -> io::Result<Exit>;
    /// Sends SIGKILL to its process group.
    fn kill(&mut self);
    /// Its process id.
    fn id(&self) -> u32;
}

/// The machine's programs.
pub struct RealProcess {
    deadline: Deadline,
}

impl RealProcess {
    /// One that keeps to this deadline.
    pub fn new(deadline: Deadline) -> Self {
        Self { deadline }
    }
}

impl Process for RealProcess {
    fn spawn(&self, job: &Job) -> io::Result<Box<dyn Child>> {
        static PREPARED: std::sync::Once = std::sync::Once::new();
        PREPARED.call_once(sys::prepare_for_children);
        let (ours, theirs) = open_pipes(job)?;
        let id = start(job, &theirs)?;
        watchdog::add_group(id);
        // From here on the child has an owner who kills it, whatever fails.
        let mut child =
            RealChild { id, pipes: ours, pidfd: None, exit: None, pace: job.pace, deadline: self.deadline.clone() };
        drop(theirs);
        // Without one (a kernel before 5.3, a sandbox) we look every few milliseconds.
        child.pidfd = sys::pidfd(id).ok();
        Ok(Box::new(child))
    }
}

/// Our ends, and the child's with the numbers they get there.
type Ends = (Vec<End>, Vec<(OwnedFd, Vec<RawFd>)>);

fn open_pipes(job: &Job) -> io::Result<Ends> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pipe in &job.pipes {
        let (reader, writer) = io::pipe()?;
        let their_end: OwnedFd = match pipe.direction {
            Direction::ToChild => {
                // Ours alone: the child's end is another open file, and stays blocking as programs expect.
                fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                ours.push(End::Write(writer));
                reader.into()
            }
            Direction::FromChild => {
                ours.push(End::Read(reader, Vec::new()));
                writer.into()
            }
            Direction::Prose => {
                ours.push(End::Prose(reader, Vec::new()));
                writer.into()
            }
        };
        theirs.push((their_end, pipe.descriptors.clone()));
    }
    if let Some(file) = &job.input {
        theirs.push((file.try_clone()?.into(), vec![0]));
    }
    // A child's end must not be overwritten by another one before it is in its place.
    let numbers: Vec<RawFd> = theirs.iter().flat_map(|(_, numbers)| numbers.clone()).collect();
    let mut set_aside = Vec::new();
    for (end, _) in &mut theirs {
        while numbers.contains(&end.as_raw_fd()) {
            let higher = end.try_clone()?;
            set_aside.push(std::mem::replace(end, higher));
        }
    }
    Ok((ours, theirs))
}

fn start(job: &Job, theirs: &[(OwnedFd, Vec<RawFd>)]) -> io::Result<i32> {
    let mut descriptors: Vec<(RawFd, Option<RawFd>)> = Vec::new();
    for (end, numbers) in theirs {
        descriptors.extend(numbers.iter().map(|&number| (number, Some(end.as_raw_fd()))));
    }
    for standard in [0, 1] {
        if !descriptors.iter().any(|&(number, _)| number == standard) {
            descriptors.push((standard, None));
        }
    }
    let path = text(job.program.as_os_str().as_bytes())?;
    let mut arguments = vec![path.clone()];
    for word in &job.arguments {
        arguments.push(text(word.as_bytes())?);
    }
    let directory = match &job.directory {
        Some(directory) => Some(text(directory.as_os_str().as_bytes())?),
        None => None,
    };
    sys::spawn(&path, &arguments, &environment(job)?, directory.as_deref(), &descriptors)
}

fn environment(job: &Job) -> io::Result<Vec<CString>> {
    let mut variables: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| job.environment.iter().all(|(other, _)| other != name)).collect();
    variables.extend(job.environment.iter().cloned());
    variables
        .into_iter()
        .map(|(name, value)| {
            let mut line = name.into_vec();
            line.push(b'=');
            line.extend_from_slice(value.as_bytes());
            text(&line)
        })
        .collect()
}

/// A C string; a NUL inside is an error and not a cut.
fn text(octets: &[u8]) -> io::Result<CString> {
    CString::new(octets).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in a program's text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use nix::sys::signal::{SigSet, Signal};

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    /// A shell with a script; descriptors 0 in, 1 out.
    fn shell(script: &str) -> Job {
        Job {
            arguments: vec!["-c".into(), script.into()],
            pipes: vec![Pipe::to_child(&[0]), Pipe::from_child(&[1])],
            ..Job::new("/bin/sh")
        }
    }

    fn spawn(job: &Job) -> Box<dyn Child> {
        RealProcess::new(Deadline::default()).spawn(job).expect("it starts")
    }

    /// All that it says, and how it ends.
    fn run(job: &Job) -> (String, Exit) {
        let mut child = spawn(job);
        child.close(0);
        let said = child.read(1, 100_000).expect("it speaks");
        (String::from_utf8_lossy(&said).into_owned(), child.wait().expect("it ends"))
    }

    #[test]
    fn how_a_program_ends() {
        #[rustfmt::skip]
        let table = [
            ("exit 0", Exit::Code(0)),
            ("exit 82", Exit::Code(82)),
            ("exit 255", Exit::Code(255)),
            ("kill -9 $$", Exit::Signal(9)),
            ("kill -11 $$", Exit::Signal(11)),
            // A real-time signal.
            ("kill -34 $$", Exit::Signal(0)),
            // The default action: the parent's handlers and masks are not passed on.
            ("kill -15 $$; sleep 20", Exit::Signal(15)),
            ("kill -13 $$; sleep 20", Exit::Signal(13)),
        ];
        for (script, expected) in table {
            let mut child = spawn(&shell(script));
            assert_eq!(child.wait().ok(), Some(expected), "{script}");
            assert_eq!(child.wait().ok(), Some(expected), "{script}: the second answer is the first");
            child.kill();
        }
    }

    #[test]
    fn what_cannot_be_started() {
        let process = RealProcess::new(Deadline::default());
        #[rustfmt::skip]
        let table = [
            (Job::new("/nonexistent/qmail-queue"), io::ErrorKind::NotFound),
            (Job::new("sh"), io::ErrorKind::NotFound),
            (Job::new("/etc/passwd"), io::ErrorKind::PermissionDenied),
            (Job::new("/"), io::ErrorKind::PermissionDenied),
            (Job::new("/bin/sh\0x"), io::ErrorKind::InvalidInput),
            (Job { directory: Some("/nonexistent".into()), ..shell("") }, io::ErrorKind::NotFound),
            (Job { arguments: vec!["\0".into()], ..shell("") }, io::ErrorKind::InvalidInput),
            (Job { environment: vec![("A".into(), "\0".into())], ..shell("") }, io::ErrorKind::InvalidInput),
        ];
        for (job, expected) in table {
            let error = process.spawn(&job).err().map(|error| error.kind());
            assert_eq!(error, Some(expected), "{job:?}");
        }
    }

    #[test]
    fn a_megabyte_both_ways_does_not_lock_up() {
        let mut child = spawn(&Job::new("/bin/cat").with(&[Pipe::to_child(&[0]), Pipe::from_child(&[1])]));
        let many: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        child.write(0, &many).expect("it reads");
        child.close(0);
        assert!(child.read(1, usize::MAX).expect("it writes") == many);
        assert_eq!(child.wait().ok(), Some(Exit::Code(0)));
        assert!(child.write(0, b"x").is_err(), "closed");
        assert_eq!(child.read(1, 9).ok(), Some(Vec::new()), "read already");
        assert!(child.read(7, 9).is_err());
    }

    impl Job {
        fn with(mut self, pipes: &[Pipe]) -> Self {
            self.pipes = pipes.to_vec();
            self
        }
    }

    #[test]
    fn descriptors_as_qmail_queue_wants_them() {
        let script = "cat >&4; cat <&1 >&6";
        let pipes = [Pipe::to_child(&[0]), Pipe::to_child(&[1]), Pipe::from_child(&[4, 6])];
        let mut child = spawn(&shell(script).with(&pipes));
        child.write(0, b"message").expect("it reads");
        child.close(0);
        child.write(1, b"Fa@b\0Tc@d\0\0").expect("it reads");
        child.close(1);
        assert_eq!(child.read(2, 255).ok().as_deref(), Some(&b"messageFa@b\0Tc@d\0\0"[..]));
        assert_eq!(child.wait().ok(), Some(Exit::Code(0)));
    }

    #[test]
    fn a_childs_ends_do_not_overwrite_each_other() {
        // Downwards, so that whatever numbers the pipes get here, some are taken by another one's end first.
        let pipes: Vec<Pipe> = (3..=30).rev().map(|number| Pipe::to_child(&[number])).collect();
        let script = "i=3; while [ $i -le 30 ]; do read x </proc/$$/fd/$i; echo $i$x; i=$((i+1)); done";
        let mut child = spawn(&shell(script).with(&[pipes, vec![Pipe::from_child(&[1])]].concat()));
        let mut expected = String::new();
        for number in 3..=30 {
            let line = format!("={number}\n");
            child.write(30 - number, line.as_bytes()).expect("it reads");
            expected += &format!("{number}{line}");
        }
        let said = child.read(28, 999).expect("it speaks");
        assert_eq!(String::from_utf8_lossy(&said), expected);
    }

    #[test]
    fn nothing_of_ours_reaches_a_child_but_what_is_named() {
        // Like a descriptor that a launcher left open: not close-on-exec.
        let file = tempfile::NamedTempFile::new().expect("a file");
        let leaked = nix::unistd::dup(&file).expect("a copy");
        sys::prepare_for_children();
        let script = "for f in /proc/$$/fd/*; do echo ${f##*/}=$(readlink $f); done";
        let (said, _) = run(&shell(script));
        let path = file.path().to_str().expect("a plain name");
        assert!(!said.contains(path), "{said}");
        // Above 2 the shell has only what it opens itself, in passing.
        let kept = said.lines().filter(|line| !line.ends_with('=')).count();
        assert!(kept <= 4, "{said}");
        drop(leaked);

        let (said, _) = run(&Job {
            pipes: vec![Pipe::to_child(&[5]), Pipe::from_child(&[6])],
            ..shell("x=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); echo \"$x\" >&6")
        });
        assert_eq!(said, "/dev/null\n/dev/null\n");
        // std ignores SIGPIPE here, and this thread blocks SIGTERM as a session does.
        SigSet::from(Signal::SIGTERM).thread_block().expect("it can");
        let (said, _) = run(&shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
        let masks: Vec<u64> = said.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        let ours = [Signal::SIGPIPE, Signal::SIGTERM, Signal::SIGCHLD];
        let ours: u64 = ours.iter().map(|&signal| 1 << (signal as u32 - 1)).sum();
        assert!(masks.len() == 2 && masks.iter().all(|mask| mask & ours == 0), "{said}");

        let (said, _) = run(&shell("cut -d' ' -f5 /proc/$$/stat; echo $$"));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], lines[1], "its process group is its own");
    }

    #[test]
    fn environment_and_directory() {
        let mut job = shell("echo $A-$PATH; pwd");
        job.environment = vec![("A".into(), "x=y".into()), ("PATH".into(), "/bin".into())];
        job.directory = Some("/usr".into());
        assert_eq!(run(&job).0, "x=y-/bin\n/usr\n");
        let inherited = std::env::var("PATH").expect("tests have one");
        assert_eq!(run(&shell("echo $PATH")).0, format!("{inherited}\n"));
        // A relative program starts at the directory.
        let job = Job { program: "bin/sh".into(), directory: Some("/".into()), ..shell("echo $0") };
        assert_eq!(run(&job).0, "bin/sh\n");
    }

    #[test]
    fn a_file_as_input() {
        use std::io::{Seek, Write};
        for (script, said, read) in [("cat", "whole", 5), ("head -c 2; exit 0", "wh", 2), ("exit 0", "", 0)] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(b"whole").and_then(|()| file.rewind()).expect("room for it");
            let file = Rc::new(file);
            let pipes = vec![Pipe::to_child(&[]), Pipe::from_child(&[1])];
            assert_eq!(run(&Job { input: Some(file.clone()), pipes, ..shell(script) }).0, said);
            assert_eq!((&*file).stream_position().ok(), Some(read), "{script}");
        }
    }

    #[test]
    fn a_child_that_stops_reading_is_a_broken_pipe_and_its_status_counts() {
        let mut child = spawn(&shell("exit 31"));
        let many = vec![0; 1 << 20];
        let error = child.write(0, &many).expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(child.wait().ok(), Some(Exit::Code(31)));
    }

    #[test]
    fn what_lies_unread_in_a_pipe_shows() {
        let table = [
            // Not before we have written.
            ("sleep 0.1; exit 0", Some(false)),
            ("sleep 0.1; exec 0<&-; sleep 20", Some(false)),
            ("head -c 2 >/dev/null", Some(false)),
            // Somebody else holds it open, unread.
            ("sleep 0.1; sleep 5 <&0 & exit 0", Some(false)),
            ("cat >/dev/null", Some(true)),
            ("sleep 0.1; head -c 3 >/dev/null; sleep 20", Some(true)),
            // It speaks more than its pipe holds before it reads.
            ("head -c 300000 /dev/zero; cat >/dev/null", Some(true)),
            ("sleep 20", None),
            ("head -c 2 >/dev/null; sleep 20", None),
        ];
        for (script, expected) in table {
            let start = Instant::now();
            let mut child = spawn(&Job { pace: 3 * SHORT, ..shell(script) });
            child.write(0, b"abc").expect("it fits into the pipe");
            let drained = child.drained(0).map_err(|error| error.kind());
            assert_eq!(drained, expected.ok_or(io::ErrorKind::TimedOut), "{script}");
            assert!(start.elapsed() < LONG / 5, "{script}");
        }
        let mut child = spawn(&shell("sleep 20"));
        assert_eq!(child.drained(0).ok(), Some(true), "nothing was written");
        assert!(child.drained(1).is_err() && child.drained(2).is_err(), "not ours to write");
        child.close(0);
        assert!(child.drained(0).is_err(), "closed");
    }

    #[test]
    fn a_slow_reader_is_waited_for_and_a_standing_one_is_not() {
        let mut job = shell("for i in 1 2 3 4 5 6 7 8; do head -c 32768 >/dev/null; sleep 0.1; done; cat >/dev/null");
        // Less than the whole takes, more than one step.
        job.pace = Duration::from_millis(600);
        let mut child = spawn(&job);
        child.write(0, &vec![0; 8 * 32_768]).expect("there is progress");
        child.close(0);
        assert_eq!(child.wait().ok(), Some(Exit::Code(0)));

        let mut job = shell("sleep 20");
        job.pace = SHORT;
        let mut child = spawn(&job);
        let start = Instant::now();
        let error = child.write(0, &vec![0; 1 << 20]).expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(child.read(1, 9).expect_err("nobody writes").kind(), io::ErrorKind::TimedOut);
        assert_eq!(child.wait().expect_err("it sleeps").kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < LONG / 4);
        child.kill();
        assert_eq!(child.wait().ok(), Some(Exit::Signal(9)));
    }

    #[test]
    fn every_step_stops_at_the_deadline() {
        let deadline = Deadline::default();
        let mut child = RealProcess::new(deadline.clone()).spawn(&shell("sleep 20")).expect("it starts");
        let start = Instant::now();
        deadline.replace(Some(start + SHORT));
        let error = child.write(0, &vec![0; 1 << 20]).expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= SHORT);
        assert_eq!(child.write(0, b"x").expect_err("too late").kind(), io::ErrorKind::TimedOut);
        assert_eq!(child.drained(0).expect_err("too late").kind(), io::ErrorKind::TimedOut);
        assert_eq!(child.wait().expect_err("too late").kind(), io::ErrorKind::TimedOut);
        assert_eq!(child.read(1, 9).expect_err("too late").kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < LONG / 4);
    }

    #[test]
    fn a_dropped_child_takes_its_group_along() {
        let mut job = shell("sleep 60 & read never; wait");
        job.pace = SHORT;
        let mut child = spawn(&job);
        // Until it has started the other one.
        assert!(child.read(1, 99).is_err());
        let id = child.id() as i32;
        let grandchild = grandchild_of(id).expect("the sleep");
        assert!(!gone_within(id, Duration::ZERO) && !gone_within(grandchild, Duration::ZERO));
        drop(child);
        assert!(gone_within(id, LONG / 4) && gone_within(grandchild, LONG / 4));
    }

    #[test]
    fn output_is_bounded_and_a_daemon_that_holds_the_pipe_holds_nobody_up() {
        let (said, exit) = {
            let mut child = spawn(&shell("head -c 300000 /dev/zero; exit 3"));
            (child.read(1, 255).expect("it speaks"), child.wait())
        };
        assert_eq!((said.len(), exit.ok()), (255, Some(Exit::Code(3))));
        // Endless: the pipe is closed on it.
        let mut child = spawn(&Job::new("/bin/cat").with(&[Pipe::from_child(&[1])]).read_from("/dev/zero"));
        assert_eq!(child.read(0, 255).expect("it speaks").len(), 255);
        assert_eq!(child.wait().ok(), Some(Exit::Signal(13)));

        let start = Instant::now();
        let (said, exit) = run(&shell("sleep 5 & echo Dno; exit 82"));
        assert_eq!((said.as_str(), exit), ("Dno\n", Exit::Code(82)));
        assert!(start.elapsed() < Duration::from_secs(4));
    }

    impl Job {
        fn read_from(mut self, file: &str) -> Self {
            self.arguments.push(file.into());
            self
        }
    }

    /// A shell to talk with.
    fn talk(script: &str, pace: Duration) -> Box<dyn Stream> {
        let mut job = shell(script);
        job.pace = pace;
        RealProcess::new(Deadline::default()).converse(&job).expect("it starts")
    }

    #[test]
    fn a_program_can_be_talked_with() {
        let mut stream = talk("echo hi; read a; echo got $a; cat; echo bye >&2; exit 3", LONG);
        let mut said = [0; 99];
        let octets = stream.read(&mut said).expect("it greets");
        assert_eq!(&said[..octets], b"hi\n");
        assert_eq!(stream.aside(), (None, Vec::new()), "it runs, and has nothing to complain of");
        stream.write_all(b"x\n").expect("it reads");
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, b"got x\n");
        // More than the pipes hold, both ways.
        let many = vec![b'm'; 300_000];
        stream.write_all(&many).expect("it reads");
        stream.finish().expect("its input is closed");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it answers");
        assert!(rest == many, "{}", rest.len());
        assert_eq!(stream.aside(), (Some(Exit::Code(3)), b"bye\n".to_vec()));
        assert!(stream.write(b"x").is_err(), "closed");
    }

    #[test]
    fn a_program_that_does_not_talk_as_it_should() {
        // The kind of the first error or None for the end; how it ended; how it began to complain.
        #[rustfmt::skip]
        let table = [
            ("exit 4", None, Some(Exit::Code(4)), ""),
            ("echo no >&2; kill -9 $$", None, Some(Exit::Signal(9)), "no\n"),
            ("sleep 20", Some(io::ErrorKind::TimedOut), None, ""),
            ("exec >&-; sleep 20", None, None, ""),
            // Its complaints are read for as long as it makes some, but they are no progress.
            ("yes >&2", Some(io::ErrorKind::TimedOut), None, "y\ny\n"),
            ("head -c 300000 /dev/zero | tr '\\0' z >&2; exit 5", None, Some(Exit::Code(5)), "zzzz"),
            // Another one holds its output open.
            ("sleep 5 & exit 6", None, Some(Exit::Code(6)), ""),
        ];
        for (script, kind, exit, prose) in table {
            let start = Instant::now();
            let mut stream = talk(script, if kind.is_some() { SHORT } else { LONG });
            let read = stream.read(&mut [0; 9]);
            assert_eq!(read.as_ref().map_err(io::Error::kind).copied(), kind.map_or(Ok(0), Err), "{script}");
            let (ended, said) = stream.aside();
            assert_eq!(ended, exit, "{script}");
            assert!(said.len() <= 4096 && said.starts_with(prose.as_bytes()), "{script}: {}", said.escape_ascii());
            drop(stream.finish());
            drop(stream);
            assert!(start.elapsed() < LONG / 4, "{script}");
        }
    }

    #[test]
    fn only_a_program_that_was_told_to_end_may_do_so_by_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let mark = directory.path().join("mark");
        let script = format!("echo hi; cat >/dev/null; sleep 0.1; echo a goodbye; echo >{}", mark.display());
        for finished in [false, true] {
            let start = Instant::now();
            let mut stream = talk(&script, LONG);
            stream.read_exact(&mut [0; 3]).expect("it greets");
            if finished {
                stream.finish().expect("closed");
            }
            drop(stream);
            assert_eq!(mark.exists(), finished);
            // The other one is killed at once.
            assert!(finished || start.elapsed() < LONG / 4);
        }
        // But not for ever.
        let start = Instant::now();
        let mut stream = talk("echo hi; sleep 20", LONG);
        stream.read_exact(&mut [0; 3]).expect("it greets");
        stream.set_pace(SHORT);
        stream.finish().expect("closed");
        drop(stream);
        assert!(start.elapsed() < LONG / 4);
    }

    fn grandchild_of(id: i32) -> Option<i32> {
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Whether a process has ended; a zombie has.
    fn gone_within(id: i32, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
