//! `postern compile [NAME...]`: makes maps of long lists, which are then read at constant cost.

use std::os::unix::fs::MetadataExt;

use super::print::{Screen, trouble};
use super::{TROUBLE, WRONG};
use crate::config::{self, ConfigDir};
use crate::hook::entry::Map;
use crate::setup::{self, Options};

/// Make maps (cdb) of long lists
///
/// Writes NAME.cdb beside the list NAME of the configuration directory. A map is read at the same cost however long it is. That of aliases
/// says of what list it was made (size and time of change), and is left aside if the list is another now: nothing goes wrong if this was
/// forgotten, and check warns. What the list includes is not compared: compile anew after a change there. Of morercpthosts the map alone
/// is read.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 100 a list is wrong or there is none of that name; 111 it cannot be written."
)]
pub(super) struct Arguments {
    /// The lists (else all that are there)
    names: Vec<String>,
}

/// Every list of which a map can be made.
fn maps() -> impl Iterator<Item = &'static Map> {
    setup::catalogue().flat_map(|entry| entry.maps)
}

/// Makes them.
pub(super) fn run(arguments: &Arguments, options: &Options) -> u8 {
    let told = |text: &str| trouble(&format!("postern compile: {text}"));
    let path = config::find(options.config.as_deref(), &|name| std::env::var_os(name));
    let dir = match ConfigDir::open(&path) {
        Ok(dir) => dir,
        Err(error) => {
            told(&error.to_string());
            return WRONG;
        }
    };
    let names: Vec<&str> = maps().map(|map| map.name).collect();
    let unknown = arguments.names.iter().find(|name| !names.contains(&name.as_str()));
    if let Some(unknown) = unknown {
        told(&format!(
            "{}: no map is made of a list of that name, only of {}",
            super::print::harmless(unknown),
            names.join(", ")
        ));
        return WRONG;
    }
    let wanted = |map: &&Map| match arguments.names.is_empty() {
        true => dir.path().join(map.name).exists(),
        false => arguments.names.iter().any(|name| name == map.name),
    };
    let mut status = 0;
    let mut made = false;
    for map in maps().filter(wanted) {
        made = true;
        status = status.max(make(map, &dir, &told));
    }
    if !made {
        told(&format!("{}: there is none of {}", dir.path().display(), names.join(", ")));
        return WRONG;
    }
    status
}

fn make(map: &Map, dir: &ConfigDir, told: &dyn Fn(&str)) -> u8 {
    let list = dir.path().join(map.name);
    // Before it is read: if it changes meanwhile, the map is not of the list as it is then.
    let (mode, stamp) = match list.metadata().and_then(|found| Ok((found.mode() & 0o777, config::stamp(&list)?))) {
        Ok(found) => found,
        Err(error) => {
            told(&format!("{}: {error}", list.display()));
            return WRONG;
        }
    };
    let mut records = match (map.records)(dir) {
        Ok(records) => records,
        Err(error) => {
            error.all().iter().for_each(|error| told(&error.to_string()));
            return WRONG;
        }
    };
    let count = records.len();
    records.push((config::STAMP_KEY.to_owned(), stamp));
    let path = dir.path().join(format!("{}.cdb", map.name));
    if let Err(error) = config::cdb_writer::write(&path, &records, mode) {
        told(&format!("{}: {error}", path.display()));
        return TROUBLE;
    }
    Screen::new().line(format!("{}: {} records", path.display(), count));
    0
}
