//! Other hosts and local services: streams over TCP and Unix sockets, datagrams to a Unix socket.
//!
//! Names are looked up by the system's resolver (`/etc/hosts`, DNS), for the hosts that the configuration names. Every call stops at the deadline, and after a pace without progress,
//! with `TimedOut`. A peer that has gone is `BrokenPipe` or `ConnectionReset`, never a signal.

mod fake;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

pub use fake::{FakeNet, Said};

use super::{Deadline, Exit, PACE_DEFAULT};
use crate::sys::wait;

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A host and port.
    Tcp(SocketAddr),
    /// A socket in the file system, at most 107 octets long.
    Unix(PathBuf),
}

/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

/// An address literal, with or without brackets.
fn literal(host: &str, port: u16) -> Option<Address> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| Address::Tcp((ip, port).into()))
}

/// The network.
pub trait Net {
    /// Where a host is: an address literal (also in brackets), or a name. At most 8, in the resolver's order.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<Address>>;
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
    /// What is known of the far end beside the stream, where that is a program: how it has ended, and the beginning of what it
    /// said on its standard error, not made safe. Waits a moment at most.
    fn aside(&mut self) -> (Option<Exit>, Vec<u8>) {
        (None, Vec::new())
    }
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
        Box::new(RealStream { socket, deadline: self.deadline.clone(), pace: PACE_DEFAULT })
    }
}

impl Net for RealNet {
    /// The system's resolver cannot be interrupted, so it works in a thread of its own, which is left alone at the deadline
    /// and ends by itself, or with the process.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<Address>> {
        if let Some(address) = literal(host, port) {
            return Ok(vec![address]);
        }
        let left = self.deadline.step(PACE_DEFAULT).saturating_duration_since(Instant::now());
        let (sender, receiver) = mpsc::channel();
        let name = host.to_owned();
        thread::Builder::new().spawn(move || {
            let found = (&*name, port).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>());
            // Nobody may wait any more.
            drop(sender.send(found));
        })?;
        match receiver.recv_timeout(left) {
            Ok(found) => Ok(found?.into_iter().map(Address::Tcp).collect()),
            Err(_) => Err(late()),
        }
    }

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
        Ok(Box::new(RealDatagram { socket, deadline: self.deadline.clone(), pace: PACE_DEFAULT }))
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
        if Instant::now() < until { Ok(until) } else { Err(late()) }
    }
}

impl<S: AsFd> Read for RealStream<S>
where
    for<'a> &'a S: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let until = self.until()?;
        persist(&self.socket, PollFlags::POLLIN, until, || (&self.socket).read(buffer))
    }
}

impl<S: AsFd> Write for RealStream<S>
where
    for<'a> &'a S: Write,
{
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let until = self.until()?;
        persist(&self.socket, PollFlags::POLLOUT, until, || (&self.socket).write(octets))
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
        persist(&self.socket, PollFlags::POLLOUT, until, || self.socket.send(octets)).map(drop)
    }

    fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use nix::sys::socket::{Backlog, listen};

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(20);

    fn net() -> (RealNet, Deadline) {
        let deadline = Deadline::default();
        (RealNet::new(deadline.clone()), deadline)
    }

    fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn talks_over_tcp_and_unix_sockets() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("service");
        let unix = UnixListener::bind(&path).expect("bound");
        let tcp = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).expect("bound");
        let addresses = [Address::Tcp(tcp.local_addr().expect("bound")), Address::Unix(path)];
        let service = thread::spawn(move || {
            echo(tcp.accept().expect("a client").0);
            echo(unix.accept().expect("a client").0);
        });
        for address in addresses {
            let mut stream = net().0.connect(&address).expect("it listens");
            stream.write_all(b"PING").expect("it reads");
            stream.finish().expect("half of it");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            assert_eq!(answer, "PING", "{address:?}");
        }
        service.join().expect("no panic");
    }

    fn echo(mut client: impl Read + Write) {
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("read");
        client.write_all(&all).expect("written");
    }

    #[test]
    fn nobody_there() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("service");
        drop(UnixListener::bind(&path).expect("bound"));
        let long = PathBuf::from("x".repeat(108));
        #[rustfmt::skip]
        let table = [
            (Address::Tcp(free), io::ErrorKind::ConnectionRefused),
            (Address::Unix(path.clone()), io::ErrorKind::ConnectionRefused),
            (Address::Unix("/nonexistent".into()), io::ErrorKind::NotFound),
            (Address::Unix(long), io::Error::from(Errno::ENAMETOOLONG).kind()),
        ];
        for (address, expected) in table {
            assert_eq!(kind(net().0.connect(&address)), Some(expected), "{address:?}");
        }
        assert_eq!(kind(net().0.datagram(&path)), Some(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn connecting_stops_at_the_deadline() {
        // A listener that never accepts, with the shortest queue, filled up.
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("full");
        let unix = UnixListener::bind(&path).expect("bound");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        let least = Backlog::new(0).expect("in range");
        listen(&unix, least).expect("it can");
        listen(&tcp, least).expect("it can");
        let bound = tcp.local_addr().expect("bound");

        for address in [Address::Unix(path), Address::Tcp(bound)] {
            let (net, deadline) = net();
            let start = Instant::now();
            deadline.replace(Some(start + SHORT));
            let mut open = Vec::new();
            let error = loop {
                match net.connect(&address) {
                    Ok(stream) => open.push(stream),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{address:?}: {error}");
            assert!(open.len() < 9 && start.elapsed() < LONG / 4);
            assert_eq!(kind(net.connect(&address)), Some(io::ErrorKind::TimedOut));
        }
    }

    #[test]
    fn reading_and_writing_stop_at_the_deadline_and_at_the_pace() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("mute");
        let _mute = UnixListener::bind(&path).expect("bound");
        let (net, deadline) = net();
        let start = Instant::now();
        let mut stream = net.connect(&Address::Unix(path)).expect("it listens");
        stream.set_pace(SHORT);
        assert_eq!(kind(stream.read(&mut [0; 9])), Some(io::ErrorKind::TimedOut));
        assert_eq!(kind(stream.write_all(&vec![0; 8 << 20])), Some(io::ErrorKind::TimedOut));
        stream.set_pace(LONG);
        deadline.replace(Some(Instant::now() + SHORT));
        assert_eq!(kind(stream.read(&mut [0; 9])), Some(io::ErrorKind::TimedOut));
        // Late is late, even where it would not have to wait.
        assert_eq!(kind(stream.write(b"")), Some(io::ErrorKind::TimedOut));
        assert!(start.elapsed() < LONG / 4);
    }

    #[test]
    fn names_and_literals() {
        let (net, deadline) = net();
        let tcp = |text: &str| Address::Tcp(text.parse().expect("an address"));
        for (host, wanted) in
            [("192.0.2.1", "192.0.2.1:25"), ("::1", "[::1]:25"), ("[2001:db8::1]", "[2001:db8::1]:25")]
        {
            assert_eq!(net.resolve(host, 25).ok(), Some(vec![tcp(wanted)]), "{host}");
            assert_eq!(FakeNet::default().resolve(host, 25).ok(), Some(vec![tcp(wanted)]), "{host}");
        }
        let found = net.resolve("localhost", 25).expect("every machine has one");
        assert!(found.contains(&tcp("127.0.0.1:25")) || found.contains(&tcp("[::1]:25")), "{found:?}");
        deadline.replace(Some(Instant::now()));
        assert_eq!(kind(net.resolve("localhost", 25)), Some(io::ErrorKind::TimedOut));
        let fake = FakeNet::default().name("a.example", &["192.0.2.1", "::1"]);
        assert_eq!(fake.resolve("a.example", 25).ok(), Some(vec![tcp("192.0.2.1:25"), tcp("[::1]:25")]));
        assert_eq!(kind(fake.resolve("b.example", 25)), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn datagrams() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let service = UnixDatagram::bind(&path).expect("bound");
        let mut datagram = net().0.datagram(&path).expect("it is there");
        datagram.set_pace(SHORT);
        datagram.send(b"<22>x").expect("there is room");
        let mut buffer = [0; 9];
        assert_eq!(service.recv(&mut buffer).ok(), Some(5));
        // Nobody reads: it blocks after a few, but not for long.
        let error = (0..100_000).find_map(|_| datagram.send(&[0; 1000]).err()).expect("it fills up");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_fake_answers_in_order_and_remembers() {
        let address = Address::Unix("/run/clamd".into());
        let fake = FakeNet::default()
            .answer(address.clone(), Ok(b"stream: OK\n".to_vec()))
            .answer(address.clone(), Err(io::ErrorKind::TimedOut.into()));
        let mut stream = fake.connect(&address).expect("the first");
        stream.write_all(b"zPING\0").expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("canned");
        assert_eq!(answer, "stream: OK\n");
        assert_eq!(kind(fake.connect(&address)), Some(io::ErrorKind::TimedOut));
        assert_eq!(kind(fake.connect(&address)), Some(io::ErrorKind::ConnectionRefused));
        assert_eq!(fake.said(), [Said { to: address, octets: b"zPING\0".to_vec() }]);
    }
}
