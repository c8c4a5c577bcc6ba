//! The client behind two descriptors: one socket twice, a pair of pipes, a terminal, a file.
//!
//! Their blocking mode is left as it is, for it is shared with whoever else holds them: a socket is written with
//! MSG_DONTWAIT, anything else in pieces that do not block after poll() has said that there is room.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, setsockopt, shutdown, sockopt};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd;

use super::{Fault, Transport};
use crate::sys::{self, wait, watchdog};

/// How long, and how much, a lingering close reads on.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS_MAX: usize = 1 << 20;
/// POSIX PIPE_BUF: a pipe that polls writable takes this much at once.
const PIECE_OCTETS: usize = 4096;

/// A client that is read from one descriptor and written to on another.
pub struct Descriptors {
    input: OwnedFd,
    output: OwnedFd,
    /// Until the output says ENOTSOCK.
    output_is_socket: bool,
    closed: bool,
}

impl Descriptors {
    /// Takes over descriptors 0 and 1, once in a process, and lets the watchdog speak there. Never dropped: the numbers stay
    /// taken, so that no file that is opened later becomes descriptor 0 or 1.
    pub fn standard() -> io::Result<&'static mut Self> {
        let taken = || io::Error::other("descriptors 0 and 1 are taken already");
        let (input, output) = sys::client().ok_or_else(taken)?;
        watchdog::speak(true);
        Ok(Box::leak(Box::new(Self::new(input, output))))
    }

    /// Takes over any two descriptors.
    pub fn new(input: OwnedFd, output: OwnedFd) -> Self {
        // Replies to a group of commands leave in one write; Nagle's algorithm would hold back the next ones (40 ms each).
        // Only a TCP socket can do it, and it does not matter to the others.
        let _ = setsockopt(&output, sockopt::TcpNoDelay, &true);
        Self {
            input,
            output,
            output_is_socket: true,
            closed: false,
        }
    }

    fn write_some(&mut self, octets: &[u8], until: Instant) -> Result<usize, Fault> {
        if self.output_is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.output.as_raw_fd(), octets, flags) {
                Ok(sent) => return Ok(sent),
                Err(Errno::EINTR) => return Ok(0),
                Err(Errno::ENOTSOCK) => self.output_is_socket = false,
                Err(Errno::EAGAIN) => return self.wait_for_room(until).map(|()| 0),
                Err(error) => return Err(lost(error)),
            }
        }
        self.wait_for_room(until)?;
        match unistd::write(&self.output, &octets[..octets.len().min(PIECE_OCTETS)]) {
            Ok(written) => Ok(written),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(0),
            Err(error) => Err(lost(error)),
        }
    }

    fn wait_for_room(&self, until: Instant) -> Result<(), Fault> {
        let mut room = [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)];
        // The last words after SIGTERM must still get out, so only a signal that comes now ends the wait.
        let ready = if sys::terminated() {
            wait::ready(&mut room, Some(until))
        } else {
            wait::ready_or_terminated(&mut room, Some(until))
        };
        judge(ready)
    }

    /// Reads and drops until the client hangs up, or enough.
    fn drain(&self) {
        let until = Instant::now() + LINGER;
        let mut buffer = [0; 16 * 1024];
        let mut left = LINGER_OCTETS_MAX;
        while left > 0 {
            let mut input = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
            if !matches!(wait::ready(&mut input, Some(until)), Ok(true)) {
                return;
            }
            match unistd::read(&self.input, &mut buffer) {
                Ok(0) => return,
                Ok(taken) => left = left.saturating_sub(taken),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => return,
            }
        }
    }
}

impl Transport for Descriptors {
    fn read(&mut self, buffer: &mut [u8], until: Instant) -> Result<usize, Fault> {
        loop {
            if sys::terminated() {
                return Err(Fault::Terminated);
            }
            let mut input = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
            judge(wait::ready_or_terminated(&mut input, Some(until)))?;
            match unistd::read(&self.input, buffer) {
                // Somebody else who holds this descriptor was faster.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                other => return other.map_err(lost),
            }
        }
    }

    fn write(&mut self, octets: &[u8], until: Instant) -> Result<(), Fault> {
        let mut left = octets;
        while !left.is_empty() {
            let written = self.write_some(left, until)?;
            left = &left[written..];
            if !left.is_empty() && Instant::now() >= until {
                return Err(Fault::TimedOut);
            }
        }
        Ok(())
    }

    fn client_speaks_within(&mut self, time: Duration) -> bool {
        let mut input = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        let until = Some(Instant::now() + time);
        if !matches!(wait::ready_or_terminated(&mut input, until), Ok(true)) {
            return false;
        }
        let readable = input[0]
            .revents()
            .is_some_and(|what| what.contains(PollFlags::POLLIN));
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.input.as_raw_fd(), &mut [0], flags) {
            Ok(octets) => octets > 0,
            // A pipe polls readable only if something is in it. A file or /dev/null always does, and cannot take turns.
            Err(Errno::ENOTSOCK) => readable && is_pipe(&self.input),
            Err(_) => false,
        }
    }

    fn close(&mut self, lingering: bool) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        watchdog::speak(false);
        let how = if lingering {
            Shutdown::Write
        } else {
            Shutdown::Both
        };
        if shutdown(self.output.as_raw_fd(), how) != Err(Errno::ENOTSOCK) {
            if lingering {
                self.drain();
            }
            return;
        }
        // A pipe's reader sees its end only when it is closed. Nobody resets a pipe, so nothing need be drained.
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = unistd::dup2(&null, &mut self.output);
            let _ = unistd::dup2(&null, &mut self.input);
        }
    }
}

fn judge(ready: io::Result<bool>) -> Result<(), Fault> {
    match ready {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::TimedOut),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Fault::Terminated),
        Err(error) => Err(Fault::Lost(error)),
    }
}

fn lost(error: Errno) -> Fault {
    Fault::Lost(error.into())
}

fn is_pipe(descriptor: &OwnedFd) -> bool {
    fstat(descriptor).is_ok_and(|stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFIFO
    })
}
