//! Who is asking: authentication, then impersonation, in kube-apiserver's order and with its
//! faults. An `Impersonate-User` that is empty or absent is no impersonation at all, and the
//! request runs as the account that sent it; a front end that loses the field must be caught.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::constrained;
use super::http::{Headers, Request, percent_decode};
use super::rbac::{Attributes, Authorizer};
use super::status::Status;
use super::world::World;

pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const ANONYMOUS: &str = "system:anonymous";
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// A user as authorization sees one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: Vec<(String, Vec<String>)>,
}

/// The account that sent the request, and the user it runs as.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: User,
    pub(crate) impersonated: Option<User>,
}

impl Caller {
    pub(crate) fn user(&self) -> &User {
        self.impersonated.as_ref().unwrap_or(&self.account)
    }
}

impl User {
    pub(crate) fn new(name: &str, groups: Vec<String>) -> Self {
        Self { name: name.into(), groups, ..Self::default() }
    }

    pub(crate) fn anonymous() -> Self {
        Self::new(ANONYMOUS, vec![UNAUTHENTICATED.into()])
    }

    /// A service account with the groups that come with its name.
    pub(crate) fn service_account(namespace: &str, name: &str) -> Self {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Self::new(&user, service_account_groups(namespace))
    }

    /// The namespace and name of a service account's user name.
    pub(crate) fn service_account_parts(&self) -> Option<(&str, &str)> {
        split_service_account(&self.name)
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut user = Map::new();
        user.insert("username".into(), json!(self.name));
        if !self.uid.is_empty() {
            user.insert("uid".into(), json!(self.uid));
        }
        if !self.groups.is_empty() {
            user.insert("groups".into(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            let extra: Map<_, _> =
                self.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
            user.insert("extra".into(), extra.into());
        }
        user.into()
    }
}

/// A verified client certificate first, then a bearer token, then nobody.
pub(crate) fn authenticate(
    world: &World,
    certificate: Option<&[u8]>,
    request: &Request,
) -> Result<User, Status> {
    if let Some(user) = certificate.and_then(|der| world.authority.user_of(der)) {
        return Ok(with_authenticated(user));
    }
    let token = bearer(&request.headers).or_else(|| websocket_bearer(&request.headers));
    match token {
        None => Ok(User::anonymous()),
        Some(token) => match world.tokens.user_of(&token, world.now()) {
            Some(user) if account_still_exists(world, &user) => Ok(with_authenticated(user)),
            _ => Err(Status::unauthorized()),
        },
    }
}

/// Runs the request as somebody else if its fields say so and the account may.
pub(crate) fn impersonate(
    authorizer: &Authorizer<'_>,
    account: User,
    request: &Request,
    wanted: &Attributes,
) -> Result<Caller, Status> {
    let headers = &request.headers;
    let name = headers.first("impersonate-user").unwrap_or_default();
    let uid = headers.first("impersonate-uid").unwrap_or_default();
    let groups: Vec<String> = headers.all("impersonate-group").map(String::from).collect();
    let extra = impersonated_extra(headers);
    if name.is_empty() {
        if !groups.is_empty() || !extra.is_empty() || !uid.is_empty() {
            return Err(Status::bad_request(
                "requested groups, extra or uid without impersonating a user",
            ));
        }
        return Ok(Caller { account, impersonated: None });
    }

    let mut user = User { name: name.into(), uid: uid.into(), groups, extra };
    if !constrained::allows(authorizer, &account, &user, wanted) {
        for attributes in rights_needed(&user, "impersonate", "") {
            if !authorizer.allows(&account, &attributes) {
                return Err(attributes.refusal(&account));
            }
        }
    }
    if let (Some((namespace, _)), true) = (split_service_account(name), user.groups.is_empty()) {
        user.groups = service_account_groups(namespace);
    }
    let said = |group: &str| user.groups.iter().any(|g| g == group);
    if name == ANONYMOUS {
        if !said(UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.into());
        }
    } else if !said(AUTHENTICATED) && !said(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    Ok(Caller { account, impersonated: Some(user) })
}

/// What must be allowed for `verb`, where users and groups are of the API `group`.
pub(super) fn rights_needed(user: &User, verb: &str, group: &str) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, subresource: &str, name: &str| Attributes {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: name.into(),
        is_resource: true,
        ..Attributes::default()
    };
    let mut needed = Vec::new();
    match split_service_account(&user.name) {
        Some((namespace, name)) => {
            let mut attributes = ask("", "serviceaccounts", "", name);
            attributes.namespace = namespace.into();
            needed.push(attributes);
        }
        None => needed.push(ask(group, "users", "", &user.name)),
    }
    needed.extend(user.groups.iter().map(|name| ask(group, "groups", "", name)));
    for (key, values) in &user.extra {
        let each =
            values.iter().map(|value| ask("authentication.k8s.io", "userextras", key, value));
        needed.extend(each);
    }
    if !user.uid.is_empty() {
        needed.push(ask("authentication.k8s.io", "uids", "", &user.uid));
    }
    needed
}

/// Keys are lower-cased, then percent-decoded; a malformed escape leaves the key as it is.
fn impersonated_extra(headers: &Headers) -> Vec<(String, Vec<String>)> {
    let mut extra: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in headers.iter() {
        let Some(raw) = name.strip_prefix(EXTRA_PREFIX) else { continue };
        let key = percent_decode(raw).unwrap_or_else(|| raw.into());
        match extra.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value.into()),
            None => extra.push((key, vec![value.into()])),
        }
    }
    extra
}

/// The second word of the first `Authorization`. Another scheme, or none, is anonymous.
fn bearer(headers: &Headers) -> Option<String> {
    let mut words = headers.first("authorization")?.trim().splitn(3, ' ');
    let scheme = words.next()?;
    let token = words.next().filter(|token| !token.is_empty())?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.to_owned())
}

/// A token among the subprotocols of a WebSocket, beside at least one real subprotocol.
fn websocket_bearer(headers: &Headers) -> Option<String> {
    if !headers.has_token("upgrade", "websocket") {
        return None;
    }
    let offered: Vec<&str> = headers.list("sec-websocket-protocol").collect();
    let encoded = offered.iter().find_map(|offer| offer.strip_prefix(WEBSOCKET_BEARER))?;
    if offered.len() < 2 {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).or_else(|_| URL_SAFE.decode(encoded)).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether this subprotocol is a credential rather than a protocol.
pub(crate) fn is_credential(subprotocol: &str) -> bool {
    subprotocol.starts_with(WEBSOCKET_BEARER)
}

fn with_authenticated(mut user: User) -> User {
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

fn account_still_exists(world: &World, user: &User) -> bool {
    user.service_account_parts().is_none_or(|(namespace, name)| {
        world.store.get("serviceaccounts", namespace, name).is_some_and(|account| {
            user.uid.is_empty() || account.pointer("/metadata/uid") == Some(&json!(user.uid))
        })
    })
}

fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]
}

pub(super) fn split_service_account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let plausible = |part: &str| !part.is_empty() && !part.contains(':');
    (plausible(namespace) && plausible(name)).then_some((namespace, name))
}
