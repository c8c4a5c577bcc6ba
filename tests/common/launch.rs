//! Real launchers on a free loopback port, each as an administrator would start it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::play;
use super::room::Room;

/// What accepts the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    Tcpserver,
    Tcpsvd,
    /// Needs root, which is also what it is used as. Descriptor 2 is the client.
    Xinetd,
    /// The contract of a unit with `Accept=yes` and `StandardInput=socket`.
    Systemd,
}

/// A launcher at work. It ends when this is dropped.
pub struct Server {
    pub port: u16,
    child: Child,
}

impl Launcher {
    pub const ALL: [Launcher; 4] = [Launcher::Tcpserver, Launcher::Tcpsvd, Launcher::Xinetd, Launcher::Systemd];

    /// Whether it can be used here; says why not.
    pub fn available(self) -> bool {
        (self != Launcher::Xinetd || super::require_root()) && super::require(self.program()).is_some()
    }

    /// Puts the program behind it, with these variables beside the room's own.
    pub fn start(self, room: &Room, variables: &[(&str, &str)]) -> Server {
        room.open_to_all();
        let server = Server::start(|port| self.command(room, port, variables));
        server.unwrap_or_else(|| {
            let log = fs::read_to_string(room.path("log/launcher")).unwrap_or_default();
            panic!("{self:?} does not listen: {log}")
        })
    }

    fn program(self) -> &'static str {
        match self {
            Launcher::Tcpserver => "tcpserver",
            Launcher::Tcpsvd => "tcpsvd",
            Launcher::Xinetd => "xinetd",
            Launcher::Systemd => "systemd-socket-activate",
        }
    }

    fn command(self, room: &Room, port: u16, variables: &[(&str, &str)]) -> Command {
        let mut words: Vec<String> = Vec::new();
        if geteuid().is_root() && self != Launcher::Xinetd {
            let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig", "KILL"];
            words.extend(nobody.map(String::from));
        }
        words.push(self.program().into());
        words.extend(self.arguments(room, port, variables));
        let log = File::create(room.path("log/launcher")).unwrap();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().envs(room.environment()).envs(variables.iter().copied());
        command.current_dir(room.root());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn arguments(self, room: &Room, port: u16, variables: &[(&str, &str)]) -> Vec<String> {
        let path = |name: &str| room.path(name).to_str().unwrap().to_owned();
        let program = [path("bin/postern"), "--config".into(), path("config")];
        let mut words: Vec<String> = match self {
            // No ident, no names from DNS.
            Launcher::Tcpserver => ["-v", "-RHl0", "127.0.0.1"].map(String::from).into(),
            Launcher::Tcpsvd => ["-v", "-l", "localhost", "127.0.0.1"].map(String::from).into(),
            Launcher::Systemd => ["--accept", "--inetd", "-l"].map(String::from).into(),
            Launcher::Xinetd => {
                fs::write(room.path("xinetd.conf"), xinetd_conf(room, port)).unwrap();
                return vec![
                    "-f".into(),
                    path("xinetd.conf"),
                    "-pidfile".into(),
                    path("log/xinetd.pid"),
                    "-dontfork".into(),
                    "-stayalive".into(),
                ];
            }
        };
        if self == Launcher::Systemd {
            words.push(format!("127.0.0.1:{port}"));
            // It hands on nothing but what it is told to.
            let own = room.environment();
            let own = own.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()));
            for (name, value) in own.chain(variables.iter().copied()) {
                words.extend(["-E".into(), format!("{name}={value}")]);
            }
        } else {
            words.push(port.to_string());
        }
        words.extend(program);
        words
    }
}

/// Each brace stands alone on its line, or xinetd does not parse it.
fn xinetd_conf(room: &Room, port: u16) -> String {
    let room = room.root().display();
    format!(
        "defaults\n{{\n log_type = FILE {room}/log/xinetd\n log_on_success = HOST PID EXIT\n cps = 0 0\n \
         instances = UNLIMITED\n per_source = UNLIMITED\n}}\n\
         service smtp-test\n{{\n type = UNLISTED\n socket_type = stream\n protocol = tcp\n port = {port}\n \
         bind = 127.0.0.1\n wait = no\n user = nobody\n server = {room}/bin/postern\n \
         server_args = --config {room}/config\n}}\n"
    )
}

impl Server {
    /// Starts the command for a free port, in a process group of its own. `None` if it never listens there.
    pub fn start(command: impl Fn(u16) -> Command) -> Option<Server> {
        // Another process may take the free port before the launcher does.
        for _ in 0..5 {
            let port = free_port();
            let mut child = command(port).process_group(0).spawn().unwrap();
            if listens(port, &mut child) {
                return Some(Server { port, child });
            }
            play::end_group(&mut child);
        }
        None
    }

    /// The launcher's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, so that it ends what it has started; then made to.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        play::wait_until(&mut self.child, Instant::now() + Duration::from_secs(2));
        play::end_group(&mut self.child);
    }
}

/// A port of the loopback interface that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until the port is open, without connecting: that would start the program once.
fn listens(port: u16, child: &mut Child) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        if fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| is_listening(line, port)) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A line of /proc/net/tcp: number, local address:port in hex, remote one, state (0A is LISTEN).
fn is_listening(line: &str, port: u16) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.len() > 3 && words[1].ends_with(&format!(":{port:04X}")) && words[3] == "0A"
}
