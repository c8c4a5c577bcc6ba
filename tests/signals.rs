//! What concerns a whole process: signals, the watchdog, descriptor 2. Each case runs this test program anew, in a role.

use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use postern::config::ConfigDir;
use postern::launch;
use postern::sys::{self, watchdog};
use postern::transport::{Descriptors, Fault, Transport};
use postern::world::{Answer, Job, Question, World};

const ROLE: &str = "POSTERN_TEST_ROLE";

/// The real outside, with a configuration directory that nobody asks.
fn world() -> World {
    let nothing = ConfigDir::open_with(Path::new("/"), None).expect("there is a root");
    World::real(Rc::new(nothing))
}

/// Not a test by itself: what the other process does.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let later = Instant::now() + Duration::from_secs(20);
    let soon = Instant::now() + Duration::from_millis(1200);
    match role.as_str() {
        "terminated" => {
            sys::catch_signals().expect("it can");
            let client = Descriptors::standard().expect("the first to ask");
            // Comes before the wait, and must still end it.
            raise(Signal::SIGTERM).expect("it can");
            assert!(!sys::terminated(), "it is let in only while we wait");
            let fault = client.read(&mut [0; 64], later);
            assert!(matches!(fault, Err(Fault::Terminated)), "{fault:?}");
            assert!(sys::terminated());
            client.write(b"421 closing\r\n", later).expect("last words");
            client.close(false);
            assert!(Descriptors::standard().is_err(), "only once");
            std::process::exit(42);
        }
        "overrun" | "overrun quietly" => {
            watchdog::speak(role == "overrun");
            watchdog::session("the_session");
            watchdog::name("the_slow_one");
            let mut child = world().process.spawn(&Job { arguments: vec!["20".into()], ..Job::new("/bin/sleep") });
            let id = child.as_mut().expect("it starts").id();
            writeln!(std::io::stderr(), "child {id}").expect("written");
            let _outer = watchdog::guard(later);
            let _guard = watchdog::guard(soon);
            spin(later);
        }
        "overrun the outer" => {
            let _guard = watchdog::guard(soon);
            let _inner = watchdog::guard(later);
            spin(later);
        }
        "in time" => {
            for _ in 0..3 {
                drop(watchdog::guard(soon));
            }
            // The timer fires in here and finds nothing to do.
            world().clock.sleep(Duration::from_millis(2500));
            std::process::exit(42);
        }
        "panics" => {
            launch::protect_descriptors().expect("it can");
            // std's message goes to descriptor 2; what a child writes there, too.
            let _ = std::panic::catch_unwind(|| panic!("secret"));
            let mut child = world()
                .process
                .spawn(&Job { arguments: vec!["-c".into(), "echo secret >&2; exit 3".into()], ..Job::new("/bin/sh") });
            let _ = child.as_mut().expect("it starts").wait();
            std::process::exit(if launch::stderr_usable() { 43 } else { 42 });
        }
        "asks the DNS" => {
            sys::catch_signals().expect("it can");
            let silent = UdpSocket::bind("127.0.0.1:0").expect("bound");
            let dir = tempfile::tempdir().expect("a directory");
            let server = silent.local_addr().expect("bound");
            std::fs::write(dir.path().join("dns"), format!("server {server}\ntimeout 50\ntotal 50\n"))
                .expect("written");
            let world = World::real(Rc::new(ConfigDir::open_with(dir.path(), None).expect("there")));
            raise(Signal::SIGTERM).expect("it can");
            let question = Question::reverse("192.0.2.1".parse().expect("an address"));
            assert_eq!(world.dns.ask_one(&question), Answer::Late);
            assert!(sys::terminated() && Instant::now() < later);
            drop(dir);
            std::process::exit(42);
        }
        "who is there" => {
            let connection = launch::Connection::from_environment(&|_| None, &launch::Standard);
            std::fs::write(std::env::var("OUT").expect("given"), format!("{connection:?}")).expect("written");
            std::process::exit(42);
        }
        other => panic!("no role {other}"),
    }
}

/// A plugin that does not come back.
fn spin(until: Instant) -> ! {
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    std::process::exit(41)
}

fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args(["--exact", "role", "--nocapture"]).env(ROLE, role);
    command
}

/// Runs a role with one socket as descriptors 0 and 1, and 2 if asked. What the client heard, what stderr got.
fn over_socket(role: &str, stderr_too: bool) -> (String, String, ExitStatus) {
    let (theirs, mut client) = UnixStream::pair().expect("a pair");
    let theirs = OwnedFd::from(theirs);
    let copy = || Stdio::from(theirs.try_clone().expect("a copy"));
    let mut command = command(role);
    command.stdin(copy()).stdout(copy());
    command.stderr(if stderr_too { copy() } else { Stdio::piped() });
    let mut child = command.spawn().expect("it starts");
    drop((command, theirs));
    let (mut heard, mut logged) = (String::new(), String::new());
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut logged).expect("text");
    }
    client.read_to_string(&mut heard).expect("text");
    (heard, logged, child.wait().expect("it ends"))
}

#[test]
fn a_signal_before_the_wait_ends_the_wait() {
    let (heard, logged, status) = over_socket("terminated", false);
    assert_eq!(status.code(), Some(42), "{logged}");
    assert!(heard.ends_with("421 closing\r\n"), "{heard:?}");
}

#[test]
fn a_signal_ends_the_wait_for_the_dns() {
    let (_, logged, status) = over_socket("asks the DNS", false);
    assert_eq!(status.code(), Some(42), "{logged}");
}

#[test]
fn an_overrun_ends_the_process_and_its_children() {
    let start = Instant::now();
    let (heard, logged, status) = over_socket("overrun", false);
    assert_eq!((status.code(), status.signal()), (Some(111), None), "{logged}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(
        heard.ends_with("421 4.3.0 the_slow_one ran over its time, closing connection (the_session)\r\n"),
        "{heard:?}"
    );
    // Our stderr has an end, so the child, which had it too, is gone.
    assert!(logged.starts_with("child "), "{logged}");
    assert!(logged.contains("[the_session] the_slow_one: error, over its time"), "{logged}");

    let (heard, _, status) = over_socket("overrun quietly", false);
    assert_eq!(status.code(), Some(111));
    assert!(!heard.contains("421"), "{heard:?}");

    let (_, _, status) = over_socket("overrun the outer", false);
    assert_eq!(status.code(), Some(111));
}

#[test]
fn the_overrun_is_told_through_a_pipe_too() {
    let output = command("overrun").stdin(Stdio::null()).output().expect("it runs");
    let heard = String::from_utf8_lossy(&output.stdout);
    assert!(
        heard.ends_with("421 4.3.0 the_slow_one ran over its time, closing connection (the_session)\r\n"),
        "{heard:?}"
    );
}

#[test]
fn calls_in_time_are_left_alone() {
    let (heard, logged, status) = over_socket("in time", false);
    assert_eq!(status.code(), Some(42), "{logged}");
    assert!(!heard.contains("421"), "{heard:?}");
}

#[test]
fn no_word_to_stderr_reaches_the_client() {
    let (heard, _, status) = over_socket("panics", true);
    assert_eq!(status.code(), Some(42));
    assert!(!heard.contains("secret"), "{heard:?}");
    // A log of its own stays what it was, even if it is a pipe.
    let (heard, logged, status) = over_socket("panics", false);
    assert_eq!(status.code(), Some(43));
    assert!(!heard.contains("secret"), "{heard:?}");
    assert_eq!(logged.matches("secret").count(), 2, "{logged}");
    // So does a file that a person gave for both (2>&1).
    let mut file = tempfile::tempfile().expect("a file");
    let copy = || Stdio::from(file.try_clone().expect("a copy"));
    let status = command("panics").stdout(copy()).stderr(copy()).status().expect("it runs");
    assert_eq!(status.code(), Some(43));
    std::io::Seek::rewind(&mut file).expect("a file can");
    let mut written = String::new();
    file.read_to_string(&mut written).expect("text");
    assert_eq!(written.matches("secret").count(), 2, "{written}");
}

#[test]
fn who_is_there_by_descriptor_0() {
    let place = tempfile::NamedTempFile::new().expect("a file");
    let ask = |stdin: Stdio| {
        let mut command = command("who is there");
        let status = command.env("OUT", place.path()).stdin(stdin).stdout(Stdio::null()).status();
        assert_eq!(status.expect("it runs").code(), Some(42));
        std::fs::read_to_string(place.path()).expect("written")
    };
    assert!(ask(Stdio::null()).contains("launcher: Pipe"));
    assert!(ask(Stdio::from(File::open("/dev/zero").expect("it is there"))).contains("launcher: Pipe"));
    let (unix, _client) = UnixStream::pair().expect("a pair");
    let said = ask(Stdio::from(OwnedFd::from(unix)));
    assert!(said.contains("launcher: Socket") && said.contains("remote_ip: None"), "{said}");
    // A dual-stack socket's IPv4 client.
    let Ok(listener) = std::net::TcpListener::bind("[::]:0") else {
        return;
    };
    let port = listener.local_addr().expect("bound").port();
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    client.write_all(b"QUIT\r\n").expect("sent");
    let said = ask(Stdio::from(OwnedFd::from(listener.accept().expect("a client").0)));
    assert!(said.contains("remote_ip: Some(127.0.0.1)"), "{said}");
    assert!(said.contains("local_ip: Some(127.0.0.1)"), "{said}");
    assert!(said.contains(&format!("local_port: Some({port})")), "{said}");
}
