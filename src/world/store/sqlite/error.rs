//! What SQLite says -> what an administrator can do about it.

use std::fs::File;
use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::world::store::StoreError;

/// The error, in words that name the file.
pub(super) fn understand(error: &Error, path: &Path) -> StoreError {
    let place = path.display().to_string();
    let code = error.sqlite_error_code();
    let why = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "locked by another process for longer than we may wait".to_owned()
        }
        Some(ErrorCode::DiskFull) => "no room left on its file system".to_owned(),
        Some(ErrorCode::ReadOnly) => {
            "this user may not write to it, or to its directory (SQLite keeps two files beside it)".to_owned()
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => refused(path).unwrap_or_else(|| {
            "cannot be opened (this user must be able to write to its directory too: SQLite keeps two files there)"
                .to_owned()
        }),
        Some(ErrorCode::NotADatabase) => "no store: it is not a database of SQLite's".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => {
            format!("damaged ({error}): move it away, and an empty one is made; `sqlite3 .recover` may save entries")
        }
        _ if error.to_string().contains("no such table") => {
            "no store of this postern's: move it away, and one is made".to_owned()
        }
        _ => error.to_string(),
    };
    let damaged = match code {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => true,
        // SQL that we wrote, and a table that is not as we made it.
        Some(ErrorCode::Unknown) => true,
        Some(_) => false,
        // A column of another type.
        None => true,
    };
    if damaged { StoreError::Damaged { place, why } } else { StoreError::Unavailable { place, why } }
}

/// What the system says of opening it. SQLite's locks go with any descriptor that this process closes, but it has none yet.
fn refused(path: &Path) -> Option<String> {
    File::options().read(true).write(true).open(path).err().map(|error| format!("cannot be opened: {error}"))
}
