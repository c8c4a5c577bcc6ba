//! A real Redis server of a test's own, and ones that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server on a socket in a directory of its own. It ends, and the directory goes, when this is dropped.
pub struct Redis {
    child: Child,
    dir: TempDir,
}

impl Redis {
    /// Starts one. `None`, said loudly: it is not installed.
    pub fn start(arguments: &[&str]) -> Option<Redis> {
        let program = crate::common::require("redis-server")?;
        let dir = tempfile::Builder::new().prefix("pr-").tempdir_in("/tmp").unwrap();
        let socket = dir.path().join("redis.sock");
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocketperm", "777"]);
        command.arg("--dir").arg(dir.path()).arg("--unixsocket").arg(&socket).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let redis = Redis { child, dir };
        let until = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < until, "redis-server does not start");
            thread::sleep(Duration::from_millis(10));
        }
        Some(redis)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// The line of `config/store`.
    pub fn line(&self) -> String {
        format!("redis unix:{}", self.socket().display())
    }

    /// Says a command in Redis's inline form, and gives what comes back within a moment.
    pub fn say(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// Ends it, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that gives this answer to whatever it is sent, over and over if `again`, and then says nothing more.
/// Gives its port; its threads end with the process.
pub fn pretender(answer: &'static [u8], again: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                return;
            };
            thread::spawn(move || {
                let mut heard = [0; 4096];
                while stream.read(&mut heard).is_ok_and(|octets| octets > 0) {
                    while stream.write_all(answer).is_ok() && again {}
                }
            });
        }
    });
    port
}
