//! Defers mail from clients that it has not seen before: a mail server comes again, most senders of spam do not.
//!
//! ```text
//! greylisting
//! greylisting sender 1 recipient 1 black_timeout 600
//! ```
//! The first mail of a client is deferred: `450 4.7.1 This mail is temporarily denied`. Whoever comes again after `black_timeout` is
//! let through and is white: let through at once from then on, as long as it is seen again within `white_timeout`, which each mail begins anew.
//!
//! What is remembered, in the space `greylisting` of the store, under the values of those keys that are 1, a blank between:
//! - `remote_ip` (0 or 1; 1): the client's address.
//! - `network` (0 or 1; 0): its network, /24 (IPv6: /64), in place of the address. Large senders come again from another address. What was
//!   remembered of the address is not looked at then.
//! - `sender` (0 or 1; 0): the reverse-path, in small letters.
//! - `recipient` (0 or 1; 0): the forward-path as the client said it, in small letters. Then each RCPT is ruled on, instead of MAIL.
//!
//! `postern store show greylisting 192.0.2.1` prints, say, `1795189724:1:0:1`, which is `time:new:black:white`: the second since 1970 at
//! which it first came (once it is white: last came), and how often it was new, came too early, and was let through; from 1 on it is
//! white. A key of several values holds blanks, so quote it; the null sender is empty:
//!
//! ```text
//! postern store show greylisting '192.0.2.1 a@far.example x@here.example'
//! postern store forget greylisting '192.0.2.1 a@far.example x@here.example'
//! postern store forget greylisting --prefix '192.0.2.1 '
//! ```
//!
//! How it rules:
//! - `black_timeout` (seconds; 3000): how long a new client is deferred.
//! - `white_timeout` (seconds, at most ten years; 3110400, which are 36 days): how long anyone is remembered who is not seen.
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//! - `deny_late` (0 or 1; 0): refuse at DATA (`451 4.7.1`), so that the record names the recipients. What has the null sender is always
//!   refused only there, or servers that test an address with it (call-ahead) would not get their answer.
//! - `per_recipient` (0 or 1; 0): rule at RCPT, so that options of recipients count, but not with the recipient in the key.
//! - `by_option` (0 or 1; 0): the same, and only recipients with the option are greylisted.
//! - `p0f` (genre, detail, link, uptime, distance, each with a value; none): only clients that run on this, as the plugin `ident/p0f` found
//!   out, any of it: `p0f genre,windows,uptime,60`. The first three are patterns in any case, uptime is below so many minutes, distance
//!   above so many routers. A client of which nothing is known is let through.
//! - `geoip` (codes of countries; none): clients that are there, as `ident/geoip` found out, are let through: `geoip DE,AT`.
//!
//! Options of recipients (plugin `aliases`, listed before this one): `denysoft_greylist`, or `greylisting`. With 0, a recipient is never
//! greylisted; with anything else, or without a value, it is, which only `by_option` asks for. They are looked at when this plugin
//! rules: at RCPT, or at DATA; a refusal at MAIL knows no recipient. At DATA, where all get one reply, one that is exempt or whitelisted
//! lets the message through for all.
//!
//! Not asked: about clients that may relay, and clients, senders and recipients that are whitelisted. The postmaster of a domain of ours
//! is let through at RCPT, and at DATA where nobody else gets the mail.
//!
//! Files:
//! - `greylist_exclude_files`: files, one a line, whose clients are never greylisted. Those hold, as postgrey's do, an address, a network
//!   (`192.0.2.0/24`, or the beginning of an address: `192.0.2`), a name, which stands for all names below it too, or `/PATTERN/` for names, one
//!   a line; `#` begins a comment. Names are the client's in the DNS that lead back to its address, and are looked up only if there are
//!   some to compare. If the DNS has none (NXDOMAIN), or they do not lead back, no line with a name matches; nor if it cannot say (SERVFAIL, time
//!   over), which the record tells: the client is greylisted, and comes again.
//! - `denysoft_greylist`: more settings, `KEY VALUE` a line, of old. The plugin's line and plugins.d win.
//!
//! Taken for old configurations: `mode` (denysoft, testonly which is `reject 0`, or off); without effect `grey_timeout`, `db_dir`, `nfslock`,
//! `redis`, `upgrade` and `loglevel`: `config/store` says where the greylist is, and several hosts share one in Redis. qpsmtpd's is brought
//! over by `postern store import --from-qpsmtpd greylisting`. Old name: `denysoft_greylist`.
//!
//! Errors: if the store is not there, and if an excluding file or a line of it cannot be read, mail is taken as if it were white;
//! with `on_error defer` on the line it is deferred.
//!
//! Differs from qpsmtpd: there (0.95 on) nobody gets white, and all are deferred again 36 days after they first came; the null
//! sender is refused at MAIL unless recipients are ruled on; only the first line of `denysoft_greylist` is read; names are not verified.

mod exclude;
mod settings;
mod system;
mod timeline;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use self::exclude::Excluded;
use self::settings::{Mode, Settings};
use self::system::Condition;
use self::timeline::{Seen, Times};
use super::shared::{called, names, network};
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{
    Answer, Change, Data, Denial, End, Entry, Hook, Mail, OnError, Plugin, Rcpt, Reject, Ruling, Session, Trouble,
};
use crate::mail::Recipient;
use crate::smtp::address::{ForwardPath, Mailbox, ReversePath};
use crate::world::{Key, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &[OLD_NAME],
    spares_immune: true,
    stores: true,
    on_error: OnError::Decline,
    ..Entry::plugin(
        "greylisting",
        &[Hook::Mail, Hook::Rcpt, Hook::Data, Hook::ResetTransaction],
        crate::manual!("greylisting.rs"),
        build,
    )
};

/// The plugin's older name, its file of settings, and the option of recipients.
const OLD_NAME: &str = "denysoft_greylist";
const OPTIONS: [&str; 2] = [OLD_NAME, "greylisting"];
const TEXT: &str = "This mail is temporarily denied";
/// Octets of a compiled pattern.
const PATTERN_OCTETS_MAX: usize = 1 << 20;

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let old_name = called(&given, OLD_NAME);
    let (settings, conditions) = Settings::take(given, &world.config)?;
    Ok(Box::new(Greylisting {
        world: world.clone(),
        at_rcpt: settings.recipient || settings.per_recipient || settings.by_option,
        settings,
        conditions,
        old_name,
        excluded: None,
        spared: None,
        ruled: None,
        late: Vec::new(),
    }))
}

struct Greylisting {
    world: World,
    settings: Settings,
    conditions: Vec<Condition>,
    old_name: bool,
    /// Whether RCPT is ruled on, and not MAIL.
    at_rcpt: bool,
    /// Read at the first mail.
    excluded: Option<Excluded>,
    /// Why this client is none of its business, once looked for.
    spared: Option<Option<String>>,
    /// What became of this transaction, where the recipient does not matter: one transaction is one attempt.
    ruled: Option<Found>,
    /// What is to be refused at DATA, and for which recipient's sake.
    late: Vec<Late>,
}

/// What the store says.
#[derive(Clone, Debug)]
struct Found {
    grey: bool,
    why: String,
}

struct Late {
    /// `None`: whoever it is.
    recipient: Option<String>,
    why: String,
}

impl Plugin for Greylisting {
    fn wants(&self, hook: Hook) -> bool {
        let on = self.settings.mode != Some(Mode::Off);
        match hook {
            Hook::Mail => on && !self.at_rcpt,
            Hook::Rcpt => on && self.at_rcpt,
            _ => on,
        }
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        self.late.clear();
        self.rule(at.session, at.reverse_path, None)
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        match option(at.recipient) {
            Some((name, value)) if is_off(value) => return Ok(Ruling::skip(format!("{name}={value}"))),
            None if self.settings.by_option => return Ok(Ruling::skip(format!("without the option {OLD_NAME}"))),
            _ => {}
        }
        self.rule(at.session, &at.transaction.reverse_path, Some(&at.recipient.asked))
    }

    fn data(&mut self, at: &Data<'_>) -> Answer {
        let recipients = &at.transaction.recipients;
        let concerned = |late: &&Late| {
            let asked = |recipient: &Recipient| late.recipient.as_deref() == Some(&*forward_key(&recipient.asked));
            late.recipient.is_none() || recipients.iter().any(asked)
        };
        let Some(late) = self.late.iter().find(concerned) else { return Ok(Ruling::decline()) };
        for recipient in recipients {
            let off =
                option(recipient).filter(|(_, value)| is_off(value)).map(|(name, value)| format!("{name}={value}"));
            let unasked = self.settings.by_option && option(recipient).is_none();
            let unasked = unasked.then(|| format!("without the option {OLD_NAME}"));
            if let Some(why) = recipient.whitelisted.clone().or(off).or(unasked) {
                return Ok(Ruling::skip(format!("{}: {why}", recipient.asked.address())));
            }
        }
        if recipients.iter().all(is_postmaster) {
            return Ok(Ruling::skip("for the postmaster alone"));
        }
        Ok(Ruling::deny(denial()).because(late.why.clone()))
    }

    fn reset_transaction(&mut self, _at: &End<'_>) {
        self.ruled = None;
        self.late.clear();
    }

    fn check(&mut self) -> Vec<String> {
        match Excluded::read(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let renamed = self.old_name.then(|| format!("{OLD_NAME} is the old name of greylisting"));
        renamed.into_iter().chain(self.settings.notes()).collect()
    }
}

impl Greylisting {
    fn rule(&mut self, session: &Session, from: &ReversePath, to: Option<&ForwardPath>) -> Answer {
        let mut names = None;
        if let Some(reason) = self.spares(session, &mut names)? {
            return Ok(noting(names, Ruling::skip(reason)));
        }
        let found = match self.ruled.clone() {
            Some(found) => found,
            None => self.look_up(session, from, to)?,
        };
        if to.is_some() && !self.settings.recipient {
            self.ruled = Some(found.clone());
        }
        let Found { grey, why } = found;
        let reject = if self.settings.mode == Some(Mode::TestOnly) { Reject::Tolerate } else { self.settings.reject };
        let late = self.settings.deny_late || *from == ReversePath::Null;
        let ruling = if !grey {
            Ruling::decline().because(why)
        } else if late && reject == Reject::Refuse {
            self.late.push(Late { recipient: to.map(forward_key), why: why.clone() });
            Ruling::decline().because(format!("to be refused at DATA: {why}"))
        } else {
            let mut ruling = reject.rule(denial());
            ruling.evidence.push(why);
            ruling
        };
        Ok(noting(names, ruling))
    }

    /// Why this client is not greylisted, whoever writes to whom. What is found out of its names goes to `names`.
    fn spares(&mut self, session: &Session, names: &mut Option<names::Found>) -> Result<Option<String>, Trouble> {
        if let Some(known) = &self.spared {
            return Ok(known.clone());
        }
        let reason = match self.condition(session) {
            Some(reason) => Some(reason),
            None => {
                let excluded = match &mut self.excluded {
                    Some(excluded) => excluded,
                    none => none.insert(Excluded::read(&self.world.config)?),
                };
                excluded.find(&self.world, session, names)
            }
        };
        self.spared = Some(reason.clone());
        Ok(reason)
    }

    /// Why the conditions of the line are not met.
    fn condition(&self, session: &Session) -> Option<String> {
        if !self.conditions.is_empty() {
            let Some(system) = &session.system else {
                return Some("p0f: what the client runs on is not known".to_owned());
            };
            if !self.conditions.iter().any(|condition| condition.is_met(system)) {
                return Some(format!("p0f: the client runs on {} {}", system.genre, system.detail));
            }
        }
        let country = session.place.as_ref()?.country.as_deref()?;
        let listed = self.settings.geoip.iter().any(|code| code.eq_ignore_ascii_case(country));
        listed.then(|| format!("geoip: the client is in {country}"))
    }

    fn look_up(&self, session: &Session, from: &ReversePath, to: Option<&ForwardPath>) -> Result<Found, Trouble> {
        let Some(name) = self.name(session, from, to) else {
            return Ok(Found { grey: false, why: "no client address".to_owned() });
        };
        let times = Times { black_s: self.settings.black_timeout, white_s: self.settings.white_timeout };
        let now = self.world.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut found = Found { grey: true, why: String::new() };
        let updated = self.world.store.update(&Key::new(ENTRY.name, &name), &mut |old| {
            // What cannot be read is nothing.
            let old = old.and_then(|value| value.text()?.parse::<Seen>().ok());
            let (seen, stand) = Seen::come(old, now, times);
            found = Found { grey: stand.is_grey(), why: format!("{name}: {stand}") };
            let ends = UNIX_EPOCH + Duration::from_secs(seen.time + times.white_s);
            Some((seen.to_string().into(), ends))
        });
        updated.map_err(|error| Trouble::new(error.to_string()))?;
        Ok(found)
    }

    /// What it is remembered by; `None` without the client's address.
    fn name(&self, session: &Session, from: &ReversePath, to: Option<&ForwardPath>) -> Option<String> {
        let mut words = Vec::new();
        if self.settings.remote_ip || self.settings.network {
            let ip = session.connection.remote_ip?.to_canonical();
            words.push(if self.settings.network { network::around(ip) } else { ip.to_string() });
        }
        if self.settings.sender {
            words.push(from.mailbox().map(folded).unwrap_or_default());
        }
        if let Some(to) = to.filter(|_| self.settings.recipient) {
            words.push(forward_key(to));
        }
        Some(words.join(" "))
    }
}

/// 450, at DATA 451.
fn denial() -> Denial {
    Denial::transient(TEXT).code(7, 1)
}

fn noting(names: Option<names::Found>, ruling: Ruling) -> Ruling {
    let Some(found) = names else { return ruling };
    let ruling = match found.unknown {
        Some(why) => ruling.because(format!("its name is not known: {why}")),
        None => ruling,
    };
    ruling.change(Change::NoteNames(found.names))
}

/// In small letters, the domain in A-labels, a local-part with a blank in quotes.
fn folded(mailbox: &Mailbox) -> String {
    let shown = mailbox.to_string();
    let local_part = shown.rsplit_once('@').map_or(&*shown, |(local_part, _)| local_part);
    format!("{}@{}", local_part.to_lowercase(), mailbox.domain().ascii())
}

fn forward_key(path: &ForwardPath) -> String {
    path.mailbox().map_or_else(|| "postmaster".to_owned(), folded)
}

fn is_postmaster(recipient: &Recipient) -> bool {
    let mailbox = recipient.asked.mailbox();
    mailbox.is_none_or(|mailbox| mailbox.local_part().eq_ignore_ascii_case("postmaster"))
}

/// The option that says whether a recipient is greylisted, and its value.
fn option(recipient: &Recipient) -> Option<(&'static str, &str)> {
    let options: &BTreeMap<String, String> = &recipient.options;
    OPTIONS.into_iter().find_map(|name| Some((name, options.get(name)?.as_str())))
}

fn is_off(value: &str) -> bool {
    matches!(value, "0" | "no" | "off" | "false")
}

#[cfg(test)]
mod tests;
