//! The fields that a server puts on top of a message (RFC 5321 §4.4), as text with CRLF line ends.
//!
//! In: what the session knows. Out: whole fields for `Message::prepend` and `Message::write_below`. What came from
//! outside cannot end a line, open or close a comment, or add a word: filters trust the shape of these lines.

use std::fmt::Display;
use std::fmt::Write as _;
use std::net::IpAddr;

/// RFC 5322 §2.1.1: a line should have no more characters, without its CRLF.
const LINE_OCTETS: usize = 78;

/// RFC 5321 §4.5.3.1.2.
const DOMAIN_OCTETS_MAX: usize = 255;

/// RFC 5321 §4.5.3.1.3, without brackets.
const MAILBOX_OCTETS_MAX: usize = 254;

/// A session id, or what an ident server says.
const WORD_OCTETS_MAX: usize = 64;

/// What one Received field tells. Texts may be as hostile as they like.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The argument of HELO or EHLO.
    pub hello: &'a str,
    /// The client's name by DNS; none: `unknown`.
    pub remote_host: Option<&'a str>,
    /// What an ident server says of the client (RFC 1413), if it was asked.
    pub remote_info: Option<&'a str>,
    /// The client's address; none if there is no network between, and then nothing is said about the client.
    pub remote_ip: Option<IpAddr>,
    /// Our name.
    pub by: &'a str,
    /// See [`protocol`].
    pub protocol: &'static str,
    /// The session's or transaction's id, as the log has it.
    pub id: &'a str,
    /// The forward-path without brackets, if there is only one: several would tell each of the others.
    pub recipient: Option<&'a str>,
    /// Seconds since 1970, UTC.
    pub unix_s: i64,
    /// Seconds by which local time is ahead of UTC.
    pub utc_offset_s: i32,
}

/// The field, in the shape that sendmail and Postfix use and SpamAssassin reads:
/// `Received: from HELLO (HOST [IP]) by ME (postern) with ESMTP id ID for <MAILBOX>; DATE`.
pub fn received(facts: &Received<'_>) -> String {
    let mut lines = Lines { text: "Received:".to_owned(), line_start: 0 };
    lines.add(&format!("from {}", host(facts.hello)));
    if let Some(ip) = facts.remote_ip {
        let info = facts.remote_info.map(|info| format!("{}@", word(info))).unwrap_or_default();
        let name = facts.remote_host.map_or_else(|| "unknown".to_owned(), host);
        lines.add(&format!("({info}{name} {})", literal(ip)));
    }
    lines.new_line();
    lines.add(&format!("by {} (postern)", host(facts.by)));
    let date = date(facts.unix_s, facts.utc_offset_s);
    let with = format!("with {} id {}", facts.protocol, word(facts.id));
    match facts.recipient.filter(|mailbox| is_plain_mailbox(mailbox)) {
        Some(mailbox) => {
            lines.add(&with);
            lines.new_line();
            lines.add(&format!("for <{mailbox}>;"));
        }
        None => lines.add(&format!("{with};")),
    }
    lines.add(&date);
    lines.text + "\r\n"
}

/// The word after `with`: RFC 3848, with SMTPUTF8 RFC 6531 §4.3. HELO knows neither extensions nor words for them.
pub fn protocol(ehlo: bool, smtputf8: bool, tls: bool, authenticated: bool) -> &'static str {
    match (ehlo, smtputf8, tls, authenticated) {
        (false, ..) => "SMTP",
        (true, false, false, false) => "ESMTP",
        (true, false, false, true) => "ESMTPA",
        (true, false, true, false) => "ESMTPS",
        (true, false, true, true) => "ESMTPSA",
        (true, true, false, false) => "UTF8SMTP",
        (true, true, false, true) => "UTF8SMTPA",
        (true, true, true, false) => "UTF8SMTPS",
        (true, true, true, true) => "UTF8SMTPSA",
    }
}

/// `Return-Path: <a@b>`, for a backend that is the final delivery (RFC 5321 §4.4). The path comes with its brackets.
pub fn return_path(reverse_path: &impl Display) -> String {
    format!("Return-Path: {}\r\n", printable(&reverse_path.to_string()))
}

/// `Delivered-To: a@b`, by which a delivery knows that it was there before.
pub fn delivered_to(mailbox: &str) -> String {
    format!("Delivered-To: {}\r\n", printable(mailbox))
}

/// A date as in RFC 5322 §3.3: `Thu, 29 Feb 2024 12:34:56 +0100`. An offset of a day or more is taken as UTC.
pub fn date(unix_s: i64, utc_offset_s: i32) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // The zone has no seconds, so the time shown must not have those of the offset either.
    let minutes = if utc_offset_s.abs() < 86_400 { utc_offset_s / 60 } else { 0 };
    let local_s = unix_s.saturating_add(i64::from(minutes) * 60);
    let (days, second) = (local_s.div_euclid(86_400), local_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text = format!("{}, {day:02} {} {year:04} ", at(&DAYS, days.rem_euclid(7)), at(&MONTHS, month - 1));
    let (sign, zone) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
    // Writing to a String cannot fail.
    let _ = write!(text, "{:02}:{:02}:{:02} ", second / 3600, second / 60 % 60, second % 60);
    let _ = write!(text, "{sign}{:02}{:02}", zone / 60, zone % 60);
    text
}

fn at(names: &[&'static str], index: i64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years begin in March here, so
/// that the leap day is the last one; 400 years have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days from 0000-03-01
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A field that is folded between words, where lines would get long.
struct Lines {
    text: String,
    line_start: usize,
}

impl Lines {
    fn add(&mut self, words: &str) {
        let line_octets = self.text.len() - self.line_start;
        if self.text.ends_with('\t') {
            // Folding has put a blank there.
        } else if line_octets + 1 + words.len() > LINE_OCTETS {
            self.new_line();
        } else {
            self.text.push(' ');
        }
        self.text.push_str(words);
    }

    fn new_line(&mut self) {
        self.text.push_str("\r\n");
        self.line_start = self.text.len();
        self.text.push('\t');
    }
}

/// A host name or address literal.
fn host(text: &str) -> String {
    let within = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match within {
        Some(address) => format!("[{}]", replaced(address, DOMAIN_OCTETS_MAX, |octet| b".:-".contains(&octet))),
        None => replaced(text, DOMAIN_OCTETS_MAX, |octet| b".-_:".contains(&octet)),
    }
}

fn word(text: &str) -> String {
    replaced(text, WORD_OCTETS_MAX, |octet| b".-_:+=/".contains(&octet))
}

/// Letters, digits and what else is allowed; all other characters become `?`. Nothing at all becomes `unknown`.
fn replaced(text: &str, octets_max: usize, allowed: impl Fn(u8) -> bool) -> String {
    let safe = |octet: u8| octet.is_ascii_alphanumeric() || allowed(octet);
    let shown = |character: char| u8::try_from(character).ok().filter(|&octet| safe(octet)).map_or('?', char::from);
    let text: String = text.chars().take(octets_max).map(shown).collect();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

/// RFC 5321 §4.1.3. An IPv4 address that came over IPv6 is shown as what it is.
fn literal(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// Quoted local-parts are legal in `for`, but readers split the line at what may stand in them, so those are left out,
/// as is what is not ASCII (which only an SMTPUTF8 message might show).
fn is_plain_mailbox(text: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_graphic() && !b"()<>,;:\\\"".contains(&octet);
    // Domain literals have colons.
    let (local_part, domain) = text.rsplit_once('@').unwrap_or((text, ""));
    text.len() <= MAILBOX_OCTETS_MAX
        && !local_part.is_empty()
        && local_part.bytes().all(plain)
        && domain.bytes().all(|octet| octet == b':' || plain(octet))
}

/// A path as it is: parsed, it has no control characters; if it was not, they become `?`. RFC 6532 allows UTF-8.
fn printable(text: &str) -> String {
    text.chars()
        .scan(0, |octets, character| {
            *octets += character.len_utf8();
            (*octets <= 2 * MAILBOX_OCTETS_MAX).then_some(if character.is_control() { '?' } else { character })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::header::{Header, unfolded};

    const PLAIN: Received<'_> = Received {
        hello: "client.example",
        remote_host: Some("rdns.example"),
        remote_info: None,
        remote_ip: Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))),
        by: "mx.example",
        protocol: "ESMTP",
        id: "4af0.1",
        recipient: Some("a@b.example"),
        unix_s: 1_709_210_096,
        utc_offset_s: 3_600,
    };

    #[test]
    fn the_shape_of_postfix() {
        assert_eq!(
            received(&PLAIN),
            "Received: from client.example (rdns.example [192.0.2.1])\r\n\
             \tby mx.example (postern) with ESMTP id 4af0.1\r\n\
             \tfor <a@b.example>; Thu, 29 Feb 2024 13:34:56 +0100\r\n"
        );
        let none = Received { remote_host: None, recipient: None, ..PLAIN };
        assert_eq!(
            received(&none),
            "Received: from client.example (unknown [192.0.2.1])\r\n\
             \tby mx.example (postern) with ESMTP id 4af0.1; Thu, 29 Feb 2024 13:34:56 +0100\r\n"
        );
        let id = "0123456789abcdef.12";
        let long = Received { id, hello: &"h".repeat(60), recipient: None, ..PLAIN };
        assert_eq!(
            received(&long),
            format!(
                "Received: from {}\r\n\
                 \t(rdns.example [192.0.2.1])\r\n\
                 \tby mx.example (postern) with ESMTP id {id};\r\n\
                 \tThu, 29 Feb 2024 13:34:56 +0100\r\n",
                "h".repeat(60)
            )
        );
    }

    #[test]
    fn what_the_client_may_be() {
        let ipv6 = "2001:db8::1".parse().unwrap();
        let mapped = "::ffff:192.0.2.9".parse().unwrap();
        for (facts, expected) in [
            (Received { hello: "", ..PLAIN }, "from unknown (rdns.example [192.0.2.1])"),
            (Received { hello: "[192.0.2.7]", ..PLAIN }, "from [192.0.2.7] (rdns.example [192.0.2.1])"),
            (Received { hello: "[IPv6:::1]", ..PLAIN }, "from [IPv6:::1] (rdns.example [192.0.2.1])"),
            (Received { hello: "a (b [1.2.3.4])", ..PLAIN }, "from a??b??1.2.3.4?? (rdns.example [192.0.2.1])"),
            (Received { hello: "[a] by x [b]", ..PLAIN }, "from [a??by?x??b] (rdns.example [192.0.2.1])"),
            (Received { hello: "a\r\n\tby;evil\0", ..PLAIN }, "from a???by?evil? (rdns.example [192.0.2.1])"),
            (Received { hello: "b\u{fc}cher.example", ..PLAIN }, "from b?cher.example (rdns.example [192.0.2.1])"),
            (Received { remote_host: Some("x) ("), ..PLAIN }, "from client.example (x??? [192.0.2.1])"),
            (Received { remote_info: Some("u s)r"), ..PLAIN }, "from client.example (u?s?r@rdns.example [192.0.2.1])"),
            (Received { remote_ip: Some(ipv6), ..PLAIN }, "from client.example (rdns.example [IPv6:2001:db8::1])"),
            (Received { remote_ip: Some(mapped), ..PLAIN }, "from client.example (rdns.example [192.0.2.9])"),
            (Received { remote_ip: None, ..PLAIN }, "from client.example"),
        ] {
            let line = received(&facts);
            assert_eq!(line.split("\r\n\tby ").next(), Some(&*format!("Received: {expected}")));
        }
    }

    #[test]
    fn only_plain_recipients_are_named() {
        let longest = format!("{}@b", "a".repeat(MAILBOX_OCTETS_MAX - 2));
        for (recipient, named) in [
            ("postmaster", true),
            ("a+b=c/d@b.example", true),
            ("a@[192.0.2.1]", true),
            ("a@[IPv6:2001:db8::1]", true),
            (&longest, true),
            (&format!("a{longest}"), false),
            ("", false),
            ("@b", false),
            ("\"a b\"@c", false),
            ("a;b@c", false),
            ("a(b@c", false),
            ("a@b;c", false),
            ("a>b@c", false),
            ("a@b\r\nX: y", false),
            ("gr\u{fc}n@c", false),
        ] {
            let line = received(&Received { recipient: Some(recipient), ..PLAIN });
            assert_eq!(line.contains(&format!("\tfor <{recipient}>;")), named, "{recipient:?}");
            assert_eq!(line.contains("for <"), named, "{recipient:?}");
        }
    }

    #[test]
    fn words_of_the_protocol() {
        for (facts, word) in [
            ((false, false, false, false), "SMTP"),
            ((false, true, true, true), "SMTP"),
            ((true, false, false, false), "ESMTP"),
            ((true, false, true, false), "ESMTPS"),
            ((true, false, false, true), "ESMTPA"),
            ((true, false, true, true), "ESMTPSA"),
            ((true, true, false, false), "UTF8SMTP"),
            ((true, true, true, true), "UTF8SMTPSA"),
        ] {
            assert_eq!(protocol(facts.0, facts.1, facts.2, facts.3), word);
        }
    }

    #[test]
    fn dates() {
        for (unix_s, utc_offset_s, expected) in [
            (0, 0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000"),
            (951_782_400, 0, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_709_164_800, -1, "Thu, 29 Feb 2024 00:00:00 +0000"),
            (1_709_164_800, -3_600, "Wed, 28 Feb 2024 23:00:00 -0100"),
            (1_709_164_799, 60, "Thu, 29 Feb 2024 00:00:59 +0001"),
            (1_000_000_000, -12_600, "Sat, 08 Sep 2001 22:16:40 -0330"),
            (1_000_000_000, 20_700, "Sun, 09 Sep 2001 07:31:40 +0545"),
            (4_107_542_400, 0, "Mon, 01 Mar 2100 00:00:00 +0000"),
            (4_107_542_399, 0, "Sun, 28 Feb 2100 23:59:59 +0000"),
            (1_735_689_599, 0, "Tue, 31 Dec 2024 23:59:59 +0000"),
            (i64::from(i32::MAX), 50_400, "Tue, 19 Jan 2038 17:14:07 +1400"),
            (0, 86_400, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (0, 86_399, "Thu, 01 Jan 1970 23:59:00 +2359"),
        ] {
            assert_eq!(date(unix_s, utc_offset_s), expected);
        }
        // No clock shows these; they must not panic.
        for unix_s in [i64::MIN, i64::MAX] {
            date(unix_s, 3_600);
        }
    }

    #[test]
    fn paths() {
        assert_eq!(return_path(&"<>"), "Return-Path: <>\r\n");
        assert_eq!(return_path(&"<\"a b\"@c>"), "Return-Path: <\"a b\"@c>\r\n");
        assert_eq!(delivered_to("a@b\r\nX: y"), "Delivered-To: a@b??X: y\r\n");
        assert_eq!(delivered_to("gr\u{fc}n@c"), "Delivered-To: gr\u{fc}n@c\r\n");
        assert_eq!(delivered_to(&"\u{fc}".repeat(1_000)).chars().count(), 16 + MAILBOX_OCTETS_MAX);
    }

    proptest! {
        #[test]
        fn dates_are_read_back(unix_s in -2_000_000_000i64..6_000_000_000, minutes in -1_439i32..1_440) {
            let parsed = mail_parser::DateTime::parse_rfc822(&date(unix_s, minutes * 60)).unwrap();
            prop_assert_eq!(parsed.to_timestamp(), unix_s);
            let local_days = (unix_s + i64::from(minutes) * 60).div_euclid(86_400);
            prop_assert_eq!(i64::from(parsed.day_of_week()), (local_days + 4).rem_euclid(7));
        }

        #[test]
        fn whatever_comes_the_shape_holds(
            hello in "[a().;\r\n\\[\\] \u{e4}]{0,12}",
            host in "\\PC{0,400}",
            info in any::<String>(),
            id in "[a;) \r]{0,90}",
            recipient in "[a@\";<>() \r]{0,9}",
        ) {
            let facts = Received {
                hello: &hello,
                remote_host: Some(&host),
                remote_info: Some(&info),
                id: &id,
                recipient: Some(&recipient),
                ..PLAIN
            };
            let text = received(&facts);
            let header = Header::new(text.clone().into_bytes());
            prop_assert_eq!((header.entries().count(), header.count("Received")), (1, 1));
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 998));
            let line = unfolded(header.get("Received").next().unwrap());
            prop_assert!(line.bytes().all(|octet| octet == b'\t' || (b' '..=b'~').contains(&octet)));
            for (character, count) in [('(', 2), (')', 2), (';', 1)] {
                prop_assert_eq!(line.matches(character).count(), count, "{}", line);
            }
            prop_assert!(line.ends_with("; Thu, 29 Feb 2024 13:34:56 +0100") || line.ends_with(";\tThu, 29 Feb 2024 13:34:56 +0100"));
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            prop_assert_eq!((words[0], words[4], words[7], words[9]), ("from", "by", "with", "id"));
        }
    }
}
