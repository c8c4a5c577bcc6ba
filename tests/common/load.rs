//! Many mails from Postfix's `smtp-source` into a real Postfix, through postern or past it, with every one of them accounted
//! for; and one large message through any queue, with the memory that postern took for it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::launch::{self, Server};
use super::postfix::Postfix;
use super::room::Room;

/// As an installed Postfix takes mail, but for the limits that one client meets there. What it takes it throws away, and logs.
/// `in_flow_delay` would hold up whoever is faster than the delivery, for a second at a time.
const MAIN_CF: &str = "virtual_transport = discard
message_size_limit = 0
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_client_event_limit_exceptions = 127.0.0.0/8
";

/// What stands before the queue. It asks nothing of the outside and waits for nothing.
const CHAIN: &str = "earlytalker wait 0\ncount_unrecognized_commands 4\nheaders\nrcpt_ok\n";

/// A Postfix with an SMTP server of its own, and a sink that speaks LMTP.
pub struct Load {
    pub postfix: Postfix,
    /// The port of Postfix's own smtpd.
    pub smtpd_port: u16,
    pub sink: Server,
    source: PathBuf,
    unshare: PathBuf,
    /// Loads sent so far: each has recipients of its own.
    loads: AtomicUsize,
}

/// One run of `smtp-source`.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub mails: usize,
    /// Octets of a message's body.
    pub octets: usize,
    /// Sessions at a time.
    pub sessions: usize,
    /// Whether a session goes on with the next mail, or every mail has one of its own.
    pub reuse: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Until the last mail was acknowledged.
    pub accepted_s: f64,
    /// Until the last one was delivered, too.
    pub delivered_s: f64,
    /// Acknowledged and never delivered.
    pub lost: usize,
    /// Delivered more than once.
    pub doubled: usize,
}

impl Load {
    /// `None`, with a word, where it cannot be.
    pub fn start() -> Option<Load> {
        let need = ["smtp-source", "smtp-sink", "tcpserver", "unshare", "setpriv"];
        let found: Vec<PathBuf> = need.into_iter().map_while(super::require).collect();
        let [source, sink, _, unshare, _] = <[PathBuf; 5]>::try_from(found).ok()?;
        let smtpd_port = launch::free_port();
        let postfix = Postfix::start_with(MAIN_CF, &format!("127.0.0.1:{smtpd_port} inet n - n - - smtpd\n"))?;
        let sink = Server::start(|port| {
            let mut command = Command::new(&sink);
            command.args(["-L", "-u", "nobody", &format!("127.0.0.1:{port}"), "100"]);
            quiet(&mut command);
            command
        });
        let loads = AtomicUsize::new(0);
        Some(Load { postfix, smtpd_port, sink: sink.expect("smtp-sink does not listen"), source, unshare, loads })
    }

    /// A room whose mail goes by this line, after a usual chain.
    pub fn room(&self, queue: &str) -> Room {
        let room = Room::new(&format!("{CHAIN}{queue}\n"));
        room.open_to_all();
        room
    }

    /// A room whose mail goes by this one of [`STREAMING`], for [`large`].
    pub fn room_for_large(&self, queue: &str) -> Room {
        let room = self.room("");
        let line = match queue {
            // Started by root, whom it believes about the directory.
            "postdrop" => format!("queue/postdrop /usr/sbin/postdrop -c {}", self.postfix.path("etc").display()),
            "lmtp" => format!("queue/lmtp 127.0.0.1 {}", self.sink.port),
            "pipe" => "queue/pipe /usr/bin/md5sum".into(),
            "maildir" => "queue/maildir {ROOM}/mail".into(),
            other => self.queues().into_iter().find(|(name, _)| *name == other).unwrap().1,
        };
        room.config("plugins", &format!("{CHAIN}{line}\n"));
        room
    }

    /// The lines that hand mail to this Postfix.
    pub fn queues(&self) -> [(&'static str, String); 3] {
        [
            ("postfix-queue", format!("queue/postfix-queue {}", self.postfix.socket().display())),
            ("postdrop", "queue/postdrop".into()),
            ("smtp-forward", format!("queue/smtp-forward 127.0.0.1 {}", self.smtpd_port)),
        ]
    }

    /// Puts the room's program under tcpserver, as nobody in group postdrop. It sees this Postfix as the machine's own.
    pub fn serve(&self, room: &Room) -> Server {
        let program = [room.own_binary(), "--config".into(), room.path("config")];
        self.serve_program(room, &program)
    }

    /// As [`Load::serve`], with another program.
    pub fn serve_program(&self, room: &Room, program: &[PathBuf]) -> Server {
        let script = "mount --bind \"$1\" /etc/postfix; shift; exec setpriv --reuid=nobody --regid=postdrop --clear-groups \
                      --pdeathsig KILL \"$@\"";
        let server = Server::start(|port| {
            let mut command = Command::new(&self.unshare);
            command.args(["-m", "sh", "-ec", script, "sh"]).arg(self.postfix.path("etc"));
            command
                .args(["tcpserver", "-RHl0", "-c", "100", "-b", "100", "127.0.0.1", &port.to_string()])
                .args(program);
            command.env_clear().envs(room.environment()).env("QMAILQUEUE", room.path("bin/queue"));
            command.current_dir(room.root());
            let log = File::create(room.path("log/launcher")).unwrap();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command
        });
        server.unwrap_or_else(|| panic!("tcpserver: {}", fs::read_to_string(room.path("log/launcher")).unwrap()))
    }

    /// Sends mails to this port, each to a recipient of its own, and waits until they are through Postfix.
    /// The numbers of those that Postfix says it delivered are compared with those sent.
    pub fn send(&self, port: u16, plan: Plan) -> Taken {
        let (begun, accepted_s, name) = self.source(port, plan);
        self.postfix.idle();
        let delivered_s = begun.elapsed().as_secs_f64();
        // Its log comes through a process of its own, which may be behind by a moment.
        let until = Instant::now() + Duration::from_secs(5);
        let mut log = self.postfix.log();
        loop {
            thread::sleep(Duration::from_millis(50));
            let before = std::mem::replace(&mut log, self.postfix.log());
            let counts = deliveries(&log, &format!("{name}@here.example"));
            let lost = (1..=plan.mails).filter(|number| !counts.contains_key(number)).count();
            if (lost == 0 && log.len() == before.len()) || Instant::now() > until {
                let doubled = counts.values().filter(|count| **count > 1).count();
                return Taken { accepted_s, delivered_s, lost, doubled };
            }
        }
    }

    /// Sends mails to a port that keeps none: seconds that it took.
    pub fn send_into_nothing(&self, port: u16, plan: Plan) -> f64 {
        self.source(port, plan).1
    }

    /// What postern gives to postdrop for one such mail; [`Load::postdrop`] takes it.
    pub fn records(&self, plan: Plan) -> Vec<u8> {
        let room = self.room("queue/postdrop ../bin/drop");
        let script = format!("#!/bin/sh\ntee {} | /usr/sbin/postdrop \"$@\"\n", room.path("queue/records").display());
        fs::write(room.path("bin/drop"), script).unwrap();
        fs::set_permissions(room.path("bin/drop"), fs::Permissions::from_mode(0o755)).unwrap();
        self.send(self.serve(&room).port, Plan { mails: 1, sessions: 1, ..plan });
        fs::read(room.path("queue/records")).unwrap()
    }

    /// Gives these records to postdrop itself, as often as the plan says: seconds that it took.
    pub fn postdrop(&self, records: &[u8], plan: Plan) -> f64 {
        let left = AtomicUsize::new(plan.mails);
        let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |mails| mails.checked_sub(1)).is_ok();
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..plan.sessions {
                scope.spawn(|| {
                    while take() {
                        let mut postdrop = Command::new("/usr/sbin/postdrop");
                        postdrop.arg("-c").arg(self.postfix.path("etc")).arg("-r");
                        let mut child = postdrop.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
                        child.stdin.take().unwrap().write_all(records).unwrap();
                        assert!(child.wait().unwrap().success());
                    }
                });
            }
        });
        let elapsed_s = begun.elapsed().as_secs_f64();
        self.postfix.idle();
        elapsed_s
    }

    /// When it was started, the seconds that it took, and what the recipients' names hold after their number.
    fn source(&self, port: u16, plan: Plan) -> (Instant, f64, String) {
        let name = format!("-load{}", self.loads.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(&self.source);
        // A reply that is not the expected one ends it, with a status that says so.
        command.args(["-N", "-4", "-M", "client.example", "-f", "a@client.example", "-t"]);
        command.arg(format!("{name}@here.example"));
        for (option, number) in [("-m", plan.mails), ("-l", plan.octets), ("-s", plan.sessions)] {
            command.arg(option).arg(number.to_string());
        }
        if plan.reuse {
            command.arg("-d");
        }
        let begun = Instant::now();
        let done = command.arg(format!("127.0.0.1:{port}")).output().unwrap();
        let accepted_s = begun.elapsed().as_secs_f64();
        assert!(done.status.success(), "{plan:?}: {done:?}");
        (begun, accepted_s, name)
    }
}

/// How often each number was delivered, by the log: `to=<17-load3@here.example>, ... status=sent`.
fn deliveries(log: &str, recipient: &str) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for line in log.lines().filter(|line| line.contains(" status=sent ")) {
        let number = line.split_once(" to=<").and_then(|(_, rest)| rest.split_once(recipient));
        if let Some(number) = number.and_then(|(number, rest)| rest.starts_with('>').then(|| number.parse().ok())?) {
            *counts.entry(number).or_default() += 1;
        }
    }
    counts
}

fn quiet(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}

/// How much more memory a longer message may take (kB): Linux counts pages in lots of 32 for each processor, and what it
/// shows of the same program differs by some of them from run to run.
pub const SAME_KB: u64 = 1024;

/// The queues that a large message is put through.
pub const STREAMING: [&str; 6] = ["postfix-queue", "postdrop", "smtp-forward", "lmtp", "pipe", "maildir"];

/// What a large message took.
#[derive(Debug, Clone, Copy)]
pub struct Large {
    /// The most memory that postern itself had at any time, kB.
    pub mark_kb: u64,
    /// From 354 to the reply.
    pub elapsed_s: f64,
}

/// Puts one message of so many million octets through the room.
pub fn large(room: &Room, megabytes: usize) -> Large {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let end = OwnedFd::from(listener.accept().unwrap().0);
    let log = File::create(room.path("log/stderr")).unwrap();
    let mut command = Command::new(room.program());
    command.arg("--config").arg(room.path("config")).env_clear().envs(room.environment()).current_dir(room.root());
    command.stdin(end.try_clone().unwrap()).stdout(end).stderr(log);
    let mut child: Child = command.spawn().unwrap();
    drop(command);
    let mut reader = BufReader::new(&stream);
    let mut expect = |code: &str| {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let log = || fs::read_to_string(room.path("log/stderr")).unwrap_or_default();
            assert!(line.starts_with(code), "{code} expected: {line:?}\n{}", log());
            if line.as_bytes().get(3) != Some(&b'-') {
                return;
            }
        }
    };
    expect("220");
    let mut say = &stream;
    say.write_all(b"EHLO client.example\r\n").unwrap();
    expect("250");
    say.write_all(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@here.example>\r\nDATA\r\n").unwrap();
    ["250", "250", "354"].into_iter().for_each(&mut expect);
    say.write_all(b"From: a@client.example\r\nSubject: large\r\n\r\n").unwrap();
    let block = [&[b'x'; 98], b"\r\n".as_slice()].concat().repeat(10_000);
    let begun = Instant::now();
    (0..megabytes).for_each(|_| say.write_all(&block).unwrap());
    say.write_all(b".\r\n").unwrap();
    expect("250");
    let elapsed_s = begun.elapsed().as_secs_f64();
    // The kernel keeps the highest mark, and the process still waits for a command.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let mark_kb = mark.split_whitespace().next().unwrap().parse().unwrap();
    say.write_all(b"QUIT\r\n").unwrap();
    expect("221");
    assert!(child.wait().unwrap().success());
    Large { mark_kb, elapsed_s }
}
