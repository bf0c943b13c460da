//! The name of a connected cluster and what follows from it: resource id, cluster id, hybrid
//! connection, TLS server name.
//!
//! Names are compared without case and never percent-decoded: a `%` is no letter of any name, so
//! a path means one thing to everybody who reads it.

use std::fmt;

use ring::digest::{SHA256, digest};

use crate::limits::{CLUSTER_NAME_MAX, RESOURCE_GROUP_MAX, RESOURCE_ID_MAX};

/// A resource id: `/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.Kubernetes/connectedClusters/{name}`.
#[derive(Clone, Debug)]
pub struct ResourceId {
    subscription: String,
    group: String,
    name: String,
}

/// The subscription of a name that says none.
pub const DEFAULT_SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";

/// The resource group of a name that says none.
pub const DEFAULT_GROUP: &str = "default";

/// The type of a connected cluster.
pub const CLUSTER_TYPE: &str = "Microsoft.Kubernetes/connectedClusters";

/// What the hybrid connections of connected clusters begin with.
pub const ENTITY_PREFIX: &str = "microsoft.kubernetes/connectedclusters/";

impl ResourceId {
    /// Reads a full resource id, `group/name`, or `name`.
    ///
    /// # Errors
    ///
    /// [`Misnamed`] says which part breaks which rule.
    pub fn parse(text: &str) -> Result<Self, Misnamed> {
        if text.len() > RESOURCE_ID_MAX {
            return Err(Misnamed::TooLong(text.len()));
        }
        let Some(path) = text.strip_prefix('/') else {
            return match text.split_once('/') {
                None => Self::of(DEFAULT_SUBSCRIPTION, DEFAULT_GROUP, text),
                Some((group, name)) => Self::of(DEFAULT_SUBSCRIPTION, group, name),
            };
        };
        let segments: Vec<&str> = path.split('/').collect();
        let [s, subscription, g, group, p, provider, kind, name] = segments[..] else {
            return Err(Misnamed::Shape);
        };
        let shape = [(s, "subscriptions"), (g, "resourceGroups"), (p, "providers")];
        let words = shape.iter().all(|(got, want)| got.eq_ignore_ascii_case(want));
        if !words || !is_cluster_type(provider, kind) {
            return Err(Misnamed::Shape);
        }
        Self::of(subscription, group, name)
    }

    /// Puts an id together from its parts.
    ///
    /// # Errors
    ///
    /// [`Misnamed`] says which part breaks which rule.
    pub fn of(subscription: &str, group: &str, name: &str) -> Result<Self, Misnamed> {
        check_subscription(subscription)?;
        check_group(group)?;
        check_name(name)?;
        let (subscription, group, name) = (subscription.into(), group.into(), name.into());
        Ok(Self { subscription, group, name })
    }

    /// The subscription, as written.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The resource group, as written.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The cluster's own name, as written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The full text, in the case in which it was written.
    pub fn id(&self) -> String {
        let Self { subscription, group, name } = self;
        format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/{CLUSTER_TYPE}/{name}"
        )
    }

    /// `hex(sha256(lower(resource id)))`: a route, never a secret.
    pub fn cluster_id(&self) -> String {
        hex(digest(&SHA256, self.id().to_ascii_lowercase().as_bytes()).as_ref())
    }

    /// The hybrid connection of this cluster.
    pub fn entity(&self) -> String {
        entity_of(&self.cluster_id())
    }

    /// The name in the certificate of the cluster's auth proxy: a DNS label holds 63 characters,
    /// so half of the id has to do.
    pub fn server_name(&self) -> String {
        let id = self.cluster_id();
        format!("{}.cluster-connect.internal", id.get(..32).unwrap_or_default())
    }
}

/// The same cluster, however its name is capitalised.
impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.subscription.eq_ignore_ascii_case(&other.subscription)
            && self.group.eq_ignore_ascii_case(&other.group)
            && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl Eq for ResourceId {}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

/// The hybrid connection of the cluster with this id.
pub fn entity_of(cluster_id: &str) -> String {
    format!("{ENTITY_PREFIX}{cluster_id}")
}

/// Whether these two segments name the type of a connected cluster.
pub fn is_cluster_type(provider: &str, kind: &str) -> bool {
    provider.eq_ignore_ascii_case("Microsoft.Kubernetes")
        && kind.eq_ignore_ascii_case("connectedClusters")
}

/// A subscription is a GUID.
///
/// # Errors
///
/// [`Misnamed::Subscription`].
pub fn check_subscription(text: &str) -> Result<(), Misnamed> {
    let dashes = [8, 13, 18, 23];
    let good = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match dashes.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        });
    if good { Ok(()) } else { Err(Misnamed::Subscription) }
}

/// A resource group: up to 90 letters, digits, `-`, `_`, `.`, `(` and `)`, no dot at the end.
/// Azure takes letters of other scripts too; here lower case has to mean one thing everywhere.
///
/// # Errors
///
/// [`Misnamed::Group`].
pub fn check_group(text: &str) -> Result<(), Misnamed> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.()".contains(&byte);
    let good = (1..=RESOURCE_GROUP_MAX).contains(&text.len())
        && text.bytes().all(letter)
        && !text.ends_with('.');
    if good { Ok(()) } else { Err(Misnamed::Group) }
}

/// A cluster: up to 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends.
fn check_name(text: &str) -> Result<(), Misnamed> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let good = text.len() <= CLUSTER_NAME_MAX
        && text.bytes().all(letter)
        && edge(text.bytes().next())
        && edge(text.bytes().last());
    if good { Ok(()) } else { Err(Misnamed::Name) }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
        text
    })
}

/// Why a text does not name a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misnamed {
    /// Longer than any resource id.
    TooLong(usize),
    /// Neither a full id, nor `group/name`, nor `name`.
    Shape,
    /// The subscription is not a GUID.
    Subscription,
    /// The resource group breaks its rule.
    Group,
    /// The cluster's name breaks its rule.
    Name,
}

impl fmt::Display for Misnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "a resource id of {len} bytes is too long"),
            Self::Shape => f.write_str(
                "a cluster is named by its resource id, by group/name, or by name alone",
            ),
            Self::Subscription => f.write_str("a subscription is a GUID"),
            Self::Group => f.write_str(
                "a resource group has 1 to 90 letters, digits, '-', '_', '.', '(' and ')', \
                 and does not end with '.'",
            ),
            Self::Name => f.write_str(
                "a cluster name has 1 to 63 letters, digits, '-', '_' and '.', \
                 and a letter or digit at both ends",
            ),
        }
    }
}

impl std::error::Error for Misnamed {}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "/subscriptions/1bfbb5d0-917e-4346-9026-1d3b344417f5/resourceGroups/k8sc-rg\
                        /providers/Microsoft.Kubernetes/connectedClusters/Edge-7";

    #[test]
    fn a_bare_name_a_group_and_a_full_id_are_all_names() {
        let bare = ResourceId::parse("edge-7").unwrap();
        assert_eq!((bare.subscription(), bare.group()), (DEFAULT_SUBSCRIPTION, DEFAULT_GROUP));
        let grouped = ResourceId::parse("berlin/edge-7").unwrap();
        assert_eq!((grouped.group(), grouped.name()), ("berlin", "edge-7"));
        assert_eq!(ResourceId::parse(FULL).unwrap().id(), FULL);
        assert_eq!(ResourceId::parse(&bare.id()).unwrap(), bare);
    }

    #[test]
    fn everything_derived_is_the_same_in_any_case() {
        let (as_is, upper) = (FULL.to_owned(), FULL.to_ascii_uppercase());
        let (a, b) = (ResourceId::parse(&as_is).unwrap(), ResourceId::parse(&upper).unwrap());
        assert_eq!(a, b);
        assert_eq!(a.cluster_id(), b.cluster_id());
        assert_eq!(a.cluster_id().len(), 64);
        assert_eq!(a.entity(), format!("{ENTITY_PREFIX}{}", a.cluster_id()));
        let label = a.server_name();
        assert_eq!(label.split_once('.').unwrap().0, &a.cluster_id()[..32]);
    }

    #[test]
    fn the_cluster_id_is_the_hash_of_the_lower_case_text() {
        let id = ResourceId::parse("edge-7").unwrap();
        let text = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/default\
                    /providers/microsoft.kubernetes/connectedclusters/edge-7";
        assert_eq!(id.cluster_id(), hex(digest(&SHA256, text.as_bytes()).as_ref()));
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(64);
        for name in [
            "", ".", "..", "a/..", "../a", "%2e%2e", "a%2fb", "a\\b", "a b", "a\0", "-a", "a-",
            "_a", "a.", "ä", "a/b/c", "a;b", "a?b", "a#b", "a\nb", "a\"b", &long,
        ] {
            assert!(ResourceId::parse(name).is_err(), "{name:?}");
        }
        assert!(ResourceId::parse(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn hostile_paths_are_refused() {
        let provider = "providers/Microsoft.Kubernetes/connectedClusters";
        let sub = DEFAULT_SUBSCRIPTION;
        for path in [
            format!("/subscriptions/{sub}/resourceGroups/g/{provider}/a/"),
            format!("/subscriptions/{sub}/resourceGroups/g/{provider}//a"),
            format!("//subscriptions/{sub}/resourceGroups/g/{provider}/a"),
            format!("/subscriptions/{sub}/resourceGroups/../{provider}/a"),
            format!("/subscriptions/{sub}/resourceGroups/g%2f..%2fh/{provider}/a"),
            format!("/subscriptions/{sub}/resourceGroups/g./{provider}/a"),
            format!("/subscriptions/{sub}/resourceGroups/{}/{provider}/a", "g".repeat(91)),
            format!("/subscriptions/not-a-guid/resourceGroups/g/{provider}/a"),
            format!("/subscriptions/{}/resourceGroups/g/{provider}/a", sub.replace('-', "0")),
            format!("/subscriptions/{sub}/resourceGroups/g/providers/Microsoft.Storage/x/a"),
            format!("/subscriptions/{sub}/resourceGroups/g/{provider}/{}", "a".repeat(600)),
        ] {
            assert!(ResourceId::parse(&path).is_err(), "{path}");
        }
    }
}
