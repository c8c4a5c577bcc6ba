//! A client that takes turns: it waits for what it expects before it goes on. Every wait has a limit.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::play::{self, End};
use super::replies::{Reply, reply_line};
use super::room::Room;

/// How long a reply may take. Generous: a loaded machine is no failure.
const PATIENCE: Duration = Duration::from_secs(15);

/// A conversation over TCP.
pub struct Client {
    stream: TcpStream,
    /// Received and not yet taken.
    buffer: Vec<u8>,
    /// Both sides so far, for the message of a failure.
    transcript: String,
}

/// A program that serves one connection as under inetd, without an inetd.
pub struct Served {
    child: Child,
}

/// Where descriptor 2 of the program leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// To a file `log/stderr` in the room, as under tcpserver.
    File,
    /// To the client, as under xinetd.
    Client,
}

impl Client {
    /// Connects to a server on the loopback interface.
    pub fn connect(port: u16) -> Client {
        Client::on(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    /// Starts the program on one end of a loopback connection, and takes the other.
    pub fn serve(room: &Room, log: Log) -> (Client, Served) {
        Client::serve_with(room, log, &[])
    }

    /// As [`Client::serve`], with further variables.
    pub fn serve_with(room: &Room, log: Log, variables: &[(&str, &str)]) -> (Client, Served) {
        Client::serve_under(room, log, variables, &[])
    }

    /// As [`Client::serve_with`], with these words before the program's own, such as strace's.
    pub fn serve_under(room: &Room, log: Log, variables: &[(&str, &str)], under: &[&OsStr]) -> (Client, Served) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = OwnedFd::from(listener.accept().unwrap().0);
        let end = || Stdio::from(server.try_clone().unwrap());
        let log = if log == Log::Client { end() } else { File::create(room.path("log/stderr")).unwrap().into() };
        let config = room.path("config");
        let own = [room.program().as_os_str(), "--config".as_ref(), config.as_os_str()];
        let words: Vec<&OsStr> = under.iter().copied().chain(own).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .env_clear()
            .envs(room.environment())
            .envs(variables.iter().copied())
            .current_dir(room.root())
            .stdin(end())
            .stdout(end())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        (Client::on(client), Served { child })
    }

    fn on(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new(), transcript: String::new() }
    }

    /// The client's own address.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends these octets in one write.
    pub fn send(&mut self, octets: &[u8]) {
        self.transcript.push_str(&format!("C: {}\n", octets.escape_ascii()));
        if let Err(error) = self.stream.write_all(octets) {
            self.fail(&format!("cannot send: {error}"));
        }
    }

    /// Takes one whole reply.
    pub fn reply(&mut self) -> Reply {
        let mut reply = Reply { code: 0, lines: Vec::new() };
        loop {
            let line = self.line();
            let (code, last, text) = reply_line(&line).unwrap_or_else(|why| self.fail(&why));
            if reply.code != 0 && reply.code != code {
                self.fail("the codes of one reply differ");
            }
            reply.code = code;
            reply.lines.push(text);
            if last {
                return reply;
            }
        }
    }

    /// Takes one whole reply; `None` where the server closes instead.
    pub fn reply_or_end(&mut self) -> Option<Reply> {
        if self.buffer.is_empty() && !self.fill(Instant::now() + PATIENCE) {
            return None;
        }
        Some(self.reply())
    }

    /// Takes one reply, which must have this code.
    pub fn expect(&mut self, code: u16) -> Reply {
        let reply = self.reply();
        if reply.code != code {
            self.fail(&format!("expected {code}"));
        }
        reply
    }

    /// Sends one command, and takes its reply, which must have this code.
    pub fn command(&mut self, line: &str, code: u16) -> Reply {
        self.send(format!("{line}\r\n").as_bytes());
        self.expect(code)
    }

    /// Sends one command, and takes its reply, whatever that is.
    pub fn reply_to(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Greeting, EHLO, MAIL and RCPT, one by one.
    pub fn open(&mut self, sender: &str, recipients: &[&str]) {
        self.expect(220);
        self.command("EHLO client.example", 250);
        self.command(&format!("MAIL FROM:<{sender}>"), 250);
        for recipient in recipients {
            self.command(&format!("RCPT TO:<{recipient}>"), 250);
        }
    }

    /// Nothing may come for this long.
    pub fn silence(&mut self, time: Duration) {
        let until = Instant::now() + time;
        if self.fill(until) || !self.buffer.is_empty() {
            self.fail("expected silence");
        }
    }

    /// The server must close now, and say nothing more.
    pub fn closed(&mut self) {
        let rest = self.rest();
        if !rest.is_empty() {
            self.fail(&format!("expected the end, got {}", rest.escape_ascii()));
        }
    }

    /// Everything up to the server's close. A reset is a failure: replies could be lost by it.
    pub fn rest(&mut self) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        while self.fill(until) {}
        if Instant::now() >= until {
            self.fail("the server does not close");
        }
        std::mem::take(&mut self.buffer)
    }

    /// Sends `octets` again and again, with a pause between, until the server closes; gives back all that it said.
    pub fn goes_on(&mut self, octets: &[u8], pause: Duration, limit: Duration) -> Vec<u8> {
        let until = Instant::now() + limit;
        let mut sender = self.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while Instant::now() < until && sender.write_all(octets).is_ok() {
                    std::thread::sleep(pause);
                }
            });
            // What is sent after the server's last word is answered by a reset at some time, but not before that word.
            while self.fill_or_reset(until) {}
            let _ = self.stream.shutdown(std::net::Shutdown::Both);
        });
        std::mem::take(&mut self.buffer)
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub fn finish(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Whether the server has reset the connection, which may take its last words with it on their way.
    pub fn was_reset(&self) -> bool {
        self.stream.take_error().unwrap().is_some()
    }

    /// Goes away at once: what the server sends from now on is answered by a reset, and so is what was not read.
    pub fn reset(self) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&self.stream, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
    }

    /// The conversation so far.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    fn line(&mut self) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.buffer.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                self.transcript.push_str(&format!("S: {}\n", line.escape_ascii()));
                return line;
            }
            if !self.fill(until) {
                self.fail("no whole line came");
            }
        }
    }

    /// Reads some; false at the end of the stream and at the limit.
    fn fill(&mut self, until: Instant) -> bool {
        match self.read(until) {
            Ok(count) => count > 0,
            Err(error) => self.fail(&format!("cannot read: {error}")),
        }
    }

    fn fill_or_reset(&mut self, until: Instant) -> bool {
        self.read(until).is_ok_and(|count| count > 0)
    }

    /// Octets taken; 0 at the end of the stream and at the limit.
    fn read(&mut self, until: Instant) -> std::io::Result<usize> {
        let mut octets = [0; 16384];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(0);
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut octets) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&octets[..count]);
                    return Ok(count);
                }
                // A read with a time limit is not taken up again by itself after a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{why}\n{}not yet taken: {}", self.transcript, self.buffer.escape_ascii())
    }
}

impl Served {
    /// How it ends, within this time.
    pub fn end(&mut self, limit: Duration) -> End {
        play::wait(&mut self.child, limit)
    }

    /// Waits until it holds an open file without a name below `dir`: content has arrived there.
    pub fn spools(&self, dir: &Path) {
        let until = Instant::now() + PATIENCE;
        let descriptors = format!("/proc/{}/fd", self.id());
        let leads_there = |path: &Path| {
            std::fs::read_link(path).is_ok_and(|to| to.starts_with(dir) && to.to_string_lossy().ends_with(" (deleted)"))
        };
        while !super::store::names(Path::new(&descriptors)).iter().any(|path| leads_there(path)) {
            assert!(Instant::now() < until, "nothing is spooled in {}", dir.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            play::end_group(&mut self.child);
        }
    }
}
