//! SMTP smuggling: nothing but CRLF.CRLF ends a message, judged by what the queue holds.
//!
//! Each variant stands within a message and is followed by a whole second transaction. Where the variant is no end of
//! data, that transaction is content: it must be queued as such or not at all, and never as a message of its own.
//! RFC 5321 §4.1.1.4, §4.5.2.
#![allow(clippy::unwrap_used)]

mod common;

use std::thread;
use std::time::Duration;

use common::client::{Client, Log};
use common::play::{End, Play};
use common::replies;
use common::room::Room;
use common::store::Queued;
use common::{store, workers};

const BEFORE: &str = "EHLO client.example\r\nMAIL FROM:<outer@client.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\n";
const OUTER: &str = "Subject: outer\r\n\r\nfirst";
const SECOND: &str = "MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<y@here.example>\r\nDATA\r\n\
                      Subject: smuggled\r\n\r\nsecond\r\n.\r\n";

/// In the middle of a message: octets, and whether they hold a true end of data.
const WITHIN: &[(&str, bool)] = &[
    ("\r\n.\r\n", true),
    ("\n.\n", false),
    ("\n.\r\n", false),
    ("\r\n.\n", false),
    ("\r.\r", false),
    ("\r\n.\r", false),
    ("\r.\r\n", false),
    ("\n.\r", false),
    ("\r.\n", false),
    ("\n\n.\n\n", false),
    ("\n\n.\r\n", false),
    ("\r\r.\r\r", false),
    ("\n\r.\n\r", false),
    ("\n\r.\r\n", false),
    ("\r\n.\n\r", false),
    ("\r\n.\r\r\n", false),
    ("\r\n.\r\r", false),
    ("\r\n.\n\n", false),
    // A NUL anywhere breaks the sequence, whoever would skip it.
    ("\r\n\0.\r\n", false),
    ("\r\n.\0\r\n", false),
    ("\r\n.\r\0\n", false),
    ("\r\0\n.\r\n", false),
    ("\r\n.\0\n", false),
    // Dots that are stuffed, and blanks that are not nothing.
    ("\r\n..\r\n", false),
    ("\r\n...\r\n", false),
    ("\r\n..\n", false),
    ("\n..\r\n", false),
    ("\r\n. \r\n", false),
    ("\r\n .\r\n", false),
    ("\r\n.\t\r\n", false),
    ("\r\n.\x0b\r\n", false),
    ("\r\n.\u{85}\r\n", false),
    ("\r\n.\u{2028}\r\n", false),
    ("\r\n\u{ff0e}\r\n", false),
    ("\u{85}.\u{85}", false),
    (".\r\n", false),
    // A bare octet before or after a true one does not unmake it.
    ("\r\r\n.\r\n", true),
    ("\n\r\n.\r\n", true),
    ("\0\r\n.\r\n", true),
    ("\r\n\r\n.\r\n", true),
    ("\r\n.\n\r\n.\r\n", true),
    ("\r\n..\r\n.\r\n", true),
];

/// As the first octets after DATA's own CRLF, which counts as the one before the dot (RFC 5321 §4.1.1.4).
const AT_THE_START: &[(&str, bool)] = &[
    (".\r\n", true),
    ("\r\n.\r\n", true),
    (".\n", false),
    (".\r", false),
    ("\n.\r\n", false),
    ("\r.\r\n", false),
    ("\n.\n", false),
    (".\r\r\n", false),
    ("..\r\n", false),
    ("\0.\r\n", false),
    (".\0\r\n", false),
];

/// One session: `data` is what follows DATA, up to QUIT; `ends`: the variant in it holds a true end of data.
struct Case {
    name: String,
    data: String,
    ends: bool,
}

impl Case {
    fn new(name: String, content: &str, ends: bool) -> Case {
        Case { name, data: format!("{content}{SECOND}"), ends }
    }

    fn session(&self) -> Vec<u8> {
        format!("{BEFORE}{}QUIT\r\n", self.data).into_bytes()
    }

    /// Plays it in one go.
    fn play(&self) {
        let room = Room::with_queue();
        let outcome = Play::new(&room).run(&self.session());
        assert_eq!(outcome.end, End::Code(0), "{}: {}", self.name, outcome.log);
        self.judge(&room, &outcome.output);
    }

    /// Octets in the first message that a server may refuse it for.
    fn first_is_clean(&self) -> bool {
        let first = first_message(&self.data);
        first.is_ascii() && !first.replace("\r\n", "").contains(['\r', '\n', '\0'])
    }

    /// What the queue may hold.
    fn judge(&self, room: &Room, output: &[u8]) {
        let name = &self.name;
        let queued = store::queued(room);
        let replies = replies::of(output);
        let (smuggled, outer): (Vec<&Queued>, Vec<&Queued>) =
            queued.iter().partition(|queued| queued.sender() == "smuggled@evil.example");
        // The positive rows prove that the second transaction would be taken if it were let through.
        assert_eq!(smuggled.len(), usize::from(self.ends), "{name}: the second transaction, after {replies:?}");
        let outer_min = usize::from(self.first_is_clean());
        assert!((outer_min..=1).contains(&outer.len()), "{name}: {} first messages, {replies:?}", outer.len());
        for queued in outer {
            assert_eq!(queued.sender(), "outer@client.example", "{name}");
            let expected = unstuffed(first_message(&self.data));
            // A policy may make other line ends of bare ones; what is clean comes through as it is.
            if self.first_is_clean() {
                store::trace_before(&queued.message, expected.as_bytes());
            }
        }
        let accepted = replies::verdicts(&replies).into_iter().flatten().filter(|reply| reply.class() == 2).count();
        assert_eq!(accepted, queued.len(), "{name}: each 250 after 354 is one message queued: {replies:?}");
        assert!(store::breaches(room).is_empty(), "{name}: {:?}", store::breaches(room));
    }
}

/// What follows DATA, up to the true end of data.
fn first_message(data: &str) -> &str {
    if data.starts_with(".\r\n") {
        return "";
    }
    &data[..data.find("\r\n.\r\n").unwrap() + 2]
}

/// RFC 5321 §4.5.2, said as simply as can be; line ends become LF.
fn unstuffed(content: &str) -> String {
    content.split("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn in_the_middle_of_a_message() {
    workers::each(WITHIN, |(variant, ends)| {
        let content = format!("{OUTER}{variant}");
        Case::new(format!("{variant:?}"), &content, *ends).play();
    });
}

#[test]
fn as_the_first_octets_of_a_message() {
    workers::each(AT_THE_START, |(variant, ends)| {
        Case::new(format!("start {variant:?}"), variant, *ends).play();
    });
}

/// In the header, where another reader may be at work.
#[test]
fn in_the_header() {
    workers::each(WITHIN, |(variant, ends)| {
        Case::new(format!("header {variant:?}"), &format!("Subject: outer{variant}"), *ends).play();
    });
}

/// The variant lies across the borders that buffers usually have, at every offset.
#[test]
fn across_the_borders_of_buffers() {
    const BORDERS: [usize; 6] = [512, 1024, 4096, 8192, 16384, 65536];
    const VARIANTS: [(&str, bool); 5] =
        [("\r\n.\r\n", true), ("\n.\r\n", false), ("\r\n.\n", false), ("\r\n..\r\n", false), ("\r\n.\r\r\n", false)];
    let mut cases = Vec::new();
    for border in BORDERS {
        for (variant, ends) in VARIANTS {
            cases.extend((0..=variant.len()).map(|offset| (border, variant, ends, offset)));
        }
    }
    workers::each(&cases, |&(border, variant, ends, offset)| {
        // Counted from the session's first octet: the first `offset` octets of the variant lie before the border.
        // Lines of 64 octets, for a line may not have more than 1000 (RFC 5321 §4.5.3.1.6).
        let fill = border.saturating_sub(BEFORE.len() + OUTER.len() + offset);
        let padding: String = (1..=fill).map(|at| padding(at, fill)).collect();
        Case::new(format!("{variant:?} at {border}-{offset}"), &format!("{OUTER}{padding}{variant}"), ends).play();
    });
}

/// Octet `at` of `fill` octets of lines; the last few are no line end.
fn padding(at: usize, fill: usize) -> char {
    match at % 64 {
        _ if at + 4 > fill => 'z',
        62 if at + 5 > fill => 'z',
        62 => '\r',
        63 if at + 4 > fill => 'z',
        63 => '\n',
        _ => 'y',
    }
}

/// The variant arrives in two pieces, at every place where it can be cut.
#[test]
fn cut_in_two_by_the_network() {
    let mut cases = Vec::new();
    for (variant, ends) in WITHIN {
        cases.extend((1..variant.len()).map(|cut| (*variant, *ends, cut)));
    }
    workers::each(&cases, |&(variant, ends, cut)| {
        let room = Room::with_queue();
        let (mut client, mut served) = Client::serve(&room, Log::File);
        let case = Case::new(format!("{variant:?} cut at {cut}"), &format!("{OUTER}{variant}"), ends);
        let (session, at) = (case.session(), BEFORE.len() + OUTER.len() + cut);
        client.send(&session[..at]);
        // Long enough that the program has read the first piece.
        thread::sleep(Duration::from_millis(15));
        client.send(&session[at..]);
        let output = client.rest();
        assert_eq!(served.end(Duration::from_secs(10)), End::Code(0));
        case.judge(&room, &output);
    });
}

/// One octet a packet: no two octets are ever seen together.
#[test]
fn octet_by_octet() {
    const VARIANTS: [(&str, bool); 4] = [("\r\n.\r\n", true), ("\n.\n", false), ("\r\n.\n", false), ("\r.\r", false)];
    workers::each(&VARIANTS, |&(variant, ends)| {
        let room = Room::with_queue();
        let (mut client, mut served) = Client::serve(&room, Log::File);
        let case = Case::new(format!("{variant:?} octet by octet"), &format!("{OUTER}{variant}"), ends);
        for octet in case.session() {
            client.send(&[octet]);
            thread::sleep(Duration::from_micros(300));
        }
        let output = client.rest();
        assert_eq!(served.end(Duration::from_secs(10)), End::Code(0));
        case.judge(&room, &output);
    });
}

/// A chunk is counted, never looked into (RFC 3030): what it holds is content, and commands go on after it.
#[test]
fn within_a_chunk() {
    for variant in ["\r\n.\r\n", "\n.\n", "\r\n.\n"] {
        let room = Room::with_queue();
        let chunk = format!("{OUTER}{variant}{SECOND}");
        let before = BEFORE.strip_suffix("DATA\r\n").unwrap();
        let session = format!("{before}BDAT {} LAST\r\n{chunk}QUIT\r\n", chunk.len());
        let outcome = Play::new(&room).run(session.as_bytes());
        assert_eq!(outcome.end, End::Code(0));
        let replies = replies::of(&outcome.output);
        // 220, EHLO, MAIL, RCPT, BDAT, QUIT: not one reply more.
        let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
        assert_eq!((codes.len(), codes.last()), (6, Some(&221)), "{variant:?}: {replies:?}");
        let queued = store::queued(&room);
        assert!(queued.len() <= 1 && queued.iter().all(|one| one.sender() == "outer@client.example"), "{queued:?}");
        if variant == "\r\n.\r\n" {
            assert_eq!(queued.len(), 1, "{replies:?}");
            assert!(queued[0].message.ends_with(b"second\n.\n"), "{}", queued[0].message.escape_ascii());
        }
    }
}

/// The exact octets of what is queued, where dots are stuffed and where they only look so.
#[test]
fn dots_come_through_as_the_sender_meant_them() {
    let table: &[(&str, &str)] = &[
        ("", ""),
        ("\r\n", "\n"),
        ("a: b\r\n\r\n..\r\n", "a: b\n\n.\n"),
        ("a: b\r\n\r\n...\r\n", "a: b\n\n..\n"),
        // A client that does not stuff: the dot goes (RFC 5321 §4.5.2).
        ("a: b\r\n\r\n.x\r\n", "a: b\n\nx\n"),
        ("a: b\r\n\r\nx.\r\n..y\r\nz..\r\n", "a: b\n\nx.\n.y\nz..\n"),
        ("..a: b\r\n\r\nx\r\n", ".a: b\n\nx\n"),
        ("no header at all\r\nsecond: line\r\n", "no header at all\nsecond: line\n"),
    ];
    for (sent, stored) in table {
        let room = Room::with_queue();
        let outcome = Play::new(&room).run(format!("{BEFORE}{sent}.\r\nQUIT\r\n").as_bytes());
        let queued = store::queued(&room);
        assert_eq!(queued.len(), 1, "{sent:?}: {}", String::from_utf8_lossy(&outcome.output));
        store::trace_before(&queued[0].message, stored.as_bytes());
    }
}

/// Refused as a whole, after the true end of data, and the session goes on.
#[test]
fn bare_line_ends_are_refused_where_nothing_else_is_set() {
    for content in
        ["a: b\r\n\r\nx\ny\r\n", "a: b\r\n\r\nx\ry\r\n", "a: b\nc: d\r\n\r\n", "a: b\r\n\r\nx\r\r\n", "\n\r\n"]
    {
        let case = Case::new(format!("{content:?}"), &format!("{content}.\r\n"), true);
        let room = Room::with_queue();
        let outcome = Play::new(&room).run(&case.session());
        let replies = replies::of(&outcome.output);
        let verdicts: Vec<_> = replies::verdicts(&replies).into_iter().flatten().collect();
        let codes: Vec<u16> = verdicts.iter().map(|reply| reply.code).collect();
        assert_eq!(codes, [550, 250], "{content:?}: {replies:?}");
        assert!(verdicts[0].lines[0].starts_with("5.5.2 "), "{content:?}: {replies:?}");
        assert_eq!(store::queued(&room).len(), 1, "{content:?}");
    }
}
