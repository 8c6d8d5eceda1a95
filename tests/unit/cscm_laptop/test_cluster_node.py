"""Tests of what is read of the node, of its pause image and of the credentials for its pulls."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.cluster.api import ClusterApi, read_node, require_ready
from cscm_laptop.cluster.ecr_credentials import respond
from cscm_laptop.cluster.image import make_image
from supply_chain.errors import ComponentFailed


def node(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    found = [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
    return {
        "metadata": {"name": "laptop"},
        "status": {"conditions": found, "nodeInfo": {"kubeletVersion": "v1.37.2"}},
    }


def test_ready_node_reports_pressure_conditions() -> None:
    found = read_node(node(("DiskPressure", "True", "full"), ("Ready", "True", "posting")), 3)

    assert (found.ready, found.why, found.version, found.pods) == (True, "DiskPressure", "v1.37.2", 3)


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ([("Ready", "False", "container runtime is down")], "container runtime is down"),
        ([("Ready", "Unknown", "Kubelet stopped posting")], "stopped posting"),
        ([], "has not reported yet"),
    ],
)
def test_node_that_takes_no_pods_is_an_error(conditions: list[tuple[str, str, str]], why: str) -> None:
    found = read_node(node(*conditions), 0)

    assert not found.ready
    with pytest.raises(ComponentFailed, match=why):
        require_ready(found)


def test_image_layout_is_reproducible_and_complete() -> None:
    archive = make_image("localhost/cscm-pause:1.0.0", "pause", b"program", "amd64")

    assert archive == make_image("localhost/cscm-pause:1.0.0", "pause", b"program", "amd64")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        blobs = {entry.name: tar.extractfile(entry) for entry in tar}
        content = {name: file.read() for name, file in blobs.items() if file}
    entry = json.loads(content["index.json"])["manifests"][0]
    manifest = json.loads(content[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    config, layer = (
        content[f"blobs/sha256/{each['digest'].removeprefix('sha256:')}"]
        for each in (manifest["config"], manifest["layers"][0])
    )
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/cscm-pause:1.0.0"
    assert json.loads(config)["config"] == {"Entrypoint": ["/pause"], "User": "65534:65534"}
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r:gz") as tar:
        assert [(each.name, each.mode, each.size) for each in tar] == [("pause", 0o755, 7)]


def test_credentials_are_for_the_laptop_registry_only() -> None:
    token = base64.b64encode(b"AWS:secret:with-colon").decode()

    response = respond({"registry": "127.0.0.1:4566"}, token)

    assert response["auth"] == {"127.0.0.1:4566": {"username": "AWS", "password": "secret:with-colon"}}
    assert response["cacheKeyType"] == "Registry"


def test_credential_provider_without_laptop_fails_with_remedy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cscm_laptop.cluster.ecr_credentials", str(tmp_path / "missing.json")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "") and "Run `cscm up`" in done.stderr


def test_unreachable_api_server_is_not_ready(tmp_path: Path) -> None:
    api = ClusterApi(tmp_path, "127.0.0.1", 1)

    assert not api.is_ready() and not api.node().ready
