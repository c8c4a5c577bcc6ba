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
//! families; an address alone is itself. `0.0.0.0/0` and `::/0` are everybody. A session without a client's address, from a pipe,
//! gets no footer.
//!
//! The texts, and which messages can take one, are as in `addsig`, where the manual says it: plain, neither encoded nor signed;
//! other mail is left as it is, and the record says why. With both plugins in the chain both texts are appended, in that order.
//!
//! The list and the texts are read when the first message is there. One that cannot be read is this plugin's error: the client is
//! deferred, unless the line says `on_error decline`. No arguments.

use std::net::IpAddr;

use serde::Deserialize;

use super::addsig::{Text, faults, texts};
use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Content, Entry, Hook, Plugin, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin("footer", &[Hook::DataPost], include_str!("footer.rs"), build);

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

/// Addresses that agree in their first bits.
#[derive(Debug, PartialEq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(word: &str) -> Result<Self, String> {
        let wrong = || format!("{word:?} is neither an address nor a network: write 192.0.2.0/24 or 2001:db8::/32");
        let (address, bits) = word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            // `parse` alone would take a sign.
            Some(bits) if bits.bytes().all(|octet| octet.is_ascii_digit()) => bits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if bits > bits_max {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }

    fn contains(&self, client: IpAddr) -> bool {
        match (self.address, client) {
            (IpAddr::V4(own), IpAddr::V4(client)) => {
                (own.to_bits() ^ client.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(client)) => {
                (own.to_bits() ^ client.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::addsig::tests::{play, world};
    use super::*;

    #[test]
    fn a_network_has_its_first_and_last_address_and_none_beyond() {
        let rows = [
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("192.0.2.0/24", "192.0.2.0", true),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.9/24", "192.0.2.1", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "192.0.1.255", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("192.0.2.6/31", "192.0.2.7", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
        ];
        for (network, client, inside) in rows {
            let found = Network::parse(network).unwrap().contains(client.parse().unwrap());
            assert_eq!(found, inside, "{client} in {network}");
        }
        for word in
            ["", "/", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.", "::/129", "::/x", "here.example", "*"]
        {
            assert!(Network::parse(word).is_err(), "{word}");
        }
    }

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
            let client = client.map(|client| client.parse().unwrap());
            let played = play(&ENTRY, "footer", FILES, client, "<>", "\r\ntext\r\n").unwrap();
            assert_eq!(played, (evidence.to_owned(), message.to_owned()), "{client:?}");
        }
    }

    #[test]
    fn a_faulty_line_is_named() {
        let client = Some("192.0.2.1".parse().unwrap());
        let files = [("footer", "# c\n192.0.2. t\n")];
        let said = play(&ENTRY, "footer", &files, client, "<>", "\r\ntext\r\n").unwrap_err();
        assert!(said.contains("footer line 2") && said.contains("192.0.2.0/24"), "{said}");
        assert_eq!(faults(&world(FILES).0, "footer", Network::parse).len(), 1, "t/never is not there");
        assert!(play(&ENTRY, "footer 1", FILES, client, "<>", "").is_err());
    }
}
