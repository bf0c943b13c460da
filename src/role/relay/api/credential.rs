//! The credential for a cluster: a Send token for its one hybrid connection, and a kubeconfig that
//! pins the CA of its auth proxy. Neither says who the caller is to the cluster.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Answer, Api, Call, Caller, Fault, Reply, Turn, body, done, known};
use crate::auth::assignments::Holder;
use crate::auth::certify::pem_certificate;
use crate::auth::sas;
use crate::role::relay::audit::rfc3339;
use crate::role::relay::registry::{
    Cluster, OPERATOR_TAG, Presence, SEND_RULE, send_key, send_rule,
};
use crate::wire::resource::ResourceId;

impl Api {
    pub(super) fn credential(
        &self,
        call: &Call<'_>,
        resource: &ResourceId,
        turn: &Turn<'_, '_>,
    ) -> Result<Answer, Fault> {
        let cluster = known(turn, resource)?;
        let (rule, by) = rule_for(call.caller, cluster)?;
        let body = body(call)?;
        let method = body.text("authenticationMethod")?;
        if !matches!(method, "AAD" | "Token") {
            let message = "authenticationMethod is \"AAD\" or \"Token\"";
            return Err(Fault::bad_request("InvalidAuthenticationMethod", message));
        }
        if body.optional_bool("clientProxy")? == Some(false) {
            let message = "clientProxy is true: the cluster is reached through a client proxy";
            return Err(Fault::bad_request("ClientProxyRequired", message));
        }
        check_presence(cluster, turn.presence(cluster))?;
        let relay = self.relay_name(call.host)?;
        let entity = cluster.entity();
        let base = turn.registry.rules(Some(&entity)).and_then(|rules| rules.get(SEND_RULE));
        let base = base.ok_or_else(|| Fault::no_cluster(resource))?;
        let key = send_key(&base.primary, &rule);
        let expires = turn.unix_now.saturating_add(self.settings.send_token_life.as_secs());
        let token = sas::mint(&format!("http://{relay}/{entity}"), &rule, &key, expires);
        let reply = json!({
            "hybridConnectionConfig": {
                "relay": relay, "hybridConnectionName": entity, "token": token,
                "expirationTime": expires, "relayTid": "", "relayType": "",
            },
            "kubeconfigs": [{
                "name": "Kubernetes.Config-Internal",
                "value": STANDARD.encode(kubeconfig(cluster)),
            }],
        });
        let detail = vec![
            ("authenticationMethod", method.to_owned()),
            ("expirationTime", expires.to_string()),
            ("by", by),
            ("rule", rule),
        ];
        let audit = vec![done("listClusterUserCredential", call, resource, detail)];
        Ok(Answer { audit, ..Reply::json(200, &reply).into() })
    }
}

/// The rule that stands for this caller and its role assignment, and that assignment for people.
fn rule_for(caller: &Caller, cluster: &Cluster) -> Result<(String, String), Fault> {
    let user = match caller {
        Caller::Operator => {
            return Ok((send_rule(OPERATOR_TAG, OPERATOR_TAG), "operator".to_owned()));
        }
        Caller::Nobody | Caller::Denied { .. } => {
            return Err(Fault::unauthenticated("a bearer token is required"));
        }
        Caller::User(user) => user,
    };
    let found = cluster.assignments.find(&user.issuer, &user.subject, &user.groups);
    let grant = found.ok_or_else(|| {
        let name = cluster.facts.resource.name();
        let why = format!(
            "there is no role assignment on {name}; the operator makes one with: cluster-connect \
             cluster grant {name} --user {}",
            user.user
        );
        Fault::forbidden(user, &why)
    })?;
    let own = Holder::user(&user.issuer, &user.subject);
    Ok((send_rule(&own.tag(), &grant.tag()), format!("{} {}", grant.kind.word(), grant.name)))
}

fn check_presence(cluster: &Cluster, presence: Presence) -> Result<(), Fault> {
    let name = cluster.facts.resource.name();
    let (code, message) = match presence {
        Presence::Connected if !cluster.facts.certificate.is_empty() => return Ok(()),
        Presence::Connected | Presence::Never => (
            "ClusterNeverConnected",
            format!("cluster {name} has never connected: start its edge with a join token"),
        ),
        Presence::OfflineSince(at) => (
            "ClusterOffline",
            format!(
                "{name} is offline since {}: look at its edge, and at the network between it and \
                 the relay",
                rfc3339(at)
            ),
        ),
    };
    Err(Fault::new(409, code, &message))
}

/// YAML whose every text is either quoted or of letters that need no quotes.
fn kubeconfig(cluster: &Cluster) -> String {
    let resource = &cluster.facts.resource;
    let (name, server) = (resource.name(), resource.server_name());
    let authority = STANDARD.encode(pem_certificate(&cluster.facts.certificate));
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         preferences: {{}}\n\
         clusters:\n\
         - name: \"{name}\"\n\
         \x20 cluster:\n\
         \x20   certificate-authority-data: {authority}\n\
         \x20   server: https://{server}/\n\
         contexts:\n\
         - name: \"{name}\"\n\
         \x20 context:\n\
         \x20   cluster: \"{name}\"\n\
         \x20   user: \"{name}\"\n\
         current-context: \"{name}\"\n\
         users:\n\
         - name: \"{name}\"\n\
         \x20 user: {{}}\n"
    )
}
