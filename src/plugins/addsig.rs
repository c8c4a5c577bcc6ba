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

use std::io::Read;

use serde::Deserialize;

use crate::config::{self, ConfigError, Settings};
use crate::hook::{Answer, Change, Content, Entry, Hook, Plugin, Ruling, Trouble};
use crate::mail::{Edit, EditError};
use crate::smtp::address::Domain;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin("addsig", &[Hook::DataPost], include_str!("addsig.rs"), build);

/// Octets of a text.
const TEXT_OCTETS_MAX: u64 = 16 * 1024;

#[derive(Default, Deserialize)]
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

/// A text file that a line of a list names.
pub(super) struct Text {
    file: String,
    /// "addsig line 3".
    origin: String,
}

impl Text {
    /// Asks for the text to be appended, or says why it cannot be.
    pub(super) fn append_to(&self, at: &Content<'_>, world: &World) -> Answer {
        let text = self.read(world)?;
        let named = format!("{}: {}", self.origin, self.file);
        match at.message.takes_text(&text) {
            Ok(()) => {
                Ok(Ruling::decline().change(Change::Edit(Edit::AppendText(text))).because(format!("{named} appended")))
            }
            // The text itself is at fault.
            Err(error @ EditError::Value { .. }) => Err(Trouble::new(format!("{named}: {error}"))),
            Err(reason) => Ok(Ruling::skip(format!("{named}: {reason}"))),
        }
    }

    fn read(&self, world: &World) -> Result<String, Trouble> {
        let trouble = |what: &str| Trouble::new(format!("{}: {}: {what}", self.origin, self.file));
        let path = world.config.resolve(&self.file)?;
        let file = std::fs::File::open(path).map_err(|error| trouble(&error.to_string()))?;
        let mut octets = Vec::new();
        file.take(TEXT_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(|error| trouble(&error.to_string()))?;
        if octets.len() as u64 > TEXT_OCTETS_MAX {
            return Err(trouble(&format!("over {TEXT_OCTETS_MAX} octets")));
        }
        String::from_utf8(octets).map_err(|_| trouble("not UTF-8"))
    }
}

/// The lines of a list: a word that says whom it is for, and the text's file. A line that cannot be understood is an error.
pub(super) fn texts<K>(
    world: &World,
    list: &str,
    key: impl Fn(&str) -> Result<K, String>,
) -> Result<Vec<(K, Text)>, ConfigError> {
    world.config.list(list)?.iter().map(|entry| text_line(entry, list, &key)).collect()
}

fn text_line<K>(
    entry: &config::Entry,
    list: &str,
    key: impl Fn(&str) -> Result<K, String>,
) -> Result<(K, Text), ConfigError> {
    let Some((word, file)) = entry.text.split_once(char::is_whitespace) else {
        return Err(entry.error(format!("{:?} names no file", entry.text)));
    };
    let key = key(word).map_err(|fault| entry.error(fault))?;
    Ok((key, Text { file: file.trim().to_owned(), origin: format!("{list} line {}", entry.line) }))
}

/// For `check`: what is wrong with a list and the texts that it names, each line by itself.
pub(super) fn faults<K>(world: &World, list: &str, key: impl Fn(&str) -> Result<K, String>) -> Vec<String> {
    let entries = match world.config.list(list) {
        Ok(entries) if entries.is_empty() => {
            return vec![format!("{list}: there is no such list, or it is empty: no text is ever appended")];
        }
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    let fault = |entry| match text_line(entry, list, &key) {
        Ok((_, text)) => text.read(world).err().map(|trouble| trouble.0),
        Err(error) => Some(error.to_string()),
    };
    entries.iter().filter_map(fault).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::config::Origin;
    use crate::config::testing::Scratch;
    use crate::hook::facts::Session;
    use crate::hook::{Verdict, facts::Facts};
    use crate::launch::{Connection, Launcher};
    use crate::mail::{Envelope, LineEnds, Message, Recipient, Spool, SpoolPlace, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use std::net::IpAddr;
    use std::path::Path;
    use std::rc::Rc;

    /// What a text plugin makes of a message from this sender and client: the record's words, and the message.
    pub(in super::super) fn play(
        entry: &Entry,
        line: &str,
        files: &[(&str, &str)],
        client: Option<IpAddr>,
        sender: &str,
        content: &str,
    ) -> Result<(String, String), String> {
        let (world, _scratch) = world(files);
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let name = words.next().unwrap();
        let settings = Settings::new(&name, Origin::new(Path::new("config/plugins"), 1), words.collect(), None);
        let mut plugin = (entry.build)(settings, &world).map_err(|error| error.to_string())?;
        let mut connection = Connection::unknown(Launcher::Pipe);
        connection.remote_ip = client;
        let mut session = Session::new("abc".into(), "mx.example".into(), connection);
        let mut transaction = Transaction::new(ReversePath::parse(sender).unwrap(), Default::default());
        transaction
            .recipients
            .push(Recipient::new(ForwardPath::parse("<x@here.example>").unwrap(), Default::default()));
        let envelope = Envelope::try_from(transaction).ok().unwrap();
        let mut spool = Spool::new(SpoolPlace { threshold: 1 << 20, dir: "/nonexistent".into() });
        spool.write(content.as_bytes()).unwrap();
        let mut message = Message::new(spool, 1 << 16);
        let mut at = Content { session: &mut session, envelope: &envelope, message: &mut message };
        let ruling = plugin.data_post(&at).map_err(|trouble| trouble.0)?;
        assert!(matches!(ruling.verdict, Verdict::Decline | Verdict::Skip));
        at.apply(ruling.changes).unwrap();
        let mut octets = Vec::new();
        message.write_to(&mut octets, LineEnds::Lf).unwrap();
        Ok((ruling.evidence.join("; "), String::from_utf8(octets).unwrap()))
    }

    /// A made-up outside with these files of configuration.
    pub(in super::super) fn world(files: &[(&str, &str)]) -> (World, Scratch) {
        let scratch = Scratch::new(files);
        (World::fake(Rc::new(scratch.open())), scratch)
    }

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
        let long = "x".repeat(TEXT_OCTETS_MAX as usize + 1);
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
        let found = faults(&world(&files).0, "addsig", pattern);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(faults(&world(FILES).0, "addsig", pattern).is_empty());
        assert!(faults(&world(&[]).0, "addsig", pattern)[0].contains("no text is ever appended"));
    }
}
