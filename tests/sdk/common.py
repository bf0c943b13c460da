"""What the tests of Microsoft's clients for Python share."""

import time

from azure.core.credentials import AccessToken

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "default"


class Static:
    """A credential that is always the same token."""

    def __init__(self, token):
        self.token = token

    def get_token(self, *_scopes, **_options):
        return AccessToken(self.token, int(time.time()) + 3600)


def options(token, url, ca, **more):
    """The arguments of a client that talks to the relay."""
    return {
        "credential": Static(token),
        "subscription_id": SUBSCRIPTION,
        "base_url": url,
        "credential_scopes": ["relay/.default"],
        "connection_verify": ca,
        "retry_total": 0,
        "polling_interval": 0,
        **more,
    }


def raises(kind, code, call):
    """`call` fails in this way, with this code in ARM's error body."""
    try:
        call()
    except kind as error:
        assert error.error and error.error.code == code, (code, error)
        return
    raise AssertionError(f"nothing was raised, and {code} was expected")
