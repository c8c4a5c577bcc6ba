//! Appends a signature to mail, by the domain of its sender.
//!
//! ```text
//! addsig [relaying_only 1]
//! ```
//! The list `addsig` says which text goes to which sender; the first line that fits counts:
//! ```text
//! here.example      texts/here.txt      senders of this domain
//! .here.example     texts/branch.txt    of every domain below it, not of itself
//! *                 texts/all.txt       everybody else
//! ```
//! (without what stands to the right). The sender is the reverse-path of MAIL; a bounce has none and gets no signature. Upper and
//! lower case and both forms of an international domain are the same.
//!
//! A text is a file of at most 16,384 octets in UTF-8; a relative path starts at the configuration directory. It is appended as it
//! is, each line with CRLF: put `-- ` in its first line if readers are to know it for a signature.
//!
//! - `relaying_only`: only mail from clients that may relay (0). Anybody can write your domain into MAIL; with 1 a forger does not
//!   get your signature below.
//!
//! Text is appended only where it is read as text and breaks nothing: to a message that is one plain text, 7bit or 8bit, and
//! signed by nobody (DKIM, ARC, PGP, S/MIME). Other mail is left as it is, and the record says why. So is a text that is not ASCII
//! for a body that is not labelled utf-8 and 8bit.
//!
//! The list and the texts are read when the first message is there. One that cannot be read is this plugin's error: the client is
//! deferred, unless the line says `on_error decline`.

use serde::Deserialize;

use super::shared::text::{Text, faults, texts};
use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Content, Entry, Hook, Plugin, Ruling};
use crate::smtp::address::Domain;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin("addsig", &[Hook::DataPost], crate::manual!("addsig.rs"), build);

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    relaying_only: bool,
}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Addsig { options: settings.read()?, world: world.clone(), senders: None }))
}

struct Addsig {
    options: Options,
    world: World,
    /// The list, read at the first message.
    senders: Option<Vec<(String, Text)>>,
}

impl Plugin for Addsig {
    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        if self.options.relaying_only && at.session.relaying.is_none() {
            return Ok(Ruling::skip("the client may not relay"));
        }
        let Some(sender) = at.envelope.reverse_path().mailbox() else {
            return Ok(Ruling::skip("no sender"));
        };
        if self.senders.is_none() {
            self.senders = Some(texts(&self.world, "addsig", pattern)?);
        }
        let domain = sender.domain().ascii();
        match self.senders.iter().flatten().find(|(pattern, _)| covers(pattern, domain)) {
            Some((_, text)) => text.append_to(at, &self.world),
            None => Ok(Ruling::skip(format!("addsig has no line for {domain}"))),
        }
    }

    fn check(&mut self) -> Vec<String> {
        faults(&self.world, "addsig", pattern)
    }
}

/// A line's first word in the form for comparing.
fn pattern(word: &str) -> Result<String, String> {
    let (dot, name) = word.strip_prefix('.').map_or(("", word), |name| (".", name));
    match Domain::parse(name) {
        _ if word == "*" => Ok(word.to_owned()),
        Ok(domain) => Ok(format!("{dot}{}", domain.ascii())),
        Err(error) => Err(format!("{word:?} is neither a domain, nor .suffix, nor *: {error}")),
    }
}

fn covers(pattern: &str, domain: &str) -> bool {
    pattern == "*" || pattern == domain || (pattern.starts_with('.') && domain.ends_with(pattern))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::shared::fixture;
    use super::super::shared::text::tests::play;
    use super::*;

    const FILES: &[(&str, &str)] = &[
        (
            "addsig",
            "# who and what\nBücher.example t/b\nhere.example t/here\n.here.example\tt/below\n[192.0.2.1] t/here\n",
        ),
        ("t/here", "-- \nhere\n"),
        ("t/below", "below"),
        ("t/b", "b\n"),
    ];

    #[test]
    fn the_senders_domain_chooses_the_text() {
        let rows = [
            ("<a@here.example>", "addsig line 3: t/here appended", "\ntext\n-- \nhere\n"),
            ("<a@HERE.example>", "addsig line 3: t/here appended", "\ntext\n-- \nhere\n"),
            ("<a@x.here.example>", "addsig line 4: t/below appended", "\ntext\nbelow\n"),
            ("<a@xhere.example>", "addsig has no line for xhere.example", "\ntext\n"),
            ("<a@example>", "addsig has no line for example", "\ntext\n"),
            ("<a@xn--bcher-kva.example>", "addsig line 2: t/b appended", "\ntext\nb\n"),
            ("<a@[192.0.2.1]>", "addsig line 5: t/here appended", "\ntext\n-- \nhere\n"),
            ("<>", "no sender", "\ntext\n"),
        ];
        for (sender, evidence, message) in rows {
            let played = play(&ENTRY, "addsig", FILES, None, sender, "\r\ntext\r\n").unwrap();
            assert_eq!(played, (evidence.to_owned(), message.to_owned()), "{sender}");
        }
    }

    #[test]
    fn a_message_that_cannot_take_text_is_left_alone_and_the_record_says_why() {
        let rows = [
            ("DKIM-Signature: v=1\r\n\r\ntext\r\n", "signed"),
            ("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--\r\n", "not text/plain"),
            ("Content-Transfer-Encoding: base64\r\n\r\ndGV4dA==\r\n", "encoded"),
        ];
        for (content, reason) in rows {
            let (evidence, message) = play(&ENTRY, "addsig", FILES, None, "<a@here.example>", content).unwrap();
            assert!(
                evidence.starts_with("addsig line 3: t/here: text is not appended: ") && evidence.contains(reason),
                "{evidence}"
            );
            assert_eq!(message, content.replace("\r\n", "\n"));
        }
        let files = [("addsig", "* t"), ("t", "Grüße\n")];
        let (evidence, _) = play(&ENTRY, "addsig", &files, None, "<a@b>", "\r\ntext\r\n").unwrap();
        assert!(evidence.contains("not ASCII"), "{evidence}");
    }

    #[test]
    fn a_client_that_may_not_relay_gets_none_if_the_line_says_so() {
        let (evidence, _) =
            play(&ENTRY, "addsig relaying_only 1", FILES, None, "<a@here.example>", "\r\ntext\r\n").unwrap();
        assert_eq!(evidence, "the client may not relay");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_the_line() {
        let long = "x".repeat(16_385);
        let rows: [(&[(&str, &str)], &str); 7] = [
            (&[("addsig", "here.example\n")], "names no file"),
            (&[("addsig", "# c\n..x t\n")], "addsig line 2"),
            (&[("addsig", "* none")], "addsig line 1: none: No such file"),
            (&[("addsig", "* ~/x")], "~ is not expanded"),
            (&[("addsig", "* t"), ("t", &long)], "addsig line 1: t: over 16384 octets"),
            (&[("addsig", "* t"), ("t", "a\rb")], "addsig line 1: t: text: the value holds a bare CR"),
            (&[("addsig", "* t"), ("t/x", "")], "addsig line 1: t: "),
        ];
        for (files, fault) in rows {
            let said = play(&ENTRY, "addsig", files, None, "<a@b>", "\r\ntext\r\n").unwrap_err();
            assert!(said.contains(fault), "{said}");
        }
        assert!(play(&ENTRY, "addsig x", FILES, None, "<>", "").is_err());
    }

    #[test]
    fn check_names_each_faulty_line() {
        let files = [("addsig", "* t\nhere.example none\nx\n"), ("t", "text")];
        let found = faults(&fixture::world(&files).0, "addsig", pattern);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(faults(&fixture::world(FILES).0, "addsig", pattern).is_empty());
        assert!(faults(&fixture::world(&[]).0, "addsig", pattern)[0].contains("no text is ever appended"));
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        assert_eq!(fixture::shipped("addsig").read::<Options>().unwrap(), Options::default());
    }
}
