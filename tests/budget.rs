//! What a session that only says QUIT may cost at most: exact counts, so that a busy machine does not matter. For the build that
//! is installed (static musl), which `tests/run` names by `POSTERN_TEST_BINARY`; any other has another start.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;
#[path = "common/cost.rs"]
#[allow(dead_code, unreachable_pub)]
mod cost;

use std::process::Command;

use common::room::Room;
use cost::Look;

const INSTRUCTIONS_MAX: u64 = 150_000;
const SYSTEM_CALLS_MAX: u64 = 60;
/// What is linked in beside (SQLite, the resolver) is not touched, but stands between what is.
const PAGE_FAULTS_MAX: u64 = 95;

#[test]
fn a_session_that_only_quits_keeps_its_budget() {
    if std::env::var_os("POSTERN_TEST_BINARY").is_none() {
        eprintln!("not the build that is installed: nothing to measure");
        return;
    }
    let room = Room::new(
        "earlytalker wait 0\ncount_unrecognized_commands 4\nheaders\nrcpt_ok\nqueue/qmail-queue {ROOM}/bin/qmail-queue\n",
    );
    let mut command = Command::new(common::binary());
    command.arg("--config").arg(room.path("config")).env_clear().env("TCPREMOTEIP", "127.0.0.1");
    command.stderr(std::process::Stdio::null());
    let counts = cost::count(&command, cost::quit, Look::Instructions).unwrap();
    let faults = cost::session(&mut command, cost::quit).unwrap().faults;
    eprintln!(
        "a QUIT session: {} instructions, {} system calls, {} CPUIDs, {faults} page faults",
        counts.instructions, counts.syscalls, counts.cpuids
    );
    assert!(counts.instructions <= INSTRUCTIONS_MAX, "{} instructions", counts.instructions);
    assert!(counts.syscalls <= SYSTEM_CALLS_MAX, "{} system calls", counts.syscalls);
    assert_eq!(counts.cpuids, 0, "each CPUID is a trap on a virtual machine");
    assert!(u64::try_from(faults).unwrap() <= PAGE_FAULTS_MAX, "{faults} page faults");
}
