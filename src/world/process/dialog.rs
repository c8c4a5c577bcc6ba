//! A program to talk with, as a stream: octets to its standard input, octets from its standard output.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::{Child, Exit, Job, Pipe};
use crate::world::Stream;

/// How long a program that has closed its output may take to end.
const MOMENT: Duration = Duration::from_secs(1);

// The pipes, by their place in the job.
const INPUT: usize = 0;
const OUTPUT: usize = 1;
const PROSE: usize = 2;

/// The job with the pipes of a dialog.
pub(super) fn job(job: &Job) -> Job {
    Job { pipes: vec![Pipe::to_child(&[0]), Pipe::from_child(&[1]), Pipe::prose(&[2])], ..job.clone() }
}

pub(super) struct Dialog {
    child: Box<dyn Child>,
    pace: Duration,
    /// Nothing more is written, and nothing went wrong: it may end by itself.
    finished: bool,
    /// A step failed, or its output has come to an end.
    broken: bool,
}

impl Dialog {
    pub(super) fn new(child: Box<dyn Child>, pace: Duration) -> Self {
        Self { child, pace, finished: false, broken: false }
    }
}

impl Read for Dialog {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let said = self.child.read_some(OUTPUT, buffer.len());
        self.broken |= said.as_ref().map_or(true, Vec::is_empty);
        let said = said?;
        buffer[..said.len()].copy_from_slice(&said);
        Ok(said.len())
    }
}

impl Write for Dialog {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.child.write(INPUT, octets);
        self.broken |= written.is_err();
        written.map(|()| octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Dialog {
    fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
        self.child.set_pace(pace);
    }

    fn finish(&mut self) -> io::Result<()> {
        self.child.close(INPUT);
        self.finished = true;
        Ok(())
    }

    fn aside(&mut self) -> (Option<Exit>, Vec<u8>) {
        self.child.set_pace(if self.broken { MOMENT.min(self.pace) } else { Duration::ZERO });
        let exit = self.child.wait().ok();
        self.child.set_pace(self.pace);
        (exit, self.child.prose(PROSE))
    }
}

impl Drop for Dialog {
    /// One that was told to end may do so in its own time: what it has begun (a delivery) is not to be cut off. The child
    /// itself, when it is dropped, is killed if it still runs.
    fn drop(&mut self) {
        if self.finished && !self.broken && self.child.read(OUTPUT, 0).is_ok() {
            let _ = self.child.wait();
        }
    }
}
