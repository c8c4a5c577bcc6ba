//! Programs that do not run, with canned outcomes: for tests of backends and scanners, and for `try`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::{Child, Direction, Exit, Job, Process};

/// How a program behaves.
#[derive(Debug, Clone)]
pub struct Canned {
    /// It cannot be started, for this reason.
    pub cannot_start: Option<io::ErrorKind>,
    /// After so many octets, over all pipes, it reads no more: `BrokenPipe`.
    pub reads_octets: usize,
    /// But so many more can be written, and lie unread in its pipes.
    pub leaves_octets: usize,
    /// What it writes to every pipe that comes from it.
    pub output: Vec<u8>,
    /// What it says in pipes of prose.
    pub prose: Vec<u8>,
    /// How it ends, or why waiting for that fails (`TimedOut`: it hangs).
    pub exit: Result<Exit, io::ErrorKind>,
}

/// It reads everything, says nothing and exits with 0.
impl Default for Canned {
    fn default() -> Self {
        Self {
            cannot_start: None,
            reads_octets: usize::MAX,
            leaves_octets: 0,
            output: Vec::new(),
            prose: Vec::new(),
            exit: Ok(Exit::Code(0)),
        }
    }
}

/// What was done with one program.
#[derive(Debug, Clone)]
pub struct Ran {
    /// What it was started with.
    pub job: Job,
    /// What was written to each pipe.
    pub written: Vec<Vec<u8>>,
    /// Which pipes were closed.
    pub closed: Vec<bool>,
    /// Whether somebody waited for its end and was told.
    pub waited: bool,
    /// Whether it was killed, also by being dropped before its end.
    pub killed: bool,
}

/// Runs nothing. Outcomes are used up in order; when there is none left, programs are not found.
#[derive(Default)]
pub struct FakeProcess {
    outcomes: RefCell<VecDeque<Canned>>,
    ran: Rc<RefCell<Vec<Ran>>>,
}

impl FakeProcess {
    /// Sets the outcome of one more program.
    pub fn answer(self, outcome: Canned) -> Self {
        self.outcomes.borrow_mut().push_back(outcome);
        self
    }

    /// What was done so far, in order of start.
    pub fn ran(&self) -> Vec<Ran> {
        self.ran.borrow().clone()
    }
}

impl Process for FakeProcess {
    fn spawn(&self, job: &Job) -> io::Result<Box<dyn Child>> {
        let outcome = self.outcomes.borrow_mut().pop_front();
        let outcome = outcome.ok_or(io::ErrorKind::NotFound)?;
        if let Some(reason) = outcome.cannot_start {
            return Err(reason.into());
        }
        let mut ran = self.ran.borrow_mut();
        ran.push(Ran {
            job: job.clone(),
            written: vec![Vec::new(); job.pipes.len()],
            closed: vec![false; job.pipes.len()],
            waited: false,
            killed: false,
        });
        let place = ran.len() - 1;
        Ok(Box::new(FakeChild { outcome, place, unread: false, ran: self.ran.clone() }))
    }
}

struct FakeChild {
    outcome: Canned,
    place: usize,
    unread: bool,
    ran: Rc<RefCell<Vec<Ran>>>,
}

impl FakeChild {
    fn ran<T>(&self, look: impl FnOnce(&mut Ran) -> T) -> T {
        look(&mut self.ran.borrow_mut()[self.place])
    }

    /// Whether a pipe is there, open and of this direction.
    fn check(&self, pipe: usize, direction: Direction) -> io::Result<()> {
        let fits =
            self.ran(|ran| ran.job.pipes.get(pipe).is_some_and(|one| one.direction == direction && !ran.closed[pipe]));
        if fits { Ok(()) } else { Err(super::child::no_such_pipe()) }
    }
}

impl Child for FakeChild {
    fn write(&mut self, pipe: usize, octets: &[u8]) -> io::Result<()> {
        self.check(pipe, Direction::ToChild)?;
        let read = octets.len().min(self.outcome.reads_octets);
        self.outcome.reads_octets -= read;
        let left = (octets.len() - read).min(self.outcome.leaves_octets);
        self.outcome.leaves_octets -= left;
        self.unread |= left > 0;
        let taken = read + left;
        self.ran(|ran| ran.written[pipe].extend_from_slice(&octets[..taken]));
        if taken == octets.len() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn drained(&mut self, pipe: usize) -> io::Result<bool> {
        self.check(pipe, Direction::ToChild)?;
        // Where something lies, only its end would tell.
        if self.unread {
            self.outcome.exit?;
        }
        Ok(!self.unread)
    }

    fn close(&mut self, pipe: usize) {
        self.ran(|ran| {
            if let Some(closed) = ran.closed.get_mut(pipe) {
                *closed = true;
            }
        });
    }

    fn read(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>> {
        self.check(pipe, Direction::FromChild)?;
        Ok(self.outcome.output[..octets_max.min(self.outcome.output.len())].to_vec())
    }

    /// At most a line at a time, as from a program that waits for us after each.
    fn read_some(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>> {
        self.check(pipe, Direction::FromChild)?;
        let output = &mut self.outcome.output;
        if output.is_empty() {
            // Where it hangs, it does so here.
            return self.outcome.exit.map(|_| Vec::new()).map_err(Into::into);
        }
        let line = output.iter().position(|&octet| octet == b'\n').map_or(output.len(), |end| end + 1);
        Ok(output.drain(..line.min(octets_max)).collect())
    }

    fn prose(&mut self, _: usize) -> Vec<u8> {
        self.outcome.prose.clone()
    }

    fn set_pace(&mut self, _: Duration) {}

    fn wait(&mut self) -> io::Result<Exit> {
        let exit = self.outcome.exit?;
        self.ran(|ran| ran.waited = true);
        Ok(exit)
    }

    fn kill(&mut self) {
        self.outcome.exit = Ok(Exit::Signal(9));
        self.ran(|ran| ran.killed = true);
    }

    fn id(&self) -> u32 {
        // Any number that reads as made up.
        4000 + self.place as u32
    }
}

impl Drop for FakeChild {
    fn drop(&mut self) {
        self.ran(|ran| ran.killed |= !ran.waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Pipe;

    #[test]
    fn outcomes_are_used_up_and_remembered() {
        let process = FakeProcess::default()
            .answer(Canned { cannot_start: Some(io::ErrorKind::PermissionDenied), ..Canned::default() })
            .answer(Canned { reads_octets: 3, output: b"Dno".to_vec(), exit: Ok(Exit::Code(82)), ..Canned::default() })
            .answer(Canned {
                reads_octets: 1,
                leaves_octets: 1,
                exit: Err(io::ErrorKind::TimedOut),
                ..Canned::default()
            });
        let job = Job { pipes: vec![Pipe::to_child(&[0]), Pipe::from_child(&[4, 6])], ..Job::new("/bin/qmail-queue") };
        let kind = |error: io::Error| error.kind();

        assert_eq!(process.spawn(&job).err().map(kind), Some(io::ErrorKind::PermissionDenied));

        let mut child = process.spawn(&job).expect("the second");
        assert!(child.write(0, b"ab").is_ok());
        assert_eq!(child.write(0, b"cd").err().map(kind), Some(io::ErrorKind::BrokenPipe));
        assert!(child.write(1, b"x").is_err() && child.read(0, 9).is_err(), "the wrong way");
        child.close(0);
        assert!(child.write(0, b"").is_err(), "closed");
        assert_eq!(child.read(1, 2).ok().as_deref(), Some(&b"Dn"[..]));
        assert_eq!(child.wait().ok(), Some(Exit::Code(82)));
        drop(child);

        let mut child = process.spawn(&job).expect("the third");
        assert!(child.write(0, b"a").is_ok());
        assert_eq!(child.drained(0).ok(), Some(true));
        assert!(child.write(0, b"b").is_ok());
        assert_eq!(child.drained(0).err().map(kind), Some(io::ErrorKind::TimedOut));
        assert_eq!(child.write(0, b"c").err().map(kind), Some(io::ErrorKind::BrokenPipe));
        assert_eq!(child.wait().err().map(kind), Some(io::ErrorKind::TimedOut));
        drop(child);
        assert_eq!(process.spawn(&job).err().map(kind), Some(io::ErrorKind::NotFound));

        let ran = process.ran();
        assert_eq!(ran[0].written, [b"abc".to_vec(), Vec::new()]);
        assert_eq!((ran[0].waited, ran[0].killed), (true, false));
        assert_eq!((ran[1].waited, ran[1].killed), (false, true));
    }
}
