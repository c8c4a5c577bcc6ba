//! Appends a text to mail, by the address of the client that brings it.
//!
//! ```text
//! footer
//! ```
//! The list `footer` says which text goes to whose mail; the first line that fits counts:
//! ```text
//! 192.0.2.0/24      texts/office.txt
//! 2001:db8::/32     texts/office.txt
//! 192.0.2.77        texts/guest.txt
//! ```
//! (Here the third line never counts: 192.0.2.77 belongs to the first.) A network is an address and its length in bits, both
//! families; an address alone is itself; the beginnings that `relayclients` knows (`192.0.2.`) will do, too. `0.0.0.0/0` and `::/0`
//! are everybody. A session without a client's address, from a pipe, gets no footer.
//!
//! The texts, and which messages can take one, are as in `addsig`, where the manual says it: plain, neither encoded nor signed;
//! other mail is left as it is, and the record says why. With both plugins in the chain both texts are appended, in that order.
//!
//! The list and the texts are read when the first message is there. One that cannot be read is this plugin's error: the client is
//! deferred, unless the line says `on_error decline`. No arguments.

use serde::Deserialize;

use super::shared::network::Network;
use super::shared::text::{Text, faults, texts};
use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Content, Entry, Hook, Plugin, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry =
    Entry::plugin("footer", &[Hook::DataPost], crate::manual!("footer.rs"), build).without_settings();

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(Footer { world: world.clone(), clients: None }))
}

struct Footer {
    world: World,
    /// The list, read at the first message.
    clients: Option<Vec<(Network, Text)>>,
}

impl Plugin for Footer {
    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        let Some(client) = at.session.connection.remote_ip else {
            return Ok(Ruling::skip("no client address"));
        };
        if self.clients.is_none() {
            self.clients = Some(texts(&self.world, "footer", Network::parse)?);
        }
        match self.clients.iter().flatten().find(|(network, _)| network.contains(client)) {
            Some((_, text)) => text.append_to(at, &self.world),
            None => Ok(Ruling::skip(format!("footer has no line for {client}"))),
        }
    }

    fn check(&mut self) -> Vec<String> {
        faults(&self.world, "footer", Network::parse)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::shared::fixture;
    use super::super::shared::text::tests::play;
    use super::*;

    const FILES: &[(&str, &str)] = &[
        ("footer", "192.0.2.0/24 t/four\n2001:db8::/32\tt/six\n192.0.2.77 t/never\n"),
        ("t/four", "four\n"),
        ("t/six", "six\n"),
    ];

    #[test]
    fn the_clients_address_chooses_the_text() {
        let rows = [
            (Some("192.0.2.77"), "footer line 1: t/four appended", "\ntext\nfour\n"),
            (Some("2001:db8::7"), "footer line 2: t/six appended", "\ntext\nsix\n"),
            (Some("198.51.100.1"), "footer has no line for 198.51.100.1", "\ntext\n"),
            (None, "no client address", "\ntext\n"),
        ];
        for (client, evidence, message) in rows {
            let played = play(&ENTRY, "footer", FILES, client, "<>", "\r\ntext\r\n").unwrap();
            assert_eq!(played, (evidence.to_owned(), message.to_owned()), "{client:?}");
        }
    }

    #[test]
    fn a_faulty_line_is_named() {
        let client = Some("192.0.2.1");
        let files = [("footer", "# c\n192.0.2.0/33 t\n")];
        let said = play(&ENTRY, "footer", &files, client, "<>", "\r\ntext\r\n").unwrap_err();
        assert!(said.contains("footer line 2") && said.contains("192.0.2.0/24"), "{said}");
        assert_eq!(faults(&fixture::world(FILES).0, "footer", Network::parse).len(), 1, "t/never is not there");
        assert!(play(&ENTRY, "footer 1", FILES, client, "<>", "").is_err());
    }
}
