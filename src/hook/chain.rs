//! Asks the plugins in the order of `config/plugins` until one decides, and writes down who decided what.
//!
//! In: facts (`facts`). Out: an `Outcome`, which the session turns into a reply, and `Decision`s for the record. The chain
//! does observe, on_error, panics, time, immunity; it knows nothing of SMTP replies.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::changes::Facts;
use super::entry::{Kind, Role};
use super::facts::{
    Approval, Command, Connect, Content, Data, End, Header, Hello, Mail, Queued, Quit, Rcpt, ReceivedLine, Refusal,
    Session, Text,
};
use super::known::{Delayed, Override};
use super::link::{Link, OnError};
use super::ruling::{Denial, Receipt, Ruling, Severity, Then, Trouble, Verdict};
use super::{Answer, Hook, HookSet, Plugin};
use crate::record::{Decision, Withheld};
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// What plugins share from the final dot on.
const CONTENT_TIME: Duration = Duration::from_secs(180);

/// What the chain as a whole says about an event. Matched arm by arm at every hook.
#[derive(Debug)]
pub enum Outcome {
    /// Nobody decided. Refuses at rcpt, defers at queue, accepts elsewhere.
    Undecided,
    /// Somebody accepted, or at rcpt vouched.
    Accepted,
    /// Somebody gave the reply's text.
    Answered(String),
    /// Somebody refused.
    Denied(Refused),
    /// The message is held.
    Queued(Receipt, Rc<str>),
}

/// When a link is asked about a recipient, wherever its line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Delays,
    Backend,
}

fn turn(link: &Link) -> Turn {
    match (link.entry.kind, link.entry.role) {
        (Kind::Queue, _) => Turn::Backend,
        (_, Role::Delays) => Turn::Delays,
        _ => Turn::First,
    }
}

/// What asking one plugin came to.
enum Said {
    Nothing,
    Vouched,
    /// The asking ends.
    Decided(Outcome),
}

/// A refusal and whose it is.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What the plugin said.
    pub denial: Denial,
    /// Where.
    pub hook: Hook,
    /// Who.
    pub plugin: Rc<str>,
    /// Its line.
    pub origin: Rc<str>,
    /// On what evidence.
    pub evidence: Vec<String>,
    /// In what time.
    pub took: Duration,
    /// Whether it was a fault of ours and no ruling.
    pub trouble: bool,
}

/// The plugins of this session, in order.
pub struct Chain {
    links: Vec<Link>,
    hooks: HookSet,
    world: World,
    /// The plugin for which refusals wait, if there is one.
    delays: Option<usize>,
    /// When plugins' time after the final dot is over.
    content_until: Option<Instant>,
    /// Decisions since they were last taken; the session takes them after every step.
    decisions: Vec<Decision>,
}

impl Chain {
    /// A chain of these links.
    pub fn new(links: Vec<Link>, world: World) -> Self {
        let hooks = links.iter().fold(HookSet::default(), |all, link| all.union(link.hooks));
        let delays = links.iter().position(|link| link.entry.role == Role::Delays);
        Self { links, hooks, world, delays, content_until: None, decisions: Vec::new() }
    }

    /// The links, for `check`.
    pub fn links_mut(&mut self) -> &mut [Link] {
        &mut self.links
    }

    /// What every queue line can carry. With no queue line at all, everything is refused anyway.
    pub fn capabilities(&self) -> Capabilities {
        let offers = self.links.iter().filter_map(|link| link.plugin.offers());
        offers.reduce(Capabilities::and).unwrap_or(Capabilities::NONE)
    }

    /// The decisions since the last call.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions)
    }

    /// From the final dot: starts (true) or stops (false) the time that plugins share.
    pub fn limit_content_time(&mut self, on: bool) {
        self.content_until = on.then(|| self.world.clock.instant() + CONTENT_TIME);
    }

    /// Whether anybody is asked at this hook.
    pub fn wants(&self, hook: Hook) -> bool {
        self.hooks.contains(hook)
    }

    /// A core setting as a plugin answers it.
    ///
    /// # Errors
    /// What kept a plugin from answering, whose `on_error` is not to do without.
    pub fn config(&mut self, name: &str) -> Result<Option<Vec<String>>, Trouble> {
        for link in self.links.iter_mut().filter(|link| link.has(Hook::Config) && link.off.is_none()) {
            if let Some(found) = link.config(&self.world, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn ask<F: Facts>(&mut self, hook: Hook, at: &mut F, question: impl Fn(&mut dyn Plugin, &F) -> Answer) -> Outcome {
        if !self.hooks.contains(hook) {
            return Outcome::Undecided;
        }
        if hook != Hook::Rcpt {
            return self.ask_those(hook, at, &question, |_| true);
        }
        let mut outcome = self.ask_those(hook, at, &question, |link| turn(link) == Turn::First);
        // Plugins say whom mail is taken for. Whether a delayed refusal stands, and whether the backend takes it, is another question,
        // which one that accepts does not end; and nobody is asked it about a recipient that is refused anyway.
        for later in [Turn::Delays, Turn::Backend] {
            match &outcome {
                Outcome::Accepted => {}
                // Come again later, and be refused for good then? Rather now.
                Outcome::Denied(refused) if later == Turn::Delays && refused.denial.severity == Severity::Transient => {
                }
                _ => break,
            }
            match self.ask_those(hook, at, &question, |link| turn(link) == later) {
                Outcome::Undecided => {}
                decided => outcome = decided,
            }
        }
        outcome
    }

    fn ask_those<F: Facts>(
        &mut self,
        hook: Hook,
        at: &mut F,
        question: &impl Fn(&mut dyn Plugin, &F) -> Answer,
        those: impl Fn(&Link) -> bool,
    ) -> Outcome {
        let mut outcome = Outcome::Undecided;
        for index in 0..self.links.len() {
            if !those(&self.links[index]) {
                continue;
            }
            match self.ask_one(hook, at, index, question) {
                Said::Nothing => {}
                Said::Vouched => outcome = Outcome::Accepted,
                Said::Decided(decided) => return decided,
            }
        }
        outcome
    }

    fn ask_one<F: Facts>(
        &mut self,
        hook: Hook,
        at: &mut F,
        index: usize,
        question: &impl Fn(&mut dyn Plugin, &F) -> Answer,
    ) -> Said {
        let until = if hook == Hook::Queue { None } else { self.content_until };
        let link = &mut self.links[index];
        if !link.has(hook) {
            return Said::Nothing;
        }
        let mut entry = Decision::new(hook.name(), &link.name, &link.origin);
        if let Some(reason) = &link.off {
            self.decisions.push(entry.skipped(&format!("switched off: {reason}")));
            return Said::Nothing;
        }
        if let Some(reason) = at.immune().filter(|_| link.entry.spares_immune) {
            self.decisions.push(entry.skipped(reason));
            return Said::Nothing;
        }
        let begun = self.world.clock.instant();
        let answer = link.put(&self.world, until, |plugin| question(plugin, at));
        entry.took = self.world.clock.instant() - begun;
        let (standard, name, origin, role) =
            (link.standard, Rc::clone(&link.name), Rc::clone(&link.origin), link.entry.role);
        let answer = answer.and_then(|ruling| fits(hook, ruling)).and_then(|ruling| apply(ruling, at, &name));
        let answer = match (answer, role) {
            (Ok(ruling), Role::Configures) => self.configure(&at.session().overrides).map(|()| ruling),
            (answer, _) => answer,
        };
        let took = entry.took;
        let refused =
            |denial, evidence, trouble| Refused { denial, hook, plugin: name, origin, evidence, took, trouble };
        let ruling = match answer {
            Ok(ruling) => ruling,
            Err(trouble) => {
                tracing::error!("{}: error, at {}: {trouble}", entry.plugin, hook.name());
                let defer = standard.on_error == OnError::Defer;
                self.decisions.push(entry.troubled(&trouble.0, defer));
                if !defer {
                    return Said::Nothing;
                }
                let denial = trouble_denial(&self.links[index].name);
                return Said::Decided(Outcome::Denied(refused(denial, vec![trouble.0], true)));
            }
        };
        let delayed = self.delay(hook, at, index, &ruling);
        let observed = standard.observe && matches!(ruling.verdict, Verdict::Deny(_));
        let withheld = if delayed { Some(Withheld::Delayed) } else { observed.then_some(Withheld::Observed) };
        self.decisions.push(ruled(entry, &ruling, withheld));
        match withheld {
            Some(Withheld::Delayed) => return Said::Decided(Outcome::Undecided),
            Some(Withheld::Observed) => return Said::Nothing,
            None => {}
        }
        match ruling.verdict {
            Verdict::Decline | Verdict::Skip => {
                self.approve(hook, at.session(), index);
                Said::Nothing
            }
            Verdict::Vouch => {
                self.approve(hook, at.session(), index);
                Said::Vouched
            }
            Verdict::Accept => {
                self.approve(hook, at.session(), index);
                Said::Decided(Outcome::Accepted)
            }
            Verdict::Answer(text) => Said::Decided(Outcome::Answered(text)),
            Verdict::Queued(receipt) => Said::Decided(Outcome::Queued(receipt, name_of(&self.links[index]))),
            Verdict::Deny(denial) => {
                self.deny(hook, at.session(), index, &denial);
                Said::Decided(Outcome::Denied(refused(denial, ruling.evidence, false)))
            }
        }
    }

    /// Puts off a refusal until there is a recipient, where a plugin of the chain wants that. One that closes the connection
    /// is not put off: whoever rules so wants to be rid of the client.
    fn delay<F: Facts>(&self, hook: Hook, at: &mut F, index: usize, ruling: &Ruling) -> bool {
        let link = &self.links[index];
        let early = matches!(hook, Hook::Connect | Hook::Helo | Hook::Ehlo | Hook::Mail);
        let Verdict::Deny(denial) = &ruling.verdict else { return false };
        let on = self.delays.is_some_and(|delays| self.links[delays].off.is_none());
        if !on || !early || link.standard.observe || denial.then == Then::Disconnect {
            return false;
        }
        let (denial, evidence, spares_immune) = (denial.clone(), ruling.evidence.clone(), link.entry.spares_immune);
        let delayed = Delayed { denial, by: link.name.to_string(), hook, evidence, spares_immune };
        at.session_mut().delayed.get_or_insert(delayed);
        true
    }

    /// Takes up settings for this session alone.
    fn configure(&mut self, overrides: &[Override]) -> Result<(), Trouble> {
        if overrides.is_empty() {
            return Ok(());
        }
        for link in &mut self.links {
            link.configure(overrides, &self.world)?;
        }
        Ok(())
    }

    /// Tells the plugins that one of them has refused.
    fn deny(&mut self, hook: Hook, session: &Session, by: usize, denial: &Denial) {
        if !self.hooks.contains(Hook::Deny) {
            return;
        }
        let plugin = name_of(&self.links[by]);
        let refusal = Refusal { session, hook, plugin: &plugin, denial };
        for link in self.links.iter_mut().filter(|link| link.wants(Hook::Deny)) {
            link.tell(&self.world, |plugin| plugin.deny(&refusal));
        }
    }

    /// Tells the plugins that one of them has ruled and not refused.
    fn approve(&mut self, hook: Hook, session: &Session, by: usize) {
        if !self.hooks.contains(Hook::Ok) {
            return;
        }
        let plugin = name_of(&self.links[by]);
        let approval = Approval { session, hook, plugin: &plugin };
        for link in self.links.iter_mut().filter(|link| link.wants(Hook::Ok)) {
            link.tell(&self.world, |plugin| plugin.ok(&approval));
        }
    }

    fn tell(&mut self, hook: Hook, message: impl Fn(&mut dyn Plugin)) {
        if !self.hooks.contains(hook) {
            return;
        }
        for link in self.links.iter_mut().filter(|link| link.wants(hook)) {
            link.tell(&self.world, &message);
        }
    }

    /// Tells that a transaction is void.
    pub fn reset_transaction(&mut self, at: &End<'_>) {
        self.tell(Hook::ResetTransaction, |plugin| plugin.reset_transaction(at));
    }

    /// Tells that the session is over: `disconnect`, then `post_connection`.
    pub fn disconnect(&mut self, at: &End<'_>) {
        self.tell(Hook::Disconnect, |plugin| plugin.disconnect(at));
        self.tell(Hook::PostConnection, |plugin| plugin.post_connection(at));
    }

    /// Tells how the hand-over ended.
    pub fn queue_post(&mut self, at: &Queued<'_>) {
        self.tell(Hook::QueuePost, |plugin| plugin.queue_post(at));
    }
}

/// One method per hook: which facts, which method of the plugin.
macro_rules! hooks {
    ($($method:ident, $hook:ident, $facts:ident;)*) => {
        impl Chain {$(
            #[doc = concat!("Asks at `", stringify!($method), "`.")]
            pub fn $method(&mut self, at: &mut $facts<'_>) -> Outcome {
                self.ask(Hook::$hook, at, |plugin, at| plugin.$method(at))
            }
        )*}
    };
}
hooks! {
    pre_connection, PreConnection, Connect;
    connect, Connect, Connect;
    ehlo_parse, EhloParse, Text;
    helo_parse, HeloParse, Text;
    mail_parse, MailParse, Text;
    rcpt_parse, RcptParse, Text;
    mail_pre, MailPre, Text;
    rcpt_pre, RcptPre, Text;
    helo, Helo, Hello;
    ehlo, Ehlo, Hello;
    mail, Mail, Mail;
    rcpt, Rcpt, Rcpt;
    data, Data, Data;
    data_headers_end, DataHeadersEnd, Header;
    data_post_headers, DataPostHeaders, Content;
    received_line, ReceivedLine, ReceivedLine;
    data_post, DataPost, Content;
    queue_pre, QueuePre, Content;
    queue, Queue, Content;
    vrfy, Vrfy, Command;
    noop, Noop, Command;
    help, Help, Command;
    quit, Quit, Quit;
    unrecognized_command, UnrecognizedCommand, Command;
}

fn name_of(link: &Link) -> Rc<str> {
    Rc::clone(&link.name)
}

/// A verdict that this hook knows. Any other is a fault of the plugin, which must not be taken for consent.
fn fits(hook: Hook, ruling: Ruling) -> Answer {
    use Hook as H;
    let known = match ruling.verdict {
        Verdict::Decline | Verdict::Skip | Verdict::Accept | Verdict::Deny(_) => true,
        Verdict::Vouch => hook == H::Rcpt,
        Verdict::Answer(_) => matches!(hook, H::Vrfy | H::Noop | H::Help | H::Quit | H::UnrecognizedCommand),
        Verdict::Queued(_) => hook == H::Queue,
    };
    if known { Ok(ruling) } else { Err(Trouble::new(format!("its verdict is not for {}", hook.name()))) }
}

/// Applies the changes, all of them or the plugin is in trouble.
fn apply<F: Facts>(mut ruling: Ruling, at: &mut F, by: &str) -> Answer {
    let reasons = at.session().karma_reasons.len();
    at.apply(std::mem::take(&mut ruling.changes), by).map_err(Trouble::new)?;
    at.session_mut().explain_karma(reasons, &ruling);
    Ok(ruling)
}

/// The record's view of a ruling.
fn ruled(mut entry: Decision, ruling: &Ruling, withheld: Option<Withheld>) -> Decision {
    let (verdict, text) = match &ruling.verdict {
        Verdict::Decline => ("decline", ""),
        Verdict::Skip => ("skip", ""),
        Verdict::Accept => ("accept", ""),
        Verdict::Vouch => ("vouch", ""),
        Verdict::Deny(denial) => ("deny", denial.text.as_str()),
        Verdict::Answer(text) => ("answer", text.as_str()),
        Verdict::Queued(receipt) => ("queued", receipt.text.as_str()),
    };
    if let Verdict::Queued(receipt) = &ruling.verdict {
        entry.queue_id.clone_from(&receipt.id);
    }
    entry.verdict = verdict;
    entry.text = text.to_owned();
    entry.evidence.clone_from(&ruling.evidence);
    entry.withheld = withheld;
    entry
}

fn trouble_denial(plugin: &str) -> Denial {
    Denial::transient(format!("{plugin} cannot rule on this now, try again later")).code(3, 0)
}
