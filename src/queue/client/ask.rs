//! Asks the next hop at RCPT time whether it would take a recipient: MAIL and RCPT in a connection of their own, no content.
//!
//! In: an open transaction and a recipient of it. Out: an [`Opinion`]. One connection serves all the questions of a transaction;
//! one that was lost after it had answered is replaced, for a next hop may close it after some refusals.

use std::time::Duration;

use super::peer::Peer;
use super::reply::Reply;
use super::{Client, Failure};
use crate::hook::facts::Session;
use crate::mail::{Recipient, Transaction};
use crate::queue::{Opinion, QueueError};
use crate::smtp::address::ForwardPath;
use crate::smtp::escape::safe;

/// A question takes at most this, whatever `timeout` says: our client waits 5 minutes for RCPT (RFC 5321 §4.5.3.2.3).
const QUESTION_TIME: Duration = Duration::from_secs(120);

/// What is known of the next hop in this transaction.
#[derive(Default)]
pub(in crate::queue) struct Asker {
    state: State,
}

#[derive(Default)]
enum State {
    /// Nothing was asked yet.
    #[default]
    Nothing,
    /// MAIL was accepted; the next RCPT can be said.
    Open(Peer),
    /// It refused MAIL, in the words of this reply, so it would refuse every recipient.
    MailRefused(Peer, String, Reply),
    /// It cannot be asked, for this reason. Not tried again, or every RCPT would wait for as long.
    GivenUp(String),
}

impl Asker {
    /// Asks, within the time of one step.
    pub(in crate::queue) fn ask(
        &mut self,
        client: &Client,
        session: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Opinion {
        client.world.within(client.pace.min(QUESTION_TIME), || {
            if let State::Open(peer) = &mut self.state
                && let Ok(opinion) = rcpt(peer, &recipient.targets)
            {
                return opinion;
            }
            if matches!(self.state, State::Nothing | State::Open(_)) {
                self.state = begin(client, session, transaction);
            }
            match &mut self.state {
                State::Open(peer) => match rcpt(peer, &recipient.targets) {
                    Ok(opinion) => opinion,
                    Err(failure) => self.give_up(failure.error.evidence),
                },
                State::MailRefused(peer, line, reply) => Opinion::Refuses(peer.refused(line, "", reply).error),
                State::GivenUp(why) => Opinion::None(why.clone()),
                State::Nothing => Opinion::None(String::new()),
            }
        })
    }

    fn give_up(&mut self, why: String) -> Opinion {
        self.state = State::GivenUp(why.clone());
        Opinion::None(why)
    }

    /// The transaction is over: gives it up there, too.
    pub(in crate::queue) fn forget(&mut self) {
        if let State::Open(peer) | State::MailRefused(peer, ..) = std::mem::take(&mut self.state) {
            peer.reset();
        }
    }
}

/// To where RCPT can be said, at the first next hop that answers as it must.
fn begin(client: &Client, session: &Session, transaction: &Transaction) -> State {
    let mut told = Vec::new();
    for (place, way) in client.ways() {
        let begun = match way {
            Ok(way) => Peer::connect(&client.world, &way, client.pace)
                .and_then(|peer| mail(client, peer, session, transaction)),
            Err(error) => {
                told.push(format!("{place}: {error}"));
                continue;
            }
        };
        match begun {
            Ok(state) => return state,
            Err(failure) => told.push(failure.error.evidence),
        }
    }
    State::GivenUp(told.join("; "))
}

fn mail(client: &Client, mut peer: Peer, session: &Session, transaction: &Transaction) -> Result<State, Failure> {
    let offers = client.begin(&mut peer, session)?;
    let mut line = format!("MAIL FROM:{}", transaction.reverse_path);
    if offers.smtputf8 && transaction.parameters.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if line.contains(char::is_control) || !(offers.smtputf8 || line.is_ascii()) {
        peer.reset();
        return Ok(State::GivenUp("the sender cannot be told to the next hop".to_owned()));
    }
    let reply = peer.command(&line)?;
    match reply.code {
        200..=299 => Ok(State::Open(peer)),
        // About the connection.
        421 => Err(peer.garbage(&line, &reply.to_string())),
        400..=599 => Ok(State::MailRefused(peer, line, reply)),
        _ => Err(peer.garbage(&line, &reply.to_string())),
    }
}

/// Asks for every place that the recipient's mail goes to: if one is refused there, the whole message would be.
fn rcpt(peer: &mut Peer, targets: &[ForwardPath]) -> Result<Opinion, Failure> {
    let mut taken = Vec::new();
    for target in targets {
        let line = format!("RCPT TO:{target}");
        if line.contains(char::is_control) {
            return Ok(Opinion::None("an address holds a control character".to_owned()));
        }
        let reply = peer.command(&line)?;
        match reply.code {
            200..=299 => taken.push(format!("{line}: {reply}")),
            421 => return Err(peer.garbage(&line, &reply.to_string())),
            400..=599 => {
                let error: QueueError = peer.refused(&line, &safe(&target.to_string(), 260), &reply).error;
                return Ok(Opinion::Refuses(error));
            }
            _ => return Err(peer.garbage(&line, &reply.to_string())),
        }
    }
    Ok(Opinion::Takes(taken.join("; ")))
}
