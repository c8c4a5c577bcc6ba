//! Ends the process when a plugin's call overruns its time outside the world's calls, which stop by themselves.
//!
//! In: a deadline round each call. Out: nothing, or `421`, the death of our children and exit status 111.
//! Resolution one second, always late and never early: budgets are tens of seconds.
#![deny(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigHandler, Signal, killpg};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{Pid, alarm, write};

/// When the call in hand must be over, and when the timer fires: see [`nanoseconds`]; 0 for none.
static DEADLINE: AtomicU64 = AtomicU64::new(0);
static ALARM: AtomicU64 = AtomicU64::new(0);
static SPEAKS: AtomicBool = AtomicBool::new(false);
static GROUPS: [AtomicI32; 8] = [const { AtomicI32::new(0) }; 8];

/// Whose call it is, and in which session, for the last words: octets, 0 where there are no more.
static WHOSE: [AtomicU8; 64] = [const { AtomicU8::new(0) }; 64];
static SESSION: [AtomicU8; 32] = [const { AtomicU8::new(0) }; 32];
const A_SECOND: u64 = 1_000_000_000;

/// Holds a deadline until it is dropped, then puts back the one before.
#[must_use]
pub struct Guard(u64);

/// Guards a call until `deadline`, or an outer guard's if that is earlier. A timer that runs already and fires no later is
/// left alone and looks again when it fires, so a short session pays for one timer and not for one a call.
pub fn guard(deadline: Instant) -> Guard {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, SeqCst) {
        // If it fails, the default action of SIGALRM stays, which ends the process too, only without a word.
        let _ = super::handle(Signal::SIGALRM, SigHandler::Handler(on_alarm), SaFlags::SA_RESTART);
    }
    let before = DEADLINE.load(SeqCst);
    let at = if before == 0 { nanoseconds(deadline) } else { before.min(nanoseconds(deadline)) };
    DEADLINE.store(at, SeqCst);
    let alarm = ALARM.load(SeqCst);
    // A second of slack, because the timer counts in whole seconds, rounded up.
    if alarm == 0 || alarm > at.saturating_add(A_SECOND) {
        set_alarm(at);
    }
    Guard(before)
}

impl Drop for Guard {
    fn drop(&mut self) {
        DEADLINE.store(self.0, SeqCst);
    }
}

/// Names who is asked next, for the last words.
pub fn name(whose: &str) {
    keep(&WHOSE, whose);
}

/// Names the session, for the last words.
pub fn session(id: &str) {
    keep(&SESSION, id);
}

fn keep(place: &[AtomicU8], text: &str) {
    let octets = text.bytes().chain([0]).take(place.len());
    place.iter().zip(octets).for_each(|(slot, octet)| slot.store(octet, Relaxed));
}

/// Whether descriptor 1 is the client, in plain text, so that an overrun may be told there.
pub fn speak(yes: bool) {
    SPEAKS.store(yes, SeqCst);
}

/// Notes a child's process group, to be killed with us. Groups that the list has no room for only see their pipes close.
pub fn add_group(id: i32) {
    replace(0, id);
}

/// Forgets a process group that has been waited for.
pub fn remove_group(id: i32) {
    replace(id, 0);
}

fn replace(from: i32, to: i32) {
    let _ = GROUPS.iter().any(|slot| slot.compare_exchange(from, to, SeqCst, SeqCst).is_ok());
}

/// Since the first guard; at least 1, as 0 means none.
fn nanoseconds(at: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    at.saturating_duration_since(*START.get_or_init(Instant::now)).as_nanos() as u64 + 1
}

fn set_alarm(at: u64) {
    let now = nanoseconds(Instant::now());
    // Never 0 seconds, which would stop the timer.
    let left_s = at.saturating_sub(now).div_ceil(A_SECOND).clamp(1, 1_000_000);
    ALARM.store(now + left_s * A_SECOND, SeqCst);
    alarm::set(left_s as u32);
}

/// Everything in here is atomics and plain system calls: no allocation, no lock.
extern "C" fn on_alarm(_: c_int) {
    let errno = Errno::last_raw();
    ALARM.store(0, SeqCst);
    match DEADLINE.load(SeqCst) {
        0 => {}
        at if at <= nanoseconds(Instant::now()) => end(),
        at => set_alarm(at),
    }
    Errno::set_raw(errno);
}

/// A line put together without allocating.
struct Words {
    room: [u8; 256],
    len: usize,
}

impl Words {
    fn new() -> Self {
        Self { room: [0; 256], len: 0 }
    }

    fn add(&mut self, octets: &[u8]) -> &mut Self {
        for &octet in octets.iter().take(self.room.len() - self.len) {
            self.room[self.len] = octet;
            self.len += 1;
        }
        self
    }

    fn add_kept(&mut self, place: &[AtomicU8]) -> &mut Self {
        for octet in place.iter().map(|slot| slot.load(Relaxed)).take_while(|&octet| octet != 0) {
            self.add(&[octet]);
        }
        self
    }

    fn octets(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

fn end() -> ! {
    let mut out = [PollFd::new(super::OUTPUT, PollFlags::POLLOUT)];
    let (mut words, mut log) = (Words::new(), Words::new());
    words
        .add(b"421 4.3.0 ")
        .add_kept(&WHOSE)
        .add(b" ran over its time, closing connection (")
        .add_kept(&SESSION)
        .add(b")\r\n");
    log.add(b"[").add_kept(&SESSION).add(b"] ").add_kept(&WHOSE).add(b": error, over its time: the process ends\n");
    // Neither a MSG_DONTWAIT send nor a write after poll blocks, so a client that reads nothing holds nobody up.
    if SPEAKS.load(SeqCst)
        && send(1, words.octets(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) == Err(Errno::ENOTSOCK)
        && poll(&mut out, PollTimeout::ZERO) == Ok(1)
    {
        let _ = write(super::OUTPUT, words.octets());
    }
    // Not the client: `launch` has seen to it. The other ways to the log need more than a signal handler may do.
    let _ = write(io::stderr(), log.octets());
    for group in GROUPS.iter().map(|slot| slot.load(SeqCst)).filter(|&group| group > 0) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    super::exit_now(111)
}
