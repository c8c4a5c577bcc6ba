//! What the subcommands for people write: lines on standard output, with colour only where a person looks.
//!
//! A reader that has gone away (`postern plugins | head -1`) is no error. Descriptor 1 is a client's when postern serves;
//! the subcommands never serve, so that here it is whoever ran them.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::smtp::escape::is_unsafe;

/// Standard output, and whether to paint there.
pub(super) struct Screen {
    colour: bool,
}

/// How a piece of text looks on a terminal (ECMA-48 SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// What matters.
    Bold,
    /// What can be passed over.
    Dim,
    /// Good.
    Green,
    /// To be looked at.
    Yellow,
    /// Bad.
    Red,
    /// What the client says.
    Cyan,
}

impl Screen {
    /// Paints if standard output is a terminal, unless `NO_COLOR` is set to anything (no-color.org) or `TERM` is `dumb`.
    pub(super) fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        Self { colour: io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb }
    }

    /// Writes a line.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        // Nobody is left to be told that it could not be written.
        let _ = writeln!(io::stdout(), "{}", text.as_ref());
    }

    /// Writes an object as a line of JSON.
    pub(super) fn json(&self, object: &impl Serialize) {
        // Ours hold only what can be written: strings, numbers, lists.
        if let Ok(text) = serde_json::to_string(object) {
            self.line(text);
        }
    }

    /// The text, painted.
    pub(super) fn paint(&self, paint: Paint, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Cyan => 36,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Writes a line of trouble on standard error, or on standard output where standard error was the same pipe (`2>&1 | less`)
/// and was closed for that reason.
pub(super) fn trouble(text: &str) {
    let _ = if crate::launch::stderr_usable() {
        writeln!(io::stderr(), "{text}")
    } else {
        writeln!(io::stdout(), "{text}")
    };
}

/// Text from outside, whole, without anything that could drive a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_is_for_terminals() {
        let (plain, painted) = (Screen { colour: false }, Screen { colour: true });
        assert_eq!(plain.paint(Paint::Red, "x"), "x");
        assert_eq!(painted.paint(Paint::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(painted.paint(Paint::Red, ""), "");
    }

    #[test]
    fn nothing_from_outside_drives_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\u{202e}c"), "a?[2Jb???c");
    }
}
