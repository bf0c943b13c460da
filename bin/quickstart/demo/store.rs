//! The objects, and the history that watches read. Every change has its own resource version;
//! a watch that asks for history no longer kept is told so (410).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::tls::lock;

const HISTORY_MAX: usize = 4096;

/// One change, as watches of its resource see it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) resource: &'static str,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// The history asked for is gone.
#[derive(Debug)]
pub(crate) struct TooOld;

/// What a writer of the store may not do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Exists,
    Missing,
    Changed,
}

#[derive(Default)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    version: u64,
    forgotten: u64,
    objects: BTreeMap<(&'static str, String, String), Arc<Value>>,
    history: Vec<Arc<Change>>,
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        lock(&self.inner).version
    }

    /// Whether history up to and including this version is gone.
    pub(crate) fn has_forgotten(&self, version: u64) -> bool {
        version < lock(&self.inner).forgotten
    }

    pub(crate) fn get(
        &self,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        lock(&self.inner).objects.get(&(resource, namespace.into(), name.into())).cloned()
    }

    pub(crate) fn all(&self, resource: &'static str) -> Vec<Arc<Value>> {
        self.list(resource, "").1
    }

    /// Objects in one namespace, or all, with the version they were read at.
    pub(crate) fn list(&self, resource: &'static str, namespace: &str) -> (u64, Vec<Arc<Value>>) {
        let inner = lock(&self.inner);
        let from = (resource, namespace.to_owned(), String::new());
        let wanted = inner.objects.range(from..).take_while(|((of, ns, _), _)| {
            *of == resource && (namespace.is_empty() || ns == namespace)
        });
        (inner.version, wanted.map(|(_, object)| object.clone()).collect())
    }

    pub(crate) fn create(
        &self,
        resource: &'static str,
        object: Value,
    ) -> Result<Arc<Value>, Refused> {
        let mut inner = lock(&self.inner);
        let key = key(resource, &object);
        if inner.objects.contains_key(&key) {
            return Err(Refused::Exists);
        }
        Ok(self.put(&mut inner, key, object))
    }

    /// Replaces an object; an expected version that is not the current one is refused.
    pub(crate) fn update(
        &self,
        resource: &'static str,
        object: Value,
        expected: Option<&str>,
    ) -> Result<Arc<Value>, Refused> {
        let mut inner = lock(&self.inner);
        let key = key(resource, &object);
        let current = inner.objects.get(&key).ok_or(Refused::Missing)?;
        if expected.is_some_and(|expected| expected != version_of(current)) {
            return Err(Refused::Changed);
        }
        if without_version(current) == without_version(&object) {
            return Ok(current.clone());
        }
        Ok(self.put(&mut inner, key, object))
    }

    pub(crate) fn delete(
        &self,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Value>, Refused> {
        let mut inner = lock(&self.inner);
        let key = (resource, namespace.to_owned(), name.to_owned());
        let before = inner.objects.remove(&key).ok_or(Refused::Missing)?;
        inner.version += 1;
        let mut last = Value::clone(&before);
        set_version(&mut last, inner.version);
        let change = Change {
            version: inner.version,
            resource,
            before: Some(Arc::new(last.clone())),
            after: None,
        };
        self.record(&mut inner, change);
        Ok(Arc::new(last))
    }

    /// Changes after a version. Waits for `patience` at most, and may come back with nothing.
    pub(crate) fn changes_after(
        &self,
        version: u64,
        patience: Duration,
    ) -> Result<Vec<Arc<Change>>, TooOld> {
        let mut inner = lock(&self.inner);
        if inner.version <= version {
            let waited = self.changed.wait_timeout(inner, patience);
            inner = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        if version < inner.forgotten {
            return Err(TooOld);
        }
        let start = inner.history.partition_point(|change| change.version <= version);
        Ok(inner.history.get(start..).unwrap_or_default().to_vec())
    }

    /// Forgets all history, so that the next watch from an old version is told 410.
    pub(crate) fn compact(&self) {
        let mut inner = lock(&self.inner);
        inner.version += 1;
        inner.forgotten = inner.version;
        inner.history.clear();
        self.changed.notify_all();
    }

    fn put(
        &self,
        inner: &mut Inner,
        key: (&'static str, String, String),
        mut object: Value,
    ) -> Arc<Value> {
        inner.version += 1;
        set_version(&mut object, inner.version);
        let after = Arc::new(object);
        let resource = key.0;
        let before = inner.objects.insert(key, after.clone());
        let change =
            Change { version: inner.version, resource, before, after: Some(after.clone()) };
        self.record(inner, change);
        after
    }

    fn record(&self, inner: &mut Inner, change: Change) {
        if inner.history.len() >= HISTORY_MAX {
            let dropped = inner.history.drain(..HISTORY_MAX / 2).next_back();
            inner.forgotten = dropped.map_or(inner.forgotten, |change| change.version);
        }
        inner.history.push(Arc::new(change));
        self.changed.notify_all();
    }
}

/// The text at a JSON pointer, or nothing.
pub(crate) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn version_of(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

fn set_version(object: &mut Value, version: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(version.to_string()));
    }
}

fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    set_version(&mut object, 0);
    object
}

fn key(resource: &'static str, object: &Value) -> (&'static str, String, String) {
    let namespace = text(object, "/metadata/namespace").to_owned();
    (resource, namespace, text(object, "/metadata/name").to_owned())
}
