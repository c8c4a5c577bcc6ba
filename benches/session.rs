//! What postern costs, beside programs that do the least that can be done (`floor/`), in one interleaved run: ratios hold on
//! a busy machine where rates do not.
//!
//! ```text
//! cargo bench --target x86_64-unknown-linux-musl --bench session              # all of it, on the build for installing
//! cargo bench --target x86_64-unknown-linux-musl --bench session -- quit data # only these sections
//! POSTERN_TEST_BINARY=/usr/local/bin/postern cargo bench --bench session      # another build
//! ```
//! Sections: `quit` (CPU of a session that only says QUIT), `exact` (its instructions, system calls, CPUIDs, page faults),
//! `idle` (memory of a waiting connection), `message` (CPU of a session with one message), `pipe` (many messages from a
//! pipelining client), `data` (large messages, and the memory they take), `growth` (what a further plugin costs that has nothing to do). The floors are compiled by `rustc` on the way.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/cost.rs"]
#[allow(dead_code, unreachable_pub)]
mod cost;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use cost::Look;
use tempfile::TempDir;

/// A usual chain, without anything that waits or asks the outside.
const CHAIN: &str = "rcpt_ok\nqueue/qmail-queue\n";

/// Every ratio is taken within a round, and the median of the rounds is shown.
const ROUNDS: usize = 9;
/// Plugins that have nothing to do in a session that only says QUIT, with no list file there.
const IDLE: &[&str] = &[
    "addsig",
    "badmailfrom",
    "badmailfromto",
    "badrcptto",
    "client_options",
    "count_denies",
    "count_unrecognized_commands",
    "delay_deny",
    "dnsbl",
    "dont_require_anglebrackets",
    "footer",
    "headers",
    "helo",
    "hosts_allow",
    "loop",
    "naughty",
    "noop_counter",
    "relay",
    "resolvable_fromhost",
    "rhsbl",
    "tarpit",
    "whitelist",
];
const SESSIONS_PER_ROUND: usize = 100;
const PIPED_MESSAGES: usize = 1000;
const MESSAGE_OCTETS: usize = 4096;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Without it this is a test run, which has nothing to measure.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let wanted: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let bench = Bench::new();
    println!("postern: {}, {} octets", bench.binary.display(), bench.binary.metadata().unwrap().len());
    println!("floors:  {}", if bench.floors_are_musl { "static musl" } else { "the host's kind" });
    let sections: [(&str, fn(&Bench)); 7] = [
        ("quit", Bench::quit),
        ("exact", Bench::exact),
        ("idle", Bench::idle),
        ("message", Bench::message),
        ("pipe", Bench::pipe),
        ("data", Bench::data),
        ("growth", Bench::growth),
    ];
    for (name, section) in sections {
        if wanted.is_empty() || wanted.contains(&name) {
            section(&bench);
        }
    }
}

/// One directory with all that a run needs.
struct Bench {
    dir: TempDir,
    binary: PathBuf,
    floors_are_musl: bool,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("config");
        fs::create_dir(&config).unwrap();
        for (name, text) in [("me", "mx.example\n"), ("rcpthosts", "here.example\n"), ("plugins", CHAIN)] {
            fs::write(config.join(name), text).unwrap();
        }
        let built = || env!("CARGO_BIN_EXE_postern").into();
        let binary = std::env::var_os("POSTERN_TEST_BINARY").map_or_else(built, PathBuf::from);
        let floor = |name, musl| compile(name, &dir.path().join(name), musl);
        let floors_are_musl = floor("quit", true);
        for name in ["quit", "queue", "dialog"] {
            assert!(floor(name, floors_are_musl), "rustc cannot compile the floor {name}");
        }
        Self { dir, binary, floors_are_musl }
    }

    /// As under tcpserver.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("QMAILQUEUE", self.dir.path().join("queue"));
        command.env("TMPDIR", self.dir.path());
        for (name, value) in [("IP", "127.0.0.1"), ("PORT", "40000")] {
            command.env(format!("TCPREMOTE{name}"), value);
        }
        for (name, value) in [("IP", "127.0.0.1"), ("PORT", "25"), ("HOST", "mx.example")] {
            command.env(format!("TCPLOCAL{name}"), value);
        }
        command.env("PROTO", "TCP");
        command
    }

    fn postern(&self) -> Command {
        let mut command = self.command(&self.binary);
        command.arg("--config").arg(self.dir.path().join("config"));
        command
    }

    fn floor(&self, name: &str) -> Command {
        self.command(&self.dir.path().join(name))
    }

    /// CPU of both, in turns: (milliseconds a session of postern's, of the floor's, their ratio), medians.
    fn compare(&self, floor: &str, dialog: cost::Dialog, sessions: usize) -> (f64, f64, f64) {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut our, mut their) = (0.0, 0.0);
            for _ in 0..sessions {
                our += cost::session(&mut self.postern(), dialog).unwrap().cpu_s;
                their += cost::session(&mut self.floor(floor), dialog).unwrap().cpu_s;
            }
            ours.push(our * 1e3 / sessions as f64);
            theirs.push(their * 1e3 / sessions as f64);
            ratios.push(our / their);
        }
        (median(ours), median(theirs), median(ratios))
    }

    fn quit(&self) {
        let (ours, theirs, ratio) = self.compare("quit", cost::quit, SESSIONS_PER_ROUND);
        println!("quit: CPU ms per session: postern {ours:.3}, floor {theirs:.3}, ratio {ratio:.2}");
    }

    fn exact(&self) {
        for (name, mut command) in [("postern", self.postern()), ("floor", self.floor("quit"))] {
            let counts = cost::count(&command, cost::quit, Look::Instructions).unwrap();
            let faults = cost::session(&mut command, cost::quit).unwrap().faults;
            println!(
                "exact: {name}: {} instructions, {} system calls, {} CPUIDs, {faults} page faults",
                counts.instructions, counts.syscalls, counts.cpuids
            );
        }
    }

    /// Of many at once, because pages that they share are counted in parts.
    fn idle(&self) {
        for (name, program) in
            [("postern", Bench::postern as fn(&Bench) -> Command), ("floor", |bench| bench.floor("quit"))]
        {
            let mut all = Vec::new();
            for _ in 0..100 {
                let (end, client) = cost::connection().unwrap();
                let mut command = program(self);
                let child = cost::serve(&mut command, end).unwrap();
                drop(command);
                BufReader::new(&client).read_line(&mut String::new()).unwrap();
                all.push((child, client));
            }
            let pss: u64 = all.iter().map(|(child, _)| proc_kb(child.id(), "smaps_rollup", "Pss:")).sum();
            println!("idle: {name}: {} kB PSS per connection, 100 at once", pss / 100);
            for (mut child, client) in all {
                drop(client);
                child.wait().unwrap();
            }
        }
    }

    fn message(&self) {
        let one: cost::Dialog = |client| Client::new(client)?.messages(1, MESSAGE_OCTETS);
        let (ours, theirs, ratio) = self.compare("dialog", one, SESSIONS_PER_ROUND);
        println!(
            "message: CPU ms per session with {MESSAGE_OCTETS} octets: postern {ours:.3}, floor {theirs:.3}, ratio {ratio:.2}"
        );
    }

    fn pipe(&self) {
        let many: cost::Dialog = |client| Client::new(client)?.messages(PIPED_MESSAGES, MESSAGE_OCTETS);
        for (name, mut command) in [("postern", self.postern()), ("floor", self.floor("dialog"))] {
            let begun = Instant::now();
            let cpu_ms = cost::session(&mut command, many).unwrap().cpu_s * 1e3 / PIPED_MESSAGES as f64;
            let rate = PIPED_MESSAGES as f64 / begun.elapsed().as_secs_f64();
            println!("pipe: {name}: {rate:.0} messages/s on one connection, {cpu_ms:.3} CPU ms each");
        }
    }

    /// Each idle plugin alone, then twenty at once beside none.
    fn growth(&self) {
        let config = self.dir.path().join("config");
        let with = |more: &[&str]| {
            let lines: String = more.iter().map(|line| format!("{line}\n")).collect();
            fs::write(config.join("plugins"), format!("{lines}{CHAIN}")).unwrap();
        };
        let instructions = || cost::count(&self.postern(), cost::quit, Look::Instructions).unwrap().instructions;
        with(&[]);
        let alone = instructions();
        for name in IDLE {
            with(&[name]);
            println!("growth: {name}: {:+} instructions", instructions().cast_signed() - alone.cast_signed());
        }
        let twenty = &IDLE[..18];
        let cpu = |more: &[&str]| {
            with(more);
            let sum: f64 =
                (0..SESSIONS_PER_ROUND).map(|_| cost::session(&mut self.postern(), cost::quit).unwrap().cpu_s).sum();
            sum
        };
        let ratios = (0..ROUNDS).map(|_| cpu(twenty) / cpu(&[])).collect();
        with(twenty);
        println!(
            "growth: 20 plugins: {:+} instructions, {:.2} times the CPU of 2",
            instructions().cast_signed() - alone.cast_signed(),
            median(ratios)
        );
        with(&[]);
    }

    fn data(&self) {
        for (megabytes, columns) in [(1, 72), (250, 72), (250, 990)] {
            let (mut lines, mut rates, mut cpus) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..3 {
                let postern = large(self.postern(), megabytes, columns);
                let floor = large(self.floor("dialog"), megabytes, columns);
                rates.push(postern.0 / floor.0);
                cpus.push(postern.1 / floor.1);
                lines.push((postern, floor));
            }
            let ((rate, cpu, hwm), (floor_rate, floor_cpu, floor_hwm)) = lines[1];
            println!(
                "data: {megabytes} MB in lines of {columns}: postern {rate:.0} MB/s, {cpu:.2} CPU s/GB, VmHWM {hwm} kB; floor \
                 {floor_rate:.0} MB/s, {floor_cpu:.2} CPU s/GB, VmHWM {floor_hwm} kB; ratios {:.2} of its rate, {:.2} of its CPU",
                median(rates),
                median(cpus)
            );
        }
    }
}

/// Sends one message: (MB/s from 354 to the reply, CPU s per GB, VmHWM in kB of the program alone).
fn large(mut command: Command, megabytes: usize, columns: usize) -> (f64, f64, u64) {
    let before = cost::usages().unwrap();
    let (end, stream) = cost::connection().unwrap();
    let mut child = cost::serve(&mut command, end).unwrap();
    drop(command);
    let mut client = Client::new(&stream).unwrap();
    client.group().unwrap();
    let block = lines(1_000_000, columns);
    let begun = Instant::now();
    for _ in 0..megabytes {
        client.send(&block).unwrap();
    }
    client.send(b".\r\n").unwrap();
    client.expect("250").unwrap();
    let elapsed = begun.elapsed().as_secs_f64();
    let hwm = proc_kb(child.id(), "status", "VmHWM:");
    client.send(b"QUIT\r\n").unwrap();
    client.expect("221").unwrap();
    child.wait().unwrap();
    let cpu_s = cost::usages().unwrap().cpu_s - before.cpu_s;
    (megabytes as f64 / elapsed, cpu_s / (megabytes as f64 / 1e3), hwm)
}

/// A client as most are: it sends MAIL, RCPT and DATA in one write, and waits for the replies.
struct Client<'a> {
    reader: BufReader<&'a TcpStream>,
    stream: &'a TcpStream,
}

impl<'a> Client<'a> {
    fn new(stream: &'a TcpStream) -> io::Result<Self> {
        let mut client = Self { reader: BufReader::new(stream), stream };
        client.expect("220")?;
        client.send(b"EHLO client.example\r\n")?;
        client.expect("250")?;
        Ok(client)
    }

    fn messages(&mut self, messages: usize, octets: usize) -> io::Result<()> {
        let mut body = lines(octets, 72);
        body.extend_from_slice(b".\r\n");
        for _ in 0..messages {
            self.group()?;
            self.send(&body)?;
            self.expect("250")?;
        }
        self.send(b"QUIT\r\n")?;
        self.expect("221")?;
        self.reader.read_to_end(&mut Vec::new()).map(drop)
    }

    fn group(&mut self) -> io::Result<()> {
        self.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@here.example>\r\nDATA\r\n")?;
        ["250", "250", "354"].iter().try_for_each(|code| self.expect(code))
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    /// Reads one whole reply.
    fn expect(&mut self, code: &str) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            if !line.starts_with(code) {
                return Err(io::Error::other(format!("{code} expected: {line:?}")));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}

/// A header and lines of this length with their CRLF, `octets` or a little less.
fn lines(octets: usize, columns: usize) -> Vec<u8> {
    let mut text = b"From: a@client.example\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nSubject: x\r\n\r\n".to_vec();
    while text.len() + columns <= octets {
        text.resize(text.len() + columns - 2, b'x');
        text.extend_from_slice(b"\r\n");
    }
    text
}

fn proc_kb(pid: u32, file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Compiles a floor; false where rustc cannot.
fn compile(name: &str, to: &Path, musl: bool) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/floor/{name}.rs"));
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "-o"]).arg(to).arg(source);
    if musl {
        rustc.args(["--target", "x86_64-unknown-linux-musl"]);
    }
    rustc.output().is_ok_and(|output| output.status.success())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
