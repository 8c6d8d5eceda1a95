"""Kubelet credential provider: answers with a token of the laptop's registry.

The kubelet calls it for each pull of an image of that registry, unless its last answer is still valid. The token is
that of the execution tier, which may only pull curated images. See Kubernetes' "Configure a kubelet image credential
provider".
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from cscm_laptop.cluster.documents import CACHE
from supply_chain.adapters.aws.accounts import Identity
from supply_chain.adapters.aws.session import AwsSession, translate_errors
from supply_chain.errors import SupplyChainError
from supply_chain.model.tier import TierName


def main() -> int:
    """Write the response to standard output; the argument is the file of the laptop's state.

    What the request names is not needed: the kubelet asks only for images of the registry. It logs standard error.
    """
    try:
        state = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        json.dump(respond(state, fetch_token(state)), sys.stdout)
    except FileNotFoundError:
        print("No supply chain was brought up.\nRun `cscm up`.", file=sys.stderr)
        return 1
    except SupplyChainError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def fetch_token(state: dict[str, Any]) -> str:
    """Return an authorization token of ECR, with the identity of the execution tier."""
    identity = Identity.model_validate(
        {name: state["identities"][TierName.EXECUTION][name] for name in Identity.model_fields}
    )
    session = AwsSession(
        **identity.model_dump(), region=state["region"], endpoint_url=state["endpoint_url"], session_name="kubelet"
    )
    with translate_errors("pull images for the cluster"):
        return str(session.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"])


def respond(state: dict[str, Any], token: str) -> dict[str, Any]:
    """Return the response for the kubelet; a token is `user:password` in base64."""
    user, _, password = base64.b64decode(token).decode().partition(":")
    return {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": CACHE,
        "auth": {state["registry"]: {"username": user, "password": password}},
    }


if __name__ == "__main__":
    sys.exit(main())
