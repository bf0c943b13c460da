//! The client's own entries: a kubeconfig of their own, or merged into somebody's file and taken
//! out again, with everything else left as it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Kubeconfig, LISTS, Malformed, text_of};
use crate::secret::Secret;
use crate::wire::url::Url;
use crate::wire::yaml::{Node, Scalar};

/// One cluster behind the local listener: a cluster, a user and a context of one name.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of cluster, user and context.
    pub name: String,
    /// `https://127.0.0.1:PORT/proxies/ID`.
    pub server: String,
    /// The CA of the local listener, in PEM.
    pub authority: Vec<u8>,
    /// What the local listener demands.
    pub token: Secret<String>,
    /// The namespace to begin in.
    pub namespace: Option<String>,
}

/// What [`Kubeconfig::merge`] has changed beside the entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Merged {
    /// The current context from before, where another one was set.
    pub before: Option<String>,
}

impl Entry {
    /// A kubeconfig with this entry alone, as its current context.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the entry's texts cannot stand in a kubeconfig.
    pub fn document(&self) -> Result<String, Malformed> {
        let mut config = Kubeconfig { tree: Node::Map(Vec::new()) };
        config.merge(self, true)?;
        config.to_yaml()
    }

    fn fields(&self, list: &str) -> Node {
        match list {
            "clusters" => Node::map([
                ("certificate-authority-data", Node::text(STANDARD.encode(&self.authority))),
                ("server", Node::text(&self.server)),
            ]),
            "users" => Node::map([("token", Node::text(self.token.expose()))]),
            _ => {
                let mut context = Node::map([
                    ("cluster", Node::text(&self.name)),
                    ("user", Node::text(&self.name)),
                ]);
                if let Some(namespace) = &self.namespace {
                    context.set("namespace", Node::text(namespace));
                }
                context
            }
        }
    }
}

impl Kubeconfig {
    /// Puts `entry` in. An entry of the same name is replaced if it leads to the same cluster
    /// through a listener of ours; anybody else's is left alone.
    ///
    /// # Errors
    ///
    /// [`Malformed::Taken`] where the name is somebody else's; others where the file's lists are not
    /// lists.
    pub fn merge(&mut self, entry: &Entry, set_current: bool) -> Result<Merged, Malformed> {
        let route = self.server(&entry.name)?.and_then(|server| route_of(&server));
        let ours = route.is_some() && route == route_of(&entry.server);
        for list in LISTS {
            let taken = self.entries(list)?.iter().any(|(name, _)| *name == entry.name);
            if taken && !ours {
                return Err(Malformed::Taken(list, entry.name.clone()));
            }
        }
        for (field, value) in [("apiVersion", "v1"), ("kind", "Config")] {
            if self.tree.get(field).is_none() {
                self.tree.set(field, Node::Scalar(Scalar::plain(value)));
            }
        }
        for list in LISTS {
            let mut item = Node::map([("name", Node::text(&entry.name))]);
            item.set(singular(list), entry.fields(list));
            self.put(list, &entry.name, item);
        }
        let mut merged = Merged::default();
        if set_current {
            let before = self.current().map(str::to_owned);
            merged.before = before.filter(|name| *name != entry.name);
            self.tree.set("current-context", Node::text(&entry.name));
        }
        Ok(merged)
    }

    /// Takes `entry` out, if it still is what was put in, and sets the current context back to
    /// `before` if it is still ours. `false` if there was nothing to take out.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where the file's lists are not lists.
    pub fn remove(&mut self, entry: &Entry, before: Option<&str>) -> Result<bool, Malformed> {
        // Another proxy for the same cluster may have replaced it since.
        if self.server(&entry.name)?.as_deref() != Some(entry.server.as_str()) {
            return Ok(false);
        }
        for list in LISTS {
            if let Some(Node::List(items)) = self.list_mut(list) {
                items.retain(|item| item.get("name").and_then(text_of) != Some(&entry.name));
            }
        }
        if self.current() == Some(&entry.name) {
            self.tree.set("current-context", Node::text(before.unwrap_or_default()));
        }
        Ok(true)
    }

    fn server(&self, cluster: &str) -> Result<Option<String>, Malformed> {
        let found = self.entries("clusters")?.into_iter().find(|(name, _)| *name == cluster);
        let server = found.and_then(|(_, item)| item.get("cluster")?.get("server"));
        Ok(server.and_then(text_of).map(str::to_owned))
    }

    fn list_mut(&mut self, list: &str) -> Option<&mut Node> {
        let Node::Map(fields) = &mut self.tree else { return None };
        fields.iter_mut().find(|(key, _)| key.text == list).map(|(_, node)| node)
    }

    fn put(&mut self, list: &str, name: &str, item: Node) {
        if !matches!(self.tree.get(list), Some(Node::List(_))) {
            self.tree.set(list, Node::List(Vec::new()));
        }
        let Some(Node::List(items)) = self.list_mut(list) else { return };
        let same = |node: &&mut Node| node.get("name").and_then(text_of) == Some(name);
        match items.iter_mut().find(same) {
            Some(place) => *place = item,
            None => items.push(item),
        }
    }
}

/// The cluster id in the URL of a local listener.
fn route_of(server: &str) -> Option<String> {
    let url = Url::parse(server).ok()?;
    let id = url.path.strip_prefix("/proxies/")?;
    (url.is_loopback() && !id.contains('/')).then(|| id.to_owned())
}

fn singular(list: &'static str) -> &'static str {
    list.strip_suffix('s').unwrap_or(list)
}
