//! The configured store, opened at the first call.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::SystemTime;

use super::settings::Place;
use super::{Among, Change, Cursor, Key, Page, RedisStore, SqliteStore, Store, StoreError, StoreSettings, Value};
use crate::config::ConfigDir;
use crate::world::{Clock, Deadline, Net, Random};

/// What the stores ask of the world themselves.
#[derive(Clone)]
pub struct Means {
    /// What time it is.
    pub clock: Rc<dyn Clock>,
    /// For names of files, and for not trying at the same moments as others.
    pub random: Rc<dyn Random>,
    /// The way to a server.
    pub net: Rc<dyn Net>,
    /// When the hook in hand must be done.
    pub deadline: Deadline,
}

/// Reads `config/store` and opens what it names when it is first asked for something. A session that stores nothing pays
/// nothing. A line that cannot be understood is the error of every call.
pub struct LazyStore {
    config: Rc<ConfigDir>,
    means: Means,
    open: OnceCell<Result<Box<dyn Store>, String>>,
}

impl LazyStore {
    /// The store of this configuration directory. Looks at nothing yet.
    pub fn new(config: Rc<ConfigDir>, means: Means) -> Self {
        Self { config, means, open: OnceCell::new() }
    }

    fn store(&self) -> Result<&dyn Store, StoreError> {
        let open = || Ok(open(StoreSettings::read(&self.config).map_err(|error| error.to_string())?, &self.means));
        match self.open.get_or_init(open) {
            Ok(store) => Ok(&**store),
            Err(error) => Err(StoreError::Configuration(error.clone())),
        }
    }
}

/// The store that the settings name. Neither file nor server is touched before its first call.
pub fn open(settings: StoreSettings, means: &Means) -> Box<dyn Store> {
    let StoreSettings { place, timeout } = settings;
    match place {
        Place::Sqlite(path) => Box::new(SqliteStore::new(path, timeout, means.clone())),
        Place::Redis(server) => Box::new(RedisStore::new(server, timeout, means.clone())),
    }
}

impl Store for LazyStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.store()?.get(key)
    }

    fn put(&self, key: &Key, value: &Value, expires: SystemTime) -> Result<(), StoreError> {
        self.store()?.put(key, value, expires)
    }

    fn increment(&self, key: &Key, by: i64, expires: SystemTime) -> Result<i64, StoreError> {
        self.store()?.increment(key, by, expires)
    }

    fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<&Value>,
        new: &Value,
        expires: SystemTime,
    ) -> Result<bool, StoreError> {
        self.store()?.compare_and_set(key, expected, new, expires)
    }

    fn update(&self, key: &Key, change: &mut Change<'_>) -> Result<Option<Value>, StoreError> {
        self.store()?.update(key, change)
    }

    fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.store()?.remove(key)
    }

    fn scan(&self, among: Among<'_>, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.store()?.scan(among, after, limit)
    }

    fn expire(&self) -> Result<u64, StoreError> {
        self.store()?.expire()
    }

    fn check(&self) -> Result<String, StoreError> {
        self.store()?.check()
    }
}
