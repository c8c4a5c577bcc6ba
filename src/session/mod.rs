//! The conversation: reads a command line, takes a step (`state`), sends the reply; from the greeting to the close.
//!
//! In: a `Transport`, the chain, the settings. Out: replies, the decision record's lines (`report`), and how it ended. The
//! commands are in `handlers` and `envelope`, the content in `receive` and `handover`; what a refusal's reply looks like is in `replies`.

mod envelope;
mod handlers;
mod handover;
mod input;
mod receive;
mod replies;
mod report;
mod state;

use std::cell::{OnceCell, RefCell};
use std::time::{Duration, Instant};

use crate::config::{Core, Entry as ListEntry};
use crate::hook::facts::{self, End, Listen};
use crate::hook::{Chain, Outcome, Then};
use crate::log::{self, Level};
use crate::record::Decision;
use crate::smtp::command::Command;
use crate::smtp::line::{LineSplitter, Split};
use crate::smtp::reply::Reply;
use crate::transport::{Fault, Transport};
use crate::world::World;

use input::Input;
use state::State;

/// Commands answered with 503 after a refusal at connect (RFC 5321 §3.1), before we hang up.
const REFUSED_COMMANDS_MAX: u32 = 10;
/// Time for them.
const REFUSED_TIME: Duration = Duration::from_secs(60);
/// Octets of replies to a pipelined group that wait to leave in one write. A longer group's leave in several.
const OUT_OCTETS_MAX: usize = 64 * 1024;
/// Time for a reply to leave.
const WRITE_TIME: Duration = Duration::from_secs(120);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// QUIT.
    Quit,
    /// The client closed, or its input ended.
    EndOfInput,
    /// The connection broke.
    Lost,
    /// The client was too slow, or the session too long.
    TimedOut,
    /// We were told to stop.
    Terminated,
    /// We hung up: refused.
    Refused,
    /// We hung up: a limit was reached.
    Limit,
}

/// Sees each step, for `postern try`.
pub trait Witness {
    /// What the client said, what it was answered, and who decided.
    fn step(&mut self, said: &str, reply: &Reply, decisions: &[Decision]);
}

/// A witness for service: nobody looks.
pub struct NoWitness;

impl Witness for NoWitness {
    fn step(&mut self, _said: &str, _reply: &Reply, _decisions: &[Decision]) {}
}

/// What one step of the conversation leads to.
enum Step {
    /// This reply, then this state.
    Go(Reply, State),
    /// This state; the reply has left already.
    Silent(State),
    /// This reply, then the end.
    Close(Reply, Ended),
    /// No reply can be given any more, or only a 421.
    Fault(Fault),
}

/// One session, from the greeting to the close.
pub struct Session<'a> {
    transport: &'a mut dyn Transport,
    witness: &'a mut dyn Witness,
    core: &'a Core,
    world: World,
    chain: Chain,
    facts: facts::Session,
    input: Input,
    /// Replies that have not left yet: those of a pipelined group leave in one write.
    out: Vec<u8>,
    /// Decisions of the step in hand, and those of the transaction that its message's line will tell.
    decisions: Vec<Decision>,
    told: Vec<(Decision, u32)>,
    size_max: Option<u64>,
    /// rcpthosts, read when somebody first writes to a postmaster.
    own_domains: OnceCell<Vec<ListEntry>>,
    errors: u32,
    commands: u32,
    begun: Instant,
    until: Instant,
}

impl<'a> Session<'a> {
    /// A session about to begin.
    pub fn new(
        transport: &'a mut dyn Transport,
        witness: &'a mut dyn Witness,
        core: &'a Core,
        world: World,
        chain: Chain,
        facts: facts::Session,
    ) -> Self {
        let begun = world.clock.instant();
        // qmail: $DATABYTES overrides the file, and 0 there means no limit.
        let size_max = facts.connection.databytes.or(core.databytes).filter(|octets| *octets > 0);
        Self {
            transport,
            witness,
            core,
            chain,
            facts,
            input: Input::new(),
            out: Vec::new(),
            decisions: Vec::new(),
            told: Vec::new(),
            size_max,
            own_domains: OnceCell::new(),
            errors: 0,
            commands: 0,
            begun,
            until: begun + core.session_time,
            world,
        }
    }

    /// Serves it to its end.
    pub fn serve(mut self) -> Ended {
        let ended = self.converse();
        // After QUIT nothing more comes (RFC 5321 §4.1.1.10); whoever is hung up on may still be sending.
        let quiet = matches!(ended, Ended::EndOfInput | Ended::Lost)
            || (ended == Ended::Quit && self.input.unread().is_empty());
        self.report_connection(ended);
        // The client has heard our last word: it does not wait for plugins, nor hear of what happens in them.
        self.transport.close(!quiet);
        self.reset_transaction();
        self.chain.disconnect(&End { session: &self.facts });
        self.collect_decisions();
        ended
    }

    fn converse(&mut self) -> Ended {
        let mut state = match self.greet() {
            Step::Go(reply, state) => {
                self.say("", &reply);
                state
            }
            other => return self.end(other, "").unwrap_or(Ended::Lost),
        };
        let mut splitter = LineSplitter::new(self.core.command_line_octets_max);
        loop {
            let line = match self.next_line(&mut splitter) {
                Ok(Some(line)) => line,
                Ok(None) => return self.flush().map_or(Ended::Lost, |()| Ended::EndOfInput),
                Err(fault) => return self.end(Step::Fault(fault), "").unwrap_or(Ended::Lost),
            };
            self.commands += 1;
            let (said, command) = match &line {
                Some(octets) => (String::from_utf8_lossy(octets).into_owned(), Command::parse(octets)),
                None => (String::from("(a line too long)"), Err(replies::line_too_long())),
            };
            let refusals = self.facts.refusals;
            let step = match command {
                Ok(command) => self.step(state, command),
                // Nobody knows how many octets follow it, and they must not be taken for commands.
                Err(error) if is_bdat(&said) => Step::Close(error.into(), Ended::Limit),
                Err(error) => Step::Go(error.into(), state),
            };
            match step {
                Step::Go(reply, next) => {
                    self.errors += u32::from(reply.code >= 500);
                    // Whatever is refused leaves a line: a plugin's and a limit's did already.
                    if reply.code >= 400 && self.facts.refusals == refusals {
                        self.report_error(&said, &reply);
                    }
                    self.say(&said, &reply);
                    state = next;
                }
                Step::Silent(next) => state = next,
                other => return self.end(other, &said).unwrap_or(Ended::Lost),
            }
            if let Some(reply) = self.limit_reached(&state) {
                return self.end(Step::Close(reply, Ended::Limit), "").unwrap_or(Ended::Lost);
            }
        }
    }

    /// Ends the conversation as the step says, with its reply where one can be given.
    fn end(&mut self, step: Step, said: &str) -> Result<Ended, Fault> {
        let (reply, ended) = match step {
            Step::Close(reply, ended) => (reply, ended),
            Step::Fault(Fault::TimedOut) => (replies::timed_out(&self.facts.id), Ended::TimedOut),
            Step::Fault(Fault::Terminated) => (replies::terminated(&self.facts.id), Ended::Terminated),
            Step::Fault(Fault::Lost(error)) => {
                tracing::info!("client lost: {error}");
                return Ok(Ended::Lost);
            }
            // The loop takes these two itself.
            Step::Go(reply, _) => (reply, Ended::Refused),
            Step::Silent(_) => return Ok(Ended::Lost),
        };
        self.say(said, &reply);
        self.flush()?;
        Ok(ended)
    }

    /// Too many errors or commands: 421 and the end.
    fn limit_reached(&mut self, state: &State) -> Option<Reply> {
        let id = &self.facts.id;
        if matches!(state, State::Refused) && self.commands >= REFUSED_COMMANDS_MAX {
            return Some(replies::limit("not welcome here", id));
        }
        if self.errors >= self.core.errors_max {
            return Some(replies::limit("too many errors", id));
        }
        if self.commands >= self.core.commands_max {
            return Some(replies::limit("too many commands", id));
        }
        None
    }

    /// Puts a reply behind the others that wait, and shows the step to the witness.
    fn say(&mut self, said: &str, reply: &Reply) {
        if log::wants(Level::Debug) {
            tracing::debug!("C: {said}");
            reply.lines.iter().for_each(|line| tracing::debug!("S: {} {line}", reply.code));
        }
        reply.write_to(&mut self.out, false);
        self.collect_decisions();
        self.witness.step(said, reply, &self.decisions);
        self.decisions.clear();
    }

    /// Sends what waits, in one write.
    fn flush(&mut self) -> Result<(), Fault> {
        if self.out.is_empty() {
            return Ok(());
        }
        let until = self.world.clock.instant() + WRITE_TIME;
        let sent = self.transport.write(&self.out, until);
        self.out.clear();
        sent
    }

    /// The next command line without its end, `Some(None)` for one that was too long, `None` at the end of input. Replies leave
    /// when we are about to wait for the client, and hardly before.
    fn next_line(&mut self, splitter: &mut LineSplitter) -> Result<Option<Option<Vec<u8>>>, Fault> {
        let until = self.command_deadline();
        if self.out.len() > OUT_OCTETS_MAX {
            self.flush()?;
        }
        loop {
            match splitter.split(self.input.unread()) {
                Split::Line { len, taken } => {
                    let line = self.input.unread()[..len].to_vec();
                    self.input.consume(taken);
                    return Ok(Some(Some(line)));
                }
                Split::TooLong { taken } => {
                    self.input.consume(taken);
                    return Ok(Some(None));
                }
                Split::Partial { taken } => self.input.consume(taken),
            }
            if self.read_more(until)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits for more of the client until a moment. 0: the end of input. What we have to say leaves first, for the client may be
    /// waiting for it; and a client that always has more to read does not outlive the moment either.
    fn read_more(&mut self, until: Instant) -> Result<usize, Fault> {
        if self.world.clock.instant() >= until {
            return Err(Fault::TimedOut);
        }
        self.flush()?;
        self.input.fill(self.transport, until)
    }

    fn command_deadline(&self) -> Instant {
        let now = self.world.clock.instant();
        (now + self.core.command_timeout).min(self.until)
    }

    /// Before the greeting: who are you, and are you welcome?
    fn greet(&mut self) -> Step {
        let hooks: [fn(&mut Chain, &mut facts::Connect<'_>) -> Outcome; 2] = [Chain::pre_connection, Chain::connect];
        for hook in hooks {
            let line = Ear::new(self.transport, &self.input, &self.world);
            let mut at = facts::Connect { session: &mut self.facts, line: &line };
            match hook(&mut self.chain, &mut at) {
                Outcome::Denied(refused) => {
                    let reply = self.refuse(&refused, "");
                    if reply.code == 421 || refused.denial.then == Then::Disconnect {
                        return Step::Close(reply, Ended::Refused);
                    }
                    // RFC 5321 §3.1: after 554 we wait for QUIT, but not for long.
                    self.until = self.until.min(self.world.clock.instant() + REFUSED_TIME);
                    return Step::Go(reply, State::Refused);
                }
                Outcome::Undecided | Outcome::Accepted | Outcome::Answered(_) | Outcome::Queued(..) => {}
            }
        }
        Step::Go(replies::greeting(&self.greeting_text()), State::Connected)
    }

    /// smtpgreeting, with ESMTP in it as qmail adds it.
    fn greeting_text(&self) -> String {
        match &self.core.greeting {
            None => format!("{} ESMTP", self.facts.me),
            Some(text) if text.contains("ESMTP") => text.clone(),
            Some(text) => format!("{text} ESMTP"),
        }
    }

    /// Forgets the transaction in hand and tells the plugins so.
    fn reset_transaction(&mut self) {
        self.facts.clear_transaction();
        self.told.clear();
        self.chain.reset_transaction(&End { session: &self.facts });
    }
}

/// Whether a line that could not be parsed was meant to announce a chunk.
fn is_bdat(line: &str) -> bool {
    line.trim_start().get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case("BDAT"))
}

/// The line to the client as plugins may use it.
struct Ear<'t> {
    transport: RefCell<&'t mut dyn Transport>,
    /// Octets of the client's are in our own buffer already: read together with the command before them.
    spoken: bool,
    world: &'t World,
}

impl<'t> Ear<'t> {
    fn new(transport: &'t mut dyn Transport, input: &Input, world: &'t World) -> Self {
        Self { transport: RefCell::new(transport), spoken: !input.unread().is_empty(), world }
    }
}

impl Listen for Ear<'_> {
    fn client_speaks_within(&self, wait: Duration) -> bool {
        let left = self.world.deadline.get().map(|until| until.saturating_duration_since(self.world.clock.instant()));
        let wait = left.map_or(wait, |left| left.min(wait));
        self.spoken || self.transport.borrow_mut().client_speaks_within(wait)
    }
}

/// A line on which the client may speak: after BDAT its chunk follows at once (RFC 3030 §2).
struct NoTurns;

impl Listen for NoTurns {
    fn client_speaks_within(&self, _wait: Duration) -> bool {
        false
    }
}
