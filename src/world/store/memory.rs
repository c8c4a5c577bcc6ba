//! Entries of this process alone: for `try` and tests. Also the model that the others are held to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::SystemTime;

use super::{After, Among, Change, Cursor, Item, Key, Page, Store, StoreError, Value, from_ms, to_ms};
use crate::world::Clock;

/// A store in memory. Ends with the process.
pub struct MemoryStore {
    clock: Rc<dyn Clock>,
    entries: RefCell<BTreeMap<Key, (Value, i64)>>,
}

impl MemoryStore {
    /// An empty one, by this clock.
    pub fn new(clock: Rc<dyn Clock>) -> Self {
        Self { clock, entries: RefCell::default() }
    }

    fn live(&self, key: &Key) -> Option<(Value, i64)> {
        let now = to_ms(self.clock.now());
        self.entries.borrow().get(key).filter(|(_, expires)| *expires > now).cloned()
    }

    fn set(&self, key: &Key, value: Value, expires: i64) {
        self.entries.borrow_mut().insert(key.clone(), (value, expires));
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        Ok(self.live(key).map(|(value, _)| value))
    }

    fn put(&self, key: &Key, value: &Value, expires: SystemTime) -> Result<(), StoreError> {
        value.fits()?;
        self.set(key, value.clone(), to_ms(expires));
        Ok(())
    }

    fn increment(&self, key: &Key, by: i64, expires: SystemTime) -> Result<i64, StoreError> {
        let (value, expires) = self.live(key).unwrap_or_else(|| ("0".into(), to_ms(expires)));
        let sum = value.number().and_then(|number| number.checked_add(by));
        let sum = sum.ok_or_else(|| StoreError::NotANumber(key.clone()))?;
        self.set(key, sum.to_string().into(), expires);
        Ok(sum)
    }

    fn compare_and_set(
        &self,
        key: &Key,
        expected: Option<&Value>,
        new: &Value,
        expires: SystemTime,
    ) -> Result<bool, StoreError> {
        new.fits()?;
        let same = self.live(key).map(|(value, _)| value).as_ref() == expected;
        if same {
            self.set(key, new.clone(), to_ms(expires));
        }
        Ok(same)
    }

    fn update(&self, key: &Key, change: &mut Change<'_>) -> Result<Option<Value>, StoreError> {
        let old = self.live(key).map(|(value, _)| value);
        let Some((new, expires)) = change(old.as_ref()) else {
            return Ok(old);
        };
        self.put(key, &new, expires)?;
        // It may have ended before it began.
        self.get(key)
    }

    fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        let live = self.live(key).is_some();
        self.entries.borrow_mut().remove(key);
        Ok(live)
    }

    fn scan(&self, among: Among<'_>, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let from = match after {
            Some(Cursor(After::Key(key))) => Bound::Excluded(key.clone()),
            _ => Bound::Unbounded,
        };
        let entries = self.entries.borrow();
        let wanted =
            |key: &Key| among.space.is_none_or(|space| key.space() == space) && key.octets().starts_with(among.prefix);
        let found = entries.range((from, Bound::Unbounded)).filter(|(key, _)| wanted(key)).take(limit.max(1));
        let item = |(key, (value, expires)): (&Key, &(Value, i64))| Item {
            key: key.clone(),
            value: value.clone(),
            expires: from_ms(*expires),
        };
        Ok(Page::full(found.map(item).collect(), limit))
    }

    fn expire(&self) -> Result<u64, StoreError> {
        let now = to_ms(self.clock.now());
        let mut entries = self.entries.borrow_mut();
        let before = entries.len();
        entries.retain(|_, (_, expires)| *expires > now);
        Ok((before - entries.len()) as u64)
    }

    fn check(&self) -> Result<String, StoreError> {
        Ok("memory of this process".to_owned())
    }
}

impl Page {
    /// A page in the order of the keys, of at most `limit` items: if it is full there may be more.
    pub(super) fn full(items: Vec<Item>, limit: usize) -> Self {
        let next =
            items.last().filter(|_| items.len() >= limit.max(1)).map(|item| Cursor(After::Key(item.key.clone())));
        Self { items, next }
    }
}
