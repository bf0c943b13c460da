//! A kubeconfig as text and as values. Files that it names are read elsewhere.
//!
//! Taken is what can be done without another program and without trust in anybody unnamed: a
//! server over TLS, its CA, a token or a client certificate. Everything else is refused by name,
//! for a field that is passed over in silence would be a rule that does not hold.

mod merge;
mod select;

use std::fmt;

use super::url::Misshapen;
use super::yaml::{self, Meaning, Node};

pub use merge::{Entry, Merged};
pub use select::{Access, Material, Token};

/// A kubeconfig, whole, with all that it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kubeconfig {
    tree: Node,
}

/// Why a text is no kubeconfig, or not one that can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Not YAML, or not the plain part of it.
    Yaml(yaml::Malformed),
    /// Not a mapping with `apiVersion: v1` and `kind: Config`.
    Kind(&'static str),
    /// What is there, and what it should be.
    Type(String, &'static str),
    /// What should be there.
    Missing(String),
    /// Two entries of one list (`clusters`, `users`, `contexts`) have this name.
    Duplicate(&'static str, String),
    /// No entry of that list has this name.
    Unknown(&'static str, String),
    /// No context was named, and the file has no current one.
    NoCurrent,
    /// Where, and what about the URL.
    Url(String, Misshapen),
    /// Where; the value is not base64.
    Base64(String),
    /// What is not done here, as a sentence.
    Unsupported(String),
    /// An entry of this name exists and is not ours.
    Taken(&'static str, String),
    /// Written and read again it would not be the same.
    Unwritable,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yaml(why) => why.fmt(f),
            Self::Kind(what) => write!(f, "not a kubeconfig: {what}"),
            Self::Type(place, kind) => write!(f, "{place} must be {kind}"),
            Self::Missing(place) => write!(f, "{place} is missing"),
            Self::Duplicate(list, name) => write!(f, "two {list} have the name {name:?}"),
            Self::Unknown(list, name) => write!(f, "no entry of {list} has the name {name:?}"),
            Self::NoCurrent => f.write_str("no context was named, and current-context is not set"),
            Self::Url(place, why) => write!(f, "{place}: {why}"),
            Self::Base64(place) => write!(f, "{place} is not base64"),
            Self::Unsupported(what) => f.write_str(what),
            Self::Taken(list, name) => {
                write!(f, "{list} has an entry {name:?} that is not this cluster's")
            }
            Self::Unwritable => f.write_str("the file could not be written back without a change"),
        }
    }
}

impl std::error::Error for Malformed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Yaml(why) => Some(why),
            Self::Url(_, why) => Some(why),
            Self::Kind(_)
            | Self::Type(..)
            | Self::Missing(_)
            | Self::Duplicate(..)
            | Self::Unknown(..)
            | Self::NoCurrent
            | Self::Base64(_)
            | Self::Unsupported(_)
            | Self::Taken(..)
            | Self::Unwritable => None,
        }
    }
}

impl From<yaml::Malformed> for Malformed {
    fn from(why: yaml::Malformed) -> Self {
        Self::Yaml(why)
    }
}

impl Kubeconfig {
    /// Reads a kubeconfig. An empty text is an empty kubeconfig, as it is for kubectl.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for what is wrong with the file as a whole; single entries are looked at when
    /// they are used.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let tree = Node::parse(bytes)?;
        if tree.is_null() {
            return Ok(Self { tree: Node::Map(Vec::new()) });
        }
        if !matches!(tree, Node::Map(_)) {
            return Err(Malformed::Kind("it is not a mapping"));
        }
        for (field, wanted, complaint) in [
            ("apiVersion", "v1", "its apiVersion is not v1"),
            ("kind", "Config", "its kind is not Config"),
        ] {
            if tree.get(field).is_some_and(|node| text_of(node) != Some(wanted)) {
                return Err(Malformed::Kind(complaint));
            }
        }
        let config = Self { tree };
        for list in LISTS {
            config.check_names(list)?;
        }
        Ok(config)
    }

    /// The context that kubectl uses when none is named.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        self.tree.get("current-context").and_then(text_of).filter(|name| !name.is_empty())
    }

    /// The file as text; reading it gives the same again.
    ///
    /// # Errors
    ///
    /// [`Malformed::Unwritable`] if that did not hold, which would be a fault of ours; the text is
    /// then not to be used.
    pub fn to_yaml(&self) -> Result<String, Malformed> {
        let text = self.tree.to_yaml();
        match Node::parse(text.as_bytes()) {
            Ok(tree) if tree == self.tree => Ok(text),
            _ => Err(Malformed::Unwritable),
        }
    }

    /// The entries of a list, each with its name.
    fn entries(&self, list: &'static str) -> Result<Vec<(&str, &Node)>, Malformed> {
        let items = match self.tree.get(list) {
            None => return Ok(Vec::new()),
            Some(node) if node.is_null() => return Ok(Vec::new()),
            Some(Node::List(items)) => items,
            Some(Node::Scalar(_) | Node::Map(_)) => {
                return Err(Malformed::Type(list.to_owned(), "a list"));
            }
        };
        items
            .iter()
            .map(|item| {
                let place = || format!("the name of an entry of {list}");
                let name = item.get("name").ok_or_else(|| Malformed::Missing(place()))?;
                let name = text_of(name).ok_or_else(|| Malformed::Type(place(), "text"))?;
                Ok((name, item))
            })
            .collect()
    }

    fn check_names(&self, list: &'static str) -> Result<(), Malformed> {
        let mut names: Vec<&str> = self.entries(list)?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        // kubectl takes the first of two equal names, others the last.
        let mut pairs = names.iter().zip(names.iter().skip(1));
        match pairs.find(|(one, other)| one == other) {
            Some((name, _)) => Err(Malformed::Duplicate(list, (*name).to_owned())),
            None => Ok(()),
        }
    }

    /// What the entry `name` of `list` holds under `field`.
    fn entry(&self, list: &'static str, field: &str, name: &str) -> Result<&Node, Malformed> {
        let found = self.entries(list)?.into_iter().find(|(n, _)| *n == name);
        let (_, item) = found.ok_or_else(|| Malformed::Unknown(list, name.to_owned()))?;
        let place = || format!("{field} of {name:?} in {list}");
        match item.get(field) {
            Some(node @ Node::Map(_)) => Ok(node),
            Some(_) => Err(Malformed::Type(place(), "a mapping")),
            None => Err(Malformed::Missing(place())),
        }
    }
}

/// The lists of a kubeconfig whose entries have names.
const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

/// The text of a node. A number or a boolean without quotes is no text: kubectl refuses it, too.
fn text_of(node: &Node) -> Option<&str> {
    match node {
        Node::Scalar(scalar) => match scalar.meaning() {
            Meaning::Text(text) => Some(text),
            Meaning::Null | Meaning::Bool(_) | Meaning::Number => None,
        },
        Node::List(_) | Node::Map(_) => None,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
