//! A GeoIP database in memory without being read: tens of megabytes, of which a look-up touches a few pages.

use std::path::Path;

use maxminddb::{MaxMindDbError, Mmap, Reader};

/// Maps a database. It must be replaced by renaming another over it, never written to in place: a page that is gone is a
/// SIGBUS, the end of the process.
///
/// # Errors
/// The file cannot be opened, or is no such database.
pub fn database(path: &Path) -> Result<Reader<Mmap>, MaxMindDbError> {
    // SAFETY: the mapping is private and read-only, and who writes to the file is the administrator, whom the manual tells to
    // rename. A change under us gives wrong answers or SIGBUS; the reader checks every offset that it follows.
    unsafe { Reader::open_mmap(path) }
}
