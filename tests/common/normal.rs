//! What differs from run to run -> fixed words, so that expectations can be files.

use std::sync::LazyLock;

use regex_lite::Regex;

/// The session ids in a log: the first `[word]` of a line, if no address could be meant by it.
/// This is the only place that knows how the record shows an id.
pub fn session_ids(log: &str) -> Vec<String> {
    static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[([0-9A-Za-z_-]{6,64})\]").unwrap());
    let mut ids: Vec<String> =
        log.lines().filter_map(|line| ID.captures(line)).map(|found| found[1].to_owned()).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// `octets` with session ids as ID, names of files in a maildir as NAME, dates as DATE, seconds since 1970 as TIME and process ids as PID.
pub fn normal(octets: &[u8], log: &str) -> Vec<u8> {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        let date = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), {1,2}\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}";
        [
            // A maildir's file: SECONDS.MmicrosecondsPpidQcount.HOST.
            (Regex::new(r"\b1\d{9}\.M\d+P\d+Q\d+\.\S+").unwrap(), "NAME"),
            (Regex::new(date).unwrap(), "DATE"),
            (Regex::new(r"\b1\d{9}\b").unwrap(), "TIME"),
            (Regex::new(r"\b(qp|pid) \d+").unwrap(), "$1 PID"),
        ]
    });
    // One character an octet, there and back, so that octets which are no UTF-8 come through.
    let mut text: String = octets.iter().map(|&octet| char::from(octet)).collect();
    for id in session_ids(log) {
        text = text.replace(&id, "ID");
    }
    for (pattern, word) in RULES.iter() {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// Octets as lines to read: CR is `\r`, NUL is `\0`, a backslash is doubled, other odd octets are `\xNN`.
/// A last line without LF is followed by a line `\ no line end`.
pub fn readable(octets: &[u8]) -> String {
    let mut text = String::new();
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => text.push_str("\\r"),
                '\0' => text.push_str("\\0"),
                '\\' => text.push_str("\\\\"),
                '\n' | '\t' => text.push(c),
                c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|octet| text.push_str(&format!("\\x{octet:02x}")));
    }
    if !octets.is_empty() && !octets.ends_with(b"\n") {
        text.push_str("\n\\ no line end\n");
    }
    text
}

/// The lines in which two texts differ, `-` expected, `+` found, with a line of the common text around them.
/// Octets go through [`readable`] first.
pub fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut show = |mark: &str, lines: &[&str]| {
        lines.iter().for_each(|line| text.push_str(&format!("    {mark} {line}\n")));
    };
    show(" ", &old[head.saturating_sub(1)..head]);
    show("-", &old[head..old.len() - tail]);
    show("+", &new[head..new.len() - tail]);
    show(" ", &old[old.len() - tail..(old.len() - tail + 1).min(old.len())]);
    text
}
