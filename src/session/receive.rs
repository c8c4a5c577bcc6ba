//! From 354, or the first BDAT, to the content's last octet: spool, survey, limits. What becomes of it then is in `handover`.
//!
//! Whatever is wrong with the content is remembered and told after its real end, so that nothing in it can be taken for a command.

use std::io::ErrorKind;
use std::time::Instant;

use super::replies;
use super::state::{State, go};
use super::{Ear, Ended, NoTurns, Session, Step};
use crate::config::BareNewline;
use crate::hook::facts;
use crate::hook::{Hook, Outcome, Then};
use crate::mail::{Envelope, Header, Spool, SpoolPlace, Transaction};
use crate::smtp::data::DotDecoder;
use crate::smtp::normalise::Normaliser;
use crate::smtp::parameters::Body;
use crate::smtp::reply::Reply;
use crate::smtp::survey::Survey;
use crate::transport::Fault;

/// What is read and dropped of a message that is refused already, before we hang up: this many octets beyond the size limit.
const SWALLOW_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// A message on its way in.
pub(super) struct Receiving {
    pub(super) envelope: Envelope,
    pub(super) spool: Spool,
    pub(super) survey: Survey,
    /// Where the setting makes whole lines of bare CR and LF.
    pub(super) normaliser: Option<Normaliser>,
    /// Refused already; the rest is read and dropped.
    pub(super) refusal: Option<Reply>,
    /// The refusal disconnects: no more is read.
    pub(super) hang_up: bool,
    /// The refusal is in the record already.
    pub(super) reported: bool,
    pub(super) header_seen: bool,
    until: Instant,
}

/// Why content is read no further.
enum Stop {
    /// The client is gone, or too slow.
    Fault(Fault),
    /// We hang up, with this reply.
    HangUp(Reply),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stop> for Step {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) => Self::Fault(fault),
            Stop::HangUp(reply) => Self::Close(reply, Ended::Refused),
        }
    }
}

impl Session<'_> {
    /// DATA: 354, the content, its one reply.
    pub(super) fn data(&mut self, open: Transaction) -> Step {
        if open.parameters.body == Some(Body::BinaryMime) {
            return go(replies::binary_needs_bdat(), State::Mail(open));
        }
        let mut receiving = match self.open_content(open, false) {
            Ok(receiving) => receiving,
            Err(step) => return step,
        };
        self.say("DATA", &replies::go_ahead());
        if let Err(fault) = self.flush() {
            return Step::Fault(fault);
        }
        match self.receive_dotted(&mut receiving) {
            Ok(()) => self.conclude(receiving),
            Err(stop) => {
                self.report_unfinished(&receiving.envelope, receiving.survey.so_far().octets);
                stop.into()
            }
        }
    }

    /// Asks whether content may come at all. `chunked`: it is on its way, by BDAT; else nothing may come before 354, for DATA
    /// ends a pipelined group (RFC 2920 §3.1).
    fn open_content(&mut self, open: Transaction, chunked: bool) -> Result<Receiving, Step> {
        if open.recipients.is_empty() {
            return Err(go(replies::no_recipients(open.refused), State::Mail(open)));
        }
        if self.chain.wants(Hook::Data) {
            let ear = Ear::new(self.transport, &self.input, &self.world);
            let line: &dyn facts::Listen = if chunked { &NoTurns } else { &ear };
            let mut at = facts::Data { session: &mut self.facts, transaction: &open, line };
            if let Outcome::Denied(refused) = self.chain.data(&mut at) {
                let step = self.denied(&refused, &open.reverse_path.to_string(), State::Greeted);
                self.reset_transaction();
                return Err(step);
            }
        }
        let envelope = match Envelope::try_from(open) {
            Ok(envelope) => envelope,
            Err(open) => return Err(go(replies::no_recipients(open.refused), State::Mail(open))),
        };
        let place = SpoolPlace { threshold: self.core.size_threshold, dir: self.core.spool_dir.clone() };
        let normalise = self.core.bare_newline == BareNewline::Normalise && !is_binary(&envelope);
        Ok(Receiving {
            envelope,
            spool: Spool::new(place),
            survey: Survey::new(),
            normaliser: normalise.then(Normaliser::default),
            refusal: None,
            hang_up: false,
            reported: false,
            header_seen: false,
            until: (self.world.clock.instant() + self.core.message_time).min(self.until),
        })
    }

    /// Reads content up to CRLF.CRLF.
    fn receive_dotted(&mut self, receiving: &mut Receiving) -> Result<(), Stop> {
        let mut decoder = DotDecoder::new();
        loop {
            let fed = decoder.feed(self.input.unread_mut());
            self.take(receiving, fed.kept)?;
            self.input.consume(fed.consumed);
            if fed.done {
                return Ok(());
            }
            self.read_content(receiving.until)?;
        }
    }

    /// Reads more of what was promised. The end of input is a lost client here: what it promised did not come.
    fn read_content(&mut self, until: Instant) -> Result<(), Fault> {
        let patience = self.world.clock.instant() + self.core.data_timeout;
        match self.read_more(until.min(patience))? {
            0 => Err(Fault::Lost(ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// Takes the first `octets` of the input as content.
    fn take(&mut self, receiving: &mut Receiving, octets: usize) -> Result<(), Stop> {
        let content = &self.input.unread()[..octets];
        if content.is_empty() {
            return Ok(());
        }
        receiving.survey.feed(content);
        if receiving.refusal.is_none() {
            let spooled = match &mut receiving.normaliser {
                None => receiving.spool.write(content),
                Some(normaliser) => {
                    let mut whole = Vec::with_capacity(content.len() + 64);
                    normaliser.feed(content, &mut whole);
                    receiving.spool.write(&whole)
                }
            };
            self.check_limits(receiving, spooled);
        } else if receiving.survey.so_far().octets > self.size_max.unwrap_or(0).saturating_add(SWALLOW_OCTETS_MAX) {
            // It was refused long ago and goes on: enough.
            return Err(Stop::HangUp(replies::limit("message far too big", &self.facts.id)));
        }
        match receiving.refusal.take_if(|_| receiving.hang_up) {
            Some(reply) => Err(Stop::HangUp(reply)),
            None => Ok(()),
        }
    }

    /// Size, header and line limits while receiving; and the header once it is complete.
    fn check_limits(&mut self, receiving: &mut Receiving, spooled: std::io::Result<()>) {
        let id = &self.facts.id;
        let seen = receiving.survey.so_far();
        let (size_max, header_max) = (self.size_max.unwrap_or(u64::MAX), self.core.header_octets_max);
        let line_max = self.core.content_line_octets_max.unwrap_or(u64::MAX);
        receiving.refusal = if seen.octets > size_max {
            Some(replies::too_big(size_max, id))
        } else if seen.header_octets.unwrap_or(seen.octets) > header_max {
            Some(replies::header_too_big(header_max, id))
        } else if seen.over_long_line.is_some_and(|octets| octets > line_max) {
            Some(replies::content_line_too_long(line_max, id))
        } else if let Err(error) = spooled {
            tracing::error!("spool: error, {error}");
            let full =
                matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
            Some(replies::spool_trouble(full, id))
        } else {
            None
        };
        if receiving.refusal.is_some() {
            receiving.spool.abandon();
        } else if let Some(octets) = seen.header_octets.filter(|_| !receiving.header_seen) {
            receiving.header_seen = true;
            self.header_complete(receiving, octets);
        }
    }

    /// data_headers_end: a refusal is told after the end of data; a disconnecting one may cut.
    pub(super) fn header_complete(&mut self, receiving: &mut Receiving, octets: u64) {
        if !self.chain.wants(Hook::DataHeadersEnd) {
            return;
        }
        // Whole line ends may have made it longer, by an octet a line.
        let octets = if receiving.normaliser.is_some() { octets.saturating_mul(2) } else { octets };
        let header = match receiving.spool.head(octets) {
            Ok(header) => Header::received(&header),
            Err(error) => {
                tracing::error!("spool: error, {error}");
                receiving.refusal = Some(replies::spool_trouble(false, &self.facts.id));
                return;
            }
        };
        let mut at = facts::Header { session: &mut self.facts, envelope: &receiving.envelope, header: &header };
        if let Outcome::Denied(refused) = self.chain.data_headers_end(&mut at) {
            let about = receiving.envelope.reverse_path().to_string();
            receiving.hang_up = refused.denial.then == Then::Disconnect;
            receiving.refusal = Some(self.refuse(&refused, &about));
            receiving.reported = true;
            receiving.spool.abandon();
        }
    }

    /// The first BDAT: as DATA, but without 354 (RFC 3030 §2).
    pub(super) fn first_chunk(&mut self, open: Transaction, octets: u64, last: bool) -> Step {
        match self.open_content(open, true) {
            Ok(receiving) => self.chunk(receiving, octets, last),
            Err(Step::Go(reply, state)) => self.swallow(octets, reply, state),
            Err(other) => other,
        }
    }

    /// A BDAT chunk. One that fails ends the transaction, and its octets are swallowed.
    pub(super) fn chunk(&mut self, mut receiving: Receiving, octets: u64, last: bool) -> Step {
        let mut left = octets;
        while left > 0 {
            if self.input.unread().is_empty()
                && let Err(fault) = self.read_content(receiving.until)
            {
                return Step::Fault(fault);
            }
            let here = self.input.unread().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if let Err(stop) = self.take(&mut receiving, here) {
                return stop.into();
            }
            self.input.consume(here);
            left -= here as u64;
        }
        if last {
            return self.conclude(receiving);
        }
        match receiving.refusal.take() {
            Some(reply) => self.conclude_refused(&receiving, reply),
            None => go(replies::chunk_ok(octets), State::Chunks(Box::new(receiving))),
        }
    }

    /// Reads and drops a chunk that nobody wants, then replies.
    pub(super) fn swallow(&mut self, octets: u64, reply: Reply, state: State) -> Step {
        let until = (self.world.clock.instant() + self.core.message_time).min(self.until);
        let mut left = octets;
        if left > self.size_max.unwrap_or(0).saturating_add(SWALLOW_OCTETS_MAX) {
            return Step::Close(reply, Ended::Limit);
        }
        while left > 0 {
            if self.input.unread().is_empty()
                && let Err(fault) = self.read_content(until)
            {
                return Step::Fault(fault);
            }
            let here = self.input.unread().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(here);
            left -= here as u64;
        }
        Step::Go(reply, state)
    }
}

pub(super) fn is_binary(envelope: &Envelope) -> bool {
    envelope.parameters().body == Some(Body::BinaryMime)
}
