//! `postern try FILE`: plays a dialog as a client and shows who decided what.
//!
//! In: what a client says, as a file. Out: the conversation (`conversation`), and mail in the queue: everything behind the
//! wire is real, the DNS too unless a file stands for it. Only the wire is not: no socket, no time passes between lines, and the client never speaks before its turn.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;

use super::conversation::{Conversation, Opening};
use super::print::{Screen, trouble};
use super::serve::{become_user, session_id};
use super::{TROUBLE, WRONG};
use crate::config::{ConfigError, LogFormat};
use crate::hook::{Chain, Entry, facts};
use crate::launch::{self, Connection, Launcher};
use crate::log::{self, Level, Line, Sink};
use crate::session::Session;
use crate::setup::{self, Options, Setup};
use crate::transport::Script;
use crate::world::{FakeDns, MemoryStore, World};

/// Octets that a dialog may have: it is held in memory.
const DIALOG_OCTETS_MAX: u64 = 256 << 20;

/// Play a dialog, and show which plugin decided what, on what evidence
///
/// FILE holds what a client says, a line each; lines may end in LF. It takes turns: the content
/// after DATA goes out only if the reply was 354. Everything but the wire is real: a mail that is
/// accepted is queued. But what serving remembers (greylisting, karma) is neither read nor changed,
/// unless --store says real. Nothing is logged; warnings and errors go to standard error.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Exit status: 0 the dialog was played, whether or not a mail was queued;\n\
                  100 the configuration, ZONEFILE or the command line is wrong; 111 a file cannot be read."
)]
pub(super) struct Arguments {
    /// The dialog; - reads it from standard input
    file: PathBuf,
    /// The client's address (else none is known, as on a pipe)
    #[arg(long, value_name = "IP")]
    remote_ip: Option<IpAddr>,
    /// The client's name, as a launcher would have looked it up
    #[arg(long, value_name = "NAME", value_parser = host)]
    remote_host: Option<String>,
    /// Answer DNS questions from this file instead of asking the DNS: lines `NAME TYPE VALUE`
    ///
    /// Each line is `NAME A 192.0.2.1` (or AAAA, MX with its preference, PTR, TXT, NS), or
    /// `NAME NXDOMAIN`, `NAME SERVFAIL`, `NAME TIMEOUT`. An address may stand for its name in PTR
    /// lines. Names that do not stand there do not exist. `#` begins a comment line.
    #[arg(long, value_name = "ZONEFILE", verbatim_doc_comment)]
    dns: Option<PathBuf>,
    /// What is remembered between connections: nothing and nothing kept (memory), or what serving remembers (real)
    #[arg(long, value_name = "WHICH", value_enum, default_value = "memory")]
    store: WhichStore,
    /// Write JSON: one object for the session, one for each step, one for the end
    #[arg(long)]
    json: bool,
    /// Show every plugin that was asked, and long content whole
    #[arg(short, long)]
    verbose: bool,
}

/// The store of a tried session: by default trying leaves no trace in what serving remembers.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WhichStore {
    Memory,
    Real,
}

/// As `launch` lets names in: letters, digits, `.`, `_` and `-`.
fn host(text: &str) -> Result<String, String> {
    let harmless = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    match text.bytes().all(harmless) && !text.is_empty() && text.len() <= 255 {
        true => Ok(text.to_owned()),
        false => Err("not a host name".to_owned()),
    }
}

/// Plays it.
pub(super) fn run(arguments: Arguments, options: &Options, extra: &'static [&'static Entry]) -> u8 {
    log::begin(Level::Warning, launch::stderr_usable());
    log::attach(Level::Warning, vec![Sink::new("try", Level::Warning, Box::new(show))]);
    let dialog = match read(&arguments.file) {
        Ok(dialog) => dialog,
        Err(error) => {
            trouble(&format!("postern try: {}: {error}", arguments.file.display()));
            return TROUBLE;
        }
    };
    let dns = match arguments.dns.as_deref().map(scripted).transpose() {
        Ok(dns) => dns,
        Err((status, faults)) => {
            faults.iter().for_each(|fault| trouble(&format!("postern try: {fault}")));
            return status;
        }
    };
    match begin(arguments.store, dns, options, extra) {
        Ok((setup, world, chain)) => {
            play(&arguments, &dialog, &setup, world, chain);
            0
        }
        Err(faults) => {
            faults.iter().for_each(|fault| trouble(&format!("error: {fault}")));
            trouble("The configuration is wrong: a client would get 421. `postern check` tells more.");
            WRONG
        }
    }
}

/// The record is shown as the conversation; what is left are warnings and errors.
fn show(line: &Line<'_>) -> Result<(), String> {
    if line.entry.is_none() {
        trouble(&format!("{}: {}", line.level.name().to_ascii_lowercase(), line.text));
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut dialog = Vec::new();
    if file == Path::new("-") {
        io::stdin().take(DIALOG_OCTETS_MAX + 1).read_to_end(&mut dialog)?;
    } else {
        File::open(file)?.take(DIALOG_OCTETS_MAX + 1).read_to_end(&mut dialog)?;
    }
    if dialog.len() as u64 > DIALOG_OCTETS_MAX {
        return Err(io::Error::other(format!("longer than {DIALOG_OCTETS_MAX} octets")));
    }
    Ok(dialog)
}

/// The DNS of a file; or the exit status and what is wrong with the file.
fn scripted(file: &Path) -> Result<FakeDns, (u8, Vec<String>)> {
    let name = file.display();
    let octets = read(file).map_err(|error| (TROUBLE, vec![format!("{name}: {error}")]))?;
    let text = String::from_utf8(octets).map_err(|_| (WRONG, vec![format!("{name}: not UTF-8")]))?;
    FakeDns::parse(&text)
        .map_err(|faults| (WRONG, faults.iter().map(|(line, fault)| format!("{name} line {line}: {fault}")).collect()))
}

/// As serving begins: the same user, the same mode bits, the same chain, so that what is queued is as in service.
fn begin(
    store: WhichStore,
    dns: Option<FakeDns>,
    options: &Options,
    extra: &'static [&'static Entry],
) -> Result<(Setup, World, Chain), Vec<ConfigError>> {
    let mut setup = setup::read(options, extra)?;
    umask(Mode::from_bits_truncate(setup.core.umask));
    if Uid::effective().is_root() {
        match setup.core.user.as_deref() {
            Some(user) => become_user(user).map_err(|fault| vec![ConfigError::new(fault)])?,
            None => tracing::warn!(
                "trying as root: what is queued will belong to root; try as the user that serves, or name it in config/user"
            ),
        }
    }
    let mut world = World::real(Rc::clone(&setup.dir));
    if let Some(dns) = dns {
        world.dns = Rc::new(dns);
    }
    if store == WhichStore::Memory {
        world.store = Rc::new(MemoryStore::new(Rc::clone(&world.clock)));
    }
    // The loggers are built to be judged, and not used.
    let built = setup.build(&world);
    if !built.faults.is_empty() {
        return Err(built.faults);
    }
    let mut chain = Chain::new(built.chain, world.clone());
    setup.ask_plugins(&mut chain)?;
    Ok((setup, world, chain))
}

fn play(arguments: &Arguments, dialog: &[u8], setup: &Setup, world: World, chain: Chain) {
    let mut connection = Connection::unknown(Launcher::Pipe);
    connection.remote_ip = arguments.remote_ip.map(|ip| ip.to_canonical());
    connection.remote_host.clone_from(&arguments.remote_host);
    let id = session_id(&*world.random, world.clock.now());
    log::session(&id, LogFormat::Human);
    let mut script = Script::new(dialog);
    let opening = Opening {
        event: "session",
        session: &id,
        remote_ip: connection.remote_ip,
        remote_host: arguments.remote_host.as_deref(),
        config: setup.dir.path(),
    };
    let lines = setup.lines.iter().map(|line| (setup.origin(line), line.text())).collect();
    let mut conversation =
        Conversation::begin(Screen::new(), arguments.json, arguments.verbose, script.exchanges(), lines, &opening);
    let begun = world.clock.instant();
    let clock = Rc::clone(&world.clock);
    let facts = facts::Session::new(id.clone(), setup.core.me.clone(), connection);
    let ended = Session::new(&mut script, &mut conversation, &setup.core, world, chain, facts).serve();
    conversation.end(ended, clock.instant() - begun);
}
