//! A program that runs: writing to it, reading from it, waiting for its end.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Child, Exit};
use crate::sys::{self, wait, watchdog};
use crate::world::Deadline;

/// How much of a child's output is kept while we are busy writing to it. A child that says more waits until it is read.
const AHEAD_OCTETS_MAX: usize = 1 << 20;
/// How much of its prose is kept.
const PROSE_OCTETS_MAX: usize = 4096;
/// How much of its prose is taken, once it is asked for: what a pipe holds.
const PROSE_READS_MAX: usize = 16;
/// How much more than it keeps a read takes and drops, before it closes the pipe on the child.
const DROPPED_OCTETS_MAX: usize = 16 << 20;
/// How often we look after a child where there is no pidfd.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often we look whether a child has read: at first, and at last, each wait twice the one before.
const DRAIN_STEP_MIN: Duration = Duration::from_micros(50);
const DRAIN_STEP_MAX: Duration = Duration::from_millis(2);
/// How long a killed child may take to go.
const REAP: Duration = Duration::from_secs(2);

/// Our end of a pipe.
pub(super) enum End {
    Write(PipeWriter),
    /// And what has been read ahead.
    Read(PipeReader, Vec<u8>),
    /// The same of a pipe that is for prose: it is emptied whenever anything is waited for, and only its beginning kept.
    Prose(PipeReader, Vec<u8>),
    /// With what had been read before.
    Closed(Vec<u8>),
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

pub(super) fn no_such_pipe() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no such pipe, or closed")
}

pub(super) struct RealChild {
    pub(super) id: i32,
    pub(super) pipes: Vec<End>,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) exit: Option<Exit>,
    pub(super) pace: Duration,
    pub(super) deadline: Deadline,
}

impl RealChild {
    /// Waits until `pipe` takes octets.
    fn wait_for_room(&mut self, pipe: usize) -> io::Result<()> {
        let until = self.deadline.step(self.pace);
        if self.wait_beside(pipe, PollFlags::POLLOUT, until)? { Ok(()) } else { Err(late()) }
    }

    /// Waits until `pipe` polls for `events`, or has no reader; where it is for no event, the child's end does too. False: not
    /// before `until`. Meanwhile keeps what the child says, or both would wait for each other.
    fn wait_beside(&mut self, pipe: usize, events: PollFlags, until: Instant) -> io::Result<bool> {
        loop {
            let Some(End::Write(writer)) = self.pipes.get(pipe) else {
                return Err(no_such_pipe());
            };
            let places = self.others(pipe);
            let mut waiting = vec![PollFd::new(writer.as_fd(), events)];
            waiting.extend(places.iter().filter_map(|&place| self.readable(place)));
            let pidfd = self.pidfd.as_ref().filter(|_| events.is_empty());
            waiting.extend(pidfd.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            if !wait::ready(&mut waiting, Some(until))? {
                return Ok(false);
            }
            let ready: Vec<bool> = waiting.iter().map(|one| one.any().unwrap_or(true)).collect();
            for (place, _) in places.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                self.read_ahead(*place)?;
            }
            if ready[0] || ready[1 + places.len()..].contains(&true) {
                return Ok(true);
            }
            // One that only talks makes no progress.
            if Instant::now() >= until {
                return Ok(false);
            }
        }
    }

    /// The pipes that are read while something else than `pipe` is waited for.
    fn others(&self, pipe: usize) -> Vec<usize> {
        let is_one = |(place, end): (usize, &End)| {
            let reads = match end {
                End::Read(_, ahead) => ahead.len() < AHEAD_OCTETS_MAX,
                End::Prose(..) => true,
                End::Write(_) | End::Closed(_) => false,
            };
            (reads && place != pipe).then_some(place)
        };
        self.pipes.iter().enumerate().filter_map(is_one).collect()
    }

    /// To wait for what comes from a pipe.
    fn readable(&self, place: usize) -> Option<PollFd<'_>> {
        match self.pipes.get(place)? {
            End::Read(reader, _) | End::Prose(reader, _) => Some(PollFd::new(reader.as_fd(), PollFlags::POLLIN)),
            End::Write(_) | End::Closed(_) => None,
        }
    }

    /// Takes what there is, once, from a pipe that polls readable.
    fn read_ahead(&mut self, place: usize) -> io::Result<()> {
        let (reader, ahead, kept_max) = match self.pipes.get_mut(place) {
            Some(End::Read(reader, ahead)) => (reader, ahead, usize::MAX),
            Some(End::Prose(reader, ahead)) => (reader, ahead, PROSE_OCTETS_MAX),
            _ => return Ok(()),
        };
        let mut buffer = [0; 4096];
        let taken = match reader.read(&mut buffer) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        ahead.extend_from_slice(&buffer[..taken]);
        ahead.truncate(kept_max);
        if taken == 0 {
            let ahead = std::mem::take(ahead);
            self.pipes[place] = End::Closed(ahead);
        }
        Ok(())
    }

    /// Its exit, if it has ended.
    fn reap(&mut self) -> io::Result<Option<Exit>> {
        loop {
            let exit = match waitpid(Pid::from_raw(self.id), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
                Ok(_) => return Ok(None),
                Err(Errno::EINTR) => continue,
                // By a real-time signal, for which nix has no name.
                Err(Errno::EINVAL) => Exit::Signal(0),
                Err(error) => return Err(error.into()),
            };
            self.exit = Some(exit);
            watchdog::remove_group(self.id);
            return Ok(Some(exit));
        }
    }

    /// Waits until `until` for its end.
    fn wait_until(&mut self, until: Instant) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        if let Some(pidfd) = &self.pidfd {
            let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            if !wait::ready(&mut end, Some(until))? {
                return Err(late());
            }
        }
        loop {
            if let Some(exit) = self.reap()? {
                return Ok(exit);
            }
            let now = Instant::now();
            if now >= until {
                return Err(late());
            }
            wait::ready(&mut [], Some(until.min(now + LOOK_EVERY)))?;
        }
    }

    /// Whether a pipe has something to be read, or its end, before `until`. False once the child has exited and the pipe is
    /// empty: somebody else may hold it open for ever (a daemon that it started).
    fn wait_for_output(&mut self, pipe: usize, until: Instant) -> io::Result<bool> {
        loop {
            let places = self.others(pipe);
            let output = || self.readable(pipe).ok_or_else(no_such_pipe);
            let mut waiting = vec![output()?];
            waiting.extend(places.iter().filter_map(|&place| self.readable(place)));
            waiting.extend(self.pidfd.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            if !wait::ready(&mut waiting, Some(until))? {
                return Err(late());
            }
            let ready: Vec<bool> = waiting.iter().map(|one| one.any().unwrap_or(true)).collect();
            if ready[0] {
                return Ok(true);
            }
            if ready[1 + places.len()..].contains(&true) {
                // The second look, because the child may have written after the first was taken and before it exited.
                return wait::ready(&mut [output()?], Some(Instant::now()));
            }
            for (place, _) in places.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                self.read_ahead(*place)?;
            }
            if Instant::now() >= until {
                return Err(late());
            }
        }
    }
}

impl Child for RealChild {
    fn write(&mut self, pipe: usize, octets: &[u8]) -> io::Result<()> {
        let mut left = octets;
        while !left.is_empty() {
            if self.deadline.get().is_some_and(|until| Instant::now() >= until) {
                return Err(late());
            }
            let Some(End::Write(writer)) = self.pipes.get_mut(pipe) else {
                return Err(no_such_pipe());
            };
            match writer.write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room(pipe)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn drained(&mut self, pipe: usize) -> io::Result<bool> {
        let (mut step, mut until) = (DRAIN_STEP_MIN, self.deadline.step(self.pace));
        let (mut least, mut ended) = (usize::MAX, false);
        loop {
            let Some(End::Write(writer)) = self.pipes.get(pipe) else {
                return Err(no_such_pipe());
            };
            let unread = sys::unread(writer.as_fd())?;
            // In this order: what it read before its end counts.
            if unread == 0 || ended {
                return Ok(unread == 0);
            }
            if unread < least {
                (least, until) = (unread, self.deadline.step(self.pace));
            }
            let now = Instant::now();
            if now >= until {
                return Err(late());
            }
            ended = self.wait_beside(pipe, PollFlags::empty(), until.min(now + step))?;
            if self.pidfd.is_none() {
                ended |= self.exit.is_some() || self.reap()?.is_some();
            }
            step = DRAIN_STEP_MAX.min(2 * step);
        }
    }

    fn close(&mut self, pipe: usize) {
        if let Some(end) = self.pipes.get_mut(pipe) {
            *end = End::Closed(Vec::new());
        }
    }

    fn read(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>> {
        let mut taken = 0;
        while matches!(self.pipes.get(pipe), Some(End::Read(..))) {
            let until = self.deadline.step(self.pace);
            let more = taken < DROPPED_OCTETS_MAX && self.wait_for_output(pipe, until)?;
            if more {
                self.read_ahead(pipe)?;
            }
            match &mut self.pipes[pipe] {
                End::Read(_, ahead) if !more => self.pipes[pipe] = End::Closed(std::mem::take(ahead)),
                End::Read(_, ahead) => {
                    taken += ahead.len().saturating_sub(octets_max);
                    ahead.truncate(octets_max);
                }
                End::Write(_) | End::Prose(..) | End::Closed(_) => {}
            }
        }
        let Some(End::Closed(kept)) = self.pipes.get_mut(pipe) else {
            return Err(no_such_pipe());
        };
        let mut kept = std::mem::take(kept);
        kept.truncate(octets_max);
        Ok(kept)
    }

    fn read_some(&mut self, pipe: usize, octets_max: usize) -> io::Result<Vec<u8>> {
        let until = self.deadline.step(self.pace);
        loop {
            // Also one that speaks all the time has to end some time.
            if Instant::now() >= until {
                return Err(late());
            }
            match self.pipes.get_mut(pipe) {
                Some(End::Read(_, ahead) | End::Closed(ahead)) if !ahead.is_empty() => {
                    let rest = ahead.split_off(octets_max.min(ahead.len()));
                    return Ok(std::mem::replace(ahead, rest));
                }
                Some(End::Closed(_)) => return Ok(Vec::new()),
                Some(End::Read(..)) => {}
                _ => return Err(no_such_pipe()),
            }
            if self.wait_for_output(pipe, until)? {
                self.read_ahead(pipe)?;
            } else {
                self.close(pipe);
            }
        }
    }

    fn prose(&mut self, pipe: usize) -> Vec<u8> {
        for _ in 0..PROSE_READS_MAX {
            let Some(End::Prose(reader, _)) = self.pipes.get(pipe) else { break };
            let mut waiting = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            if !wait::ready(&mut waiting, Some(Instant::now())).unwrap_or(false) || self.read_ahead(pipe).is_err() {
                break;
            }
        }
        match self.pipes.get(pipe) {
            Some(End::Prose(_, kept) | End::Closed(kept)) => kept.clone(),
            _ => Vec::new(),
        }
    }

    fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    fn wait(&mut self) -> io::Result<Exit> {
        self.wait_until(self.deadline.step(self.pace))
    }

    fn kill(&mut self) {
        // Only while it has not been waited for: after that the number may be somebody else's.
        if self.exit.is_none() {
            let _ = killpg(Pid::from_raw(self.id), Signal::SIGKILL);
        }
    }

    fn id(&self) -> u32 {
        self.id.unsigned_abs()
    }
}

impl Drop for RealChild {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait_until(Instant::now() + REAP);
    }
}
