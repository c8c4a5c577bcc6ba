//! Wherever the network cuts what the client sends, the replies and what is queued are the same.
//!
//! Most of it runs the session in this process, over pieces in memory, so that thousands of cuts take seconds.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::client::{Client, Log};
use common::normal::normal;
use common::play::End;
use common::room::Room;
use common::store;
use postern::hook::facts::Session as Facts;
use postern::hook::{Chain, Hook, HookSet, Link, Receipt, Standard};
use postern::launch::{Connection, Launcher};
use postern::mail::{Envelope, LineEnds, Message};
use postern::queue::{self, Queue, QueueError};
use postern::session::{NoWitness, Session};
use postern::setup::{self, Options, Setup};
use postern::smtp::extension::Capabilities;
use postern::transport::{Fault, Transport};
use postern::world::World;
use proptest::prelude::*;

/// Everything at once: groups, dots, chunks, refusals, a chunk that nobody wants.
const RICH: &[u8] = b"EHLO client.example\r\n\
    MAIL FROM:<a@client.example> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<x@here.example>\r\nRCPT TO:<far@far.example>\r\n\
    RCPT TO:<\"y z\"@here.example>\r\nDATA\r\n\
    Subject: dots\r\n\r\n..\r\n.x\r\n...\r\nx.\r\n\r\n..\r\nQUIT\r\n.\r\n\
    noop\r\n\r\nXYZZY\nBDAT 6\r\nQUIT\r\nRSET\r\n\
    MAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nBDAT 16\r\na: b\r\n\r\n\r\n.\r\n..\rBDAT 0\r\nBDAT 8 LAST\r\n\nQUIT\r\n.\
    MAIL FROM:<b@client.example> BODY=BINARYMIME\r\nRCPT TO:<x@here.example>\r\nDATA\r\nBDAT 12 LAST\r\n\r\n\0\n\r.\n.\r\n\xff\r\
    MAIL FROM:<c@client.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\nbare\n.\r\n\r.\r\n.\rQ\r\n.\r\n\
    MAIL FROM:<d@client.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\n.\r\nQUIT\r\nNOOP\r\n";

/// Codes of the replies to it.
const RICH_CODES: &[u16] = &[
    220, 250, 250, 250, 550, 250, 354, 250, 250, 500, 500, 503, 250, 250, 250, 250, 250, 250, 250, 250, 503, 250, 250,
    250, 354, 550, 250, 250, 354, 250, 221,
];

/// What of it is queued, without the trace field.
const RICH_CONTENT: [&[u8]; 4] = [
    b"Subject: dots\r\n\r\n.\r\nx\r\n..\r\nx.\r\n\r\n.\r\nQUIT\r\n",
    b"a: b\r\n\r\n\r\n.\r\n..\r\nQUIT\r\n.",
    b"\r\n\0\n\r.\n.\r\n\xff\r",
    b"",
];

/// Bare line ends that are made whole.
const MENDED: &[u8] = b"HELO client\nMAIL FROM:<a@b>\nRCPT TO:<x@here.example>\nDATA\n\
    a: b\nc: d\r\r\none\r\rtwo\n\nthree\r\n\n.\n\r.\r..\r\n..\r\n.\r\r\n.\r\n.\r\n\
    MAIL FROM:<a@b>\r\nRCPT TO:<x@here.example>\r\nBDAT 9\r\na: b\n\nc\r\rBDAT 4 LAST\r\n\n\r\n\rQUIT\r\n";
const MENDED_CONTENT: [&[u8]; 2] = [
    b"a: b\r\nc: d\r\n\r\none\r\n\r\ntwo\r\n\r\nthree\r\n\r\n.\r\n\r\n.\r\n..\r\n.\r\n\r\n\r\n",
    b"a: b\r\n\r\nc\r\n\r\n\r\n\r\n",
];

/// Limits: a line, a message, a chunk too long, and what follows each.
fn limited() -> Vec<u8> {
    let open = "MAIL FROM:<a@b>\r\nRCPT TO:<x@here.example>\r\n";
    let (long, big) = ("x".repeat(506), "..big\r\n".repeat(12));
    format!(
        "NOOP {long}\r\nNOOP {}\r\nEHLO a\r\n{open}DATA\r\n{big}.\r\n{open}BDAT 72\r\n{big:.72}BDAT 5 LAST\r\nQUIT\n\
         {open}BDAT 4 LAST\r\ngoodBDAT +1\r\nQUIT\r\n",
        &long[..505]
    )
    .into_bytes()
}
const LIMITED_CODES: &[u16] = &[220, 500, 250, 250, 250, 250, 354, 552, 250, 250, 552, 503, 250, 250, 250, 501];

/// What came of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    said: String,
    queued: Vec<Queued>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Queued {
    paths: Vec<String>,
    message: Vec<u8>,
}

impl Outcome {
    fn codes(&self) -> Vec<u16> {
        common::replies::of(self.said.as_bytes()).iter().map(|reply| reply.code).collect()
    }

    /// The messages after our Received field and, where they have no header, the empty line that makes them a body.
    fn contents(&self) -> Vec<&[u8]> {
        self.queued
            .iter()
            .map(|queued| {
                let mut lines = queued.message.split_inclusive(|&octet| octet == b'\n');
                let trace: usize = lines
                    .by_ref()
                    .take_while(|line| line.starts_with(b"Received:") || line.starts_with(b"\t"))
                    .map(<[u8]>::len)
                    .sum();
                &queued.message[trace..]
            })
            .collect()
    }
}

/// A configuration, read once.
struct Server {
    setup: Setup,
    _dir: tempfile::TempDir,
}

impl Server {
    fn new(settings: &[(&str, &str)]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let usual = [("me", "mx.example\n"), ("rcpthosts", "here.example\n"), ("plugins", "rcpt_ok\n")];
        for (name, text) in usual.iter().chain(settings) {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let options = Options { config: Some(dir.path().to_owned()), ..Options::default() };
        let setup = setup::read(&options, &[]).unwrap_or_else(|errors| panic!("{errors:?}"));
        Server { setup, _dir: dir }
    }

    /// A session in which the client's octets come in these pieces.
    fn play(&self, pieces: &[&[u8]]) -> Outcome {
        // The watchdog is one for the process.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let world = World::fake(Rc::clone(&self.setup.dir));
        let queued = Rc::new(RefCell::new(Vec::new()));
        let mut built = self.setup.build(&world);
        assert!(built.faults.is_empty(), "{:?}", built.faults);
        built.chain.push(Link {
            name: "memory".into(),
            origin: "here".into(),
            hooks: HookSet::of(&[Hook::Queue]),
            spares_immune: false,
            standard: Standard::default(),
            plugin: queue::line(Memory(Rc::clone(&queued)), queue::IfDown::Defer),
            backend: false,
            broken: false,
        });
        let mut line =
            Pieces { pieces: pieces.iter().copied().filter(|piece| !piece.is_empty()).collect(), said: Vec::new() };
        let facts = Facts::new("ID".into(), "mx.example".into(), Connection::unknown(Launcher::Pipe));
        let chain = Chain::new(built.chain, world.clone());
        Session::new(&mut line, &mut NoWitness, &self.setup.core, world, chain, facts).serve();
        Outcome { said: String::from_utf8(line.said).unwrap(), queued: queued.take() }
    }
}

/// A client whose octets have been cut.
struct Pieces<'a> {
    pieces: VecDeque<&'a [u8]>,
    said: Vec<u8>,
}

impl Transport for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8], _until: Instant) -> Result<usize, Fault> {
        let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
        let octets = piece.len().min(buffer.len());
        buffer[..octets].copy_from_slice(&piece[..octets]);
        *piece = &piece[octets..];
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(octets)
    }

    fn write(&mut self, octets: &[u8], _until: Instant) -> Result<(), Fault> {
        self.said.extend_from_slice(octets);
        Ok(())
    }

    fn client_speaks_within(&mut self, _time: Duration) -> bool {
        false
    }

    fn close(&mut self, _lingering: bool) {}
}

/// A queue that keeps everything.
struct Memory(Rc<RefCell<Vec<Queued>>>);

impl Queue for Memory {
    fn offers(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn check(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn deliver(&mut self, _: &Facts, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let mut octets = Vec::new();
        message.write_to(&mut octets, LineEnds::Crlf).unwrap();
        let forward = envelope.forward_paths().into_iter().map(|path| path.address());
        let paths = std::iter::once(envelope.reverse_path().to_string()).chain(forward).collect();
        self.0.borrow_mut().push(Queued { paths, message: octets });
        Ok(Receipt::default())
    }
}

/// Plays the session in one piece, then cut in every way of a great many; what it came to.
fn cut_everywhere(server: &Server, session: &[u8]) -> Outcome {
    let whole = server.play(&[session]);
    let same = |pieces: &[&[u8]]| {
        let outcome = server.play(pieces);
        let borders: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        assert!(outcome == whole, "pieces of {borders:?}\nwhole: {whole:#?}\ncut: {outcome:#?}");
    };
    for octets in 1..=70 {
        same(&session.chunks(octets).collect::<Vec<_>>());
    }
    for first in 0..session.len() {
        let (front, rest) = session.split_at(first);
        same(&[front, rest]);
        // What lies across a border is short.
        for second in 1..=6.min(rest.len()) {
            let (middle, back) = rest.split_at(second);
            same(&[front, middle, back]);
        }
    }
    whole
}

#[test]
fn a_rich_session() {
    let whole = cut_everywhere(&Server::new(&[]), RICH);
    assert_eq!(whole.codes(), RICH_CODES, "{}", whole.said);
    assert_eq!(whole.queued[0].paths, ["<a@client.example>", "x@here.example", "y z@here.example"]);
    assert_eq!(whole.queued[1].paths, ["<>", "x@here.example"]);
    assert_eq!(whole.contents(), RICH_CONTENT);
}

#[test]
fn bare_line_ends_made_whole() {
    let whole = cut_everywhere(&Server::new(&[("bare_newline", "normalise\n")]), MENDED);
    assert_eq!(whole.contents(), MENDED_CONTENT, "{}", whole.said);
}

#[test]
fn limits() {
    let settings = [("databytes", "70\n"), ("command_line_octets_max", "512\n"), ("size_threshold", "0\n")];
    let whole = cut_everywhere(&Server::new(&settings), &limited());
    assert_eq!(whole.codes(), LIMITED_CODES, "{}", whole.said);
    assert_eq!(whole.queued.len(), 1);
}

/// Content that is larger than the buffer, in pieces about as large as the buffer is at some time.
#[test]
fn content_larger_than_the_buffer() {
    let server = Server::new(&[]);
    let line = |number: usize| format!("{}{}\r\n", ".".repeat(number % 4), "x".repeat(number % 67));
    let sent: String = (0..20_000).map(line).collect();
    // RFC 5321 §4.5.2: a line that begins with a dot loses it. A dot alone would end it all.
    let sent = sent.replace("\r\n.\r\n", "\r\n");
    let kept = sent.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect::<String>();
    let session = format!(
        "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nDATA\r\na: b\r\n{sent}.\r\n\
         MAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nBDAT {} LAST\r\n{kept}QUIT\r\n",
        kept.len()
    );
    let whole = server.play(&[session.as_bytes()]);
    assert!(session.len() > 1 << 20 && whole.queued.len() == 2, "{}", whole.said);
    assert!(whole.contents()[0] == format!("a: b\r\n{kept}").as_bytes());
    for border in [512, 4096, 16_384, 65_536, 262_144] {
        for octets in border - 2..=border + 2 {
            let pieces: Vec<_> = session.as_bytes().chunks(octets).collect();
            assert!(server.play(&pieces) == whole, "pieces of {octets}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cuts(mut cuts in prop::collection::vec(0..RICH.len(), 0..40)) {
        thread_local!(static SERVER: (Server, Outcome) = {
            let server = Server::new(&[]);
            let whole = server.play(&[RICH]);
            (server, whole)
        });
        cuts.extend([0, RICH.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &RICH[ends[0]..ends[1]]).collect();
        prop_assert!(SERVER.with(|(server, whole)| server.play(&pieces) == *whole));
    }
}

/// The program itself, over a socket: in one piece, in lines, in odd pieces, octet by octet.
#[test]
fn the_program_too() {
    let play = |pieces: Vec<&[u8]>, pause: Duration| {
        let room = Room::with_maildir();
        let (mut client, mut served) = Client::serve(&room, Log::File);
        for piece in pieces {
            client.send(piece);
            thread::sleep(pause);
        }
        let said = client.rest();
        assert_eq!(served.end(Duration::from_secs(10)), End::Code(0));
        let log = std::fs::read_to_string(room.path("log/stderr")).unwrap();
        let mut stored: Vec<_> =
            store::maildir(&room.path("mail")).iter().map(|message| normal(message, &log)).collect();
        stored.sort();
        (String::from_utf8(normal(&said, &log)).unwrap(), stored)
    };
    // BINARYMIME is nothing for a maildir.
    let session = String::from_utf8_lossy(RICH).replace(" BODY=BINARYMIME", "").into_bytes();
    let session = &session[..session.windows(4).position(|four| four == b"<b@c").unwrap() - 10];
    let session = [session, b"QUIT\r\n"].concat();
    let whole = play(vec![&session], Duration::ZERO);
    assert_eq!(whole.1.len(), 2, "{}", whole.0);
    assert_eq!(play(session.split_inclusive(|octet| *octet == b'\n').collect(), Duration::from_millis(2)), whole);
    assert_eq!(play(session.split_inclusive(|octet| *octet == b'\r').collect(), Duration::from_millis(2)), whole);
    for octets in [1, 7, 50] {
        assert_eq!(play(session.chunks(octets).collect(), Duration::from_micros(500)), whole, "pieces of {octets}");
    }
}
