//! What qpsmtpd remembered. Its databases are Berkeley DB's (DB_File, whatever the name's ending); `db_dump -p FILE` writes them
//! as text: a header up to `HEADER=END`, then a line for each key and each value, each after a blank, until `DATA=END`.
//! Octets that cannot be printed are `\xx`, a backslash is `\\`; without `-p` all is hexadecimal, which we read too.
//!
//! | plugin | qpsmtpd's key | ours | value, the same here |
//! |---|---|---|---|
//! | greylisting | `IP[:sender][:recipient]`, the address as a whole number | `192.0.2.1 sender recipient`, one blank between | `time:new:black:white` |
//! | karma | the address as a whole number | `192.0.2.1` | `penalty_start:naughty:nice:connects` |
//!
//! A greylisting entry ends 36 days (`white_timeout`) after its time. karma's have no end; they get 90 days from now.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use super::json::unhex;
use crate::world::store::{Item, Key};

const DAY: Duration = Duration::from_secs(86_400);
const GREYLISTING_DAYS: u32 = 36;
const KARMA_DAYS: u32 = 90;

/// Whose database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Database {
    /// denysoft_greylist.dbm
    Greylisting,
    /// karma.dbm
    Karma,
}

/// A dump that is being read.
pub(super) struct Dump {
    database: Database,
    now: SystemTime,
    state: State,
    printed: bool,
}

enum State {
    Header,
    Key,
    /// The key before it; `None` if that was at fault.
    Value(Option<Key>),
    Ended,
}

impl Dump {
    pub(super) fn new(database: Database, now: SystemTime) -> Self {
        Self { database, now, state: State::Header, printed: false }
    }

    /// The entry that this line completes, if it does.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Item>, String> {
        match &mut self.state {
            State::Header => {
                match line {
                    b"HEADER=END" => self.state = State::Key,
                    b"format=print" => self.printed = true,
                    _ if line.contains(&b'=') && !line.starts_with(b" ") => {}
                    _ => return Err("this is no output of db_dump: its header is missing".to_owned()),
                }
                Ok(None)
            }
            State::Ended => Ok(None),
            State::Key | State::Value(_) if line == b"DATA=END" => {
                let half = matches!(self.state, State::Value(_));
                self.state = State::Ended;
                if half { Err("a key without a value".to_owned()) } else { Ok(None) }
            }
            State::Key => {
                let key = self.octets(line).and_then(|octets| self.key(&octets));
                self.state = State::Value(key.as_ref().ok().cloned());
                key.map(|_| None)
            }
            State::Value(key) => {
                let key = key.take();
                self.state = State::Key;
                let value = self.octets(line)?;
                // Told with its own line.
                key.map(|key| self.item(key, &value)).transpose()
            }
        }
    }

    /// What is wrong if no further line comes.
    pub(super) fn end(&self) -> Option<&'static str> {
        match self.state {
            State::Ended => None,
            State::Header => Some("this is no output of db_dump: its header has no end"),
            _ => Some("the dump breaks off: there is no DATA=END"),
        }
    }

    fn octets(&self, line: &[u8]) -> Result<Vec<u8>, String> {
        let coded = line.strip_prefix(b" ").ok_or("a line of data without the blank before it")?;
        if !self.printed {
            return unhex(coded).ok_or("not hexadecimal".to_owned());
        }
        let (mut octets, mut rest) = (Vec::new(), coded);
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match (first, after) {
                (b'\\', [b'\\', ..]) => {
                    octets.push(b'\\');
                    rest = &after[1..];
                }
                (b'\\', _) => {
                    let two = after.get(..2).and_then(unhex).ok_or("a backslash without two hexadecimal digits")?;
                    octets.extend(two);
                    rest = &after[2..];
                }
                (octet, _) => octets.push(*octet),
            }
        }
        Ok(octets)
    }

    fn key(&self, octets: &[u8]) -> Result<Key, String> {
        let text = std::str::from_utf8(octets).map_err(|_| "the key is no text")?;
        let odd = || format!("{text:?} is no key of qpsmtpd's");
        let (first, rest) = text.split_once(':').map_or((text, None), |(first, rest)| (first, Some(rest)));
        let digits = |word: &str| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_digit());
        match (self.database, rest) {
            (Database::Karma, None) => Ok(Key::new("karma", address(first).ok_or_else(odd)?)),
            (Database::Karma, Some(_)) => Err(odd()),
            (Database::Greylisting, _) => {
                let (ip, addresses) = if digits(first) { (Some(first), rest) } else { (None, Some(text)) };
                let mut words = Vec::new();
                if let Some(ip) = ip {
                    words.push(address(ip).ok_or_else(odd)?);
                }
                words.extend(addresses.into_iter().flat_map(|addresses| addresses.split(':')).map(str::to_owned));
                // A quoted local-part or an address literal with a colon: whose it is cannot be told.
                let whole = |word: &String| word.is_empty() || word.contains('@');
                match words.len() <= 3 && words.iter().skip(usize::from(ip.is_some())).all(whole) {
                    true => Ok(Key::new("greylisting", words.join(" "))),
                    false => Err(odd()),
                }
            }
        }
    }

    fn item(&self, key: Key, value: &[u8]) -> Result<Item, String> {
        let text = std::str::from_utf8(value).map_err(|_| "the value is no text")?;
        let odd = || format!("{text:?} is no value of qpsmtpd's: four numbers with colons between");
        // DB_File's of some ages end in a NUL.
        let text = text.trim_end_matches('\0');
        let numbers: Option<Vec<i64>> =
            text.split(':').map(|word| word.parse::<f64>().ok().map(|n| n as i64)).collect();
        let numbers = numbers.filter(|numbers| numbers.len() == 4).ok_or_else(odd)?;
        let expires = match self.database {
            Database::Greylisting => {
                let since = u64::try_from(numbers[0]).map_err(|_| odd())?;
                UNIX_EPOCH
                    .checked_add(Duration::from_secs(since))
                    .and_then(|time| time.checked_add(DAY * GREYLISTING_DAYS))
            }
            Database::Karma => self.now.checked_add(DAY * KARMA_DAYS),
        };
        Ok(Item { key, value: text.into(), expires: expires.ok_or_else(odd)? })
    }
}

/// An address from its number: IPv4 up to 32 bits, else IPv6.
fn address(digits: &str) -> Option<String> {
    let number: u128 = digits.parse().ok()?;
    match u32::try_from(number) {
        Ok(number) => Some(Ipv4Addr::from(number).to_string()),
        Err(_) => Some(Ipv6Addr::from(number).to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every entry, and every fault with its line.
    fn read(database: Database, text: &str) -> (Vec<String>, Vec<String>) {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut dump = Dump::new(database, now);
        let (mut items, mut faults) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            match dump.line(line.as_bytes()) {
                Ok(None) => {}
                Ok(Some(item)) => {
                    let ends = item.expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
                    items.push(format!("{} = {} until {ends}", item.key, item.value.text().unwrap()));
                }
                Err(why) => faults.push(format!("{}: {why}", index + 1)),
            }
        }
        faults.extend(dump.end().map(str::to_owned));
        (items, faults)
    }

    const HEADER: &str = "VERSION=3\nformat=print\ntype=hash\nh_nelem=2\ndb_pagesize=4096\nHEADER=END\n";

    #[test]
    fn greylisting() {
        let dump = format!(
            "{HEADER} 3221225985\n 1800000000:1:0:0\n 3221225985:a@x.example:b@y.example\n 1799999999:1:2:3\n \
             3221225985::b@y.example\n 1800000000:1:0:0\n a\\5c\\\\b@x.example\n 1800000000:1:0:0\n \
             42540766411282592856903984951653826561\n 1800000000.5:0:0:1\\00\nDATA=END\n"
        );
        let (items, faults) = read(Database::Greylisting, &dump);
        assert_eq!(faults, [""; 0]);
        let want = [
            "greylisting 192.0.2.1 = 1800000000:1:0:0 until 1803110400",
            "greylisting 192.0.2.1 a@x.example b@y.example = 1799999999:1:2:3 until 1803110399",
            "greylisting 192.0.2.1  b@y.example = 1800000000:1:0:0 until 1803110400",
            "greylisting a\\\\\\\\b@x.example = 1800000000:1:0:0 until 1803110400",
            "greylisting 2001:db8::1 = 1800000000.5:0:0:1 until 1803110400",
        ];
        assert_eq!(items, want);
    }

    #[test]
    fn karma_in_hexadecimal() {
        let hex = |text: &str| text.bytes().map(|octet| format!("{octet:02x}")).collect::<String>();
        let dump = format!("format=bytevalue\nHEADER=END\n {}\n {}\nDATA=END\n", hex("3221225985"), hex("0:1:2:3"));
        let (items, faults) = read(Database::Karma, &dump);
        assert_eq!((items, faults), (vec!["karma 192.0.2.1 = 0:1:2:3 until 1807776000".to_owned()], vec![]));
    }

    #[test]
    fn faults_are_named_by_line_and_passed_over() {
        let dump = format!(
            "{HEADER} nonsense\n 1:0:0:0\n 3221225985\n 1:0:0\n 3221225985\n \\x\n3221225985\n 1:0:0:0\n \
             3221225985\n 1800000000:0:0:0\nDATA=END\n"
        );
        let (items, faults) = read(Database::Greylisting, &dump);
        assert_eq!(items.len(), 1, "{items:?}");
        let lines: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["7", "10", "12", "13"], "{faults:?}");
        assert_eq!(read(Database::Karma, "hello\n").1.len(), 2);
        assert_eq!(read(Database::Karma, HEADER).1, ["the dump breaks off: there is no DATA=END"]);
        assert_eq!(read(Database::Karma, &format!("{HEADER} 1\nDATA=END\n")).1, ["8: a key without a value"]);
    }
}
