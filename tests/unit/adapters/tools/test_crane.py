"""Tests of the calls of crane and of how its answers are interpreted."""

import pytest

from supply_chain.adapters.tools.crane import Crane, read_upstream_config
from supply_chain.errors import AccessDenied, BaseMissing, RegistryFailed, RegistryUnavailable
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
