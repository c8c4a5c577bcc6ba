//! The few system calls that need `unsafe`, and nothing that could be written without it.
//!
//! In: signals, a deadline, a program to start. Out: flags, descriptors, process ids. What they mean is decided elsewhere:
//! `transport/` waits with the signals unblocked, `world/` starts programs, `hook/` guards its calls with the watchdog.
#![allow(unsafe_code)]

pub mod arena;
pub mod map;
mod names;
mod signals;
pub mod wait;
pub mod watchdog;

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{ManuallyDrop, zeroed};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use libc::*;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

pub use names::names;
pub use signals::{catch_signals, terminated};

/// For this room's handlers and the defaults only.
fn handle(of: Signal, handler: SigHandler, flags: SaFlags) -> io::Result<()> {
    // SAFETY: the handlers, both in this room, use only atomics and async-signal-safe calls.
    unsafe { sigaction(of, &SigAction::new(handler, flags, SigSet::empty())) }?;
    Ok(())
}

/// Descriptors 0 and 1, for a look or a last word; their owner is whoever called [`client`].
// SAFETY: 0 to 2 are open from before main (std sees to it) to the end: `transport/` never drops what it took.
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
    (!TAKEN.swap(true, SeqCst)).then(|| unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) })
}

/// Fills `buffer` from getrandom(2), without a CPU feature test. False: the kernel would not.
pub fn random(buffer: &mut [u8]) -> bool {
    // SAFETY: pointer and length are one slice's. Up to 256 octets are never cut short nor interrupted.
    buffer
        .chunks_mut(256)
        .all(|part| unsafe { getrandom(part.as_mut_ptr().cast(), part.len(), 0) == part.len() as isize })
}

/// Ends the process at once, without destructors or buffers: for signal handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { _exit(status) }
}

/// Seconds that local time is ahead of UTC at a Unix time.
#[allow(deprecated)] // On musl libc announces a wider time_t; it is as wide as `unix` already.
pub fn utc_offset_s(unix: i64) -> i32 {
    // SAFETY: zeroes are a valid `tm`; localtime_r fills it, or returns null and leaves it.
    let mut local: tm = unsafe { zeroed() };
    let time = unix as time_t;
    unsafe { localtime_r(&time, &mut local) };
    local.tm_gmtoff as i32
}

/// Starts the program at `path` (no PATH search; from `directory` if given) in a process group of its own, with no signal
/// blocked or ignored. `arguments` is all of argv, `environment` all the `NAME=value` there are. `descriptors` are filled in
/// this order: (number, what it is a copy of; None for /dev/null). Returns the process id.
/// posix_spawn (vfork inside) and not fork: a copy of our page tables costs a quarter more.
pub fn spawn(
    path: &CStr,
    arguments: &[CString],
    environment: &[CString],
    directory: Option<&CStr>,
    descriptors: &[(RawFd, Option<RawFd>)],
) -> io::Result<i32> {
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let (null, mut pid) = (c"/dev/null".as_ptr(), 0);
    let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    // SAFETY: both objects are initialised before use and destroyed after; the pointers outlive the calls; the lists end in null.
    let error = unsafe {
        let (mut files, mut how) = (zeroed(), zeroed());
        let mut error = posix_spawn_file_actions_init(&mut files) | posix_spawnattr_init(&mut how);
        for &(to, from) in descriptors {
            error |= match from {
                Some(from) => posix_spawn_file_actions_adddup2(&mut files, from, to),
                None => posix_spawn_file_actions_addopen(&mut files, to, null, O_RDWR, 0),
            };
        }
        if let Some(directory) = directory {
            error |= posix_spawn_file_actions_addchdir_np(&mut files, directory.as_ptr());
        }
        error |= posix_spawnattr_setflags(&mut how, flags as c_short);
        error |= posix_spawnattr_setsigmask(&mut how, SigSet::empty().as_ref());
        error |= posix_spawnattr_setsigdefault(&mut how, signals::ours().as_ref());
        if error == 0 {
            let (argv, envp) = (argv.as_ptr(), envp.as_ptr());
            error = posix_spawn(&mut pid, path.as_ptr(), &files, &how, argv, envp);
        }
        posix_spawn_file_actions_destroy(&mut files);
        posix_spawnattr_destroy(&mut how);
        error
    };
    if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|s| s.as_ptr().cast_mut()).chain([null_mut()]).collect()
}

/// Before the first child: descriptors from 3 on that the launcher left open are not for children, and a launcher that ignores
/// SIGCHLD (inherited over exec) would cost us their exit status.
pub fn prepare_for_children() {
    // SAFETY: only sets a flag on descriptors. Kernels before 5.11 refuse; then the launcher's stay as they were.
    unsafe { syscall(SYS_close_range, 3, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    let _ = handle(Signal::SIGCHLD, SigHandler::SigDfl, SaFlags::empty());
}

/// Octets written to a pipe that nobody has read yet; on Linux the writing end knows too.
pub fn unread(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut octets: c_int = 0;
    // SAFETY: FIONREAD writes one int, which outlives the call.
    match unsafe { ioctl(pipe.as_raw_fd(), FIONREAD, &mut octets) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(octets.unsigned_abs() as usize),
    }
}

/// A descriptor that polls readable once the process has ended (Linux 5.3).
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a non-negative result is a new descriptor that nobody owns.
    match unsafe { syscall(SYS_pidfd_open, pid, 0) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
    }
}
