//! Questions about identities and rights, and service-account tokens.

use serde_json::{Value, json};

use super::api::object;
use super::connection::{Answer, Exchange};
use super::http::Response;
use super::identity::User;
use super::rbac::{Attributes, Authorizer, rules_review};
use super::resources::{Review, api_version};
use super::status::{Failure, Status};
use super::store::text;
use super::token::{ISSUER, Mint};
use super::world::{moment_text, now_text};

/// kube-apiserver's own bounds and default for a requested token, in seconds.
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;
const DEFAULT_TOKEN: i64 = 3600;

pub(crate) fn answer(exchange: &mut Exchange<'_>, review: &Review) -> Result<Answer, Failure> {
    let asked = object(exchange)?;
    let said = text(&asked, "/kind");
    if !said.is_empty() && said != review.kind {
        let message = format!("the object provided is unrecognized: {said} is no {}", review.kind);
        return Err(Status::bad_request(message).into());
    }
    let user = exchange.caller.user().clone();
    let status = match review.kind {
        "SelfSubjectReview" => json!({ "userInfo": user.to_json() }),
        "SelfSubjectAccessReview" => access(exchange, &user, &asked),
        "SubjectAccessReview" => access(exchange, &subject(&asked), &asked),
        "LocalSubjectAccessReview" => {
            let namespace = text(&asked, "/spec/resourceAttributes/namespace");
            if namespace != exchange.route.namespace {
                let message = "spec.resourceAttributes.namespace must match the path";
                return Err(Status::bad_request(message).into());
            }
            access(exchange, &subject(&asked), &asked)
        }
        "SelfSubjectRulesReview" => {
            let authorizer = Authorizer::new(&exchange.world.store);
            let namespace = text(&asked, "/spec/namespace");
            let masters = user.groups.iter().any(|group| group == "system:masters");
            let mut rules = authorizer.rules_for(&user, namespace);
            if masters {
                rules.push(json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
                rules.push(json!({ "verbs": ["*"], "nonResourceURLs": ["*"] }));
            }
            rules_review(&rules)
        }
        _ => token_review(exchange, &asked),
    };
    let body = json!({
        "kind": review.kind,
        "apiVersion": api_version(review.group, review.version),
        "metadata": { "creationTimestamp": now_text() },
        "spec": asked.get("spec").cloned().unwrap_or_else(|| json!({})),
        "status": status,
    });
    Ok(Response::json(201, &body).into())
}

/// `serviceaccounts/token`: each request a new token, which is all that renewal is.
pub(crate) fn token_request(exchange: &mut Exchange<'_>) -> Result<Answer, Failure> {
    let asked = object(exchange)?;
    let (namespace, name) = (exchange.route.namespace.clone(), exchange.route.name.clone());
    let world = exchange.world;
    let account = world.store.get("serviceaccounts", &namespace, &name);
    let account = account.ok_or_else(|| Status::not_found("serviceaccounts", &name))?;
    let seconds = asked.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    let seconds = seconds.unwrap_or(DEFAULT_TOKEN);
    if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&seconds) {
        let message = format!(
            "Invalid value: {seconds}: may not specify a duration less than 10 \
                               minutes or more than 2^32 seconds"
        );
        let field = "spec.expirationSeconds";
        return Err(Status::invalid("TokenRequest", &name, field, &message).into());
    }
    let audiences = match strings(&asked, "/spec/audiences") {
        none if none.is_empty() => vec![ISSUER.to_owned()],
        some => some,
    };
    let now = world.now();
    let token = world.tokens.mint(Mint {
        namespace: &namespace,
        name: &name,
        uid: text(&account, "/metadata/uid"),
        audiences: audiences.clone(),
        now,
        seconds: seconds.unsigned_abs(),
    })?;
    let expires = moment_text(now.saturating_add(seconds.unsigned_abs()));
    let body = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "name": name, "namespace": namespace, "creationTimestamp": now_text() },
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": asked.pointer("/spec/boundObjectRef"),
        },
        "status": { "token": token, "expirationTimestamp": expires },
    });
    Ok(Response::json(201, &body).into())
}

fn token_review(exchange: &Exchange<'_>, asked: &Value) -> Value {
    let world = exchange.world;
    let wanted = match strings(asked, "/spec/audiences") {
        none if none.is_empty() => vec![ISSUER.to_owned()],
        some => some,
    };
    match world.tokens.review(text(asked, "/spec/token"), &wanted, world.now()) {
        Some((mut user, audiences)) => {
            user.groups.push(super::identity::AUTHENTICATED.into());
            json!({ "authenticated": true, "user": user.to_json(), "audiences": audiences })
        }
        None => json!({ "user": {}, "error": "[invalid bearer token]" }),
    }
}

fn access(exchange: &Exchange<'_>, user: &User, asked: &Value) -> Value {
    let resource = asked.pointer("/spec/resourceAttributes").filter(|it| it.is_object());
    let at = |field: &str| match resource {
        Some(attributes) => text(attributes, &format!("/{field}")).to_owned(),
        None => text(asked, &format!("/spec/nonResourceAttributes/{field}")).to_owned(),
    };
    let wanted = Attributes {
        verb: at("verb"),
        group: at("group"),
        resource: at("resource"),
        subresource: at("subresource"),
        namespace: at("namespace"),
        name: at("name"),
        path: at("path"),
        is_resource: resource.is_some(),
    };
    json!({ "allowed": Authorizer::new(&exchange.world.store).allows(user, &wanted) })
}

fn subject(asked: &Value) -> User {
    User::new(text(asked, "/spec/user"), strings(asked, "/spec/groups"))
}

fn strings(object: &Value, pointer: &str) -> Vec<String> {
    let values = object.pointer(pointer).and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect()
}
