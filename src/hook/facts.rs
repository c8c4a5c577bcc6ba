//! What a plugin is told: one struct per kind of hook, holding what is known then and no more. A plugin gets it by shared
//! reference, so it reads; the chain alone applies changes, through `changes::Facts::apply`, after a clean return.
//!
//! What clears the facts that plugins share:
//!
//! | fact | owner | RSET, end of data | EHLO | disconnect |
//! |---|---|---|---|---|
//! | `relaying`, `naughty`, `karma`, `early_talker`, `whitelisted` (session) | relay, naughty's sources, karma, earlytalker, whitelist | stays | stays | gone |
//! | `names`, `place`, `system`, `karma_history` (session) | fcrdns, ident/geoip, ident/p0f, karma | stays | stays | gone |
//! | `overrides` (session) | client_options | stays | stays | gone |
//! | `delayed` (session) | the chain, for delay_deny | one of MAIL cleared | one of MAIL cleared | gone |
//! | `hello` | the session | stays | replaced | gone |
//! | `hello_whitelisted` (session) | whitelist | stays | cleared before it | gone |
//! | `sender_whitelisted` (transaction) | whitelist | cleared | cleared | gone |
//! | `Recipient::options`, `Recipient::whitelisted` | aliases, user_config; whitelist | cleared | cleared | gone |

use super::known::{ClientNames, ClientPlace, ClientSystem, Delayed, Naughty, Override};
use super::ruling::Denial;
use super::{Hook, Receipt};
use crate::launch::Connection;
use crate::mail::{Envelope, Message, Recipient, Transaction};
use crate::smtp::address::ReversePath;
use crate::smtp::command;
use crate::smtp::parameters::MailParameters;

/// What is known of the session. The fields that plugins share are owned as the table above says.
pub struct Session {
    /// This session's id: in every refusal's reply, every log line, the Received field.
    pub id: String,
    /// Who is at the other end.
    pub connection: Connection,
    /// Our own name (`config/me`).
    pub me: String,
    /// What HELO or EHLO said last.
    pub hello: Option<Greeting>,
    /// Why this client may relay; `None`: it may not.
    pub relaying: Option<String>,
    /// Why this client is naughty; the first reason.
    pub naughty: Option<Naughty>,
    /// A refusal that waits for a recipient; the first.
    pub delayed: Option<Delayed>,
    /// The sum of what plugins think of this session.
    pub karma: i32,
    /// Who thought what: "earlytalker -1"; the first 50.
    pub karma_reasons: Vec<String>,
    /// What earlier sessions made of this client: nice ones less naughty ones. `None`: nobody looked.
    pub karma_history: Option<i64>,
    /// The client's names in the DNS. `None`: nobody looked.
    pub names: Option<ClientNames>,
    /// Where the client is. `None`: nobody looked, or it is not known.
    pub place: Option<ClientPlace>,
    /// What the client runs on. `None`: nobody looked, or it is not known.
    pub system: Option<ClientSystem>,
    /// Settings of plugins for this session alone.
    pub overrides: Vec<Override>,
    /// The client spoke before its turn.
    pub early_talker: bool,
    /// Why this client is whitelisted.
    pub whitelisted: Option<String>,
    /// Why the name in the last HELO or EHLO is whitelisted. It counts at that hook alone: anybody can say any name.
    pub hello_whitelisted: Option<String>,
    /// Why this transaction's sender is whitelisted.
    pub sender_whitelisted: Option<String>,
    /// Transactions begun so far.
    pub transactions: u32,
    /// Messages accepted so far.
    pub accepted: u32,
    /// Refusals so far.
    pub refusals: u32,
}

/// The client's HELO or EHLO.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// What it called itself.
    pub name: command::Hello,
    /// Whether by EHLO.
    pub extended: bool,
}

impl Session {
    /// A session that has just begun.
    pub fn new(id: String, me: String, connection: Connection) -> Self {
        Self {
            id,
            connection,
            me,
            hello: None,
            relaying: None,
            naughty: None,
            delayed: None,
            karma: 0,
            karma_reasons: Vec::new(),
            karma_history: None,
            names: None,
            place: None,
            system: None,
            overrides: Vec::new(),
            early_talker: false,
            whitelisted: None,
            hello_whitelisted: None,
            sender_whitelisted: None,
            transactions: 0,
            accepted: 0,
            refusals: 0,
        }
    }

    /// Why plugins that spare such clients are not asked: relaying beats whitelisting.
    pub fn immune(&self) -> Option<&str> {
        let reasons = [&self.relaying, &self.whitelisted, &self.sender_whitelisted];
        reasons.into_iter().find_map(Option::as_deref)
    }

    /// Forgets what belongs to a transaction.
    pub fn clear_transaction(&mut self) {
        self.sender_whitelisted = None;
        if self.delayed.as_ref().is_some_and(|delayed| delayed.hook == Hook::Mail) {
            self.delayed = None;
        }
    }
}

/// pre_connection, connect.
pub struct Connect<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// Listens for a client that speaks before its turn.
    pub line: &'a dyn Listen,
}

/// The line to the client as a plugin may use it: it can hear whether the client speaks, nothing else.
pub trait Listen {
    /// Whether octets of the client's are there, or come within `wait` or what is left of the plugin's budget.
    fn client_speaks_within(&self, wait: std::time::Duration) -> bool;
}

impl Connect<'_> {
    /// The launcher's count of connections, where it tells one.
    pub fn connections(&self) -> Option<u64> {
        self.session.connection.connections_from_client
    }
}

/// ehlo_parse, helo_parse, mail_parse, rcpt_parse, auth_parse, mail_pre, rcpt_pre.
pub struct Text<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The text in hand.
    pub text: &'a mut String,
}

/// helo, ehlo.
pub struct Hello<'a> {
    /// The session; its `hello` is still the one before.
    pub session: &'a mut Session,
    /// What the client calls itself now.
    pub hello: &'a command::Hello,
    /// Further EHLO keywords.
    pub keywords: &'a mut Vec<String>,
}

/// mail.
pub struct Mail<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The reverse-path.
    pub reverse_path: &'a ReversePath,
    /// MAIL's parameters.
    pub parameters: &'a MailParameters,
}

/// rcpt.
pub struct Rcpt<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The transaction so far; this recipient is not in it yet.
    pub transaction: &'a Transaction,
    /// The recipient asked about.
    pub recipient: &'a mut Recipient,
}

/// data.
pub struct Data<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The transaction, with at least one recipient.
    pub transaction: &'a Transaction,
    /// Listens for a client that sends content before 354.
    pub line: &'a dyn Listen,
}

/// data_headers_end.
pub struct Header<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The envelope.
    pub envelope: &'a Envelope,
    /// The header as received so far, its empty line included.
    pub header: &'a crate::mail::Header,
}

/// data_post_headers, data_post, queue_pre, queue.
pub struct Content<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The envelope.
    pub envelope: &'a Envelope,
    /// The message, with the edits so far.
    pub message: &'a mut Message,
}

/// received_line.
pub struct ReceivedLine<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The envelope.
    pub envelope: &'a Envelope,
    /// Our field, whole, with CRLF line ends.
    pub field: &'a mut String,
}

/// queue_post.
pub struct Queued<'a> {
    /// The session.
    pub session: &'a Session,
    /// The envelope.
    pub envelope: &'a Envelope,
    /// What the client was told: the receipt, or `None` when it was refused.
    pub receipt: Option<&'a Receipt>,
}

/// vrfy, noop, help, unrecognized_command.
pub struct Command<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The verb as the client wrote it.
    pub verb: &'a str,
    /// What came after it.
    pub argument: &'a str,
}

/// quit.
pub struct Quit<'a> {
    /// The session.
    pub session: &'a mut Session,
}

/// deny.
pub struct Refusal<'a> {
    /// The session.
    pub session: &'a Session,
    /// Where it was refused.
    pub hook: Hook,
    /// By which plugin.
    pub plugin: &'a str,
    /// The refusal.
    pub denial: &'a Denial,
}

/// ok.
pub struct Approval<'a> {
    /// The session.
    pub session: &'a Session,
    /// Where it was ruled.
    pub hook: Hook,
    /// By which plugin.
    pub plugin: &'a str,
}

/// reset_transaction, disconnect, post_connection.
pub struct End<'a> {
    /// The session.
    pub session: &'a Session,
}
