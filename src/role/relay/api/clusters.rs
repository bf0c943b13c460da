//! Connected clusters as resources: PUT, GET, PATCH, DELETE and lists, in Azure's shapes.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::{
    Answer, Api, Call, Caller, Effect, Fault, Reply, Turn, body, done, known, name_of, operator,
    page, plan,
};
use crate::limits::{CERTIFICATE_MAX, CLAIM_MAX, LIST_PAGE, TAGS_MAX, TEXT_MAX};
use crate::role::relay::audit::rfc3339;
use crate::role::relay::registry::{Change, Cluster, Presence, Request};
use crate::wire::json::{Object, Value};
use crate::wire::resource::{CLUSTER_TYPE, ResourceId};

/// Of a subscription, or of one of its groups: all for the operator, for others those they may
/// reach. So many at a time: a list of all would hold up everybody else.
pub(super) fn list(
    api: &Api,
    call: &Call<'_>,
    subscription: &str,
    group: Option<&str>,
    turn: &Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let after = page::after(call.query)?.unwrap_or_default();
    let wanted = |cluster: &&Cluster| {
        let id = &cluster.facts.resource;
        id.subscription().eq_ignore_ascii_case(subscription)
            && group.is_none_or(|group| id.group().eq_ignore_ascii_case(group))
            && may_see(call.caller, cluster)
    };
    let key = |cluster: &Cluster| cluster.facts.resource.id().to_ascii_lowercase();
    let found = turn.registry.clusters().filter(wanted).map(|cluster| (key(cluster), cluster));
    let mut found: Vec<_> = found.filter(|(key, _)| *key > after).collect();
    found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let more = found.len() > LIST_PAGE;
    found.truncate(LIST_PAGE);
    let all: Vec<Json> = found.iter().map(|(_, cluster)| resource_json(cluster, turn)).collect();
    let mut list = json!({ "value": all });
    if let (true, Some((last, _)), Json::Object(list)) = (more, found.last(), &mut list) {
        list.insert("nextLink".into(), page::next_link(api, call, last)?.into());
    }
    Ok(Reply::json(200, &list).into())
}

/// What Azure's clients show as the operations of the provider.
pub(super) fn operations() -> Answer {
    let all = [
        ("connectedClusters/read", "Read a connected cluster"),
        ("connectedClusters/write", "Create or change a connected cluster"),
        ("connectedClusters/delete", "Remove a connected cluster"),
        (
            "connectedClusters/listClusterUserCredential/action",
            "Get a credential for a connected cluster",
        ),
    ];
    let all: Vec<Json> = all
        .iter()
        .map(|(name, text)| {
            json!({
                "name": format!("Microsoft.Kubernetes/{name}"),
                "isDataAction": false,
                "display": {
                    "provider": "Microsoft.Kubernetes", "resource": "Connected cluster",
                    "operation": text, "description": text,
                },
            })
        })
        .collect();
    Reply::json(200, &json!({ "value": all })).into()
}

pub(super) fn get(
    caller: &Caller,
    resource: &ResourceId,
    turn: &Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let cluster = known(turn, resource)?;
    if let Caller::User(user) = caller
        && !may_see(caller, cluster)
    {
        return Err(Fault::forbidden(user, "no role assignment on this cluster"));
    }
    Ok(Reply::json(200, &resource_json(cluster, turn)).into())
}

pub(super) fn put(
    call: &Call<'_>,
    resource: &ResourceId,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    let body = body(call)?;
    let none = Object::default();
    let properties = body.optional_object("properties")?.unwrap_or(&none);
    let certificate = properties.optional_text("agentPublicKeyCertificate")?;
    let certificate = certificate.filter(|text| !text.is_empty());
    let request = Request::PutCluster {
        resource: resource.clone(),
        location: text(&body, "location")?,
        tags: tags(&body)?,
        distribution: text(properties, "distribution")?,
        infrastructure: text(properties, "infrastructure")?,
        certificate: certificate.map(certificate_of).transpose()?,
        by: name_of(call.caller),
    };
    let existed = turn.registry.cluster(&resource.cluster_id()).is_some();
    let changes = plan(request, turn)?;
    changed(call, resource, changes, if existed { 200 } else { 201 }, "put", turn)
}

pub(super) fn patch(
    call: &Call<'_>,
    resource: &ResourceId,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    let cluster = known(turn, resource)?;
    let body = body(call)?;
    let none = Object::default();
    let properties = body.optional_object("properties")?.unwrap_or(&none);
    let fixed = body.iter().find(|(name, _)| !matches!(*name, "tags" | "properties"));
    if let Some((other, _)) =
        fixed.or_else(|| properties.iter().find(|(name, _)| *name != "distribution"))
    {
        let message =
            format!("only tags and properties.distribution can be patched, and not {other:?}");
        return Err(Fault::bad_request("PropertyChangeNotAllowed", &message));
    }
    let request = Request::PutCluster {
        resource: cluster.facts.resource.clone(),
        location: None,
        tags: tags(&body)?,
        distribution: text(properties, "distribution")?,
        infrastructure: None,
        certificate: None,
        by: name_of(call.caller),
    };
    let changes = plan(request, turn)?;
    changed(call, resource, changes, 200, "patch", turn)
}

pub(super) fn delete(
    call: &Call<'_>,
    resource: &ResourceId,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    operator(call)?;
    let id = resource.cluster_id();
    let Some(cluster) = turn.registry.cluster(&id) else { return Ok(Reply::empty(204).into()) };
    let effects = vec![Effect::Disconnect(cluster.entity())];
    let changes = plan(Request::RemoveCluster(id), turn)?;
    let audit = vec![done("delete", call, resource, Vec::new())];
    Ok(Answer { audit, changes, effects, reply: Reply::empty(200) })
}

/// The answer shows the cluster as the changes will have made it.
fn changed(
    call: &Call<'_>,
    resource: &ResourceId,
    changes: Vec<Change>,
    status: u16,
    event: &'static str,
    turn: &Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let facts = changes.iter().find_map(|change| match change {
        Change::Cluster(facts) => Some(facts.as_ref().clone()),
        _ => None,
    });
    let current = turn.registry.cluster(&resource.cluster_id());
    let after = match (current, facts) {
        (Some(current), Some(facts)) => Cluster { facts, ..current.clone() },
        (Some(current), None) => current.clone(),
        (None, Some(facts)) => Cluster::new(facts),
        (None, None) => return Err(Fault::no_cluster(resource)),
    };
    let audit = match changes.is_empty() {
        true => Vec::new(),
        false => vec![done(event, call, resource, Vec::new())],
    };
    let reply = Reply::json(status, &resource_json(&after, turn));
    Ok(Answer { audit, changes, effects: Vec::new(), reply })
}

fn may_see(caller: &Caller, cluster: &Cluster) -> bool {
    match caller {
        Caller::Operator => true,
        Caller::User(user) => {
            cluster.assignments.find(&user.issuer, &user.subject, &user.groups).is_some()
        }
        Caller::Nobody | Caller::Denied { .. } => false,
    }
}

fn resource_json(cluster: &Cluster, turn: &Turn<'_, '_>) -> Json {
    let facts = &cluster.facts;
    let (status, last) = match turn.presence(cluster) {
        Presence::Never => ("Connecting", None),
        Presence::Connected => ("Connected", Some(turn.unix_now)),
        Presence::OfflineSince(at) => ("Offline", Some(at)),
    };
    let mut properties = json!({
        "agentPublicKeyCertificate": STANDARD.encode(&facts.certificate),
        "connectivityStatus": status,
        "provisioningState": "Succeeded",
        "distribution": facts.distribution,
        "infrastructure": facts.infrastructure,
    });
    if let (Some(at), Json::Object(properties)) = (last, &mut properties) {
        properties.insert("lastConnectivityTime".into(), rfc3339(at).into());
    }
    json!({
        "id": facts.resource.id(),
        "name": facts.resource.name(),
        "type": CLUSTER_TYPE,
        "location": facts.location,
        "tags": facts.tags,
        "identity": {"type": "None"},
        "properties": properties,
        "systemData": {
            "createdAt": rfc3339(facts.created_at), "createdBy": facts.created_by,
            "createdByType": "User", "lastModifiedAt": rfc3339(facts.updated_at),
            "lastModifiedBy": facts.updated_by, "lastModifiedByType": "User",
        },
    })
}

fn text(of: &Object, key: &str) -> Result<Option<String>, Fault> {
    let text = of.optional_text(key)?;
    if text.is_some_and(|text| text.len() > TEXT_MAX || text.chars().any(char::is_control)) {
        return Err(too_long(key));
    }
    Ok(text.map(str::to_owned))
}

fn tags(of: &Object) -> Result<Option<BTreeMap<String, String>>, Fault> {
    let Some(tags) = of.optional_object("tags")? else { return Ok(None) };
    if tags.iter().count() > TAGS_MAX {
        let message = format!("a cluster has up to {TAGS_MAX} tags");
        return Err(Fault::bad_request("InvalidTag", &message));
    }
    let pairs = tags.iter().map(|(name, value)| match value {
        Value::Text(text) if name.len() <= CLAIM_MAX && text.len() <= TEXT_MAX => {
            Ok((name.to_owned(), text.clone()))
        }
        _ => Err(Fault::bad_request("InvalidTag", "a tag has a short name and a short text")),
    });
    pairs.collect::<Result<_, _>>().map(Some)
}

/// DER in base64. Whether it is a certificate that serves is for those to find out who pin it;
/// here it has to be one DER value and nothing else, for it goes into a kubeconfig.
pub(super) fn certificate_of(text: &str) -> Result<Vec<u8>, Fault> {
    let bad = || {
        let message = "agentPublicKeyCertificate is the base64 of a DER certificate";
        Fault::bad_request("InvalidCertificate", message)
    };
    let der = STANDARD.decode(text).map_err(|_| bad())?;
    let len = match der.as_slice() {
        [0x30, len @ 0..=0x7f, rest @ ..] => (usize::from(*len), rest.len()),
        [0x30, 0x81, len @ 0x80..=0xff, rest @ ..] => (usize::from(*len), rest.len()),
        [0x30, 0x82, a @ 1..=0xff, b, rest @ ..] => {
            (usize::from(u16::from_be_bytes([*a, *b])), rest.len())
        }
        _ => return Err(bad()),
    };
    if der.len() > CERTIFICATE_MAX || len.0 != len.1 || len.0 == 0 {
        return Err(bad());
    }
    Ok(der)
}

fn too_long(key: &str) -> Fault {
    let message = format!("{key} is up to {TEXT_MAX} bytes without control characters");
    Fault::bad_request("InvalidRequestContent", &message)
}
