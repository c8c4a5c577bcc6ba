//! Other hosts and local services: streams over TCP and Unix sockets, datagrams to a Unix socket.
//!
//! Names are not looked up here (`dns` will do that). Every call stops at the deadline, and after a pace without progress,
//! with `TimedOut`. A peer that has gone is `BrokenPipe` or `ConnectionReset`, never a signal.

mod fake;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

pub use fake::{FakeNet, Said};

use super::{Deadline, PACE_DEFAULT};
use crate::sys::wait;

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A host and port.
    Tcp(SocketAddr),
    /// A socket in the file system, at most 107 octets long.
    Unix(PathBuf),
}

/// The network.
pub trait Net {
    /// Opens a stream.
    fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>>;
    /// Opens a way to send datagrams to a local socket.
    fn datagram(&self, to: &Path) -> io::Result<Box<dyn Datagram>>;
}

/// An open stream. `read` and `write` give what went through; `Ok(0)` from `read` is the end.
pub trait Stream: Read + Write {
    /// Longest time that one read or write may wait for any progress (60 s unless set).
    fn set_pace(&mut self, pace: Duration);
    /// Tells the far end that nothing more comes; reading goes on.
    fn finish(&mut self) -> io::Result<()>;
}

/// A way to send datagrams.
pub trait Datagram {
    /// Sends one, whole or not at all.
    fn send(&mut self, octets: &[u8]) -> io::Result<()>;
    /// Longest time that one may wait for room (60 s unless set).
    fn set_pace(&mut self, pace: Duration);
}

/// The machine's network.
pub struct RealNet {
    deadline: Deadline,
}

impl RealNet {
    /// One that keeps to this deadline.
    pub fn new(deadline: Deadline) -> Self {
        Self { deadline }
    }

    fn stream<S>(&self, socket: S) -> Box<dyn Stream>
    where
        S: AsFd + HalfClose + 'static,
        for<'a> &'a S: Read + Write,
    {
        Box::new(RealStream {
            socket,
            deadline: self.deadline.clone(),
            pace: PACE_DEFAULT,
        })
    }
}

impl Net for RealNet {
    fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        let until = self.deadline.step(PACE_DEFAULT);
        match to {
            Address::Tcp(address) => {
                let left = until.saturating_duration_since(Instant::now());
                // std takes no zero.
                let left = if left.is_zero() {
                    return Err(late());
                } else {
                    left
                };
                let socket = TcpStream::connect_timeout(address, left)?;
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok(self.stream(socket))
            }
            Address::Unix(path) => Ok(self.stream(UnixStream::from(connect_unix(path, until)?))),
        }
    }

    fn datagram(&self, to: &Path) -> io::Result<Box<dyn Datagram>> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(Box::new(RealDatagram {
            socket,
            deadline: self.deadline.clone(),
            pace: PACE_DEFAULT,
        }))
    }
}

/// A non-blocking connect to a Unix socket is done at once, or EAGAIN while the service's backlog is full: nothing to poll for.
fn connect_unix(path: &Path, until: Instant) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    loop {
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::EAGAIN) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::EAGAIN) => return Err(late()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Repeats a non-blocking call until it goes through or `until` has come.
fn persist<T>(
    descriptor: &impl AsFd,
    ready: PollFlags,
    until: Instant,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut waiting = [PollFd::new(descriptor.as_fd(), ready)];
                if !wait::ready(&mut waiting, Some(until))? {
                    return Err(late());
                }
            }
            result => return result,
        }
    }
}

trait HalfClose {
    fn half_close(&self) -> io::Result<()>;
}

impl HalfClose for TcpStream {
    fn half_close(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl HalfClose for UnixStream {
    fn half_close(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

struct RealStream<S> {
    socket: S,
    deadline: Deadline,
    pace: Duration,
}

impl<S> RealStream<S> {
    fn until(&self) -> io::Result<Instant> {
        let until = self.deadline.step(self.pace);
        if Instant::now() < until {
            Ok(until)
        } else {
            Err(late())
        }
    }
}

impl<S: AsFd> Read for RealStream<S>
where
    for<'a> &'a S: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let until = self.until()?;
        persist(&self.socket, PollFlags::POLLIN, until, || {
            (&self.socket).read(buffer)
        })
    }
}

impl<S: AsFd> Write for RealStream<S>
where
    for<'a> &'a S: Write,
{
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let until = self.until()?;
        persist(&self.socket, PollFlags::POLLOUT, until, || {
            (&self.socket).write(octets)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: AsFd + HalfClose> Stream for RealStream<S>
where
    for<'a> &'a S: Read + Write,
{
    fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    fn finish(&mut self) -> io::Result<()> {
        self.socket.half_close()
    }
}

struct RealDatagram {
    socket: UnixDatagram,
    deadline: Deadline,
    pace: Duration,
}

impl Datagram for RealDatagram {
    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let until = self.deadline.step(self.pace);
        persist(&self.socket, PollFlags::POLLOUT, until, || {
            self.socket.send(octets)
        })
        .map(drop)
    }

    fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }
}
