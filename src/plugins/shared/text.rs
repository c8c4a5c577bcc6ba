//! Texts that are appended to mail: a list whose lines name them, and the question whether a message can take one.
//!
//! A line is a word that says whom it is for, then a file. What cannot be read or understood is an error that names the line.

use std::io::Read;

use super::place;
use crate::config::{self, ConfigError};
use crate::hook::{Answer, Change, Content, Ruling, Trouble};
use crate::mail::{Edit, EditError};
use crate::world::World;

/// Octets of a text.
const TEXT_OCTETS_MAX: u64 = 16 * 1024;

/// A text file that a line of a list names.
pub(in super::super) struct Text {
    file: String,
    /// "addsig line 3".
    origin: String,
}

impl Text {
    /// Asks for the text to be appended, or says why it cannot be.
    pub(in super::super) fn append_to(&self, at: &Content<'_>, world: &World) -> Answer {
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
pub(in super::super) fn texts<K>(
    world: &World,
    list: &str,
    key: impl Fn(&str) -> Result<K, String>,
) -> Result<Vec<(K, Text)>, ConfigError> {
    world.config.list(list)?.iter().map(|entry| text_line(entry, &key)).collect()
}

fn text_line<K>(entry: &config::Entry, key: impl Fn(&str) -> Result<K, String>) -> Result<(K, Text), ConfigError> {
    let Some((word, file)) = entry.text.split_once(char::is_whitespace) else {
        return Err(entry.error(format!("{:?} names no file", entry.text)));
    };
    let key = key(word).map_err(|fault| entry.error(fault))?;
    Ok((key, Text { file: file.trim().to_owned(), origin: place(&entry.file, entry.line) }))
}

/// For `check`: what is wrong with a list and the texts that it names, each line by itself.
pub(in super::super) fn faults<K>(world: &World, list: &str, key: impl Fn(&str) -> Result<K, String>) -> Vec<String> {
    let entries = match world.config.list(list) {
        Ok(entries) if entries.is_empty() => {
            return vec![format!("{list}: there is no such list, or it is empty: no text is ever appended")];
        }
        Ok(entries) => entries,
        Err(error) => return vec![error.to_string()],
    };
    let fault = |entry| match text_line(entry, &key) {
        Ok((_, text)) => text.read(world).err().map(|trouble| trouble.0),
        Err(error) => Some(error.to_string()),
    };
    entries.iter().filter_map(fault).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(in crate::plugins) mod tests {
    use super::super::fixture;
    use super::*;
    use crate::hook::changes::Facts;
    use crate::hook::{Entry, Verdict};
    use crate::mail::{Envelope, LineEnds, Message, Recipient, Spool, SpoolPlace, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};

    /// What a text plugin makes of a message from this sender and client: the record's words, and the message.
    pub(in crate::plugins) fn play(
        entry: &Entry,
        line: &str,
        files: &[(&str, &str)],
        client: Option<&str>,
        sender: &str,
        content: &str,
    ) -> Result<(String, String), String> {
        let (world, _dir) = fixture::world(files);
        let mut plugin = fixture::build(entry, line, &world).map_err(|error| error.to_string())?;
        let mut session = fixture::session(client);
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
        at.apply(ruling.changes, "test").unwrap();
        let mut octets = Vec::new();
        message.write_to(&mut octets, LineEnds::Lf).unwrap();
        Ok((ruling.evidence.join("; "), String::from_utf8(octets).unwrap()))
    }
}
