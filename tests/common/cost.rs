//! What one session costs: instructions, system calls and CPUIDs counted by tracing, page faults and time as the kernel
//! tells them. Exact counts are the same on a busy machine as on an idle one, and need no other tool.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The client's part. Any error shows in what the program does.
pub type Dialog = fn(&TcpStream) -> io::Result<()>;

/// Waits for the greeting, says QUIT, waits for the end.
pub fn quit(client: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    reader.read_line(&mut String::new())?;
    let mut writer = client;
    writer.write_all(b"QUIT\r\n")?;
    reader.read_to_end(&mut Vec::new()).map(drop)
}

/// Both ends of a loopback connection: the program's and the client's.
pub fn connection() -> io::Result<(OwnedFd, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok((listener.accept()?.0.into(), client))
}

/// Starts `command` on the program's end, as an inetd does.
pub fn serve(command: &mut Command, end: OwnedFd) -> io::Result<Child> {
    command.stdin(end.try_clone()?).stdout(end).stderr(Stdio::null()).spawn()
}

/// CPU seconds and page faults of a session and the programs that it started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usages {
    pub cpu_s: f64,
    pub faults: i64,
}

/// Of all children that have ended. Whoever takes differences must have no others meanwhile.
pub fn usages() -> io::Result<Usages> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(Usages { cpu_s: seconds(user) + seconds(system), faults: usage.minor_page_faults() })
}

/// One session, and what it used.
pub fn session(command: &mut Command, dialog: Dialog) -> io::Result<Usages> {
    let before = usages()?;
    let (end, client) = connection()?;
    let mut child = serve(command, end)?;
    // The command keeps copies of its descriptors, and the client waits for the last one to close.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let spoken = dialog(&client);
    drop(client);
    let status = child.wait()?;
    spoken?;
    if !status.success() {
        return Err(io::Error::other(format!("{command:?}: {status}")));
    }
    let after = usages()?;
    Ok(Usages { cpu_s: after.cpu_s - before.cpu_s, faults: after.faults - before.faults })
}

/// What a program did, its children left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In user mode; a repeated one (`rep movsb`) is one. 0 if only system calls were counted.
    pub instructions: u64,
    pub syscalls: u64,
    /// On a virtual machine each of them traps to the hypervisor, at the price of ten thousand others. Counted with the
    /// instructions.
    pub cpuids: u64,
}

/// How closely to look. Instructions take some ten microseconds each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Instructions,
    Syscalls,
}

/// Runs one session under ptrace, from the program's first instruction to its end.
pub fn count(command: &Command, dialog: Dialog, look: Look) -> io::Result<Counts> {
    let (end, client) = connection()?;
    let pid = traced(command, end)?;
    thread::scope(|scope| {
        scope.spawn(|| dialog(&client));
        let counts = step(pid, look);
        if counts.is_err() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        counts
    })
}

/// The program, stopped before its first instruction, under our eyes.
fn traced(command: &Command, end: OwnedFd) -> io::Result<Pid> {
    // A shell that stops itself, and becomes the program when it goes on.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let pid = Pid::from_raw(serve(&mut shell, end)?.id().cast_signed());
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    let options = Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
    if let Err(error) = ptrace::seize(pid, options) {
        kill(pid, Signal::SIGKILL)?;
        waitpid(pid, None)?;
        return Err(error.into());
    }
    kill(pid, Signal::SIGCONT)?;
    loop {
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(_, Signal::SIGTRAP, event) if event == nix::libc::PTRACE_EVENT_EXEC => {
                return Ok(pid);
            }
            WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => ptrace::cont(pid, None)?,
            other => return Err(io::Error::other(format!("it did not start: {other:?}"))),
        }
    }
}

fn step(pid: Pid, look: Look) -> io::Result<Counts> {
    let (mut counts, mut before, mut stops) = (Counts::default(), 0, 0);
    loop {
        if look == Look::Instructions {
            let at = ptrace::getregs(pid)?.rip;
            let octets = ptrace::read(pid, at as *mut _)?.to_le_bytes();
            // The processor stops after each round of a repeated instruction, too.
            counts.instructions += u64::from(at != before);
            counts.syscalls += u64::from(octets.starts_with(b"\x0f\x05"));
            counts.cpuids += u64::from(octets.starts_with(b"\x0f\xa2"));
            before = at;
        }
        match go_on(pid, look)? {
            WaitStatus::Exited(_, 0) => break,
            WaitStatus::PtraceSyscall(_) => stops += 1,
            WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceEvent(..) => {}
            other => return Err(io::Error::other(format!("it ended badly: {other:?}"))),
        }
    }
    if look == Look::Syscalls {
        // One at the entry and one at the exit; the first is the exec's exit, the last has none.
        counts.syscalls = (stops - 1) / 2 + 1;
    }
    Ok(counts)
}

/// To the next stop, past signals.
fn go_on(pid: Pid, look: Look) -> io::Result<WaitStatus> {
    let mut signal = None;
    loop {
        match look {
            Look::Instructions => ptrace::step(pid, signal)?,
            Look::Syscalls => ptrace::syscall(pid, signal)?,
        }
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, other) if other != Signal::SIGTRAP => signal = Some(other),
            status => return Ok(status),
        }
    }
}
