//! The one place where a ruling's changes go: which hook takes which, and all of them or none.

use super::facts::{Command, Connect, Content, Data, Header, Hello, Mail, Quit, Rcpt, ReceivedLine, Session, Text};
use super::known::Naughty;
use super::ruling::Change;
use crate::mail::{Edit, Recipient};

/// Reasons of a session's karma that are kept.
const REASONS_MAX: usize = 50;

/// The facts of one event, and what a ruling may change of them.
pub trait Facts {
    /// The session in which it happens.
    fn session(&self) -> &Session;

    /// The session, for the changes that every hook takes.
    fn session_mut(&mut self) -> &mut Session;

    /// Why plugins that spare relaying and whitelisted clients are not asked about this event.
    fn immune(&self) -> Option<&str> {
        self.session().immune()
    }

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

    /// Applies all of the changes that the plugin `by` wants, or none.
    ///
    /// # Errors
    /// A text for the plugin's author: what does not fit here.
    fn apply(&mut self, changes: Vec<Change>, by: &str) -> Result<(), String> {
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
                self.session_mut().apply(change, by);
            }
        }
        Ok(())
    }
}

impl Session {
    /// Whether every hook takes this change.
    fn takes(change: &Change) -> bool {
        use Change as C;
        match change {
            C::GrantRelaying(_) | C::RevokeRelaying | C::MarkNaughty(_) | C::AdjustKarma(_) => true,
            C::Whitelist(_) | C::NoteEarlyTalker | C::NoteKarmaHistory(_) => true,
            C::NoteNames(_) | C::NotePlace(_) | C::NoteSystem(_) => true,
            C::AddKeyword(_) | C::Rewrite(_) | C::Retarget(_) | C::SetOption(..) | C::Edit(_) => false,
            C::WhitelistHello(_) | C::WhitelistSender(_) | C::WhitelistRecipient(_) | C::Configure(_) => false,
        }
    }

    fn apply(&mut self, change: Change, by: &str) {
        match change {
            Change::GrantRelaying(reason) => self.relaying = Some(reason),
            Change::RevokeRelaying => self.relaying = None,
            Change::MarkNaughty(denial) => {
                self.naughty.get_or_insert(Naughty { denial, by: by.to_owned() });
            }
            Change::AdjustKarma(points) => {
                self.karma = self.karma.saturating_add(points);
                if self.karma_reasons.len() < REASONS_MAX {
                    self.karma_reasons.push(format!("{by} {points:+}"));
                }
            }
            Change::NoteKarmaHistory(history) => self.karma_history = Some(history),
            Change::Whitelist(reason) => self.whitelisted = Some(reason),
            Change::NoteEarlyTalker => self.early_talker = true,
            Change::NoteNames(names) => self.names = Some(names),
            Change::NotePlace(place) => self.place = Some(place),
            Change::NoteSystem(system) => self.system = Some(system),
            Change::AddKeyword(_)
            | Change::Rewrite(_)
            | Change::Retarget(_)
            | Change::SetOption(..)
            | Change::WhitelistHello(_)
            | Change::WhitelistSender(_)
            | Change::WhitelistRecipient(_)
            | Change::Configure(_)
            | Change::Edit(_) => {}
        }
    }
}

/// Whether every recipient is whitelisted: only then are plugins spared that rule on the message for all of them.
fn all_whitelisted(recipients: &[Recipient]) -> Option<&str> {
    let first = recipients.first()?.whitelisted.as_deref()?;
    recipients.iter().all(|recipient| recipient.whitelisted.is_some()).then_some(first)
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
plain_facts!(Command, Quit);

impl Facts for Connect<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::Configure(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        let Change::Configure(setting) = change else { return Err(change) };
        self.session.overrides.push(setting);
        Ok(())
    }
}

impl Facts for Mail<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::WhitelistSender(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        let Change::WhitelistSender(reason) = change else { return Err(change) };
        self.session.sender_whitelisted = Some(reason);
        Ok(())
    }
}

impl Facts for Data<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn immune(&self) -> Option<&str> {
        self.session.immune().or_else(|| all_whitelisted(&self.transaction.recipients))
    }
}

impl Facts for Header<'_> {
    fn session(&self) -> &Session {
        self.session
    }
    fn session_mut(&mut self) -> &mut Session {
        self.session
    }
    fn immune(&self) -> Option<&str> {
        self.session.immune().or_else(|| all_whitelisted(self.envelope.recipients()))
    }
}

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
    fn immune(&self) -> Option<&str> {
        self.session.immune().or(self.session.hello_whitelisted.as_deref())
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::AddKeyword(_) | Change::WhitelistHello(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        match change {
            Change::AddKeyword(keyword) => self.keywords.push(keyword),
            Change::WhitelistHello(reason) => self.session.hello_whitelisted = Some(reason),
            other => return Err(other),
        }
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
    fn immune(&self) -> Option<&str> {
        self.session.immune().or(self.recipient.whitelisted.as_deref())
    }
    fn takes_own(&self, change: &Change) -> bool {
        matches!(change, Change::Retarget(_) | Change::SetOption(..) | Change::WhitelistRecipient(_))
    }
    fn apply_own(&mut self, change: Change) -> Result<(), Change> {
        match change {
            Change::WhitelistRecipient(reason) => self.recipient.whitelisted = Some(reason),
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
    fn immune(&self) -> Option<&str> {
        self.session.immune().or_else(|| all_whitelisted(self.envelope.recipients()))
    }
    fn edit(&mut self, edits: Vec<Edit>) -> Result<(), String> {
        self.message.edit_all(edits).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Connection, Launcher};

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
        assert!(at.apply(changes, "test").is_err());
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
