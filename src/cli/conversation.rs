//! What `postern try` shows of a dialog: each step as it happens, then where the mail went.
//!
//! In: the steps, from the session; what the client really sent, from the script. Out: lines for people, or JSON objects.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::print::{Paint, Screen, harmless};
use crate::record::{Decision, Withheld};
use crate::session::{Ended, Witness};
use crate::smtp::escape::safe;
use crate::smtp::reply::Reply;
use crate::transport::{Exchange, Exchanges};

/// Lines of a message's content that are shown of its beginning, if not all are asked for.
const CONTENT_LINES_MAX: usize = 30;
/// Octets of a line of the client's that are shown, if not all are asked for.
const LINE_OCTETS_MAX: usize = 1_000;
/// Octets of what a client said that stand in a JSON object; the number of all of them stands there too.
const JSON_OCTETS_MAX: usize = 64 << 10;

/// What is known before the first word.
#[derive(Serialize)]
pub(super) struct Opening<'a> {
    /// "session".
    pub(super) event: &'static str,
    /// The session's id.
    pub(super) session: &'a str,
    /// Who the client is said to be.
    pub(super) remote_ip: Option<IpAddr>,
    /// Its name.
    pub(super) remote_host: Option<&'a str>,
    /// The configuration directory.
    pub(super) config: &'a Path,
}

/// What is known at the end, as JSON.
#[derive(Serialize)]
struct Closing<'a> {
    event: &'static str,
    end: &'static str,
    queued: &'a [Queued],
    refusals: u32,
    us: u64,
}

/// A dialog on its way.
pub(super) struct Conversation {
    screen: Screen,
    json: bool,
    verbose: bool,
    exchanges: Exchanges,
    /// Exchanges that were shown.
    shown: usize,
    /// The chain's lines: where each stands, and its text.
    lines: Vec<(String, String)>,
    queued: Vec<Queued>,
    refusals: u32,
}

/// A message that a backend took.
#[derive(Serialize)]
struct Queued {
    plugin: String,
    line: String,
    line_text: String,
    id: Option<String>,
    text: String,
}

impl Conversation {
    /// Shows who is connected.
    pub(super) fn begin(
        screen: Screen,
        json: bool,
        verbose: bool,
        exchanges: Exchanges,
        lines: Vec<(String, String)>,
        opening: &Opening<'_>,
    ) -> Self {
        if json {
            screen.json(opening);
        } else {
            let ip = opening.remote_ip.map(|ip| ip.to_string());
            let client = match (&ip, opening.remote_host) {
                (None, None) => "a client of which nothing is known".to_owned(),
                (ip, host) => ip.as_deref().into_iter().chain(host).collect::<Vec<_>>().join(" "),
            };
            let text = format!("Session {} with {client}, by {}", opening.session, opening.config.display());
            screen.line(screen.paint(Paint::Dim, text));
        }
        Self { screen, json, verbose, exchanges, shown: 0, lines, queued: Vec::new(), refusals: 0 }
    }

    /// Shows where the mail went, and how it ended.
    pub(super) fn end(&self, ended: Ended, took: Duration) {
        if self.json {
            let (end, us) = (how(ended), micros(took));
            let closing = Closing { event: "end", end, queued: &self.queued, refusals: self.refusals, us };
            return self.screen.json(&closing);
        }
        self.screen.line("");
        for queued in &self.queued {
            let id = queued.id.as_ref().map(|id| format!(", as {id}")).unwrap_or_default();
            let by = self.screen.paint(Paint::Bold, harmless(&queued.line_text));
            let text = format!("Mail taken by {by} ({}){}: {}", queued.line, harmless(&id), harmless(&queued.text));
            self.screen.line(text);
        }
        let messages = match self.queued.len() {
            0 => self.screen.paint(Paint::Yellow, "No mail was queued."),
            1 => self.screen.paint(Paint::Green, "One mail was queued."),
            number => self.screen.paint(Paint::Green, format!("{number} mails were queued.")),
        };
        let refusals = match self.refusals {
            0 => "Nothing was refused.".to_owned(),
            1 => "One command was refused.".to_owned(),
            number => format!("{number} commands were refused."),
        };
        self.screen.line(format!("{messages} {refusals} End: {}, after {}.", how(ended), time(took)));
    }

    /// What the client sent since the last step.
    fn client(&mut self) -> Vec<Vec<u8>> {
        let exchanges = self.exchanges.get();
        let new = exchanges[self.shown.min(exchanges.len())..].iter();
        let said = new.filter_map(|exchange| match exchange {
            Exchange::Client(octets) => Some(octets.clone()),
            Exchange::Server(_) => None,
        });
        self.shown = exchanges.len();
        said.collect()
    }

    fn show(&self, said: &[Vec<u8>], reply: &Reply, decisions: &[Decision]) {
        for octets in said {
            self.show_client(octets);
        }
        let mut octets = Vec::new();
        reply.write_to(&mut octets, false);
        let paint = match reply.code {
            ..400 => Paint::Green,
            400..500 => Paint::Yellow,
            _ => Paint::Red,
        };
        for line in String::from_utf8_lossy(&octets).lines() {
            self.screen.line(format!("S  {}", self.screen.paint(paint, line)));
        }
        for decision in decisions.iter().filter(|decision| self.verbose || decision.speaks()) {
            self.screen.line(format!("     {}", self.told(decision)));
        }
        match (reply.code >= 400, decisions.iter().any(refused)) {
            (true, false) => self.screen.line("     postern's own rule: no plugin decided this"),
            // The postmaster of a domain of ours, and NOOP.
            (false, true) => self.screen.line("     postern's own rule: accepted all the same"),
            _ => {}
        }
    }

    fn show_client(&self, octets: &[u8]) {
        let text = String::from_utf8_lossy(octets);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let shown = if self.verbose { lines.len() } else { lines.len().min(CONTENT_LINES_MAX) };
        let show = |line: &str| {
            let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            let line = safe(line, if self.verbose { usize::MAX } else { LINE_OCTETS_MAX });
            self.screen.line(format!("C  {}", self.screen.paint(Paint::Cyan, line)).trim_end());
        };
        lines[..shown].iter().for_each(|line| show(line));
        if shown < lines.len() {
            let rest = format!("... {} more lines, {} octets in all", lines.len() - shown, octets.len());
            self.screen.line(format!("   {}", self.screen.paint(Paint::Dim, rest)));
        }
    }

    /// `rcpt_ok accepted: rcpthosts line 3: here.example   [rcpt, config/plugins line 7, 12 us]`
    fn told(&self, decision: &Decision) -> String {
        let (paint, verb) = verb(decision);
        let why = if decision.evidence.is_empty() { decision.text.clone() } else { decision.evidence.join("; ") };
        let why = if why.is_empty() { why } else { format!(": {}", harmless(&why)) };
        let place = format!("[{}, {}, {}]", decision.hook, decision.origin, time(decision.took));
        let head = format!("{} {}", self.screen.paint(Paint::Bold, &*decision.plugin), self.screen.paint(paint, verb));
        format!("{head}{why}  {}", self.screen.paint(Paint::Dim, place))
    }
}

impl Witness for Conversation {
    fn step(&mut self, _said: &str, reply: &Reply, decisions: &[Decision]) {
        let said = self.client();
        self.refusals += u32::from(reply.code >= 400);
        if self.json {
            self.screen.json(&Step::of(&said, reply, decisions));
        } else {
            self.show(&said, reply, decisions);
        }
        for decision in decisions.iter().filter(|decision| decision.verdict == "queued") {
            let line = self.lines.iter().find(|(origin, _)| **origin == *decision.origin);
            self.queued.push(Queued {
                plugin: decision.plugin.to_string(),
                line: decision.origin.to_string(),
                line_text: line.map_or_else(|| decision.plugin.to_string(), |(_, text)| text.clone()),
                id: decision.queue_id.clone(),
                text: decision.text.clone(),
            });
        }
    }
}

/// Whether a decision is what a refusal rests on.
fn refused(decision: &Decision) -> bool {
    matches!(decision.verdict, "deny" | "error") && decision.withheld.is_none()
}

/// What a plugin did, in a word.
fn verb(decision: &Decision) -> (Paint, &'static str) {
    match decision.verdict {
        "accept" => (Paint::Green, "accepted"),
        "vouch" => (Paint::Green, "vouched for it"),
        "queued" => (Paint::Green, "took the mail"),
        "answer" => (Paint::Green, "answered"),
        "deny" => match decision.withheld {
            Some(Withheld::Observed) => (Paint::Yellow, "would have refused (observe)"),
            Some(Withheld::Delayed) => (Paint::Yellow, "waits (delay_deny)"),
            None => (Paint::Red, "refused"),
        },
        "skip" => (Paint::Dim, "skipped"),
        "error" => (Paint::Red, "is in trouble, and so the client was deferred"),
        "error, declined" => (Paint::Yellow, "is in trouble, and was passed over"),
        _ => (Paint::Dim, "declined"),
    }
}

fn how(ended: Ended) -> &'static str {
    match ended {
        Ended::Quit => "quit",
        Ended::EndOfInput => "the client's last word was not QUIT",
        Ended::Lost => "in the middle of something",
        Ended::TimedOut => "a time limit",
        Ended::Terminated => "a signal",
        Ended::Refused => "hung up, refused",
        Ended::Limit => "hung up, a limit was reached",
    }
}

/// `12 us`, `3.4 ms`, `1.2 s`.
fn time(took: Duration) -> String {
    match took.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        micros @ 1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        micros => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// A step as JSON.
#[derive(Serialize)]
struct Step<'a> {
    event: &'static str,
    /// What the client sent; line ends as they were, what is not UTF-8 replaced.
    client: String,
    client_octets: usize,
    code: u16,
    enhanced: Option<String>,
    reply: &'a [String],
    decisions: Vec<Told<'a>>,
}

/// A decision as JSON.
#[derive(Serialize)]
struct Told<'a> {
    plugin: &'a str,
    hook: &'static str,
    line: &'a str,
    verdict: &'static str,
    text: &'a str,
    evidence: &'a [String],
    withheld: bool,
    /// Withheld, and given later.
    delayed: bool,
    queue_id: Option<&'a str>,
    us: u64,
}

impl<'a> Step<'a> {
    fn of(said: &[Vec<u8>], reply: &'a Reply, decisions: &'a [Decision]) -> Self {
        let said = said.concat();
        let told = |decision: &'a Decision| Told {
            plugin: &decision.plugin,
            hook: decision.hook,
            line: &decision.origin,
            verdict: decision.verdict,
            text: &decision.text,
            evidence: &decision.evidence,
            withheld: decision.withheld.is_some(),
            delayed: decision.withheld == Some(Withheld::Delayed),
            queue_id: decision.queue_id.as_deref(),
            us: micros(decision.took),
        };
        Self {
            event: "step",
            client: String::from_utf8_lossy(&said[..said.len().min(JSON_OCTETS_MAX)]).into_owned(),
            client_octets: said.len(),
            code: reply.code,
            enhanced: reply.enhanced.map(|enhanced| enhanced.to_string()),
            reply: &reply.lines,
            decisions: decisions.iter().map(told).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let rows = [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.0 ms"),
            (999_999, "999.9 ms"),
            (1_000_000, "1.0 s"),
            (61_250_000, "61.2 s"),
        ];
        for (us, text) in rows {
            assert_eq!(time(Duration::from_micros(us)), text);
        }
    }
}
