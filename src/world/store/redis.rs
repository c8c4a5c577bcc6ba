//! Entries in a Redis server, for several hosts that share.
//!
//! An entry is a hash `PREFIX SPACE:KEY` with the fields `v` (value) and `e` (end, milliseconds since 1970). The end is compared
//! by us; Redis gets it too, a day later, so that it cleans up by itself. What must be whole is a script there. Anything but
//! an answer is an error, and within the time limit: no server, a slow one, `-LOADING`, `-READONLY`, `-OOM`, `-NOAUTH`.
//! After a server was not there, calls fail at once for some seconds: a session has many, and would wait for each.

mod resp;
mod wire;

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use super::lazy::Means;
use super::settings::{At, Server};
use super::{After, Among, Change, Cursor, Item, Key, Page, Store, StoreError, Value, from_ms, to_ms, unavailable};
use resp::{Command, Said};
use wire::{Failure, Wire};

/// Redis forgets an entry so much later than it ends: its clock may be another.
const SLACK: Duration = Duration::from_secs(86_400);
/// How long a server that was not there is not asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest wait between two tries of an update.
const BACK_OFF_MS: u64 = 16;
/// Entries of one page at most.
const PAGE_MAX: usize = 1_000;

const PUT: &str = "redis.call('HSET',KEYS[1],'v',ARGV[1],'e',ARGV[2]) redis.call('PEXPIREAT',KEYS[1],ARGV[3]) return 1";
// A sum is given back as text: a script's numbers have 53 bits.
const INCREMENT: &str = "local e=redis.call('HGET',KEYS[1],'e') \
     if e and tonumber(e)<=tonumber(ARGV[2]) then redis.call('DEL',KEYS[1]) e=false end \
     redis.call('HINCRBY',KEYS[1],'v',ARGV[1]) \
     if not e then redis.call('HSET',KEYS[1],'e',ARGV[3]) redis.call('PEXPIREAT',KEYS[1],ARGV[4]) end \
     return redis.call('HGET',KEYS[1],'v')";
const COMPARE_AND_SET: &str = "local r=redis.call('HMGET',KEYS[1],'v','e') local v=r[1] \
     if v and tonumber(r[2])<=tonumber(ARGV[1]) then v=false end \
     if ARGV[2]=='0' then if v then return 0 end elseif v~=ARGV[3] then return 0 end \
     redis.call('HSET',KEYS[1],'v',ARGV[4],'e',ARGV[5]) redis.call('PEXPIREAT',KEYS[1],ARGV[6]) return 1";
/// Removes, in any case or only what has ended; 1 if it was live, 2 if it was not, 0 if it is not there or stays.
const REMOVE: &str = "local e=redis.call('HGET',KEYS[1],'e') if not e then return 0 end \
     local live=tonumber(e)>tonumber(ARGV[1]) if live and ARGV[2]=='ended' then return 0 end \
     redis.call('DEL',KEYS[1]) return live and 1 or 2";
const CHECK: &str = "redis.call('HSET',KEYS[1],'v','0','e','0') return redis.call('DEL',KEYS[1])";

/// A store in a Redis server.
pub struct RedisStore {
    server: Server,
    timeout: Duration,
    means: Means,
    wire: RefCell<Option<Wire>>,
    /// Until when it is not asked, and why.
    down: RefCell<Option<(Instant, String)>>,
}

impl RedisStore {
    /// The store in this server. Connects at the first call.
    pub fn new(server: Server, timeout: Duration, means: Means) -> Self {
        Self { server, timeout, means, wire: RefCell::default(), down: RefCell::default() }
    }

    fn place(&self) -> String {
        match &self.server.at {
            At::Unix(path) => format!("redis unix:{}", path.display()),
            At::Tcp(host, port) => format!("redis tcp:{host}:{port}"),
        }
    }

    fn now(&self) -> i64 {
        to_ms(self.means.clock.now())
    }

    fn name(&self, key: &Key) -> Vec<u8> {
        [self.server.prefix.as_bytes(), key.space().as_bytes(), b":", key.octets()].concat()
    }

    fn key(&self, name: &[u8]) -> Option<Key> {
        let rest = name.strip_prefix(self.server.prefix.as_bytes())?;
        let colon = rest.iter().position(|octet| *octet == b':')?;
        let space = std::str::from_utf8(&rest[..colon]).ok().filter(|space| Key::is_space(space))?;
        Some(Key::new(space, &rest[colon + 1..]))
    }

    /// One command, one answer.
    fn ask(&self, command: &Command) -> Result<Said, StoreError> {
        let mut answers = self.ask_all(std::slice::from_ref(command))?;
        Ok(answers.pop().unwrap_or(Said::Nil))
    }

    /// Commands in one go, an answer for each.
    fn ask_all(&self, commands: &[Command]) -> Result<Vec<Said>, StoreError> {
        if let Some((until, why)) = &*self.down.borrow()
            && Instant::now() < *until
        {
            return Err(unavailable(&self.place(), why));
        }
        let until = self.means.deadline.step(self.timeout);
        // The net keeps to the deadline of all; for this call it is ours.
        let before = self.means.deadline.replace(Some(until));
        let answers = self.ask_within(commands);
        self.means.deadline.replace(before);
        answers.map_err(|failure| {
            let why = failure.to_string();
            // A hook with little time left says nothing about the server.
            if matches!(failure, Failure::Gone(_)) && before.is_none_or(|before| before > until) {
                *self.down.borrow_mut() = Some((Instant::now() + PAUSE, why.clone()));
            }
            unavailable(&self.place(), why)
        })
    }

    fn ask_within(&self, commands: &[Command]) -> Result<Vec<Said>, Failure> {
        let mut held = self.wire.borrow_mut();
        // A server hangs up on who is silent for long: what it has not even begun to answer, it has not heard.
        if let Some(mut wire) = held.take() {
            match wire.ask(commands) {
                Err(Failure::HungUp) => {}
                Err(failure) => return Err(failure),
                Ok(answers) => {
                    *held = Some(wire);
                    return Ok(answers);
                }
            }
        }
        let mut wire = Wire::connect(&self.server, &*self.means.net)?;
        let answers = wire.ask(commands)?;
        *held = Some(wire);
        Ok(answers)
    }

    /// Runs a script for one key.
    fn script(&self, script: &str, key: &Key, arguments: &[&[u8]]) -> Result<Said, StoreError> {
        let command = Command::new("EVAL").arg(script).arg("1").arg(self.name(key));
        let said = self.ask(&arguments.iter().fold(command, |command, argument| command.arg(*argument)))?;
        match &said {
            Said::Error(error) => Err(self.refused(key, error)),
            _ => Ok(said),
        }
    }

    /// What the server says instead of an answer.
    fn refused(&self, key: &Key, text: &str) -> StoreError {
        if text.contains("not an integer") || text.contains("would overflow") {
            return StoreError::NotANumber(key.clone());
        }
        let why = format!("it refuses: {}", wire::harmless(text));
        if text.contains("WRONGTYPE") || text.contains("compare nil") || text.contains("compare number with nil") {
            let why = format!("{key} is not postern's ({why}): another prefix, or database?");
            return StoreError::Damaged { place: self.place(), why };
        }
        unavailable(&self.place(), why)
    }

    fn odd(&self, said: &Said) -> StoreError {
        unavailable(&self.place(), format!("an answer that is none: {}", wire::harmless(&format!("{said:?}"))))
    }

    fn number(&self, said: &Said) -> Result<i64, StoreError> {
        match said {
            Said::Int(number) => Ok(*number),
            _ => Err(self.odd(said)),
        }
    }

    fn read(&self, key: &Key) -> Command {
        Command::new("HMGET").arg(self.name(key)).arg("v").arg("e")
    }

    /// The answer to [`Self::read`].
    fn entry(&self, key: &Key, said: &Said) -> Result<Option<(Value, i64)>, StoreError> {
        if let Said::Error(error) = said {
            return Err(self.refused(key, error));
        }
        let Said::Array(fields) = said else {
            return Err(self.odd(said));
        };
        match &fields[..] {
            [Said::Octets(value), Said::Octets(expires)] => {
                let expires = std::str::from_utf8(expires).ok().and_then(|text| text.parse().ok());
                let expires = expires.ok_or_else(|| self.odd(said))?;
                Ok(Some((value.clone().into(), expires)))
            }
            _ => Ok(None),
        }
    }
}

/// A moment as arguments: as stored, and for Redis itself.
fn ends(expires: SystemTime) -> (String, String) {
    let expires = from_ms(to_ms(expires));
    (to_ms(expires).to_string(), to_ms(expires + SLACK).to_string())
}

impl Store for RedisStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let said = self.ask(&self.read(key))?;
        let now = self.now();
        Ok(self.entry(key, &said)?.filter(|(_, expires)| *expires > now).map(|(value, _)| value))
    }

    fn put(&self, key: &Key, value: &Value, expires: SystemTime) -> Result<(), StoreError> {
        value.fits()?;
        let (ours, theirs) = ends(expires);
        self.script(PUT, key, &[value.octets(), ours.as_bytes(), theirs.as_bytes()]).map(drop)
    }

    fn increment(&self, key: &Key, by: i64, expires: SystemTime) -> Result<i64, StoreError> {
        let ((ours, theirs), by, now) = (ends(expires), by.to_string(), self.now().to_string());
        let arguments = [&by, &now, &ours, &theirs].map(|text| text.as_bytes());
        let said = self.script(INCREMENT, key, &arguments)?;
        match &said {
            Said::Octets(sum) => Value::from(sum.clone()).number().ok_or_else(|| self.odd(&said)),
            _ => Err(self.odd(&said)),
        }
    }

    fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<&Value>,
        new: &Value,
        expires: SystemTime,
    ) -> Result<bool, StoreError> {
        new.fits()?;
        let ((ours, theirs), now) = (ends(expires), self.now().to_string());
        let (is, old) = expected.map_or((b"0", &[][..]), |value| (b"1", value.octets()));
        let arguments = [now.as_bytes(), is, old, new.octets(), ours.as_bytes(), theirs.as_bytes()];
        Ok(self.number(&self.script(COMPARE_AND_SET, key, &arguments)?)? == 1)
    }

    /// Tries until nobody came between, or the time is over.
    fn update(&self, key: &Key, change: &mut Change<'_>) -> Result<Option<Value>, StoreError> {
        let until = self.means.deadline.step(self.timeout);
        let mut most_ms = 1;
        loop {
            let old = self.get(key)?;
            let Some((new, expires)) = change(old.as_ref()) else {
                return Ok(old);
            };
            if self.compare_and_set(key, old.as_ref(), &new, expires)? {
                return Ok(Some(new).filter(|_| to_ms(expires) > self.now()));
            }
            if Instant::now() >= until {
                return Err(StoreError::Contended(key.clone()));
            }
            let mut chance = [0; 2];
            self.means.random.fill(&mut chance);
            let share = u64::from(u16::from_ne_bytes(chance));
            std::thread::sleep(Duration::from_micros((share * most_ms * 1000) >> 16));
            most_ms = (most_ms * 2).min(BACK_OFF_MS);
        }
    }

    fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        let now = self.now().to_string();
        Ok(self.number(&self.script(REMOVE, key, &[now.as_bytes(), b"any"])?)? == 1)
    }

    fn scan(&self, among: Among<'_>, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let cursor = match after {
            Some(Cursor(After::Redis(cursor))) => *cursor,
            _ => 0,
        };
        let mut pattern = escaped(self.server.prefix.as_bytes());
        if let Some(space) = among.space {
            pattern.extend(escaped(format!("{space}:").as_bytes()));
            pattern.extend(escaped(among.prefix));
        }
        pattern.push(b'*');
        let count = limit.clamp(1, PAGE_MAX).to_string();
        let scan = Command::new("SCAN").arg(cursor.to_string());
        let said = self.ask(&scan.arg("MATCH").arg(pattern).arg("COUNT").arg(count))?;
        let (next, names) = match &said {
            Said::Array(parts) => match &parts[..] {
                [Said::Octets(next), Said::Array(names)] => (next, names),
                _ => return Err(self.odd(&said)),
            },
            Said::Error(error) => return Err(self.refused(&Key::new("", ""), error)),
            _ => return Err(self.odd(&said)),
        };
        let next: u64 =
            std::str::from_utf8(next).ok().and_then(|text| text.parse().ok()).ok_or_else(|| self.odd(&said))?;
        let keys: Vec<Key> = names
            .iter()
            .filter_map(|name| match name {
                Said::Octets(name) => self.key(name),
                _ => None,
            })
            .collect();
        let entries = match keys.is_empty() {
            true => Vec::new(),
            false => self.ask_all(&keys.iter().map(|key| self.read(key)).collect::<Vec<_>>())?,
        };
        let mut page = Page { items: Vec::new(), next: (next != 0).then_some(Cursor(After::Redis(next))) };
        for (key, said) in keys.into_iter().zip(&entries) {
            // Gone since, or not ours: both are nothing to show.
            if let Ok(Some((value, expires))) = self.entry(&key, said) {
                page.items.push(Item { key, value, expires: from_ms(expires) });
            }
        }
        Ok(page)
    }

    fn expire(&self) -> Result<u64, StoreError> {
        let (now, mut removed, mut after) = (self.now(), 0, None);
        loop {
            let page = self.scan(Among::default(), after.as_ref(), PAGE_MAX)?;
            for item in page.items.iter().filter(|item| to_ms(item.expires) <= now) {
                let said = self.script(REMOVE, &item.key, &[now.to_string().as_bytes(), b"ended"])?;
                removed += u64::from(self.number(&said)? == 2);
            }
            if page.next.is_none() {
                return Ok(removed);
            }
            after = page.next;
        }
    }

    /// Writes and removes an entry in one step: a server that only answers is not enough.
    fn check(&self) -> Result<String, StoreError> {
        let said = self.script(CHECK, &Key::new("check", std::process::id().to_string()), &[])?;
        if self.number(&said)? != 1 {
            return Err(self.odd(&said));
        }
        Ok(format!("{}, database {}, keys {}...", self.place(), self.server.db, self.server.prefix))
    }
}

/// Without meaning for Redis's patterns.
fn escaped(octets: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(octets.len());
    for octet in octets {
        if b"*?[]\\^-".contains(octet) {
            pattern.push(b'\\');
        }
        pattern.push(*octet);
    }
    pattern
}
