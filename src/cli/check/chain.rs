//! The lines of `plugins` and `logging`: whether each has a plugin that can be built and works, and whether their order makes
//! sense.

use std::path::Path;

use crate::config::{ChainLine, same_name};
use crate::hook::{Entry, Hook, Kind, Link, Override, Role, Ruling};
use crate::setup::{Found, Setup};
use crate::world::World;

use super::{Finding, Findings, Grade};

/// Hooks at which the message's content is judged or changed.
const CONTENT: [Hook; 5] =
    [Hook::DataHeadersEnd, Hook::DataPostHeaders, Hook::ReceivedLine, Hook::DataPost, Hook::QueuePre];

/// Hooks at which count_denies closes the connection, if it is asked before whoever refuses there.
const COUNTED: [Hook; 3] = [Hook::Mail, Hook::Rcpt, Hook::Data];

/// Hooks before the recipients.
const EARLY: [Hook; 5] = [Hook::PreConnection, Hook::Connect, Hook::Helo, Hook::Ehlo, Hook::Mail];

/// Plugins that work only before others: who, whether another is one of those, and what comes of it behind one.
const FIRST: [(&str, fn(&Entry) -> bool, &str); 8] = [
    ("count_denies", |other| asked(other, &COUNTED), "and is not asked once that has refused: list it first"),
    // Both speak at connect, and a client that is refused is not made immune.
    ("relay", |other| other.name == "dnsbl", "which refuses clients that this one would spare"),
    ("dns_whitelist_soft", |other| other.name == "dnsbl", "which refuses clients that this one would spare"),
    ("whitelist", judges_early, "which rules on those whom this one would spare: list it before"),
    (
        "client_options",
        |other| asked(other, &[Hook::PreConnection, Hook::Connect]),
        "which has ruled before its options come: list it first",
    ),
    ("aliases", is_greylisting, "which looks at the options of recipients that this one gives: list it before"),
    ("user_config", is_greylisting, "which looks at the options of recipients that this one gives: list it before"),
    (
        "relay",
        |other| other.name == "limit",
        "which counts clients that may relay as if they might not: list it before",
    ),
];

fn asked(entry: &Entry, hooks: &[Hook]) -> bool {
    entry.kind == Kind::Plugin && entry.hooks.iter().any(|hook| hooks.contains(hook))
}

/// Whether it may refuse before the recipients, and spares the immune. Those named here refuse nobody.
fn judges_early(entry: &Entry) -> bool {
    let harmless = entry.name == "dns_whitelist_soft" || entry.name.starts_with("ident/");
    entry.spares_immune && asked(entry, &EARLY) && !harmless
}

fn is_greylisting(entry: &Entry) -> bool {
    entry.name == "greylisting"
}

/// A line and its plugin.
type Known<'a> = (&'a ChainLine, &'static Entry);

/// Checks each line, then what they are together.
pub(super) fn check(setup: &Setup, chain: Option<&str>, world: &World, findings: &mut Findings) {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for line in &setup.lines {
        match judge(setup, line, world, findings) {
            Judged::Known(entry) => known.push((line, entry)),
            Judged::Unknown => unknown.push(line),
            Judged::Retired => {}
        }
    }
    for line in &setup.logging {
        if let Judged::Known(entry) = judge(setup, line, world, findings)
            && entry.kind != Kind::Logger
        {
            findings.line(Grade::Warning, line, "this is no logger: it is asked as if it stood last in plugins");
        }
    }
    overrides(setup, world, findings);
    duplicates(&setup.lines, findings);
    duplicates(&setup.logging, findings);
    order(&known, findings);
    complete(setup, chain, &known, &unknown, findings);
}

/// What one plugin may set otherwise in others: whether they take it.
fn overrides(setup: &Setup, world: &World, findings: &mut Findings) {
    let configures =
        |line: &&ChainLine| matches!(setup.find(&line.name), Found::Entry(entry) if entry.role == Role::Configures);
    let Some(line) = setup.lines.iter().find(configures) else { return };
    let mut links = setup.build(world).chain;
    // What is wrong with them is told.
    let faulty: Vec<&ChainLine> = setup.lines.iter().filter(|line| setup.link(line, world).is_err()).collect();
    let wanted: Vec<Override> = links.iter().flat_map(|link| link.plugin.overrides()).collect();
    for one in &wanted {
        let mut known = faulty.iter().any(|line| answers_to(setup, line, &one.plugin));
        for link in links.iter_mut().filter(|link| link.answers_to(&one.plugin)) {
            known = true;
            if let Err(error) = link.configure(std::slice::from_ref(one), world) {
                findings.fault(error);
            }
        }
        if !known {
            let text =
                format!("{}: {} is not in the chain: {}={} is for nobody", one.origin, one.plugin, one.key, one.value);
            findings.line(Grade::Warning, line, text);
        }
    }
}

/// As the line's link would, if it could be built.
fn answers_to(setup: &Setup, line: &ChainLine, name: &str) -> bool {
    let mut names = vec![line.name.as_str()];
    if let Found::Entry(entry) = setup.find(&line.name) {
        names.push(entry.name);
        names.extend(entry.aliases);
    }
    same_name(&line.label(), name) || names.iter().any(|known| same_name(known, name))
}

enum Judged {
    Known(&'static Entry),
    Retired,
    /// We have no such plugin, or not yet.
    Unknown,
}

/// One line: which plugin it names, whether that can be built, and whether what it stands on is there.
fn judge(setup: &Setup, line: &ChainLine, world: &World, findings: &mut Findings) -> Judged {
    if line.looks_commented() {
        let text = "a # in a line begins no comment: it and what follows are arguments of the plugin";
        findings.line(Grade::Warning, line, text);
    }
    let entry = match setup.find(&line.name) {
        Found::Entry(entry) => entry,
        Found::Retired(reason) => {
            findings.line(Grade::Warning, line, format!("retired, the line does nothing: {reason}"));
            return Judged::Retired;
        }
        Found::Planned(_) | Found::Unknown(_) => {
            if let Err(error) = setup.link(line, world) {
                findings.fault(error);
            }
            return Judged::Unknown;
        }
    };
    if !same_name(entry.name, &line.name) {
        findings.line(Grade::Note, line, format!("an old name of {}", entry.name));
    }
    match setup.link(line, world) {
        Ok(Some(mut link)) => ask(&mut link, line, world, findings),
        Ok(None) => {}
        Err(error) => findings.fault(error),
    }
    Judged::Known(entry)
}

/// Asks the plugin itself, as the chain would: within its time, and a panic is a fault like any other.
fn ask(link: &mut Link, line: &ChainLine, world: &World, findings: &mut Findings) {
    let (mut faults, mut notes) = (Vec::new(), Vec::new());
    let asked = link.put(world, None, |plugin| {
        notes = plugin.notes();
        faults = plugin.check();
        Ok(Ruling::decline())
    });
    if let Err(trouble) = asked {
        faults.push(trouble.0);
    }
    for note in notes {
        findings.line(Grade::Note, line, note);
    }
    for fault in faults {
        // Most name the list's own file and line.
        match located(&fault, &world.config.path().display().to_string()) {
            Some((file, number, text)) => findings.plugin(Grade::Error, &line.label(), Path::new(file), number, text),
            None => findings.line(Grade::Error, line, fault),
        }
    }
}

/// Takes `DIR/rcpthosts line 3: what is wrong` apart; `None` if it is no such text.
fn located<'a>(fault: &'a str, dir: &str) -> Option<(&'a str, usize, &'a str)> {
    let below = fault.strip_prefix(dir)?;
    let (place, text) = fault.split_at(dir.len() + below.find(": ")?);
    let text = text.strip_prefix(": ")?;
    match place.rsplit_once(" line ") {
        Some((file, number)) => Some((file, number.parse().ok()?, text)),
        None => Some((place, 0, text)),
    }
}

fn duplicates(lines: &[ChainLine], findings: &mut Findings) {
    for (index, line) in lines.iter().enumerate() {
        let same = |earlier: &&ChainLine| same_name(&earlier.name, &line.name) && earlier.instance == line.instance;
        if let Some(earlier) = lines[..index].iter().find(same) {
            let text = format!(
                "stands on line {} already, so it is asked twice; a further instance is written {}:1",
                earlier.line, line.name
            );
            findings.line(Grade::Warning, line, text);
        }
    }
}

/// What comes before what.
fn order(known: &[Known<'_>], findings: &mut Findings) {
    let [mut queue, mut rcpt_ok]: [Option<&ChainLine>; 2] = [None; 2];
    for (index, (line, entry)) in known.iter().copied().enumerate() {
        if entry.kind == Kind::Logger {
            findings.line(Grade::Note, line, "loggers belong in the file logging; here it works all the same");
        }
        for (_, is_late, why) in FIRST.iter().filter(|(name, ..)| *name == entry.name) {
            let late = known[..index].iter().find(|(_, other)| other.name != entry.name && is_late(other));
            if let Some((earlier, _)) = late {
                let text = format!("stands after {} on line {}, {why}", earlier.label(), earlier.line);
                findings.line(Grade::Warning, line, text);
            }
        }
        if let Some(first) = queue {
            if entry.kind == Kind::Queue {
                let text =
                    format!("asked only if {} on line {} has no opinion of a message", first.label(), first.line);
                findings.line(Grade::Warning, line, text);
            } else if entry.hooks.iter().any(|hook| CONTENT.contains(hook)) {
                let text = format!(
                    "stands after {} on line {}, but is asked before it: content is judged before it is queued",
                    first.label(),
                    first.line
                );
                findings.line(Grade::Note, line, text);
            }
        }
        // rcpt_ok ends the asking of plugins about every recipient, with yes or no.
        if let Some(decider) = rcpt_ok.filter(|_| entry.kind == Kind::Plugin && entry.hooks.contains(&Hook::Rcpt)) {
            let text =
                format!("never asked about a recipient: rcpt_ok on line {} decides; list it before", decider.line);
            findings.line(Grade::Warning, line, text);
        }
        if entry.kind == Kind::Queue {
            queue = queue.or(Some(line));
        }
        if entry.name == "rcpt_ok" {
            rcpt_ok = rcpt_ok.or(Some(line));
        }
    }
}

/// Whether the chain can take any mail at all. With lines that we do not know nobody can tell.
fn complete(setup: &Setup, chain: Option<&str>, known: &[Known<'_>], unknown: &[&ChainLine], findings: &mut Findings) {
    let name = chain.map_or_else(|| "plugins".to_owned(), |chain| format!("plugins.{chain}"));
    // Without the file that is the fault, and told.
    if !setup.dir.exists(&name) || !unknown.is_empty() {
        return;
    }
    // Nor can anybody tell with lines that could not be read.
    let files = setup.dir.survey(&name).files;
    let of_chain = |finding: &Finding| finding.file.as_ref().is_some_and(|file| files.contains(file));
    if findings.0.iter().any(|known| known.grade == Grade::Error && known.plugin.is_none() && of_chain(known)) {
        return;
    }
    let file = setup.dir.path().join(name);
    let queues: Vec<_> = known.iter().filter(|(_, entry)| entry.kind == Kind::Queue).collect();
    if let [(line, _), ..] = queues[..]
        && queues.iter().all(|(_, entry)| entry.name == "queue/discard")
    {
        let text = "no other queue line: every message is thrown away, and its sender told that it was taken (250)";
        findings.line(Grade::Warning, line, text);
    }
    if !known.iter().any(|(_, entry)| entry.kind == Kind::Queue) {
        let text = "no queue line: every message is deferred (451); queue/maildir DIR is one";
        findings.file(Grade::Error, &file, 0, text);
    }
    if !known.iter().any(|(_, entry)| entry.vouches) {
        let text = "nothing vouches for recipients: every RCPT is deferred (450); rcpt_ok takes those of rcpthosts";
        findings.file(Grade::Error, &file, 0, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_texts() {
        let rows = [
            ("config/rcpthosts line 3: \"a b\" is no domain", Some(("config/rcpthosts", 3, "\"a b\" is no domain"))),
            ("config/rcpthosts: cannot be read: gone", Some(("config/rcpthosts", 0, "cannot be read: gone"))),
            ("config/a line line 7: x", Some(("config/a line", 7, "x"))),
            ("config/a line x: y", None),
            ("elsewhere/rcpthosts line 3: x", None),
            ("/proc/loadavg: cannot be read", None),
            ("config", None),
            ("", None),
        ];
        for (fault, place) in rows {
            assert_eq!(located(fault, "config"), place, "{fault}");
        }
    }
}
