//! Roles on the data plane in the shapes of Azure's own API: `az role assignment create` and its
//! like. The operator alone may ask. There is one namespace, so a role at a subscription, a
//! resource group or a namespace holds for all hybrid connections that belong to no cluster.
//!
//! A principal is an object id of Entra ID, or a subject of another issuer. Where the relay takes
//! tokens of several issuers, the property `issuer` says which; Azure has no such property.

use serde_json::{Value as Json, json};

use super::route::{RoleItem, Scope};
use super::{Answer, Api, Call, Effect, Fault, Reply, Turn, allow, body, operator, plan};
use crate::auth::assignments::{Grant, Holder, Kind};
use crate::auth::roles::{PrincipalKind, Role, RoleAssignment};
use crate::limits::CLAIM_MAX;
use crate::role::relay::audit::{Entry, Who, rfc3339};
use crate::role::relay::registry::Request;
use crate::wire::percent;
use crate::wire::resource::check_subscription;

pub(super) fn answer(
    api: &Api,
    call: &Call<'_>,
    at: &Scope,
    item: &RoleItem,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    match item {
        RoleItem::Definitions => {
            allow(call, &["GET"])?;
            let filter = Filter::read(call.query)?;
            let wanted = |role: &Role| {
                filter.role_name.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(role.name()))
            };
            let all = Role::ALL.into_iter().filter(wanted);
            let all: Vec<Json> = all.map(|role| definition_json(at, role)).collect();
            Ok(Reply::json(200, &json!({ "value": all })).into())
        }
        RoleItem::Definition(id) => {
            allow(call, &["GET"])?;
            let role = Role::parse(id).ok_or_else(unknown_role)?;
            Ok(Reply::json(200, &definition_json(at, role)).into())
        }
        RoleItem::Assignments => {
            allow(call, &["GET"])?;
            let filter = Filter::read(call.query)?;
            let wanted = |it: &&RoleAssignment| filter.wants(api, at, it);
            let found = turn.registry.roles().iter().filter(wanted);
            let all: Vec<Json> = found.map(|it| api.assignment_json(it)).collect();
            Ok(Reply::json(200, &json!({ "value": all })).into())
        }
        RoleItem::Assignment(name) => {
            check_subscription(name).map_err(|_| {
                let message = "the name of a role assignment is a GUID";
                Fault::bad_request("InvalidRoleAssignmentId", message)
            })?;
            let name = name.to_ascii_lowercase();
            match allow(call, &["GET", "PUT", "DELETE"])? {
                "GET" => {
                    let found = turn.registry.roles().get(&name).ok_or_else(unknown)?;
                    Ok(Reply::json(200, &api.assignment_json(found)).into())
                }
                "PUT" => put(api, call, at, name, turn),
                _ => delete(api, call, name, turn),
            }
        }
    }
}

fn put(
    api: &Api,
    call: &Call<'_>,
    at: &Scope,
    name: String,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let body = body(call)?;
    let wrong = |message: &str| Fault::bad_request("InvalidRequestContent", message);
    let properties = body.optional_object("properties")?;
    let properties = properties.ok_or_else(|| wrong("the body has no properties"))?;
    let role = Role::parse(properties.text("roleDefinitionId")?).ok_or_else(unknown_role)?;
    let kind = properties.optional_text("principalType")?.unwrap_or("User");
    let kind = PrincipalKind::parse(kind)
        .ok_or_else(|| wrong("principalType is \"User\", \"Group\" or \"ServicePrincipal\""))?;
    if properties.optional_text("condition")?.is_some_and(|text| !text.is_empty()) {
        return Err(Fault::bad_request("UnsupportedCondition", "there are no conditions here"));
    }
    let principal = properties.text("principalId")?;
    if !(1..=CLAIM_MAX).contains(&principal.len()) {
        return Err(wrong("a principalId has 1 to 512 bytes"));
    }
    let issuer = properties.optional_text("issuer")?;
    if let Some(issuer) = issuer {
        api.check_issuer(issuer)?;
    }
    let issuer = api.issuer_or_only(issuer)?;
    let holder = match kind {
        PrincipalKind::Group => Holder::group(issuer, principal),
        PrincipalKind::User | PrincipalKind::ServicePrincipal => {
            Holder::user(issuer, &api.subject_in(issuer, principal))
        }
    };
    let (entity, scope) = (at.entity.clone(), at.text.clone());
    let grant = Grant {
        display: String::new(),
        granted_at: turn.unix_now,
        granted_by: super::name_of(call.caller),
    };
    let wish = RoleAssignment { name, holder, kind, role, scope, entity, grant };
    let changes = plan(Request::PutRole(Box::new(wish.clone())), turn)?;
    let known = turn.registry.roles().get(&wish.name).unwrap_or(&wish);
    let reply = Reply::json(201, &api.assignment_json(known));
    let audit = match changes.is_empty() {
        true => Vec::new(),
        false => vec![entry("role-put", call, &wish)],
    };
    Ok(Answer { audit, changes, effects: Vec::new(), reply })
}

fn delete(
    api: &Api,
    call: &Call<'_>,
    name: String,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let Some(found) = turn.registry.roles().get(&name) else {
        return Ok(Reply::empty(204).into());
    };
    let reply = Reply::json(200, &api.assignment_json(found));
    let audit = vec![entry("role-delete", call, found)];
    let effects = vec![Effect::CutRole(name.clone())];
    let changes = plan(Request::RemoveRole(name), turn)?;
    Ok(Answer { audit, changes, effects, reply })
}

fn entry(event: &'static str, call: &Call<'_>, of: &RoleAssignment) -> Entry {
    let detail = vec![
        ("role", of.role.name().to_owned()),
        ("kind", of.holder.kind.word().to_owned()),
        ("issuer", of.holder.issuer.clone()),
        ("subject", of.holder.name.clone()),
        ("name", of.name.clone()),
    ];
    let (who, peer, resource) = (Who::Operator, call.peer, of.scope.clone());
    Entry { event, refused: None, who, peer, resource, detail }
}

impl Api {
    fn assignment_json(&self, of: &RoleAssignment) -> Json {
        let subscription = of.scope.split('/').nth(2).unwrap_or_default();
        let at = rfc3339(of.grant.granted_at);
        json!({
            "id": format!(
                "{}/providers/Microsoft.Authorization/roleAssignments/{}", of.scope, of.name
            ),
            "name": of.name,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "roleDefinitionId": definition_id(subscription, of.role),
                "principalId": self.principal_of(&of.holder),
                "principalType": of.kind.word(),
                "issuer": of.holder.issuer,
                "scope": of.scope,
                "createdOn": at, "updatedOn": at,
                "createdBy": of.grant.granted_by, "updatedBy": of.grant.granted_by,
            },
        })
    }

    /// As it was named: of Entra ID, the object id without the tenant.
    fn principal_of<'a>(&self, holder: &'a Holder) -> &'a str {
        let known = self.settings.issuers.iter().find(|known| known.issuer == holder.issuer);
        let tenant = known.and_then(|known| known.tenant.as_deref());
        let own = tenant.and_then(|tenant| holder.name.strip_prefix(tenant)?.strip_prefix('/'));
        own.filter(|_| holder.kind == Kind::User).unwrap_or(&holder.name)
    }
}

fn definition_id(subscription: &str, role: Role) -> String {
    format!(
        "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{}",
        role.id()
    )
}

fn definition_json(at: &Scope, role: Role) -> Json {
    let (text, actions) = match role {
        Role::Owner => ("full", vec!["Microsoft.Relay/*"]),
        Role::Listener => ("listen", vec!["Microsoft.Relay/*/listen/action"]),
        Role::Sender => ("send", vec!["Microsoft.Relay/*/send/action"]),
    };
    json!({
        "id": definition_id(&at.subscription, role),
        "name": role.id(),
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role.name(), "type": "BuiltInRole",
            "description": format!("Allows for {text} access to Azure Relay resources."),
            "assignableScopes": ["/"],
            "permissions": [{
                "actions": [], "notActions": [], "dataActions": actions, "notDataActions": [],
            }],
        },
    })
}

fn unknown() -> Fault {
    Fault::new(404, "RoleAssignmentNotFound", "there is no such role assignment")
}

fn unknown_role() -> Fault {
    let names = Role::ALL.map(|role| format!("{} ({})", role.name(), role.id()));
    let message = format!("there is no such role; there are {}", names.join(", "));
    Fault::new(404, "RoleDefinitionDoesNotExist", &message)
}

/// `$filter` of a list. One that is not understood is refused: whoever removes what a list shows
/// must not be shown more than was asked for.
#[derive(Debug, Default, Eq, PartialEq)]
struct Filter {
    at_scope: bool,
    principal: Option<String>,
    role_name: Option<String>,
}

impl Filter {
    fn read(query: &str) -> Result<Self, Fault> {
        let bad = || {
            let message = "$filter is atScope(), principalId eq '...', assignedTo('...') or \
                           roleName eq '...', joined by and";
            Fault::bad_request("UnsupportedFilter", message)
        };
        let mut filter = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let name = percent::decode(name).ok_or_else(bad)?;
            if !name.eq_ignore_ascii_case("$filter") {
                continue;
            }
            let text = percent::decode(&value.replace('+', " ")).ok_or_else(bad)?;
            for term in text.split(" and ").map(str::trim).filter(|term| !term.is_empty()) {
                filter.take(term).ok_or_else(bad)?;
            }
        }
        Ok(filter)
    }

    fn take(&mut self, term: &str) -> Option<()> {
        if term.eq_ignore_ascii_case("atScope()") {
            self.at_scope = true;
            return Some(());
        }
        let slot = if let Some(rest) = term.strip_prefix("assignedTo(") {
            (&mut self.principal, rest.strip_suffix(')')?)
        } else {
            let (name, value) = term.split_once(" eq ")?;
            match name {
                "principalId" => (&mut self.principal, value),
                "roleName" => (&mut self.role_name, value),
                // All three are.
                "type" if value == "'BuiltInRole'" => return Some(()),
                _ => return None,
            }
        };
        let (slot, quoted) = slot;
        let text = quoted.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        let is_plain = !text.contains('\'') && slot.is_none();
        is_plain.then(|| *slot = Some(text.to_owned()))
    }

    /// Azure lists what holds at the scope, above it and below.
    fn wants(&self, api: &Api, at: &Scope, of: &RoleAssignment) -> bool {
        let holds_here = of.entity.is_none() || of.entity == at.entity;
        let is_below = at.entity.is_none() && !self.at_scope;
        let principal = api.principal_of(&of.holder);
        let is_theirs = self.principal.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(principal));
        (holds_here || is_below) && is_theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_understood_or_refused() {
        let read = |text: &str| Filter::read(text).ok();
        assert_eq!(read("api-version=2022-04-01"), Some(Filter::default()));
        let found = read("%24filter=atScope()+and+assignedTo%28%27oid-1%27%29").unwrap();
        assert!(found.at_scope && found.principal.as_deref() == Some("oid-1"));
        let found = read("$filter=roleName%20eq%20'Azure%20Relay%20Sender'").unwrap();
        assert_eq!(found.role_name.as_deref(), Some("Azure Relay Sender"));
        assert_eq!(read("$filter=type eq 'BuiltInRole'"), Some(Filter::default()));
        for text in [
            "principalId eq 'a' or principalId eq 'b'",
            "principalId ne 'a'",
            "principalId eq a",
            "principalId eq 'a",
            "assignedTo('a'",
            "principalId eq 'a' and assignedTo('b')",
            "type eq 'CustomRole'",
            "everything",
            "%zz",
        ] {
            assert_eq!(read(&format!("$filter={text}")), None, "{text}");
        }
    }
}
