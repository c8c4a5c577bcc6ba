//! Notes what a client runs on, as p0f reads it from its packets, and refuses the systems of a list.
//!
//! ```text
//! ident/p0f /run/p0f.sock
//! ident/p0f /run/p0f.sock smite_os windows add_headers 0
//! ```
//! p0f 3 must run on this machine and listen to the port: `p0f -i any -s /run/p0f.sock 'tcp dst port 25'`. It is asked before the
//! greeting; if it has not seen the client yet, once more at MAIL, which costs no waiting.
//!
//! - `socket`, or a first word alone (/run/p0f.sock): p0f's API socket. A relative path starts at the configuration directory. Who
//!   may connect to it is for the socket's owner and mode to say.
//! - `timeout` (seconds, parts of one too, up to 30; 1): for one look-up.
//! - `smite_os` (a pattern; none): a client whose system matches gets karma -1. Upper and lower case are the same.
//! - `add_headers` (0 or 1; 1): the fields `X-P0F-Genre` and `X-P0F-Link-Type` in the message. What others wrote in fields of these
//!   names is taken out.
//! - `version` (3): p0f's version. Version 2 has another API, and is not spoken.
//! - `local_ip`: of version 2, and without effect. `postern check` says so.
//!
//! What is found other plugins can use (`greylisting`): genre (`Linux`), detail (`3.11 and newer`), kind of link, routers between,
//! minutes since its start.
//!
//! File `p0f_blocked_operating_systems`: a recipient is refused with `550 5.7.1 OS Blocked` if a line matches the client's genre and
//! detail (`Windows XP`). A line is a phrase that occurs in it, or a pattern between slashes:
//!
//! ```text
//! Windows XP
//! /^windows (nt|9\d)/i
//! ```
//! Upper and lower case are the same. `postern check` names each line that cannot be used. The first line that matches is in the record.
//!
//! Not asked: about clients that may relay or are whitelisted, if that is known already: list it after `relay`. Nor about
//! recipients that are whitelisted. Without a client address (a pipe) p0f is not asked.
//!
//! Errors: p0f is not there, does not answer in time, says that it does not understand, or answers what is no answer. As in qpsmtpd
//! mail goes on then without it, unless the line says `on_error defer`. So does mail of a client that p0f does not know. A list that
//! cannot be read, or with a line that cannot be used, is an error too.
//!
//! Differs from qpsmtpd: IPv6; p0f is asked again at MAIL; no version 2.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;

use super::super::shared::place;
use super::note_in_header;
use crate::config::{self, ConfigError, Settings as Given};
use crate::hook::{
    Answer, Change, ClientSystem, Connect, Content, Denial, Entry, Hook, Mail, OnError, Plugin, Rcpt, Ruling, Trouble,
};
use crate::smtp::escape::safe;
use crate::world::{Address, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    spares_immune: true,
    on_error: OnError::Decline,
    ..Entry::plugin(
        "ident/p0f",
        &[Hook::Connect, Hook::Mail, Hook::Rcpt, Hook::DataPost],
        crate::manual!("p0f.rs"),
        build,
    )
};

const BLOCKED: &str = "p0f_blocked_operating_systems";
/// Octets of a compiled pattern.
const PATTERN_OCTETS_MAX: usize = 1 << 20;
const TIMEOUT_MAX_S: f64 = 30.0;

// p0f 3.09, api.h. Numbers are in the machine's own order.
const QUERY_MAGIC: u32 = 0x5030_4601;
const RESPONSE_MAGIC: u32 = 0x5030_4602;
const QUERY_OCTETS: usize = 21;
const RESPONSE_OCTETS: usize = 232;
const BAD_QUERY: u32 = 0x00;
const FOUND: u32 = 0x10;
const NO_MATCH: u32 = 0x20;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    socket: String,
    /// Seconds.
    timeout: f64,
    /// A pattern; empty: nobody.
    smite_os: String,
    add_headers: bool,
    version: u32,
    /// Of version 2; no effect.
    local_ip: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: "/run/p0f.sock".into(),
            timeout: 1.0,
            smite_os: String::new(),
            add_headers: true,
            version: 3,
            local_ip: String::new(),
        }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(socket) = given.take_odd() {
        given.set("socket", socket);
    }
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |text: String| origin.error(text).of_plugin(ENTRY.name);
    if settings.version != 3 {
        return Err(fault(format!("version {}: only p0f 3 is spoken", settings.version)));
    }
    if !(settings.timeout > 0.0 && settings.timeout <= TIMEOUT_MAX_S) {
        return Err(fault(format!("timeout {} is not more than 0 and at most {TIMEOUT_MAX_S}", settings.timeout)));
    }
    let smite = Some(&settings.smite_os).filter(|pattern| !pattern.is_empty());
    let smite = smite.map(|pattern| regex(pattern)).transpose().map_err(|text| fault(format!("smite_os: {text}")))?;
    let address = Address::Unix(world.config.resolve(&settings.socket).map_err(|error| error.or_at(&origin))?);
    Ok(Box::new(P0f { address, smite, settings, world: world.clone(), again: false, blocked: None }))
}

fn regex(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).case_insensitive(true).size_limit(PATTERN_OCTETS_MAX).build();
    built.map_err(|error| format!("{pattern:?} is not a pattern that can be used here: {error}"))
}

struct P0f {
    world: World,
    address: Address,
    settings: Settings,
    smite: Option<Regex>,
    /// It had not seen the client at connect: to be asked again.
    again: bool,
    /// The list, read at the first recipient.
    blocked: Option<Vec<Blocked>>,
}

impl P0f {
    /// Looks the client up, and notes what is found.
    fn look_up(&mut self, ip: IpAddr) -> Answer {
        let time = Duration::from_secs_f64(self.settings.timeout);
        let response = self.world.within(time, || ask(&self.world, &self.address, ip));
        let found = response.and_then(|octets| read(&octets)).map_err(|fault| {
            let Address::Unix(path) = &self.address else { return Trouble::new(fault) };
            Trouble::new(format!("p0f at {}: {fault}", path.display()))
        })?;
        let Some(system) = found else {
            self.again = true;
            return Ok(Ruling::skip("p0f has not seen this client"));
        };
        let name = name(&system);
        let mut ruling = Ruling::decline().because(evidence(&system));
        if !name.is_empty() && self.smite.as_ref().is_some_and(|smite| smite.is_match(&name)) {
            ruling = ruling.change(Change::AdjustKarma(-1)).because(format!("smite_os {}", self.settings.smite_os));
        }
        Ok(ruling.change(Change::NoteSystem(system)))
    }
}

impl Plugin for P0f {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        match at.session.connection.remote_ip {
            Some(ip) => self.look_up(ip),
            None => Ok(Ruling::skip("no client address")),
        }
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        match at.session.connection.remote_ip {
            Some(ip) if self.again => {
                let answer = self.look_up(ip);
                self.again = false;
                answer
            }
            _ => Ok(Ruling::decline()),
        }
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let name = at.session.system.as_ref().map(name).unwrap_or_default();
        if name.is_empty() || !self.world.config.exists(BLOCKED) {
            return Ok(Ruling::decline());
        }
        let blocked = match &mut self.blocked {
            Some(blocked) => blocked,
            none => {
                let lines: Result<Vec<_>, _> = self.world.config.list(BLOCKED)?.iter().map(Blocked::read).collect();
                none.insert(lines?)
            }
        };
        let Some(line) = blocked.iter().find(|line| line.matches(&name)) else { return Ok(Ruling::decline()) };
        let denial = Denial::permanent("OS Blocked").code(7, 1);
        Ok(Ruling::deny(denial).change(Change::AdjustKarma(-1)).because(format!("{}: {name}", line.origin)))
    }

    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        if !self.settings.add_headers {
            return Ok(Ruling::decline());
        }
        let known = |text: &dyn Fn(&ClientSystem) -> String| {
            at.session.system.as_ref().map(text).filter(|text| !text.is_empty())
        };
        note_in_header(
            at,
            &[
                ("X-P0F-Genre", known(&|system| system.genre.clone())),
                ("X-P0F-Link-Type", known(&|system| system.link.clone())),
            ],
        )
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.settings.local_ip.is_empty() {
            faults.push(String::from("local_ip was for p0f 2 and has no effect: take it out"));
        }
        let time = Duration::from_secs_f64(self.settings.timeout);
        if let Err(error) = self.world.within(time, || self.world.net.connect(&self.address)) {
            faults.push(format!("p0f does not answer at {}: {error}", self.settings.socket));
        }
        match self.world.config.list(BLOCKED) {
            Ok(lines) => {
                faults.extend(lines.iter().filter_map(|line| Blocked::read(line).err()).map(|e| e.to_string()))
            }
            Err(error) => faults.push(error.to_string()),
        }
        faults
    }
}

/// One line of the list.
struct Blocked {
    what: What,
    /// "p0f_blocked_operating_systems line 3".
    origin: String,
}

enum What {
    /// In small letters.
    Phrase(String),
    Pattern(Regex),
}

impl Blocked {
    fn read(entry: &config::Entry) -> Result<Self, ConfigError> {
        let text = entry.text.as_str();
        let inside = text.strip_prefix('/').and_then(|rest| rest.strip_suffix("/i").or(rest.strip_suffix('/')));
        let what = match inside.filter(|inside| !inside.is_empty()) {
            Some(pattern) => What::Pattern(regex(pattern).map_err(|fault| entry.error(fault))?),
            None => What::Phrase(text.to_lowercase()),
        };
        Ok(Self { what, origin: place(&entry.file, entry.line) })
    }

    fn matches(&self, name: &str) -> bool {
        match &self.what {
            What::Phrase(phrase) => name.to_lowercase().contains(phrase),
            What::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

/// Genre and detail: "Windows XP".
fn name(system: &ClientSystem) -> String {
    format!("{} {}", system.genre, system.detail).trim().to_owned()
}

fn evidence(system: &ClientSystem) -> String {
    let mut text = name(system);
    if text.is_empty() {
        text.push_str("a system that p0f cannot name");
    }
    if !system.link.is_empty() {
        text.push_str(&format!(", by {}", system.link));
    }
    if let Some(distance) = system.distance {
        text.push_str(&format!(", {distance} hops away"));
    }
    if let Some(minutes) = system.uptime_minutes {
        text.push_str(&format!(", up {minutes} min"));
    }
    text
}

/// Asks p0f about an address.
fn ask(world: &World, address: &Address, ip: IpAddr) -> Result<[u8; RESPONSE_OCTETS], String> {
    let mut response = [0; RESPONSE_OCTETS];
    let asked = world.net.connect(address).and_then(|mut stream| {
        stream.write_all(&query(ip))?;
        stream.read_exact(&mut response)
    });
    asked.map(|()| response).map_err(|error| error.to_string())
}

/// `struct p0f_api_query`: magic, 4 or 6, 16 octets of address.
fn query(ip: IpAddr) -> [u8; QUERY_OCTETS] {
    let mut octets = [0; QUERY_OCTETS];
    octets[..4].copy_from_slice(&QUERY_MAGIC.to_ne_bytes());
    match ip {
        IpAddr::V4(ip) => {
            octets[4] = 4;
            octets[5..9].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            octets[4] = 6;
            octets[5..].copy_from_slice(&ip.octets());
        }
    }
    octets
}

/// `struct p0f_api_response`. `None`: it has not seen the client.
fn read(octets: &[u8; RESPONSE_OCTETS]) -> Result<Option<ClientSystem>, String> {
    let number = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&octets[at..at + 4]);
        u32::from_ne_bytes(four)
    };
    // 31 characters and a NUL.
    let text = |at: usize| {
        let field = &octets[at..at + 32];
        let end = field.iter().position(|octet| *octet == 0).unwrap_or(field.len());
        safe(String::from_utf8_lossy(&field[..end]).trim(), 64)
    };
    if number(0) != RESPONSE_MAGIC {
        return Err(format!("an answer that is none of its API (0x{:08x}, not 0x{RESPONSE_MAGIC:08x})", number(0)));
    }
    match number(4) {
        NO_MATCH => return Ok(None),
        FOUND => {}
        BAD_QUERY => return Err("it says that our query is bad".into()),
        other => return Err(format!("an unknown status, 0x{other:x}")),
    }
    // Since 0 minutes: it could not tell. -1 routers: the same.
    let uptime = Some(number(20)).filter(|minutes| *minutes > 0);
    let distance = i16::from_ne_bytes([octets[36], octets[37]]);
    Ok(Some(ClientSystem {
        genre: text(40),
        detail: text(72),
        link: text(168),
        distance: u32::try_from(distance).ok(),
        uptime_minutes: uptime.map(u64::from),
    }))
}

#[cfg(test)]
#[path = "p0f_tests.rs"]
mod tests;
