//! Paths and queries of the API. Nothing is percent-decoded: no name has a letter that needs it,
//! so a path with a `%` is refused and cannot mean two things.

use crate::limits::API_PATH_MAX;
use crate::wire::resource::{
    Misnamed, ResourceId, check_group, check_subscription, is_cluster_type,
};

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// What can be done with clusters at all.
    Operations,
    /// The clusters of a subscription, or of one of its resource groups.
    Clusters { subscription: String, group: Option<String> },
    /// A cluster.
    Cluster(ResourceId),
    /// Something to do with a cluster.
    Action(ResourceId, Action),
    /// Something in a Relay namespace.
    Relay(Namespace),
    /// The Relay namespaces of a subscription or resource group, with this path.
    Namespaces { prefix: String },
    /// Whether a Relay namespace may have a name.
    NameAvailable,
    /// What can be done with Relay namespaces at all.
    RelayOperations,
    /// Roles on the data plane.
    Roles(Scope, RoleItem),
}

/// Where a role holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Scope {
    /// As written.
    pub(super) text: String,
    pub(super) subscription: String,
    /// A hybrid connection, in lower case; otherwise the one namespace as a whole.
    pub(super) entity: Option<String>,
}

/// Something about roles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RoleItem {
    Definitions,
    Definition(String),
    Assignments,
    Assignment(String),
}

/// What can be done with a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    CreateJoinToken,
    Enroll,
    ListenChallenge,
    ListenToken,
    Grant,
    Revoke,
    RoleAssignments,
    Credential,
}

/// A Relay namespace, and what in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Namespace {
    /// Up to and with the namespace's name.
    pub(super) prefix: String,
    pub(super) subscription: String,
    pub(super) name: String,
    pub(super) item: Item,
}

/// Something in a Relay namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Item {
    Namespace,
    NetworkRules,
    Entities,
    Entity(String),
    /// Of the namespace, or of a hybrid connection.
    Rules(Option<String>),
    Rule(Option<String>, String),
    ListKeys(Option<String>, String),
    RegenerateKeys(Option<String>, String),
}

/// Why a path names nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lost {
    /// Too long, or with letters or segments that no path has.
    Path,
    /// Well formed, and not known.
    Unknown,
    /// A name breaks its rule.
    Name(Misnamed),
}

impl Action {
    const ALL: [(Self, &'static str); 8] = [
        (Self::CreateJoinToken, "createJoinToken"),
        (Self::Enroll, "enroll"),
        (Self::ListenChallenge, "listenChallenge"),
        (Self::ListenToken, "listenToken"),
        (Self::Grant, "grant"),
        (Self::Revoke, "revoke"),
        (Self::RoleAssignments, "roleAssignments"),
        (Self::Credential, "listClusterUserCredential"),
    ];

    /// Its name, in paths and in the audit log.
    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(action, _)| *action == self).map_or("", |(_, word)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(word));
        found.map(|(action, _)| *action)
    }
}

/// What `path` names.
pub(super) fn parse(path: &str) -> Result<Route, Lost> {
    let segment = |segment: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.()~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(letter)
    };
    let segments = path.strip_prefix('/').filter(|_| path.len() <= API_PATH_MAX);
    let segments: Vec<&str> = segments.ok_or(Lost::Path)?.split('/').collect();
    if !segments.iter().all(|it| segment(it)) {
        return Err(Lost::Path);
    }
    if let [providers, provider, operations] = &segments[..]
        && word(providers, "providers")
        && word(operations, "operations")
    {
        return match () {
            () if word(provider, "Microsoft.Kubernetes") => Ok(Route::Operations),
            () if word(provider, "Microsoft.Relay") => Ok(Route::RelayOperations),
            () => Err(Lost::Unknown),
        };
    }
    match roles(&segments) {
        Some(route) => route,
        None => resource(&segments),
    }
}

fn word(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word)
}

/// Roles at a scope; `None` if the path is of something else.
fn roles(segments: &[&str]) -> Option<Result<Route, Lost>> {
    let (rest, name) = match segments {
        [rest @ .., p, a, _] if word(p, "providers") && word(a, AUTHORIZATION) => (rest, None),
        [rest @ .., p, a, _, name] if word(p, "providers") && word(a, AUTHORIZATION) => {
            (rest, Some((*name).to_owned()))
        }
        _ => return None,
    };
    let kind = segments.get(rest.len().saturating_add(2)).copied().unwrap_or_default();
    let item = match name {
        None if word(kind, "roleDefinitions") => RoleItem::Definitions,
        None if word(kind, "roleAssignments") => RoleItem::Assignments,
        Some(name) if word(kind, "roleDefinitions") => RoleItem::Definition(name),
        Some(name) if word(kind, "roleAssignments") => RoleItem::Assignment(name),
        _ => return Some(Err(Lost::Unknown)),
    };
    Some(scope(rest).map(|scope| Route::Roles(scope, item)))
}

fn scope(segments: &[&str]) -> Result<Scope, Lost> {
    let [first, subscription, rest @ ..] = segments else { return Err(Lost::Unknown) };
    if !word(first, "subscriptions") {
        return Err(Lost::Unknown);
    }
    check_subscription(subscription).map_err(Lost::Name)?;
    let entity = match rest {
        [] => None,
        [groups, group] if word(groups, "resourceGroups") => {
            check_group(group).map_err(Lost::Name)?;
            None
        }
        _ => match resource(segments)? {
            Route::Relay(Namespace { item: Item::Namespace, .. }) => None,
            Route::Relay(Namespace { item: Item::Entity(name), .. }) => {
                Some(name.to_ascii_lowercase())
            }
            _ => return Err(Lost::Unknown),
        },
    };
    let text = format!("/{}", segments.join("/"));
    Ok(Scope { text, subscription: (*subscription).to_owned(), entity })
}

fn resource(segments: &[&str]) -> Result<Route, Lost> {
    let [first, subscription, rest @ ..] = segments else { return Err(Lost::Unknown) };
    if !word(first, "subscriptions") {
        return Err(Lost::Unknown);
    }
    check_subscription(subscription).map_err(Lost::Name)?;
    let (group, rest) = match rest {
        [groups, group, rest @ ..] if word(groups, "resourceGroups") => {
            check_group(group).map_err(Lost::Name)?;
            (Some(*group), rest)
        }
        rest => (None, rest),
    };
    let [providers, provider, kind, rest @ ..] = rest else { return Err(Lost::Unknown) };
    if !word(providers, "providers") {
        return Err(Lost::Unknown);
    }
    if is_cluster_type(provider, kind) {
        return cluster(subscription, group, rest);
    }
    if !word(provider, "Microsoft.Relay") {
        return Err(Lost::Unknown);
    }
    match (group, rest) {
        (None, []) if word(kind, "checkNameAvailability") => Ok(Route::NameAvailable),
        (_, []) if word(kind, "namespaces") => {
            let group = group.map_or_else(String::new, |group| format!("/resourceGroups/{group}"));
            let prefix = format!("/subscriptions/{subscription}{group}");
            Ok(Route::Namespaces { prefix })
        }
        (Some(group), rest) if word(kind, "namespaces") => {
            namespace(subscription, group, rest).map(Route::Relay)
        }
        _ => Err(Lost::Unknown),
    }
}

const AUTHORIZATION: &str = "Microsoft.Authorization";

fn cluster(subscription: &str, group: Option<&str>, rest: &[&str]) -> Result<Route, Lost> {
    let resource = |name| {
        let group = group.ok_or(Lost::Unknown)?;
        ResourceId::of(subscription, group, name).map_err(Lost::Name)
    };
    match rest {
        [] => {
            let (subscription, group) = (subscription.to_owned(), group.map(str::to_owned));
            Ok(Route::Clusters { subscription, group })
        }
        [name] => Ok(Route::Cluster(resource(name)?)),
        [name, action] => {
            let action = Action::parse(action).ok_or(Lost::Unknown)?;
            Ok(Route::Action(resource(name)?, action))
        }
        [_, _, _, ..] => Err(Lost::Unknown),
    }
}

fn namespace(subscription: &str, group: &str, rest: &[&str]) -> Result<Namespace, Lost> {
    let [name, rest @ ..] = rest else { return Err(Lost::Unknown) };
    // As in Azure's own tools a `~` stands for a slash in the name of a hybrid connection.
    let (entity, rest) = match rest {
        [kind, entity, rest @ ..] if word(kind, "hybridConnections") => {
            (Some(entity.replace('~', "/")), rest)
        }
        rest => (None, rest),
    };
    let item = match rest {
        [] => entity.map_or(Item::Namespace, Item::Entity),
        [kind] if word(kind, "hybridConnections") && entity.is_none() => Item::Entities,
        [kind, name]
            if word(kind, "networkRuleSets") && word(name, "default") && entity.is_none() =>
        {
            Item::NetworkRules
        }
        [kind] if word(kind, "authorizationRules") => Item::Rules(entity),
        [kind, rule] if word(kind, "authorizationRules") => Item::Rule(entity, (*rule).to_owned()),
        [kind, rule, verb] if word(kind, "authorizationRules") => {
            let rule = (*rule).to_owned();
            match () {
                () if word(verb, "listKeys") => Item::ListKeys(entity, rule),
                () if word(verb, "regenerateKeys") => Item::RegenerateKeys(entity, rule),
                () => return Err(Lost::Unknown),
            }
        }
        [..] => return Err(Lost::Unknown),
    };
    let prefix = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Relay/namespaces/{name}"
    );
    let (subscription, name) = (subscription.to_owned(), (*name).to_owned());
    Ok(Namespace { prefix, subscription, name, item })
}

/// Why the API version will not do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    Missing,
    Unknown,
}

/// Checks `api-version` in `query`: a date, not before `oldest`, perhaps with `-preview`.
pub(super) fn check_version(query: &str, oldest: &str) -> Result<(), Version> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut versions = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("api-version"));
    let (_, version) = versions.next().ok_or(Version::Missing)?;
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let shape = date.len() == 10
        && date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if shape && date >= oldest && versions.next().is_none() {
        Ok(())
    } else {
        Err(Version::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default\
                        /providers/Microsoft.Kubernetes/connectedClusters";

    #[test]
    fn words_of_a_path_have_any_case() {
        let edge = ResourceId::parse("edge-7").unwrap();
        let path = format!("{BASE}/edge-7");
        assert_eq!(parse(&path), Ok(Route::Cluster(edge.clone())));
        assert_eq!(parse(&path.to_uppercase()), Ok(Route::Cluster(edge.clone())));
        let path = format!("{path}/LISTCLUSTERUSERCREDENTIAL");
        assert_eq!(parse(&path), Ok(Route::Action(edge, Action::Credential)));
        assert!(matches!(parse(BASE), Ok(Route::Clusters { group: Some(_), .. })));
        let all = BASE.replace("/resourceGroups/default", "");
        assert!(matches!(parse(&all), Ok(Route::Clusters { group: None, .. })));
        let operations = parse("/Providers/microsoft.kubernetes/operations");
        assert_eq!(operations, Ok(Route::Operations));
    }

    #[test]
    fn tricks_with_paths_are_refused() {
        for tail in [
            "/",
            "//edge-7",
            "/edge-7/",
            "/../edge-7",
            "/./edge-7",
            "/%2e%2e",
            "/edge%2f7",
            "/edge%2F..%2F7",
            "/edge-7%00",
            "/edge-7;x",
            "/edge-7\\grant",
            "/edge 7",
            "/édge",
            &"/a".repeat(300),
        ] {
            assert_eq!(parse(&format!("{BASE}{tail}")), Err(Lost::Path), "{tail}");
        }
        for path in ["", "edge-7", "*", "http://relay/x"] {
            assert_eq!(parse(path), Err(Lost::Path), "{path}");
        }
        for tail in ["/edge-7/x", "/edge-7/grant/x", "/a/b/c/d"] {
            assert_eq!(parse(&format!("{BASE}{tail}")), Err(Lost::Unknown), "{tail}");
        }
        assert_eq!(parse("/"), Err(Lost::Path));
        assert_eq!(parse("/subscriptions"), Err(Lost::Unknown));
        assert_eq!(
            parse("/subscriptions/x/providers/y/z"),
            Err(Lost::Name(Misnamed::Subscription))
        );
        assert_eq!(parse(&format!("{BASE}/-x")), Err(Lost::Name(Misnamed::Name)));
        let no_group = BASE.replace("/resourceGroups/default", "");
        assert_eq!(parse(&format!("{no_group}/edge-7")), Err(Lost::Unknown));
    }

    #[test]
    fn a_relay_namespace_has_hybrid_connections_and_rules() {
        let base =
            BASE.replace("Microsoft.Kubernetes/connectedClusters", "microsoft.relay/namespaces/ns");
        let item = |tail: &str| match parse(&format!("{base}{tail}")) {
            Ok(Route::Relay(of)) => Some(of.item),
            _ => None,
        };
        let entity = Some("lab/hc".to_owned());
        assert_eq!(item(""), Some(Item::Namespace));
        assert_eq!(item("/hybridConnections"), Some(Item::Entities));
        assert_eq!(item("/HybridConnections/lab~hc"), entity.clone().map(Item::Entity));
        assert_eq!(item("/authorizationRules"), Some(Item::Rules(None)));
        let keys = Item::ListKeys(entity, "r".into());
        assert_eq!(item("/hybridConnections/lab~hc/authorizationRules/r/listKeys"), Some(keys));
        assert_eq!(item("/authorizationRules/r/dropKeys"), None);
        assert_eq!(item("/hybridConnections/a/hybridConnections"), None);
    }

    #[test]
    fn an_api_version_is_a_date_that_is_not_too_old() {
        let check = |query| check_version(query, "2021-10-01");
        assert_eq!(check("api-version=2021-10-01"), Ok(()));
        assert_eq!(check("x=1&API-Version=2024-07-15-preview"), Ok(()));
        assert_eq!(check(""), Err(Version::Missing));
        assert_eq!(check("api-version"), Err(Version::Missing));
        for query in [
            "api-version=",
            "api-version=2021-03-01",
            "api-version=9",
            "api-version=2021-10-0x",
            "api-version=2021-10-01&api-version=2024-07-15",
            "api-version=2021-10-01-beta",
        ] {
            assert_eq!(check(query), Err(Version::Unknown), "{query}");
        }
    }
}
