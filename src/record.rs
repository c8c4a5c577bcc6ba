//! The decision record: who decided what, on what evidence, in what time, as values; and the three lines made of it
//! (connection, refusal, message), human or JSON. Whose they are and where they go is the session's and the log's matter.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use crate::smtp::escape::safe;

/// Longest line of the record in octets, its line end included: one write of this size to a pipe or an O_APPEND file is whole.
pub const LINE_OCTETS_MAX: usize = 4096;

/// One plugin's word at one hook.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The hook's name.
    pub hook: &'static str,
    /// The plugin's name.
    pub plugin: Rc<str>,
    /// The line that put it there: "config/plugins line 7".
    pub origin: Rc<str>,
    /// accept, vouch, deny, decline, skip, answer, queued, error.
    pub verdict: &'static str,
    /// The refusal's text, the skip's reason, the trouble.
    pub text: String,
    /// On what evidence.
    pub evidence: Vec<String>,
    /// What the backend calls the message that it took, where it tells.
    pub queue_id: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// Would have refused, and the refusal was withheld.
    pub withheld: Option<Withheld>,
}

/// Why a refusal was withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Shadow mode, for good.
    Observed,
    /// It waits for a recipient, and is given then.
    Delayed,
}

impl Decision {
    /// A decision still to be filled in.
    pub fn new(hook: &'static str, plugin: &Rc<str>, origin: &Rc<str>) -> Self {
        Self {
            hook,
            plugin: Rc::clone(plugin),
            origin: Rc::clone(origin),
            verdict: "decline",
            text: String::new(),
            evidence: Vec::new(),
            queue_id: None,
            took: Duration::ZERO,
            withheld: None,
        }
    }

    /// Not asked, and why.
    #[must_use]
    pub fn skipped(mut self, reason: &str) -> Self {
        self.verdict = "skip";
        self.text = reason.to_owned();
        self
    }

    /// In trouble; `deferred`: and so the client was.
    #[must_use]
    pub fn troubled(mut self, trouble: &str, deferred: bool) -> Self {
        self.verdict = if deferred { "error" } else { "error, declined" };
        self.text = trouble.to_owned();
        self
    }

    /// How qpsmtpd's log parsers begin: pass, fail, skip, error.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            "deny" if self.withheld == Some(Withheld::Observed) => "fail, tolerated",
            "deny" => "fail",
            "skip" => "skip",
            "error" | "error, declined" => "error",
            _ => "pass",
        }
    }

    /// Whether another says the same, however long it took.
    pub fn same(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.hook, Rc::clone(&it.origin), it.verdict, it.withheld);
        key(self) == key(other) && self.text == other.text && self.evidence == other.evidence
    }

    /// Whether it is worth a place in the message's line.
    pub fn speaks(&self) -> bool {
        self.verdict != "decline" || !self.evidence.is_empty()
    }
}

impl std::fmt::Display for Decision {
    /// `rcpt_ok: fail, relaying denied [no list has far.example] (rcpt, config/plugins line 5, 12 us)`
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.plugin, self.word())?;
        match self.withheld {
            Some(Withheld::Observed) => write!(out, ", would have refused")?,
            Some(Withheld::Delayed) => write!(out, ", waits (delay_deny)")?,
            None => {}
        }
        if !self.text.is_empty() {
            write!(out, ", {}", safe(&self.text, 512))?;
        }
        if !self.evidence.is_empty() {
            write!(out, " [{}]", safe(&self.evidence.join("; "), 1024))?;
        }
        write!(out, " ({}, {}, {} us)", self.hook, self.origin, self.took.as_micros())
    }
}

/// A line of the record in the making: named values in a fixed order, human or JSON.
pub struct Entry {
    event: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Entry {
    /// A line for this event of this session.
    pub fn new(event: &'static str, session: &str) -> Self {
        Self { event, values: vec![("session", session.to_owned())] }
    }

    /// Adds a value; an empty one is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.values.push((name, value));
        }
        self
    }

    /// What happened: `connection`, `refused`, `queued`.
    pub fn event(&self) -> &'static str {
        self.event
    }

    /// The values in their order; the first is the session's id.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// `[ID] refused client=192.0.2.1 reply="550 ..."`, at most `LINE_OCTETS_MAX` with its line end.
    pub fn human(&self) -> String {
        let mut line = String::new();
        let session = self.values.first().map_or("", |(_, id)| id);
        let _ = write!(line, "[{session}] {}", self.event);
        for (name, value) in &self.values[1..] {
            let value = safe(value, 1500);
            let plain = value.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b'='));
            let piece = if plain {
                format!(" {name}={value}")
            } else {
                format!(" {name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
            };
            if line.len() + piece.len() < LINE_OCTETS_MAX {
                line.push_str(&piece);
            }
        }
        line
    }

    /// The same as one JSON object.
    pub fn json(&self) -> String {
        let mut budget = LINE_OCTETS_MAX - 64;
        let mut object = serde_json::Map::new();
        object.insert("event".into(), self.event.into());
        for (name, value) in &self.values {
            let value = serde_json::Value::from(safe(value, 1500));
            let cost = name.len() + value.to_string().len() + 8;
            if cost <= budget {
                budget -= cost;
                object.insert((*name).into(), value);
            }
        }
        serde_json::Value::Object(object).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_keeps_its_shape_whatever_is_in_it() {
        let hostile = "\r\n\0\u{1b}[31m\"\\".repeat(2000);
        let mut entry = Entry::new("refused", "abc");
        for name in ["a", "b", "c", "d", "e", "f"] {
            entry = entry.with(name, hostile.clone());
        }
        for line in [entry.human(), entry.json()] {
            assert!(line.len() < LINE_OCTETS_MAX, "{}", line.len());
            assert!(!line.chars().any(char::is_control));
        }
        assert!(serde_json::from_str::<serde_json::Value>(&entry.json()).is_ok());
        assert!(entry.human().starts_with("[abc] refused a=\""));
    }

    #[test]
    fn an_empty_value_is_left_out_and_a_blank_is_quoted() {
        let entry = Entry::new("queued", "id").with("from", "<>").with("none", "").with("text", "two words");
        assert_eq!(entry.human(), "[id] queued from=<> text=\"two words\"");
    }
}
