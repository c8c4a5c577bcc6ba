//! Makes the file of a store.
//!
//! It is made under another name and gets its own by link(2), which fails if it is there: whoever dies in between leaves no
//! half store, and of several at once one wins, without a lock. Its mode is the umask's; one that root makes belongs to the
//! directory's owner, so that `postern store import` by root does not shut the serving user out.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};
use rusqlite::{Connection, OpenFlags};

use crate::world::Random;

/// `user_version` is for those who come after: another form of the table gets another number, and name.
const SCHEMA: &str = "PRAGMA journal_mode = WAL; CREATE TABLE entry (space TEXT NOT NULL, key BLOB NOT NULL, \
     value BLOB NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID; PRAGMA user_version = 1;";

const HELP: &str = "the directory must be the serving user's, for SQLite writes two files beside it";

/// Makes it, unless somebody else was faster. Its directory too, if that one's is there.
pub(super) fn make(path: &Path, random: &dyn Random) -> Result<(), String> {
    let dir = folder(path);
    match fs::create_dir(dir) {
        Ok(()) => owned_as_its_directory(dir),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("directory {}: cannot be made: {error}", dir.display())),
    }
    let mut chance = [0; 8];
    random.fill(&mut chance);
    let name = beside(path, &format!(".new-{}-{:016x}", std::process::id(), u64::from_ne_bytes(chance)));
    let made = build(&name).map_err(|error| format!("cannot be made: {error} ({HELP})"));
    let made = made.and_then(|()| match fs::hard_link(&name, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(format!("cannot be made: {error}")),
        _ => Ok(()),
    });
    for suffix in ["", "-wal", "-shm"] {
        // Only the first is there when all went well.
        let _ = fs::remove_file(beside(&name, suffix));
    }
    made
}

fn build(name: &Path) -> Result<(), rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(name, flags)?;
    connection.execute_batch(SCHEMA)?;
    // Closed, it is one file.
    connection.close().map_err(|(_, error)| error)?;
    owned_as_its_directory(name);
    Ok(())
}

/// What root makes belongs to whom the directory belongs to.
fn owned_as_its_directory(path: &Path) {
    if geteuid().is_root()
        && let Ok(owner) = fs::metadata(folder(path))
    {
        // It stays root's, and who cannot use it will say so.
        let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    }
}

/// Whether we could make it, without doing so.
pub(super) fn could(path: &Path) -> Result<(), String> {
    let dir = folder(path);
    let nearest = if matches!(dir.try_exists(), Ok(true)) { dir } else { folder(dir) };
    let allowed = access(nearest, AccessFlags::W_OK | AccessFlags::X_OK);
    allowed.map_err(|error| format!("cannot be made in {}: {} ({HELP})", nearest.display(), error.desc()))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path with something appended to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
