//! As whom a configuration is tried: what root may read and write says nothing about the user that serves.

use nix::unistd::{Gid, Group, Uid, User, getgroups};

use crate::cli::serve::become_user;
use crate::setup::Setup;

use super::{Findings, Grade};

/// Becomes the user of the command line.
pub(in crate::cli) fn become_named(name: &str) -> Result<(), String> {
    let account = User::from_name(name).ok().flatten();
    match account.is_some_and(|account| account.uid == Uid::effective()) {
        true => Ok(()),
        false if Uid::effective().is_root() => become_user(name),
        false => Err(format!("--user {name}: only root can become another user")),
    }
}

/// Becomes the user of the configuration, unless the command line named one; tells as whom it is tried.
pub(super) fn become_configured(named: Option<&str>, setup: &Setup, findings: &mut Findings) {
    let file = setup.dir.path().join("user");
    let (root, configured) = (Uid::effective().is_root(), setup.core.user.as_deref());
    if let Some(name) = named {
        let text = format!("not asked: all was tried as {name}, as --user says{}", further_groups());
        return findings.file(Grade::Note, &file, 0, text);
    }
    match configured {
        Some(name) if root => match become_user(name) {
            Ok(()) => findings.file(Grade::Note, &file, 0, format!("plugins and backends were tried as {name}")),
            Err(fault) => findings.file(Grade::Error, &file, 0, fault),
        },
        Some(name) => match User::from_name(name) {
            Ok(Some(_)) => {}
            Ok(None) => findings.file(Grade::Error, &file, 0, format!("there is no account {name:?}")),
            Err(error) => findings.file(Grade::Error, &file, 0, format!("look-up of {name:?}: {error}")),
        },
        None if root => {
            let text = "not there: tried as root; say --user NAME to try as the user that serves (started as root, \
                        postern would serve as root, unless the launcher changes the user)";
            findings.file(Grade::Warning, &file, 0, text);
        }
        None => {}
    }
}

/// The groups beside the user's own: a launcher may leave them out, so what is fit here may not be when it serves.
fn further_groups() -> String {
    let groups = getgroups().unwrap_or_default().into_iter().filter(|group| *group != Gid::effective());
    let name = |group: Gid| match Group::from_gid(group) {
        Ok(Some(group)) => group.name,
        _ => group.to_string(),
    };
    let names: Vec<String> = groups.map(name).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(", with its further groups ({}), which xinetd leaves out without groups = yes", names.join(", "))
}
