"""What lightkube does not publish: one module uses it, and another version without it is an error that says so."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User
from lightkube.core.client import Client

from supply_chain.adapters.kubernetes.private_names import WRITTEN_FOR, find_sender, make_resource
from supply_chain.errors import ToolMissing
from supply_chain.execution.kubernetes.cluster import NODES

ROOT = Path(__file__).parents[4]


def test_find_sender_returns_sender_of_client() -> None:
    """It makes the requests of the client, with its authentication and its connections."""
    config = KubeConfig.from_one(cluster=Cluster(server="https://cluster.test"), user=User()).get()

    sender = find_sender(Client(config=config))

    request = sender.build_adapter_request(sender.prepare_request("list", make_resource(NODES)))
    assert (request.method, str(request.url)) == ("GET", "https://cluster.test/api/v1/nodes")


@pytest.mark.parametrize(
    ("client", "missing"),
    [
        (SimpleNamespace(), "_client"),
        (SimpleNamespace(_client=SimpleNamespace(prepare_request=None, build_adapter_request=None)), "send"),
    ],
)
def test_version_without_a_private_name_is_named(client: Any, missing: str) -> None:
    """Otherwise the first request of a deployment would end with an AttributeError."""
    with pytest.raises(
        ToolMissing, match=rf"(?s)lightkube [\d.]+ cannot be used: .*'{missing}'.*{WRITTEN_FOR}.*Install"
    ):
        find_sender(cast("Client", client))


def test_locked_lightkube_is_version_with_reviewed_private_names() -> None:
    """Who raises it looks at each private name again."""
    assert f"\nlightkube=={WRITTEN_FOR} " in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_no_other_module_uses_private_names_of_lightkube() -> None:
    """They are looked at in one place when the version is raised."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")}
    using = [
        name
        for name, text in texts.items()
        if "from lightkube" in text and re.search(r"\._client\b|\b_api_info\b", text)
    ]

    assert using == ["private_names.py"]
