//! Other programs: queue programs, scanners, filters.
//!
//! In: a [`Job`]: program, words, variables, pipes. Out: a [`Child`] that is written to, read from and waited for, each step
//! within the deadline and a pace. Nothing passes through a shell, no child gets the client's descriptors, and none
//! outlives its [`Child`] unless it has ended by itself or asked its own children to.

mod child;
mod fake;

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

pub use fake::{Canned, FakeProcess, Ran};

use child::{End, RealChild};

use super::{Deadline, PACE_DEFAULT};
use crate::sys::{self, watchdog};

/// Other programs.
pub trait Process {
    /// Starts one. A program that cannot be started is an error here, never an exit status.
    fn spawn(&self, job: &Job) -> io::Result<Box<dyn Child>>;
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
    /// Its pipes; [`Child`] knows them by their place here.
    pub pipes: Vec<Pipe>,
    /// Longest time without any progress in one step (60 s unless set).
    pub pace: Duration,
}

impl Job {
    /// A program without words, variables and pipes.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
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
}

impl Pipe {
    /// One that the child reads at these numbers. (qmail-queue reads its envelope from descriptor 1.)
    pub fn to_child(descriptors: &[i32]) -> Self {
        Self {
            direction: Direction::ToChild,
            descriptors: descriptors.to_vec(),
        }
    }

    /// One that the child writes to at these numbers.
    pub fn from_child(descriptors: &[i32]) -> Self {
        Self {
            direction: Direction::FromChild,
            descriptors: descriptors.to_vec(),
        }
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

/// A program that runs. Dropped before it has been waited for, it is killed with its whole process group.
///
/// After `TimedOut` it still runs: kill or drop it.
pub trait Child {
    /// Writes all of it. `BrokenPipe`: the child reads no more; its exit status will say why. What the child says meanwhile
    /// is kept for `read`.
    fn write(&mut self, pipe: usize, octets: &[u8]) -> io::Result<()>;
    /// Closes our end, so that a child that reads sees the end.
    fn close(&mut self, pipe: usize);
    /// Reads to the end of what the child writes, or until it has exited; keeps the first `octets_max`, drops the rest.
    fn read(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>>;
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
        let (ours, theirs) = open_pipes(&job.pipes)?;
        let id = start(job, &theirs)?;
        watchdog::add_group(id);
        // From here on the child has an owner who kills it, whatever fails.
        let mut child = RealChild {
            id,
            pipes: ours,
            pidfd: None,
            exit: None,
            pace: job.pace,
            deadline: self.deadline.clone(),
        };
        drop(theirs);
        // Without one (a kernel before 5.3, a sandbox) we look every few milliseconds.
        child.pidfd = sys::pidfd(id).ok();
        Ok(Box::new(child))
    }
}

/// Our ends, and the child's with the numbers they get there.
type Ends = (Vec<End>, Vec<(OwnedFd, Vec<RawFd>)>);

fn open_pipes(pipes: &[Pipe]) -> io::Result<Ends> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pipe in pipes {
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
        };
        theirs.push((their_end, pipe.descriptors.clone()));
    }
    // A child's end must not be overwritten by another one before it is in its place.
    let numbers: Vec<RawFd> = pipes
        .iter()
        .flat_map(|pipe| pipe.descriptors.clone())
        .collect();
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
        descriptors.extend(
            numbers
                .iter()
                .map(|&number| (number, Some(end.as_raw_fd()))),
        );
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
    sys::spawn(
        &path,
        &arguments,
        &environment(job)?,
        directory.as_deref(),
        &descriptors,
    )
}

fn environment(job: &Job) -> io::Result<Vec<CString>> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| job.environment.iter().all(|(other, _)| other != name))
        .collect();
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
    CString::new(octets)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL in a program's text"))
}
