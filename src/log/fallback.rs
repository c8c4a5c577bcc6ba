//! The ways that are always there: standard error if it is not the client, else the local syslog socket.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Line;
use crate::launch;

/// Where the local syslog listens.
pub const SYSLOG_SOCKET: &str = "/dev/log";

/// What our lines are marked with in syslog and journal.
pub const IDENT: &str = "postern";

/// syslog's number for mail (RFC 5424 §6.2.1).
pub const FACILITY_MAIL: u8 = 2;

/// Standard error, or syslog, or nowhere; never the client, and never waiting.
pub struct Fallback {
    stderr: bool,
    socket: Option<UnixDatagram>,
}

impl Fallback {
    /// `stderr_is_ours`: descriptor 2 is not the client.
    pub fn new(stderr_is_ours: bool) -> Self {
        Self { stderr: stderr_is_ours, socket: None }
    }

    /// Writes a line, whole or not at all. Tells whether anybody took it.
    pub fn write(&mut self, line: &Line<'_>) -> bool {
        (self.stderr && write_octets(line.text).is_ok()) || self.syslog(line, Path::new(SYSLOG_SOCKET))
    }

    /// To the syslog socket at `path`, which is kept open.
    fn syslog(&mut self, line: &Line<'_>, path: &Path) -> bool {
        if self.socket.is_none() {
            self.socket = connect(path);
        }
        let Some(socket) = &self.socket else { return false };
        let sent = socket.send(&syslog(line, IDENT, FACILITY_MAIL, std::process::id())).is_ok();
        if !sent {
            // It may have been started anew: the next line tries again.
            self.socket = None;
        }
        sent
    }
}

/// Writes a line to standard error: one write of at most PIPE_BUF octets, only if it will not block.
///
/// # Errors
/// It would block, it is closed, or it is the client.
pub fn write_stderr(text: &str) -> Result<(), String> {
    if !launch::stderr_usable() {
        return Err("standard error is the client's connection".to_owned());
    }
    write_octets(text).map_err(|error| format!("standard error: {error}"))
}

fn write_octets(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO)? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut octets = Vec::with_capacity(text.len() + 1);
    octets.extend_from_slice(text.as_bytes());
    octets.push(b'\n');
    stderr.write_all(&octets)
}

/// A syslog socket that does not block.
fn connect(path: &Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(path).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// A datagram for the local syslog socket (RFC 3164 §4.1.1; no time: the daemon adds it).
pub fn syslog(line: &Line<'_>, ident: &str, facility: u8, pid: u32) -> Vec<u8> {
    let priority = facility * 8 + line.level as u8;
    format!("<{priority}>{ident}[{pid}]: {}", line.text).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Level;

    #[test]
    fn a_syslog_line_has_facility_and_severity() {
        let line = Line::text(Level::Info, "pass");
        assert_eq!(syslog(&line, "postern", 2, 7), b"<22>postern[7]: pass");
        assert_eq!(syslog(&Line::text(Level::Debug, ""), "x", 23, 7), b"<191>x[7]: ");
    }

    #[test]
    fn syslog_is_found_again_after_it_was_started_anew_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut fallback = Fallback::new(false);
        let line = Line::text(Level::Warning, "text");
        assert!(!fallback.syslog(&line, &path), "nobody is there");

        let mut buffer = [0; 64];
        let expected = format!("<20>postern[{}]: text", std::process::id());
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            // After a restart one line may be lost to the old socket.
            assert!(fallback.syslog(&line, &path) || fallback.syslog(&line, &path));
            let octets = daemon.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..octets], expected.as_bytes());
            std::fs::remove_file(&path).unwrap();
        }

        // A daemon that reads nothing: the queue fills, and then a line is not taken.
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let taken = (0..10_000).take_while(|_| fallback.syslog(&line, &path) || fallback.syslog(&line, &path)).count();
        assert!(taken < 10_000);
    }
}
