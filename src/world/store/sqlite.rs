//! Entries in a file of SQLite's: many processes of one host at once, safe under kill -9.
//!
//! One table, in WAL mode: readers never wait, writers wait for each other, up to the time limit. `synchronous=NORMAL`: a
//! commit is safe against the death of any process; a power cut may take the last ones back, and never more than that.
//! Nothing is checkpointed at close: each lone process would be the last one and pay for it; SQLite does it by itself every
//! 1,000 pages, and `postern store expire` does. No memory mapping (SQLite's default), so a disk's error is an answer and no
//! signal. Never on a network file system.
//!
//! Dead entries are overwritten, or cleared away in passing: one write in 32 looks at the 100 entries after its own.

mod error;
mod make;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::lazy::Means;
use super::{After, Among, Change, Cursor, Item, Key, Page, Store, StoreError, Value, from_ms, to_ms, unavailable};
use error::understand;

const READ: &str = "SELECT value, expires FROM entry WHERE space = ?1 AND key = ?2";
const WRITE: &str = "REPLACE INTO entry (space, key, value, expires) VALUES (?1, ?2, ?3, ?4)";
const REMOVE: &str = "DELETE FROM entry WHERE space = ?1 AND key = ?2 RETURNING expires";
const SCAN: &str = "SELECT space, key, value, expires FROM entry WHERE (space, key) > (?1, ?2) AND (?3 IS NULL OR space = ?3) \
     AND (?4 IS NULL OR substr(key, 1, length(?4)) = ?4) ORDER BY space, key LIMIT ?5";
/// The dead among the next so many.
const CLEAR: &str = "DELETE FROM entry WHERE expires <= ?1 AND (space, key) IN \
     (SELECT space, key FROM entry WHERE (space, key) > (?2, ?3) ORDER BY space, key LIMIT ?4)";
/// Where the next so many end.
const STRIDE: &str = "SELECT space, key FROM entry WHERE (space, key) > (?1, ?2) ORDER BY space, key LIMIT 1 OFFSET ?3";
const IN_PASSING: i64 = 100;
/// Entries that `expire` looks at while others wait.
const AT_ONCE: i64 = 2_000;

/// A store in a file.
pub struct SqliteStore {
    path: PathBuf,
    timeout: Duration,
    means: Means,
    open: OnceCell<Connection>,
}

impl SqliteStore {
    /// The store in this file. Opened at the first call, and made at the first that stores something.
    pub fn new(path: PathBuf, timeout: Duration, means: Means) -> Self {
        Self { path, timeout, means, open: OnceCell::new() }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn now(&self) -> i64 {
        to_ms(self.means.clock.now())
    }

    /// `None`: there is no such file.
    fn connection(&self) -> Result<Option<&Connection>, StoreError> {
        if self.open.get().is_none() {
            let Some(connection) = self.connect()? else {
                return Ok(None);
            };
            let _ = self.open.set(connection);
        }
        let left = self.means.deadline.step(self.timeout).saturating_duration_since(Instant::now());
        if let Some(connection) = self.open.get() {
            self.understood(connection.busy_timeout(left))?;
        }
        Ok(self.open.get())
    }

    fn connect(&self) -> Result<Option<Connection>, StoreError> {
        // One thread uses it, and its file is made elsewhere.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(&self.path, flags) {
            Ok(connection) => connection,
            Err(_) if matches!(self.path.try_exists(), Ok(false)) => return Ok(None),
            Err(error) => return self.understood(Err(error)),
        };
        self.understood(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true))?;
        self.understood(connection.pragma_update(None, "synchronous", "NORMAL"))?;
        Ok(Some(connection))
    }

    /// As [`Self::connection`], but makes the file.
    fn connection_or_new(&self) -> Result<&Connection, StoreError> {
        for _ in 0..2 {
            if let Some(connection) = self.connection()? {
                return Ok(connection);
            }
            make::make(&self.path, &*self.means.random).map_err(|why| unavailable(&self.place(), why))?;
        }
        Err(unavailable(&self.place(), "it was made, and is gone again"))
    }

    fn understood<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| understand(&error, &self.path))
    }

    /// Reads an entry and stores what `change` makes of it, with nobody between.
    fn change<T>(&self, key: &Key, change: impl FnOnce(Option<(Value, i64)>) -> Decision<T>) -> Result<T, StoreError> {
        let connection = self.connection_or_new()?;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
        let transaction = self.understood(transaction)?;
        let old = self.live(&transaction, key)?;
        let (answer, new) = change(old)?;
        if let Some((value, expires)) = new {
            value.fits()?;
            self.write(&transaction, key, &value, expires)?;
            self.understood(transaction.commit())?;
        }
        Ok(answer)
    }

    fn live(&self, connection: &Connection, key: &Key) -> Result<Option<(Value, i64)>, StoreError> {
        let entry = |row: &Row<'_>| Ok((octets(row, 0)?.into(), row.get(1)?));
        let found = connection.query_row(READ, params![key.space(), key.octets()], entry).optional();
        let now = self.now();
        Ok(self.understood(found)?.filter(|(_, expires)| *expires > now))
    }

    fn write(&self, connection: &Connection, key: &Key, value: &Value, expires: i64) -> Result<(), StoreError> {
        let row = params![key.space(), key.octets(), value.octets(), expires];
        self.understood(connection.execute(WRITE, row))?;
        let mut chance = [0];
        self.means.random.fill(&mut chance);
        if chance[0] < 8 {
            let after = params![self.now(), key.space(), key.octets(), IN_PASSING];
            self.understood(connection.execute(CLEAR, after))?;
        }
        Ok(())
    }
}

/// What a call answers, and what it stores.
type Decision<T> = Result<(T, Option<(Value, i64)>), StoreError>;

/// A column's octets, whether they were written as a blob or, by hand, as text.
fn octets(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    match row.get_ref(column)? {
        ValueRef::Blob(octets) | ValueRef::Text(octets) => Ok(octets.to_vec()),
        other => Err(rusqlite::Error::InvalidColumnType(column, "octets".to_owned(), other.data_type())),
    }
}

impl Store for SqliteStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        match self.connection()? {
            Some(connection) => Ok(self.live(connection, key)?.map(|(value, _)| value)),
            None => Ok(None),
        }
    }

    fn put(&self, key: &Key, value: &Value, expires: SystemTime) -> Result<(), StoreError> {
        value.fits()?;
        self.write(self.connection_or_new()?, key, value, to_ms(expires))
    }

    fn increment(&self, key: &Key, by: i64, expires: SystemTime) -> Result<i64, StoreError> {
        self.change(key, |old| {
            let (value, expires) = old.unwrap_or_else(|| ("0".into(), to_ms(expires)));
            let sum = value.number().and_then(|number| number.checked_add(by));
            let sum = sum.ok_or_else(|| StoreError::NotANumber(key.clone()))?;
            Ok((sum, Some((sum.to_string().into(), expires))))
        })
    }

    fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<&Value>,
        new: &Value,
        expires: SystemTime,
    ) -> Result<bool, StoreError> {
        new.fits()?;
        self.change(key, |old| {
            let same = old.as_ref().map(|(value, _)| value) == expected;
            Ok((same, same.then(|| (new.clone(), to_ms(expires)))))
        })
    }

    fn update(&self, key: &Key, change: &mut Change<'_>) -> Result<Option<Value>, StoreError> {
        let now = self.now();
        self.change(key, |old| {
            let old = old.map(|(value, _)| value);
            Ok(match change(old.as_ref()) {
                None => (old, None),
                Some((new, expires)) => {
                    let expires = to_ms(expires);
                    ((expires > now).then(|| new.clone()), Some((new, expires)))
                }
            })
        })
    }

    fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        let Some(connection) = self.connection()? else {
            return Ok(false);
        };
        let expires = connection.query_row(REMOVE, params![key.space(), key.octets()], |row| row.get::<_, i64>(0));
        let now = self.now();
        Ok(self.understood(expires.optional())?.is_some_and(|expires| expires > now))
    }

    fn scan(&self, among: Among<'_>, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let Some(connection) = self.connection()? else {
            return Ok(Page::default());
        };
        // Nothing stands before the empty space; keys with a prefix begin with the prefix itself.
        let (space, octets_after) = match after {
            Some(Cursor(After::Key(key))) => (key.space(), key.octets()),
            _ => ("", &b""[..]),
        };
        let prefix = Some(among.prefix).filter(|prefix| !prefix.is_empty());
        let items = (|| {
            let mut statement = connection.prepare(SCAN)?;
            let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![space, octets_after, among.space, prefix, limit], |row| {
                Ok(Item {
                    key: Key::new(&row.get::<_, String>(0)?, octets(row, 1)?),
                    value: octets(row, 2)?.into(),
                    expires: from_ms(row.get(3)?),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<Item>>>()
        })();
        Ok(Page::full(self.understood(items)?, limit))
    }

    fn expire(&self) -> Result<u64, StoreError> {
        let Some(connection) = self.connection()? else {
            return Ok(0);
        };
        let (now, mut removed) = (self.now(), 0);
        let mut from: Option<(String, Vec<u8>)> = Some((String::new(), Vec::new()));
        while let Some((space, key)) = from {
            let end = |row: &Row<'_>| Ok((row.get(0)?, octets(row, 1)?));
            let next = connection.query_row(STRIDE, params![space, key, AT_ONCE - 1], end).optional();
            from = self.understood(next)?;
            removed += self.understood(connection.execute(CLEAR, params![now, space, key, AT_ONCE]))? as u64;
        }
        let count = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let (free, all) = (self.understood(count("freelist_count"))?, self.understood(count("page_count"))?);
        // Rewriting the file holds everybody up: only if it gives something back.
        if free * 4 > all {
            self.understood(connection.execute_batch("VACUUM"))?;
        }
        // What readers hold back stays for the next time.
        let ignored = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(ignored);
        Ok(removed)
    }

    /// With the file there, takes the lock that a writer takes; without it, looks whether it can be made.
    fn check(&self) -> Result<String, StoreError> {
        let what = format!("SQLite, {}", self.place());
        if let Some(connection) = self.connection()? {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
            let transaction = self.understood(transaction)?;
            self.live(&transaction, &Key::new("check", ""))?;
            return Ok(what);
        }
        make::could(&self.path).map_err(|why| unavailable(&self.place(), why))?;
        Ok(format!("{what} (made with the first entry)"))
    }
}
