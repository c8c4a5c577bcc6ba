//! Whether the chain is an open relay, found out by trying: clients that nobody knows ask the chain, plugin by plugin, to send
//! to a domain that nobody has. In a world of its own: no host is asked, no program run, no time passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use crate::hook::facts::{Connect, Listen, Mail, Rcpt, Session};
use crate::hook::{Chain, Outcome};
use crate::launch::{Connection, Launcher};
use crate::mail::{Recipient, Transaction};
use crate::record::Decision;
use crate::setup::Setup;
use crate::smtp::address::{ForwardPath, ReversePath};
use crate::smtp::parameters::{MailParameters, RcptParameters};
use crate::world::World;

use super::{Findings, Grade};

/// Clients that nobody can have listed by mistake: addresses for documentation (RFC 5737, RFC 3849), and one of nowhere.
const CLIENTS: [Option<IpAddr>; 5] = [
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77))),
    Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77))),
    Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77))),
    Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77))),
    None,
];
/// Recipients that cannot be ours (RFC 2606), plainly and in the old ways of asking for it.
const RECIPIENTS: [&str; 3] = [
    "<postern-check@relay.invalid>",
    "<postern-check%relay.invalid@other.invalid>",
    "<relay.invalid!postern-check@other.invalid>",
];
const SENDER: &str = "<postern-check@sender.invalid>";

/// Tries every client and recipient; tells each line that lets one through, once.
pub(super) fn check(setup: &Setup, findings: &mut Findings) {
    let mut told: Vec<String> = Vec::new();
    for client in CLIENTS {
        for recipient in RECIPIENTS {
            let Some(decision) = accepts(setup, client, recipient) else {
                continue;
            };
            if told.contains(&decision.origin.to_string()) {
                continue;
            }
            told.push(decision.origin.to_string());
            let client = client.map_or_else(|| "a client without an address".to_owned(), |ip| ip.to_string());
            let text = format!("open relay: {client} may send to {recipient} ({})", decision.evidence.join("; "));
            match setup.lines.iter().find(|line| setup.origin(line) == *decision.origin) {
                Some(line) => findings.line(Grade::Error, line, text),
                None => findings.file(Grade::Error, setup.dir.path(), 0, text),
            }
        }
    }
}

/// Who accepts, if anybody does.
fn accepts(setup: &Setup, client: Option<IpAddr>, recipient: &str) -> Option<Decision> {
    let world = World::fake(Rc::clone(&setup.dir));
    let links = setup.lines.iter().filter_map(|line| setup.link(line, &world).ok().flatten()).collect();
    let mut chain = Chain::new(links, world);
    let mut connection = Connection::unknown(Launcher::Pipe);
    connection.remote_ip = client;
    let mut session = Session::new("check".to_owned(), setup.core.me.clone(), connection);
    let mut line = Silence;
    let mut at = Connect { session: &mut session, line: &mut line };
    if matches!(chain.pre_connection(&mut at), Outcome::Denied(_))
        || matches!(chain.connect(&mut at), Outcome::Denied(_))
    {
        return None;
    }
    let reverse_path = ReversePath::parse(SENDER).ok()?;
    let parameters = MailParameters::default();
    let mut at = Mail { session: &mut session, reverse_path: &reverse_path, parameters: &parameters };
    if matches!(chain.mail(&mut at), Outcome::Denied(_)) {
        return None;
    }
    let transaction = Transaction::new(reverse_path, parameters);
    let mut recipient = Recipient::new(ForwardPath::parse(recipient).ok()?, RcptParameters::default());
    chain.take_decisions();
    let mut at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
    match chain.rcpt(&mut at) {
        Outcome::Accepted => chain.take_decisions().into_iter().rfind(|one| matches!(one.verdict, "accept" | "vouch")),
        Outcome::Undecided | Outcome::Answered(_) | Outcome::Denied(_) | Outcome::Queued(..) => None,
    }
}

/// A client that says nothing.
struct Silence;

impl Listen for Silence {
    fn client_speaks_within(&self, _wait: Duration) -> bool {
        false
    }
}
