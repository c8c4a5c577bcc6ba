//! The ways that are always there: standard error if it is not the client, else the local syslog socket.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Line;

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

    /// Writes a line, whole or not at all.
    pub fn write(&mut self, line: &Line<'_>) {
        if self.stderr && write_stderr(line.text) {
            return;
        }
        if self.socket.is_none() {
            self.socket = connect(Path::new("/dev/log"));
        }
        if let Some(socket) = &self.socket {
            let _ = socket.send(&syslog(line, "postern", 2, std::process::id()));
        }
    }
}

/// One write of at most PIPE_BUF octets, only if it will not block: then it is whole.
pub fn write_stderr(text: &str) -> bool {
    let mut stderr = std::io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1)) {
        return false;
    }
    stderr.write_all(format!("{text}\n").as_bytes()).is_ok()
}

/// A syslog socket that does not block.
pub fn connect(path: &Path) -> Option<UnixDatagram> {
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
        let line = Line { level: Level::Info, text: "pass", record: true };
        assert_eq!(syslog(&line, "postern", 2, 7), b"<22>postern[7]: pass");
    }
}
