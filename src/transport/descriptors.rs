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
        Self { input, output, output_is_socket: true, closed: false }
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
        // Small: zeroing more would cost page faults in every session.
        let mut buffer = [0; 1024];
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
        let readable = input[0].revents().is_some_and(|what| what.contains(PollFlags::POLLIN));
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
        let how = if lingering { Shutdown::Write } else { Shutdown::Both };
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
    fstat(descriptor).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFIFO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::thread;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn soon() -> Instant {
        Instant::now() + SHORT
    }

    fn later() -> Instant {
        Instant::now() + LONG
    }

    /// Ours, and the client's end, over a Unix socket.
    fn socket() -> (Descriptors, UnixStream) {
        let (ours, client) = UnixStream::pair().expect("a pair");
        let input = OwnedFd::from(ours);
        (Descriptors::new(input.try_clone().expect("a copy"), input), client)
    }

    /// Ours, what the client writes to, what it reads from.
    fn pipes() -> (Descriptors, io::PipeWriter, io::PipeReader) {
        let (input, to) = io::pipe().expect("a pipe");
        let (from, output) = io::pipe().expect("a pipe");
        (Descriptors::new(input.into(), output.into()), to, from)
    }

    fn tcp() -> (Descriptors, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a client");
        let input = OwnedFd::from(listener.accept().expect("a connection").0);
        (Descriptors::new(input.try_clone().expect("a copy"), input), client)
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("room");
        file.rewind().expect("a file can");
        file
    }

    #[test]
    fn reads_what_is_there_then_the_end() {
        let (mut ours, mut client) = socket();
        let mut buffer = [0; 64];
        assert!(matches!(ours.read(&mut buffer, soon()), Err(Fault::TimedOut)));
        client.write_all(b"EHLO x\r\nQUIT\r\n").expect("sent");
        assert_eq!(ours.read(&mut buffer[..4], later()).ok(), Some(4));
        assert_eq!(ours.read(&mut buffer[4..], later()).ok(), Some(10));
        assert_eq!(&buffer[..14], b"EHLO x\r\nQUIT\r\n");
        // A moment in the past still takes what is there: nothing is lost by asking late.
        client.write_all(b"x").expect("sent");
        assert_eq!(ours.read(&mut buffer, Instant::now() - SHORT).ok(), Some(1));
        drop(client);
        assert_eq!(ours.read(&mut buffer, later()).ok(), Some(0));
    }

    #[test]
    fn reads_files_pipes_and_descriptors_that_do_not_block() {
        let mut ours = Descriptors::new(file(b"QUIT\r\n").into(), file(b"").into());
        let mut buffer = [0; 64];
        assert_eq!(ours.read(&mut buffer, later()).ok(), Some(6));
        assert_eq!(ours.read(&mut buffer, later()).ok(), Some(0));
        ours.write(b"221 bye\r\n", later()).expect("a file takes it");

        let (mut ours, to, _from) = pipes();
        assert!(matches!(ours.read(&mut buffer, soon()), Err(Fault::TimedOut)));
        drop(to);
        assert_eq!(ours.read(&mut buffer, later()).ok(), Some(0));

        let (other, mut client) = UnixStream::pair().expect("a pair");
        other.set_nonblocking(true).expect("it can");
        let input = OwnedFd::from(other);
        let mut ours = Descriptors::new(input.try_clone().expect("a copy"), input);
        assert!(matches!(ours.read(&mut buffer, soon()), Err(Fault::TimedOut)));
        let writer = thread::spawn(move || {
            thread::sleep(SHORT);
            client.write_all(b"x").map(|()| client)
        });
        assert_eq!(ours.read(&mut buffer, later()).ok(), Some(1));
        writer.join().expect("no panic").expect("sent");
    }

    #[test]
    fn a_client_that_never_reads_holds_us_no_longer_than_said() {
        let many = vec![b'x'; 8 << 20];
        let start = Instant::now();
        let (mut ours, _client) = socket();
        assert!(matches!(ours.write(&many, soon()), Err(Fault::TimedOut)));
        let (mut ours, _to, _from) = pipes();
        assert!(matches!(ours.write(&many, soon()), Err(Fault::TimedOut)));
        let (mut ours, _client) = tcp();
        assert!(matches!(ours.write(&many, soon()), Err(Fault::TimedOut)));
        assert!(start.elapsed() < LONG / 4);
    }

    #[test]
    fn a_slow_client_gets_everything() {
        let many: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        let (mut by_socket, mut client) = socket();
        let (mut by_pipe, _to, mut from) = pipes();
        let readers: [Box<dyn FnOnce() -> Vec<u8> + Send>; 2] =
            [Box::new(move || slowly(&mut client)), Box::new(move || slowly(&mut from))];
        let readers = readers.map(thread::spawn);
        by_socket.write(&many, later()).expect("sent");
        by_pipe.write(&many, later()).expect("sent");
        by_socket.close(false);
        by_pipe.close(false);
        for reader in readers {
            assert!(reader.join().expect("no panic") == many);
        }
    }

    fn slowly(from: &mut impl Read) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 30_000]);
        loop {
            thread::sleep(Duration::from_millis(1));
            match from.read(&mut buffer) {
                Ok(0) | Err(_) => return all,
                Ok(taken) => all.extend_from_slice(&buffer[..taken]),
            }
        }
    }

    #[test]
    fn a_client_that_is_gone_is_lost_and_no_signal() {
        let (mut ours, client) = socket();
        drop(client);
        assert!(matches!(ours.write(b"250 ok\r\n", later()), Err(Fault::Lost(_))));
        let (mut ours, _to, from) = pipes();
        drop(from);
        assert!(matches!(ours.write(b"250 ok\r\n", later()), Err(Fault::Lost(_))));
    }

    #[test]
    fn who_speaks_first() {
        let (mut ours, mut client) = socket();
        assert!(!ours.client_speaks_within(Duration::ZERO));
        assert!(!ours.client_speaks_within(SHORT));
        client.write_all(b"EHLO").expect("sent");
        assert!(ours.client_speaks_within(Duration::ZERO));
        // Looking takes nothing away.
        assert_eq!(ours.read(&mut [0; 64], later()).ok(), Some(4));
        drop(client);
        assert!(!ours.client_speaks_within(LONG), "hanging up is not speaking");

        let (mut ours, mut to, _from) = pipes();
        assert!(!ours.client_speaks_within(SHORT));
        to.write_all(b"EHLO").expect("sent");
        assert!(ours.client_speaks_within(LONG));
        let (mut ours, to, _from) = pipes();
        drop(to);
        assert!(!ours.client_speaks_within(LONG));

        let null = File::open("/dev/null").expect("it is there");
        for quiet in [file(b"QUIT\r\n"), null] {
            let mut ours = Descriptors::new(quiet.into(), file(b"").into());
            assert!(!ours.client_speaks_within(SHORT), "a file cannot take turns");
        }
    }

    #[test]
    fn a_lingering_close_keeps_the_last_reply_alive() {
        let (mut ours, mut client) = tcp();
        assert_eq!(setsockopt_read(&ours), Ok(true), "Nagle is off");
        // More than we ever read: without lingering, closing would reset the connection.
        client.write_all(&[b'x'; 100_000]).expect("sent");
        ours.write(b"421 bye\r\n", later()).expect("sent");
        let reader = thread::spawn(move || {
            let mut heard = String::new();
            client.write_all(&[b'x'; 100_000]).expect("still taken");
            client.read_to_string(&mut heard).map(|_| heard)
        });
        ours.close(true);
        ours.close(true);
        drop(ours);
        assert_eq!(reader.join().expect("no panic").expect("no reset"), "421 bye\r\n");
    }

    fn setsockopt_read(ours: &Descriptors) -> nix::Result<bool> {
        nix::sys::socket::getsockopt(&ours.output, sockopt::TcpNoDelay)
    }

    #[test]
    fn lingering_has_its_limits() {
        // Neither a client that says nothing nor one that never stops keeps us.
        let (mut ours, client) = socket();
        let start = Instant::now();
        ours.close(true);
        let taken = start.elapsed();
        assert!(LINGER <= taken && taken < LINGER * 2, "{taken:?}");
        drop(client);

        let (mut ours, mut client) = socket();
        let endless = thread::spawn(move || while client.write_all(&[b'x'; 65_536]).is_ok() {});
        let start = Instant::now();
        ours.close(true);
        assert!(start.elapsed() < LINGER * 2);
        drop(ours);
        endless.join().expect("no panic");
    }

    #[test]
    fn after_a_close_the_client_sees_the_end() {
        let (mut ours, mut client) = socket();
        ours.close(false);
        assert_eq!(client.read(&mut [0; 9]).ok(), Some(0));
        let (mut ours, _to, mut from) = pipes();
        ours.close(true);
        assert_eq!(from.read(&mut [0; 9]).ok(), Some(0));
    }
}
