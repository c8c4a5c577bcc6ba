//! Lines of a scripted DNS: `NAME TYPE VALUE`, or `NAME` and what becomes of every question about it.

use std::net::IpAddr;

use super::{Answer, DnsName, Record};

/// What a line says of its name.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Record(Record),
    Answer(Answer),
}

/// Reads a line; None: it is empty or a comment.
pub(super) fn line(text: &str) -> Result<Option<(DnsName, Said)>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (owner, rest) = word(text);
    let (kind, value) = word(rest);
    let kind = kind.to_ascii_uppercase();
    let name = match owner.parse::<IpAddr>() {
        Ok(ip) if kind == "PTR" => DnsName::arpa(ip),
        _ => DnsName::new(owner).map_err(|error| format!("{owner:?} is {error}"))?,
    };
    let answer = match kind.as_str() {
        "NXDOMAIN" => Some(Answer::NoSuchName),
        "SERVFAIL" => Some(Answer::failed("SERVFAIL")),
        "TIMEOUT" => Some(Answer::Late),
        _ => None,
    };
    let said = match answer {
        Some(answer) if value.is_empty() => Said::Answer(answer),
        Some(_) => return Err(format!("{kind} takes no value")),
        None => Said::Record(record(&kind, value)?),
    };
    Ok(Some((name, said)))
}

fn record(kind: &str, value: &str) -> Result<Record, String> {
    let wrong = |what: &str| format!("{value:?} is not {what}");
    Ok(match kind {
        "A" => Record::A(value.parse().map_err(|_| wrong("an IPv4 address"))?),
        "AAAA" => Record::Aaaa(value.parse().map_err(|_| wrong("an IPv6 address"))?),
        "MX" => {
            let (preference, exchange) = word(value);
            let preference = preference.parse().map_err(|_| wrong("a preference and a name"))?;
            Record::Mx { preference, exchange: target(exchange)? }
        }
        "PTR" => Record::Ptr(target(value)?),
        "NS" => Record::Ns(target(value)?),
        "TXT" => {
            let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
            Record::Txt(bare.as_bytes().to_vec())
        }
        "" => return Err("a name without a type".to_owned()),
        _ => {
            let kinds = "A, AAAA, MX, PTR, TXT, NS, NXDOMAIN, SERVFAIL or TIMEOUT";
            return Err(format!("{kind:?} is not {kinds}"));
        }
    })
}

/// A name that a record points to, which may be the root.
pub(super) fn target(text: &str) -> Result<DnsName, String> {
    if text == "." {
        return Ok(DnsName::root());
    }
    DnsName::new(text).map_err(|error| format!("{text:?} is {error}"))
}

/// The first word, and the rest without the blanks between.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Dns, FakeDns, Kind, Question};
    use super::*;

    #[test]
    fn a_file() {
        let text = "# what is there\n\n2.0.0.127.zen.test\tA 127.0.0.2\n2.0.0.127.zen.test txt \"listed, see  here\"\n\
                    192.0.2.1 PTR client.example.\n a.example MX  10 mx.example\nnone.example MX 0 .\nslow.example TIMEOUT\n\
                    broken.example servfail\ngone.example NXDOMAIN\n";
        let dns = FakeDns::parse(text).unwrap();
        let ask = |name: &str, kind| dns.ask_one(&Question::new(DnsName::new(name).unwrap(), kind)).to_string();
        #[rustfmt::skip]
        let table = [
            ("2.0.0.127.zen.test", Kind::A, "127.0.0.2"),
            ("2.0.0.127.zen.test", Kind::Txt, "\"listed, see  here\""),
            ("1.2.0.192.in-addr.arpa", Kind::Ptr, "client.example"),
            ("a.example", Kind::Mx, "10 mx.example"),
            ("a.example", Kind::A, "no such record"),
            ("none.example", Kind::Mx, "0 ."),
            ("slow.example", Kind::A, "no answer in time"),
            ("broken.example", Kind::A, "failed: SERVFAIL"),
            ("gone.example", Kind::A, "no such name"),
            ("else.example", Kind::A, "no such name"),
        ];
        for (name, kind, want) in table {
            assert_eq!(ask(name, kind), want, "{name} {kind}");
        }
    }

    #[test]
    fn faults() {
        let table = [
            ("a.example", "a name without a type"),
            ("a.example X 1", "\"X\" is not A, AAAA, MX, PTR, TXT, NS, NXDOMAIN, SERVFAIL or TIMEOUT"),
            ("a.example A ::1", "\"::1\" is not an IPv4 address"),
            ("a.example MX mx.example", "\"mx.example\" is not a preference and a name"),
            ("a.example MX 1 a..b", "\"a..b\" is a name with an empty label"),
            ("a..example A 1.2.3.4", "\"a..example\" is a name with an empty label"),
            ("a.example TIMEOUT 3", "TIMEOUT takes no value"),
        ];
        for (text, want) in table {
            assert_eq!(line(text), Err(want.to_owned()));
        }
        let faults = FakeDns::parse("a.example A x\nb.example A 127.0.0.1\nb.example B\n").err().unwrap();
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    }
}
