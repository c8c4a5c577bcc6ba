//! Whether `lib.rs` is a true map: a room uses only those before it, and every room stands in the map's table.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Backends stand beside plugins: neither uses the other.
const BESIDE: [(&str, &str); 2] = [("plugins", "queue"), ("queue", "plugins")];

#[test]
fn a_room_uses_only_rooms_before_it() {
    let rooms = rooms();
    let place = |room: &str| rooms.iter().position(|name| name == room);
    let mut breaches = Vec::new();
    for (room, path) in files() {
        let text = fs::read_to_string(&path).unwrap();
        // Tests at a file's foot may look anywhere.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        for used in used(&text) {
            let allowed = place(&used) <= place(&room) && !BESIDE.contains(&(&*room, &*used));
            if place(&used).is_some() && !allowed {
                breaches.push(format!("{}: {room} uses {used}", path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_map_shows_every_room_in_its_order() {
    let map = fs::read_to_string(source().join("lib.rs")).unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [")?.split_once(" | "));
    let shown: Vec<String> = rows
        .flat_map(|(names, _)| names.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(shown, rooms(), "the table of src/lib.rs, and its modules");
    let there: BTreeSet<String> = files().into_iter().map(|(room, _)| room).collect();
    assert_eq!(there, rooms().into_iter().collect(), "files in src, and the modules of src/lib.rs");
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms, as lib.rs declares them.
fn rooms() -> Vec<String> {
    let map = fs::read_to_string(source().join("lib.rs")).unwrap();
    map.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned())).collect()
}

/// Every source file with its room.
fn files() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut open = vec![source()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let inside = path.strip_prefix(source()).unwrap().to_owned();
            let first = inside.iter().next().unwrap().to_str().unwrap();
            let room = first.strip_suffix(".rs").unwrap_or(first).to_owned();
            if room != "lib" && room != "main" {
                found.push((room, path));
            }
        }
    }
    found
}

/// The names after `crate::`.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            // `use crate::{plugins, queue};`
            let list = rest.strip_prefix('{').and_then(|list| Some(list.split_once('}')?.0));
            for name in list.map_or(vec![rest], |list| list.split(", ").collect()) {
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                names.insert(name[..end].to_owned());
            }
        }
    }
    names
}
