"""A hostile Dockerfile: what the reader refuses, and what BuildKit's source policy denies without the reader."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import ValidationError

from supply_chain.adapters.docker.source_policy import make_source_policy
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.crane import read_upstream_manifests
from supply_chain.development.bases import REGISTRIES, CuratedBases
from supply_chain.development.plan import Plan, plan_build
from supply_chain.development.record import check_record
from supply_chain.errors import BuildFailed, BuildMaterialsDiffer, DockerfileRefused
from supply_chain.model.declaration import DECLARATION, Base
from supply_chain.model.image import Material, Source, digest_of
from tests.support.buildkit import NAMESPACE, BuildKit

pytestmark = pytest.mark.real

SHA = "sha256:" + "a" * 64
OCI = "application/vnd.oci.image"
SOURCE = Source(path=".", repository="r", revision="0" * 40, dirty=False, committed=1000)


class Asked(BaseHTTPRequestHandler):
    """A server on the host's loopback that answers every request and records its path."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a secret")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def loopback() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Curated(CuratedBases):
    """One curated base for every name; all other decisions are the real ones."""

    image: str = ""

    def find_released(self, name: str) -> tuple[str, Material]:
        return self.image, Material(name=name, digest=self.image.partition("@")[2], curated=True)


def plan(
    buildkit: BuildKit,
    text: str,
    config: bytes = b"{}",
    base: str = "",
    read: Callable[[str, str | None], Mapping[str, tuple[str, ...]]] = lambda _address, _platform: {},
    **fetch: Any,
) -> Plan:
    """Read a Dockerfile and plan its build as the chain does; `base` is the address of its base."""
    document = {"kind": "base", "name": "hello", "owner": "us", "check": ["/x"], "build": {"fetch": fetch}}
    declaration = DECLARATION.validate_python(document)
    assert isinstance(declaration, Base)
    bases: Any = Curated(
        catalogue=None,  # type: ignore[arg-type] # the catalog is not used
        evidence=None,  # type: ignore[arg-type]
        host="registry.of.the.chain",
        instead={},
        read_config=lambda address, platform: config,
        read_manifests=read,
        layers=lambda: lambda ref: (),
        list_decided=lambda: [],
        registries=REGISTRIES,
        image=base or buildkit.image,
    )
    return plan_build(text.encode(), declaration, SOURCE, NAMESPACE, buildkit.reader, bases)


LOOPBACK = {
    "http": "FROM scratch\nADD http://LOOPBACK/a /a\n",
    "http with a checksum": f"FROM scratch\nADD --checksum={SHA} http://LOOPBACK/a /a\n",
    "https": f"FROM scratch\nADD --checksum={SHA} https://LOOPBACK/a /a\n",
    "git by http": "FROM scratch\nADD http://LOOPBACK/a.git /a\n",
    "git": "FROM scratch\nADD git://LOOPBACK/a.git /a\n",
    "git by ssh": "FROM scratch\nADD git@LOOPBACK:a.git /a\n",
    "an image by tag": "FROM LOOPBACK/a:1\n",
    "an image by digest": f"FROM LOOPBACK/a@{SHA}\n",
    "a copy from an image": f"FROM scratch\nCOPY --from=LOOPBACK/a@{SHA} /a /a\n",
    "a mounted image": f"FROM curated/base/a\nRUN --mount=from=LOOPBACK/a@{SHA},target=/a x\n",
    "an escaped flag": f"FROM scratch\nCOPY --fr\\\nom=LOOPBACK/a@{SHA} /a /a\n",
    "a comment that goes on": f"FROM scratch\n# x \\\nCOPY --from=LOOPBACK/a@{SHA} /a /a\n",
    "another escape": f"# escape=`\nFROM scratch\nCOPY `\n# x\n  --from=LOOPBACK/a@{SHA} /a /a\n",
    "a heredoc before": f"FROM curated/base/a\nRUN <<A <<B\nB\nA\nB\nCOPY --from=LOOPBACK/a@{SHA} /a /a\n",
    "a byte order mark": f"\ufeffFROM LOOPBACK/a@{SHA}\n",
    "a variable": f"ARG A=LOOPBACK\nARG B=$A/a\nFROM ${{B}}@{SHA}\n",
    "a default in a variable": f"ARG B\nFROM ${{B:-LOOPBACK/a@{SHA}}}\n",
    "a URL in a variable": "FROM scratch\nENV U=http://LOOPBACK\nADD $U/a /a\n",
    "a stage by number": f"FROM LOOPBACK/a@{SHA}\nFROM scratch\nCOPY --from=0 /a /a\n",
    "a stage called like a base": f"FROM LOOPBACK/a@{SHA} AS curated\nFROM curated\n",
    "a frontend": "# syntax=LOOPBACK/frontend:1\nFROM scratch\n",
    "a frontend after a mark": "\ufeff#syntax = LOOPBACK/frontend:1\nFROM scratch\n",
    "a frontend after #!": "#!/usr/bin/env x\n# syntax=LOOPBACK/frontend:1\nFROM scratch\n",
    "a frontend in capitals": "# escape=`\n# SYNTAX=LOOPBACK/frontend:1\nFROM scratch\n",
    "a frontend after //": "// syntax=LOOPBACK/frontend:1\nFROM scratch\n",
    "a frontend in JSON": '{"syntax": "LOOPBACK/frontend:1"}\n',
}
"""Dockerfiles that make BuildKit send requests to the host's loopback."""
UNHEARD = (LOOPBACK["a frontend after a mark"],)
"""BuildKit 0.13 and older read this as a comment; the reader refuses it."""


@pytest.mark.parametrize("text", LOOPBACK.values(), ids=LOOPBACK)
def test_buildkit_policy_denies_undeclared_sources(buildkit: BuildKit, loopback: str, text: str) -> None:
    """The source policy holds even if the reader is bypassed: no request is sent."""
    Asked.paths.clear()
    policy = buildkit.policy(["docker.io/curated/base/a:latest"])

    result = buildkit.run(text.replace("LOOPBACK", loopback).encode(), policy)

    assert Asked.paths == []
    if text not in UNHEARD:
        assert result.done.status != 0 and "denied by policy" in result.done.stderr, result.done.stderr[-2000:]


def test_buildkit_reaches_loopback_without_the_policy(buildkit: BuildKit, loopback: str) -> None:
    """Without this control, the test above could pass for a wrong reason."""
    everything = {"rules": [{"action": "ALLOW", "selector": {"identifier": "*", "matchType": "WILDCARD"}}]}
    Asked.paths.clear()

    assert buildkit.run(LOOPBACK["http"].replace("LOOPBACK", loopback).encode(), everything).done.status == 0
    assert "/a" in Asked.paths


@pytest.mark.parametrize("text", LOOPBACK.values(), ids=LOOPBACK)
def test_reader_refuses_undeclared_sources(buildkit: BuildKit, loopback: str, text: str) -> None:
    """The reader refuses them before BuildKit is called."""
    with pytest.raises((DockerfileRefused, BuildFailed)) as caught:
        plan(buildkit, text.replace("LOOPBACK", loopback))
    assert isinstance(caught.value, DockerfileRefused) or "git ref" in str(caught.value)


def push_external(host: str, loopback: str) -> str:
    """Push an image whose layer is said to be at another address; return the image's address."""
    new = f"sha256:{token_hex(32)}"  # the engine does not request again what it has
    layer = {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": new, "size": 8, "urls": [f"http://{loopback}/admin"]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [SHA]}})
    described = {"mediaType": f"{OCI}.config.v1+json", "digest": digest_of(config.encode()), "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": described, "layers": [layer]}
    content = json.dumps(manifest).encode()
    with httpx.Client(base_url=f"http://{host}/v2/evil/image/") as client:
        client.post("blobs/uploads/", params={"digest": str(described["digest"])}, content=config).raise_for_status()
        kind = {"Content-Type": f"{OCI}.manifest.v1+json"}
        client.put("manifests/1", content=content, headers=kind).raise_for_status()
    return f"{host}/evil/image@{digest_of(content)}"


def test_upstream_image_with_layers_at_other_addresses_is_refused(
    buildkit: BuildKit, toolbox: Toolbox, loopback: str
) -> None:
    """The policy allows the image by digest, and the engine requests its layers wherever the manifest says."""
    image = push_external(buildkit.host, loopback)
    Asked.paths.clear()

    with pytest.raises(DockerfileRefused, match="from another address"):
        plan(
            buildkit, "FROM curated/base/a\n", base=image, read=partial(read_upstream_manifests, toolbox.find("crane"))
        )

    assert Asked.paths == []
    text = b"FROM curated/base/a AS evil\nFROM scratch\nCOPY --from=evil / /\n"
    buildkit.run(text, make_source_policy({"docker.io/curated/base/a:latest": image}, {}))
    assert "/admin" in Asked.paths


@pytest.mark.parametrize("kind", ["docker-image://HOST/a:1", "DIRECTORY"])
def test_buildkit_policy_denies_named_contexts(buildkit: BuildKit, loopback: str, tmp_path: Path, kind: str) -> None:
    """A client argument could name an image or a directory of the host as a context."""
    (tmp_path / "secret").write_text("of the host")
    named = kind.replace("HOST", loopback).replace("DIRECTORY", str(tmp_path))
    text = b"FROM evil\nFROM scratch\nCOPY --from=0 / /\n"

    result = buildkit.run(text, buildkit.policy(), f"--build-context=evil={named}")

    assert result.done.status != 0 and "denied by policy" in result.done.stderr


@pytest.mark.parametrize(
    "host",
    ["127.1", "0177.0.0.1", "2130706433", "0x7f000001", "localhost", "0.0.0.0", "169.254.169.254", "10.0.0.1",
     "192.168.1.1", "100.64.0.1"],
)  # fmt: skip
def test_reader_refuses_images_of_private_hosts(buildkit: BuildKit, host: str) -> None:
    """All notations of such addresses are refused, even if the declaration allows the image."""
    name = f"{host}:5000/a/b@{SHA}"

    with pytest.raises(DockerfileRefused, match=rf"builds take no images from the registry {host}:5000\."):
        plan(buildkit, f"FROM {name}\n", images=[name])


@pytest.mark.parametrize("host", ["[::1]", "[::ffff:127.0.0.1]", "[fd00:ec2::254]"])
def test_declaration_refuses_image_of_numeric_ipv6_host(buildkit: BuildKit, host: str) -> None:
    """The Dockerfile is not read."""
    name = f"{host}:5000/a/b@{SHA}"

    with pytest.raises(ValidationError, match=r"build\.fetch\.images\.0\n  String should match pattern"):
        plan(buildkit, f"FROM {name}\n", images=[name])


RUNS = {
    "the host's network": "RUN --network=host x",
    "an SSH agent": "RUN --mount=type=ssh x",
    "another secret": "RUN --mount=type=secret,id=aws x",
    "another secret as a variable": "RUN --mount=type=secret,id=aws,env=X x",
    "a cache above": "RUN --mount=type=cache,id=../other,target=/c x",
    "a cache above by its target": "RUN --mount=type=cache,target=../up x",
    "a cache by a variable": "ENV X=../a\nRUN --mount=type=cache,id=$X,target=/c x",
    "a cache by the base's variable": "RUN --mount=type=cache,id=$OF_THE_BASE,target=/c x",
    "a cache with another's separator": "RUN --mount=type=cache,id=a:b,target=/c x",
    "a setting of the builder": "ARG BUILDKIT_CACHE_MOUNT_NS=other\nRUN x",
    "a device": "RUN --device=vendor.example/gpu=0 x",
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_reader_refuses_forbidden_options_of_run(buildkit: BuildKit, run: str) -> None:
    """The reader uses BuildKit's own parser and expands variables as the build does."""
    config = b'{"config": {"Env": ["OF_THE_BASE=../other"]}}'

    with pytest.raises((DockerfileRefused, BuildFailed)) as caught:
        plan(buildkit, f"FROM curated/base/a\n{run}\n", config)
    assert isinstance(caught.value, DockerfileRefused) or "only supported" in str(caught.value)


def test_reader_applies_onbuild_triggers_of_the_base(buildkit: BuildKit) -> None:
    """ONBUILD instructions of a base are not in the Dockerfile, but the build runs them."""
    trigger = b'{"config": {"OnBuild": ["COPY --from=evil.example/a:1 /a /a"]}}'

    with pytest.raises(DockerfileRefused, match=r"evil\.example/a:1"):
        plan(buildkit, "FROM curated/base/a\n", trigger)


HARMLESS = "FROM curated/base/a AS one\nRUN --mount=type=cache,target=/c x\nFROM scratch\nCOPY --from=one /bin/sh /x\n"


def test_build_of_another_dockerfile_is_rejected_by_its_record(buildkit: BuildKit) -> None:
    """The policy allows its sources, so the check of BuildKit's build record has to find the difference."""
    expected = plan(buildkit, HARMLESS).make_expected("")
    run = partial(buildkit.run, policy=buildkit.policy(["docker.io/curated/base/a:latest"]))

    check_record("", run(HARMLESS.encode()).record, expected)
    for other in (
        HARMLESS.replace("target=/c", "target=/d"),
        HARMLESS.replace("FROM scratch\nCOPY --from=one /bin/sh /x\n", "COPY file /x\n"),
        "FROM scratch\nCOPY file /x\n",
        HARMLESS.replace("--mount=type=cache,target=/c ", ""),
    ):
        with pytest.raises(BuildMaterialsDiffer):
            check_record("", run(other.encode()).record, expected)


def test_cache_mount_of_another_namespace_fails_the_build(buildkit: BuildKit) -> None:
    """The build record shows if the namespace was lost on the way to BuildKit."""
    found = plan(buildkit, HARMLESS)
    policy = buildkit.policy(["docker.io/curated/base/a:latest"])

    record = buildkit.run(HARMLESS.encode(), policy, "--build-arg=BUILDKIT_CACHE_MOUNT_NS=other").record

    with pytest.raises(BuildMaterialsDiffer, match="cache mount other//c was taken in"):
        check_record("", record, found.make_expected(""))


DOUBLING = "{0} A=xxxxxxxxxxxxxxxx\n" + "{0} A=$A$A\n" * 35
LARGE = {
    "a variable that doubles": ("FROM scratch AS test\n" + DOUBLING.format("ENV"), "more memory"),
    "an argument that doubles": ("FROM scratch AS test\n" + DOUBLING.format("ARG"), "more memory"),
    "an argument of all stages that doubles": (DOUBLING.format("ARG") + "FROM scratch AS test\n", "more memory"),
    "a variable that doubles in a stage before": (
        "FROM scratch AS one\n" + DOUBLING.format("ENV") + "FROM scratch AS test\nCOPY --from=one / /\n",
        "more memory",
    ),
    "a variable that doubles a few times": (
        "FROM scratch AS test\nENV A=xxxxxxxxxxxxxxxx\n" + "ENV A=$A$A\n" * 17,
        "variables and instructions, expanded, have",
    ),
    "a long variable of many commands": (
        "FROM curated/base/a\nENV A=xxxxxxxxxxxxxxxx\n" + "ENV A=$A$A\n" * 13 + "RUN x\n" * 200,
        "build definition has",
    ),
    "too many instructions that double": (
        "FROM scratch AS test\nENV A=xxxxxxxxxxxxxxxx\n" + "ENV A=$A$A\n" * 2000,
        "more than 2000 instructions",
    ),
}
"""Short Dockerfiles that use unlimited memory, first in the reader and then in the engine."""


@pytest.mark.parametrize(("text", "why"), LARGE.values(), ids=LARGE)
def test_reader_refuses_dockerfile_that_expands_without_limit(buildkit: BuildKit, text: str, why: str) -> None:
    """BuildKit has no limit of its own, so the reader refuses before it is called."""
    with pytest.raises(DockerfileRefused, match=why):
        plan(buildkit, text)


def test_reader_accepts_the_longest_allowed_dockerfile(buildkit: BuildKit) -> None:
    """The memory limit allows a quarter of a MiB and the maximum number of instructions."""
    commands = "".join(f"RUN x {number} {'y' * 90}\n" for number in range(1999))
    lines = ("z" * 99 + "\n") * 2600

    for text in (f"FROM curated/base/a\n{commands}", f"FROM curated/base/a\nRUN <<EOF\n{lines}EOF\n"):
        assert plan(buildkit, text).reading.error is None


OTHER_COPIED = "FROM curated/base/b\nCOPY --from=curated/base/a /a /a\n"
"""A Dockerfile that copies from another base than its own."""


@pytest.mark.parametrize("key", ["rootfs", "RootFS", "rootf\u017f"])
def test_layers_in_configuration_of_image_do_not_determine_base(buildkit: BuildKit, key: str) -> None:
    """Whoever publishes an image writes its configuration, and Go reads names in any case."""
    other = hashlib.sha256(b"docker.io/curated/base/a:latest").hexdigest()
    config = json.dumps({"config": {}, key: {"type": "layers", "diff_ids": [f"sha256:{other}"]}})

    planned = plan(buildkit, OTHER_COPIED, config=config.encode())

    assert planned.base is not None
    assert planned.base.name == "curated/base/b"


@pytest.mark.parametrize("value", ["docker.io/curated/base/a:latest", "nothing", '""'])
def test_label_does_not_determine_base_of_build(buildkit: BuildKit, value: str) -> None:
    """Neither a label of the Dockerfile nor one of the image below."""
    label = "cscm.reader.base"  # by which the reader found it once
    config = json.dumps({"config": {"Labels": {label: value}}})

    for text in (OTHER_COPIED, f"{OTHER_COPIED}LABEL {label}={value}\n"):
        planned = plan(buildkit, text, config=config.encode())
        assert planned.base is not None
        assert planned.base.name == "curated/base/b"
