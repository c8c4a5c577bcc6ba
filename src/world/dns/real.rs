//! The machine's DNS: the resolver that `config/dns` or `/etc/resolv.conf` names, over hickory.
//!
//! Nothing is opened before the first question. Then there is a runtime of one thread, ours, which works only while somebody
//! asks: what comes in between waits in the sockets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};
use trust_dns_resolver::system_conf::parse_resolv_conf;

use super::wire::{Server, Servers};
use super::{Answer, Dns, Question};
use crate::config::{ConfigDir, DnsSettings};
use crate::smtp::escape::safe;
use crate::sys::wait;
use crate::world::Deadline;

/// Different questions that one session may ask; more fail.
pub const QUESTIONS_MAX: usize = 600;
/// How soon a wait notices that we are asked to end.
const SLICE: Duration = Duration::from_millis(100);
/// Turns of the runtime in which questions are sent: two or three will do.
const TURNS_MAX: usize = 32;
/// What `/etc/resolv.conf` may ask us to wait for one server. A client is waiting for us.
const TIMEOUT_MAX: Duration = Duration::from_secs(3);

/// The machine's DNS.
pub struct RealDns {
    config: Rc<ConfigDir>,
    deadline: Deadline,
    /// None before the first question; or why there can be none.
    engine: RefCell<Option<Result<Engine, String>>>,
}

impl RealDns {
    /// One that keeps to this deadline, and reads `config/dns` at the first question.
    pub fn new(config: Rc<ConfigDir>, deadline: Deadline) -> Self {
        Self { config, deadline, engine: RefCell::new(None) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> Result<T, String> {
        let mut engine = self.engine.borrow_mut();
        match engine.get_or_insert_with(|| Engine::start(&self.config)) {
            Ok(engine) => Ok(work(engine)),
            Err(why) => Err(why.clone()),
        }
    }
}

impl Dns for RealDns {
    fn ask(&self, questions: &[Question]) -> Vec<Answer> {
        if questions.is_empty() {
            return Vec::new();
        }
        let answers = self.with(|engine| {
            engine.send(questions);
            engine.wait(questions, self.deadline.step(engine.total));
            questions.iter().map(|question| engine.answer(question)).collect()
        });
        answers.unwrap_or_else(|why| vec![Answer::Failed { why }; questions.len()])
    }

    fn begin(&self, questions: &[Question]) {
        if questions.is_empty() {
            return;
        }
        // Whoever asks is told of a failure.
        let _ = self.with(|engine| {
            let sent = engine.send(questions);
            engine.runtime.block_on(async {
                for _ in 0..TURNS_MAX {
                    if sent.iter().all(|sent| sent.load(Relaxed)) {
                        break;
                    }
                    yield_now().await;
                }
            });
        });
    }

    fn check(&self) -> Vec<String> {
        // A fault of the settings is told where they are read.
        self.with(|engine| engine.check()).unwrap_or_default()
    }
}

struct Engine {
    runtime: Runtime,
    servers: Arc<Servers>,
    /// For one call.
    total: Duration,
    known: BTreeMap<Question, State>,
}

enum State {
    Asked(JoinHandle<Answer>),
    Answered(Answer),
}

impl Engine {
    fn start(config: &ConfigDir) -> Result<Self, String> {
        let settings = DnsSettings::read(config)
            .map_err(|faults| faults.first().map_or_else(String::new, |fault| safe(&fault.to_string(), 200)))?;
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| format!("no runtime: {error}"))?;
        let total = settings.total;
        let servers = Arc::new(servers(settings, &resolv_conf()));
        Ok(Self { runtime, servers, total, known: BTreeMap::new() })
    }

    /// What keeps servers from answering, each asked once and all at the same time.
    fn check(&self) -> Vec<String> {
        let probes: Vec<_> = (0..self.servers.servers.len())
            .map(|number| self.runtime.spawn(Arc::clone(&self.servers).probe(number)))
            .collect();
        probes.into_iter().filter_map(|probe| self.runtime.block_on(probe).ok().flatten()).collect()
    }

    /// Starts what was never asked. The flags say whether each is on its way.
    fn send(&mut self, questions: &[Question]) -> Vec<Arc<AtomicBool>> {
        let mut flags = Vec::new();
        for question in questions {
            if self.known.contains_key(question) || self.known.len() >= QUESTIONS_MAX {
                continue;
            }
            let sent = Arc::new(AtomicBool::new(false));
            flags.push(Arc::clone(&sent));
            let task = self.runtime.spawn(Arc::clone(&self.servers).answer(question.clone(), sent));
            self.known.insert(question.clone(), State::Asked(task));
        }
        flags
    }

    /// Works until all of these are answered, or it is `until`, or we are asked to end.
    fn wait(&mut self, questions: &[Question], until: Instant) {
        for question in questions {
            while let Some(State::Asked(task)) = self.known.get_mut(question) {
                let slice = until.min(Instant::now() + SLICE);
                let result = self.runtime.block_on(async { tokio::time::timeout_at(slice.into(), task).await });
                if let Ok(result) = result {
                    let answer = result.unwrap_or_else(|_| Answer::failed("an answer that broke the resolver"));
                    self.known.insert(question.clone(), State::Answered(answer));
                } else if Instant::now() >= until || is_terminated() {
                    return self.collect(questions);
                }
            }
        }
    }

    /// Takes what has come, and waits for nothing.
    fn collect(&mut self, questions: &[Question]) {
        self.runtime.block_on(async {
            // Once for the sockets, then for the tasks that wait for them, and those that wait for these.
            for _ in 0..3 {
                yield_now().await;
            }
        });
        for question in questions {
            if let Some(State::Asked(task)) = self.known.get_mut(question)
                && task.is_finished()
            {
                let answer = self.runtime.block_on(task);
                let answer = answer.unwrap_or_else(|_| Answer::failed("an answer that broke the resolver"));
                self.known.insert(question.clone(), State::Answered(answer));
            }
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        match self.known.get(question) {
            Some(State::Answered(answer)) => answer.clone(),
            Some(State::Asked(_)) => Answer::Late,
            None => Answer::failed(format!("more than {QUESTIONS_MAX} questions in one session")),
        }
    }
}

/// Whether SIGTERM or the like has come. They are let in only while we wait, so this waits for no time.
fn is_terminated() -> bool {
    let waited = wait::ready_or_terminated(&mut [], Some(Instant::now()));
    waited.is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// The file's octets; none if there is no such file, and then as if it were empty.
fn resolv_conf() -> Vec<u8> {
    fs::read("/etc/resolv.conf").unwrap_or_default()
}

/// `config/dns`, and for what it does not say resolv.conf, of which only servers, timeout and attempts matter.
fn servers(settings: DnsSettings, resolv_conf: &[u8]) -> Servers {
    let system = parse_resolv_conf(resolv_conf).ok();
    let system_servers = || {
        let named = system.iter().flat_map(|(config, _)| config.name_servers());
        let named: Vec<SocketAddr> = named.map(|server| SocketAddr::new(server.ip, 53)).collect();
        // As resolv.conf(5) has it: without one, the name server on this machine.
        if named.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))] } else { named }
    };
    let timeout = system.as_ref().map_or(TIMEOUT_MAX, |(_, options)| options.timeout);
    let attempts = system.as_ref().map_or(2, |(_, options)| options.attempts);
    let addresses = if settings.servers.is_empty() { system_servers() } else { settings.servers };
    Servers {
        servers: addresses.into_iter().map(Server::new).collect(),
        timeout: settings.timeout.unwrap_or(timeout.clamp(Duration::from_secs(1), TIMEOUT_MAX)),
        attempts: settings.attempts.unwrap_or(u32::try_from(attempts).unwrap_or(2).clamp(1, 5)),
        tcp_only: settings.tcp_only,
        mixed_case: settings.mixed_case,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_asked_only_for_what_the_settings_leave_open() {
        let conf = b"search here.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions timeout:9 attempts:1\n";
        let of = |settings, conf: &[u8]| servers(settings, conf);
        let addresses = |of: &Servers| -> Vec<SocketAddr> { of.servers.iter().map(|server| server.address).collect() };
        let system = of(DnsSettings::default(), conf);
        assert_eq!(addresses(&system), ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!((system.timeout, system.attempts, system.mixed_case), (TIMEOUT_MAX, 1, true));
        let settings = DnsSettings {
            servers: vec!["127.0.0.1:5353".parse().unwrap()],
            timeout: Some(Duration::from_secs(30)),
            attempts: Some(4),
            ..DnsSettings::default()
        };
        let set = of(settings, conf);
        assert_eq!((addresses(&set), set.attempts), (vec!["127.0.0.1:5353".parse().unwrap()], 4));
        assert_eq!(set.timeout, Duration::from_secs(30));
        for nothing in [&b""[..], b"nonsense \xff\n", b"nameserver\n"] {
            assert_eq!(addresses(&of(DnsSettings::default(), nothing)), ["127.0.0.1:53".parse().unwrap()]);
        }
    }
}
