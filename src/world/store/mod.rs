//! What is remembered between connections: greylisting, karma, limits, failures of AUTH.
//!
//! A plugin sees [`Store`]: blocking calls on entries, each a value of some octets under a [`Key`], each with a moment at which
//! it ends. Behind it stands what one line of `config/store` names (`settings`): SQLite for one host (`sqlite`), Redis
//! for several that share (`redis`), memory for `try` and tests (`memory`). `lazy` opens it at the first call, never earlier.
//!
//! Time is the world's clock's: each entry's end is stored as a number and compared by us, so that a test's clock can move it.
//! Every call ends at the hook's deadline, or after the setting `timeout`. When the store is not there, full, locked or
//! damaged, that is a [`StoreError`], and the plugin's `on_error` decides; nothing here retries for long or falls back.

mod key;
mod lazy;
mod memory;
mod redis;
mod settings;
mod sqlite;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use key::{KEY_OCTETS_MAX, Key, SPACE_OCTETS_MAX};
pub use lazy::{LazyStore, Means, open};
pub use memory::MemoryStore;
pub use redis::RedisStore;
pub use settings::{At, Place, Server, StoreSettings};
pub use sqlite::SqliteStore;

/// Octets that a value may have.
pub const VALUE_OCTETS_MAX: usize = 8 << 10;

/// What an entry holds: up to [`VALUE_OCTETS_MAX`] octets, text by custom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(Vec<u8>);

impl Value {
    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Its text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The number that [`Store::increment`] counts.
    fn number(&self) -> Option<i64> {
        self.text()?.parse().ok()
    }

    /// Whether it is not too long.
    fn fits(&self) -> Result<(), StoreError> {
        if self.0.len() > VALUE_OCTETS_MAX { Err(StoreError::TooLong(self.0.len())) } else { Ok(()) }
    }
}

impl<T: Into<Vec<u8>>> From<T> for Value {
    fn from(octets: T) -> Self {
        Self(octets.into())
    }
}

/// Why the store gave no answer. The texts name the file or server and are for the log, never for the client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `config/store` cannot be understood; names file and line.
    #[error("{0}")]
    Configuration(String),
    /// It is not there, does not answer in time, is locked, full, or refuses.
    #[error("store {place}: {why}")]
    Unavailable {
        /// The file or server.
        place: String,
        /// What it said, or did not.
        why: String,
    },
    /// What is there is no store, or a damaged one. Waiting will not mend it.
    #[error("store {place}: {why}")]
    Damaged {
        /// The file or server.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value of this many octets.
    #[error("a value of {0} octets: at most {VALUE_OCTETS_MAX} can be stored")]
    TooLong(usize),
    /// Asked to count what is no number, or beyond 64 bits.
    #[error("store: the entry {0} is no number that can be counted on")]
    NotANumber(Key),
    /// Others changed the entry whenever we tried to.
    #[error("store: the entry {0} was changed by others each time that we tried")]
    Contended(Key),
}

/// An entry, as tools see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// What it holds.
    pub value: Value,
    /// When it ends, to the millisecond.
    pub expires: SystemTime,
}

/// Where [`Store::scan`] goes on. Only for the store that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(After);

#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    Key(Key),
    Redis(u64),
}

/// Some entries.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries.
    pub items: Vec<Item>,
    /// Where to go on; none after the last.
    pub next: Option<Cursor>,
}

/// Which entries a scan is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Among<'a> {
    /// Of this space alone.
    pub space: Option<&'a str>,
    /// With keys that begin so. Only together with a space.
    pub prefix: &'a [u8],
}

/// What an update makes of an entry: its new value and end, or nothing, and it stays as it is.
pub type Change<'a> = dyn FnMut(Option<&Value>) -> Option<(Value, SystemTime)> + 'a;

/// Entries that outlast the process. Every call is whole or not done at all, whatever other processes do or die of.
///
/// An entry that has ended is not there: `get` does not see it, `increment` begins anew.
///
/// # Errors
/// Each call: [`StoreError`]. After one, a change may or may not have been made.
pub trait Store {
    /// The entry's value, if there is one.
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError>;

    /// Stores an entry, in the place of the one that was there.
    fn put(&self, key: &Key, value: &Value, expires: SystemTime) -> Result<(), StoreError>;

    /// Adds to a number, which is 0 as long as there is none, and tells the sum. `expires` counts only when that makes the
    /// entry: the window is fixed, it begins with its first event, and further events do not prolong it.
    fn increment(&self, key: &Key, by: i64, expires: SystemTime) -> Result<i64, StoreError>;

    /// Stores an entry if what is there is what we think: a value, or (`None`) nothing. Tells whether it did.
    fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<&Value>,
        new: &Value,
        expires: SystemTime,
    ) -> Result<bool, StoreError>;

    /// Changes an entry by what it holds. `change` may be called more than once, and the last call counts. Tells what is
    /// there afterwards.
    fn update(&self, key: &Key, change: &mut Change<'_>) -> Result<Option<Value>, StoreError>;

    /// Forgets an entry. Tells whether there was one.
    fn remove(&self, key: &Key) -> Result<bool, StoreError>;

    /// Shows entries, those that have ended and are not cleared away yet too. About `limit` at a time; in the order of
    /// their keys, but for Redis, which has none and may show an entry twice. What is stored meanwhile may be missed.
    fn scan(&self, among: Among<'_>, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError>;

    /// Clears away what has ended, and gives room back. Tells how many entries that were. For a timer: no call needs it.
    fn expire(&self) -> Result<u64, StoreError>;

    /// Whether it can be used, by trying, without leaving a trace. Tells what it is: "SQLite, /var/lib/postern/store.db".
    fn check(&self) -> Result<String, StoreError>;
}

/// Milliseconds since 1970, as stored.
fn to_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The moment of a stored number. What nobody can have meant is cut off at the year 9999.
fn from_ms(ms: i64) -> SystemTime {
    const MOST: u64 = 253_402_300_799_000;
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0).min(MOST))
}

fn unavailable(place: &str, why: impl fmt::Display) -> StoreError {
    StoreError::Unavailable { place: place.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_to_the_millisecond() {
        for ms in [0, 1, 1_893_456_000_123, 253_402_300_799_000] {
            assert_eq!(to_ms(from_ms(ms)), ms);
        }
        assert_eq!(from_ms(-5), UNIX_EPOCH);
        assert_eq!(to_ms(from_ms(i64::MAX)), 253_402_300_799_000);
        assert_eq!(to_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
