//! The file `plugins`: which plugins are asked, in which order, with which arguments.
//!
//! In: `plugins`, or `plugins.NAME` for `--chain NAME`, or another file of the same form (`logging`). Out: its lines, split
//! into words. Which names exist, and what the words mean, is the registry's and each plugin's matter. Names keep their
//! spelling: `My::Module` (Perl) stands there as written, for the caller to say that it cannot be run.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use super::dir::ConfigDir;
use super::error::{ConfigError, Fault, Origin};

/// One line of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLine {
    /// The plugin's name as written, without the instance.
    pub name: String,
    /// The number after the name (`name:1`): a further instance of the same plugin.
    pub instance: Option<u32>,
    /// The words after the name. There are no quotes and no comments in here: a `#` is a word like any other, as in
    /// qpsmtpd (see [`ChainLine::looks_commented`]).
    pub arguments: Vec<String>,
    /// The file it stands in.
    pub file: Rc<Path>,
    /// Its line there, counted from 1.
    pub line: usize,
}

impl ChainLine {
    /// Where it stands.
    pub fn origin(&self) -> Origin {
        Origin { file: Rc::clone(&self.file), line: self.line }
    }

    /// Name and instance, as written: `name:1`.
    pub fn label(&self) -> String {
        match self.instance {
            Some(instance) => format!("{}:{instance}", self.name),
            None => self.name.clone(),
        }
    }

    /// The line again, with one blank between words.
    pub fn text(&self) -> String {
        let mut text = self.label();
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(argument);
        }
        text
    }

    /// Whether the arguments seem to hold a comment. They are arguments all the same; worth a warning.
    pub fn looks_commented(&self) -> bool {
        self.arguments.iter().any(|word| word.starts_with('#'))
    }

    /// An error at this line, about this plugin.
    pub fn error(&self, fault: impl Into<Fault>) -> ConfigError {
        self.origin().error(fault).of_plugin(&self.label())
    }
}

/// Whether two plugin names are the same: `queue/qmail-queue` and `queue/qmail_queue` are.
pub fn same_name(a: &str, b: &str) -> bool {
    let plain = |octet: u8| if octet == b'-' { b'_' } else { octet };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| plain(a) == plain(b))
}

/// The chain `plugins`, or `plugins.NAME`. It must exist. All faults, not only the first.
pub fn read_chain(dir: &ConfigDir, chain: Option<&str>) -> Result<Vec<ChainLine>, Vec<ConfigError>> {
    let file = chain_name(chain).map_err(|error| vec![error])?;
    read_lines(dir, &file)?.ok_or_else(|| vec![missing(dir, &file)])
}

/// The file of a chain: `plugins`, or `plugins.NAME`.
fn chain_name(chain: Option<&str>) -> Result<String, ConfigError> {
    match chain {
        None => Ok("plugins".to_owned()),
        Some(name) if name.is_empty() || name.contains('/') => {
            Err(ConfigError::new(format!("--chain {name:?}: not a name")))
        }
        Some(name) => Ok(format!("plugins.{name}")),
    }
}

fn missing(dir: &ConfigDir, file: &str) -> ConfigError {
    ConfigError::at(&dir.path().join(file), 0, Fault::Missing)
}

/// Any file of plugin lines (`logging` is one); `None` if there is no such file.
pub fn read_lines(dir: &ConfigDir, name: &str) -> Result<Option<Vec<ChainLine>>, Vec<ConfigError>> {
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    let found = dir.each(name, &mut |text, file, line| {
        match parse(text, file, line) {
            Ok(line) => lines.push(line),
            Err(fault) => errors.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    });
    match found {
        Ok(false) => Ok(None),
        Ok(true) if errors.is_empty() => Ok(Some(lines)),
        Ok(true) => Err(errors),
        Err(error) => Err(errors.into_iter().chain([error]).collect()),
    }
}

/// As [`read_chain`], for `check`: the lines that can be understood, and all faults.
pub fn survey_chain(dir: &ConfigDir, chain: Option<&str>) -> (Vec<ChainLine>, Vec<ConfigError>) {
    match chain_name(chain) {
        Ok(file) if dir.exists(&file) => survey_lines(dir, &file),
        Ok(file) => (Vec::new(), vec![missing(dir, &file)]),
        Err(error) => (Vec::new(), vec![error]),
    }
}

/// As [`read_lines`], for `check`: the lines that can be understood, and all faults.
pub fn survey_lines(dir: &ConfigDir, name: &str) -> (Vec<ChainLine>, Vec<ConfigError>) {
    let survey = dir.survey(name);
    let (mut lines, mut faults) = (Vec::new(), survey.faults);
    for entry in &survey.entries {
        match parse(&entry.text, &entry.file, entry.line) {
            Ok(line) => lines.push(line),
            Err(fault) => faults.push(entry.error(fault)),
        }
    }
    (lines, faults)
}

fn parse(text: &str, file: &Rc<Path>, line: usize) -> Result<ChainLine, Fault> {
    let blank = |c: char| c == ' ' || c == '\t';
    let printable = |octet: &u8| matches!(octet, b' '..=b'~' | b'\t');
    // Most lines are ASCII, and told by the quick test.
    if !text.as_bytes().iter().all(printable) && text.chars().any(|c| c.is_control() && !blank(c)) {
        return Err(Fault::Other(format!("{text:?}: there is a control character in it")));
    }
    let mut words = text.split(blank).filter(|word| !word.is_empty());
    let (name, instance) = split_instance(words.next().unwrap_or_default())?;
    Ok(ChainLine { name, instance, arguments: words.map(str::to_owned).collect(), file: Rc::clone(file), line })
}

fn split_instance(label: &str) -> Result<(String, Option<u32>), Fault> {
    // A Perl module's name, which has no instance.
    if label.contains("::") {
        return Ok((label.to_owned(), None));
    }
    let Some((name, number)) = label.split_once(':') else {
        return Ok((label.to_owned(), None));
    };
    let digits = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
    match number.parse() {
        Ok(instance) if digits && !name.is_empty() => Ok((name.to_owned(), Some(instance))),
        _ => Err(Fault::bad_value(label, "a plugin's name, or a name, a colon and a number")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    #[test]
    fn lines() {
        let cases: [(&str, &str, Option<u32>, &[&str]); 10] = [
            ("rcpt_ok", "rcpt_ok", None, &[]),
            ("  dnsbl \t reject  naughty\r", "dnsbl", None, &["reject", "naughty"]),
            (
                "queue/qmail-queue /var/qmail/bin/qmail-queue",
                "queue/qmail-queue",
                None,
                &["/var/qmail/bin/qmail-queue"],
            ),
            ("dnsbl:0 timeout 5", "dnsbl", Some(0), &["timeout", "5"]),
            ("auth/x:017", "auth/x", Some(17), &[]),
            ("My::Module a", "My::Module", None, &["a"]),
            ("My::Module:1", "My::Module:1", None, &[]),
            ("loop 100 # hops", "loop", None, &["100", "#", "hops"]),
            ("footer \"two words\" \\", "footer", None, &["\"two", "words\"", "\\"]),
            ("footer gr\u{fc}\u{df}e", "footer", None, &["gr\u{fc}\u{df}e"]),
        ];
        for (text, name, instance, arguments) in cases {
            let scratch = Scratch::new(&[("plugins", &format!("# c\n{text}\n"))]);
            let lines = read_chain(&scratch.open(), None).unwrap();
            let [line] = lines.as_slice() else { panic!("{text:?}: {lines:?}") };
            assert_eq!((line.name.as_str(), line.instance, line.line), (name, instance, 2), "{text:?}");
            assert_eq!(line.arguments, arguments, "{text:?}");
            assert_eq!(line.looks_commented(), text.contains('#'));
        }
    }

    #[test]
    fn chains() {
        let scratch = Scratch::new(&[
            ("plugins", "rcpt_ok\n"),
            ("plugins.submission", "relay only 1\n$include plugins\n"),
            ("plugins.empty", "# nothing\n"),
            ("logging", "logging/file loglevel LOGINFO /var/log/x\n"),
        ]);
        let dir = scratch.open();
        let names = |chain| -> Result<Vec<String>, String> {
            match read_chain(&dir, chain) {
                Ok(lines) => Ok(lines.iter().map(ChainLine::label).collect()),
                Err(errors) => Err(scratch.cut(&errors[0])),
            }
        };
        assert_eq!(names(None).unwrap(), ["rcpt_ok"]);
        assert_eq!(names(Some("submission")).unwrap(), ["relay", "rcpt_ok"]);
        assert_eq!(names(Some("empty")).unwrap(), [""; 0]);
        assert_eq!(names(Some("other")).unwrap_err(), "DIR/plugins.other: there is no such file");
        assert_eq!(names(Some("../x")).unwrap_err(), "--chain \"../x\": not a name");
        assert_eq!(names(Some("")).unwrap_err(), "--chain \"\": not a name");
        assert_eq!(read_lines(&dir, "logging").unwrap().unwrap()[0].arguments.len(), 3);
        assert!(read_lines(&dir, "nowhere").unwrap().is_none());
    }

    #[test]
    fn every_fault_is_told() {
        let text = "good\nname:\n:1\nname:x\na:1:2\nname:99999999999\nesc\u{1b}[0m\nbel x\u{7}\nname:+1\n\u{85}x\n";
        let scratch = Scratch::new(&[("plugins", text)]);
        let errors = read_chain(&scratch.open(), None).unwrap_err();
        let errors: Vec<String> = errors.iter().map(|error| scratch.cut(error)).collect();
        const NAME: &str = "is not a plugin's name, or a name, a colon and a number";
        let want = [
            format!("DIR/plugins line 2: \"name:\" {NAME}"),
            format!("DIR/plugins line 3: \":1\" {NAME}"),
            format!("DIR/plugins line 4: \"name:x\" {NAME}"),
            format!("DIR/plugins line 5: \"a:1:2\" {NAME}"),
            format!("DIR/plugins line 6: \"name:99999999999\" {NAME}"),
            "DIR/plugins line 7: \"esc\\u{1b}[0m\": there is a control character in it".to_owned(),
            "DIR/plugins line 8: \"bel x\\u{7}\": there is a control character in it".to_owned(),
            format!("DIR/plugins line 9: \"name:+1\" {NAME}"),
            "DIR/plugins line 10: \"\\u{85}x\": there is a control character in it".to_owned(),
        ];
        assert_eq!(errors, want);
    }

    #[test]
    fn names_that_are_the_same() {
        for (a, b, same) in [
            ("", "", true),
            ("queue/qmail-queue", "queue/qmail_queue", true),
            ("a-b_c", "a_b-c", true),
            ("Loop", "loop", false),
            ("loop", "loops", false),
            ("a.b", "a-b", false),
        ] {
            assert_eq!(same_name(a, b), same, "{a} {b}");
        }
    }

    #[test]
    fn an_error_names_plugin_and_line() {
        let scratch = Scratch::new(&[("plugins", "\nloop:3 x\n")]);
        let lines = read_chain(&scratch.open(), None).unwrap();
        assert_eq!(scratch.cut(&lines[0].error("no")), "DIR/plugins line 2: loop:3: no");
    }
}
