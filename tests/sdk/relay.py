"""Microsoft's management clients for Azure Relay and for role assignments, unmodified.

Arguments: the relay's URL, its CA, and the file with the admin token.
"""

import ssl
import sys
import urllib.error
import urllib.request
import uuid

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.relay import RelayAPIMgmtClient, models

from common import GROUP, SUBSCRIPTION, options, raises

URL, CA, TOKEN_FILE = sys.argv[1:]
NAMESPACE = "contoso-relay"


def clients():
    with open(TOKEN_FILE, encoding="ascii") as file:
        token = file.read().strip()
    relay = RelayAPIMgmtClient(**options(token, URL, CA))
    return relay, AuthorizationManagementClient(**options(token, URL, CA))


def namespaces(relay):
    wish = models.RelayNamespace(location="westeurope", sku=models.Sku(name="Standard"))
    made = relay.namespaces.begin_create_or_update(GROUP, NAMESPACE, wish).result()
    assert made.name == NAMESPACE, made
    assert made.properties.provisioning_state == "Succeeded", made
    assert made.properties.service_bus_endpoint == URL + "/", made
    assert relay.namespaces.get(GROUP, NAMESPACE).id == made.id
    for page in (relay.namespaces.list(), relay.namespaces.list_by_resource_group(GROUP)):
        assert len(list(page)) == 1
    check = relay.namespaces.check_name_availability
    assert check(models.CheckNameAvailability(name=NAMESPACE)).name_available
    assert check(models.CheckNameAvailability(name="-")).reason == "InvalidName"
    rules = relay.namespaces.get_network_rule_set(GROUP, NAMESPACE)
    assert rules.properties.default_action == "Allow", rules
    delete = lambda: relay.namespaces.begin_delete(GROUP, NAMESPACE).result()
    raises(ResourceExistsError, "Conflict", delete)
    names = [operation.name for operation in relay.operations.list()]
    assert "Microsoft.Relay/namespaces/hybridConnections/write" in names, names


def network_rules(relay):
    put = lambda **wish: relay.namespaces.create_or_update_network_rule_set(
        GROUP,
        NAMESPACE,
        models.NetworkRuleSet(properties=models.NetworkRuleSetProperties(**wish)),
    )
    office = [
        models.NWRuleSetIpRules(ip_mask=mask, action="Allow")
        for mask in ("192.0.2.0/24", "2001:db8::/32")
    ]
    made = put(default_action="Deny", public_network_access="Enabled", ip_rules=office)
    found = relay.namespaces.get_network_rule_set(GROUP, NAMESPACE)
    for rules in (made, found):
        assert rules.name == "default" and rules.properties.default_action == "Deny", rules
        masks = [rule.ip_mask for rule in rules.properties.ip_rules]
        assert masks == ["192.0.2.0/24", "2001:db8::/32"], rules
    assert prevented(), "this address is none of them"
    bad = [models.NWRuleSetIpRules(ip_mask="10.0.0.4/8")]
    refused = lambda: put(default_action="Deny", ip_rules=bad)
    raises(HttpResponseError, "InvalidRequestContent", refused)
    here = [models.NWRuleSetIpRules(ip_mask=mask) for mask in ("127.0.0.0/8", "::1")]
    put(default_action="Deny", ip_rules=here)
    assert not prevented(), "this address is one of them"
    update = models.RelayUpdateParameters(
        properties=models.RelayNamespaceProperties(public_network_access="Disabled")
    )
    updated = relay.namespaces.update(GROUP, NAMESPACE, update)
    assert updated.properties.public_network_access == "Disabled", updated
    assert prevented(), "nobody comes"
    put(default_action="Allow", public_network_access="Enabled")
    assert not prevented()


def prevented():
    """Whether a sender without a token hears of its address, and not of its token."""
    context = ssl.create_default_context(cafile=CA)
    try:
        urllib.request.urlopen(URL + "/lab", context=context)
    except urllib.error.HTTPError as error:
        assert error.code == 401 and "TrackingId:" in error.reason, error
        return error.reason.startswith("Generic: Ip has been prevented to connect to the endpoint.")
    raise AssertionError("a sender without a token was let in")


def keys_of(operations, *place):
    rule = models.AuthorizationRule(
        properties=models.AuthorizationRuleProperties(rights=["Listen", "Send"])
    )
    made = operations.create_or_update_authorization_rule(GROUP, NAMESPACE, *place, "both", rule)
    assert made.name == "both" and set(made.properties.rights) == {"Listen", "Send"}, made
    found = operations.get_authorization_rule(GROUP, NAMESPACE, *place, "both")
    assert found.id == made.id
    names = [r.name for r in operations.list_authorization_rules(GROUP, NAMESPACE, *place)]
    assert "both" in names, names
    keys = operations.list_keys(GROUP, NAMESPACE, *place, "both")
    host = URL.removeprefix("https://")
    parts = dict(
        part.split("=", 1) for part in keys.primary_connection_string.rstrip(";").split(";")
    )
    assert parts["Endpoint"] == f"sb://{host}/", parts
    assert parts["SharedAccessKeyName"] == "both", parts
    assert parts["SharedAccessKey"] == keys.primary_key, parts
    assert parts.get("EntityPath") == (place[0] if place else None), parts
    wish = models.RegenerateAccessKeyParameters(key_type="SecondaryKey")
    fresh = operations.regenerate_keys(GROUP, NAMESPACE, *place, "both", wish)
    assert fresh.primary_key == keys.primary_key and fresh.secondary_key != keys.secondary_key
    own = "o" * 44
    wish = models.RegenerateAccessKeyParameters(key_type="PrimaryKey", key=own)
    assert operations.regenerate_keys(GROUP, NAMESPACE, *place, "both", wish).primary_key == own
    operations.delete_authorization_rule(GROUP, NAMESPACE, *place, "both")
    gone = lambda: operations.get_authorization_rule(GROUP, NAMESPACE, *place, "both")
    raises(ResourceNotFoundError, "ResourceNotFound", gone)


def hybrid_connections(relay):
    entities = relay.hybrid_connections
    get = lambda: entities.get(GROUP, NAMESPACE, "lab")
    raises(ResourceNotFoundError, "ResourceNotFound", get)
    wish = models.HybridConnection(
        properties=models.HybridConnectionProperties(
            requires_client_authorization=False,
            user_metadata='[{"key":"endpoint","value":"db:1433"}]',
        )
    )
    made = entities.create_or_update(GROUP, NAMESPACE, "lab", wish)
    assert made.name == "lab" and made.properties.listener_count == 0, made
    assert made.properties.requires_client_authorization is False, made
    assert made.properties.created_at.year >= 2024, made
    assert get().properties.user_metadata == wish.properties.user_metadata
    names = [entity.name for entity in entities.list_by_namespace(GROUP, NAMESPACE)]
    assert names == ["lab"], names
    keys_of(entities, "lab")
    keys_of(relay.namespaces)
    bad = models.AuthorizationRule(
        properties=models.AuthorizationRuleProperties(rights=["Manage"])
    )
    make = lambda: relay.namespaces.create_or_update_authorization_rule(
        GROUP, NAMESPACE, "r", bad
    )
    raises(HttpResponseError, "InvalidRights", make)
    return made.id


def roles(authorization, scope):
    found = authorization.role_definitions.list(
        scope, filter="roleName eq 'Azure Relay Listener'"
    )
    (role,) = found
    assert role.role_name == "Azure Relay Listener", role
    assert authorization.role_definitions.get(scope, role.name).id == role.id
    assignments, name, principal = authorization.role_assignments, str(uuid.uuid4()), "robot"
    wish = {
        "properties": {
            "roleDefinitionId": role.id,
            "principalId": principal,
            "principalType": "ServicePrincipal",
        }
    }
    made = assignments.create(scope, name, wish)
    assert made.name == name and made.principal_id == principal, made
    assert made.role_definition_id == role.id and made.scope == scope, made
    assert assignments.get(scope, name).id == made.id
    for filter in (None, "atScope()", f"principalId eq '{principal}'"):
        assert [a.name for a in assignments.list_for_scope(scope, filter=filter)] == [name], filter
    nobody = assignments.list_for_scope(scope, filter="assignedTo('nobody')")
    assert list(nobody) == []
    twin = lambda: assignments.create(scope, str(uuid.uuid4()), wish)
    raises(ResourceExistsError, "RoleAssignmentExists", twin)
    assert assignments.delete(scope, name).name == name
    assert assignments.delete(scope, name) is None


relay, authorization = clients()
namespaces(relay)
network_rules(relay)
entity = hybrid_connections(relay)
roles(authorization, entity)
roles(authorization, f"/subscriptions/{SUBSCRIPTION}")
relay.hybrid_connections.delete(GROUP, NAMESPACE, "lab")
relay.hybrid_connections.delete(GROUP, NAMESPACE, "lab")
print("the management clients are served")
