//! What a plugin or a backend may ask of the outside: time, chance, other programs, other hosts, the DNS, what is remembered
//! between connections, and who we are.
//!
//! Each part is a trait, handed over when the plugin is built (`build(settings, &world)`), so that `try`, tests and replays
//! can put something else there. Every real call stops at the [`Deadline`] of the hook in hand, with
//! [`std::io::ErrorKind::TimedOut`]; the chain sets it before it asks a plugin.

mod clock;
pub mod dns;
mod host;
mod net;
mod process;
mod random;
pub mod store;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::ConfigDir;

pub use clock::{Clock, ManualClock, RealClock};
pub use dns::{Answer, Dns, DnsName, FakeDns, Question, RealDns};
pub use host::{FakeHost, Host, RealHost, user_name};
pub use net::{Address, Datagram, FakeNet, Net, RealNet, Said, Stream};
pub use process::{Canned, Child, Direction, Exit, FakeProcess, Job, Pipe, Process, Ran, RealProcess};
pub use random::{FixedRandom, Random, RealRandom};
pub use store::{Key, MemoryStore, Store, StoreError, Value};

/// Longest that a world's call goes on without any progress, unless the caller says otherwise.
pub const PACE_DEFAULT: Duration = Duration::from_secs(60);

/// The outside. Cheap to clone: all clones are the same outside.
#[derive(Clone)]
pub struct World {
    /// What time it is.
    pub clock: Rc<dyn Clock>,
    /// Octets that nobody can foretell.
    pub random: Rc<dyn Random>,
    /// Other hosts and local services.
    pub net: Rc<dyn Net>,
    /// Names, addresses and lists in the DNS.
    pub dns: Rc<dyn Dns>,
    /// Other programs.
    pub process: Rc<dyn Process>,
    /// The machine and the process that we are: name, id, environment.
    pub host: Rc<dyn Host>,
    /// What is remembered between connections. Opened at its first call.
    pub store: Rc<dyn Store>,
    /// The configuration directory: lists and maps.
    pub config: Rc<ConfigDir>,
    /// When the hook in hand must be done; the parts above keep to it.
    pub deadline: Deadline,
}

impl World {
    /// The real outside. Costs no system call.
    pub fn real(config: Rc<ConfigDir>) -> Self {
        let deadline = Deadline::default();
        let clock: Rc<dyn Clock> = Rc::new(RealClock::new(deadline.clone()));
        let random: Rc<dyn Random> = Rc::new(RealRandom);
        let net: Rc<dyn Net> = Rc::new(RealNet::new(deadline.clone()));
        let means = store::Means {
            clock: Rc::clone(&clock),
            random: Rc::clone(&random),
            net: Rc::clone(&net),
            deadline: deadline.clone(),
        };
        Self {
            store: Rc::new(store::LazyStore::new(Rc::clone(&config), means)),
            dns: Rc::new(RealDns::new(Rc::clone(&config), deadline.clone())),
            clock,
            random,
            net,
            process: Rc::new(RealProcess::new(deadline.clone())),
            host: Rc::new(RealHost),
            config,
            deadline,
        }
    }

    /// Does what asks the outside with at most this time for the whole of it, and never past the deadline in hand.
    pub fn within<T>(&self, time: Duration, work: impl FnOnce() -> T) -> T {
        let before = self.deadline.get();
        // Longer than a clock can tell: no limit.
        let own = self.clock.instant().checked_add(time);
        let until = before.map_or(own, |before| Some(own.map_or(before, |own| before.min(own))));
        self.deadline.replace(until);
        let done = work();
        self.deadline.replace(before);
        done
    }

    /// An outside in which nothing happens by itself: a clock that stands, fixed octets, no host that answers, no name in the
    /// DNS, no program that runs, an empty store in memory (by that same clock). Replace the parts that a test is about.
    pub fn fake(config: Rc<ConfigDir>) -> Self {
        let clock = Rc::new(ManualClock::default());
        Self {
            store: Rc::new(MemoryStore::new(Rc::clone(&clock) as Rc<dyn Clock>)),
            clock,
            random: Rc::new(FixedRandom::default()),
            net: Rc::new(FakeNet::default()),
            dns: Rc::new(FakeDns::default()),
            process: Rc::new(FakeProcess::default()),
            host: Rc::new(FakeHost::default()),
            config,
            deadline: Deadline::default(),
        }
    }
}

/// A moment that the chain sets and the world's calls look at. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Deadline(Rc<Cell<Option<Instant>>>);

impl Deadline {
    /// The moment, if one is set.
    pub fn get(&self) -> Option<Instant> {
        self.0.get()
    }

    /// Sets it, and gives back the one before, to be set again afterwards.
    pub fn replace(&self, until: Option<Instant>) -> Option<Instant> {
        self.0.replace(until)
    }

    /// When a step that begins now must have made progress: after `pace`, or at the deadline if that is earlier.
    pub(crate) fn step(&self, pace: Duration) -> Instant {
        let paced = Instant::now() + pace;
        self.get().map_or(paced, |until| until.min(paced))
    }
}
