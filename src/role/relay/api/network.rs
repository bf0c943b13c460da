//! From where anybody may come: the network rules of the namespace, in the shape of Azure Relay's
//! own API. They hold for listeners and senders of all hybrid connections, those of clusters
//! included, and not for this API: no operator shuts himself out.
//!
//! There are no private endpoints here, so without a public network nobody comes at all.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::namespaces::changed;
use super::route::Namespace;
use super::{Answer, Call, Effect, Fault, Reply, Turn, allow, body, plan};
use crate::auth::network::{Mask, NetworkRules};
use crate::limits::NETWORK_MASKS_MAX;
use crate::role::relay::registry::Request;
use crate::wire::json::{Object, Value};

pub(super) fn answer(
    call: &Call<'_>,
    at: &Namespace,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    match allow(call, &["GET", "PUT"])? {
        "GET" => Ok(Reply::json(200, &to_json(at, turn.registry.network())).into()),
        _ => {
            let rules = read(&body(call)?, turn.registry.network())?;
            let reply = Reply::json(200, &to_json(at, &rules));
            Ok(Answer { reply, ..change(call, at, rules, turn)? })
        }
    }
}

/// The one property of a namespace that can be changed, if the body has it.
pub(super) fn put_access(
    call: &Call<'_>,
    at: &Namespace,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let body = body(call)?;
    let known = turn.registry.network();
    let properties = body.optional_object("properties")?;
    let wish = properties.map(|it| access(it, known.is_public)).transpose()?;
    let mut rules = known.clone();
    rules.is_public = wish.unwrap_or(known.is_public);
    change(call, at, rules, turn)
}

/// Azure's word for whether anybody may come by the network.
pub(super) const fn access_word(rules: &NetworkRules) -> &'static str {
    if rules.is_public { "Enabled" } else { "Disabled" }
}

fn change(
    call: &Call<'_>,
    at: &Namespace,
    rules: NetworkRules,
    turn: &mut Turn<'_, '_>,
) -> Result<Answer, Fault> {
    let changes = plan(Request::PutNetwork(rules.clone()), turn)?;
    if changes.is_empty() {
        return Ok(Answer::default());
    }
    let mut answer = changed(call, at, "network-put", "default", changes, Reply::default());
    let masks: Vec<String> = rules.masks().iter().map(Mask::to_string).collect();
    let detail = [
        ("publicNetworkAccess", access_word(&rules).to_owned()),
        ("defaultAction", action_word(&rules).to_owned()),
        ("ipRules", masks.join(" ")),
    ];
    answer.audit.iter_mut().for_each(|entry| entry.detail.extend(detail.clone()));
    answer.effects.push(Effect::ShutOut(Arc::new(rules)));
    Ok(answer)
}

/// All of the rules as they are to be, except that whether there is a public network may be left
/// out. Whoever names addresses and does not say what becomes of the others is asked.
fn read(body: &Object, known: &NetworkRules) -> Result<NetworkRules, Fault> {
    let properties = body.optional_object("properties")?.ok_or_else(|| wrong("no properties"))?;
    let is_public = access(properties, known.is_public)?;
    let allows_others = match properties.optional_text("defaultAction")? {
        Some(word) if word.eq_ignore_ascii_case("Allow") => true,
        Some(word) if word.eq_ignore_ascii_case("Deny") => false,
        _ => return Err(wrong("defaultAction is \"Allow\" or \"Deny\"")),
    };
    let list = properties.optional_array("ipRules")?.unwrap_or_default();
    let too_many = || wrong(&format!("there are up to {NETWORK_MASKS_MAX} ipRules"));
    if list.len() > NETWORK_MASKS_MAX {
        return Err(too_many());
    }
    let masks = list.iter().map(mask).collect::<Result<_, _>>()?;
    NetworkRules::new(is_public, allows_others, masks).ok_or_else(too_many)
}

fn mask(rule: &Value) -> Result<Mask, Fault> {
    let rule = rule.as_object().ok_or_else(|| wrong("each of the ipRules is an object"))?;
    match rule.optional_text("action")? {
        None => {}
        Some(word) if word.eq_ignore_ascii_case("Allow") => {}
        Some(_) => return Err(wrong("the action of an IP rule is \"Allow\"")),
    }
    let text = rule.text("ipMask")?;
    Mask::parse(text).map_err(|why| {
        let shown: String = text.chars().take(50).collect();
        wrong(&format!("the ipMask {shown:?} is {why}"))
    })
}

fn access(properties: &Object, known: bool) -> Result<bool, Fault> {
    match properties.optional_text("publicNetworkAccess")? {
        None => Ok(known),
        Some(word) if word.eq_ignore_ascii_case("Enabled") => Ok(true),
        Some(word) if word.eq_ignore_ascii_case("Disabled") => Ok(false),
        Some(_) => Err(wrong("publicNetworkAccess is \"Enabled\" or \"Disabled\"")),
    }
}

fn wrong(message: &str) -> Fault {
    Fault::bad_request("InvalidRequestContent", message)
}

const fn action_word(rules: &NetworkRules) -> &'static str {
    if rules.allows_others { "Allow" } else { "Deny" }
}

fn to_json(at: &Namespace, rules: &NetworkRules) -> Json {
    let rule = |mask: &Mask| json!({"ipMask": mask.to_string(), "action": "Allow"});
    let all: Vec<Json> = rules.masks().iter().map(rule).collect();
    json!({
        "id": format!("{}/networkRuleSets/default", at.prefix), "name": "default",
        "type": "Microsoft.Relay/Namespaces/NetworkRuleSets",
        "properties": {
            "defaultAction": action_word(rules), "publicNetworkAccess": access_word(rules),
            "trustedServiceAccessEnabled": false, "ipRules": all,
        },
    })
}
