//! A client for SMTP and LMTP, shared by the backends that relay (RFC 5321, 2033, 2920).
//!
//! In: next hops in the order in which they are tried, an envelope, a message. Out: the replies to the end of data, or why
//! nothing was sent. Another next hop is tried only while the message's end has not been sent, so none gets it twice.
//! STARTTLS has its place in `begin`, between EHLO and XCLIENT.

mod ask;
mod chunks;
mod identity;
mod offers;
mod peer;
pub(super) mod place;
pub(super) mod reply;
mod settings;
mod stuffing;
mod words;

use std::io;
use std::time::Duration;

pub(super) use self::ask::Asker;
use self::offers::Offers;
use self::peer::Peer;
use self::place::{Place, Way};
use self::reply::Reply;
pub(super) use self::settings::{positional, read};
use self::stuffing::{Stuffing, is_bare};
use super::QueueError;
use crate::hook::facts::Session;
use crate::hook::{Receipt, Severity};
use crate::mail::{Envelope, LineEnds, Message};
use crate::smtp::escape::safe;
use crate::smtp::parameters::Body;
use crate::world::{Address, Job, World};

/// qpsmtpd's words; the backend's name and what is the matter follow.
const UNABLE: &str = "Unable to queue message: ";

/// Never sent, unless the client declared binary content.
const BARE: &str = "the message holds a bare CR or LF, which cannot be sent";

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// One reply to the end of data.
    Smtp,
    /// One for each recipient.
    Lmtp,
}

/// A client and where it goes.
pub(super) struct Client {
    pub(super) world: World,
    /// The backend whose client it is, for what our own client is told.
    pub(super) name: &'static str,
    pub(super) protocol: Protocol,
    pub(super) places: Vec<Place>,
    /// What it calls itself, if not our own name.
    pub(super) helo: Option<String>,
    pub(super) xclient: bool,
    pub(super) xforward: bool,
    /// Content goes by BDAT where that is offered.
    pub(super) chunking: bool,
    pub(super) pace: Duration,
    pub(super) deadline: Duration,
}

/// Why nothing was handed over, or why it is not known whether.
struct Failure {
    error: QueueError,
    /// It was about this next hop, and another may be asked.
    elsewhere: bool,
}

impl Failure {
    fn elsewhere(text: &str, evidence: String, (subject, detail): (u16, u16)) -> Self {
        let text = format!("{UNABLE}{text}");
        Self { error: QueueError::transient(text, evidence).code(subject, detail), elsewhere: true }
    }

    fn here(mut self) -> Self {
        self.elsewhere = false;
        self
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self { error, elsewhere: false }
    }
}

/// Our own spool cannot be read.
fn spool(error: &io::Error) -> QueueError {
    QueueError::transient(format!("{UNABLE}the message cannot be read back"), error.to_string())
}

impl Client {
    /// One that talks with a program; the job's pace is its own.
    pub(super) fn of_program(world: &World, name: &'static str, job: Job, deadline: Duration) -> Self {
        Self {
            world: world.clone(),
            name,
            protocol: Protocol::Smtp,
            pace: job.pace,
            places: vec![Place::Program(job)],
            helo: None,
            xclient: false,
            xforward: false,
            // What these programs were tried with.
            chunking: false,
            deadline,
        }
    }

    /// By SMTP: what the one reply to the end of data makes of the message.
    pub(super) fn queue(
        &self,
        session: &Session,
        envelope: &Envelope,
        message: &Message,
    ) -> Result<Receipt, QueueError> {
        match self.deliver(session, envelope, message)?.first() {
            Some(reply) if reply.class() == 2 => Ok(receipt(reply)),
            Some(reply) => Err(final_refusal(reply)),
            None => Err(QueueError::transient("Unable to queue message", "no reply to the end of data")),
        }
    }

    /// Hands the message to the first next hop that listens. The replies to the end of data: one, or by LMTP one for each of
    /// the forward-paths.
    pub(super) fn deliver(
        &self,
        session: &Session,
        envelope: &Envelope,
        message: &Message,
    ) -> Result<Vec<Reply>, QueueError> {
        self.world.within(self.deadline, || {
            let mut told = Vec::new();
            let mut last = None;
            let mut untouched = true;
            for (place, way) in self.ways() {
                let failure = match way {
                    Ok(way) => match self.attempt(&way, session, envelope, message) {
                        Ok(replies) => return Ok(replies),
                        Err(failure) => failure,
                    },
                    Err(error) => {
                        Failure::elsewhere("the next hop cannot be found", format!("{place}: {error}"), (4, 1))
                    }
                };
                told.push(failure.error.evidence.clone());
                let go_on = failure.elsewhere;
                untouched &= go_on;
                last = Some(failure.error);
                if !go_on {
                    break;
                }
            }
            let mut error = last.unwrap_or_else(|| QueueError::transient(format!("{UNABLE}no next hop"), ""));
            told.retain(|told| !told.is_empty());
            error.evidence = told.join("; ");
            // What may be tried elsewhere was surely not handed over.
            error.untouched = untouched;
            error.text = error.text.replacen(UNABLE, &format!("{UNABLE}{}: ", self.name), 1);
            Err(error)
        })
    }

    /// Every way to try, a name looked up when its turn comes.
    fn ways(&self) -> impl Iterator<Item = (&Place, io::Result<Way>)> {
        self.places.iter().flat_map(|place| {
            let found = self.world.within(self.pace, || place.ways(&self.world));
            let found = match found {
                Ok(found) if found.is_empty() => vec![Err(io::ErrorKind::NotFound.into())],
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            found.into_iter().map(move |way| (place, way))
        })
    }

    /// One line for every next hop that does not answer as it must. Queues nothing.
    pub(super) fn check(&self) -> Vec<String> {
        let told = |(place, way): (&Place, io::Result<Way>)| {
            let name = self.helo.clone().unwrap_or_else(|| self.world.host.name());
            let way = match way {
                Ok(way) => way,
                Err(error) => return Some(format!("{place}: no address: {error}; write an address, or mend the name")),
            };
            let mut peer = match Peer::connect(&self.world, &way, self.pace) {
                Ok(peer) => peer,
                Err(failure) => {
                    let mend = match way {
                        Way::Net(Address::Unix(_)) => {
                            " The modes of the socket and of the directories above it must let the user that serves in"
                        }
                        _ => "",
                    };
                    return Some(format!("{}; does a server listen there?{mend}", failure.error.evidence));
                }
            };
            let offers = self.greet(&mut peer).and_then(|()| self.hello(&mut peer, &name));
            let fault = match &offers {
                Err(failure) => Some(format!("{}{}{}", failure.error.evidence, peer.aside(), self.no_greeting(place))),
                Ok(offers) if self.xclient && offers.xclient.is_empty() => Some(format!(
                    "{place}: does not offer XCLIENT to us; in Postfix set smtpd_authorized_xclient_hosts there"
                )),
                Ok(_) => None,
            };
            peer.quit();
            fault
        };
        self.world.within(self.deadline, || self.ways().filter_map(told).collect())
    }

    /// For `check`: what to do about a server that does not greet as it must.
    fn no_greeting(&self, place: &Place) -> &'static str {
        match (place, self.protocol) {
            (Place::Program(_), _) => "",
            (_, Protocol::Smtp) => {
                "; it speaks no SMTP, or turns us away: name the port of an SMTP server, or let this machine in"
            }
            (_, Protocol::Lmtp) => {
                "; it speaks no LMTP, or turns us away: name the port or socket of an LMTP server (for SMTP: queue/smtp-forward)"
            }
        }
    }

    fn attempt(
        &self,
        way: &Way,
        session: &Session,
        envelope: &Envelope,
        message: &Message,
    ) -> Result<Vec<Reply>, Failure> {
        let mut peer = Peer::connect(&self.world, way, self.pace)?;
        let (mut failure, stage) = match self.transact(&mut peer, session, envelope, message) {
            Ok(replies) => {
                peer.quit();
                return Ok(replies);
            }
            Err(failed) => failed,
        };
        failure.error.evidence.push_str(&peer.aside());
        // Where it is lost nobody is there who could be told.
        if let Stage::Open = stage {
            peer.reset();
        }
        Err(failure)
    }

    fn transact(
        &self,
        peer: &mut Peer,
        session: &Session,
        envelope: &Envelope,
        message: &Message,
    ) -> Result<Vec<Reply>, (Failure, Stage)> {
        let offers = self.begin(peer, session).map_err(open)?;
        let lines = words::lines(&offers, envelope, message).map_err(|error| open(error.into()))?;
        let replies = peer.commands(&lines, offers.pipelining).map_err(open)?;
        refusals(peer, &lines, &replies, envelope).map_or(Ok(()), |failure| Err(open(failure)))?;
        if offers.chunking {
            let binary = envelope.parameters().body == Some(Body::BinaryMime);
            chunks::send(peer, message, binary, offers.pipelining)?;
        } else {
            let reply = peer.command("DATA").map_err(open)?;
            if reply.code != 354 {
                return Err(open(peer.refused("DATA", "", &reply)));
            }
            peer.nothing_came("DATA").map_err(lost)?;
            self.content(peer, message).map_err(lost)?;
        }
        let count = if self.protocol == Protocol::Lmtp { lines.len() - 1 } else { 1 };
        // From here on it may be queued there, whatever we hear: no other next hop may have it.
        let replies: Result<Vec<Reply>, Failure> = (0..count).map(|_| peer.reply("end of data")).collect();
        let replies = replies.map_err(|failure| lost(failure.here()))?;
        match replies.iter().find(|reply| !matches!(reply.code, 250..=259 | 400..=599)) {
            Some(odd) => Err(lost(peer.garbage("end of data", &odd.to_string()).here())),
            None => Ok(replies),
        }
    }

    /// From the greeting to where MAIL can be said.
    fn begin(&self, peer: &mut Peer, session: &Session) -> Result<Offers, Failure> {
        let name = self.helo.as_deref().unwrap_or(&session.me);
        self.greet(peer)?;
        let offers = self.hello(peer, name)?;
        if self.xclient {
            if offers.xclient.is_empty() {
                // It would judge us in place of the client, and trust us.
                return Err(peer.garbage("EHLO", "XCLIENT is wanted and not offered"));
            }
            for line in identity::lines("XCLIENT", &offers.xclient, session) {
                let reply = peer.command(&line)?;
                if reply.code != 220 {
                    return Err(peer.garbage("XCLIENT", &reply.to_string()));
                }
            }
            let client = session.hello.as_ref().map(|hello| hello.name.text()).filter(|name| name.is_ascii());
            return self.hello(peer, client.unwrap_or(name));
        }
        if self.xforward && !offers.xforward.is_empty() {
            // For its log only: a refusal is no reason not to send the message.
            for line in identity::lines("XFORWARD", &offers.xforward, session) {
                if peer.command(&line)?.class() != 2 {
                    break;
                }
            }
        }
        Ok(offers)
    }

    fn greet(&self, peer: &mut Peer) -> Result<(), Failure> {
        let reply = peer.reply("greeting")?;
        // Also a 554 is about the connection, and says nothing of the message.
        if reply.code == 220 { Ok(()) } else { Err(peer.garbage("greeting", &reply.to_string())) }
    }

    fn hello(&self, peer: &mut Peer, name: &str) -> Result<Offers, Failure> {
        let verb = if self.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
        let reply = peer.command(&format!("{verb} {name}"))?;
        if reply.code == 250 {
            return Ok(Offers::of(&reply, self.chunking));
        }
        if reply.class() != 5 || self.protocol == Protocol::Lmtp {
            return Err(peer.garbage(verb, &reply.to_string()));
        }
        let reply = peer.command(&format!("HELO {name}"))?;
        if reply.code == 250 { Ok(Offers::default()) } else { Err(peer.garbage("HELO", &reply.to_string())) }
    }

    /// Everything after 354.
    fn content(&self, peer: &mut Peer, message: &Message) -> Result<(), Failure> {
        let mut stream = peer.stream();
        let mut stuffing = Stuffing::new(&mut stream);
        let written = message.write_to(&mut stuffing, LineEnds::Crlf);
        let (ours, bare) = (!stuffing.failed, stuffing.bare);
        let (written, ended) = match written {
            Ok(()) => (stuffing.finish(), true),
            Err(error) => (Err(error), false),
        };
        let Err(error) = written else { return Ok(()) };
        if bare || is_bare(&error) {
            return Err(QueueError::permanent(BARE, "").code(6, 0).into());
        }
        if ours && !ended {
            return Err(spool(&error).into());
        }
        let failure = peer.lost("the message", &error);
        if ended {
            return Err(failure.here());
        }
        // A far end that hangs up in the middle mostly says why.
        match (error.kind(), peer.reply("the message")) {
            (io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset, Ok(reply)) if reply.class() >= 4 => {
                Err(peer.refused("the message", "", &reply))
            }
            _ => Err(failure),
        }
    }
}

/// Where a failure leaves the connection.
enum Stage {
    /// Commands can be said.
    Open,
    /// Nothing can: it would be content, or there is nobody.
    Lost,
}

fn open(failure: Failure) -> (Failure, Stage) {
    (failure, Stage::Open)
}

fn lost(failure: Failure) -> (Failure, Stage) {
    (failure, Stage::Lost)
}

/// Whether MAIL or any recipient was refused: then nothing is sent. Transient if any refusal of a recipient is.
fn refusals(peer: &Peer, lines: &[String], replies: &[Reply], envelope: &Envelope) -> Option<Failure> {
    let mut all = lines.iter().zip(replies);
    let (mail, reply) = all.next()?;
    if reply.class() != 2 {
        return Some(peer.refused(mail, "", reply));
    }
    let paths = envelope.forward_paths();
    let mut refused: Vec<Failure> = all
        .zip(paths)
        .filter(|((_, reply), _)| reply.class() != 2)
        .map(|((line, reply), path)| peer.refused(line, &safe(&path.to_string(), 260), reply))
        .collect();
    let evidence: Vec<String> = refused.iter().take(5).map(|failure| failure.error.evidence.clone()).collect();
    let transient = refused.iter().position(|failure| failure.error.severity == Severity::Transient);
    let mut failure = (!refused.is_empty()).then(|| refused.swap_remove(transient.unwrap_or(0)))?;
    failure.error.evidence = evidence.join("; ");
    Some(failure)
}

/// The far end's own name for the message, or its words.
fn receipt(reply: &Reply) -> Receipt {
    match reply.id() {
        Some(id) => Receipt { id: Some(id), text: "queued".to_owned() },
        None if reply.text().is_empty() => Receipt { id: None, text: "queued".to_owned() },
        None => Receipt { id: None, text: format!("queued: {}", reply.text()) },
    }
}

/// What a refusal of the end of data means.
pub(super) fn final_refusal(reply: &Reply) -> QueueError {
    let said = reply.text();
    let text = if said.is_empty() { format!("the next hop said {}", reply.code) } else { said };
    let severity = if reply.class() == 5 { Severity::Permanent } else { Severity::Transient };
    let evidence = format!("end of data: {reply}");
    QueueError { severity, text, enhanced: reply.enhanced().unwrap_or((3, 0)), evidence, untouched: false }
}
