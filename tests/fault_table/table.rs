//! The runs of one backend: each with one fault and a message of its own, then one look at all that is stored.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::backends::{Backend, Far};
use crate::common::play::{End, Outcome, Play};
use crate::common::replies::Reply;
use crate::common::room::Room;
use crate::common::{handover, require, store};
use crate::cut::{At, Break, Link};

/// The longest that a run may take: generous, because the machine may be busy.
const LIMIT: Duration = Duration::from_secs(20);

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9 of postern at one of its system calls.
    Killed,
    /// The same at a moment.
    KilledInTime,
    /// kill -9 of the program or the server's process.
    FarKilled,
    /// The connection ends after some octets.
    Cut,
    /// One system call fails.
    Fails,
    /// One system call is interrupted.
    Interrupted,
    /// The far end stops for ever.
    Stalls,
    /// The far end's disk is full, or may not be written to.
    Full,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Kind::Killed => "postern killed at a system call",
            Kind::KilledInTime => "postern killed at some moment",
            Kind::FarKilled => "far end killed",
            Kind::Cut => "connection cut",
            Kind::Fails => "a system call fails once",
            Kind::Interrupted => "a system call gets EINTR",
            Kind::Stalls => "far end stalls",
            Kind::Full => "disk full, or not to be written to",
        }
    }
}

/// How it is done.
enum How {
    /// The program under test runs under these words.
    Under(Vec<OsString>),
    /// The backend's program does.
    Program(String),
    Link(At, Break),
    /// The server's processes of this name are killed after this time.
    Daemon(Duration),
    /// Another line and other words: the far end is in a bad way.
    Line(String, Vec<OsString>),
}

struct Case {
    kind: Kind,
    what: String,
    long: bool,
    how: How,
}

/// What a run came to.
struct Run {
    reply: Option<Reply>,
    outcome: Outcome,
    /// Whether a process of the server was killed.
    hit: Arc<AtomicBool>,
}

/// How many runs with a kill each backend gets; the other kinds follow it.
pub fn runs() -> usize {
    std::env::var("POSTERN_FAULT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn mark(number: usize) -> String {
    format!("mark-{number}-x")
}

/// A message with all that a far end would otherwise add.
fn message(mark: &str, long: bool) -> Vec<u8> {
    let lines = if long { 3200 } else { 8 };
    let body = ".a line that begins with a dot\r\n".repeat(lines);
    format!(
        "From: <a@client.example>\r\nTo: <x@here.example>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
         Message-ID: <{mark}@client.example>\r\nSubject: {mark}\r\n\r\n{body}end of {mark}\r\n"
    )
    .into_bytes()
}

/// Whether `stored` is `sent` with nothing but trace fields before it.
fn is_whole(stored: &[u8], sent: &[u8]) -> bool {
    const TRACE: [&str; 6] =
        ["received:", "return-path:", "delivered-to:", "x-original-to:", "authentication-results:", "envelope-to:"];
    let sent: Vec<u8> = sent.iter().copied().filter(|octet| *octet != b'\r').collect();
    let Some(before) = stored.strip_suffix(&*sent) else { return false };
    let before = String::from_utf8_lossy(before).to_ascii_lowercase();
    before.lines().all(|line| line.starts_with([' ', '\t']) || TRACE.iter().any(|name| line.starts_with(name)))
}

fn mark_of(stored: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(stored, b"\nSubject: mark-")? + "\nSubject: mark-".len();
    let digits = stored[at..].iter().take_while(|octet| octet.is_ascii_digit()).count();
    std::str::from_utf8(&stored[at..at + digits]).ok()?.parse().ok()
}

fn room(line: &str) -> Room {
    let room = Room::new(&format!("rcpt_ok\n{line}\n"));
    // So that a long message waits in a file.
    room.config("size_threshold", "65536\n");
    room
}

/// Limits that a busy machine does not reach.
const PATIENT: &str = "timeout 10 deadline 20";
const SHORT: &str = "timeout 1 deadline 4";

impl Backend {
    fn line_to(&self, to: &str, limits: &str) -> String {
        self.line.replace("{TO}", to).replace("{LIMITS}", limits)
    }

    fn to(&self) -> String {
        match &self.far {
            Far::Disk(dir) => dir.display().to_string(),
            Far::Program(program) => program.display().to_string(),
            Far::Server(port) => format!("127.0.0.1:{port}"),
        }
    }

    fn run(&self, number: usize, case: &Case) -> Run {
        let limits = if case.kind == Kind::Stalls { SHORT } else { PATIENT };
        let input = handover::session("a@client.example", "x@here.example", &message(&mark(number), case.long));
        let mut link = None;
        let line = match &case.how {
            How::Line(line, _) => line.clone(),
            How::Link(at, how) => {
                let Far::Server(port) = self.far else { panic!("no server") };
                let made = link.insert(Link::new(port, *at, *how));
                self.line_to(&format!("127.0.0.1:{}", made.port), limits)
            }
            _ => self.line_to(&self.to(), limits),
        };
        let room = room(&line);
        let play = Play::new(&room).limit(2 * LIMIT);
        let hit = Arc::<AtomicBool>::default();
        let play = match &case.how {
            How::Under(words) | How::Line(_, words) => play.under(words),
            How::Program(before) => play.variable("POSTERN_TEST_BEFORE", before),
            How::Link(..) => play,
            How::Daemon(after) => {
                let (parent, name, after) = (self.daemon.unwrap().0, self.daemon.unwrap().1, *after);
                let hit = Arc::clone(&hit);
                thread::spawn(move || {
                    thread::sleep(after);
                    hit.store(kill_children(parent, name), Ordering::Relaxed);
                });
                play
            }
        };
        let outcome = play.run(&input);
        Run { reply: handover::verdict(&outcome), outcome, hit }
    }
}

/// Kills the children of this process that have this name; whether there were any. Those that have just begun are left alone: a
/// service whose processes die before they are ready is not started again for a while.
fn kill_children(parent: u32, name: &str) -> bool {
    let up = fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = up.split(' ').next().unwrap().parse().unwrap();
    let mut hit = false;
    for process in store::names(Path::new("/proc")) {
        let Ok(text) = fs::read_to_string(process.join("stat")) else { continue };
        // `PID (NAME) STATE PPID ...`
        let Some((before, after)) = text.rsplit_once(") ") else { continue };
        let Some((id, found)) = before.split_once(" (") else { continue };
        let field = |at: usize| after.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok());
        // In hundredths of a second, whatever the kernel counts in.
        let age = up - field(19).unwrap_or(u64::MAX) as f64 / 100.0;
        if found == name
            && field(1) == Some(parent.into())
            && age > 0.1
            && let Ok(id) = id.parse()
        {
            hit |= kill(Pid::from_raw(id), Signal::SIGKILL).is_ok();
        }
    }
    hit
}

// ---- the cases

/// A system call: its name, the how manieth of it, as strace showed it.
#[derive(Clone)]
struct Call {
    name: String,
    number: usize,
    text: String,
}

fn calls(trace: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&fs::read(trace).unwrap()).into_owned();
    let mut seen = BTreeMap::<String, usize>::new();
    let named = text.lines().filter_map(|line| Some((line.split_once('(')?.0, line)));
    let ours = named.filter(|(name, _)| name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_'));
    ours.map(|(name, line)| {
        let number = seen.entry(name.to_owned()).or_default();
        *number += 1;
        Call { name: name.to_owned(), number: *number, text: line.to_owned() }
    })
    .collect()
}

/// `count` of these, evenly spread from the first to the last, and from the start again where there are fewer.
fn spread<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    assert!(!all.is_empty(), "nothing to choose from");
    let last = all.len() - 1;
    let step = |at: usize| if count > all.len() { at % all.len() } else { at * last / (count - 1).max(1) };
    (0..count).map(|at| all[step(at)].clone()).collect()
}

fn strace(strace: &Path, inject: &str) -> Vec<OsString> {
    let words = ["-qq", "-o", "/dev/null", "-e"].map(OsString::from);
    [strace.into()].into_iter().chain(words).chain([inject.into()]).collect()
}

/// Errors that may befall a call. `close` is left out: the kernel closes also where it says that it failed, which cannot be
/// injected.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" => {
            &["ENOSPC", "EIO", "EDQUOT", "EPIPE", "ECONNRESET", "EAGAIN"]
        }
        "read" | "pread64" | "recvfrom" | "readv" => &["EIO", "ECONNRESET", "ENOMEM"],
        "openat" | "open" | "memfd_create" => &["EMFILE", "ENFILE", "ENOSPC", "EDQUOT", "EACCES", "EIO", "ENOMEM"],
        "fsync" | "fdatasync" | "ftruncate" => &["EIO", "ENOSPC", "EDQUOT"],
        "linkat" | "link" | "rename" | "renameat" | "renameat2" | "mkdir" | "unlink" | "unlinkat" => {
            &["ENOSPC", "EIO", "EDQUOT", "EACCES", "EROFS"]
        }
        "connect" => &["ECONNREFUSED", "ETIMEDOUT", "EACCES", "ENETUNREACH"],
        "socket" | "pipe2" | "dup" | "dup2" | "fcntl" | "pidfd_open" => &["EMFILE", "ENFILE", "ENOMEM"],
        "clone" | "clone3" | "vfork" | "fork" => &["EAGAIN", "ENOMEM"],
        "poll" | "ppoll" => &["ENOMEM", "EINVAL"],
        "wait4" | "waitid" => &["ECHILD"],
        "lseek" | "fstat" | "statx" | "newfstatat" | "ioctl" => &["EIO", "ENOMEM"],
        "mmap" | "brk" | "mremap" => &["ENOMEM"],
        "setsockopt" | "getsockopt" => &["EINVAL", "ENOBUFS"],
        _ => &[],
    }
}

/// Calls that a signal may interrupt, as far as the kernel does that with what the call is used for here.
const INTERRUPTED: [&str; 15] = [
    "write",
    "writev",
    "pwrite64",
    "sendto",
    "read",
    "pread64",
    "recvfrom",
    "poll",
    "ppoll",
    "wait4",
    "waitid",
    "openat",
    "fsync",
    "clock_nanosleep",
    "sendmsg",
];

/// From the line that says "go on" to the end: receiving, the hand-over and what follows it.
fn hand_over(calls: Vec<Call>) -> Vec<Call> {
    let from = calls.iter().position(|call| call.text.contains("354 go ahead")).expect("a 354");
    calls.into_iter().skip(from + 1).filter(|call| call.name != "exit_group").collect()
}

fn cases(backend: &Backend, runs: usize) -> Option<Vec<Case>> {
    let program = require("strace")?;
    let mut cases = Vec::new();
    let mut number = 1_000_000;
    for long in [false, true] {
        let share = if long { runs / 2 } else { runs - runs / 2 };
        // Once as it is, for its calls, its length in time and what goes over its link.
        let (before, other) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let words = |trace: &Path| -> Vec<OsString> {
            [program.as_os_str(), "-qq".as_ref(), "-s400".as_ref(), "-o".as_ref(), trace.as_os_str()]
                .iter()
                .map(Into::into)
                .collect()
        };
        let mut plain = |how| {
            number += 1;
            let case = Case { kind: Kind::Killed, what: "no fault".to_owned(), long, how };
            let run = backend.run(number, &case);
            let reply = run.reply.as_ref().map(Reply::class);
            assert_eq!(reply, Some(2), "{}, without a fault: {:?}", backend.name, run.outcome);
            run.outcome.elapsed
        };
        plain(How::Under(words(before.path())));
        let time = plain(How::Under(Vec::new()));
        let own = hand_over(calls(before.path()));
        let mut add = |kind, what: String, how| cases.push(Case { kind, what, long, how });

        for call in spread(&own, share - share / 4) {
            let inject = format!("inject={}:signal=KILL:when={}", call.name, call.number);
            add(Kind::Killed, call.text, How::Under(strace(&program, &inject)));
        }
        for at in 0..share / 4 {
            let after = time.mul_f64((at + 1) as f64 / (share / 4) as f64).as_secs_f64();
            let words = ["timeout", "--foreground", "-s", "KILL", &format!("{after:.6}")].map(OsString::from);
            add(Kind::KilledInTime, format!("after {after:.6} s"), How::Under(words.into()));
        }
        let failing: Vec<(Call, &str)> =
            own.iter().flat_map(|call| errors(&call.name).iter().map(move |error| (call.clone(), *error))).collect();
        for (call, error) in spread(&failing, (share / 2).min(100)) {
            let inject = format!("inject={}:error={error}:when={}", call.name, call.number);
            add(Kind::Fails, format!("{error}: {}", call.text), How::Under(strace(&program, &inject)));
        }
        let waiting: Vec<Call> = own.iter().filter(|call| INTERRUPTED.contains(&&*call.name)).cloned().collect();
        for call in spread(&waiting, (share / 4).min(40)) {
            let inject = format!("inject={}:error=EINTR:when={}", call.name, call.number);
            add(Kind::Interrupted, call.text, How::Under(strace(&program, &inject)));
        }
        let stalls = (share / 5).min(12);
        match &backend.far {
            Far::Disk(_) => {}
            Far::Program(_) => {
                plain(How::Program(format!("strace -qq -o {}", other.path().display())));
                let theirs = calls(other.path());
                let of = |call: &Call, signal: &str| {
                    let inject = format!("inject={}:signal={signal}:when={}", call.name, call.number);
                    How::Program(format!("strace -qq -o /dev/null -e {inject}"))
                };
                let theirs: Vec<Call> = theirs.into_iter().filter(|call| call.name != "exit_group").collect();
                // The loader's calls are many and all alike: the second half has all that matters.
                let late = &theirs[theirs.len() / 2..];
                for call in spread(late, (share / 2).min(60)) {
                    add(Kind::FarKilled, call.text.clone(), of(&call, "KILL"));
                }
                for call in spread(late, stalls) {
                    add(Kind::Stalls, call.text.clone(), of(&call, "STOP"));
                }
            }
            Far::Server(port) => {
                let link = Link::new(*port, At::Never, Break::Closed);
                let line = backend.line_to(&format!("127.0.0.1:{}", link.port), PATIENT);
                plain(How::Line(line, Vec::new()));
                let (asked, answered) = link.carried();
                let places = |count: usize| -> Vec<At> {
                    let half = count.div_ceil(2);
                    let asked = (0..count - half).map(move |at| At::Asked((at + 1) * asked / (count - half)));
                    let answered = (0..half).map(move |at| At::Answered(at * answered / half));
                    asked.chain(answered).collect()
                };
                for at in places((share / 2).min(60)) {
                    add(Kind::Cut, format!("{at:?}"), How::Link(at, Break::Closed));
                }
                for at in places(stalls) {
                    add(Kind::Stalls, format!("{at:?}"), How::Link(at, Break::Dead));
                }
                let times = (share / 4).min(30);
                for at in 0..times {
                    let after = time.mul_f64((at + 1) as f64 / times as f64);
                    add(Kind::FarKilled, format!("after {after:?}"), How::Daemon(after));
                }
            }
        }
    }
    for (what, long, line, words) in &backend.full {
        let line = line.replace("{LIMITS}", "timeout 3 deadline 6");
        cases.push(Case {
            kind: Kind::Full,
            what: (*what).to_owned(),
            long: *long,
            how: How::Line(line, words.iter().map(OsString::from).collect()),
        });
    }
    Some(cases)
}

// ---- running and counting

/// Two at a time; what came of each, in order.
fn run_all(backend: &Backend, cases: &[Case]) -> Vec<Run> {
    let next = AtomicUsize::new(0);
    let turn = || {
        let mut done = Vec::new();
        while let Some(case) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            cases.get(at).map(|case| (at, case))
        } {
            done.push((case.0, backend.run(case.0, case.1)));
        }
        done
    };
    let mut runs: Vec<(usize, Run)> = thread::scope(|scope| {
        let workers = [scope.spawn(turn), scope.spawn(turn)];
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    runs.sort_by_key(|(at, _)| *at);
    runs.into_iter().map(|(_, run)| run).collect()
}

/// Everything that is stored, by its mark, once all that was acknowledged is there and nothing comes any more.
fn stored(backend: &Backend, wanted: &[usize]) -> BTreeMap<usize, Vec<Vec<u8>>> {
    // Postfix looks every 5 s after what nobody told it of.
    let quiet = Duration::from_millis(if runs() > 100 { 8000 } else { 1500 });
    let (until, mut since, mut last) = (Instant::now() + 3 * LIMIT, Instant::now(), usize::MAX);
    loop {
        let all = (backend.stored)();
        let mut found = BTreeMap::<usize, Vec<Vec<u8>>>::new();
        for one in all {
            if let Some(mark) = mark_of(&one) {
                found.entry(mark).or_default().push(one);
            }
        }
        let count = found.values().map(Vec::len).sum();
        if count != last {
            (last, since) = (count, Instant::now());
        }
        let all = wanted.iter().all(|mark| found.contains_key(mark));
        if all && since.elapsed() > quiet || Instant::now() > until {
            return found;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A line of the table.
#[derive(Default)]
struct Tally {
    runs: usize,
    killed: usize,
    accepted: usize,
    lost: usize,
    half: usize,
    landed: usize,
    hung: usize,
}

/// Runs everything and prints the backend's lines. A, B and D must be 0.
pub fn try_all(backend: Option<Backend>) {
    let Some(backend) = backend else { return };
    let Some(cases) = cases(&backend, runs()) else { return };
    let results = run_all(&backend, &cases);
    let yes = |run: &Run| run.reply.as_ref().is_some_and(|reply| reply.class() == 2);
    let wanted: Vec<usize> = results.iter().enumerate().filter(|(_, run)| yes(run)).map(|(at, _)| at).collect();
    let found = stored(&backend, &wanted);
    let mut table = BTreeMap::<Kind, Tally>::new();
    let mut wrong = Vec::new();
    for (at, (case, run)) in cases.iter().zip(&results).enumerate() {
        let none = Vec::new();
        let copies = found.get(&at).unwrap_or(&none);
        let sent = message(&mark(at), case.long);
        let (accepted, tally) = (yes(run), table.entry(case.kind).or_default());
        let hung = run.outcome.end == End::Overtime || !run.outcome.released || run.outcome.elapsed > LIMIT + LIMIT / 2;
        let half = copies.iter().filter(|copy| !is_whole(copy, &sent)).count();
        tally.runs += 1;
        let died = matches!(run.outcome.end, End::Signal(9) | End::Code(137));
        // The log says so of a program.
        let hit = run.hit.load(Ordering::Relaxed) || run.outcome.log.contains("by signal 9");
        tally.killed += usize::from(died || case.kind == Kind::FarKilled && hit);
        tally.accepted += usize::from(accepted);
        tally.lost += usize::from(accepted && copies.is_empty());
        tally.half += half;
        tally.landed += usize::from(!accepted && !copies.is_empty());
        tally.hung += usize::from(hung);
        let mut say = |why: &str| {
            let reply = run.reply.as_ref().map(|reply| format!("{} {}", reply.code, reply.lines[0]));
            let end = (run.outcome.end, run.outcome.released, run.outcome.elapsed);
            let length = if case.long { "long" } else { "short" };
            wrong.push(format!("{why}: {length}, {}: {reply:?} {end:?}\n{}", case.what, run.outcome.log));
        };
        if accepted && copies.is_empty() {
            say("A, acknowledged and lost");
        }
        if half > 0 {
            say("B, half visible");
        }
        if hung {
            say("D, hung");
        }
        if copies.len() > 1 {
            say("stored twice by one session");
        }
        if case.kind == Kind::Interrupted && !accepted {
            say("EINTR is to be seen");
        }
        if case.kind == Kind::Full && (!copies.is_empty() || run.reply.as_ref().map(Reply::class) != Some(4)) {
            say("no plain 4yz with a disk full");
        }
        if case.kind == Kind::Full && std::env::var_os("POSTERN_FAULT_SHOW").is_some() {
            eprintln!("{}, {}: {:?}\n{}", backend.name, case.what, run.reply, run.outcome.log);
        }
        if !accepted && !copies.is_empty() && std::env::var_os("POSTERN_FAULT_SHOW").is_some() {
            eprintln!("C, {}, {:?}: {}", backend.name, case.kind, case.what);
        }
    }
    for (kind, tally) in &table {
        let Tally { runs, killed, accepted, lost, half, landed, hung } = tally;
        eprintln!(
            "| {:<13} | {:<34} | runs {runs:>4} | killed {killed:>4} | accepted {accepted:>4} | A {lost} | B {half} | C {landed:>3} | D {hung} |",
            backend.name,
            kind.text()
        );
    }
    let may = if backend.twice.is_empty() { "never" } else { backend.twice };
    eprintln!("| {:<13} | C can happen: {may}", backend.name);
    assert!(wrong.is_empty(), "{}: {} runs went wrong\n{}", backend.name, wrong.len(), wrong.join("\n"));
    let exact = &table[&Kind::Killed];
    // Numbers of calls can shift by one or two from run to run.
    assert!(exact.killed * 10 >= exact.runs * 7, "{}: only {} of {} killed", backend.name, exact.killed, exact.runs);
    for (kind, tally) in &table {
        let allowed = !matches!(kind, Kind::Interrupted | Kind::Full);
        assert!(tally.landed == 0 || allowed && !backend.twice.is_empty(), "{}: C in {}", backend.name, kind.text());
    }
}
