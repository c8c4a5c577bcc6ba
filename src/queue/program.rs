//! For backends that run a program: the message goes to its standard input, its output is read, its exit status counts.

use std::io::{self, ErrorKind, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use super::QueueError;
use crate::mail::{LineEnds, Message};
use crate::smtp::escape::safe;
use crate::world::{Child, Exit, Job, World};

/// What is read of a program's output; more is dropped.
const OUTPUT_OCTETS_MAX: usize = 4096;

/// What a pipe takes in one piece (PIPE_BUF of Linux): all of it is there, or nothing.
const PIPE_BUF: u64 = 4096;

/// What of it is told to the client and the log.
const TEXT_OCTETS_MAX: usize = 255;

// The pipes, by their place in the job.
const INPUT: usize = 0;
const OUTPUT: usize = 1;

/// A program that has ended by itself.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// Everything was written, and it did not close its input before.
    pub(super) whole: bool,
    /// The beginning of its output.
    pub(super) output: String,
    /// Program and process id, for the log.
    pub(super) who: String,
    /// Its process id.
    pub(super) id: u32,
}

impl Ended {
    /// The first line of its output that says anything, made safe.
    pub(super) fn said(&self) -> String {
        let line = self.output.lines().map(str::trim).find(|line| !line.is_empty());
        safe(line.unwrap_or_default(), TEXT_OCTETS_MAX)
    }

    /// For the log: who, how it ended, what it said.
    pub(super) fn evidence(&self) -> String {
        let unread = if self.whole { "" } else { ", and did not read everything" };
        let said = safe(self.output.trim(), TEXT_OCTETS_MAX);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        format!("{}: {}{unread}{said}", self.who, self.exit)
    }
}

/// Runs a job as [`run`] does, and gives it the message with LF line ends.
///
/// Standard input has no mark of its end: a program whose writer is killed would take what it has for the whole. So it is
/// there as a whole before the program reads any of it: in one write that a pipe takes in one piece, or in a file.
///
/// # Errors
/// As [`run`], or the message could not be written to a file.
pub(super) fn run_on(world: &World, mut job: Job, message: &Message) -> Result<Ended, QueueError> {
    let unkept = |error: io::Error| {
        let evidence = format!("a copy in the spool: {error}");
        QueueError::transient("Unable to queue message: temporary problem", evidence).untouched()
    };
    if message.octets_out().map_err(unkept)? <= PIPE_BUF {
        let mut octets = Vec::new();
        message.write_to(&mut octets, LineEnds::Lf).map_err(unkept)?;
        return run(world, &job, |input| input.write_all(&octets));
    }
    job.input = Some(Rc::new(message.to_file(LineEnds::Lf).map_err(unkept)?));
    // Keeps its place.
    job.pipes[INPUT].descriptors.clear();
    run(world, &job, |_| Ok(()))
}

/// Runs a job, whose pipes are its input and its output, to its end. What `give` writes is what it reads.
///
/// # Errors
/// It could not be started, a limit was reached, or the message could not be read from the spool. It is killed then.
pub(super) fn run(
    world: &World,
    job: &Job,
    give: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Ended, QueueError> {
    let shown = job.program.display();
    let mut child = world.process.spawn(job).map_err(|error| {
        QueueError::transient("Unable to queue message: the program cannot be run", format!("{shown}: {error}"))
            .untouched()
    })?;
    let who = format!("{shown} pid {}", child.id());
    let stopped = |at: &str, error: &io::Error| match error.kind() {
        ErrorKind::TimedOut => {
            let evidence = format!("{who}: killed, no end or no progress {at}");
            QueueError::transient("Unable to queue message: timeout", evidence).code(4, 1)
        }
        _ => QueueError::transient("Unable to queue message: temporary problem", format!("{who}: {at}: {error}")),
    };
    let mut input = Input { child: &mut *child, failed: false };
    let given = give(&mut input);
    let ours = !input.failed;
    let whole = match given {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::BrokenPipe && !ours => false,
        // It must not take what it has for the whole: it is killed before its input ends. Whether it has done anything with
        // the beginning is not known.
        Err(error) => {
            child.kill();
            return Err(stopped(if ours { "while the spool was read" } else { "while it read the message" }, &error));
        }
    };
    child.close(INPUT);
    let mut read = 0;
    let output = loop {
        match child.read(OUTPUT, OUTPUT_OCTETS_MAX) {
            Ok(output) => break output,
            // Reading its input is progress too.
            Err(error) if error.kind() == ErrorKind::TimedOut && in_time(world) && has_read(job) > read => {
                read = has_read(job);
            }
            Err(error) => return Err(stopped("before its end", &error)),
        }
    };
    let exit = child.wait().map_err(|error| stopped("before its end", &error))?;
    let whole =
        whole && job.input.as_ref().is_none_or(|file| file.metadata().is_ok_and(|all| all.len() == has_read(job)));
    Ok(Ended { exit, whole, output: String::from_utf8_lossy(&output).into_owned(), id: child.id(), who })
}

fn in_time(world: &World) -> bool {
    world.deadline.get().is_none_or(|until| world.clock.instant() < until)
}

/// Octets that the program has read of its file.
fn has_read(job: &Job) -> u64 {
    job.input.as_ref().and_then(|file| (&**file).stream_position().ok()).unwrap_or(0)
}

/// The program's input, which knows whether an error is its own.
struct Input<'a> {
    child: &'a mut dyn Child,
    failed: bool,
}

impl Write for Input<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.child.write(INPUT, octets);
        self.failed |= written.is_err();
        written.map(|()| octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For `check`: why a program cannot be run.
pub(super) fn check(program: &Path, mend: &str) -> Vec<String> {
    let shown = program.display();
    let found = match program.metadata() {
        Ok(found) => found,
        Err(error) => return vec![format!("{shown}: {error}; {mend}")],
    };
    let mode = found.permissions().mode() & 0o7777;
    if !found.is_file() {
        vec![format!("{shown}: is not a file; {mend}")]
    } else if mode & 0o111 == 0 {
        vec![format!("{shown}: is not executable (mode {mode:04o}); mend it with chmod 755")]
    } else {
        Vec::new()
    }
}

/// What a status of sysexits.h means for the mail; `None`: it was taken. 64 and 77 are faults of ours, so mail waits.
pub(super) fn refusal(ended: &Ended) -> Option<QueueError> {
    let said = ended.said();
    let told =
        |default: &str| if said.is_empty() { format!("Unable to queue message: {default}") } else { said.clone() };
    let error = match ended.exit {
        Exit::Code(0) if ended.whole => return None,
        Exit::Code(0) => QueueError::transient("Unable to queue message: the program did not read it", ""),
        // EX_DATAERR, EX_NOUSER, EX_NOHOST.
        Exit::Code(65) => QueueError::permanent(told("the message is refused"), "").code(6, 0),
        Exit::Code(67) => QueueError::permanent(told("no such recipient"), "").code(1, 1),
        Exit::Code(68) => QueueError::permanent(told("no such host"), "").code(1, 2),
        Exit::Code(100) => QueueError::permanent(told("the message is refused"), ""),
        // What it says of a trouble of its own is for the log.
        Exit::Code(_) => QueueError::transient("Unable to queue message: temporary problem", ""),
        Exit::Signal(_) => QueueError::transient("Unable to queue message: crashed", ""),
    };
    Some(QueueError { evidence: ended.evidence(), ..error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::Severity;

    #[test]
    fn every_status_has_its_meaning() {
        for code in 0..=255 {
            let ended = |whole| Ended {
                exit: Exit::Code(code),
                whole,
                output: "\n why\r\nmore\n".into(),
                who: "/p pid 1".into(),
                id: 1,
            };
            let error = refusal(&ended(true));
            let permanent = matches!(code, 65 | 67 | 68 | 100);
            match &error {
                None => assert_eq!(code, 0),
                Some(error) => {
                    assert_eq!(error.severity == Severity::Permanent, permanent, "{code}");
                    assert_eq!(error.text == "why", permanent, "{code}: {}", error.text);
                    assert!(!error.untouched && error.evidence == format!("/p pid 1: exit status {code}: why??more"));
                }
            }
            // Whatever it says, it cannot have taken what it has not read; but a refusal stands.
            assert_eq!(refusal(&ended(false)).is_some_and(|error| error.severity == Severity::Permanent), permanent);
            assert!(refusal(&ended(false)).is_some());
        }
        let killed = Ended { exit: Exit::Signal(9), whole: true, output: String::new(), who: String::new(), id: 1 };
        assert!(refusal(&killed).is_some_and(|error| error.severity == Severity::Transient));
    }
}
