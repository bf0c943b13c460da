//! Hybrid connections and authorization rules in the shapes of Azure Relay's own API, for tools
//! that speak it. There is one namespace, and any name stands for it; the operator alone may ask.
//!
//! A hybrid connection has four properties more than in Azure: `httpRequests` (whether they are
//! relayed), and in seconds `acceptTimeoutSeconds`, `responseTimeoutSeconds` and
//! `bodyGapTimeoutSeconds` ([`Deadlines`](crate::role::relay::authority::Deadlines)).

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::route::{Item, Namespace};
use super::{Answer, Api, Call, Effect, Fault, Reply, Turn, allow, body, network, operator, plan};
use crate::auth::network::NetworkRules;
use crate::auth::sas::Rule;
use crate::limits::{DEADLINE_MAX, TEXT_MAX, USER_METADATA_MAX};
use crate::role::relay::audit::{Entry, Who, rfc3339};
use crate::role::relay::open::without_port;
use crate::role::relay::registry::{
    Change, Entity, EntityWish, Request, parse_rights, rights_words,
};
use crate::secret::Secret;
use crate::wire::json::{Object, Value};

pub(super) fn answer(
    api: &Api,
    call: &Call<'_>,
    at: &Namespace,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    match &at.item {
        Item::Namespace => namespace(api, call, at, turn),
        Item::NetworkRules => network::answer(call, at, turn),
        Item::Entities => {
            allow(call, &["GET"])?;
            let own = turn.registry.entities().filter(|entity| entity.cluster.is_none());
            let all: Vec<Json> = own.map(|entity| entity_json(at, entity, turn)).collect();
            Ok(Reply::json(200, &json!({ "value": all })).into())
        }
        Item::Entity(name) => match allow(call, &["GET", "PUT", "DELETE"])? {
            "GET" => Ok(Reply::json(200, &entity_json(at, found(name, turn)?, turn)).into()),
            "PUT" => put_entity(call, at, name, turn),
            _ => delete_entity(call, at, name, turn),
        },
        Item::Rules(entity) => {
            allow(call, &["GET"])?;
            readable(entity.as_deref(), turn)?;
            let rules = turn.registry.rules(entity.as_deref()).ok_or_else(unknown)?;
            let of = |rule: &Rule| rule_json(at, entity.as_deref(), rule);
            let all: Vec<Json> = rules.values().map(|rule| of(rule)).collect();
            Ok(Reply::json(200, &json!({ "value": all })).into())
        }
        Item::Rule(entity, name) => match allow(call, &["GET", "PUT", "DELETE"])? {
            "GET" => {
                let rule = rule_of(entity.as_deref(), name, turn)?;
                Ok(Reply::json(200, &rule_json(at, entity.as_deref(), rule)).into())
            }
            "PUT" => put_rule(call, at, entity.clone(), name, turn),
            _ => delete_rule(call, at, entity.clone(), name, turn),
        },
        Item::ListKeys(entity, name) => {
            allow(call, &["POST"])?;
            let rule = rule_of(entity.as_deref(), name, turn)?;
            let keys = keys_json(&api.relay_name(call.host)?, entity.as_deref(), rule);
            Ok(changed(call, at, "keys-list", name, Vec::new(), Reply::json(200, &keys)))
        }
        Item::RegenerateKeys(entity, name) => {
            allow(call, &["POST"])?;
            regenerate(api, call, at, entity.as_deref(), name, turn)
        }
    }
}

/// The namespace itself: it is there whatever it is called, and stays.
fn namespace(
    api: &Api,
    call: &Call<'_>,
    at: &Namespace,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    match allow(call, &["GET", "PUT", "PATCH", "DELETE"])? {
        "GET" => {
            let shown = namespace_json(api, call, at, turn.registry.network())?;
            Ok(Reply::json(200, &shown).into())
        }
        "DELETE" => {
            let message = "the relay has one namespace, which stays; remove its hybrid \
                           connections one by one";
            Err(Fault::new(409, "Conflict", message))
        }
        _ => {
            if !is_namespace_name(&at.name) {
                return Err(Fault::bad_request("InvalidResourceName", NAMESPACE_NAME));
            }
            let mut answer = network::put_access(call, at, turn)?;
            let changed = answer.changes.iter().find_map(|change| match change {
                Change::Network(rules) => Some(rules),
                _ => None,
            });
            let rules = changed.unwrap_or_else(|| turn.registry.network());
            answer.reply = Reply::json(200, &namespace_json(api, call, at, rules)?);
            Ok(answer)
        }
    }
}

/// The one namespace, under the name that the host has in Azure.
pub(super) fn list(
    api: &Api,
    call: &Call<'_>,
    prefix: &str,
    turn: &Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    allow(call, &["GET"])?;
    let host = api.relay_name(call.host)?;
    let name = host.split(['.', ':']).next().filter(|name| is_namespace_name(name));
    let name = name.unwrap_or("cluster-connect").to_owned();
    let subscription = prefix.split('/').nth(2).unwrap_or_default().to_owned();
    // Of a subscription, every group will do.
    let group = if prefix.contains("/resourceGroups/") { "" } else { "/resourceGroups/default" };
    let prefix = format!("{prefix}{group}/providers/Microsoft.Relay/namespaces/{name}");
    let at = Namespace { prefix, subscription, name, item: Item::Namespace };
    let shown = namespace_json(api, call, &at, turn.registry.network())?;
    Ok(Reply::json(200, &json!({ "value": [shown] })).into())
}

pub(super) fn name_available(call: &Call<'_>) -> Result<Answer, Fault> {
    operator(call)?;
    allow(call, &["POST"])?;
    let body = body(call)?;
    let found = match is_namespace_name(body.text("name")?) {
        true => json!({"nameAvailable": true, "reason": "None", "message": ""}),
        false => json!({
            "nameAvailable": false, "reason": "InvalidName", "message": NAMESPACE_NAME,
        }),
    };
    Ok(Reply::json(200, &found).into())
}

/// What Azure's clients show as the operations of the provider.
pub(super) fn operations() -> Answer {
    let all = ["namespaces", "namespaces/hybridConnections", "namespaces/authorizationRules"];
    let all: Vec<Json> = all
        .iter()
        .flat_map(|resource| ["read", "write", "delete"].map(|verb| (resource, verb)))
        .map(|(resource, verb)| {
            json!({
                "name": format!("Microsoft.Relay/{resource}/{verb}"),
                "isDataAction": false,
                "display": {
                    "provider": "Microsoft.Relay", "resource": resource, "operation": verb,
                    "description": format!("{verb} {resource}"),
                },
            })
        })
        .collect();
    Reply::json(200, &json!({ "value": all })).into()
}

const NAMESPACE_NAME: &str = "a namespace has 6 to 50 letters, digits and '-', a letter first and \
                              a letter or digit last";

fn is_namespace_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (6..=50).contains(&name.len())
        && name.bytes().all(letter)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && !name.ends_with('-')
}

fn put_entity(
    call: &Call<'_>,
    at: &Namespace,
    name: &str,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let (body, none) = (body(call)?, Object::default());
    let properties = body.optional_object("properties")?.unwrap_or(&none);
    let metadata = properties.optional_text("userMetadata")?;
    if metadata.is_some_and(|text| text.len() > USER_METADATA_MAX) {
        let message = format!("userMetadata is up to {USER_METADATA_MAX} bytes");
        return Err(Fault::bad_request("InvalidRequestContent", &message));
    }
    let wish = EntityWish {
        requires_client_authorization: properties.optional_bool("requiresClientAuthorization")?,
        user_metadata: metadata.map(str::to_owned),
        http: properties.optional_bool("httpRequests")?,
        accept: deadline(properties, "acceptTimeoutSeconds")?,
        response: deadline(properties, "responseTimeoutSeconds")?,
        body_gap: deadline(properties, "bodyGapTimeoutSeconds")?,
    };
    let changes = plan(Request::PutEntity { name: name.to_owned(), wish }, turn)?;
    let entity = changes.iter().find_map(|change| match change {
        Change::Entity(entity) => Some(entity),
        _ => None,
    });
    let reply = Reply::json(200, &entity_json(at, entity.ok_or_else(unknown)?, turn));
    Ok(changed(call, at, "entity-put", name, changes, reply))
}

fn deadline(of: &Object, key: &str) -> Result<Option<Duration>, Fault> {
    let longest = DEADLINE_MAX.as_secs();
    match of.optional_unsigned(key)? {
        None => Ok(None),
        Some(seconds) if (1..=longest).contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
        Some(_) => {
            let message = format!("{key} is between 1 and {longest}");
            Err(Fault::bad_request("InvalidRequestContent", &message))
        }
    }
}

fn delete_entity(
    call: &Call<'_>,
    at: &Namespace,
    name: &str,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    if turn.registry.entity(name).is_none() {
        return Ok(Reply::empty(204).into());
    }
    let changes = plan(Request::RemoveEntity(name.to_owned()), turn)?;
    let mut answer = changed(call, at, "entity-delete", name, changes, Reply::empty(200));
    answer.effects.push(Effect::Disconnect(name.to_ascii_lowercase()));
    Ok(answer)
}

fn put_rule(
    call: &Call<'_>,
    at: &Namespace,
    entity: Option<String>,
    name: &str,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let (body, none) = (body(call)?, Object::default());
    let properties = body.optional_object("properties")?.unwrap_or(&none);
    let words = properties.optional_array("rights")?.unwrap_or_default();
    let rights = parse_rights(words.iter().map(|word| word.as_text().unwrap_or_default()));
    let rights = rights.ok_or_else(|| {
        Fault::bad_request("InvalidRights", "rights are \"Listen\", \"Send\" and \"Manage\"")
    })?;
    let owner = entity.clone();
    let changes = plan(Request::PutRule { entity, name: name.to_owned(), rights }, turn)?;
    let rule = new_rule(&changes).ok_or_else(unknown)?;
    let reply = Reply::json(200, &rule_json(at, owner.as_deref(), rule));
    Ok(changed(call, at, "rule-put", name, changes, reply))
}

fn delete_rule(
    call: &Call<'_>,
    at: &Namespace,
    entity: Option<String>,
    name: &str,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    if rule_of(entity.as_deref(), name, turn).is_err_and(|fault| fault.status == 404) {
        return Ok(Reply::empty(204).into());
    }
    let changes = plan(Request::RemoveRule { entity, name: name.to_owned() }, turn)?;
    Ok(changed(call, at, "rule-delete", name, changes, Reply::empty(200)))
}

fn regenerate(
    api: &Api,
    call: &Call<'_>,
    at: &Namespace,
    entity: Option<&str>,
    name: &str,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let body = body(call)?;
    let primary = match body.text("keyType")? {
        "PrimaryKey" => true,
        "SecondaryKey" => false,
        _ => {
            let message = "keyType is \"PrimaryKey\" or \"SecondaryKey\"";
            return Err(Fault::bad_request("InvalidKeyType", message));
        }
    };
    // A key of the caller's choice has to be worth something as a secret.
    let key = match body.get("key") {
        None | Some(Value::Null) => None,
        Some(Value::Text(key)) if (32..=TEXT_MAX).contains(&key.len()) => {
            Some(Secret::new(key.clone()))
        }
        Some(_) => {
            let message = format!("a key has 32 to {TEXT_MAX} characters");
            return Err(Fault::bad_request("InvalidKey", &message));
        }
    };
    let owner = entity.map(str::to_owned);
    let request = Request::RegenerateKey { entity: owner, name: name.to_owned(), primary, key };
    let changes = plan(request, turn)?;
    let rule = new_rule(&changes).ok_or_else(unknown)?;
    let keys = keys_json(&api.relay_name(call.host)?, entity, rule);
    Ok(changed(call, at, "keys-regenerate", name, changes, Reply::json(200, &keys)))
}

fn new_rule(changes: &[Change]) -> Option<&Rule> {
    changes.iter().find_map(|change| match change {
        Change::Rule(_, rule) => Some(rule),
        _ => None,
    })
}

fn found<'a>(name: &str, turn: &Turn<'a, '_>) -> Result<&'a Entity, Fault> {
    turn.registry.entity(name).ok_or_else(unknown)
}

/// The keys of a connected cluster never leave the relay, not even for its operator.
fn readable(entity: Option<&str>, turn: &Turn<'_, '_>) -> Result<(), Fault> {
    let entity = entity.and_then(|name| turn.registry.entity(name));
    match entity.and_then(|entity| entity.cluster.as_ref()) {
        None => Ok(()),
        Some(_) => {
            let message = "the rules of a connected cluster are the relay's own";
            Err(Fault::new(403, "AuthorizationFailed", message))
        }
    }
}

fn rule_of<'a>(entity: Option<&str>, name: &str, turn: &Turn<'a, '_>) -> Result<&'a Rule, Fault> {
    readable(entity, turn)?;
    let rules = turn.registry.rules(entity);
    rules
        .and_then(|rules| rules.get(&name.to_ascii_lowercase()))
        .map(Box::as_ref)
        .ok_or_else(unknown)
}

fn unknown() -> Fault {
    Fault::new(404, "ResourceNotFound", "there is no such hybrid connection or rule")
}

pub(super) fn changed(
    call: &Call<'_>,
    at: &Namespace,
    event: &'static str,
    name: &str,
    changes: Vec<Change>,
    reply: Reply,
) -> Answer {
    let (who, peer, resource) = (Who::Operator, call.peer, at.prefix.clone());
    let detail = vec![("name", name.to_owned())];
    let audit = vec![Entry { event, refused: None, who, peer, resource, detail }];
    Answer { audit, changes, effects: Vec::new(), reply }
}

fn namespace_json(
    api: &Api,
    call: &Call<'_>,
    at: &Namespace,
    rules: &NetworkRules,
) -> Result<Json, Fault> {
    let host = api.relay_name(call.host)?;
    let port = if without_port(&host) == host { ":443" } else { "" };
    Ok(json!({
        "id": at.prefix, "name": at.name, "type": "Microsoft.Relay/Namespaces",
        "location": "local", "tags": {}, "sku": {"name": "Standard", "tier": "Standard"},
        "properties": {
            "provisioningState": "Succeeded", "status": "Active",
            "serviceBusEndpoint": format!("https://{host}{port}/"),
            "metricId": format!("{}:{}", at.subscription, at.name),
            "publicNetworkAccess": network::access_word(rules), "privateEndpointConnections": [],
        },
    }))
}

fn entity_json(at: &Namespace, entity: &Entity, turn: &Turn<'_, '_>) -> Json {
    json!({
        "id": format!("{}/hybridConnections/{}", at.prefix, entity.name.replace('/', "~")),
        "name": entity.name,
        "type": "Microsoft.Relay/Namespaces/HybridConnections",
        "properties": {
            "createdAt": rfc3339(entity.created_at), "updatedAt": rfc3339(entity.updated_at),
            "listenerCount": (turn.listeners)(&entity.name.to_ascii_lowercase()),
            "requiresClientAuthorization": entity.requires_client_authorization,
            "userMetadata": entity.user_metadata,
            "httpRequests": entity.http,
            "acceptTimeoutSeconds": entity.deadlines.accept.as_secs(),
            "responseTimeoutSeconds": entity.deadlines.response.as_secs(),
            "bodyGapTimeoutSeconds": entity.deadlines.body_gap.as_secs(),
        },
    })
}

fn rule_json(at: &Namespace, entity: Option<&str>, rule: &Rule) -> Json {
    let under = entity
        .map_or_else(String::new, |name| format!("/hybridConnections/{}", name.replace('/', "~")));
    let kind = match entity {
        None => "Microsoft.Relay/Namespaces/AuthorizationRules",
        Some(_) => "Microsoft.Relay/Namespaces/HybridConnections/AuthorizationRules",
    };
    json!({
        "id": format!("{}{under}/authorizationRules/{}", at.prefix, rule.name),
        "name": rule.name,
        "type": kind,
        "properties": {"rights": rights_words(rule.rights)},
    })
}

fn keys_json(host: &str, entity: Option<&str>, rule: &Rule) -> Json {
    let path = entity.map_or_else(String::new, |name| format!(";EntityPath={name}"));
    let connection = |key: &Secret<String>| {
        let (name, key) = (&rule.name, key.expose());
        format!("Endpoint=sb://{host}/;SharedAccessKeyName={name};SharedAccessKey={key}{path}")
    };
    json!({
        "keyName": rule.name,
        "primaryKey": rule.primary.expose(),
        "secondaryKey": rule.secondary.expose(),
        "primaryConnectionString": connection(&rule.primary),
        "secondaryConnectionString": connection(&rule.secondary),
    })
}
