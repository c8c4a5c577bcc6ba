//! Serves one connection on descriptors 0 and 1.
//!
//! Whatever is wrong before the greeting answers 421 there, so that mail waits and does not bounce; the log says what.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, User, initgroups, setgid, setuid};

use super::{TROUBLE, Task, WRONG};
use crate::config::ConfigError;
use crate::hook::{Chain, Entry, facts};
use crate::launch::{self, Connection, Ends, Launcher, Peer};
use crate::log::{self, Level};
use crate::session::{NoWitness, Session};
use crate::setup::{self, Options, Setup};
use crate::smtp::reply::{Enhanced, Reply};
use crate::sys::watchdog;
use crate::transport::{Descriptors, Transport};
use crate::world::{Random, World};

/// The level when `config/loglevel` does not say: qpsmtpd's LOGINFO.
const LEVEL_DEFAULT: Level = Level::Info;

/// Serves, and says how it went: 0 done, 100 the configuration is wrong, 111 a passing trouble.
pub(super) fn serve(options: &Options, extra: &'static [&'static Entry]) -> u8 {
    log::begin(LEVEL_DEFAULT, launch::stderr_usable());
    let Ok(transport) = Descriptors::standard() else {
        return TROUBLE;
    };
    if let Err(error) = prepare() {
        tracing::error!("cannot start: {error}");
        return refuse(transport, "cannot start now", TROUBLE);
    }
    match begin(options, extra) {
        // However it ended, the session was served: what a client does is no trouble of ours.
        Ok(ready) => {
            ready.run(transport);
            log::end();
            0
        }
        Err(faults) => {
            for fault in &faults {
                tracing::error!("{fault}");
            }
            log::end();
            refuse(transport, "configuration fault", WRONG)
        }
    }
}

/// A command line that cannot be understood: the client is told to come back, the log what is wrong.
pub(super) fn bad_arguments(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, InvalidSubcommand,
    };
    if matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // A launcher runs no subcommand, and gives us a socket and no terminal.
    let known = || std::env::args_os().skip(1).any(|word| Task::has_subcommand(&word.to_string_lossy()));
    let command = error.kind() == InvalidSubcommand || known();
    let person = command && launch::Standard.peer() == Peer::NoSocket;
    if person || (launch::stderr_usable() && std::io::stdin().is_terminal()) {
        super::print::trouble(error.to_string().trim_end());
        return ExitCode::from(WRONG);
    }
    log::begin(LEVEL_DEFAULT, launch::stderr_usable());
    tracing::error!("{error}");
    match Descriptors::standard() {
        Ok(transport) => ExitCode::from(refuse(transport, "configuration fault", WRONG)),
        Err(_) => ExitCode::from(WRONG),
    }
}

/// A session that only has to be run.
struct Ready {
    setup: Setup,
    world: World,
    chain: Chain,
    facts: facts::Session,
}

impl Ready {
    fn run(self, transport: &mut dyn Transport) {
        let mut nobody = NoWitness;
        let session = Session::new(transport, &mut nobody, &self.setup.core, self.world, self.chain, self.facts);
        session.serve();
    }
}

fn begin(options: &Options, extra: &'static [&'static Entry]) -> Result<Ready, Vec<ConfigError>> {
    let mut setup = setup::read(options, extra)?;
    umask(Mode::from_bits_truncate(setup.core.umask));
    drop_root(setup.core.user.as_deref()).map_err(|fault| vec![ConfigError::new(fault)])?;
    let world = World::real(Rc::clone(&setup.dir));
    let built = setup.build(&world);
    let level = setup.core.loglevel.map_or(LEVEL_DEFAULT, Level::from_number);
    log::attach(level, setup::sinks(built.loggers));
    if !built.faults.is_empty() {
        return Err(built.faults);
    }
    // Some thirty names are asked for; getenv() would go through all there are for each.
    let variables: Vec<_> = std::env::vars_os().collect();
    let variable = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let connection = Connection::from_environment(&variable, &launch::Standard);
    let id = session_id(&*world.random, world.clock.now());
    log::session(&id, setup.core.log_format);
    watchdog::session(&id);
    for note in &connection.notes {
        // A pipe is no fault; a launcher's variable that cannot be understood is.
        match connection.launcher {
            Launcher::Pipe => tracing::debug!("{note}"),
            _ => tracing::warn!("{note}"),
        }
    }
    for note in &setup.core.notes {
        tracing::debug!("{note}");
    }
    let mut chain = Chain::new(built.chain, world.clone());
    setup.ask_plugins(&mut chain)?;
    let facts = facts::Session::new(id, setup.core.me.clone(), connection);
    Ok(Ready { setup, world, chain, facts })
}

/// What every service wants: no core file of other people's mail, signals that end a session cleanly.
fn prepare() -> std::io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    crate::sys::catch_signals()
}

/// Started as root: becomes the configured user, or says that it did not.
fn drop_root(user: Option<&str>) -> Result<(), String> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let Some(name) = user else {
        tracing::warn!("serving as root: let the launcher change the user, or name one in config/user");
        return Ok(());
    };
    become_user(name)
}

/// Takes on an account's user, group and further groups for good.
pub(super) fn become_user(name: &str) -> Result<(), String> {
    let failed = |what: &str, error: nix::errno::Errno| format!("user {name}: {what}: {error}");
    let account = User::from_name(name).map_err(|error| failed("look-up", error))?;
    let account = account.ok_or_else(|| format!("user {name}: there is no such account"))?;
    let c_name = std::ffi::CString::new(name).map_err(|_| format!("user {name:?}: a NUL in the name"))?;
    initgroups(&c_name, account.gid).map_err(|error| failed("groups", error))?;
    setgid(account.gid).map_err(|error| failed("group", error))?;
    setuid(account.uid).map_err(|error| failed("change", error))
}

/// 421 instead of the greeting.
fn refuse(transport: &mut dyn Transport, text: &str, status: u8) -> u8 {
    let reply = Reply::new(421, Some(Enhanced(4, 3, 5)), format!("{text}, try again later"));
    let mut octets = Vec::new();
    reply.write_to(&mut octets, false);
    let _ = transport.write(&octets, Instant::now() + Duration::from_secs(10));
    transport.close(true);
    status
}

/// Thirteen letters and digits: seconds, then chance. Sorts by time.
pub(super) fn session_id(random: &dyn Random, now: std::time::SystemTime) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut chance = [0; 4];
    random.fill(&mut chance);
    let seconds = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let bits = (seconds & 0x7_ffff_ffff) << 30 | u64::from(u32::from_be_bytes(chance)) >> 2;
    (0..13).rev().map(|place| char::from(LETTERS[(bits >> (place * 5)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::FixedRandom;
    use std::time::UNIX_EPOCH;

    #[test]
    fn session_ids_sort_by_time() {
        let at = |seconds| session_id(&FixedRandom::default(), UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0).len(), 13);
        assert!(at(1_900_000_000) < at(1_900_000_001));
        assert!(at(1_900_000_001).bytes().all(|octet| octet.is_ascii_alphanumeric()));
    }
}
