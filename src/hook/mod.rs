//! The contract with plugins: which hooks there are, what a plugin is told, what it may answer.
//!
//! In: facts about one event (`facts`). Out: a `Ruling` as a value (`ruling`). The chain (`chain`) asks the plugins in
//! the order of `config/plugins` and does for all of them what each would otherwise repeat: time budget, panics,
//! `on_error`, `observe`, immunity, the decision record.

pub mod chain;
pub mod changes;
pub mod entry;
pub mod facts;
pub mod known;
pub mod link;
pub mod policy;
pub mod ruling;

use crate::log::{Level, Line};

pub use chain::{Chain, Outcome, Refused};
pub use entry::{Entry, Kind, Role};
pub use facts::{
    Approval, Command, Connect, Content, Data, End, Header, Hello, Mail, Queued, Quit, Rcpt, ReceivedLine, Refusal,
    Session, Text,
};
pub use known::{ClientNames, ClientPlace, ClientSystem, Delayed, Naughty, Override};
pub use link::{Link, OnError, Remake, Standard};
pub use policy::{Reject, RejectType};
pub use ruling::{Change, Denial, Receipt, Ruling, Severity, Then, Trouble, Verdict};

/// One point of the dialog at which plugins are asked. Named as in qpsmtpd, `-` written `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // Each is described at the Plugin method of its name.
pub enum Hook {
    PreConnection,
    Connect,
    EhloParse,
    HeloParse,
    MailParse,
    RcptParse,
    AuthParse,
    MailPre,
    RcptPre,
    Helo,
    Ehlo,
    AuthPlain,
    AuthLogin,
    AuthCramMd5,
    Auth,
    Mail,
    Rcpt,
    Data,
    DataHeadersEnd,
    DataPostHeaders,
    ReceivedLine,
    DataPost,
    QueuePre,
    Queue,
    QueuePost,
    Vrfy,
    Noop,
    Help,
    Quit,
    UnrecognizedCommand,
    Deny,
    Ok,
    ResetTransaction,
    Disconnect,
    PostConnection,
    Config,
    UserConfig,
    Logging,
}

impl Hook {
    /// Every hook, in the order of a session.
    pub const ALL: [Hook; 38] = [
        Hook::PreConnection,
        Hook::Connect,
        Hook::EhloParse,
        Hook::HeloParse,
        Hook::MailParse,
        Hook::RcptParse,
        Hook::AuthParse,
        Hook::MailPre,
        Hook::RcptPre,
        Hook::Helo,
        Hook::Ehlo,
        Hook::AuthPlain,
        Hook::AuthLogin,
        Hook::AuthCramMd5,
        Hook::Auth,
        Hook::Mail,
        Hook::Rcpt,
        Hook::Data,
        Hook::DataHeadersEnd,
        Hook::DataPostHeaders,
        Hook::ReceivedLine,
        Hook::DataPost,
        Hook::QueuePre,
        Hook::Queue,
        Hook::QueuePost,
        Hook::Vrfy,
        Hook::Noop,
        Hook::Help,
        Hook::Quit,
        Hook::UnrecognizedCommand,
        Hook::Deny,
        Hook::Ok,
        Hook::ResetTransaction,
        Hook::Disconnect,
        Hook::PostConnection,
        Hook::Config,
        Hook::UserConfig,
        Hook::Logging,
    ];

    /// The hook's name as documented by qpsmtpd.
    pub fn name(self) -> &'static str {
        match self {
            Hook::PreConnection => "pre_connection",
            Hook::Connect => "connect",
            Hook::EhloParse => "ehlo_parse",
            Hook::HeloParse => "helo_parse",
            Hook::MailParse => "mail_parse",
            Hook::RcptParse => "rcpt_parse",
            Hook::AuthParse => "auth_parse",
            Hook::MailPre => "mail_pre",
            Hook::RcptPre => "rcpt_pre",
            Hook::Helo => "helo",
            Hook::Ehlo => "ehlo",
            Hook::AuthPlain => "auth_plain",
            Hook::AuthLogin => "auth_login",
            Hook::AuthCramMd5 => "auth_cram_md5",
            Hook::Auth => "auth",
            Hook::Mail => "mail",
            Hook::Rcpt => "rcpt",
            Hook::Data => "data",
            Hook::DataHeadersEnd => "data_headers_end",
            Hook::DataPostHeaders => "data_post_headers",
            Hook::ReceivedLine => "received_line",
            Hook::DataPost => "data_post",
            Hook::QueuePre => "queue_pre",
            Hook::Queue => "queue",
            Hook::QueuePost => "queue_post",
            Hook::Vrfy => "vrfy",
            Hook::Noop => "noop",
            Hook::Help => "help",
            Hook::Quit => "quit",
            Hook::UnrecognizedCommand => "unrecognized_command",
            Hook::Deny => "deny",
            Hook::Ok => "ok",
            Hook::ResetTransaction => "reset_transaction",
            Hook::Disconnect => "disconnect",
            Hook::PostConnection => "post_connection",
            Hook::Config => "config",
            Hook::UserConfig => "user_config",
            Hook::Logging => "logging",
        }
    }

    fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// A set of hooks, for asking quickly whether a plugin has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookSet(u64);

impl HookSet {
    /// The set of these hooks.
    pub fn of(hooks: &[Hook]) -> Self {
        Self(hooks.iter().fold(0, |bits, hook| bits | hook.bit()))
    }

    /// Whether `hook` is in the set.
    pub fn contains(self, hook: Hook) -> bool {
        self.0 & hook.bit() != 0
    }

    /// Both sets together.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a hook method returns.
pub type Answer = Result<Ruling, Trouble>;

/// A plugin: one method per hook, each declining by default. It writes those that it means and declares them in its
/// `Entry`; the chain asks only what is declared.
pub trait Plugin {
    /// Before anything else, with what the launcher says about the number of connections.
    fn pre_connection(&mut self, _at: &Connect<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// Before the greeting.
    fn connect(&mut self, _at: &Connect<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// EHLO's raw argument, before our parser. `Change::Rewrite` gives a corrected text.
    fn ehlo_parse(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// HELO's raw argument, before our parser.
    fn helo_parse(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// MAIL's raw argument (`FROM:<...> SIZE=1`), before our parser.
    fn mail_parse(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// RCPT's raw argument (`TO:<...>`), before our parser.
    fn rcpt_parse(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// AUTH's raw argument, before our parser.
    fn auth_parse(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// MAIL's path as text, parameters cut off, before our parser.
    fn mail_pre(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// RCPT's path as text, parameters cut off, before our parser.
    fn rcpt_pre(&mut self, _at: &Text<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// HELO, parsed.
    fn helo(&mut self, _at: &Hello<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// EHLO, parsed. May add keywords.
    fn ehlo(&mut self, _at: &Hello<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// The reverse-path is known.
    fn mail(&mut self, _at: &Mail<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// A forward-path is known. If nobody accepts or vouches, it is refused. A queue line that has this hook is asked last,
    /// and only about one that plugins have accepted.
    fn rcpt(&mut self, _at: &Rcpt<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// DATA, or the first BDAT, with a valid envelope.
    fn data(&mut self, _at: &Data<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// The header is complete; the body is still coming.
    fn data_headers_end(&mut self, _at: &Header<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// End of data, before our trace fields are added.
    fn data_post_headers(&mut self, _at: &Content<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// Our Received field is being built; `Change::Rewrite` replaces it.
    fn received_line(&mut self, _at: &ReceivedLine<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// End of data, trace fields added.
    fn data_post(&mut self, _at: &Content<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// Before the hand-over: last edits.
    fn queue_pre(&mut self, _at: &Content<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// The hand-over. Only `Verdict::Queued` leads to 250.
    fn queue(&mut self, _at: &Content<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// After the reply to the final dot.
    fn queue_post(&mut self, _at: &Queued<'_>) {}
    /// VRFY. `Verdict::Answer` gives the reply's text.
    fn vrfy(&mut self, _at: &Command<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// NOOP. Always answered 250, unless the plugin disconnects.
    fn noop(&mut self, _at: &Command<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// HELP. `Verdict::Answer` gives the reply's text.
    fn help(&mut self, _at: &Command<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// QUIT. `Verdict::Answer` gives lines for the 221.
    fn quit(&mut self, _at: &Quit<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// A verb that postern does not have.
    fn unrecognized_command(&mut self, _at: &Command<'_>) -> Answer {
        Ok(Ruling::decline())
    }
    /// Another plugin has refused.
    fn deny(&mut self, _refusal: &Refusal<'_>) {}
    /// Another plugin has ruled, and not refused.
    fn ok(&mut self, _approval: &Approval<'_>) {}
    /// A transaction is over, or begins: what was known of the last one is void.
    fn reset_transaction(&mut self, _at: &End<'_>) {}
    /// The session is over.
    fn disconnect(&mut self, _at: &End<'_>) {}
    /// After `disconnect`.
    fn post_connection(&mut self, _at: &End<'_>) {}
    /// The core looks up one of its settings by file name; the answer replaces the file's lines.
    fn config(&mut self, _name: &str) -> Option<Vec<String>> {
        None
    }
    /// A log line is written.
    ///
    /// # Errors
    /// When it could not be written, so that the log falls back to another way.
    fn logging(&mut self, _line: &Line<'_>) -> Result<(), Trouble> {
        Ok(())
    }
    /// For a logger: the least grave level of the lines that it wants. Those of the record it gets in any case.
    fn loglevel(&self) -> Level {
        Level::Debug
    }
    /// Whether, with its settings, it is to be asked at this hook of those that its entry declares. Asked once, when it is built.
    fn wants(&self, _hook: Hook) -> bool {
        true
    }
    /// For a queue line: what its backend can carry, so that EHLO offers no more. `None`: not a backend.
    fn offers(&self) -> Option<crate::smtp::extension::Capabilities> {
        None
    }
    /// For `postern check`: what this plugin may set otherwise in others.
    fn overrides(&self) -> Vec<Override> {
        Vec::new()
    }
    /// For `postern check`: what of its settings is of old, and what to write instead.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// For `postern check`: whether what this plugin stands on is there. One line per fault, with how to mend it.
    fn check(&mut self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_its_own_bit_and_name() {
        let mut names: Vec<_> = Hook::ALL.iter().map(|hook| hook.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Hook::ALL.len());
        for hook in Hook::ALL {
            let set = HookSet::of(&[hook]);
            assert_eq!(Hook::ALL.iter().filter(|other| set.contains(**other)).count(), 1);
        }
    }
}
