"""Tests of reading BuildKit's provenance in both SLSA versions, as real engines wrote it."""

import copy
from typing import Any

import pytest

from supply_chain.adapters.docker.build_record import KEY, parse_record
from supply_chain.errors import BuildMaterialsDiffer

SUM = "a" * 64
STEPS = [
    {
        "id": "step0",
        "op": {
            "Op": {
                "source": {
                    "identifier": f"docker-image://127.0.0.1:5997/curated/base/t@sha256:{SUM}",
                    "attrs": {"image.resolvemode": "local"},
                }
            },
            "platform": {"Architecture": "amd64", "OS": "linux"},
            "constraints": {},
        },
    },
    {
        "id": "step1",
        "op": {
            "Op": {
                "exec": {
                    "meta": {"args": ["/bin/sh", "-c", "true"], "cwd": "/"},
                    "mounts": [
                        {"dest": "/"},
                        {"input": -1, "dest": "/c", "mountType": 3, "cacheOpt": {"ID": "ns//c"}},
                        {"input": -1, "dest": "/run/secrets/ca", "mountType": 1, "secretOpt": {"ID": "ca"}},
                        {"dest": "/run/buildkit/ssh_agent.0", "mountType": 2, "SSHOpt": {"ID": "default"}},
                        {"dest": "/t", "mountType": 4},
                    ],
                    "network": 1,
                    "security": 1,
                    "secretenv": [{"ID": "aws", "name": "X"}],
                    "cdiDevices": [{"name": "a/b=c"}],
                }
            }
        },
        "inputs": ["step0:0"],
    },
    {"id": "step2", "op": {"Op": {"file": {"actions": []}}}, "inputs": ["step1:0"]},
    {"id": "step3", "op": {"Op": {}}, "inputs": ["step2:0"]},
]
MATERIALS = [
    {"uri": f"pkg:docker/127.0.0.1%3A5997/curated/base/t?digest=sha256:{SUM}", "digest": {"sha256": SUM}},
    {"uri": "https://files.test/a", "digest": {"sha1": "0"}},
]
REQUEST = {"frontend": "dockerfile.v0", "args": {"build-arg:X": "1"}}
V02: dict[str, Any] = {
    "buildType": "https://mobyproject.org/buildkit@v1",
    "materials": MATERIALS,
    "invocation": {"configSource": {"entryPoint": "Dockerfile"}, "parameters": REQUEST},
    "buildConfig": {"llbDefinition": STEPS},
}
V1 = {
    "buildDefinition": {
        "externalParameters": {"configSource": {"path": "Dockerfile"}, "request": REQUEST},
        "internalParameters": {"buildConfig": {"llbDefinition": STEPS}, "builderPlatform": "linux/amd64"},
        "resolvedDependencies": MATERIALS,
    },
    "runDetails": {},
}


@pytest.mark.parametrize("predicate", [V02, V1], ids=["v0.2", "v1"])
def test_parse_record_reads_both_slsa_versions_alike(predicate):
    """The record names the materials, the sources and what each command had access to."""
    found = parse_record({KEY: predicate})

    assert (found.frontend, found.arguments) == ("dockerfile.v0", {"build-arg:X": "1"})
    assert [each.digest for each in found.materials] == [f"sha256:{SUM}", None]
    (source,), (command,) = found.operations.sources, found.operations.execs
    assert source.identifier == f"docker-image://127.0.0.1:5997/curated/base/t@sha256:{SUM}"
    assert [(each.type, each.id) for each in command.mounts] == [
        ("bind", ""), ("cache", "ns//c"), ("secret", "ca"), ("ssh", "default"), ("tmpfs", "")
    ]  # fmt: skip
    assert (command.network, command.security, command.secrets, command.devices) == (
        "host", "insecure", ("aws",), ("a/b=c",)
    )  # fmt: skip
    assert found.operations.others == {"file": 1} and found.operations.caches == {"ns//c"}


def test_parse_record_accepts_enumeration_names():
    """The JSON encoding of protobuf writes names instead of numbers."""
    predicate = copy.deepcopy(V02)
    predicate["buildConfig"]["llbDefinition"][1]["op"]["Op"]["exec"]["network"] = "HOST"

    assert parse_record({KEY: predicate}).operations.execs[0].network == "host"


def test_parse_record_accepts_empty_image_without_steps():
    """An image that is only `FROM scratch` has neither materials nor steps."""
    nothing = {"invocation": {"parameters": {"frontend": "dockerfile.v0"}}}

    found = parse_record({KEY: nothing})

    assert (found.materials, found.operations.sources, found.operations.execs) == ((), (), ())


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {KEY: None},
        {KEY: []},
        {KEY: {}},
        {KEY: {"invocation": {"parameters": {}}}},
        {KEY: {**V02, "materials": [{}]}},
        {KEY: {**V02, "buildConfig": {"llbDefinition": [{}]}}},
        {KEY: {**V02, "buildConfig": {"llbDefinition": [{"op": {"Op": {"exec": {"network": 7}}}}]}}},
        {KEY: {**V02, "buildConfig": {"llbDefinition": [{"op": {"Op": {"source": {}}}}]}}},
    ],
    ids=str,
)
def test_parse_record_refuses_unreadable_record(metadata):
    """An unreadable record must never pass as an empty one."""
    with pytest.raises(BuildMaterialsDiffer, match="cannot be read"):
        parse_record(metadata)
