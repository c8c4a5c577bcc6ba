//! The few system calls that need `unsafe`, and nothing that could be written without it.
//!
//! In: signals, a deadline, a program to start. Out: flags, descriptors, process ids. What they mean is decided elsewhere:
//! `transport/` waits with the signals unblocked, `world/` starts programs, `hook/` guards its calls with the watchdog.
#![allow(unsafe_code)]

pub mod wait;
pub mod watchdog;

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::{ManuallyDrop, zeroed};
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use libc::*;
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};

static TERMINATED: AtomicBool = AtomicBool::new(false);

/// The signals that end a session. SIGHUP too: whoever closes a terminal or stops a launcher means it so.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

extern "C" fn on_ending(_: c_int) {
    TERMINATED.store(true, SeqCst);
}

/// Sets handlers for SIGTERM, SIGINT and SIGHUP, and blocks the three. They are let in only inside a ppoll() with an empty
/// mask, so that none can slip in between a look at the flag and the wait.
pub fn catch_signals() -> io::Result<()> {
    let set: SigSet = ENDING.into_iter().collect();
    signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    ENDING
        .iter()
        .try_for_each(|&of| handle(of, SigHandler::Handler(on_ending), SaFlags::empty()))
}

/// Whether one of these signals has come.
pub fn terminated() -> bool {
    TERMINATED.load(SeqCst)
}

fn handle(of: Signal, handler: SigHandler, flags: SaFlags) -> io::Result<()> {
    // SAFETY: both handlers in this file touch only atomics and async-signal-safe calls.
    unsafe { signal::sigaction(of, &SigAction::new(handler, flags, SigSet::empty())) }?;
    Ok(())
}

/// Descriptors 0 and 1, for a look or a last word; their owner is whoever called [`client`].
// SAFETY: 0 to 2 are open from before main (std sees to it) to the end: `transport/` replaces them, it never closes them.
pub const INPUT: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(0) };
/// See [`INPUT`].
pub const OUTPUT: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(1) };

/// Descriptor 0 as std's type, to ask for addresses; whether it is a socket shows in the answer. Never closes it.
pub fn client_socket() -> ManuallyDrop<TcpStream> {
    // SAFETY: open as above, and never dropped.
    ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(0) })
}

/// Takes over descriptors 0 and 1. The second call gives nothing: they have one owner.
pub fn client() -> Option<(OwnedFd, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // SAFETY: std opened 0 to 2 before main if they were closed; nobody else here owns them, and this happens once.
    (!TAKEN.swap(true, SeqCst))
        .then(|| unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) })
}

/// Fills `buffer` from getrandom(2), without a CPU feature test. False: the kernel would not.
pub fn random(buffer: &mut [u8]) -> bool {
    // SAFETY: pointer and length are one slice's. Up to 256 octets are never cut short nor interrupted.
    buffer.chunks_mut(256).all(|part| unsafe {
        libc::getrandom(part.as_mut_ptr().cast(), part.len(), 0) == part.len() as isize
    })
}

/// Ends the process at once, without destructors or buffers: for signal handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { libc::_exit(status) }
}

/// Seconds that local time is ahead of UTC at a Unix time.
pub fn utc_offset_s(unix: i64) -> i32 {
    // SAFETY: zeroes are a valid `tm`; localtime_r fills it, or returns null and leaves it.
    let mut local: libc::tm = unsafe { zeroed() };
    let time = unix as libc::time_t;
    unsafe { libc::localtime_r(&time, &mut local) };
    local.tm_gmtoff as i32
}

/// What a child runs.
pub struct Program<'a> {
    /// The file; relative to `directory`.
    pub path: &'a CStr,
    /// argv, its first word included.
    pub arguments: &'a [CString],
    /// `NAME=value`; all there is.
    pub environment: &'a [CString],
    /// Where it starts; None for where we are.
    pub directory: Option<&'a CStr>,
    /// Its descriptors, filled in this order: (number, what it is a copy of; None for /dev/null).
    pub descriptors: &'a [(RawFd, Option<RawFd>)],
}

/// Starts a program (no PATH search) in a process group of its own, with no signal blocked or ignored. Returns its id.
/// posix_spawn (vfork inside) and not fork: a copy of our page tables costs a quarter more.
pub fn spawn(program: &Program<'_>) -> io::Result<i32> {
    let pointers = |strings: &[CString]| -> Vec<*mut c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr().cast_mut())
            .chain([null_mut()])
            .collect()
    };
    let (argv, envp) = (pointers(program.arguments), pointers(program.environment));
    let defaults: SigSet = ENDING
        .into_iter()
        .chain([Signal::SIGPIPE, Signal::SIGALRM, Signal::SIGCHLD])
        .collect();
    let flags =
        libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
    let mut pid = 0;
    // SAFETY: both objects are initialised before use and destroyed after; all pointers outlive the call; the lists end in null.
    let error = unsafe {
        let (mut files, mut how) = (zeroed(), zeroed());
        let mut error = posix_spawn_file_actions_init(&mut files) | posix_spawnattr_init(&mut how);
        for &(to, from) in program.descriptors {
            error |= match from {
                Some(from) => posix_spawn_file_actions_adddup2(&mut files, from, to),
                None => posix_spawn_file_actions_addopen(
                    &mut files,
                    to,
                    c"/dev/null".as_ptr(),
                    libc::O_RDWR,
                    0,
                ),
            };
        }
        if let Some(directory) = program.directory {
            error |= posix_spawn_file_actions_addchdir_np(&mut files, directory.as_ptr());
        }
        error |= posix_spawnattr_setflags(&mut how, flags as libc::c_short);
        error |= posix_spawnattr_setsigmask(&mut how, SigSet::empty().as_ref());
        error |= posix_spawnattr_setsigdefault(&mut how, defaults.as_ref());
        if error == 0 {
            error = posix_spawn(
                &mut pid,
                program.path.as_ptr(),
                &files,
                &how,
                argv.as_ptr(),
                envp.as_ptr(),
            );
        }
        posix_spawn_file_actions_destroy(&mut files);
        posix_spawnattr_destroy(&mut how);
        error
    };
    if error == 0 {
        Ok(pid)
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Before the first child: descriptors from 3 on that the launcher left open are not for children, and a launcher that ignores
/// SIGCHLD (inherited over exec) would cost us their exit status.
pub fn prepare_for_children() {
    // SAFETY: only sets a flag on descriptors; kernels before 5.11 refuse, and then the launcher's descriptors stay as they were.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    let _ = handle(Signal::SIGCHLD, SigHandler::SigDfl, SaFlags::empty());
}

/// A descriptor that polls readable once the process has ended (Linux 5.3).
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a non-negative result is a new descriptor that nobody owns.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
    }
}
