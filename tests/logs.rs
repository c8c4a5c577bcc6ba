//! Where the whole program's log lines go, and that no log ever stops mail: files, commands, sockets that fail, fill or hang.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::play::{self, End, Outcome, Play};
use common::room::Room;
use common::{replies, store};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// A mail that is taken, after a recipient that is not: three lines of the record.
const DIALOG: &[u8] = b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<x@far.example>\r\n\
    RCPT TO:<x@here.example>\r\nDATA\r\nSubject: s\r\n\r\ntext\r\n.\r\nQUIT\r\n";

const EVENTS: [&str; 3] = ["refused", "queued", "connection"];

fn room(logging: &str) -> Room {
    let room = Room::with_maildir();
    room.config("logging", logging);
    room
}

/// Plays the dialog; the mail must be there whatever the log does.
fn play(room: &Room) -> Outcome {
    let outcome = Play::new(room).run(DIALOG);
    assert_taken(room, &outcome.output);
    assert_eq!(outcome.end, End::Code(0));
    outcome
}

fn assert_taken(room: &Room, output: &[u8]) {
    assert_eq!(replies::verdicts(&replies::of(output))[0].unwrap().code, 250);
    assert_eq!(store::maildir(&room.path("mail")).len(), 1);
}

/// The events of the record in a log, in order.
fn events(log: &str) -> Vec<&str> {
    let event = |line: &str| EVENTS.iter().find(|event| line.contains(&format!("] {event} "))).copied();
    log.lines().filter_map(event).collect()
}

#[test]
fn a_file_gets_every_line_of_the_session_and_standard_error_none() {
    for level in ["LOGERROR", "LOGDEBUG"] {
        let room = room(&format!("logging/file loglevel {level} tsformat %FT%T%z {{ROOM}}/log/mail.%Y\n"));
        let outcome = play(&room);
        assert!(events(&outcome.log).is_empty(), "{}", outcome.log);
        let log = fs::read_to_string(&store::names(&room.path("log"))[0]).unwrap();
        assert_eq!(events(&log), EVENTS, "{log}");
        for line in log.lines() {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.len() == 24 && time.ends_with("+0000") && rest.contains("]: ["), "{line}");
        }
    }
}

#[test]
fn several_loggers_get_the_same_lines() {
    let room = room("logging/file {ROOM}/log/one\nlogging/stderr\nlogging/file:1 {ROOM}/log/two\n");
    let outcome = play(&room);
    assert_eq!(events(&outcome.log), EVENTS);
    let read = |name: &str| fs::read_to_string(room.path("log").join(name)).unwrap();
    assert_eq!(events(&read("one")), EVENTS);
    assert_eq!(read("one"), read("two"));
}

#[test]
fn a_file_that_cannot_be_written_falls_back_and_its_trouble_is_told_once() {
    for path in ["/dev/full", "{ROOM}/none/log", "{ROOM}/log", "{ROOM}/fifo"] {
        let room = room(&format!("logging/file {path}\n"));
        mkfifo(&room.path("fifo"), Mode::S_IRWXU).unwrap();
        let outcome = play(&room);
        assert_eq!(events(&outcome.log), EVENTS, "{path}: {}", outcome.log);
        assert_eq!(outcome.log.matches("logging/file: error, ").count(), 1, "{path}: {}", outcome.log);
        assert!(outcome.elapsed < Duration::from_secs(10));
    }
}

#[test]
fn a_fifo_whose_reader_sleeps_falls_back_once_it_is_full() {
    let room = room("logging/file {ROOM}/fifo\n");
    let fifo = room.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let _sleeper = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).unwrap();
    let mut writer = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    assert_eq!(events(&play(&room).log), EVENTS);
}

#[test]
fn a_command_has_every_line_when_the_session_is_over() {
    let room = room("logging/file tsformat %s |/usr/bin/tee {ROOM}/log/tee\n");
    let outcome = play(&room);
    assert!(outcome.released, "the command may not hold the client's descriptors");
    assert_eq!(events(&fs::read_to_string(room.path("log/tee")).unwrap()), EVENTS);
}

#[test]
fn a_command_that_fails_or_hangs_stops_nothing() {
    for (command, falls_back) in [("/nonexistent", true), ("/bin/false", false), ("/bin/sleep 600", false)] {
        let room = room(&format!("logging/file |{command}\n"));
        let outcome = play(&room);
        assert!(outcome.released && outcome.elapsed < Duration::from_secs(10), "{command}: {:?}", outcome.elapsed);
        if falls_back {
            assert_eq!(events(&outcome.log), EVENTS, "{command}");
        }
    }
}

#[test]
fn syslog_and_journal_get_datagrams_and_a_deaf_one_is_not_waited_for() {
    let room = room("logging/syslog path {ROOM}/dev-log\nlogging/journald path {ROOM}/journal\n");
    let [syslog, journal] = ["dev-log", "journal"].map(|name| UnixDatagram::bind(room.path(name)).unwrap());
    assert!(events(&play(&room).log).is_empty());
    let mut buffer = [0; 8192];
    let mut read = |socket: &UnixDatagram| -> String {
        socket.set_nonblocking(true).unwrap();
        let datagram = std::iter::from_fn(|| {
            let octets = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..octets]).into_owned() + "\n")
        });
        datagram.collect()
    };
    let text = read(&syslog);
    assert!(text.starts_with("<22>postern["), "{text}");
    assert_eq!(events(&text), EVENTS);
    let text = read(&journal);
    assert_eq!(events(&text), EVENTS);
    assert!(text.contains("\nPOSTERN_EVENT=refused\n") && text.contains("\nPOSTERN_PLUGIN=rcpt_ok\n"), "{text}");

    // Nobody reads any more: the queues fill, and the lines fall back.
    fs::remove_dir_all(room.path("mail")).unwrap();
    for socket in ["dev-log", "journal"] {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"x", room.path(socket)).is_ok() {}
    }
    let outcome = play(&room);
    assert_eq!(events(&outcome.log), EVENTS, "once, although both failed: {}", outcome.log);
    assert!(outcome.elapsed < Duration::from_secs(10));
}

#[test]
fn every_line_is_json_if_that_is_the_format() {
    let room = room("logging/file loglevel LOGDEBUG {ROOM}/log/json\nlogging/file:1 /dev/full\n");
    room.config("log_format", "json\n");
    let outcome = play(&room);
    let log = fs::read_to_string(room.path("log/json")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"time\":\"")).count(), log.lines().count());
    let of_session = outcome.log.lines().filter(|line| !line.starts_with("serving as root"));
    let lines: Vec<serde_json::Value> =
        log.lines().chain(of_session).map(|line| serde_json::from_str(line).unwrap()).collect();
    let happened = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    for event in EVENTS {
        assert_eq!(happened(event), 2, "{event}");
    }
    assert!(lines.iter().any(|line| line["text"].as_str().is_some_and(|text| text.contains("/dev/full"))));
}

#[test]
fn where_standard_error_is_the_client_nothing_is_ever_written_to_it() {
    for logging in ["", "logging/stderr LOGDEBUG\n", "logging/adaptive\n", "logging/file /dev/full\n"] {
        let room = Room::with_maildir();
        if !logging.is_empty() {
            room.config("logging", logging);
        }
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let end = || Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
        let mut child = command(&room).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(theirs);
        ours.write_all(DIALOG).unwrap();
        let mut output = Vec::new();
        ours.read_to_end(&mut output).unwrap();
        child.wait().unwrap();
        // Whatever is no reply would not parse.
        assert_taken(&room, &output);
    }
}

#[test]
fn a_full_pipe_on_standard_error_holds_nothing_up() {
    for logging in ["", "logging/stderr LOGDEBUG\n", "logging/adaptive\n"] {
        let room = Room::with_maildir();
        if !logging.is_empty() {
            room.config("logging", logging);
        }
        let (_never_read, writer) = std::io::pipe().unwrap();
        let mut full = File::from(OwnedFd::from(writer));
        let flags =
            nix::fcntl::OFlag::from_bits_truncate(nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_GETFL).unwrap());
        nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        while !matches!(full.write(&[b'x'; 4096]), Err(error) if error.kind() == ErrorKind::WouldBlock) {}
        // Blocking again: whoever writes without looking would hang.
        nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
        let mut child = command(&room).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(full).spawn().unwrap();
        child.stdin.take().unwrap().write_all(DIALOG).unwrap();
        let status = play::wait_until(&mut child, Instant::now() + Duration::from_secs(10));
        let mut output = Vec::new();
        if status.is_none() {
            play::end_group(&mut child);
            panic!("it hangs with {logging:?}");
        }
        child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
        assert_taken(&room, &output);
    }
}

fn command(room: &Room) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(common::binary());
    command.arg("--config").arg(room.path("config")).env_clear().envs(room.environment()).process_group(0);
    command
}
