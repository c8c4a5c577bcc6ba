//! Lists in the DNS (RFC 5782): what a zone's answer means, about a client above all, and whether the zone can be believed.
//!
//! A list says "listed" by an address of 127.0.0.0/8. Zones that died say other things, to everybody, and some say 127.0.0.2 to
//! everybody: so whoever lists a client is asked about 127.0.0.1 too, which no list may have in it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::within;
use crate::smtp::escape::safe;
use crate::world::dns::{Kind, Record};
use crate::world::{Answer, DnsName, Question, World};

/// What no zone may list (RFC 5782 §5): one that does lists everything.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Octets of a list's text that a client gets to see.
const TEXT_OCTETS_MAX: usize = 400;

/// Zones that one file may name: three questions each stay below what a session may ask.
pub(in super::super) const ZONES_MAX: usize = 60;

/// What a zone says of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Said {
    /// Listed: these answers, sorted, and the text beside them if it was asked for.
    Listed(Vec<Ipv4Addr>, Option<String>),
    /// Not listed.
    Unlisted,
    /// An answer that lists nobody, or of a zone that lists everybody; and why it is none.
    Void(String),
    /// The DNS could not say, or not in time.
    Unknown(String),
}

/// The question that a zone answers about a client; `None`: the name would be too long.
pub(in super::super) fn question(ip: IpAddr, zone: &DnsName) -> Option<Question> {
    DnsName::listed(ip, zone).ok().map(|name| Question::new(name, Kind::A))
}

/// Sends what will be asked, so that the answers are on their way.
pub(in super::super) fn begin<'a>(world: &World, ip: IpAddr, zones: impl Iterator<Item = &'a DnsName>) {
    let questions: Vec<Question> = zones.filter_map(|zone| question(ip, zone)).collect();
    world.dns.begin(&questions);
}

/// Asks all these zones at once, those marked for their text too; then those that list the client, whether they list nobody. Each of
/// the two rounds takes at most `timeout`, and the first at most half of the time that is left.
pub(in super::super) fn ask(world: &World, ip: IpAddr, zones: &[(&DnsName, bool)], timeout: Duration) -> Vec<Said> {
    let questions: Vec<Option<Question>> = zones.iter().map(|(zone, _)| question(ip, zone)).collect();
    let known: Vec<Question> = questions.iter().flatten().cloned().collect();
    let mut answers = round(world, &known, timeout, 2).into_iter();
    let mut said: Vec<Said> = questions
        .iter()
        .map(|question| match question {
            Some(_) => judge(&answers.next().unwrap_or(Answer::Late)),
            None => Said::Void("the name to ask for would be too long".to_owned()),
        })
        .collect();
    prove(world, &mut said, &questions, zones, timeout);
    said
}

/// Makes void what is said by zones that list 127.0.0.1 too, and fetches the texts of the others.
fn prove(
    world: &World,
    said: &mut [Said],
    questions: &[Option<Question>],
    zones: &[(&DnsName, bool)],
    timeout: Duration,
) {
    let lists = |index: &usize| matches!(said[*index], Said::Listed(..));
    let listing: Vec<usize> = (0..said.len()).filter(lists).collect();
    let nobody = |index: &usize| question(NOBODY, zones[*index].0);
    let tests: Vec<Option<Question>> = listing.iter().map(nobody).collect();
    let text = |index: &usize| {
        let name = questions[*index].as_ref().map(|question| question.name.clone());
        name.filter(|_| zones[*index].1).map(|name| Question::new(name, Kind::Txt))
    };
    let texts: Vec<Option<Question>> = listing.iter().map(text).collect();
    let all: Vec<Question> = tests.iter().chain(&texts).flatten().cloned().collect();
    let answers = round(world, &all, timeout, 1);
    let answer =
        |wanted: &Option<Question>| all.iter().position(|asked| Some(asked) == wanted.as_ref()).map(|at| &answers[at]);
    for ((index, test), text) in listing.into_iter().zip(&tests).zip(&texts) {
        if let Some(why) = answer(test).and_then(disproof) {
            said[index] = Said::Void(why);
        } else if let Said::Listed(_, shown) = &mut said[index] {
            *shown = answer(text).and_then(first_text);
        }
    }
}

/// Asks, if there is anything to be asked.
fn round(world: &World, questions: &[Question], timeout: Duration, part: u32) -> Vec<Answer> {
    if questions.is_empty() { Vec::new() } else { within(world, timeout, part, || world.dns.ask(questions)) }
}

/// What an answer about a client means.
pub(in super::super) fn judge(answer: &Answer) -> Said {
    match answer {
        Answer::NoSuchName | Answer::NoData => return Said::Unlisted,
        Answer::Failed { .. } | Answer::Late => return Said::Unknown(answer.to_string()),
        Answer::Found(_) => {}
    }
    let mut codes: Vec<Ipv4Addr> = loopback(answer).collect();
    codes.sort_unstable();
    if let Some(error) = codes.iter().find(|code| code.octets()[1..3] == [255, 255]) {
        return Said::Void(format!("{error} says that the list does not answer our resolver"));
    }
    codes.retain(|code| *code != Ipv4Addr::LOCALHOST);
    match codes.is_empty() {
        true => Said::Void(format!("{answer} is no answer of a list")),
        false => Said::Listed(codes, None),
    }
}

/// Why a zone that answers this about 127.0.0.1 cannot be believed.
fn disproof(answer: &Answer) -> Option<String> {
    if answer.is_unknown() {
        return Some(format!("whether it lists 127.0.0.1 too, and so everything, is not known ({answer})"));
    }
    let lists = loopback(answer).next().is_some();
    lists.then(|| format!("it lists 127.0.0.1 too ({answer}), and so everything"))
}

/// The answers in 127.0.0.0/8: others are not a list's.
fn loopback(answer: &Answer) -> impl Iterator<Item = Ipv4Addr> {
    answer.records().iter().filter_map(|record| match record {
        Record::A(ip) if ip.is_loopback() => Some(*ip),
        _ => None,
    })
}

/// The first text in the order of the alphabet, for the DNS gives them in any order.
pub(in super::super) fn first_text(answer: &Answer) -> Option<String> {
    let texts = answer.records().iter().filter_map(|record| match record {
        Record::Txt(octets) => Some(safe(String::from_utf8_lossy(octets).trim(), TEXT_OCTETS_MAX)),
        _ => None,
    });
    texts.filter(|text| !text.is_empty()).min()
}

/// The codes as evidence: "127.0.0.2, 127.0.0.4".
pub(in super::super) fn shown(codes: &[Ipv4Addr]) -> String {
    codes.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::fixture;
    use super::*;
    use crate::world::FakeDns;

    fn listed(codes: &[&str], text: Option<&str>) -> Said {
        Said::Listed(codes.iter().map(|code| code.parse().unwrap()).collect(), text.map(str::to_owned))
    }

    fn void(why: &str) -> Said {
        Said::Void(why.to_owned())
    }

    #[test]
    fn what_zones_say_and_what_it_means() {
        let dns = FakeDns::default()
            .a("9.2.0.192.one.test", &["127.0.0.2"])
            .a("9.2.0.192.two.test", &["127.0.0.11", "127.0.0.4", "203.0.113.1"])
            .txt("9.2.0.192.two.test", &["see b", "see a"])
            .a("9.2.0.192.parked.test", &["1.2.3.4", "203.0.113.1"])
            .a("9.2.0.192.dead.test", &["127.0.0.1"])
            .a("9.2.0.192.quota.test", &["127.255.255.254", "127.0.0.2"])
            .a("9.2.0.192.all.test", &["127.0.0.2"])
            .a("1.0.0.127.all.test", &["127.0.0.2"])
            .a("9.2.0.192.unproved.test", &["127.0.0.2"])
            .fails("1.0.0.127.unproved.test")
            .a("9.2.0.192.half.test", &["127.0.0.2"])
            .a("1.0.0.127.half.test", &["203.0.113.1"])
            .txt("9.2.0.192.nodata.test", &["only text"])
            .fails("9.2.0.192.broken.test")
            .late("9.2.0.192.slow.test")
            .a("9.2.0.192.notext.test", &["127.0.0.2"])
            .txt("9.2.0.192.notext.test", &["  "]);
        let (mut world, _dir) = fixture::world(&[]);
        world.dns = Rc::new(dns);
        let everything = "it lists 127.0.0.1 too (127.0.0.2), and so everything";
        let unproved = "whether it lists 127.0.0.1 too, and so everything, is not known (failed: SERVFAIL)";
        let quota = "127.255.255.254 says that the list does not answer our resolver";
        #[rustfmt::skip]
        let table = [
            ("one.test", listed(&["127.0.0.2"], None)),
            ("two.test", listed(&["127.0.0.4", "127.0.0.11"], Some("see a"))),
            ("clean.test", Said::Unlisted),
            ("nodata.test", Said::Unlisted),
            ("parked.test", void("1.2.3.4, 203.0.113.1 is no answer of a list")),
            ("dead.test", void("127.0.0.1 is no answer of a list")),
            ("quota.test", void(quota)),
            ("all.test", void(everything)),
            ("unproved.test", void(unproved)),
            ("half.test", listed(&["127.0.0.2"], None)),
            ("broken.test", Said::Unknown("failed: SERVFAIL".into())),
            ("slow.test", Said::Unknown("no answer in time".into())),
            ("notext.test", listed(&["127.0.0.2"], None)),
        ];
        let names: Vec<DnsName> = table.iter().map(|(zone, _)| DnsName::new(zone).unwrap()).collect();
        let zones: Vec<(&DnsName, bool)> = names.iter().map(|name| (name, true)).collect();
        let said = ask(&world, "192.0.2.9".parse().unwrap(), &zones, Duration::from_secs(5));
        for ((zone, expected), said) in table.iter().zip(said) {
            assert_eq!(said, *expected, "{zone}");
        }
        assert_eq!(world.deadline.get(), None, "left as it was");
    }

    #[test]
    fn two_rounds_and_no_more_questions_than_needed() {
        let (mut world, _dir) = fixture::world(&[]);
        let dns =
            Rc::new(FakeDns::default().a("9.2.0.192.a.test", &["127.0.0.2"]).a("9.2.0.192.b.test", &["127.0.0.2"]));
        world.dns = Rc::clone(&dns) as _;
        let names = ["a.test", "b.test", "c.test"].map(|zone| DnsName::new(zone).unwrap());
        let zones = [(&names[0], false), (&names[1], true), (&names[2], true)];
        ask(&world, "192.0.2.9".parse().unwrap(), &zones, Duration::from_secs(5));
        let asked: Vec<String> = dns.asked().iter().map(ToString::to_string).collect();
        let expected = [
            "9.2.0.192.a.test A",
            "9.2.0.192.b.test A",
            "9.2.0.192.c.test A",
            "1.0.0.127.a.test A",
            "1.0.0.127.b.test A",
            "9.2.0.192.b.test TXT",
        ];
        assert_eq!(asked, expected);
    }

    #[test]
    fn ipv6_is_asked_by_nibbles() {
        let zone = DnsName::new("six.test").unwrap();
        let asked = |ip: &str| question(ip.parse().unwrap(), &zone).unwrap().name.to_string();
        let nibbles = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.six.test";
        assert_eq!(asked("2001:db8::7"), nibbles);
        assert_eq!(asked("::ffff:192.0.2.9"), "9.2.0.192.six.test");
        let long = DnsName::new(&["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".")).unwrap();
        assert_eq!(question("2001:db8::7".parse().unwrap(), &long), None);
    }
}
