"""Tests of the calls of crane and of how its answers are interpreted."""

import itertools
import json

import pytest

from supply_chain.adapters.registry import upstream_manifests
from supply_chain.adapters.tools.crane import Crane, read_upstream_config, read_upstream_manifests
from supply_chain.errors import AccessDenied, BaseMissing, DockerfileRefused, RegistryFailed, RegistryUnavailable
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
TRICKY = ImageRef(repository="dev/hello", digest="sha256:" + "403" * 2 + "500503429" + "b" * 49)


@pytest.mark.parametrize("insecure", [False, True])
def test_copy_passes_digest_and_target_tag(program, docker_config, insecure):
    """The copy stays within one registry and uses the credentials of the role."""
    recorded = program("crane")

    Crane(recorded.does(), "registry.test", docker_config, insecure).copy(REF, "curated/hello", "3f2a1c0-aaaa")

    (call,) = recorded.calls
    assert call[:3] == ["copy", f"registry.test/{REF}", "registry.test/curated/hello:3f2a1c0-aaaa"]
    assert call[3:] == ["--insecure"] * insecure
    assert recorded.environments[0]["DOCKER_CONFIG"].endswith("docker-config")


def test_export_writes_files_of_image_to_requested_path(program, docker_config, tmp_path):
    """The content is not kept in memory, however large it is."""
    recorded = program("crane")

    Crane(recorded.does("echo files"), "registry.test", docker_config).export(REF, tmp_path / "image.tar")

    assert recorded.calls == [["export", f"registry.test/{REF}", "-"]]
    assert (tmp_path / "image.tar").read_text() == "files\n"


@pytest.mark.parametrize("ref", [REF, TRICKY], ids=["plain", "a digest that looks like a status"])
@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("DENIED: not allowed", AccessDenied),
        ("UNAUTHORIZED: authentication required", AccessDenied),
        ("unexpected status code 403 Forbidden", AccessDenied),
        ("dial tcp 127.0.0.1:9: connect: connection refused", RegistryUnavailable),
        ("unexpected EOF", RegistryUnavailable),
        ("unexpected status code 503 Service Unavailable", RegistryUnavailable),
        ("TOOMANYREQUESTS: later", RegistryUnavailable),
        ("MANIFEST_UNKNOWN: no such image", RegistryFailed),
        ("TAG_INVALID: the tag cannot be moved", RegistryFailed),
    ],
)
def test_failure_of_crane_raises_exception_for_its_cause(program, docker_config, tmp_path, ref, message, error):
    """Only transient errors are retryable, and digits of a digest are not read as a status."""
    tool = program("crane").does(stderr=f"Error: copying registry.test/{ref}: {message}", status=1)

    with pytest.raises(error) as caught:
        Crane(tool, "registry.test", docker_config).copy(ref, "curated/hello", "t")
    with pytest.raises(error):
        Crane(tool, "registry.test", docker_config).export(ref, tmp_path / "image.tar")

    assert type(caught.value) is error
    assert message in str(caught.value) and str(ref) in str(caught.value)


def test_read_upstream_config_returns_configuration_for_platform(program):
    """The request carries no credentials."""
    recorded = program("crane")
    address = f"docker.io/library/python@{REF.digest}"

    assert read_upstream_config(recorded.does(stdout='{"os": "linux"}'), address, "linux/arm64") == b'{"os": "linux"}'
    assert recorded.calls == [["config", "--platform", "linux/arm64", address]]


@pytest.mark.parametrize(
    ("stdout", "stderr", "status", "error"),
    [
        ("", "MANIFEST_UNKNOWN: manifest unknown", 1, BaseMissing),
        ("", "UNAUTHORIZED: authentication required", 1, BaseMissing),
        ("<html>", "", 0, BaseMissing),
        ("", "unexpected status code 503 Service Unavailable", 1, RegistryUnavailable),
        ("", "dial tcp: lookup registry.test: no such host", 1, RegistryUnavailable),
        ("", "TOOMANYREQUESTS: later", 1, RegistryUnavailable),
    ],
)
def test_read_upstream_config_distinguishes_outage_from_missing_base(program, stdout, stderr, status, error):
    """An outage may pass by itself; a missing base needs another declaration."""
    with pytest.raises(error, match=r"(?s)docker\.io/python.*curated base"):
        read_upstream_config(
            program("crane").does(stdout=stdout, stderr=stderr, status=status), "docker.io/python", "linux/amd64"
        )


@pytest.mark.parametrize(
    "config",
    [
        '{"config": {"OnBuild": ["ADD a /"]}, "config": {}}',
        '{"config": {"OnBuild": ["ADD a /"]}, "Config": {}}',
        '{"config": {"OnBuild": ["ADD a /"], "onbu\\u0069ld": []}}',
        '{"Config": {"Env": ["A=1"], "Env": []}}',
        '{"config": {"Labels": {"a": "1", "a": "2"}}}',
        '{"config": {}, "os": NaN}',
    ],
)
def test_read_upstream_config_refuses_what_programs_read_differently(program, config):
    """BuildKit would run triggers that the reading of the Dockerfile does not have."""
    with pytest.raises(DockerfileRefused, match=r"docker\.io/evil.*its configuration cannot be read"):
        read_upstream_config(program("crane").does(stdout=config), "docker.io/evil", "linux/amd64")


@pytest.mark.parametrize(
    "config", ['{"config": {"Labels": {"a": "1", "A": "2"}}}', '{"Config": []}', '{"config": null}']
)
def test_read_upstream_config_accepts_labels_that_differ_by_case(program, config):
    """Nothing reads labels as if they were one; other values are BuildKit's to refuse."""
    assert read_upstream_config(program("crane").does(stdout=config), "docker.io/a", "linux/amd64") == config.encode()


INDEX, IMAGE, OTHER = (f"sha256:{letter * 64}" for letter in "123")
UPSTREAM = f"docker.io/evil/image@{INDEX}"
LINUX, WINDOWS = ({"os": each, "architecture": "amd64"} for each in ("linux", "windows"))


@pytest.fixture
def upstream(program):
    """Return a function that checks an image of these manifests (digest → document), and the calls of crane."""
    recorded = program("crane")

    def check(manifests, platform="linux/amd64", address=UPSTREAM):
        for digest, document in manifests.items():
            (recorded.directory / digest).write_text(json.dumps(document))
        read_upstream_manifests(recorded.does('cat "$here/${2#*@}" || exit 1'), address, platform)
        assert all(call[0] == "manifest" and call[1].startswith("docker.io/evil/image@") for call in recorded.calls)
        return [call[-1].partition("@")[2] for call in recorded.calls]

    return check


def listed(**digests):
    return {"manifests": [{"digest": at, "platform": platform} for at, platform in digests.values()]}


@pytest.mark.parametrize("platform", ["linux/amd64", None])
def test_read_upstream_manifests_reads_all_or_those_of_platform(upstream, platform):
    """Without a platform, the Dockerfile may choose any."""
    manifests = {INDEX: listed(a=(IMAGE, LINUX), b=(OTHER, WINDOWS)), IMAGE: {"layers": []}, OTHER: {"layers": []}}

    assert sorted(upstream(manifests, platform)) == sorted([INDEX, IMAGE, *([] if platform else [OTHER])])


def test_read_upstream_manifests_reads_each_manifest_once(upstream):
    """Indexes may name each other's manifests."""
    manifests = {
        INDEX: listed(a=(OTHER, None), b=(IMAGE, None)), OTHER: listed(a=(IMAGE, None)), IMAGE: {"layers": []},
    }  # fmt: skip

    assert sorted(upstream(manifests)) == [INDEX, IMAGE, OTHER]


@pytest.mark.parametrize("below", [0, 1, 2])
def test_read_upstream_manifests_refuses_external_layer_at_any_depth(upstream, below):
    """Containerd requests these addresses from the host's network before it asks the registry."""
    chain = [INDEX, OTHER, IMAGE][2 - below :]
    layer = {"digest": "sha256:" + "a" * 64, "urls": ["http://127.0.0.1:1/admin/delete?everything=yes"]}
    manifests = {each: listed(a=(after, LINUX)) for each, after in itertools.pairwise(chain)}
    manifests[chain[-1]] = {"config": {}, "layers": [layer]}

    with pytest.raises(DockerfileRefused, match=r"(?s)docker\.io/evil/image.*another address.*curated base"):
        upstream(manifests, address=f"docker.io/evil/image@{chain[0]}")


@pytest.mark.parametrize(("most", "refused"), [(3, False), (2, True)])
def test_read_upstream_manifests_reads_a_bounded_number_of_manifests(upstream, monkeypatch, most, refused):
    """Each takes a request, and somebody else wrote the list."""
    monkeypatch.setattr(upstream_manifests, "MOST_MANIFESTS", most)
    manifests = {INDEX: listed(a=(IMAGE, None), b=(OTHER, None)), IMAGE: {"layers": []}, OTHER: {"layers": []}}

    if refused:
        with pytest.raises(DockerfileRefused, match="more than 2 manifests"):
            upstream(manifests)
    else:
        assert len(upstream(manifests)) == 3


def test_read_upstream_manifests_distinguishes_outage_from_missing_base(upstream, program):
    """A manifest that cannot be read has not been checked."""
    with pytest.raises(BaseMissing, match="cannot be read"):
        upstream({INDEX: listed(a=(IMAGE, LINUX))})
    other = program("other")
    with pytest.raises(BaseMissing, match="cannot be read"):
        read_upstream_manifests(other.does(stdout="[" * 10**5), UPSTREAM, None)
    with pytest.raises(RegistryUnavailable):
        read_upstream_manifests(other.does(stderr="unexpected status code 503 Busy", status=1), UPSTREAM, None)
