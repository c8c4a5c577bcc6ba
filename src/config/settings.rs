//! One plugin's settings: the words of its line and the keys of its TOML file -> one typed struct.
//!
//! The chain takes out what concerns every plugin ([`Settings::take_part`]); the plugin maps the positional forms of its line
//! to keys ([`Settings::take_first`], [`Settings::set`], ...); [`Settings::read`] pairs what is left of the words as
//! `key value key value`, lets them win over the file, and fills the struct. `-` and `_` in keys are the same.

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use super::error::{ConfigError, Fault, Origin};
use super::misfit::Misfit;
use super::plugin_file::PluginFile;
use super::value::{Given, Member, Source, same_key};

/// One plugin's settings, before they have types.
#[derive(Debug, Clone)]
pub struct Settings {
    plugin: String,
    origin: Origin,
    /// The words of the line that nobody has taken yet.
    words: Vec<String>,
    /// What the plugin made of positional words.
    set: Vec<Member>,
    file: Vec<Member>,
    renames: Vec<(String, String)>,
    repeatable: Vec<String>,
}

impl Settings {
    /// The settings of a plugin (named with its instance, for messages) from the words after its name, and its TOML file.
    pub fn new(plugin: &str, origin: Origin, words: Vec<String>, file: Option<PluginFile>) -> Self {
        Self {
            plugin: plugin.to_owned(),
            origin,
            words,
            set: Vec::new(),
            file: file.map(|file| file.members).unwrap_or_default(),
            renames: Vec::new(),
            repeatable: Vec::new(),
        }
    }

    /// The plugin's name.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Where the plugin's line stands.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The words of the line that nobody has taken yet.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// An error at the plugin's line.
    pub fn error(&self, fault: impl Into<Fault>) -> ConfigError {
        self.origin.error(fault).of_plugin(&self.plugin)
    }

    /// Takes the first word, for a positional form (`loop 100`).
    pub fn take_first(&mut self) -> Option<String> {
        (!self.words.is_empty()).then(|| self.words.remove(0))
    }

    /// Takes the first word if there is an odd number of them: a value without a key, before pairs.
    pub fn take_odd(&mut self) -> Option<String> {
        if self.words.len() % 2 == 1 {
            self.take_first()
        } else {
            None
        }
    }

    /// Takes a word that stands alone (`reopen`), wherever it is. Tells whether it was there.
    pub fn take_flag(&mut self, word: &str) -> bool {
        let found = self
            .words
            .iter()
            .position(|candidate| same_key(candidate, word));
        found.map(|at| self.words.remove(at)).is_some()
    }

    /// Takes all words that are left.
    pub fn take_words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    /// Sets a key as if the line had said `key text`.
    pub fn set(&mut self, key: &str, text: impl Into<String>) {
        let value = Given::Text(text.into());
        self.set.push(Member {
            key: key.to_owned(),
            value,
            origin: self.origin.clone(),
        });
    }

    /// An old key means a new one. Giving both is a fault.
    pub fn rename(&mut self, old: &str, new: &str) {
        self.renames.push((old.to_owned(), new.to_owned()));
    }

    /// A key that may stand on the line more than once; its field is a list.
    pub fn repeatable(&mut self, key: &str) {
        self.repeatable.push(key.to_owned());
    }

    /// Takes one key out of the line and the file, with the place it came from; the line wins.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        key: &str,
    ) -> Result<Option<(T, Origin)>, ConfigError> {
        let Some(member) = self.take_member(key)? else {
            return Ok(None);
        };
        match T::deserialize(Source(&member.value)) {
            Ok(value) => Ok(Some((value, member.origin))),
            Err(misfit) => {
                let error = misfit.into_error(&self.plugin, &member.origin);
                let key = error.key().map_or_else(
                    || member.key.clone(),
                    |inner| format!("{}.{inner}", member.key),
                );
                Err(error.of_key(&key))
            }
        }
    }

    /// Takes the keys that are fields of `T` out of the line and the file, and fills a `T` with them. The rest stays: for what
    /// several plugins have in common (observe, on_error, budget; reject, reject_type).
    pub fn take_part<T: DeserializeOwned>(&mut self) -> Result<T, ConfigError> {
        let mut fields: &'static [&'static str] = &[];
        // Only to learn the names of T's fields; it never succeeds.
        let _ = T::deserialize(FieldNames(&mut fields));
        let mut members = Vec::new();
        let mut errors = Vec::new();
        for field in fields {
            match self.take_member(field) {
                Ok(member) => members.extend(member),
                Err(error) => errors.push(error),
            }
        }
        self.fill(members, errors)
    }

    /// Reads all that is left into a `T`, whose fields' names are the keys. Unknown keys are refused. The error holds all
    /// faults that were found.
    pub fn read<T: DeserializeOwned>(mut self) -> Result<T, ConfigError> {
        let (mut members, errors) = self.line_members();
        for member in std::mem::take(&mut self.file) {
            let member = self.renamed(member);
            if !members
                .iter()
                .any(|on_line| same_key(&on_line.key, &member.key))
            {
                members.push(member);
            }
        }
        self.fill(members, errors)
    }

    /// What the line sets: the plugin's own, then the words in pairs.
    fn line_members(&mut self) -> (Vec<Member>, Vec<ConfigError>) {
        let mut given = std::mem::take(&mut self.set);
        let mut errors = Vec::new();
        let mut words = self.take_words().into_iter();
        while let Some(key) = words.next() {
            match words.next() {
                Some(text) => {
                    given.push(Member {
                        key,
                        value: Given::Text(text),
                        origin: self.origin.clone(),
                    });
                }
                None => errors.push(self.error(Fault::NoValue(key))),
            }
        }
        let mut members: Vec<Member> = Vec::with_capacity(given.len());
        for member in given {
            let written = member.key.clone();
            let member = self.renamed(member);
            match members
                .iter_mut()
                .find(|earlier| same_key(&earlier.key, &member.key))
            {
                None => members.push(member),
                Some(earlier) if self.repeats(&member.key) => join(earlier, member.value),
                Some(earlier) => {
                    errors.push(self.error(Fault::Twice(earlier.key.clone(), written)))
                }
            }
        }
        (members, errors)
    }

    fn renamed(&self, mut member: Member) -> Member {
        if let Some((_, new)) = self
            .renames
            .iter()
            .find(|(old, _)| same_key(old, &member.key))
        {
            member.key.clone_from(new);
        }
        member
    }

    fn repeats(&self, key: &str) -> bool {
        self.repeatable
            .iter()
            .any(|repeatable| same_key(repeatable, key))
    }

    /// Takes one key, wherever it stands.
    fn take_member(&mut self, key: &str) -> Result<Option<Member>, ConfigError> {
        let mut found: Vec<Member> = Vec::new();
        while let Some(at) = self.key_at(key) {
            let written = self.words.remove(at);
            if at == self.words.len() {
                return Err(self.error(Fault::NoValue(written)));
            }
            let value = Given::Text(self.words.remove(at));
            found.push(Member {
                key: written,
                value,
                origin: self.origin.clone(),
            });
        }
        found.extend(self.set.extract_if(.., |member| same_key(&member.key, key)));
        let in_file: Vec<Member> = self
            .file
            .extract_if(.., |member| same_key(&member.key, key))
            .collect();
        let mut found = found.into_iter();
        let Some(mut first) = found.next() else {
            return Ok(in_file.into_iter().next());
        };
        for further in found {
            if !self.repeats(key) {
                return Err(self.error(Fault::Twice(first.key, further.key)));
            }
            join(&mut first, further.value);
        }
        Ok(Some(first))
    }

    /// Where a key stands among the words. In an even number of words only each second one is a key, so that the `reject` of
    /// `action reject` is not; an odd number begins with a positional word, somewhere.
    fn key_at(&self, key: &str) -> Option<usize> {
        let pairs = self.words.len().is_multiple_of(2);
        (0..self.words.len()).find(|at| !(pairs && at % 2 == 1) && same_key(&self.words[*at], key))
    }

    /// Fills a `T`. After a fault it goes on without the key at fault, to find the other faults too.
    fn fill<T: DeserializeOwned>(
        &self,
        members: Vec<Member>,
        mut errors: Vec<ConfigError>,
    ) -> Result<T, ConfigError> {
        let mut table = Given::Table(members);
        loop {
            let misfit = match T::deserialize(Source(&table)) {
                Ok(value) => return ConfigError::from_many(errors).map_or(Ok(value), Err),
                Err(misfit) => misfit,
            };
            let culprit = misfit.outermost().map(str::to_owned);
            // A setting may be missing only because it was at fault and is told already.
            if errors.is_empty() || !misfit.missing {
                errors.push(misfit.into_error(&self.plugin, &self.origin));
            }
            let removed = culprit.is_some_and(|key| table.remove(&key));
            if !removed {
                return Err(ConfigError::from_many(errors)
                    .unwrap_or_else(|| self.error("these settings do not fit")));
            }
        }
    }
}

/// A repeated key becomes a list; each of its words may itself hold commas.
fn join(earlier: &mut Member, value: Given) {
    let mut list = Vec::new();
    for given in [
        std::mem::replace(&mut earlier.value, Given::Bool(false)),
        value,
    ] {
        match given {
            Given::List(items) => list.extend(items),
            Given::Text(text) => {
                let parts = text
                    .split(',')
                    .map(str::trim_ascii)
                    .filter(|part| !part.is_empty());
                list.extend(parts.map(|part| Given::Text(part.to_owned())));
            }
            other => list.push(other),
        }
    }
    earlier.value = Given::List(list);
}

/// A deserializer that writes down the names of a struct's fields, and fails.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Misfit> {
        Err(de::Error::custom("only the names were asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
