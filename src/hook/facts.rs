//! What a plugin is told: one struct per kind of hook, holding what is known then and no more. A plugin gets it by shared
//! reference, so it reads; the chain alone applies changes, through `Facts::apply`, after a clean return.
//!
//! What clears the facts that plugins share:
//!
//! | fact | owner | RSET, end of data | EHLO | disconnect |
//! |---|---|---|---|---|
//! | `relaying`, `naughty`, `karma`, `early_talker`, `whitelisted` (session) | relay, naughty's sources, karma, earlytalker, whitelist | stays | stays | gone |
//! | `hello` | the session | stays | replaced | gone |
//! | `sender_whitelisted` (transaction) | whitelist | cleared | cleared | gone |
//! | `Recipient::options` | aliases, user_config | cleared | cleared | gone |

use super::ruling::{Change, Denial};
use super::{Hook, Receipt};
use crate::launch::Connection;
use crate::mail::{Edit, Envelope, Message, Recipient, Transaction};
use crate::smtp::address::ReversePath;
use crate::smtp::command;
use crate::smtp::parameters::MailParameters;

/// The facts of one event, and the one place where a ruling's changes go: all of them, or none.
pub trait Facts {
    /// The session in which it happens.
    fn session(&self) -> &Session;

    /// The session, for the changes that every hook takes.
    fn session_mut(&mut self) -> &mut Session;

    /// A change that this hook alone takes, or gives it back.
    ///
    /// # Errors
    /// The change: it is not for this hook.
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        Err(change)
    }

    /// Whether `apply_own` takes it.
    fn takes_own(&self, _change: &Change) -> bool {
        false
    }

    /// Makes all these edits, or none.
    ///
    /// # Errors
    /// Why not.
    fn edit(&mut self, edits: Vec<Edit>) -> Result<(), String> {
        if edits.is_empty() { Ok(()) } else { Err(String::from("there is no message to edit at this hook")) }
    }

    /// Applies all of a ruling's changes, or none.
    ///
    /// # Errors
    /// A text for the plugin's author: what does not fit here.
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), String> {
        let (mut edits, mut others) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Edit(edit) => edits.push(edit),
                other if Session::takes(&other) || self.takes_own(&other) => others.push(other),
                other => return Err(format!("{other:?} is not for this hook")),
            }
        }
        // Edits alone can fail from here on.
        self.edit(edits)?;
        for change in others {
            if let Err(change) = self.apply_own(change) {
                self.session_mut().apply(change);
            }
        }
        Ok(())
    }
}

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
    pub naughty: Option<String>,
    /// The sum of what plugins think of this session.
    pub karma: i32,
    /// The client spoke before its turn.
    pub early_talker: bool,
    /// Why this client is whitelisted.
    pub whitelisted: Option<String>,
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
            karma: 0,
            early_talker: false,
            whitelisted: None,
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
    }

    /// Whether every hook takes this change.
    fn takes(change: &Change) -> bool {
        use Change as C;
        match change {
            C::GrantRelaying(_) | C::RevokeRelaying | C::MarkNaughty(_) | C::AdjustKarma(_) => true,
            C::Whitelist(_) | C::NoteEarlyTalker => true,
            C::AddKeyword(_) | C::Rewrite(_) | C::Retarget(_) | C::SetOption(..) | C::Edit(_) => false,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::GrantRelaying(reason) => self.relaying = Some(reason),
            Change::RevokeRelaying => self.relaying = None,
            Change::MarkNaughty(reason) => {
                self.naughty.get_or_insert(reason);
            }
            Change::AdjustKarma(by) => self.karma = self.karma.saturating_add(by),
            Change::Whitelist(reason) => self.whitelisted = Some(reason),
            Change::NoteEarlyTalker => self.early_talker = true,
            Change::AddKeyword(_)
            | Change::Rewrite(_)
            | Change::Retarget(_)
            | Change::SetOption(..)
            | Change::Edit(_) => {}
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

/// Facts that take nothing beyond what every hook takes.
macro_rules! plain_facts {
    ($($name:ident),*) => {$(
        impl Facts for $name<'_> {
            fn session(&self) -> &Session {
                self.session
            }
            fn session_mut(&mut self) -> &mut Session {
                self.session
            }
        }
    )*};
}
plain_facts!(Connect, Mail, Data, Header, Command, Quit);

impl Facts for Text<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::Rewrite(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        let Change::Rewrite(text) = change else { return Err(change) };
        *self.text = text;
        Ok(())
    }
}

impl Facts for Hello<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::AddKeyword(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        let Change::AddKeyword(keyword) = change else { return Err(change) };
        self.keywords.push(keyword);
        Ok(())
    }
}

impl Facts for Rcpt<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::Retarget(_) | Change::SetOption(..))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        match change {
            Change::Retarget(targets) => self.recipient.targets = targets,
            Change::SetOption(name, value) => {
                self.recipient.options.insert(name, value);
            }
            other => return Err(other),
        }
        Ok(())
    }
}

impl Facts for ReceivedLine<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::Rewrite(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        let Change::Rewrite(field) = change else { return Err(change) };
        *self.field = field;
        Ok(())
    }
}

impl Facts for Content<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn edit(&mut self, edits: Vec<Edit>) -> Result<(), String> {
        self.message.edit_all(edits).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Launcher;

    fn session() -> Session {
        Session::new(String::from("id"), String::from("mx.example"), Connection::unknown(Launcher::Pipe))
    }

    #[test]
    fn a_change_that_does_not_fit_leaves_all_others_undone() {
        let (mut session, mut text) = (session(), String::from("as it was"));
        let mut at = Text { session: &mut session, text: &mut text };
        let changes = vec![
            Change::GrantRelaying(String::from("no")),
            Change::Rewrite(String::from("no")),
            Change::AddKeyword(String::new()),
        ];
        assert!(at.apply(changes).is_err());
        assert_eq!((session.relaying, text.as_str()), (None, "as it was"));
    }

    #[test]
    fn relaying_beats_whitelisting_as_the_reason_for_immunity() {
        let mut session = session();
        assert_eq!(session.immune(), None);
        session.sender_whitelisted = Some(String::from("sender"));
        session.whitelisted = Some(String::from("host"));
        assert_eq!(session.immune(), Some("host"));
        session.relaying = Some(String::from("relay"));
        assert_eq!(session.immune(), Some("relay"));
        session.relaying = None;
        session.whitelisted = None;
        session.clear_transaction();
        assert_eq!(session.immune(), None);
    }
}
