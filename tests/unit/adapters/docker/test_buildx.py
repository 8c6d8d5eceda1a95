"""What is asked of docker, and what is made of its answers."""

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
from supply_chain.adapters.docker.build_record import KEY
from supply_chain.adapters.docker.buildx import Buildx, find_client
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
    """An OCI archive of an image whose one layer has a file of so many zeros."""
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


def test_builds_what_is_ordered_and_loads_it(docker):
    """By arguments, each in one piece; the digest is BuildKit's own."""
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


@pytest.mark.parametrize("where", ["context", "fetched"])
def test_an_archive_for_the_engines_own_memory_is_refused_before_the_build(docker, tmp_path, where):
    """Be it the application's, or fetched; where nothing unpacks it, it is a file like others."""
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


def test_build_gives_buildkit_the_bytes_that_were_read(docker):
    """From a directory of its own, with an ignore file that leaves out nothing; and the record comes back."""
    builder, recorded = docker()

    (built,) = builder.build(ORDER)

    given = recorded.directory / "given"
    assert {path.name: path.read_bytes() for path in given.iterdir()} == {
        "Dockerfile": ORDER.dockerfile,
        "Dockerfile.dockerignore": b"",
    }
    assert built.record.materials[0].digest == DIGEST


def test_build_allows_buildkit_exactly_what_was_resolved(docker):
    """The context, images by digest, and what was fetched; everything else is denied first."""
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
"""A build whose step reached the limit of processes before the build of the tests' stage began."""


def test_build_of_the_tests_leaves_what_the_images_build_reached(docker, tmp_path, monkeypatch):
    """They share a control group: set up twice, its counters would be gone, and with them why the build ended."""
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


def test_an_image_that_is_larger_than_declared_is_not_loaded(docker):
    """What is sparse where it was made takes all of its room in the engine."""
    builder, recorded = docker()
    (recorded.directory / "image").write_bytes(image(ORDER.max_size))

    with pytest.raises(BuildLimitExceeded, match=r"more than the 1.0 MiB that are declared \(build.max_size\)"):
        builder.build(ORDER)
    assert [call[0] for call in recorded.calls] == ["build"]


def test_an_image_whose_layers_cannot_be_read_is_not_loaded(docker):
    """Nobody knows how large it is."""
    builder, recorded = docker()
    (recorded.directory / "image").write_text("no archive")

    with pytest.raises(BuildFailed, match="its layers cannot be read"):
        builder.build(ORDER)
    assert [call[0] for call in recorded.calls] == ["build"]


@pytest.mark.parametrize(("size", "most"), [(2**20, 1536), (2**30, 4608)])
def test_loading_that_takes_the_engines_disk_is_ended(docker, tmp_path, monkeypatch, size, most):
    """By the guard that ends a build; a larger image that is declared may take more."""
    builder, recorded = docker(f'[ "$1" = load ] && {{ touch "$here/loading"; exec sleep 5; }}\n{WRITES}')

    def disk(_):
        free = 10 * 2**30 if (recorded.directory / "loading").exists() else 100 * 2**30
        return SimpleNamespace(f_bavail=free, f_frsize=1, f_files=0, f_favail=0)

    monkeypatch.setattr(free_space, "statvfs", disk)
    monkeypatch.setattr(build_guard, "INTERVAL", 0.01)
    monkeypatch.setattr(build_guard, "BuildCgroup", lambda key, owner: BuildCgroup(key, owner, tmp_path / "groups"))

    with pytest.raises(BuildLimitExceeded, match=f"fell by more than {most} MiB"):
        replace(builder, limits=LIMITS, storage=(Path("/engine"),)).build(order(max_size=size))


def test_build_without_a_record_of_buildkit_is_not_used(docker):
    """Nobody knows what went in."""
    builder, _ = docker(metadata=json.dumps({"containerimage.digest": DIGEST}))

    with pytest.raises(BuildMaterialsDiffer, match="cannot be read"):
        builder.build(ORDER)


def test_what_is_run_here_alone_goes_straight_into_the_engines_store(docker):
    """Unpacked, and with the times that its layers have."""
    builder, recorded = docker()

    assert builder.build(order(reproducible=False))[0].digest == DIGEST

    (build,) = recorded.calls
    assert "--output=type=image,unpack=true,name=cscm.local/hello:run" in build


@pytest.mark.parametrize(
    ("settings", "changes", "there", "absent"),
    [
        ({}, {}, [], ["--network", "--allow", "--secret", "--target", "--no-cache"]),
        ({}, {"target": "test"}, ["--target=test"], []),
        ({"network": "none"}, {}, ["--network=none"], ["--allow"]),
        ({}, {"fresh": True}, ["--no-cache"], []),
        ({"ca_bundle": Path("/ca.pem")}, {}, ["--secret=id=ca,src=/ca.pem"], ["--build-arg=CA", "--build-context=ca"]),
    ],
    ids=["plain", "stage", "no network", "fresh", "certificates"],
)
def test_settings_are_the_profiles_and_stay_out_of_layers(docker, settings, changes, there, absent):
    """Certificates are mounted as a secret; a network beyond BuildKit's own is asked for by name."""
    builder, recorded = docker(**settings)

    builder.build(order(**changes))

    assert set(there) <= set(recorded.calls[0])
    assert not [word for word in recorded.calls[0] if word.startswith(tuple(absent))]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ('ERROR: failed to solve: target stage "test" could not be found', DeclarationInvalid),
        ("ERROR: failed to solve: process pip did not complete: the package x could not be found", BuildFailed),
        ('ERROR: failed to solve: target stage "other" could not be found', BuildFailed),
    ],
    ids=["no stage", "a step's own words", "another stage"],
)
def test_a_stage_that_is_not_there_is_the_declarations_mistake(docker, said, error):
    """And a step of the stage that finds something missing is the build's."""
    builder, _ = docker(stderr=said, status=1)

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


def test_a_step_that_fails_is_told_with_its_last_words(docker):
    """Why it failed; what it prints decides nothing."""
    builder, _ = docker(stderr=FAILED, status=1)

    with pytest.raises(BuildFailed, match=r"last said: Collecting x \| denied by policy, CERTIFICATE_VERIFY_FAILED\n"):
        builder.build(ORDER)


def test_a_build_that_fails_tells_its_last_error(docker):
    """And nothing is loaded."""
    builder, recorded = docker(stderr="#5 ok\nERROR: failed to solve: no such file\nexit\n", status=1)

    with pytest.raises(BuildFailed, match="no such file"):
        builder.build(ORDER)
    assert len(recorded.calls) == 1


@pytest.mark.parametrize(
    ("said", "error"),
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
def test_what_is_not_the_builds_own_fault_is_told_apart(docker, said, error):
    """Each has another remedy."""
    with pytest.raises(error) as caught:
        docker(stderr=said, status=1)[0].build(ORDER)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("said", "error"),
    [("Cannot connect to the Docker daemon", EngineUnavailable), ("invalid archive", BuildFailed)],
)
def test_an_image_that_the_engine_does_not_take_is_not_built(docker, said, error):
    """Built, and nowhere."""
    builder, _ = docker(f'[ "$1" = load ] && {{ echo "{said}" >&2; exit 1; }}\n{WRITES}')
    with pytest.raises(error, match=said):
        builder.build(ORDER)


def test_a_build_that_says_nothing_failed_all_the_same(docker):
    """There is always a message."""
    with pytest.raises(BuildFailed, match="it said nothing"):
        docker(status=1)[0].build(ORDER)


@pytest.mark.parametrize(
    "metadata",
    ["", "{", "{}", "[]", "7", '{"containerimage.digest": null}', '{"containerimage.digest": "latest"}'],
)
def test_a_build_that_does_not_name_its_image_failed(docker, metadata):
    """A digest is not guessed."""
    with pytest.raises(BuildFailed, match="which image"):
        docker(metadata=metadata)[0].build(ORDER)


def test_a_build_that_hangs_is_ended(docker):
    """After the time that the application declares."""
    with pytest.raises(ToolTimedOut):
        docker("exec sleep 60")[0].build(order(timeout=0.2))


def test_pushes_under_a_tag_and_goes_on_with_the_registrys_digest(docker):
    """The local name for the push is taken away again."""
    builder, recorded = docker("")

    assert builder.push("cscm.local/hello:run", "dev/hello", "t") == DIGEST

    remote = "registry.test/dev/hello:t"
    assert [call[0] for call in recorded.calls] == ["tag", "push", "rmi"]
    assert recorded.calls[0][1:] == ["cscm.local/hello:run", remote] and recorded.calls[1][1:] == [remote]
    assert recorded.calls[2][-1] == remote


@pytest.mark.parametrize(
    ("said", "error"),
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
def test_why_nothing_was_pushed(docker, said, error):
    """A role that may not is not tried again."""
    builder, _ = docker(f'[ "$1" = push ] && {{ echo "{said}" >&2; exit 1; }}')

    with pytest.raises(error) as caught:
        builder.push("local", "dev/hello", "t")
    assert type(caught.value) is error


def test_an_image_that_is_not_there_after_its_push_is_a_failure(docker):
    """Whatever docker said."""
    builder, _ = docker("", answer=lambda request: httpx.Response(404))

    with pytest.raises(RegistryFailed, match="not there after its push"):
        builder.push("local", "dev/hello", "t")


def test_knows_the_versions_that_decide_a_build(docker):
    """For the provenance."""
    assert docker()[0].versions() == {"buildx": "1.2.3", "engine": "29.0"}


def test_the_first_docker_client_on_path_is_taken(tmp_path):
    """It needs no plugin: buildx is a tool of its own."""
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)

    assert find_client(f"{tmp_path / 'nothing'}:{tmp_path}") == tmp_path / "docker"


def test_without_a_docker_client_the_packages_are_named(tmp_path):
    """Both distributions of it."""
    with pytest.raises(EngineUnsuitable, match=r"docker-cli(.|\n)*docker-ce-cli"):
        find_client(str(tmp_path))
