//! `postern store`: looks at what is remembered between connections, and changes it.
//!
//! Works on whatever `config/store` names, as the user that serves. What is moved from one store to another, or comes from
//! qpsmtpd, goes through JSON lines (`json`) or a dump of its database (`qpsmtpd`).

mod json;
mod qpsmtpd;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;
use serde::Serialize;

use super::print::{Paint, Screen, harmless, trouble};
use super::serve::become_user;
use super::{TROUBLE, WRONG};
use crate::log::{self, Level};
use crate::setup::{self, Options};
use crate::world::World;
use crate::world::store::{Among, Item, Key, Store, StoreError};

/// Entries asked for at a time.
const PAGE: usize = 500;

/// Look at what is remembered between connections: greylisting, karma, limits
///
/// An entry has a SPACE (by custom the plugin's name), a KEY in it, a value, and an end. Where entries are kept is said by
/// the file `store` of the configuration: `sqlite PATH` or `redis unix:PATH` or `redis tcp:HOST:PORT`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 100 the command or the configuration is wrong, or there is no such entry;\n\
                        111 the store cannot be used."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Write JSON: one object a line
    #[arg(long, global = true)]
    json: bool,
    /// Work as this user, the one that serves (else that of config/user)
    #[arg(long, value_name = "NAME", global = true)]
    user: Option<String>,
}

#[derive(clap::Subcommand)]
enum Task {
    /// List entries: all, those of a space, or those whose keys begin with a text
    List {
        /// The space
        space: Option<String>,
        /// What the keys begin with
        prefix: Option<String>,
        /// Those that have ended, too
        #[arg(long)]
        all: bool,
    },
    /// Show one entry
    Show {
        /// The space
        space: String,
        /// The key
        key: String,
    },
    /// Forget an entry, or with --prefix all whose keys begin so
    Forget {
        /// The space
        space: String,
        /// The key
        #[arg(required_unless_present = "prefix")]
        key: Option<String>,
        /// Forget every key that begins so; '' is every key of the space
        #[arg(long, conflicts_with = "key")]
        prefix: Option<String>,
    },
    /// Clear away what has ended, and give room back: for a daily timer
    Expire,
    /// Write every entry that has not ended as a line of JSON
    Export,
    /// Read entries as export wrote them, or from a qpsmtpd database
    ///
    /// An entry that is there already stays as it is. A line that cannot be understood is told and passed over.
    /// qpsmtpd's databases: db_dump -p denysoft_greylist.dbm | postern store import --from-qpsmtpd greylisting
    /// (db_dump is in Debian's package db-util; stop qpsmtpd first).
    #[command(verbatim_doc_comment)]
    Import {
        /// The file; - reads standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Replace entries that are there already
        #[arg(long)]
        overwrite: bool,
        /// What `db_dump -p` made of qpsmtpd's database of that plugin
        #[arg(long, value_name = "PLUGIN")]
        from_qpsmtpd: Option<qpsmtpd::Database>,
    },
    /// Count entries and octets by space
    Stats,
}

/// Why it could not be done.
enum Failure {
    Wrong(String),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Does it.
pub(super) fn run(arguments: &Arguments, options: &Options) -> u8 {
    log::begin(Level::Error, crate::launch::stderr_usable());
    log::mute();
    let done = begin(arguments, options).and_then(|world| Desk::new(&world, arguments.json).work(&arguments.task));
    let (text, status) = match done {
        Ok(()) => return 0,
        Err(Failure::Wrong(text)) => (text, WRONG),
        Err(Failure::Store(error @ StoreError::Configuration(_))) => (error.to_string(), WRONG),
        Err(Failure::Store(error)) => (error.to_string(), TROUBLE),
    };
    trouble(&format!("postern store: {}", harmless(&text)));
    status
}

/// As serving begins: the same user and mode bits, so that a file that is made here can be used there. Faults of the chain do
/// not matter here.
fn begin(arguments: &Arguments, options: &Options) -> Result<World, Failure> {
    let (setup, _) = setup::inspect(options, &[]).map_err(|error| Failure::Wrong(error.to_string()))?;
    umask(Mode::from_bits_truncate(setup.core.umask));
    if Uid::effective().is_root() {
        let user = arguments.user.as_deref().or(setup.core.user.as_deref());
        user.map_or(Ok(()), become_user).map_err(Failure::Wrong)?;
    } else if let Some(name) = &arguments.user {
        super::check::become_named(name).map_err(Failure::Wrong)?;
    }
    Ok(World::real(Rc::clone(&setup.dir)))
}

/// What every task works with.
struct Desk<'a> {
    store: &'a dyn Store,
    now: SystemTime,
    screen: Screen,
    json: bool,
}

impl<'a> Desk<'a> {
    fn new(world: &'a World, json: bool) -> Self {
        Self { store: &*world.store, now: world.clock.now(), screen: Screen::new(), json }
    }

    fn work(&self, task: &Task) -> Result<(), Failure> {
        match task {
            Task::List { space, prefix, all } => self.list(space.as_deref(), prefix.as_deref(), *all),
            Task::Show { space, key } => self.show(&named(space, key)?),
            Task::Forget { space, key: Some(key), .. } => self.forget(&named(space, key)?),
            Task::Forget { space, prefix, .. } => self.forget_all(space, prefix.as_deref().unwrap_or_default()),
            Task::Expire => {
                let removed = self.store.expire()?;
                self.count("cleared away", removed)
            }
            Task::Export => self.each(Among::default(), |item| {
                if item.expires > self.now {
                    self.screen.json(&json::Line::of(item));
                }
                Ok(())
            }),
            Task::Import { file, overwrite, from_qpsmtpd } => json::import(self, file, *overwrite, *from_qpsmtpd),
            Task::Stats => self.stats(),
        }
    }

    /// Shows every entry to `visit`.
    fn each(&self, among: Among<'_>, mut visit: impl FnMut(&Item) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let page = self.store.scan(among, after.as_ref(), PAGE)?;
            page.items.iter().try_for_each(&mut visit)?;
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    fn list(&self, space: Option<&str>, prefix: Option<&str>, all: bool) -> Result<(), Failure> {
        let space = space.map(space_named).transpose()?;
        let among = Among { space, prefix: prefix.unwrap_or_default().as_bytes() };
        self.each(among, |item| {
            if all || item.expires > self.now {
                self.item(item);
            }
            Ok(())
        })
    }

    fn show(&self, key: &Key) -> Result<(), Failure> {
        let mut shown = false;
        // Only a scan tells when it ends.
        self.each(Among { space: Some(key.space()), prefix: key.octets() }, |item| {
            if item.key == *key && item.expires > self.now && !shown {
                shown = true;
                self.item(item);
            }
            Ok(())
        })?;
        if shown { Ok(()) } else { Err(missing(key)) }
    }

    fn item(&self, item: &Item) {
        if self.json {
            return self.screen.json(&json::Line::of(item));
        }
        let key = harmless(&item.key.to_string());
        let value = String::from_utf8_lossy(item.value.octets()).escape_debug().to_string();
        self.screen.line(format!("{key}  {value}  {}", self.screen.paint(Paint::Dim, self.ends(item.expires))));
    }

    /// `(ends in 35 d)`
    fn ends(&self, expires: SystemTime) -> String {
        match expires.duration_since(self.now) {
            Err(_) => "(ended)".to_owned(),
            Ok(left) => format!("(ends in {})", rough(left)),
        }
    }

    fn forget(&self, key: &Key) -> Result<(), Failure> {
        if self.store.remove(key)? { self.count("forgotten", 1) } else { Err(missing(key)) }
    }

    fn forget_all(&self, space: &str, prefix: &str) -> Result<(), Failure> {
        let mut forgotten = 0;
        self.each(Among { space: Some(space_named(space)?), prefix: prefix.as_bytes() }, |item| {
            forgotten += u64::from(self.store.remove(&item.key)?);
            Ok(())
        })?;
        self.count("forgotten", forgotten)
    }

    /// `3 entries forgotten`
    fn count(&self, done: &str, entries: u64) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Count<'a> {
            event: &'a str,
            entries: u64,
        }
        match (self.json, entries) {
            (true, _) => self.screen.json(&Count { event: done, entries }),
            (false, 1) => self.screen.line(format!("1 entry {done}")),
            (false, _) => self.screen.line(format!("{entries} entries {done}")),
        }
        Ok(())
    }

    fn stats(&self) -> Result<(), Failure> {
        let what = self.store.check()?;
        let mut spaces: Vec<Stats> = Vec::new();
        self.each(Among::default(), |item| {
            let place = spaces.iter().position(|stats| stats.space == item.key.space());
            let place = place.unwrap_or_else(|| {
                spaces.push(Stats { space: item.key.space().to_owned(), ..Stats::default() });
                spaces.len() - 1
            });
            let stats = &mut spaces[place];
            let ended = item.expires <= self.now;
            stats.ended += u64::from(ended);
            stats.entries += u64::from(!ended);
            stats.octets += (item.key.octets().len() + item.value.octets().len()) as u64;
            Ok(())
        })?;
        if self.json {
            #[derive(Serialize)]
            struct All<'a> {
                store: &'a str,
                spaces: &'a [Stats],
            }
            self.screen.json(&All { store: &what, spaces: &spaces });
            return Ok(());
        }
        self.screen.line(harmless(&what));
        for Stats { space, entries, ended, octets } in &spaces {
            self.screen.line(format!(
                "{}: {entries} entries, {ended} that have ended, {octets} octets",
                self.screen.paint(Paint::Bold, space)
            ));
        }
        Ok(())
    }
}

#[derive(Default, Serialize)]
struct Stats {
    space: String,
    entries: u64,
    ended: u64,
    octets: u64,
}

fn space_named(name: &str) -> Result<&str, Failure> {
    match Key::is_space(name) {
        true => Ok(name),
        false => Err(Failure::Wrong(format!("{name:?} is no space: small letters, digits, _ - /, at most 32"))),
    }
}

fn named(space: &str, key: &str) -> Result<Key, Failure> {
    Ok(Key::new(space_named(space)?, key))
}

fn missing(key: &Key) -> Failure {
    Failure::Wrong(format!("there is no entry {key}"))
}

/// A time for people: its largest unit.
fn rough(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let seconds = time.as_secs();
    match UNITS.iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}
