//! Lets refusals of a client wait until it has named a recipient, so that the record shows for whom the mail was.
//!
//! ```text
//! delay_deny
//! delay_deny until data
//! ```
//! - `until` (rcpt or data; rcpt): where a refusal that waited is given: in reply to RCPT, or to DATA.
//!
//! Where other plugins refuse at connect, HELO, EHLO or MAIL, the command is answered as if they had not, the record notes
//! the refusal as withheld, and it is given later, with its own text and severity. The first one counts. Of a recipient all other plugins are
//! asked first: one that is none of ours is refused as such. The postmaster of a domain of ours can then be reached by clients
//! that block lists name (RFC 5321 §4.5.1).
//! Where others would only defer a recipient (`greylisting`), a permanent refusal that waited is given at once. A client, sender
//! or recipient that is whitelisted meanwhile is spared, if the plugin that refused spares such.
//!
//! What closes the connection does not wait (`reject_type disconnect`, `loadcheck`, `hosts_allow`), nor does trouble, nor what
//! `observe` withholds. It does not matter where in `config/plugins` the line stands. Plugins listed after one whose refusal
//! waits are not asked at that command any more.

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::changes::Facts;
use crate::hook::{Answer, Data, Entry, Hook, Plugin, Rcpt, Role, Ruling, Session};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    role: Role::Delays,
    ..Entry::plugin("delay_deny", &[Hook::Rcpt, Hook::Data], crate::manual!("delay_deny.rs"), build)
};

/// Where it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    #[default]
    Rcpt,
    Data,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Where a refusal that waited is given.
    until: Until,
}

fn build(given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DelayDeny(given.read()?)))
}

struct DelayDeny(Settings);

impl DelayDeny {
    fn rule(&self, at: Until, session: &Session, immune: Option<&str>) -> Ruling {
        let Some(delayed) = session.delayed.as_ref().filter(|_| self.0.until == at) else {
            return Ruling::decline();
        };
        if let Some(reason) = immune.filter(|_| delayed.spares_immune) {
            return Ruling::skip(format!("refused by {} at {}, and spared: {reason}", delayed.by, delayed.hook.name()));
        }
        let ruling = Ruling::deny(delayed.denial.clone());
        let ruling = ruling.because(format!("refused by {} at {}, and waited", delayed.by, delayed.hook.name()));
        delayed.evidence.iter().fold(ruling, |ruling, evidence| ruling.because(evidence.as_str()))
    }
}

impl Plugin for DelayDeny {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        Ok(self.rule(Until::Rcpt, at.session, at.immune()))
    }

    fn data(&mut self, at: &Data<'_>) -> Answer {
        Ok(self.rule(Until::Data, at.session, at.immune()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("delay_deny").read::<Settings>().unwrap(), Settings::default());
    }
}
