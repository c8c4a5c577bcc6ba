//! The files of the directory: whether each has a meaning, can be read, and is nobody else's to read or write.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{self, ChainLine, known, nearest, same_name};
use crate::setup::{Found, Setup};

use super::{Findings, Grade};

/// Directories that are meant to be ones.
const DIRECTORIES: [&str; 4] = ["plugins.d", "ssl", "dkim", "var"];
/// Files with passwords.
const SECRETS: [&str; 2] = ["flat_auth_pw", "vpopmail_mysql_pass"];
/// Lists that may be maps; those in qmail's control directory are read too.
const MAPS: [&str; 3] = [ALIASES, "morercpthosts", "morerelayclients"];
/// The one whose list counts if the map was not made of it as it is now.
const ALIASES: &str = "aliases";
/// How deep we look for files below `plugins.d`, `ssl` and `dkim`.
const DEPTH_MAX: usize = 4;

/// Checks the directory's files, and those below it that have a place there.
pub(super) fn check(setup: &Setup, chain: Option<&str>, findings: &mut Findings) {
    let dir = &setup.dir;
    let mut names: Vec<String> = dir.names().map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let mut read = BTreeSet::new();
    for name in &names {
        if let Some(meaning) = known::known(name) {
            read_it(setup, name, meaning, chain, &mut read, findings);
        }
    }
    for name in &names {
        if known::known(name).is_none() {
            unknown(setup, name, &read, findings);
        }
    }
    for map in MAPS.iter().filter(|map| !names.contains(&format!("{map}.cdb"))) {
        whole(setup, map, findings);
    }
    modes(dir.path(), &names, findings);
    behind(setup, &names, findings);
    if let Some(plugins_dir) = setup.plugins_dir() {
        settings(setup, plugins_dir, findings);
    }
}

/// Reads a file that has a meaning, whether or not anything asks for it.
fn read_it(
    setup: &Setup,
    name: &str,
    meaning: &str,
    chain: Option<&str>,
    read: &mut BTreeSet<PathBuf>,
    findings: &mut Findings,
) {
    let path = setup.dir.path().join(name);
    if DIRECTORIES.contains(&name) {
        return;
    }
    if let Some(map) = name.strip_suffix(".cdb") {
        return whole(setup, map, findings);
    }
    let survey = setup.dir.survey(name);
    read.extend(survey.files.iter().filter_map(|file| file.canonicalize().ok()));
    survey.faults.into_iter().for_each(|fault| findings.fault(fault));
    if meaning.contains("not used") {
        findings.file(Grade::Note, &path, 0, meaning);
    }
    let other = name.strip_prefix("plugins.").filter(|other| Some(*other) != chain);
    if let Some(other) = other {
        findings.file(Grade::Note, &path, 0, format!("another chain: check it with --chain {other}"));
    } else if name == "plugins" && chain.is_some() {
        findings.file(Grade::Note, &path, 0, "another chain: check it without --chain");
    }
}

/// Whether a map can be read to its end, and is the one that belongs to its list.
fn whole(setup: &Setup, name: &str, findings: &mut Findings) {
    let map = match setup.dir.map(name) {
        Ok(Some(map)) => map,
        Ok(None) => return,
        Err(error) => return findings.fault(error),
    };
    if let Err(error) = map.verify() {
        let text = error.to_string();
        let text = text.strip_prefix(&format!("{}: ", map.path().display())).unwrap_or(&text);
        return findings.file(Grade::Error, map.path(), 0, text);
    }
    if name == ALIASES && matches!(setup.dir.compiled(name), Ok(None)) {
        let text = format!("{name}.cdb does not belong to {name} as it is now: run postern compile {name}");
        findings.file(Grade::Warning, map.path(), 0, text);
    }
}

/// A file that nobody reads, unless another file or a plugin's line names it.
fn unknown(setup: &Setup, name: &str, read: &BTreeSet<PathBuf>, findings: &mut Findings) {
    let path = setup.dir.path().join(name);
    let included = path.canonicalize().is_ok_and(|path| read.contains(&path));
    let names_it = |line: &ChainLine| {
        line.arguments.iter().any(|word| setup.dir.path().join(word) == path || word.rsplit('/').next() == Some(name))
    };
    // A list of files, whose form is not ours.
    let excluding = setup.dir.list("greylist_exclude_files").unwrap_or_default();
    let excluding = excluding.iter().any(|listed| setup.dir.path().join(&listed.text) == path);
    if name.starts_with('.') || included || excluding || setup.lines.iter().chain(&setup.logging).any(names_it) {
        return;
    }
    match nearest(name, known::KNOWN.iter().map(|(known, _)| *known)) {
        Some(nearest) => {
            let text = format!("a file that nobody reads (did you mean {nearest:?}?)");
            findings.file(Grade::Warning, &path, 0, text);
        }
        None => findings.file(Grade::Note, &path, 0, "a file that nobody reads"),
    }
}

/// What every user of the machine may read or write.
fn modes(dir: &Path, names: &[String], findings: &mut Findings) {
    let mut secrets: Vec<PathBuf> = SECRETS.iter().map(|name| dir.join(name)).collect();
    secrets
        .extend(below(&dir.join("ssl"), DEPTH_MAX).into_iter().filter(|path| path.extension() == Some("key".as_ref())));
    secrets.extend(below(&dir.join("dkim"), DEPTH_MAX).into_iter().filter(|path| path.ends_with("private")));
    for path in &secrets {
        if let Some(mode) = mode(path).filter(|mode| mode & 0o004 != 0) {
            let text = format!("a secret that every user may read (mode {mode:03o}): chmod o= it");
            findings.file(Grade::Warning, path, 0, text);
        }
    }
    let known = names.iter().filter(|name| known::known(name).is_some()).map(|name| dir.join(name));
    for path in known.chain([dir.to_path_buf()]) {
        // In a directory with the sticky bit others can only add.
        if let Some(mode) = mode(&path).filter(|mode| mode & 0o002 != 0) {
            let text = format!("every user may write to it (mode {mode:03o}): chmod o-w it");
            findings.file(Grade::Warning, &path, 0, text);
        }
    }
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
}

/// Names that are not here, but in qmail's control directory behind.
fn behind(setup: &Setup, names: &[String], findings: &mut Findings) {
    for (name, meaning) in known::KNOWN {
        if !names.iter().any(|here| here == name) && setup.dir.exists(name) {
            let text = format!("read ({meaning}), for there is no {name} in {}", setup.dir.path().display());
            if let Some(path) = setup.dir.survey(name).files.first() {
                findings.file(Grade::Note, path, 0, text);
            }
        }
    }
}

/// The plugins' TOML files: whether each has a plugin, and is TOML.
fn settings(setup: &Setup, plugins_dir: &Path, findings: &mut Findings) {
    for path in below(plugins_dir, DEPTH_MAX) {
        let label = path.strip_prefix(plugins_dir).ok().and_then(|path| path.to_str()?.strip_suffix(".toml"));
        let Some(label) = label else {
            findings.file(Grade::Note, &path, 0, "a file that nobody reads: its name is not PLUGIN.toml");
            continue;
        };
        let (name, instance) = match label.split_once(':') {
            Some((name, number)) => (name, number.parse().ok()),
            None => (label, None),
        };
        match setup.find(name) {
            Found::Entry(entry) if entry.name == name => {
                if let Err(error) = config::plugin_file(plugins_dir, name, instance) {
                    findings.fault(error);
                }
            }
            Found::Entry(entry) => {
                let text = format!("a file that nobody reads: that plugin's is {}.toml", entry.name);
                findings.file(Grade::Warning, &path, 0, text);
            }
            Found::Unknown(Some(nearest)) if !same_name(nearest, name) => {
                let text = format!("a file that nobody reads: there is no such plugin (did you mean {nearest:?}?)");
                findings.file(Grade::Warning, &path, 0, text);
            }
            Found::Retired(_) | Found::Planned(_) | Found::Unknown(_) => {
                findings.file(Grade::Warning, &path, 0, "a file that nobody reads: there is no such plugin");
            }
        }
    }
}

/// The files below a directory, sorted; none if there is no such directory.
fn below(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let deeper = |path: PathBuf| match path.is_dir() {
        true if depth > 1 => below(&path, depth - 1),
        true => Vec::new(),
        false => vec![path],
    };
    paths.into_iter().filter(|path| !hidden(path)).flat_map(deeper).collect()
}
