//! What serving needs beside the chain: a name, a place for long messages, the store, servers of the DNS.

use crate::mail::{Spool, SpoolPlace};
use crate::setup::{Found, Setup};
use crate::world::World;
use crate::world::store::StoreSettings;

use super::{Findings, Grade};

/// Checks them.
pub(super) fn check(setup: &Setup, world: &World, findings: &mut Findings) {
    store(setup, world, findings);
    dns(setup, world, findings);
    let (dir, core) = (setup.dir.path(), &setup.core);
    for note in &core.notes {
        // They begin with their own place.
        findings.put(super::Finding {
            event: "finding",
            grade: Grade::Note,
            file: None,
            line: None,
            plugin: None,
            text: note.clone(),
        });
    }
    if !setup.dir.exists("me") {
        let text = format!("not there: our name is this machine's, {}", core.me);
        findings.file(Grade::Note, &dir.join("me"), 0, text);
    }
    // Longer messages go to a file without a name: try one.
    let place = SpoolPlace { threshold: 0, dir: core.spool_dir.clone() };
    if let Err(error) = Spool::new(place).write(b"postern check") {
        let text = format!("no message longer than size_threshold can be taken, no file can be made here: {error}");
        findings.file(Grade::Error, &core.spool_dir, 0, text);
    }
}

/// The store, if the configuration names one or a plugin needs it.
fn store(setup: &Setup, world: &World, findings: &mut Findings) {
    let named = setup.dir.exists("store");
    let mut found = setup.lines.iter().map(|line| setup.find(&line.name));
    if !named && !found.any(|found| matches!(found, Found::Entry(entry) if entry.stores)) {
        return;
    }
    if let Err(error) = StoreSettings::read(&setup.dir) {
        findings.fault(error);
    } else if let Err(error) = world.store.check() {
        let text = if named { error.to_string() } else { format!("not there, so it is the default: {error}") };
        findings.file(Grade::Error, &setup.dir.path().join("store"), 0, text);
    }
}

/// The DNS's servers, if a plugin of the chain asks them.
fn dns(setup: &Setup, world: &World, findings: &mut Findings) {
    if !setup.lines.iter().any(|line| matches!(setup.find(&line.name), Found::Entry(entry) if entry.asks_dns)) {
        return;
    }
    let named = setup.dir.exists("dns").then(|| setup.dir.path().join("dns"));
    for silent in world.dns.check() {
        let text = if named.is_some() { silent } else { format!("dns: {silent}") };
        findings.put(super::Finding {
            event: "finding",
            grade: Grade::Warning,
            file: named.clone(),
            line: None,
            plugin: None,
            text,
        });
    }
}
