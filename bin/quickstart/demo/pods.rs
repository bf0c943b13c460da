//! What a pod has on disk: a private temporary directory, in which its commands run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

use super::tls::lock;
use super::token::random_uuid;

pub(crate) struct Pods {
    base: PathBuf,
    roots: Mutex<BTreeMap<(String, String), PathBuf>>,
}

impl Pods {
    pub(crate) fn new() -> io::Result<Self> {
        let base = std::env::temp_dir().join(format!("cluster-connect-demo-{}", random_uuid()));
        fs::create_dir(&base)?;
        Ok(Self { base, roots: Mutex::default() })
    }

    /// The root directory of a pod, made on first use.
    pub(crate) fn root(&self, namespace: &str, name: &str) -> io::Result<PathBuf> {
        let mut roots = lock(&self.roots);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(root) = roots.get(&key) {
            return Ok(root.clone());
        }
        let root = self.base.join(random_uuid());
        for directory in ["tmp", "etc", "root"] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
        roots.insert(key, root.clone());
        Ok(root)
    }

    /// Removes everything, when no connection can need it any more.
    pub(crate) fn clear(&self) {
        lock(&self.roots).clear();
        remove_tree(&self.base);
    }

    pub(crate) fn remove(&self, namespace: &str, name: &str) {
        let root = lock(&self.roots).remove(&(namespace.to_owned(), name.to_owned()));
        if let Some(root) = root {
            remove_tree(&root);
        }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A leftover in the temporary directory is no reason to fail.
fn remove_tree(path: &Path) {
    let _ = fs::remove_dir_all(path);
}
