//! Whether the catalogue is true: the sets of names that belong to a plugin are the same, what is shipped can be built, and no
//! plugin reaches the outside but through its world.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use postern::config::same_name;
use postern::hook::{Entry, Kind, OnError};
use postern::setup::{self, Options, PLANNED, RETIRED};
use postern::world::World;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A plugin that reads its settings into this takes none.
const NO_SETTINGS: &str = "struct Nothing {}";

fn takes_settings(entry: &Entry) -> bool {
    let file = entry.name.replace('-', "_");
    let file = if entry.kind == Kind::Queue { file } else { format!("plugins/{file}") };
    let path = root().join("src").join(format!("{file}.rs"));
    !fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).contains(NO_SETTINGS)
}

/// Files below a directory, sorted.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in common::store::names(dir) {
        match path.is_dir() {
            true => found.extend(below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The names that have a file in plugins.d.
fn settings_files() -> BTreeSet<String> {
    let dir = root().join("plugins.d");
    let name = |path: PathBuf| {
        let path = path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
        path.strip_suffix(".toml").unwrap_or_else(|| panic!("plugins.d/{path} is no .toml")).to_owned()
    };
    below(&dir).into_iter().map(name).collect()
}

#[test]
fn a_name_means_one_plugin() {
    let mut names: Vec<&str> = Vec::new();
    for entry in setup::catalogue() {
        names.push(entry.name);
        names.extend(entry.aliases);
    }
    names.extend(RETIRED.iter().chain(PLANNED).map(|(name, _)| *name));
    for (index, name) in names.iter().enumerate() {
        let earlier = names[..index].iter().find(|earlier| same_name(earlier, name));
        assert!(earlier.is_none(), "{name} stands twice: names, aliases, RETIRED and PLANNED of src/setup.rs");
    }
}

#[test]
fn every_plugin_with_settings_ships_them() {
    let with: BTreeSet<String> =
        setup::catalogue().filter(|entry| takes_settings(entry)).map(|entry| entry.name.to_owned()).collect();
    assert_eq!(with, settings_files(), "plugins with settings, and plugins.d/NAME.toml");
    for entry in setup::catalogue() {
        assert_eq!(entry.settings, takes_settings(entry), "{}: without_settings", entry.name);
    }
}

#[test]
fn every_plugin_has_a_manual() {
    for entry in setup::catalogue() {
        let manual = entry.manual();
        assert!(entry.summary().ends_with('.') && entry.summary().len() > 20, "{}: {:?}", entry.name, entry.summary());
        // The line for config/plugins, and every name by which it is called.
        let shows = |name: &str| {
            let plain = |text: &str| text.replace('-', "_");
            plain(&manual).contains(&plain(name))
        };
        assert!(manual.contains("```text\n"), "{}: the manual shows no line for config/plugins", entry.name);
        assert!(shows(entry.name), "{}: the manual does not name it", entry.name);
        for alias in entry.aliases {
            assert!(shows(alias), "{}: the manual does not name {alias}", entry.name);
        }
    }
}

#[test]
fn every_plugin_has_dialogs() {
    let without: Vec<&str> = setup::catalogue()
        .filter(|entry| entry.kind != Kind::Logger)
        .map(|entry| entry.name)
        .filter(|name| !root().join("tests/dialogs").join(name.replace('/', "-")).is_dir())
        .collect();
    assert!(without.is_empty(), "no folder in tests/dialogs: {without:?}");
}

#[test]
fn the_readme_lists_every_plugin() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else {
        common::skip("there is no README.md");
        return;
    };
    let section = readme.split("\n## Plugins\n").nth(1).expect("README.md has a section Plugins");
    let section = section.split("\n## ").next().unwrap_or_default();
    if section.contains("PLUGINTABLE") {
        common::skip("README.md has no table of plugins yet");
        return;
    }
    fn row(line: &str) -> Option<(&str, &str)> {
        line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")
    }
    let owned = |(name, summary): (&str, &str)| (name.to_owned(), summary.to_owned());
    let listed: BTreeSet<(String, String)> = section.lines().filter_map(row).map(owned).collect();
    let have: BTreeSet<(String, String)> =
        setup::catalogue().map(|entry| (entry.name, entry.summary())).map(owned).collect();
    assert_eq!(listed, have, "rows of README.md, and names and summaries of the catalogue");
}

#[test]
fn the_readme_names_those_that_are_passed_over_when_they_fail() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let sentence = readme.split("are passed over instead").nth(1).and_then(|rest| rest.split("changes that").next());
    let sentence = sentence.expect("README.md says which plugins are passed over");
    let wrong: Vec<&str> = setup::catalogue()
        .filter(|entry| (entry.on_error == OnError::Decline) != sentence.contains(&format!("`{}`", entry.name)))
        .map(|entry| entry.name)
        .collect();
    assert_eq!(wrong, Vec::<&str>::new(), "in README.md: {sentence}");
}

#[test]
fn the_manual_of_karma_names_those_that_give_points() {
    let manual = setup::catalogue().find(|entry| entry.name == "karma").unwrap().manual();
    for name in setup::catalogue().map(|entry| entry.name).filter(|name| *name != "karma") {
        let source = fs::read_to_string(root().join(format!("src/plugins/{name}.rs"))).unwrap_or_default();
        let (gives, told) = (source.contains("Change::AdjustKarma("), manual.contains(&format!("\n| `{name}` | ")));
        assert_eq!(gives, told, "{name}: whether it gives points, and whether karma's table says so");
    }
}

/// A configuration with one line, and the plugin's shipped file with these lines of it live.
fn build(name: &str, live: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let dir = TempDir::new().unwrap();
    let shipped = fs::read_to_string(root().join("plugins.d").join(format!("{name}.toml"))).unwrap();
    let line = |line: &str| match key(line) {
        Some(key) if live(key) => format!("{}\n", &line[1..]),
        // A table's head.
        None if line.starts_with("#[") && live(&line[1..]) => format!("{}\n", &line[1..]),
        _ => format!("{line}\n"),
    };
    let file = dir.path().join("plugins.d").join(format!("{name}.toml"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, shipped.lines().map(line).collect::<String>()).unwrap();
    // For those that leave refusals to it.
    fs::write(dir.path().join("plugins"), format!("{name}\nnaughty:9\n")).unwrap();
    let options = Options { config: Some(dir.path().to_path_buf()), ..Options::default() };
    let texts = |faults: Vec<postern::config::ConfigError>| {
        faults.into_iter().flat_map(|fault| fault.all()).map(|fault| fault.to_string()).collect::<Vec<_>>().join("\n")
    };
    let setup = setup::read(&options, &[]).map_err(texts)?;
    let world = World::real(Rc::clone(&setup.dir));
    let faults = setup.build(&world).faults;
    if faults.is_empty() { Ok(()) } else { Err(texts(faults)) }
}

/// The key of a line that holds one, commented out: `#hops_max = 100`.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
    (!key.is_empty() && !key.contains(' ')).then_some(key)
}

#[test]
fn what_is_shipped_as_a_comment_can_be_set() {
    let mut faults = String::new();
    for name in settings_files() {
        let text = fs::read_to_string(root().join("plugins.d").join(format!("{name}.toml"))).unwrap();
        let keys: Vec<&str> = text.lines().filter_map(key).collect();
        assert!(!keys.is_empty(), "plugins.d/{name}.toml holds no key");
        let live = text.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(live, None, "plugins.d/{name}.toml sets something");
        if let Err(fault) = build(&name, &|_| true) {
            faults.push_str(&format!("{name}, all keys: {fault}\n"));
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn plugins_reach_the_outside_only_through_their_world() {
    // Addresses are values and reach nothing.
    const HARMLESS: [&str; 4] =
        ["std::net::IpAddr", "std::net::SocketAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr"];
    const FORBIDDEN: [&str; 9] = [
        "std::net",
        "std::process",
        "std::env",
        "std::os::unix::net",
        "SystemTime::now",
        "Instant::now",
        "thread::",
        " libc::",
        " nix::",
    ];
    let mut breaches = Vec::new();
    for dir in ["src/plugins", "src/queue"] {
        for path in below(&root().join(dir)) {
            let text = fs::read_to_string(&path).unwrap();
            // The tests at a file's foot may do as they like.
            let text = text.split("#[cfg(test)]\n").next().unwrap_or_default();
            for (index, line) in text.lines().enumerate() {
                // With a blank before it, so that a crate's name is told from the end of another word.
                let mut line = format!(" {}", line.trim_start());
                if line.starts_with(" //") {
                    continue;
                }
                let names = line.strip_prefix(" use std::net::{").and_then(|rest| rest.strip_suffix("};"));
                if names.is_some_and(|names| {
                    names.split(", ").all(|name| HARMLESS.contains(&&*format!("std::net::{name}")))
                }) {
                    continue;
                }
                HARMLESS.iter().for_each(|name| line = line.replace(name, ""));
                if let Some(word) = FORBIDDEN.iter().find(|word| line.contains(**word)) {
                    breaches.push(format!("{} line {}: {word}", path.display(), index + 1));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "not through the world:\n{}", breaches.join("\n"));
}
