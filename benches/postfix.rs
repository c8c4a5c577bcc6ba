//! Mail from `smtp-source` into a real Postfix: through postern by each queue that hands mail to Postfix, and past it into
//! Postfix's own smtpd, in turns. Fails if any mail is lost or doubled.
//!
//! Run it where nothing else runs: where others want the processors too, whoever starts a process for each connection waits more
//! often than an smtpd that is there already, as the floor shows. CPU of a mail changes less.
//!
//! ```text
//! cargo bench --target x86_64-unknown-linux-musl --bench postfix          # needs root, Postfix and tcpserver
//! cargo bench --target x86_64-unknown-linux-musl --bench postfix -- large # only this section
//! ```
//! Sections: `load` (10,000 mails by queue/postfix-queue, fewer by the others), `large` (250 MB by every queue that streams).
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use common::load::{self, Load, Plan, Taken};
use common::room::Room;

/// Every ratio is taken within a round, and the median of the rounds is shown.
const ROUNDS: usize = 5;
/// A mail of usual size, from as many sessions at a time as a busy relay has.
const PLAN: Plan = Plan { mails: 0, octets: 4096, sessions: 20, reuse: false };

/// Mails of a round by line: one a session, several a session.
const MAILS: [(&str, [usize; 2]); 4] =
    [("smtpd", [2000, 600]), ("postfix-queue", [2000, 600]), ("postdrop", [400, 400]), ("smtp-forward", [600, 600])];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Without it this is a test run, which has nothing to measure.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let wanted: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let Some(load) = Load::start() else { return };
    println!("postern: {}", common::binary().display());
    let sections: [(&str, fn(&Load) -> bool); 2] = [("load", rates), ("large", memory)];
    let wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
    let failed = sections.iter().filter(|(name, section)| wanted(name) && !section(&load)).count();
    drop(load);
    exit(i32::from(failed > 0));
}

/// One line of the table.
struct Line {
    name: &'static str,
    port: u16,
    /// The launcher in front, if one is.
    launcher: Option<u32>,
    mails: [usize; 2],
    taken: [Vec<Taken>; 2],
    /// CPU ms of a mail, of Postfix and of all that the launcher started.
    cpu_ms: [Vec<f64>; 2],
}

fn rates(load: &Load) -> bool {
    let rooms: Vec<Room> = load.queues().iter().map(|(_, queue)| load.room(queue)).collect();
    let servers: Vec<_> = rooms.iter().map(|room| load.serve(room)).collect();
    let behind = servers.iter().map(|server| (server.port, Some(server.id())));
    let ports = [(load.smtpd_port, None)].into_iter().chain(behind);
    let line = |((name, mails), (port, launcher))| Line {
        name,
        port,
        launcher,
        mails,
        taken: Default::default(),
        cpu_ms: Default::default(),
    };
    let mut lines: Vec<Line> = MAILS.into_iter().zip(ports).map(line).collect();
    let (floor_room, floor) = floor(load);
    let (mut floors, mut postdrop) = ([Vec::new(), Vec::new()], Vec::new());
    let records = load.records(PLAN);

    for line in &lines {
        load.send(line.port, Plan { mails: 100, ..PLAN }); // starts Postfix's processes
    }
    for round in 0..ROUNDS {
        for reuse in [false, true] {
            let at = usize::from(reuse);
            // Not always the same one after the same one.
            for turn in 0..lines.len() {
                let number = (turn + round) % lines.len();
                let line = &mut lines[number];
                let plan = Plan { mails: line.mails[at], reuse, ..PLAN };
                let before = cpu_s(load, line.launcher);
                line.taken[at].push(load.send(line.port, plan));
                line.cpu_ms[at].push((cpu_s(load, line.launcher) - before) * 1e3 / plan.mails as f64);
            }
            let plan = Plan { mails: MAILS[0].1[at], reuse, ..PLAN };
            floors[at].push(plan.mails as f64 / load.send_into_nothing(floor.port, plan));
        }
        let plan = Plan { mails: MAILS[2].1[0], ..PLAN };
        postdrop.push(plan.mails as f64 / load.postdrop(&records, plan));
    }
    drop((floor, floor_room));

    println!("load: {} octets a mail, {} sessions at a time, medians of {ROUNDS} rounds", PLAN.octets, PLAN.sessions);
    for (at, way) in ["one mail a session", "several"].into_iter().enumerate() {
        for line in &lines {
            let accepted = |line: &Line| rates_of(line, at, |taken| taken.accepted_s);
            let delivered = |line: &Line| rates_of(line, at, |taken| taken.delivered_s);
            println!(
                "load: {way}: {}: {} mails, {:.0} mails/s accepted, {:.0} delivered; of smtpd's: {:.2} (rounds: {}), {:.2}",
                line.name,
                line.mails[at] * ROUNDS,
                median(accepted(line)),
                median(delivered(line)),
                median(ratios(&accepted(line), &accepted(&lines[0]))),
                ratios(&accepted(line), &accepted(&lines[0]))
                    .iter()
                    .map(|ratio| format!("{ratio:.2} "))
                    .collect::<String>(),
                median(ratios(&delivered(line), &delivered(&lines[0]))),
            );
            println!(
                "load: {way}: {}: {:.2} CPU ms a mail, delivery with it; smtpd {:.2}",
                line.name,
                median(line.cpu_ms[at].clone()),
                median(lines[0].cpu_ms[at].clone())
            );
        }
        println!(
            "load: {way}: a process that keeps nothing, under tcpserver: {:.0} mails/s",
            median(floors[at].clone())
        );
    }
    println!("load: postdrop itself, {} at a time, given the records: {:.0} mails/s", PLAN.sessions, median(postdrop));
    let all = || lines.iter().flat_map(|line| line.taken.iter().flatten());
    let (lost, doubled) =
        (all().map(|taken| taken.lost).sum::<usize>(), all().map(|taken| taken.doubled).sum::<usize>());
    println!("load: lost {lost}, doubled {doubled}");
    lost + doubled == 0
}

/// CPU seconds until now of Postfix, which is a session of processes, and of a launcher, with all their ended children.
/// Other programs do not change it much, while they slow a mail down that passes through more processes than another.
fn cpu_s(load: &Load, launcher: Option<u32>) -> f64 {
    let master = fs::read_to_string(load.postfix.path("spool/pid/master.pid")).unwrap();
    let (master, launcher) = (master.trim(), launcher.map_or(String::new(), |id| id.to_string()));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ticks = processes.filter_map(|process| {
        let text = fs::read_to_string(process.path().join("stat")).ok()?;
        // After the name in parentheses: state, parent, group, session; the 12th to 15th are the times.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ours = fields[3] == master || process.file_name().to_str() == Some(&launcher);
        ours.then(|| fields[11..15].iter().filter_map(|field| field.parse::<f64>().ok()).sum::<f64>())
    });
    // Linux shows hundredths of a second, whatever its own clock does.
    ticks.sum::<f64>() / 100.0
}

fn rates_of(line: &Line, at: usize, seconds: fn(&Taken) -> f64) -> Vec<f64> {
    line.taken[at].iter().map(|taken| line.mails[at] as f64 / seconds(taken)).collect()
}

fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(our, their)| our / their).collect()
}

/// The least that a process per connection can do: it says yes and gives the message to a program that keeps nothing.
fn floor(load: &Load) -> (Room, common::launch::Server) {
    let room = load.room("queue/discard");
    for name in ["dialog", "queue"] {
        compile(name, &room.path("bin").join(name));
    }
    let server = load.serve_program(&room, &[room.path("bin/dialog")]);
    (room, server)
}

fn compile(name: &str, to: &Path) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("benches/floor/{name}.rs"));
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "--target", "x86_64-unknown-linux-musl", "-o"]);
    let done = rustc.arg(to).arg(source).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// The same memory, whatever the length.
fn memory(load: &Load) -> bool {
    let mut constant = true;
    for queue in load::STREAMING {
        let room = load.room_for_large(queue);
        let [short, long] = [25, 250].map(|megabytes| {
            let large = load::large(&room, megabytes);
            let rate = megabytes as f64 / large.elapsed_s;
            println!("large: {queue}: {megabytes} MB: VmHWM {} kB, {rate:.0} MB/s", large.mark_kb);
            large.mark_kb
        });
        constant &= long <= short + load::SAME_KB;
        load.postfix.idle();
    }
    println!("large: {}", if constant { "constant" } else { "MEMORY GROWS WITH THE MESSAGE" });
    constant
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
