//! A DNS that says what it was told to: for tests of plugins, and for `try`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Answer, Dns, DnsName, Question, Record, zone};

/// A DNS of given records, in which no other name exists. What is given of a name that is none, or an address that is none,
/// is left out.
#[derive(Default)]
pub struct FakeDns {
    records: BTreeMap<DnsName, Vec<Record>>,
    /// Answers for whatever is asked of a name.
    whole: BTreeMap<DnsName, Answer>,
    asked: RefCell<Vec<Question>>,
    begun: RefCell<Vec<Question>>,
}

impl FakeDns {
    /// From lines `NAME TYPE VALUE`; see `postern try --help`.
    ///
    /// # Errors
    /// Every line that cannot be understood: its number, and what is wrong.
    pub fn parse(text: &str) -> Result<Self, Vec<(usize, String)>> {
        let (mut dns, mut faults) = (Self::default(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            match zone::line(line) {
                Ok(Some((name, zone::Said::Record(record)))) => dns.records.entry(name).or_default().push(record),
                Ok(Some((name, zone::Said::Answer(answer)))) => drop(dns.whole.insert(name, answer)),
                Ok(None) => {}
                Err(fault) => faults.push((index + 1, fault)),
            }
        }
        if faults.is_empty() { Ok(dns) } else { Err(faults) }
    }

    /// Gives a name these IPv4 addresses.
    pub fn a(self, name: &str, addresses: &[&str]) -> Self {
        let parsed = addresses.iter().filter_map(|address| address.parse::<Ipv4Addr>().ok());
        self.with(name, parsed.map(Record::A))
    }

    /// Gives a name these IPv6 addresses.
    pub fn aaaa(self, name: &str, addresses: &[&str]) -> Self {
        let parsed = addresses.iter().filter_map(|address| address.parse::<Ipv6Addr>().ok());
        self.with(name, parsed.map(Record::Aaaa))
    }

    /// Gives a name these mail exchangers; `.` says that there is none.
    pub fn mx(self, name: &str, exchangers: &[(u16, &str)]) -> Self {
        let parsed = exchangers.iter().filter_map(|(preference, exchange)| {
            Some(Record::Mx { preference: *preference, exchange: zone::target(exchange).ok()? })
        });
        self.with(name, parsed)
    }

    /// Gives an address these names.
    pub fn ptr(self, address: &str, names: &[&str]) -> Self {
        let parsed: Vec<Record> = names.iter().filter_map(|name| DnsName::new(name).ok()).map(Record::Ptr).collect();
        match address.parse() {
            Ok(ip) => self.with(DnsName::arpa(ip).as_str(), parsed.into_iter()),
            Err(_) => self,
        }
    }

    /// Gives a name these texts.
    pub fn txt(self, name: &str, texts: &[&str]) -> Self {
        self.with(name, texts.iter().map(|text| Record::Txt(text.as_bytes().to_vec())))
    }

    /// There is no such name, whatever was said of it.
    pub fn nxdomain(self, name: &str) -> Self {
        self.answer(name, Answer::NoSuchName)
    }

    /// Whatever is asked of this name fails, as with SERVFAIL.
    pub fn fails(self, name: &str) -> Self {
        self.answer(name, Answer::failed("SERVFAIL"))
    }

    /// Whatever is asked of this name is not answered in time.
    pub fn late(self, name: &str) -> Self {
        self.answer(name, Answer::Late)
    }

    /// This is the answer to whatever is asked of this name.
    pub fn answer(mut self, name: &str, answer: Answer) -> Self {
        if let Ok(name) = DnsName::new(name) {
            self.whole.insert(name, answer);
        }
        self
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<Question> {
        self.asked.borrow().clone()
    }

    /// What was begun so far, in order.
    pub fn begun(&self) -> Vec<Question> {
        self.begun.borrow().clone()
    }

    fn with(mut self, name: &str, records: impl Iterator<Item = Record>) -> Self {
        if let Ok(name) = DnsName::new(name) {
            self.records.entry(name).or_default().extend(records);
        }
        self
    }

    fn find(&self, question: &Question) -> Answer {
        if let Some(answer) = self.whole.get(&question.name) {
            return answer.clone();
        }
        let Some(records) = self.records.get(&question.name) else {
            return Answer::NoSuchName;
        };
        let found: Vec<Record> = records.iter().filter(|record| record.kind() == question.kind).cloned().collect();
        if found.is_empty() { Answer::NoData } else { Answer::Found(found) }
    }
}

impl Dns for FakeDns {
    fn ask(&self, questions: &[Question]) -> Vec<Answer> {
        self.asked.borrow_mut().extend_from_slice(questions);
        questions.iter().map(|question| self.find(question)).collect()
    }

    fn begin(&self, questions: &[Question]) {
        self.begun.borrow_mut().extend_from_slice(questions);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn question(name: &str, kind: Kind) -> Question {
        Question::new(DnsName::new(name).unwrap(), kind)
    }

    #[test]
    fn says_what_it_was_told() {
        let dns = FakeDns::default()
            .a("A.example.", &["127.0.0.2", "nonsense"])
            .mx("a.example", &[(10, "mx.example"), (0, ".")])
            .ptr("192.0.2.1", &["client.example"])
            .aaaa("six.example", &["2001:db8::1"])
            .fails("broken.example")
            .late("slow.example")
            .a("gone.example", &["127.0.0.1"])
            .nxdomain("gone.example");
        let exchange = |preference, exchange| Record::Mx { preference, exchange };
        let mx = DnsName::new("mx.example").unwrap();
        #[rustfmt::skip]
        let table = [
            (question("a.EXAMPLE", Kind::A), Answer::Found(vec![Record::A(Ipv4Addr::new(127, 0, 0, 2))])),
            (question("a.example", Kind::Mx), Answer::Found(vec![exchange(10, mx), exchange(0, DnsName::root())])),
            (question("a.example", Kind::Txt), Answer::NoData),
            (question("b.example", Kind::A), Answer::NoSuchName),
            (Question::reverse("192.0.2.1".parse().unwrap()), Answer::Found(vec![Record::Ptr(DnsName::new("client.example").unwrap())])),
            (question("broken.example", Kind::A), Answer::failed("SERVFAIL")),
            (question("slow.example", Kind::Txt), Answer::Late),
            (question("gone.example", Kind::A), Answer::NoSuchName),
        ];
        let (questions, answers): (Vec<Question>, Vec<Answer>) = table.into_iter().unzip();
        dns.begin(&questions[..2]);
        assert_eq!(dns.ask(&questions), answers);
        assert_eq!((dns.begun(), dns.asked()), (questions[..2].to_vec(), questions));
        assert_eq!(dns.ask_one(&question("b.example", Kind::Ns)), Answer::NoSuchName);
    }
}
