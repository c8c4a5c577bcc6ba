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
    /// What wins over all of these.
    overrides: Vec<Member>,
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
            overrides: Vec::new(),
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

    /// Whether this word is a value anywhere: for a look that is cheap before one that is not.
    pub fn mentions(&self, word: &str) -> bool {
        let is = |member: &Member| matches!(&member.value, Given::Text(text) if text == word);
        self.words.iter().any(|written| written == word) || self.file.iter().chain(&self.set).any(is)
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
        if self.words.len() % 2 == 1 { self.take_first() } else { None }
    }

    /// Takes a word that stands alone (`reopen`), wherever it is. Tells whether it was there.
    pub fn take_flag(&mut self, word: &str) -> bool {
        let found = self.words.iter().position(|candidate| same_key(candidate, word));
        found.map(|at| self.words.remove(at)).is_some()
    }

    /// Takes all words that are left.
    pub fn take_words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words)
    }

    /// Sets a key as if the line had said `key text`.
    pub fn set(&mut self, key: &str, text: impl Into<String>) {
        let value = Given::Text(text.into());
        self.set.push(Member { key: key.to_owned(), value, origin: self.origin.clone() });
    }

    /// Another value of a key, which wins over the line and the file.
    pub fn override_with(&mut self, key: &str, text: &str, origin: Origin) {
        self.overrides.push(Member { key: key.to_owned(), value: Given::Text(text.to_owned()), origin });
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
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<(T, Origin)>, ConfigError> {
        let Some(member) = self.take_member(key)? else {
            return Ok(None);
        };
        match T::deserialize(Source(&member.value)) {
            Ok(value) => Ok(Some((value, member.origin))),
            Err(misfit) => {
                let error = misfit.into_error(&self.plugin, &member.origin);
                let key = error.key().map_or_else(|| member.key.clone(), |inner| format!("{}.{inner}", member.key));
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
    /// faults that were found. `T` should not use serde's `flatten`, before which words stay text: take the common part out
    /// with [`Settings::take_part`] instead.
    pub fn read<T: DeserializeOwned>(mut self) -> Result<T, ConfigError> {
        let (mut members, errors) = self.line_members();
        for member in std::mem::take(&mut self.overrides) {
            let member = self.renamed(member);
            members.retain(|on_line| !same_key(&on_line.key, &member.key));
            members.push(member);
        }
        for member in std::mem::take(&mut self.file) {
            let member = self.renamed(member);
            if !members.iter().any(|on_line| same_key(&on_line.key, &member.key)) {
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
                    given.push(Member { key, value: Given::Text(text), origin: self.origin.clone() });
                }
                None => errors.push(self.error(Fault::NoValue(key))),
            }
        }
        let mut members: Vec<Member> = Vec::with_capacity(given.len());
        for member in given {
            let written = member.key.clone();
            let member = self.renamed(member);
            match members.iter_mut().find(|earlier| same_key(&earlier.key, &member.key)) {
                None => members.push(member),
                Some(earlier) if self.repeats(&member.key) => join(earlier, member.value),
                Some(earlier) => errors.push(self.error(Fault::Twice(earlier.key.clone(), written))),
            }
        }
        (members, errors)
    }

    fn renamed(&self, mut member: Member) -> Member {
        if let Some((_, new)) = self.renames.iter().find(|(old, _)| same_key(old, &member.key)) {
            member.key.clone_from(new);
        }
        member
    }

    fn repeats(&self, key: &str) -> bool {
        self.repeatable.iter().any(|repeatable| same_key(repeatable, key))
    }

    /// Takes one key. Positional words leave no other rule than: a word that is the key's name is the key, wherever it
    /// stands. A value of that name is then a fault that is told, never a setting that is silently passed by.
    fn take_member(&mut self, key: &str) -> Result<Option<Member>, ConfigError> {
        let mut found: Vec<Member> = Vec::new();
        while let Some(at) = self.words.iter().position(|word| same_key(word, key)) {
            let written = self.words.remove(at);
            if at == self.words.len() {
                return Err(self.error(Fault::NoValue(written)));
            }
            let value = Given::Text(self.words.remove(at));
            found.push(Member { key: written, value, origin: self.origin.clone() });
        }
        found.extend(self.set.extract_if(.., |member| same_key(&member.key, key)));
        let won: Vec<Member> = self.overrides.extract_if(.., |member| same_key(&member.key, key)).collect();
        let in_file: Vec<Member> = self.file.extract_if(.., |member| same_key(&member.key, key)).collect();
        if let Some(last) = won.into_iter().next_back() {
            return Ok(Some(last));
        }
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

    /// Fills a `T`. After a fault it goes on without the key at fault, to find the other faults too.
    fn fill<T: DeserializeOwned>(&self, members: Vec<Member>, mut errors: Vec<ConfigError>) -> Result<T, ConfigError> {
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
                return Err(ConfigError::from_many(errors).unwrap_or_else(|| self.error("these settings do not fit")));
            }
        }
    }
}

/// A repeated key becomes a list; each of its words may itself hold commas.
fn join(earlier: &mut Member, value: Given) {
    let mut list = Vec::new();
    for given in [std::mem::replace(&mut earlier.value, Given::Bool(false)), value] {
        match given {
            Given::List(items) => list.extend(items),
            Given::Text(text) => {
                let parts = text.split(',').map(str::trim_ascii).filter(|part| !part.is_empty());
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    use std::path::Path;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum When {
        #[default]
        Connect,
        DataPost,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        reject: bool,
        hops_max: u8,
        offset: i32,
        threshold: f64,
        text: String,
        mark: Option<char>,
        socket: Option<String>,
        require: Vec<String>,
        ports: Vec<u16>,
        check_at: Vec<When>,
        when: When,
        address: Option<IpAddr>,
        zones: BTreeMap<String, u32>,
        limits: Limits,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Limits {
        octets_max: u64,
    }

    fn settings(line: &str, toml: &str) -> Settings {
        let origin = Origin::new(Path::new("config/plugins"), 7);
        let words = line.split_whitespace().map(str::to_owned).collect();
        let file = (!toml.is_empty()).then(|| PluginFile::parse(Path::new("plugins.d/x.toml"), toml).unwrap());
        Settings::new("sample", origin, words, file)
    }

    fn read(line: &str, toml: &str) -> Result<Sample, Vec<String>> {
        let texts = |error: ConfigError| error.all().iter().map(ToString::to_string).collect();
        settings(line, toml).read().map_err(texts)
    }

    #[test]
    fn coercions() {
        let sample = Sample::default;
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let cases = [
            ("", "", sample()),
            ("reject 1", "", Sample { reject: true, ..sample() }),
            ("reject ON hops-max +7", "", Sample { reject: true, hops_max: 7, ..sample() }),
            ("reject off", "reject = true", sample()),
            ("offset -3 threshold 1.5", "", Sample { offset: -3, threshold: 1.5, ..sample() }),
            ("text 5 mark \u{fc}", "", Sample { text: "5".into(), mark: Some('\u{fc}'), ..sample() }),
            ("require From,,Date,", "", Sample { require: strings(&["From", "Date"]), ..sample() }),
            ("ports 25,587", "", Sample { ports: vec![25, 587], ..sample() }),
            ("when Data-Post", "", Sample { when: When::DataPost, ..sample() }),
            ("check_at DATA_POST,connect", "", Sample { check_at: vec![When::DataPost, When::Connect], ..sample() }),
            ("address ::1", "", Sample { address: "::1".parse().ok(), ..sample() }),
            ("", "reject = 1\nhops-max = 0x10", Sample { reject: true, hops_max: 16, ..sample() }),
            ("", "threshold = 2\noffset = -1_000", Sample { threshold: 2.0, offset: -1000, ..sample() }),
            ("", "text = 5\nmark = 'x'\nwhen = 'connect'", Sample { text: "5".into(), mark: Some('x'), ..sample() }),
            (
                "",
                "require = ['a,b', 'c']\nports = '1, 2'",
                Sample { require: strings(&["a,b", "c"]), ports: vec![1, 2], ..sample() },
            ),
            (
                "",
                "[limits]\noctets-max = 9\n[zones]\n'a-b.example' = 1\na_b = 2",
                Sample {
                    limits: Limits { octets_max: 9 },
                    zones: BTreeMap::from([("a-b.example".into(), 1), ("a_b".into(), 2)]),
                    ..sample()
                },
            ),
            ("socket a", "socket = 'b'\noffset = 1", Sample { socket: Some("a".into()), offset: 1, ..sample() }),
        ];
        for (line, toml, want) in cases {
            assert_eq!(read(line, toml), Ok(want), "{line:?} {toml:?}");
        }
    }

    #[test]
    fn faults() {
        const LINE: &str = "config/plugins line 7: sample: ";
        const YES: &str = "is not yes or no (1 or 0, true or false, on or off)";
        let cases: [(&str, &str, String); 24] = [
            ("rejct 1", "", format!("{LINE}unknown setting \"rejct\" (did you mean \"reject\"?)")),
            ("zonk 1", "", format!("{LINE}unknown setting \"zonk\"")),
            ("hops_max", "", format!("{LINE}\"hops_max\" has no value")),
            ("reject maybe", "", format!("{LINE}reject: \"maybe\" {YES}")),
            ("reject 2", "", format!("{LINE}reject: \"2\" {YES}")),
            ("hops-max 7x", "", format!("{LINE}hops-max: \"7x\" is not a whole number")),
            ("hops_max 300", "", format!("{LINE}hops_max: \"300\" is not a whole number of at most 255")),
            ("hops_max -1", "", format!("{LINE}hops_max: \"-1\" is not a whole number of at least 0")),
            (
                "hops_max 9999999999999999999999999999999999999999999",
                "",
                format!("{LINE}hops_max: \"9999999999999999999999999999999999999999999\" is not a whole number"),
            ),
            ("threshold nan", "", format!("{LINE}threshold: \"nan\" is not a number")),
            ("threshold 1e999", "", format!("{LINE}threshold: \"1e999\" is not a number")),
            ("mark ab", "", format!("{LINE}mark: \"ab\" is not one character")),
            (
                "when conect",
                "",
                format!("{LINE}when: \"conect\" is not one of connect, data_post (did you mean \"connect\"?)"),
            ),
            ("check_at connect,x", "", format!("{LINE}check_at: \"x\" is not one of connect, data_post")),
            ("address 1.2.3", "", format!("{LINE}address: invalid IP address syntax")),
            ("zones x", "", format!("{LINE}zones: \"x\" is not a table of settings")),
            ("offset 1 offset 2", "", format!("{LINE}set twice: \"offset\" and \"offset\"")),
            ("hops-max 1 reject 1 hops_max 2", "", format!("{LINE}set twice: \"hops-max\" and \"hops_max\"")),
            ("", "\n\nhops_max = 'x'", "plugins.d/x.toml line 3: sample: hops_max: \"x\" is not a whole number".into()),
            ("", "hops_max = 2.5", "plugins.d/x.toml line 1: sample: hops_max: \"2.5\" is not a whole number".into()),
            (
                "",
                "hops_max = [1]",
                "plugins.d/x.toml line 1: sample: hops_max: this is a list, and not a whole number".into(),
            ),
            ("", "text = {a = 1}", "plugins.d/x.toml line 1: sample: text: this is a table, and not a word".into()),
            (
                "",
                "[limits]\n\noctet_max = 1",
                "plugins.d/x.toml line 3: sample: limits: unknown setting \"octet_max\" (did you mean \"octets_max\"?)"
                    .into(),
            ),
            (
                "",
                "[zones]\na = 1\n'b.example' = 'x'",
                "plugins.d/x.toml line 3: sample: zones.b.example: \"x\" is not a whole number".into(),
            ),
        ];
        for (line, toml, want) in cases {
            assert_eq!(read(line, toml), Err(vec![want]), "{line:?} {toml:?}");
        }
    }

    #[test]
    fn all_faults_are_told() {
        let errors = read("reject x zonk 1 hops_max y offset", "threshold = 'z'\nwat = 1").unwrap_err();
        let keys: Vec<&str> = errors.iter().map(|error| error.split(": ").nth(2).unwrap()).collect();
        let want = [
            "\"offset\" has no value",
            "unknown setting \"zonk\"",
            "unknown setting \"wat\"",
            "reject",
            "hops_max",
            "threshold",
        ];
        assert_eq!(keys, want, "{errors:#?}");
        assert!(errors[2].starts_with("plugins.d/x.toml line 2: "));
    }

    #[test]
    fn a_setting_that_must_be_there() {
        #[derive(Debug, Deserialize)]
        struct Strict {
            #[serde(rename = "host")]
            _host: String,
            #[serde(rename = "port", alias = "service")]
            _port: u16,
        }
        let error = |line: &str| settings(line, "").read::<Strict>().unwrap_err().to_string();
        assert_eq!(error("port 1"), "config/plugins line 7: sample: the setting \"host\" is missing");
        // Told once, not also as missing.
        assert_eq!(error("host h port x"), "config/plugins line 7: sample: port: \"x\" is not a whole number");
        assert_eq!(
            error("host h port 1 service 2"),
            "config/plugins line 7: sample: the setting \"port\" is given under two names"
        );
        assert!(settings("host h service 2", "").read::<Strict>().is_ok());
    }

    #[test]
    fn a_plugin_without_settings() {
        #[derive(Debug, Deserialize)]
        struct Nothing {}
        assert!(settings("", "").read::<Nothing>().is_ok());
        assert!(settings("", "").read::<()>().is_ok());
        let want = "config/plugins line 7: sample: unknown setting \"a\"";
        assert_eq!(settings("a 1", "").read::<Nothing>().unwrap_err().to_string(), want);
        assert_eq!(settings("a 1", "").read::<()>().unwrap_err().to_string(), want);
    }

    #[test]
    fn repeated_and_renamed_keys() {
        let mut given = settings("check-at CONNECT check_at data_post,connect", "");
        given.repeatable("check_at");
        let want = vec![When::Connect, When::DataPost, When::Connect];
        assert_eq!(given.read::<Sample>().unwrap().check_at, want);

        let mut given = settings("reject_threshold 12", "hops = 3");
        given.rename("reject-threshold", "threshold");
        given.rename("hops", "hops_max");
        let sample: Sample = given.read().unwrap();
        assert_eq!((sample.threshold, sample.hops_max), (12.0, 3));

        let mut given = settings("reject_threshold 12 threshold 13", "");
        given.rename("reject_threshold", "threshold");
        let error = given.read::<Sample>().unwrap_err().to_string();
        assert_eq!(error, "config/plugins line 7: sample: set twice: \"threshold\" and \"threshold\"");
    }

    #[test]
    fn positional_words() {
        let mut given = settings("100 reject 1", "hops_max = 3");
        assert_eq!(given.words(), ["100", "reject", "1"]);
        let word = given.take_odd().unwrap();
        given.set("hops_max", word);
        assert_eq!(given.read::<Sample>().unwrap(), Sample { hops_max: 100, reject: true, ..Sample::default() });

        let mut given = settings("100 hops-max 5", "");
        let word = given.take_first().unwrap();
        given.set("hops_max", word);
        let error = given.read::<Sample>().unwrap_err().to_string();
        assert_eq!(error, "config/plugins line 7: sample: set twice: \"hops_max\" and \"hops-max\"");

        let mut given = settings("text x reopen path", "");
        assert!(given.take_flag("reopen") && !given.take_flag("reopen"));
        assert_eq!(given.take_odd(), Some("text".into()), "the odd word is the first");
        assert_eq!(given.take_odd(), None);
        assert_eq!(given.take_words(), ["x", "path"]);
        assert_eq!((given.take_first(), given.take_odd()), (None, None));
        assert_eq!(given.error("no").to_string(), "config/plugins line 7: sample: no");
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default)]
    struct Common {
        observe: bool,
        budget: u32,
        on_error: Option<String>,
    }

    impl Default for Common {
        fn default() -> Self {
            Self { observe: false, budget: 30, on_error: None }
        }
    }

    #[test]
    fn what_plugins_have_in_common_is_taken_out() {
        let cases: [(&str, &str, Common, &[&str]); 6] = [
            ("", "", Common::default(), &[]),
            ("100 observe 1", "", Common { observe: true, ..Common::default() }, &["100"]),
            (
                "hops_max 1 on-error decline",
                "",
                Common { on_error: Some("decline".into()), ..Common::default() },
                &["hops_max", "1"],
            ),
            ("/dir observe 0 sub/%u", "observe = true", Common::default(), &["/dir", "sub/%u"]),
            ("x 1", "budget = 5\nhops_max = 1", Common { budget: 5, ..Common::default() }, &["x", "1"]),
            ("budget 3 observe yes", "", Common { budget: 3, observe: true, ..Common::default() }, &[]),
        ];
        for (line, toml, want, rest) in cases {
            let mut given = settings(line, toml);
            assert_eq!(given.take_part::<Common>().unwrap(), want, "{line:?}");
            assert_eq!(given.words(), rest, "{line:?}");
            assert!(given.take::<String>("observe").unwrap().is_none(), "gone from the file too: {toml:?}");
        }
        let mut given = settings("observe 1 observe 0", "");
        assert_eq!(
            given.take_part::<Common>().unwrap_err().to_string(),
            "config/plugins line 7: sample: set twice: \"observe\" and \"observe\""
        );
        for (line, want) in [
            ("observe", "\"observe\" has no value"),
            ("100 observe", "\"observe\" has no value"),
            ("action observe budget 2", "observe: \"budget\" is not yes or no (1 or 0, true or false, on or off)"),
        ] {
            let error = settings(line, "").take_part::<Common>().unwrap_err();
            assert_eq!(error.to_string(), format!("config/plugins line 7: sample: {want}"));
        }
        let errors = settings("x observe 2", "budget = 'x'").take_part::<Common>().unwrap_err().all();
        assert_eq!(errors.len(), 2);
        assert_eq!(errors[1].to_string(), "plugins.d/x.toml line 1: sample: budget: \"x\" is not a whole number");
    }

    #[test]
    fn one_key_taken_out() {
        let mut given = settings("loglevel +1 a b", "loglevel = 3\nbudget = 4\nlimits = {octets_max = 'x'}");
        let (text, origin) = given.take::<String>("loglevel").unwrap().unwrap();
        assert_eq!((text.as_str(), origin.line), ("+1", 7));
        let (budget, origin) = given.take::<u32>("budget").unwrap().unwrap();
        assert_eq!((budget, origin.to_string().as_str()), (4, "plugins.d/x.toml line 2"));
        assert!(given.take::<u32>("budget").unwrap().is_none());
        assert_eq!(given.words(), ["a", "b"]);
        let errors = [
            settings("budget x", "").take::<u32>("budget").unwrap_err().to_string(),
            settings("x budget 1 budget 2", "").take::<u32>("budget").unwrap_err().to_string(),
            given.take::<Limits>("limits").unwrap_err().to_string(),
        ];
        let want = [
            "config/plugins line 7: sample: budget: \"x\" is not a whole number",
            "config/plugins line 7: sample: set twice: \"budget\" and \"budget\"",
            "plugins.d/x.toml line 3: sample: limits.octets_max: \"x\" is not a whole number",
        ];
        assert_eq!(errors, want);
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_refused(
            words in prop::collection::vec("(reject|hops-max|check_at|zones|text|[ -~]{1,8}|-?[0-9]{1,20})", 0..8),
        ) {
            let origin = Origin::new(Path::new("config/plugins"), 7);
            let mut given = Settings::new("sample", origin, words.clone(), None);
            given.repeatable("check_at");
            let common = given.take_part::<Common>();
            if let Err(error) = given.read::<Sample>() {
                for error in error.all() {
                    prop_assert_eq!(error.line(), Some(7));
                    prop_assert_eq!(error.plugin(), Some("sample"));
                }
            } else {
                prop_assert!(words.len() % 2 == 0 || common.is_err());
            }
        }
    }
}
