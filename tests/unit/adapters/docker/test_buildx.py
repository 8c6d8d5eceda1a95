"""Tests of the requests to docker and buildx, and of how their answers are interpreted."""

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import shutil
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import zstandard

from supply_chain.adapters.docker import build_cgroup, build_guard, free_space
from supply_chain.adapters.docker.build_cgroup import BuildCgroup
from supply_chain.adapters.docker.build_guard import LocalEngine
from supply_chain.adapters.docker.build_record import KEY
from supply_chain.adapters.docker.buildx import STEP_FAILED, Buildx, find_client
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.development.build import BuildOrder
from supply_chain.development.separation import BuildLimits
from supply_chain.errors import (
    AccessDenied,
    BaseMissing,
    BuildFailed,
    BuildLimitExceeded,
    BuildMaterialsDiffer,
    DeclarationInvalid,
    DiskFull,
    DockerfileRefused,
    EngineUnavailable,
    EngineUnsuitable,
    RegistryFailed,
    RegistryUnavailable,
    ToolTimedOut,
)

DIGEST = "sha256:" + "a" * 64
LIMITS = BuildLimits(memory=2**30, processes=100, cpus=1, disk=2**30, reserve=0)
ORDER = BuildOrder(
    context=Path("/context"),
    dockerfile=b"FROM curated/base/python\n",
    platform="linux/amd64",
    target=None,
    name="cscm.local/hello:run",
    images={"docker.io/curated/base/python:latest": f"registry.test/curated/base/python@{DIGEST}"},
    fetched={"https://files.test/a": Path("/fetched/fetched-1")},
    annotations={"org.opencontainers.image.title": "hello world"},
    epoch=1000,
    timeout=30,
    reproducible=True,
    key="0123",
    caches="4567",
    max_size=2**20,
)
RECORD = {
    "invocation": {"parameters": {"frontend": "dockerfile.v0", "args": {}}},
    "materials": [{"uri": "pkg:docker/registry.test/a", "digest": {"sha256": "a" * 64}}],
}
WRITES = """
for a in "$@"; do case "$a" in
    --metadata-file=*) cp "$here/metadata" "${a#*=}";;
    --output=*dest=*) a="${a#*dest=}"; cp "$here/image" "${a%%,*}";;
    --file=*) cp -r "$(dirname "${a#*=}")" "$here/given";;
esac; done
[ -z "$EXPERIMENTAL_BUILDKIT_SOURCE_POLICY" ] || cp "$EXPERIMENTAL_BUILDKIT_SOURCE_POLICY" "$here/policy"
"""


def image(size):
    """Return an OCI archive of an image with one layer, which has one file of `size` zeros."""
    blobs = {}

    def blob(content):
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{digest}"}

    layer = gzip.compress(packed({"zeros": bytes(size)}))
    top = blob(json.dumps({"config": blob(b"{}"), "layers": [blob(layer)]}).encode())
    return packed({**blobs, "index.json": json.dumps({"manifests": [top]}).encode()})


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def docker(program, docker_config):
    recorded = program("docker")

    def make(script=WRITES, metadata=None, answer=None, **kwargs):
        wrote = json.dumps({"containerimage.digest": DIGEST, KEY: RECORD}) if metadata is None else metadata
        (recorded.directory / "metadata").write_text(wrote)
        (recorded.directory / "image").write_bytes(image(1000))
        reply = answer or (lambda request: httpx.Response(200, headers={"Docker-Content-Digest": DIGEST}))
        registry = Registry(RegistryHttp("registry.test", lambda: ("AWS", "x"), transport=httpx.MockTransport(reply)))
        settings = {name: kwargs.pop(name) for name in ("network", "ca_bundle") if name in kwargs}
        tool = recorded.does(script, **kwargs)
        return Buildx(tool, tool, docker_config, lambda: "29.0", registry, **settings), recorded

    return make


def order(**changes):
    return BuildOrder(**{**{name: getattr(ORDER, name) for name in BuildOrder.__dataclass_fields__}, **changes})


def test_build_passes_order_to_buildx_and_loads_result(docker):
    """Each argument is a word of its own, and the digest is the one that BuildKit reports."""
    builder, recorded = docker()

    assert builder.build(ORDER)[0].digest == DIGEST

    build, load = recorded.calls
    assert build[0] == "build" and build[-1] == "/context"
    for word in (
        "--platform=linux/amd64",
        "--build-context=fetched-1=/fetched/fetched-1",
        "--provenance=false",
        "--annotation=org.opencontainers.image.title=hello world",
        "--build-arg=BUILDKIT_CACHE_MOUNT_NS=4567",
        "--cgroup-parent=/cscm.build/0123",
    ):
        assert word in build
    (output,) = [word for word in build if word.startswith("--output=")]
    assert "rewrite-timestamp=true" in output and output.endswith("name=cscm.local/hello:run")
    assert load[:2] == ["load", "--input"] and f"dest={load[2]}" in output
    assert recorded.environments[0]["SOURCE_DATE_EPOCH"] == "1000"
    assert recorded.environments[0]["DOCKER_CONFIG"].endswith("docker-config")
    assert recorded.environments[0]["BUILDX_METADATA_PROVENANCE"] == "max"
    assert recorded.environments[0]["BUILDX_GIT_INFO"] == "false"


@pytest.mark.parametrize("where", ["context", "fetched"])
def test_build_refuses_archive_that_exhausts_engine_memory(docker, tmp_path, where):
    """The archive may be part of the source or fetched; an archive that no ADD unpacks is an ordinary file."""
    window = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=window).compressobj()
    for name in ("context", "fetched"):
        (tmp_path / name).mkdir()
    (tmp_path / where / "a.tar").write_bytes(packer.compress(b"a") + packer.flush())
    builder, recorded = docker()
    changes = {"context": tmp_path / "context", "fetched": {"https://files.test/a": tmp_path / "fetched"}}

    with pytest.raises(BuildLimitExceeded, match=r"ADD of a\.tar takes more than 64 MiB"):
        builder.build(order(**changes, unpacks=True))

    assert recorded.calls == []
    assert builder.build(order(**changes, unpacks=False))


def test_build_gives_buildkit_the_dockerfile_bytes_of_the_order(docker):
    """The Dockerfile is in its own directory with an empty ignore file, and the record of the build is returned."""
    builder, recorded = docker()

    (built,) = builder.build(ORDER)

    given = recorded.directory / "given"
    assert {path.name: path.read_bytes() for path in given.iterdir()} == {
        "Dockerfile": ORDER.dockerfile,
        "Dockerfile.dockerignore": b"",
    }
    assert built.record.materials[0].digest == DIGEST


def test_build_policy_allows_only_resolved_sources(docker):
    """The policy denies all sources first, and then allows the context, images by digest and fetched files."""
    builder, recorded = docker()

    builder.build(ORDER)

    deny, *rules = json.loads((recorded.directory / "policy").read_text())["rules"]
    image = f"docker-image://registry.test/curated/base/python@{DIGEST}"
    assert deny == {"action": "DENY", "selector": {"identifier": "*", "matchType": "WILDCARD"}}
    assert [(r["action"], r["selector"]["identifier"], r.get("updates", {}).get("identifier")) for r in rules] == [
        ("ALLOW", "local://context", None),
        ("ALLOW", "local://dockerfile", None),
        ("ALLOW", image, None),
        ("ALLOW", "local://fetched-1", None),
        ("CONVERT", "docker-image://docker.io/curated/base/python:latest", image),
        ("CONVERT", "https://files.test/a", "local://fetched-1"),
    ]
    assert {rule["selector"]["matchType"] for rule in rules} == {"EXACT"}


STAGE = """
case "$*" in
    *--target=test*) touch "$here/both"; exit 0;;
esac
echo max 1 > GROUPS/pids/cscm.build/0123/pids.events
touch "$here/counted"
until [ -e "$here/both" ]; do sleep 0.02; done
exit 1
"""
"""A build whose step reaches the process limit before the build of the test stage begins."""


def test_stage_build_keeps_counters_of_image_build(docker, tmp_path, monkeypatch):
    """Both builds share a control group; a second setup would reset the counters that explain why the first ended."""
    groups = tmp_path / "groups"
    monkeypatch.setattr(build_guard, "BuildCgroup", lambda key, owner: BuildCgroup(key, owner, groups))
    monkeypatch.setattr(build_guard, "INTERVAL", 60.0)
    monkeypatch.setattr(build_cgroup, "_remove", lambda directory: shutil.rmtree(directory, ignore_errors=True))
    builder, recorded = docker(STAGE.replace("GROUPS", str(groups)))
    begun = itertools.count()

    def configured():
        if next(begun) == 1:
            while not (recorded.directory / "counted").exists():
                time.sleep(0.01)
        return contextlib.nullcontext(tmp_path)

    builder = replace(builder, limits=LIMITS, docker_config=configured)

    with pytest.raises(BuildLimitExceeded, match="more than 100 processes"):
        builder.build(ORDER, order(target="test", reproducible=False))


def test_build_refuses_image_larger_than_declared(docker):
    """A sparse file takes its full size in the engine, so the image is not loaded."""
    builder, recorded = docker()
    (recorded.directory / "image").write_bytes(image(ORDER.max_size))

    with pytest.raises(BuildLimitExceeded, match=r"more than the 1.0 MiB that are declared \(build.max_size\)"):
        builder.build(ORDER)
    assert [call[0] for call in recorded.calls] == ["build"]


def test_build_refuses_image_with_unreadable_layers(docker):
    """The size of such an image is unknown, so it is not loaded."""
    builder, recorded = docker()
    (recorded.directory / "image").write_text("no archive")

    with pytest.raises(BuildFailed, match="its layers cannot be read"):
        builder.build(ORDER)
    assert [call[0] for call in recorded.calls] == ["build"]


@pytest.mark.parametrize(("size", "most"), [(2**20, 1536), (2**30, 4608)])
def test_load_is_ended_if_it_takes_too_much_disk(docker, tmp_path, monkeypatch, size, most):
    """The guard of the build also guards the load; a larger declared size permits more."""
    builder, recorded = docker(f'[ "$1" = load ] && {{ touch "$here/loading"; exec sleep 5; }}\n{WRITES}')

    def disk(_):
        free = 10 * 2**30 if (recorded.directory / "loading").exists() else 100 * 2**30
        return SimpleNamespace(f_bavail=free, f_frsize=1, f_files=0, f_favail=0)

    monkeypatch.setattr(free_space, "statvfs", disk)
    monkeypatch.setattr(build_guard, "INTERVAL", 0.01)
    monkeypatch.setattr(build_guard, "BuildCgroup", lambda key, owner: BuildCgroup(key, owner, tmp_path / "groups"))

    with pytest.raises(BuildLimitExceeded, match=f"fell by more than {most} MiB"):
        replace(builder, limits=LIMITS, engine=LocalEngine((Path("/engine"),))).build(order(max_size=size))


def test_build_without_buildkit_record_is_refused(docker):
    """Without the record the materials are unknown."""
    builder, _ = docker(metadata=json.dumps({"containerimage.digest": DIGEST}))

    with pytest.raises(BuildMaterialsDiffer, match="cannot be read"):
        builder.build(ORDER)


def test_local_build_writes_directly_into_engine_store(docker):
    """An image that only runs here is unpacked and keeps the times of its layers."""
    builder, recorded = docker()

    assert builder.build(order(reproducible=False))[0].digest == DIGEST

    (build,) = recorded.calls
    assert "--output=type=image,unpack=true,compression=uncompressed,name=cscm.local/hello:run" in build


def test_order_is_notified_after_image_is_loaded(docker):
    """The build waits for what begins then. A build that fails begins nothing."""
    builder, recorded = docker()
    loaded = []

    builder.build(order(when_loaded=lambda digest: loaded.append((digest, [call[0] for call in recorded.calls]))))
    failing, _ = docker(stderr="ERROR: no", status=1)
    with pytest.raises(BuildFailed):
        failing.build(order(when_loaded=loaded.append))

    assert loaded == [(DIGEST, ["build", "load"])]


@pytest.mark.parametrize(("failures", "calls"), [(1, ["build", "load", "load"]), (2, None)])
def test_load_that_lost_a_shared_layer_is_repeated_once(docker, failures, calls):
    """Another image that has the layer was removed meanwhile."""
    lost = f"""[ "$1" != load ] || [ $n -gt {failures} ] || {{
        echo "parent snapshot sha256:{"a" * 64} does not exist: not found" >&2; exit 1
    }}"""
    builder, recorded = docker(WRITES + lost)

    if calls:
        builder.build(order())
        assert [call[0] for call in recorded.calls] == calls
        return
    with pytest.raises(BuildFailed, match="parent snapshot"):
        builder.build(order())


@pytest.mark.parametrize(
    ("settings", "changes", "included", "absent"),
    [
        ({}, {}, [], ["--network", "--allow", "--secret", "--target", "--no-cache"]),
        ({}, {"target": "test"}, ["--target=test"], []),
        ({"network": "none"}, {}, ["--network=none"], ["--allow"]),
        ({}, {"force": True}, ["--no-cache"], []),
        ({"ca_bundle": Path("/ca.pem")}, {}, ["--secret=id=ca,src=/ca.pem"], ["--build-arg=CA", "--build-context=ca"]),
    ],
    ids=["plain", "stage", "no network", "force", "certificates"],
)
def test_build_settings_come_from_profile_and_stay_out_of_layers(docker, settings, changes, included, absent):
    """Certificates are mounted as a secret, and network access is an explicit option."""
    builder, recorded = docker(**settings)

    builder.build(order(**changes))

    assert set(included) <= set(recorded.calls[0])
    assert not [word for word in recorded.calls[0] if word.startswith(tuple(absent))]


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        ('ERROR: failed to solve: target stage "test" could not be found', DeclarationInvalid),
        ("ERROR: failed to solve: process pip did not complete: the package x could not be found", BuildFailed),
        ('ERROR: failed to solve: target stage "other" could not be found', BuildFailed),
    ],
    ids=["no stage", "a step's own words", "another stage"],
)
def test_build_reports_missing_stage_as_invalid_declaration(docker, stderr, error):
    """Output of a step that reads alike is a failure of the build."""
    builder, _ = docker(stderr=stderr, status=1)

    with pytest.raises(error):
        builder.build(order(target="test"))


FAILED = """#9 ERROR: process "/bin/sh -c pip install x" did not complete successfully: exit code: 1
------
 > [build 4/5] RUN pip install x:
0.512 Collecting x
1.204 denied by policy, CERTIFICATE_VERIFY_FAILED
------
Dockerfile:10
--------------------
  10 | >>> RUN pip install x
--------------------
ERROR: failed to build: failed to solve: process "/bin/sh -c pip install x" did not complete
"""


def test_failed_build_reports_last_output_of_failed_step(docker):
    """The output of the step explains the failure but does not classify it."""
    builder, _ = docker(stderr=FAILED, status=1)

    with pytest.raises(
        BuildFailed, match=r"last output of the step: Collecting x \| denied by policy, CERTIFICATE_VERIFY_FAILED\n"
    ):
        builder.build(ORDER)


FULL = "no space left on device"


@pytest.mark.parametrize(
    "stderr",
    [
        f"#7 0.4 {FULL}\nERROR: failed to solve: exit code: 1",
        f"------\n > [2/2] RUN x:\n0.4 cp: {FULL}\n------\nERROR: failed to solve: exit code: 1",
        f"#7 0.4 x\nERROR: failed to solve: process "
        f'"/bin/sh -c echo {FULL}; false" did not complete successfully: exit code: 1',
    ],
    ids=["output", "repeated output", "command"],
)
def test_step_that_prints_full_disk_is_a_failed_build(docker, stderr):
    """A step may print anything, and an application in it may have a quota of its own."""
    with pytest.raises(BuildFailed):
        docker(stderr=stderr, status=1)[0].build(ORDER)


@pytest.mark.parametrize(
    "words",
    [
        "Cannot connect to the Docker daemon",
        "denied by policy",
        "failed to resolve source metadata: not found",
    ],
)
def test_command_of_a_failed_step_does_not_decide_which_error_it_is(docker, words):
    """An engine that stopped answering would be retried."""
    stderr = f"ERROR: failed to solve: process {json.dumps(f'/bin/sh -c echo {words}; false')} {STEP_FAILED}: exit code"

    with pytest.raises(BuildFailed, match="echo") as raised:
        docker(stderr=stderr, status=1)[0].build(ORDER)
    assert raised.type is BuildFailed


@pytest.mark.parametrize("before", ["", 'process "/bin/sh -c x" did not complete successfully: '])
def test_engine_without_space_is_a_full_disk(docker, before):
    """BuildKit says so itself, in its last line."""
    with pytest.raises(DiskFull):
        docker(stderr=f"#7 0.4 x\nERROR: failed to solve: {before}failed to copy: write /a: {FULL}", status=1)[0].build(
            ORDER
        )


def test_failed_build_reports_last_error_and_loads_nothing(docker):
    """Only the build command has been called."""
    builder, recorded = docker(stderr="#5 ok\nERROR: failed to solve: no such file\nexit\n", status=1)

    with pytest.raises(BuildFailed, match="no such file"):
        builder.build(ORDER)
    assert len(recorded.calls) == 1


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        ("ERROR: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", EngineUnavailable),
        ("ERROR: error during connect: Post /build: EOF", EngineUnavailable),
        ("ERROR: failed to receive status: rpc error: code = Unavailable desc = EOF", EngineUnavailable),
        ("ERROR: failed to solve: failed to resolve source metadata for r/base@x: r/base@x: not found", BaseMissing),
        (
            "ERROR: failed to solve: failed to resolve source metadata for r/b: dial: connection refused",
            RegistryUnavailable,
        ),
        (
            "ERROR: failed to resolve source metadata for r/b: HEAD http://r: 503 Service Unavailable",
            RegistryUnavailable,
        ),
        ("ERROR: failed to solve: process /bin/sh -c make did not complete: not found", BuildFailed),
        ('ERROR: failed to load LLB: source "git://x" denied by policy: source denied by policy', DockerfileRefused),
    ],
)
def test_build_failure_outside_buildkit_raises_error_of_its_cause(docker, stderr, error):
    """Each of them has another remedy."""
    with pytest.raises(error) as caught:
        docker(stderr=stderr, status=1)[0].build(ORDER)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("message", "error"),
    [("Cannot connect to the Docker daemon", EngineUnavailable), ("invalid archive", BuildFailed)],
)
def test_build_fails_if_engine_does_not_load_image(docker, message, error):
    """The image was built but is not in the engine."""
    builder, _ = docker(f'[ "$1" = load ] && {{ echo "{message}" >&2; exit 1; }}\n{WRITES}')
    with pytest.raises(error, match=message):
        builder.build(ORDER)


def test_failed_build_without_output_has_a_message(docker):
    """An error always has a message."""
    with pytest.raises(BuildFailed, match="it said nothing"):
        docker(status=1)[0].build(ORDER)


@pytest.mark.parametrize(
    "metadata",
    ["", "{", "{}", "[]", "7", '{"containerimage.digest": null}', '{"containerimage.digest": "latest"}'],
)
def test_build_fails_if_metadata_names_no_digest(docker, metadata):
    """A digest is never guessed."""
    with pytest.raises(BuildFailed, match="which image"):
        docker(metadata=metadata)[0].build(ORDER)


def test_build_that_exceeds_its_timeout_is_ended(docker):
    """The application declares the timeout."""
    with pytest.raises(ToolTimedOut):
        docker("exec sleep 60")[0].build(order(timeout=0.2))


def test_push_returns_digest_of_registry(docker):
    """The local tag for the push is removed again."""
    builder, recorded = docker("")

    assert builder.push("cscm.local/hello:run", "dev/hello", "t") == DIGEST

    remote = "registry.test/dev/hello:t"
    assert [call[0] for call in recorded.calls] == ["tag", "push", "rmi"]
    assert recorded.calls[0][1:] == ["cscm.local/hello:run", remote] and recorded.calls[1][1:] == [remote]
    assert recorded.calls[2][-1] == remote


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("denied: not allowed", AccessDenied),
        ("DENIED", AccessDenied),
        ("unexpected status from POST request to http://x/v2/dev/hello/blobs/uploads/: 403 Forbidden", AccessDenied),
        ("unexpected status: 401 Unauthorized", AccessDenied),
        ("sha256:403f: 500 Internal Server Error", RegistryUnavailable),
        ("connection refused", RegistryUnavailable),
        ("error during connect: EOF", EngineUnavailable),
        ("", RegistryUnavailable),
    ],
)
def test_push_classifies_failures(docker, message, error):
    """A denied push is not retried."""
    builder, _ = docker(f'[ "$1" = push ] && {{ echo "{message}" >&2; exit 1; }}')

    with pytest.raises(error) as caught:
        builder.push("local", "dev/hello", "t")
    assert type(caught.value) is error


def test_push_fails_if_registry_does_not_have_the_image(docker):
    """The exit status of docker alone is no proof."""
    builder, _ = docker("", answer=lambda request: httpx.Response(404))

    with pytest.raises(RegistryFailed, match="not there after its push"):
        builder.push("local", "dev/hello", "t")


def test_versions_names_engine_and_buildx(docker):
    """The provenance records both."""
    assert docker()[0].versions() == {"buildx": "1.2.3", "engine": "29.0"}


def test_find_client_returns_first_docker_on_path(tmp_path):
    """No plugin is needed, because buildx is a separate tool."""
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)

    assert find_client(f"{tmp_path / 'nothing'}:{tmp_path}") == tmp_path / "docker"


def test_find_client_names_packages_if_docker_is_missing(tmp_path):
    """The message names the packages of both distributions of the client."""
    with pytest.raises(EngineUnsuitable, match=r"docker-cli(.|\n)*docker-ce-cli"):
        find_client(str(tmp_path))
