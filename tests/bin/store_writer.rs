//! Counts in a store, for tests/store.rs and the figures of the store: one line on standard output for each step that the
//! store has acknowledged.
//!
//! `store_writer CONFIG_DIR increment|update|put SPACE KEY TIMES [OCTETS]`; TIMES 0: until it is killed. `put` stores values of
//! OCTETS octets under KEY0, KEY1, ... The first error ends it, with status 1.
#![allow(clippy::print_stderr, missing_docs)]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use postern::config::ConfigDir;
use postern::world::{Key, StoreError, Value, World};

const DAY: Duration = Duration::from_secs(86_400);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, how, space, key, times, more @ ..] = &words[..] else {
        return ExitCode::from(100);
    };
    let Ok(config) = ConfigDir::open_with(Path::new(dir), None) else {
        return ExitCode::from(100);
    };
    let times: u64 = times.parse().unwrap_or(1);
    let octets: usize = more.first().and_then(|octets| octets.parse().ok()).unwrap_or(1);
    let world = World::real(Rc::new(config));
    for turn in (0..).take_while(|turn| times == 0 || *turn < times) {
        if let Err(error) = step(&world, how, space, key, turn, octets) {
            eprintln!("{error}");
            return ExitCode::from(1);
        }
        // One write, so that nothing waits in a buffer when we are killed.
        if std::io::stdout().write_all(b"+").is_err() {
            return ExitCode::from(2);
        }
        let _ = std::io::stdout().flush();
    }
    ExitCode::SUCCESS
}

fn step(world: &World, how: &str, space: &str, key: &str, turn: u64, octets: usize) -> Result<(), StoreError> {
    let (store, expires) = (&world.store, world.clock.now() + DAY);
    match how {
        "update" => {
            let add = |old: Option<&Value>| {
                let number: u64 = old.and_then(Value::text).and_then(|text| text.parse().ok()).unwrap_or(0);
                Some((Value::from((number + 1).to_string()), expires))
            };
            let mut add = add;
            store.update(&Key::new(space, key), &mut add).map(drop)
        }
        "put" => store.put(&Key::new(space, format!("{key}{turn}")), &"x".repeat(octets).into(), expires),
        _ => store.increment(&Key::new(space, key), 1, expires).map(drop),
    }
}
