//! For the backends' unit tests: a backend built from its line, and a message for it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::rc::Rc;

use crate::config::{ConfigDir, Origin, Settings};
use crate::hook::facts::Session;
use crate::hook::{Content, Denial, End, Entry, Plugin, Rcpt, Receipt, Ruling, Verdict};
use crate::launch::{Connection, Launcher};
use crate::mail::{Envelope, Message, Recipient, Spool, SpoolPlace, Transaction};
use crate::smtp::address::{ForwardPath, ReversePath};
use crate::smtp::parameters::{MailParameters, RcptParameters};
use crate::world::World;

/// A made-up outside whose configuration is in this directory.
pub(super) fn world(dir: &Path) -> World {
    World::fake(Rc::new(ConfigDir::open_with(dir, None).unwrap()))
}

/// The backend of a line (without its name), or what is wrong with the line.
pub(super) fn build(entry: &Entry, line: &str, world: &World) -> Result<Box<dyn Plugin>, String> {
    let words = line.split_whitespace().map(str::to_owned).collect();
    let settings = Settings::new(entry.name, Origin::new(Path::new("plugins"), 1), words, None);
    (entry.build)(settings, world).map_err(|error| error.to_string())
}

/// An envelope of paths in brackets.
pub(super) fn envelope(reverse: &str, forward: &[&str]) -> Envelope {
    let mut open = Transaction::new(ReversePath::parse(reverse).unwrap(), MailParameters::default());
    let paths = forward.iter().map(|path| ForwardPath::parse(path).unwrap());
    open.recipients.extend(paths.map(|path| Recipient::new(path, RcptParameters::default())));
    Envelope::try_from(open).unwrap()
}

/// Hands one message over.
pub(super) fn deliver(
    plugin: &mut dyn Plugin,
    envelope: &Envelope,
    content: &str,
) -> Result<Receipt, (Denial, String)> {
    match rule(plugin, envelope, content) {
        Ruling { verdict: Verdict::Queued(receipt), .. } => Ok(receipt),
        Ruling { verdict: Verdict::Deny(denial), evidence, .. } => Err((denial, evidence.join("; "))),
        other => panic!("{other:?}"),
    }
}

/// As [`deliver`]: what the line rules.
pub(super) fn rule(plugin: &mut dyn Plugin, envelope: &Envelope, content: &str) -> Ruling {
    let mut session = Session::new("ID".into(), "mx.example".into(), Connection::unknown(Launcher::Pipe));
    let mut spool = Spool::new(SpoolPlace { threshold: usize::MAX, dir: "/".into() });
    spool.write(content.as_bytes()).unwrap();
    let mut message = Message::new(spool, 65536);
    plugin.queue(&Content { session: &mut session, envelope, message: &mut message }).unwrap()
}

/// Asks about each of these recipients at RCPT, then ends the transaction: who is refused.
pub(super) fn ask(plugin: &mut dyn Plugin, reverse: &str, forward: &[&str]) -> Vec<Option<Denial>> {
    let mut session = Session::new("ID".into(), "mx.example".into(), Connection::unknown(Launcher::Pipe));
    let open = Transaction::new(ReversePath::parse(reverse).unwrap(), MailParameters::default());
    let mut found = Vec::new();
    for path in forward {
        let mut recipient = Recipient::new(ForwardPath::parse(path).unwrap(), RcptParameters::default());
        let at = Rcpt { session: &mut session, transaction: &open, recipient: &mut recipient };
        found.push(match plugin.rcpt(&at).unwrap().verdict {
            Verdict::Deny(denial) => Some(denial),
            Verdict::Decline | Verdict::Skip => None,
            other => panic!("{other:?}"),
        });
    }
    plugin.reset_transaction(&End { session: &session });
    found
}
