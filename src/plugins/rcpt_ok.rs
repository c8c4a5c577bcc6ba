//! Says which recipients are ours: domains of `rcpthosts`, `morercpthosts.cdb` and `me`.
//!
//! ```text
//! rcpt_ok
//! ```
//! List it last of the rcpt plugins.
//!
//! - A client that may relay (relay, AUTH) may send anywhere. A whitelisted one may not: whitelisting never vouches.
//! - `rcpthosts` holds a domain a line, or `.suffix` for every domain below it (not the suffix itself), or an address
//!   literal `[192.0.2.1]`. Upper and lower case and both forms of an international domain are the same.
//! - `morercpthosts.cdb` holds domains and suffixes as keys, in small letters, as `postern compile` and
//!   qmail-newmrh make it of `morercpthosts`. The text alone is not read.
//! - `me` is always ours; a recipient without a domain (`<postmaster>`) is `me`'s.
//! - Anything else: `550 5.7.1 <a@b>: relaying denied`.
//!
//! No arguments. A missing `rcpthosts` is an empty one: only mail for `me` is taken (qmail-smtpd would take all).
//!
//! Errors: lists are read at the first RCPT. One that cannot be read, and a line that is no domain, are this plugin's
//! error: the recipient is deferred, where a domain with a slip of the pen would be refused for good. `postern check`
//! names each line.
//!
//! Differs from qpsmtpd, where whitelisted clients may relay, and where the map holds no suffixes.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;

use super::shared::{long, place};
use crate::config::{Cdb, ConfigDir, ConfigError, Settings};
use crate::hook::entry::{Map, Records};
use crate::hook::{Answer, Denial, Entry, Hook, Plugin, Rcpt, Ruling, Trouble};
use crate::smtp::address::{Domain, ForwardPath};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    vouches: true,
    maps: &[Map { name: MORE, records }],
    ..Entry::plugin("rcpt_ok", &[Hook::Rcpt], crate::manual!("rcpt_ok.rs"), build).without_settings()
};

const MORE: &str = "morercpthosts";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(RcptOk { world: world.clone(), hosts: None }))
}

struct RcptOk {
    world: World,
    /// Read at the first RCPT that needs them.
    hosts: Option<Hosts>,
}

impl Plugin for RcptOk {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        if let Some(reason) = &at.session.relaying {
            return Ok(Ruling::accept().because(format!("may relay: {reason}")));
        }
        let domain = match &at.recipient.asked {
            ForwardPath::Postmaster(_) => return Ok(Ruling::accept().because("postmaster of ours")),
            ForwardPath::Mailbox(mailbox) => mailbox.domain(),
        };
        let hosts = match &mut self.hosts {
            Some(hosts) => hosts,
            none => none.insert(Hosts::read(&self.world.config, &at.session.me)?),
        };
        if let Some(evidence) = hosts.covering(domain)? {
            return Ok(Ruling::accept().because(evidence));
        }
        let denial = Denial::permanent(format!("{}: relaying denied", at.recipient.asked)).code(7, 1);
        Ok(Ruling::deny(denial).because(hosts.without(domain)))
    }

    fn notes(&self) -> Vec<String> {
        let advice = |lines| {
            format!(
                "rcpthosts has {lines} lines, which every connection reads anew: put them into morercpthosts and let `postern compile morercpthosts` make a map of it"
            )
        };
        long(&self.world.config, "rcpthosts").map(advice).into_iter().collect()
    }

    fn check(&mut self) -> Vec<String> {
        match Hosts::read(&self.world.config, "") {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

/// What stands in the map of a long list: each domain, and `.suffix` with its dot.
fn records(config: &ConfigDir) -> Result<Records, ConfigError> {
    let (mut records, mut faults) = (Records::new(), Vec::new());
    config.each(MORE, &mut |text, file, line| {
        match plain(text) {
            Some(name) => records.push((name, String::new())),
            None => faults.push(ConfigError::at(file, line, format!("{text:?} is no domain and no .suffix"))),
        }
        ControlFlow::Continue(())
    })?;
    records.sort();
    records.dedup();
    ConfigError::from_many(faults).map_or(Ok(records), Err)
}

/// The domains that are ours. Found by hash, for rcpthosts may be long and the recipients many.
struct Hosts {
    me: String,
    /// Whether there is a file rcpthosts, be it empty.
    there: bool,
    /// A domain or `.suffix`, in small letters and A-labels -> its file and line. The list is the administrator's, so
    /// no secret key is needed against collisions.
    names: HashMap<Box<str>, (Rc<Path>, usize), BuildHasherDefault<DefaultHasher>>,
    /// Whether suffixes need to be looked for at all.
    suffixes: bool,
    more: Option<Cdb>,
}

impl Hosts {
    fn read(config: &ConfigDir, me: &str) -> Result<Self, ConfigError> {
        let me = plain(me).unwrap_or_else(|| me.to_owned());
        let mut faults = Vec::new();
        let mut hosts =
            Self { me, there: config.exists("rcpthosts"), names: HashMap::default(), suffixes: false, more: None };
        config.each("rcpthosts", &mut |text, file, line| {
            match plain(text) {
                Some(name) => {
                    hosts.suffixes |= name.starts_with('.');
                    hosts.names.entry(name.into()).or_insert_with(|| (Rc::clone(file), line));
                }
                None => faults.push(ConfigError::at(file, line, format!("{text:?} is no domain and no .suffix"))),
            }
            ControlFlow::Continue(())
        })?;
        hosts.more = config.map(MORE)?;
        ConfigError::from_many(faults).map_or(Ok(hosts), Err)
    }

    /// That a domain is listed nowhere.
    fn without(&self, domain: &Domain) -> String {
        let name = domain.ascii();
        match (self.names.is_empty() && self.more.is_none(), self.there) {
            (false, _) => format!("{name} is not in rcpthosts or morercpthosts"),
            (true, true) => format!("{name} is not {}, and rcpthosts is empty", self.me),
            (true, false) => format!("{name} is not {}, and there is no rcpthosts", self.me),
        }
    }

    /// Where a domain is listed.
    fn covering(&self, domain: &Domain) -> Result<Option<String>, Trouble> {
        let name = domain.ascii();
        if name == self.me {
            return Ok(Some(format!("me: {name}")));
        }
        let listed = |key: &str| self.names.get(key).map(|(file, line)| format!("{}: {key}", place(file, *line)));
        if let Some(evidence) = listed(name).or_else(|| suffixes(name).filter(|_| self.suffixes).find_map(listed)) {
            return Ok(Some(evidence));
        }
        let Some(map) = &self.more else { return Ok(None) };
        // qmail-newmrh knows nothing of A-labels: an international domain stands there as somebody wrote it.
        let written = (!domain.as_written().is_ascii()).then(|| domain.as_written().to_lowercase());
        for name in std::iter::once(name).chain(written.as_deref()) {
            for key in std::iter::once(name).chain(suffixes(name)) {
                if map.get(key.as_bytes())?.is_some() {
                    return Ok(Some(format!("morercpthosts.cdb: {key}")));
                }
            }
        }
        Ok(None)
    }
}

/// `.b.c` and `.c` for `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot..])
}

/// A domain, or `.suffix`, in the form for comparing; `None`: it is neither.
fn plain(text: &str) -> Option<String> {
    let (dot, name) = text.strip_prefix('.').map_or(("", text), |name| (".", name));
    // Most names need no parser: only those with A-labels or other letters, and address literals, have several forms.
    let is_simple = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    let small = text.to_ascii_lowercase();
    if !name.is_empty() && name.bytes().all(is_simple) && !small.contains("xn--") {
        return Some(small);
    }
    Domain::parse(name).ok().map(|name| format!("{dot}{}", name.ascii()))
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::hook::facts::Session;
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::ReversePath;
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    /// The ruling on one recipient: what it rests on, or "no".
    fn rule(plugin: &mut dyn Plugin, session: &mut Session, recipient: &str) -> String {
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
        let ruling = plugin.rcpt(&Rcpt { session, transaction: &transaction, recipient: &mut recipient }).unwrap();
        match ruling.verdict {
            Verdict::Accept => ruling.evidence.join("; "),
            Verdict::Deny(denial) if denial.text == format!("{}: relaying denied", recipient.asked) => "no".into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_our_domains_are_ours() {
        let list = "# ours\nhere.example\n.sub.example\nBÜCHER.example\nxn--mller-kva.example\n[192.0.2.1]\n";
        let (world, _dir) = fixture::world(&[("rcpthosts", list)]);
        let mut plugin = fixture::build(&ENTRY, "rcpt_ok", &world).unwrap();
        let mut session = fixture::session(Some("192.0.2.9"));
        let table = [
            ("<POSTmaster>", "postmaster of ours"),
            ("<a@MX.example>", "me: mx.example"),
            ("<a@HERE.example>", "rcpthosts line 2: here.example"),
            ("<a@there.example>", "no"),
            ("<a@a.here.example>", "no"),
            ("<a@ahere.example>", "no"),
            ("<a@example>", "no"),
            ("<a@x.sub.example>", "rcpthosts line 3: .sub.example"),
            ("<a@x.y.SUB.example>", "rcpthosts line 3: .sub.example"),
            ("<a@sub.example>", "no"),
            ("<a@xsub.example>", "no"),
            ("<a@bücher.example>", "rcpthosts line 4: xn--bcher-kva.example"),
            ("<a@XN--bcher-KVA.example>", "rcpthosts line 4: xn--bcher-kva.example"),
            ("<a@Müller.example>", "rcpthosts line 5: xn--mller-kva.example"),
            ("<a@[192.0.2.1]>", "rcpthosts line 6: [192.0.2.1]"),
            ("<a@[192.0.2.2]>", "no"),
            ("<a%far.example@here.example>", "rcpthosts line 2: here.example"),
            ("<\"a@here.example\"@far.example>", "no"),
        ];
        for (recipient, evidence) in table {
            assert_eq!(rule(&mut *plugin, &mut session, recipient), evidence, "{recipient}");
        }
        assert_eq!(plugin.check(), [""; 0]);
        session.relaying = Some("relayclients line 1: 192.0.2.9".into());
        assert_eq!(rule(&mut *plugin, &mut session, "<a@far.example>"), "may relay: relayclients line 1: 192.0.2.9");
        session.relaying = None;
        session.whitelisted = Some("whitelisthosts line 1".into());
        assert_eq!(rule(&mut *plugin, &mut session, "<a@far.example>"), "no");
    }

    #[test]
    fn a_map_holds_domains_and_suffixes() {
        let keys = ["far.example", ".sub.example", "bücher.example", ".xn--mller-kva.example"];
        let (world, _dir) = fixture::world_with_map(&[("rcpthosts", "here.example\n")], "morercpthosts", &keys);
        let mut plugin = fixture::build(&ENTRY, "rcpt_ok", &world).unwrap();
        let mut session = fixture::session(None);
        let table = [
            ("<a@here.example>", "rcpthosts line 1: here.example"),
            ("<a@Far.example>", "morercpthosts.cdb: far.example"),
            ("<a@x.far.example>", "no"),
            ("<a@x.sub.example>", "morercpthosts.cdb: .sub.example"),
            ("<a@sub.example>", "no"),
            ("<a@Bücher.example>", "morercpthosts.cdb: bücher.example"),
            ("<a@x.müller.example>", "morercpthosts.cdb: .xn--mller-kva.example"),
        ];
        for (recipient, evidence) in table {
            assert_eq!(rule(&mut *plugin, &mut session, recipient), evidence, "{recipient}");
        }
    }

    #[test]
    fn a_long_list_is_the_same_as_a_short_one() {
        let mut list: String = (0..20_000).map(|number| format!("d{number}.example\n")).collect();
        list.push_str(".d7.example\n");
        let (world, _dir) = fixture::world(&[("rcpthosts", &list)]);
        let mut plugin = fixture::build(&ENTRY, "rcpt_ok", &world).unwrap();
        let mut session = fixture::session(None);
        let table = [
            ("<a@d0.example>", "rcpthosts line 1: d0.example"),
            ("<a@d19999.example>", "rcpthosts line 20000: d19999.example"),
            ("<a@d20000.example>", "no"),
            ("<a@x.d7.example>", "rcpthosts line 20001: .d7.example"),
            ("<a@x.d8.example>", "no"),
        ];
        for (recipient, evidence) in table {
            assert_eq!(rule(&mut *plugin, &mut session, recipient), evidence, "{recipient}");
        }
    }

    #[test]
    fn no_list_covers_only_ourselves_and_a_broken_one_is_trouble() {
        let (world, _dir) = fixture::world(&[]);
        let mut plugin = fixture::build(&ENTRY, "rcpt_ok", &world).unwrap();
        let mut session = fixture::session(None);
        assert_eq!(rule(&mut *plugin, &mut session, "<a@here.example>"), "no");
        let here = Domain::parse("here.example").unwrap();
        let rows: [(&[(&str, &str)], &str); 3] = [
            (&[], "here.example is not mx.example, and there is no rcpthosts"),
            (&[("rcpthosts", "# none\n")], "here.example is not mx.example, and rcpthosts is empty"),
            (&[("rcpthosts", "there.example\n")], "here.example is not in rcpthosts or morercpthosts"),
        ];
        for (files, evidence) in rows {
            let (world, _dir) = fixture::world(files);
            assert_eq!(Hosts::read(&world.config, "mx.example").unwrap().without(&here), evidence);
        }
        let wrong = ["here.example # ours", ".", "*.here.example", "a@here.example", "xn--a.example", "[192.0.2.256]"];
        let (world, _dir) = fixture::world(&[("rcpthosts", &format!("here.example\n{}\n", wrong.join("\n")))]);
        let error = Hosts::read(&world.config, "mx.example").err().expect("all but one are wrong");
        assert_eq!(error.all().len(), wrong.len());
        assert_eq!(fixture::build(&ENTRY, "rcpt_ok", &world).unwrap().check().len(), wrong.len());
        let (world, _dir) = fixture::world(&[("rcpthosts", "$include nowhere\n")]);
        assert!(Hosts::read(&world.config, "mx.example").is_err());
        let (world, _dir) = fixture::world(&[("morercpthosts.cdb", "short")]);
        assert!(Hosts::read(&world.config, "mx.example").is_err());
        assert!(fixture::build(&ENTRY, "rcpt_ok reject 1", &world).is_err());
    }
}
