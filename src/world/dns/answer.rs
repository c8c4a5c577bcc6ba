//! Reads a server's message: what of it answers the question, and whether it can be believed.

use trust_dns_resolver::proto::op::{Message, ResponseCode};
use trust_dns_resolver::proto::rr::{DNSClass, Name, RData, Record as WireRecord, RecordType};

use super::{Answer, DnsName, Kind, NameError, Question, Record};

/// Steps of a chain of CNAMEs that are followed.
const ALIASES_MAX: usize = 8;
/// Records of one answer.
const RECORDS_MAX: usize = 100;
/// Octets of the texts and names in one answer.
const OCTETS_MAX: usize = 16 << 10;

/// A question on its way along CNAMEs.
pub(super) struct Search {
    kind: Kind,
    /// The names so far; the last is the one that is asked now.
    names: Vec<Name>,
}

impl Search {
    /// None: hickory does not take the name, which cannot be.
    pub(super) fn new(question: &Question) -> Option<Self> {
        let mut name = Name::from_labels(question.name.labels().map(str::as_bytes)).ok()?;
        name.set_fqdn(true);
        Some(Self { kind: question.kind, names: vec![name] })
    }

    /// What to ask.
    pub(super) fn name(&self) -> &Name {
        // There is a first one, and none is ever taken away.
        &self.names[self.names.len() - 1]
    }

    /// What to ask it for.
    pub(super) fn record_type(&self) -> RecordType {
        match self.kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Mx => RecordType::MX,
            Kind::Ptr => RecordType::PTR,
            Kind::Txt => RecordType::TXT,
            Kind::Ns => RecordType::NS,
            Kind::Soa => RecordType::SOA,
        }
    }

    /// The answer that a message is. None: it gave another name, to be asked next.
    pub(super) fn read(&mut self, message: &Message) -> Option<Answer> {
        let asked = self.names.len();
        let [query] = &*message.queries else {
            return Some(Answer::failed("an answer without our question"));
        };
        if query.name() != self.name() || query.query_type() != self.record_type() || query.query_class != DNSClass::IN
        {
            return Some(Answer::failed("an answer to another question"));
        }
        let ours = |record: &&WireRecord| record.dns_class == DNSClass::IN;
        while let Some(target) = message.answers.iter().filter(ours).find_map(|record| self.alias(record)) {
            if self.names.contains(target) {
                return Some(Answer::failed("CNAMEs that go in a circle"));
            }
            if self.names.len() > ALIASES_MAX {
                return Some(Answer::failed(format!("more than {ALIASES_MAX} CNAMEs")));
            }
            self.names.push(target.clone());
        }
        let answers = |record: &&WireRecord| {
            ours(record) && record.name == *self.name() && record.record_type() == self.record_type()
        };
        let found: Vec<&WireRecord> = message.answers.iter().filter(answers).collect();
        match (message.metadata.response_code, found.is_empty()) {
            (ResponseCode::NXDomain, true) => Some(Answer::NoSuchName),
            (ResponseCode::NXDomain, false) => Some(Answer::failed("records of a name that does not exist")),
            (_, false) => Some(records(&found)),
            (_, true) if self.names.len() > asked => None,
            // Neither the zone's server nor one that asks further: it knows nothing of this name (a lame delegation).
            (_, true) if !message.metadata.authoritative && !message.metadata.recursion_available => {
                Some(Answer::failed("the server does not know, and does not ask others"))
            }
            (_, true) => Some(Answer::NoData),
        }
    }

    /// Where a record says that the name that is asked now really is.
    fn alias<'a>(&self, record: &'a WireRecord) -> Option<&'a Name> {
        match &record.data {
            RData::CNAME(target) if record.name == *self.name() => Some(target),
            _ => None,
        }
    }
}

fn records(found: &[&WireRecord]) -> Answer {
    if found.len() > RECORDS_MAX {
        return Answer::failed(format!("more than {RECORDS_MAX} records"));
    }
    let read: Result<Vec<Record>, NameError> =
        found.iter().filter_map(|record| content(&record.data).transpose()).collect();
    match read {
        Err(error) => Answer::failed(format!("records that hold {error}")),
        Ok(records) if records.iter().map(octets).sum::<usize>() > OCTETS_MAX => {
            Answer::failed(format!("more than {OCTETS_MAX} octets of records"))
        }
        Ok(records) if records.is_empty() => Answer::failed("records without content"),
        Ok(records) => Answer::Found(records),
    }
}

/// What we can use of a record.
fn content(data: &RData) -> Result<Option<Record>, NameError> {
    Ok(Some(match data {
        RData::A(ip) => Record::A(ip.0),
        RData::AAAA(ip) => Record::Aaaa(ip.0),
        RData::MX(mx) => Record::Mx { preference: mx.preference, exchange: name(&mx.exchange)? },
        RData::PTR(of) => Record::Ptr(name(&of.0)?),
        RData::TXT(text) => Record::Txt(text.txt_data.concat()),
        RData::NS(server) => Record::Ns(name(&server.0)?),
        RData::SOA(soa) => Record::Soa { primary: name(&soa.mname)?, serial: soa.serial },
        _ => return Ok(None),
    }))
}

fn name(wire: &Name) -> Result<DnsName, NameError> {
    if wire.is_root() { Ok(DnsName::root()) } else { DnsName::checked(wire.iter()) }
}

fn octets(record: &Record) -> usize {
    match record {
        Record::A(_) => 4,
        Record::Aaaa(_) => 16,
        Record::Mx { exchange: name, .. } | Record::Ptr(name) | Record::Ns(name) => name.as_str().len(),
        Record::Soa { primary, .. } => primary.as_str().len(),
        Record::Txt(text) => text.len(),
    }
}
