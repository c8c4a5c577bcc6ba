//! A real authoritative DNS server of a test's own: Knot, on a free port, with zones that the test writes.

use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::play;

/// A private instance; it ends when this is dropped.
pub struct Knot {
    dir: TempDir,
    pub address: SocketAddr,
    server: Child,
}

impl Knot {
    /// Serves these zones, each a name and the text of a zone file (SOA and NS are put before it). One with an empty text has
    /// no file: SERVFAIL. `None`, with a loud word, where there is no Knot.
    pub fn start(zones: &[(&str, &str)]) -> Option<Self> {
        let program = super::require("knotd")?;
        let dir = tempfile::Builder::new().prefix("kn-").tempdir_in("/tmp").unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = format!(
            "server:\n    rundir: \"{root}\"\n    listen: 127.0.0.1@{}\n    udp-workers: 1\n    tcp-workers: 1\n    \
             background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n    storage: \"{root}\"\n\
             template:\n  - id: default\n    storage: \"{root}\"\n    zonefile-sync: -1\n    journal-content: none\nzone:\n",
            address.port()
        );
        for (name, text) in zones {
            config += &format!("  - domain: {name}\n    file: {name}.zone\n");
            if !text.is_empty() {
                let head =
                    format!("$ORIGIN {name}.\n$TTL 60\n@ SOA ns.{name}. host.{name}. 7 3600 600 86400 5\n@ NS ns\n");
                fs::write(dir.path().join(format!("{name}.zone")), head + text).unwrap();
            }
        }
        let file = dir.path().join("knot.conf");
        fs::write(&file, config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = if nix::unistd::geteuid().is_root() {
            let nobody = Some(nix::unistd::Uid::from_raw(65_534));
            nix::unistd::chown(dir.path(), nobody, None).unwrap();
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig", "KILL"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        command.env_clear().env("PATH", super::PATH).arg("-c").arg(&file);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = command.spawn().unwrap();
        let mut knot = Self { dir, address, server };
        knot.wait();
        Some(knot)
    }

    /// Until it answers anything at all.
    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        // The root's name servers.
        let question = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";
        while Instant::now() < until {
            let _ = socket.send(question);
            if socket.recv(&mut [0; 512]).is_ok() {
                return;
            }
            assert!(self.server.try_wait().unwrap().is_none(), "knotd ended:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("knotd does not answer:\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The line for `config/dns`.
    pub fn setting(&self) -> String {
        format!("server {}\n", self.address)
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.server.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        );
        if play::wait_until(&mut self.server, Instant::now() + Duration::from_secs(2)).is_none() {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}
