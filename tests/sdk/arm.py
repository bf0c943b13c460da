"""Microsoft's management client, unmodified, against the relay's connected-clusters API.

Arguments: the relay's URL, its CA, the file with the admin token, and a cluster that is connected.
"""

import sys
import time

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.core.rest import HttpRequest
from azure.mgmt.hybridkubernetes import ConnectedKubernetesClient, models

from common import GROUP, SUBSCRIPTION, options, raises

URL, CA, TOKEN_FILE, CONNECTED = sys.argv[1:]
BASE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    "/providers/Microsoft.Kubernetes/connectedClusters"
)


def client(token, **more):
    return ConnectedKubernetesClient(**options(token, URL, CA, **more))


def new(**more):
    return models.ConnectedCluster(
        location="westeurope",
        identity=models.ConnectedClusterIdentity(type="SystemAssigned"),
        properties=models.ConnectedClusterProperties(agent_public_key_certificate="", **more),
        tags={"team": "a"},
    )


def patch(service, name, version, tags):
    """The client updates from one version on alone; before it, the request is made by hand."""
    if version is None:
        wish = models.ConnectedClusterPatch(tags=tags)
        return service.connected_cluster.begin_update_async(GROUP, name, wish).result()
    path = f"{BASE}/{name}?api-version={version}"
    response = service.send_request(HttpRequest("PATCH", URL + path, json={"tags": tags}))
    response.raise_for_status()
    return models.ConnectedCluster(response.json())


def life_of_a_cluster(service, name, version):
    clusters = service.connected_cluster
    raises(ResourceNotFoundError, "ResourceNotFound", lambda: clusters.get(GROUP, name))

    wish = new(distribution="k3s", infrastructure="generic")
    made = clusters.begin_create_or_replace(GROUP, name, wish).result()
    assert made.name == name and made.location == "westeurope", made
    assert made.type.lower() == "microsoft.kubernetes/connectedclusters", made.type
    assert made.id.endswith(f"/connectedClusters/{name}"), made.id
    assert made.properties.provisioning_state == "Succeeded", made.properties
    assert made.properties.connectivity_status == "Connecting", made.properties
    assert made.properties.distribution == "k3s", made.properties
    assert made.system_data.created_at.year >= 2024, made.system_data

    again = clusters.begin_create_or_replace(GROUP, name, wish).result()
    assert again.id == made.id and again.system_data.created_at == made.system_data.created_at

    read = clusters.get(GROUP, name)
    assert read.tags == {"team": "a"} and read.properties.infrastructure == "generic", read

    patched = patch(service, name, version, {"team": "b"})
    assert patched.tags == {"team": "b"} and patched.properties.distribution == "k3s", patched
    assert clusters.get(GROUP, name).tags == {"team": "b"}

    for page in (clusters.list_by_resource_group(GROUP), clusters.list_by_subscription()):
        names = [cluster.name for cluster in page]
        assert name in names and CONNECTED in names, names
    assert list(clusters.list_by_resource_group("other")) == []

    raises(ResourceExistsError, "ClusterNeverConnected", lambda: credential(clusters, name))

    assert clusters.begin_delete(GROUP, name).result() is None
    raises(ResourceNotFoundError, "ResourceNotFound", lambda: clusters.get(GROUP, name))
    assert clusters.begin_delete(GROUP, name).result() is None


def more_of_a_patch(clusters):
    """From the version on that sends changes of properties."""
    clusters.begin_create_or_replace(GROUP, "patched", new(distribution="k3s")).result()
    wish = models.ConnectedClusterPatch(
        properties=models.ConnectedClusterPatchProperties(distribution="k8s")
    )
    patched = clusters.begin_update_async(GROUP, "patched", wish).result()
    assert patched.properties.distribution == "k8s" and patched.tags == {"team": "a"}, patched
    wish.properties = models.ConnectedClusterPatchProperties(azure_hybrid_benefit="True")
    change = lambda: clusters.begin_update_async(GROUP, "patched", wish).result()
    raises(HttpResponseError, "PropertyChangeNotAllowed", change)
    clusters.begin_delete(GROUP, "patched").result()


def credential(clusters, name, method="AAD"):
    wish = models.ListClusterUserCredentialProperties(
        authentication_method=method, client_proxy=True
    )
    return clusters.list_cluster_user_credential(GROUP, name, wish)


def credential_of_a_connected_cluster(clusters):
    cluster = clusters.get(GROUP, CONNECTED)
    assert cluster.properties.connectivity_status == "Connected", cluster.properties
    assert cluster.properties.last_connectivity_time is not None
    assert cluster.properties.agent_public_key_certificate, "the auth proxy's CA"
    for method in ("AAD", "Token"):
        found = credential(clusters, CONNECTED, method)
        way = found.hybrid_connection_config
        assert way.relay == URL.removeprefix("https://"), way.relay
        assert way.hybrid_connection_name.startswith("microsoft.kubernetes/connectedclusters/")
        assert way.token.startswith("SharedAccessSignature "), "a Send token"
        assert 0 < way.expiration_time - time.time() <= 3600, way.expiration_time
        (config,) = found.kubeconfigs
        text = bytes(config.value).decode()
        assert text.startswith("apiVersion: v1"), text
        assert "certificate-authority-data: " in text and "user: {}" in text, text
    raises(ResourceNotFoundError, "ResourceNotFound", lambda: credential(clusters, "nowhere"))


with open(TOKEN_FILE, encoding="ascii") as file:
    token = file.read().strip()

for number, version in enumerate(("2021-10-01", "2022-10-01-preview", "2024-01-01", None)):
    service = client(token, **({"api_version": version} if version else {}))
    life_of_a_cluster(service, f"arm-{number}", version)
    credential_of_a_connected_cluster(service.connected_cluster)
more_of_a_patch(service.connected_cluster)
operations = [operation.name for operation in service.operations.get()]
assert "Microsoft.Kubernetes/connectedClusters/read" in operations, operations

raises(
    ClientAuthenticationError,
    "AuthenticationFailed",
    lambda: client("wrong").connected_cluster.get(GROUP, CONNECTED),
)
raises(
    HttpResponseError,
    "InvalidApiVersionParameter",
    lambda: client(token, api_version="2020-01-01-preview").connected_cluster.get(
        GROUP, CONNECTED
    ),
)
print("the management client is served")
