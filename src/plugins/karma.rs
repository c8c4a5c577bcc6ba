//! Remembers how clients behaved, and keeps out for some days those that were bad more often than good.
//!
//! ```text
//! karma
//! karma negative 2 penalty_days 1.5 reject 1
//! ```
//! Plugins give a session points, bad ones (a sender in `badmailfrom`: -1) and good ones. At its end they are summed up: a session is
//! naughty, nice, or neither. This plugin counts both for the client's address, in the store (file `store`). History is nice sessions
//! less naughty ones; `earlytalker` and `hosts_allow` treat clients better that have a good one.
//!
//! - `strikes` (points, at least 1; 3): a session with -3 or less is naughty, one with +3 or more is nice.
//! - `negative` (at least 1; 1): after a naughty session, a client whose history is -1 or less gets a penalty. With 1 the first
//!   naughty session does that if there was no nice one; with 2, mostly good clients are safe.
//! - `penalty_days` (days, parts of one too, up to 365; 1): so long it is refused when it connects: `You were naughty. You cannot
//!   connect for 0.98 more days.` Each naughty session begins the penalty anew. A client with 6 naughty sessions and no nice one
//!   stays a day longer for each of them, up to 30.
//! - `reject` (0, 1 or naughty; naughty): 0 only notes it in the record, naughty leaves the refusal to the `naughty` plugin, which must
//!   be there then.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; disconnect).
//! - `db_dir` (a directory), `nfslock` (0 or 1): qpsmtpd's, taken and without effect: the file `store` says where counts are kept.
//!
//! In the session it also
//!
//! - gives +1 for a history over 10;
//! - gives points for the sender's top level domain, by `karma_tlds`; each line once a session;
//! - gives -2 for a blank between `MAIL FROM:` or `RCPT TO:` and the path (RFC 5321 §4.1.1), once a session;
//! - takes one recipient at a time from a client with bad karma, in this session or by its history, and none that is good: `450 4.5.3
//!   too many recipients for karma -1 (history +0)`. Such a client, if it is honest, sends the others by themselves;
//! - refuses at DATA, and again after the message, when karma is below -4: `very bad karma: -5`, as `reject` says.
//!
//! Who else gives points, also with `reject 0` or `reject naughty`:
//!
//! | plugin | points | for |
//! |---|---|---|
//! | `whitelist` | +5 | a client in `whitelisthosts` |
//! | `fcrdns` | +1 | a name that leads back to the client's address |
//! | `fcrdns` | -1 | no name, or names that do not lead back, or `localhost` |
//! | `helo` | +1 | `policy strict`: the name's address is in the client's network, and the client's name in its domain |
//! | `helo` | -1 | a name that fails a test, but not if the DNS cannot say |
//! | `earlytalker` | -1 | a client that speaks before its turn |
//! | `dnsbl` | -1 | a listed client, once a session |
//! | `rhsbl` | -1 | a listed name, at each MAIL |
//! | `ident/geoip` | -1 | a client farther away than `too_far` |
//! | `ident/p0f` | -1 | a system that `smite_os` means; a blocked system, at each RCPT |
//! | `badmailfrom` | -1 | a sender in the list |
//! | `resolvable_fromhost` | -1 | a sender's domain that is refused for good; an address literal |
//! | `badrcptto` | -2 | a recipient in the list |
//! | `dont_require_anglebrackets` | -2 | a path without angle brackets |
//! | `bogus_bounce` | -1 | a bounce that is none |
//! | `headers` | -1 | each fault of the header |
//!
//! File: `karma_tlds`, a domain and its points a line (-100 to 100), for addresses of all domains below it. The longest one counts:
//!
//! ```text
//! info:-4
//! co.example:-2
//! ```
//! List it before the plugins that cost time, after `relay` and `whitelist`, and before `hosts_allow` and `naughty`. Relaying and
//! whitelisted clients are neither refused nor counted. A client without an address (a pipe), or of which nothing was counted, has
//! no history.
//!
//! Why the score is what it is, stands in the record in words: `karma="-2 (badmailfrom -1: badmailfrom line 1: @far.example,
//! ...), history -3"` in the lines of a refusal, a message and the connection; and in the store, for the last session that
//! counted: `postern store show karma 192.0.2.1` prints `penalty_start:naughty:nice:connects:why`. An entry ends 90 days after the
//! last session that counted.
//!
//! The store is read once when a client connects, and written when it has gone, if the session was naughty or nice; otherwise
//! nothing is written. The write has 3 seconds, for the process waits for it.
//!
//! Errors: a store that is down or damaged, and a list with a line that cannot be understood (`postern check` names each), are
//! this plugin's error, which by default is passed over (`on_error decline`), and in the log: the client has no history then. What cannot
//! be written is lost, and logged. The DNS is not asked.
//!
//! Differs from qpsmtpd, where naughty sessions are not counted, strikes are fixed, every client without a good history is refused
//! its second recipient for good, a sender's domain and a blank count again in each transaction, the words are not
//! kept, and one without a point is written too.

mod record;

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use self::record::Record;
use super::shared::place;
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::facts::End;
use crate::hook::{
    Answer, Change, Connect, Content, Data, Denial, Entry, Hook, Mail, OnError, Plugin, Rcpt, Reject, RejectType,
    Ruling, Session, Text, Trouble,
};
use crate::smtp::address::Domain;
use crate::world::store::StoreError;
use crate::world::{Key, Value, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    spares_immune: true,
    leaves_to_naughty: true,
    stores: true,
    on_error: OnError::Decline,
    ..Entry::plugin(
        "karma",
        &[
            Hook::PreConnection,
            Hook::Connect,
            Hook::MailParse,
            Hook::RcptParse,
            Hook::Mail,
            Hook::Rcpt,
            Hook::Data,
            Hook::DataPost,
            Hook::Disconnect,
        ],
        crate::manual!("karma.rs"),
        build,
    )
};

/// The store's space, as `postern store import` writes it.
const SPACE: &str = "karma";
const TLDS: &str = "karma_tlds";
/// How long an entry is kept after the last session that counted.
const KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Time for the store when the client has gone.
const WRITE_TIME: Duration = Duration::from_secs(3);
const PENALTY_DAYS_MAX: f64 = 365.0;
/// A history above this gives a point.
const GOOD_HISTORY: i64 = 10;
/// Karma below this is refused at DATA.
const VERY_BAD: i32 = -4;
/// For a blank before a path.
const BLANK_POINTS: i32 = -2;
/// Points that a line of `karma_tlds` may give, or take.
const POINTS_MAX: i32 = 100;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// History, below 0, from which on a naughty session leads to a penalty.
    negative: u32,
    /// Points of a session that is naughty or nice.
    strikes: u32,
    /// Days.
    penalty_days: f64,
    reject: Reject,
    reject_type: RejectType,
    /// qpsmtpd's.
    db_dir: Option<String>,
    nfslock: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            negative: 1,
            strikes: 3,
            penalty_days: 1.0,
            reject: Reject::Naughty,
            reject_type: RejectType::Disconnect,
            db_dir: None,
            nfslock: None,
        }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |key: &str, text: String| Err(origin.error(text).of_plugin(ENTRY.name).of_key(key));
    if settings.negative == 0 || settings.strikes == 0 {
        let key = if settings.negative == 0 { "negative" } else { "strikes" };
        return fault(key, String::from("0: at least 1"));
    }
    if !(settings.penalty_days > 0.0 && settings.penalty_days <= PENALTY_DAYS_MAX) {
        return fault("penalty_days", format!("{} is not above 0 and up to 365", settings.penalty_days));
    }
    Ok(Box::new(Karma { settings, world: world.clone(), record: None, looked: false, tlds: None, blank: false }))
}

struct Karma {
    settings: Settings,
    world: World,
    /// What the store had when the client connected.
    record: Option<Record>,
    /// Whether it was asked.
    looked: bool,
    /// Read at the first MAIL.
    tlds: Option<Vec<Tld>>,
    /// A blank before a path has cost its points.
    blank: bool,
}

/// A line of `karma_tlds`.
struct Tld {
    /// With a dot before it.
    suffix: String,
    points: i32,
    /// "karma_tlds line 3".
    origin: String,
    /// It has counted in this session.
    counted: bool,
}

impl Plugin for Karma {
    /// Reads the history, before plugins at connect want it.
    fn pre_connection(&mut self, at: &Connect<'_>) -> Answer {
        if at.session.connection.remote_ip.is_none() {
            return Ok(Ruling::skip("no client address"));
        }
        self.look(at.session)?;
        // About a client without a record nothing is known, not that it is no better than bad.
        Ok(match &self.record {
            Some(record) => Ruling::decline().change(Change::NoteKarmaHistory(record.history())),
            None => Ruling::decline(),
        })
    }

    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        // Built again, by client_options.
        if !self.looked {
            self.look(at.session)?;
        }
        let Some(record) = &self.record else { return Ok(Ruling::decline()) };
        let mut ruling = match record.days_left(seconds(self.world.clock.now()), self.settings.penalty_days) {
            Some(days) => self.refuse(format!("You were naughty. You cannot connect for {days:.2} more days.")),
            None => Ruling::decline(),
        };
        if record.history() > GOOD_HISTORY {
            ruling = ruling.change(Change::AdjustKarma(1));
        }
        Ok(ruling.because(record.in_words()))
    }

    fn mail_parse(&mut self, at: &Text<'_>) -> Answer {
        Ok(self.judge_form("FROM:", at.text))
    }

    fn rcpt_parse(&mut self, at: &Text<'_>) -> Answer {
        Ok(self.judge_form("TO:", at.text))
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        let Some(mailbox) = at.reverse_path.mailbox() else { return Ok(Ruling::decline()) };
        let tlds = match &mut self.tlds {
            Some(tlds) => tlds,
            none => none.insert(tlds(&self.world.config)?),
        };
        let domain = mailbox.domain().ascii();
        let below = tlds.iter_mut().filter(|tld| domain.ends_with(&tld.suffix));
        match below.max_by_key(|tld| tld.suffix.len()).filter(|tld| !tld.counted) {
            Some(tld) => {
                tld.counted = true;
                let evidence = format!("{}: {}", tld.origin, &tld.suffix[1..]);
                Ok(Ruling::decline().change(Change::AdjustKarma(tld.points)).because(evidence))
            }
            None => Ok(Ruling::decline()),
        }
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let (karma, history) = (at.session.karma, at.session.karma_history.unwrap_or(0));
        let bad = karma < 0 || history < 0;
        let good = karma > 0 || history > 0;
        // Whoever is naughty hears of it elsewhere.
        if at.transaction.recipients.is_empty() || !bad || good || at.session.naughty.is_some() {
            return Ok(Ruling::decline());
        }
        // RFC 5321 §4.5.3.1.10: a client sends those that are refused so by themselves.
        let denial =
            Denial::transient(format!("too many recipients for karma {karma} (history {history:+})")).code(5, 3);
        let ruling = match self.settings.reject {
            Reject::Tolerate => Reject::Tolerate.rule(denial),
            Reject::Refuse | Reject::Naughty => Ruling::deny(denial),
        };
        Ok(ruling.because(at.session.karma_in_words()))
    }

    fn data(&mut self, at: &Data<'_>) -> Answer {
        Ok(self.judge_content(at.session))
    }

    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        Ok(self.judge_content(at.session))
    }

    fn disconnect(&mut self, at: &End<'_>) {
        let limit = self.world.clock.instant() + WRITE_TIME;
        let before = self.world.deadline.get();
        self.world.deadline.replace(Some(before.map_or(limit, |before| before.min(limit))));
        let written = self.remember(at.session);
        self.world.deadline.replace(before);
        if let Err(error) = written {
            // There is no ruling here that could tell it.
            tracing::error!("karma: error, at disconnect: {error}");
        }
    }

    fn check(&mut self) -> Vec<String> {
        match tlds(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let old = [("db_dir", self.settings.db_dir.is_some()), ("nfslock", self.settings.nfslock.is_some())];
        let told =
            |(key, _)| format!("{key} is qpsmtpd's and without effect: the file store says where counts are kept");
        old.into_iter().filter(|(_, given)| *given).map(told).collect()
    }
}

impl Karma {
    /// Reads what the store has of the client.
    fn look(&mut self, session: &Session) -> Result<(), Trouble> {
        self.looked = true;
        let Some(key) = key(session) else { return Ok(()) };
        if let Some(value) = self.world.store.get(&key).map_err(|error| Trouble::new(error.to_string()))? {
            let record = value.text().and_then(Record::parse);
            self.record = Some(record.ok_or_else(|| Trouble::new(format!("store: {key} is no record of karma")))?);
        }
        Ok(())
    }

    fn refuse(&self, text: String) -> Ruling {
        self.settings.reject.rule(self.settings.reject_type.denial(text).code(7, 1))
    }

    /// What follows MAIL or RCPT, as the client wrote it.
    fn judge_form(&mut self, word: &str, text: &str) -> Ruling {
        let after =
            text.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word)).map(|_| &text[word.len()..]);
        if self.blank || !after.is_some_and(|after| after.starts_with([' ', '\t'])) {
            return Ruling::decline();
        }
        self.blank = true;
        Ruling::decline().change(Change::AdjustKarma(BLANK_POINTS)).because(format!("a blank after {word}"))
    }

    fn judge_content(&self, session: &Session) -> Ruling {
        if session.karma >= VERY_BAD || session.naughty.is_some() {
            return Ruling::decline();
        }
        self.refuse(format!("very bad karma: {}", session.karma)).because(session.karma_in_words())
    }

    /// Writes down what the session was, if it was anything.
    fn remember(&self, session: &Session) -> Result<(), StoreError> {
        let naughty = session.karma < 0;
        let Some(key) = key(session).filter(|_| session.karma.unsigned_abs() >= self.settings.strikes) else {
            return Ok(());
        };
        if session.immune().is_some() {
            return Ok(());
        }
        let (now, negative) = (self.world.clock.now(), i64::from(self.settings.negative));
        let why = session.karma_in_words();
        self.world.store.update(&key, &mut |old| {
            // What is no record is written over.
            let mut record = old.and_then(Value::text).and_then(Record::parse).unwrap_or_default();
            if naughty {
                record.count_naughty(seconds(now), negative, &why);
            } else {
                record.count_nice(&why);
            }
            Some((Value::from(record.to_string()), self.expires(now, &record)))
        })?;
        Ok(())
    }

    /// When an entry ends: not before its penalty.
    fn expires(&self, now: SystemTime, record: &Record) -> SystemTime {
        let days = record.days_left(seconds(now), self.settings.penalty_days).unwrap_or(0.0);
        now + KEPT.max(Duration::from_secs_f64(days * 86_400.0))
    }
}

/// The client's entry in the store.
fn key(session: &Session) -> Option<Key> {
    session.connection.remote_ip.map(|ip| Key::new(SPACE, ip.to_canonical().to_string()))
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn tlds(config: &ConfigDir) -> Result<Vec<Tld>, ConfigError> {
    let (mut tlds, mut faults) = (Vec::new(), Vec::new());
    config.each(TLDS, &mut |text, file, line| {
        match tld(text) {
            Ok((suffix, points)) => tlds.push(Tld { suffix, points, origin: place(file, line), counted: false }),
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    ConfigError::from_many(faults).map_or(Ok(tlds), Err)
}

fn tld(text: &str) -> Result<(String, i32), String> {
    let fault = || format!("{text:?}: write DOMAIN:POINTS, such as info:-4");
    let (name, points) = text.split_once(':').ok_or_else(fault)?;
    let name = name.trim_ascii();
    let domain = Domain::parse(name.strip_prefix('.').unwrap_or(name)).map_err(|_| fault())?;
    let points = points.trim_ascii().parse().ok().filter(|points: &i32| points.abs() <= POINTS_MAX);
    Ok((format!(".{}", domain.ascii()), points.ok_or_else(fault)?))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tempfile::TempDir;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::changes::Facts;
    use crate::hook::{Severity, Verdict};
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::world::{ManualClock, MemoryStore};

    const IP: &str = "192.0.2.9";

    /// A world whose clock and store a test holds.
    fn world(files: &[(&str, &str)]) -> (World, Rc<ManualClock>, TempDir) {
        let (mut world, dir) = fixture::world(files);
        let clock = Rc::new(ManualClock::default());
        world.store = Rc::new(MemoryStore::new(Rc::clone(&clock) as _));
        world.clock = Rc::clone(&clock) as _;
        (world, clock, dir)
    }

    /// What came of a ruling: "denied: TEXT", "naughty: TEXT", "tolerated: TEXT" or nothing.
    fn fate(ruling: &Ruling) -> String {
        let told = |start: &str| ruling.evidence.iter().find(|evidence| evidence.starts_with(start)).cloned();
        match &ruling.verdict {
            Verdict::Deny(denial) => format!("denied: {}", denial.text),
            _ => told("naughty: ").or_else(|| told("tolerated: ")).unwrap_or_default(),
        }
    }

    /// A session that gets so many points, and what the client heard when it connected.
    fn session(world: &World, line: &str, prepare: impl FnOnce(&mut Session)) -> (String, Session) {
        let mut plugin = fixture::build(&ENTRY, line, world).unwrap();
        let mut session = fixture::session(Some(IP));
        let mut at = Connect { session: &mut session, line: &fixture::Silent };
        let ruling = plugin.pre_connection(&at).unwrap();
        at.apply(ruling.changes, "karma").unwrap();
        let ruling = plugin.connect(&at).unwrap();
        let heard = fate(&ruling);
        at.apply(ruling.changes, "karma").unwrap();
        prepare(&mut session);
        plugin.disconnect(&End { session: &session });
        (heard, session)
    }

    fn stored(world: &World) -> Option<String> {
        let value = world.store.get(&Key::new("karma", IP)).unwrap();
        value.map(|value| value.text().unwrap().to_owned())
    }

    #[test]
    fn sessions_are_counted_if_they_were_something() {
        let start = 1_893_456_000;
        let boxed = format!("{start}:1:0:1:-3");
        let table: &[(&str, &[i32], Option<&str>)] = &[
            ("karma", &[0], None),
            ("karma", &[-2], None),
            ("karma", &[2], None),
            ("karma", &[-3], Some(&boxed)),
            ("karma", &[3], Some("0:0:1:1:+3")),
            ("karma strikes 1", &[1, 2], Some("0:0:2:2:+2, history +1")),
            ("karma strikes 4", &[-3, 3], None),
            ("karma negative 3", &[-3, -3], Some("0:2:0:2:-3, history -1")),
            ("karma", &[5, -9, 0, 5], Some("0:1:2:3:+5")),
            ("karma", &[i32::MAX, i32::MIN], Some("0:1:1:2:-2147483648, history +1")),
        ];
        for (line, sessions, expected) in table {
            let (world, _clock, _dir) = world(&[]);
            for points in *sessions {
                session(&world, line, |session| session.karma = *points);
            }
            assert_eq!(stored(&world).as_deref(), *expected, "{line} {sessions:?}");
        }
    }

    #[test]
    fn three_naughty_sessions_and_a_penalty_of_a_day_and_a_half() {
        let (world, clock, _dir) = world(&[]);
        let line = "karma negative 3 penalty_days 1.5 reject 1";
        for _ in 0..3 {
            assert_eq!(session(&world, line, |session| session.karma = -3).0, "");
        }
        let heard = |line| session(&world, line, |_| {}).0;
        let text = "You were naughty. You cannot connect for 1.50 more days.";
        assert_eq!(heard(line), format!("denied: {text}"));
        assert_eq!(heard("karma penalty_days 1.5"), format!("naughty: {text}"));
        assert_eq!(heard("karma penalty_days 1.5 reject 0"), format!("tolerated: {text}"));
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(heard(line), "denied: You were naughty. You cannot connect for 0.50 more days.");
        assert_eq!(heard("karma"), "");
        clock.advance(Duration::from_secs(43_200));
        assert_eq!(heard(line), "");
        // Again, and it begins again.
        session(&world, line, |session| session.karma = -3);
        assert!(heard(line).contains("1.50 more days"));
        clock.advance(KEPT);
        assert_eq!(session(&world, line, |_| {}).1.karma_history, None, "all is forgotten");
    }

    #[test]
    fn whoever_is_immune_is_not_counted() {
        let (world, _clock, _dir) = world(&[]);
        session(&world, "karma", |session| (session.karma, session.relaying) = (-9, Some(String::from("x"))));
        session(&world, "karma", |session| (session.karma, session.whitelisted) = (9, Some(String::from("x"))));
        session(&world, "karma", |session| (session.karma, session.connection.remote_ip) = (-9, None));
        assert_eq!(stored(&world), None);
    }

    #[test]
    fn history_is_told_and_a_long_good_one_gives_a_point() {
        for (record, history, karma) in
            [("0:3:1:4", -2, 0), ("0:0:10:10", 10, 0), ("0:0:11:11", 11, 1), ("5:1:1:2:why: x", 0, 0)]
        {
            let (world, _clock, _dir) = world(&[]);
            world.store.put(&Key::new("karma", IP), &record.into(), world.clock.now() + KEPT).unwrap();
            let (_, session) = session(&world, "karma", |_| {});
            assert_eq!((session.karma_history, session.karma), (Some(history), karma), "{record}");
        }
    }

    #[test]
    fn what_is_no_record_is_trouble_and_is_written_over() {
        let (world, _clock, _dir) = world(&[]);
        world.store.put(&Key::new("karma", IP), &"rubbish".into(), world.clock.now() + KEPT).unwrap();
        let mut plugin = fixture::build(&ENTRY, "karma", &world).unwrap();
        let mut client = fixture::session(Some(IP));
        let at = Connect { session: &mut client, line: &fixture::Silent };
        assert!(plugin.pre_connection(&at).unwrap_err().0.contains("karma 192.0.2.9 is no record"));
        assert!(matches!(plugin.connect(&at).unwrap().verdict, Verdict::Decline));
        client.karma = 4;
        plugin.disconnect(&End { session: &client });
        assert_eq!(stored(&world).as_deref(), Some("0:0:1:1:+4"));
    }

    #[test]
    fn a_store_that_is_down_is_trouble() {
        let (fake, _dir) = fixture::world(&[("store", "nonsense\n")]);
        let world = World::real(Rc::clone(&fake.config));
        let mut plugin = fixture::build(&ENTRY, "karma", &world).unwrap();
        let mut client = fixture::session(Some(IP));
        let at = Connect { session: &mut client, line: &fixture::Silent };
        assert!(plugin.pre_connection(&at).unwrap_err().0.contains("store"));
        client.karma = -9;
        plugin.disconnect(&End { session: &client });
        assert_eq!(world.deadline.get(), None);
    }

    /// The points that MAIL from these senders gets, one after the other.
    fn points(list: &str, senders: &[&str]) -> Result<Vec<i32>, Trouble> {
        let (world, _clock, _dir) = world(&[("karma_tlds", list)]);
        let mut plugin = fixture::build(&ENTRY, "karma", &world).unwrap();
        let mut session = fixture::session(Some(IP));
        let mut one = |sender: &&str| {
            let (path, parameters) = (ReversePath::parse(sender).unwrap(), Default::default());
            let ruling = plugin.mail(&Mail { session: &mut session, reverse_path: &path, parameters: &parameters })?;
            let points = ruling.changes.iter().map(|change| match change {
                Change::AdjustKarma(points) => *points,
                other => panic!("{other:?}"),
            });
            Ok(points.sum())
        };
        senders.iter().map(&mut one).collect()
    }

    #[test]
    fn top_level_domains_give_points_once() {
        let list = "info:-4\n.Pw : -4\nuk:-1\nCO.UK:+2\nbücher:3\n";
        let table: &[(&[&str], &[i32])] = &[
            (&["<a@x.info>", "<b@y.INFO>", "<a@x.pw>"], &[-4, 0, -4]),
            (&["<a@x.example>", "<>", "<a@info>", "<a@xinfo>", "<a@info.example>"], &[0, 0, 0, 0, 0]),
            (&["<a@x.co.uk>", "<a@x.uk>", "<a@co.uk>"], &[2, -1, 0]),
            (&["<a@x.xn--bcher-kva>"], &[3]),
        ];
        for (senders, expected) in table {
            assert_eq!(points(list, senders).unwrap(), *expected, "{senders:?}");
        }
        let wrong = ["info", "info:", "info:x", "info:-101", "in fo:1", ":-4", "info:1:2"];
        for line in wrong {
            let trouble = points(&format!("# none\n{line}\n"), &["<a@x.example>"]).unwrap_err();
            assert!(trouble.0.contains("karma_tlds line 2: "), "{line}: {trouble}");
        }
        let (world, _clock, _dir) = world(&[("karma_tlds", &wrong.join("\n"))]);
        assert_eq!(fixture::build(&ENTRY, "karma", &world).unwrap().check().len(), wrong.len());
    }

    #[test]
    fn a_blank_before_a_path_costs_once() {
        let table = [
            ("FROM:<a@b.example>", false),
            ("from:<>", false),
            ("FROM: <a@b.example>", true),
            ("From:\t<>", true),
            // Its own plugin counts that.
            ("FROM:a@b.example", false),
            ("FROM <a@b.example>", false),
            ("", false),
            ("FRÖM: <>", false),
        ];
        let (world, _clock, _dir) = world(&[]);
        for (text, costs) in table {
            let mut plugin = fixture::build(&ENTRY, "karma", &world).unwrap();
            let (mut session, mut text) = (fixture::session(Some(IP)), text.to_owned());
            let at = Text { session: &mut session, text: &mut text };
            let changes = |ruling: Ruling| ruling.changes.len();
            assert_eq!(changes(plugin.mail_parse(&at).unwrap()) == 1, costs, "{}", at.text);
            let mut text = String::from("TO: <a@b.example>");
            let at = Text { session: &mut session, text: &mut text };
            assert_eq!(changes(plugin.rcpt_parse(&at).unwrap()) == 1, !costs);
        }
    }

    #[test]
    fn bad_karma_takes_one_recipient_at_a_time() {
        // karma, history, recipients so far, naughty: refused.
        let table = [
            (0, None, 1, false),
            (0, Some(0), 1, false),
            (-1, None, 0, false),
            (-1, None, 1, true),
            (-1, Some(0), 5, true),
            (0, Some(-1), 1, true),
            (-1, Some(-1), 1, true),
            (-1, Some(1), 1, false),
            (1, Some(-9), 1, false),
        ];
        let (world, _clock, _dir) = world(&[]);
        let path = || ForwardPath::parse("<x@here.example>").unwrap();
        for (karma, history, recipients, refused) in table {
            for line in ["karma", "karma reject 1", "karma reject 0"] {
                let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
                let mut session = fixture::session(Some(IP));
                (session.karma, session.karma_history) = (karma, history);
                let mut transaction = Transaction::new(ReversePath::Null, Default::default());
                transaction.recipients = (0..recipients).map(|_| Recipient::new(path(), Default::default())).collect();
                let mut recipient = Recipient::new(path(), Default::default());
                let at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
                match plugin.rcpt(&at).unwrap().verdict {
                    Verdict::Deny(denial) => {
                        assert!(refused && line != "karma reject 0", "{karma} {history:?} {recipients}");
                        assert_eq!((denial.severity, denial.enhanced), (Severity::Transient, Some((5, 3))));
                    }
                    _ => assert!(!refused || line == "karma reject 0", "{karma} {history:?} {recipients}"),
                }
            }
        }
    }

    #[test]
    fn very_bad_karma_is_refused_at_data() {
        let (world, _clock, _dir) = world(&[]);
        let transaction = Transaction::new(ReversePath::Null, Default::default());
        let said = |line: &str, karma, found: bool| {
            let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
            let mut session = fixture::session(Some(IP));
            session.karma = karma;
            session.karma_reasons.push(String::from("badmailfrom -1: x"));
            let denial = Denial::permanent("bad");
            session.naughty = found.then(|| crate::hook::Naughty { denial, by: String::from("dnsbl") });
            let at = Data { session: &mut session, transaction: &transaction, line: &fixture::Silent };
            let ruling = plugin.data(&at).unwrap();
            let why = ruling.evidence.iter().any(|evidence| evidence.contains("badmailfrom -1: x"));
            assert_eq!(why, !fate(&ruling).is_empty());
            fate(&ruling)
        };
        assert_eq!(said("karma", -4, false), "");
        assert_eq!(said("karma", -5, false), "naughty: very bad karma: -5");
        assert_eq!(said("karma", -5, true), "");
        assert_eq!(said("karma reject 1", -5, false), "denied: very bad karma: -5");
        assert_eq!(said("karma reject 0", -5, false), "tolerated: very bad karma: -5");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_and_old_ones_are_noted() {
        let (world, _clock, _dir) = world(&[]);
        for words in
            ["negative 0", "negative -1", "strikes 0", "penalty_days 0", "penalty_days 366", "penalty_days NaN", "x 1"]
        {
            assert!(fixture::build(&ENTRY, &format!("karma {words}"), &world).is_err(), "{words}");
        }
        let notes = |line: &str| fixture::build(&ENTRY, line, &world).unwrap().notes().len();
        assert_eq!((notes("karma"), notes("karma db_dir /var/lib/qpsmtpd/karma nfslock 1")), (0, 2));
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("karma").read::<Settings>().unwrap(), Settings::default());
    }
}
