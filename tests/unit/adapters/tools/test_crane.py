"""What is asked of crane, and what is made of its answers."""

import pytest

from supply_chain.adapters.tools.crane import Crane, read_upstream_config
from supply_chain.errors import AccessDenied, BaseMissing, RegistryFailed, RegistryUnavailable
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="dev/hello", digest="sha256:" + "a" * 64)
TRICKY = ImageRef(repository="dev/hello", digest="sha256:" + "403" * 2 + "500503429" + "b" * 49)


@pytest.mark.parametrize("insecure", [False, True])
def test_copies_by_digest_under_a_tag(program, docker_config, insecure):
    """Within one registry, with the role's credentials."""
    recorded = program("crane")

    Crane(recorded.does(), "registry.test", docker_config, insecure).copy(REF, "curated/hello", "3f2a1c0-aaaa")

    (call,) = recorded.calls
    assert call[:3] == ["copy", f"registry.test/{REF}", "registry.test/curated/hello:3f2a1c0-aaaa"]
    assert call[3:] == ["--insecure"] * insecure
    assert recorded.environments[0]["DOCKER_CONFIG"].endswith("docker-config")


def test_an_images_files_are_written_where_that_is_asked(program, docker_config, tmp_path):
    """And are not kept in memory, however large it is."""
    recorded = program("crane")

    Crane(recorded.does("echo files"), "registry.test", docker_config).export(REF, tmp_path / "image.tar")

    assert recorded.calls == [["export", f"registry.test/{REF}", "-"]]
    assert (tmp_path / "image.tar").read_text() == "files\n"


@pytest.mark.parametrize("ref", [REF, TRICKY], ids=["plain", "a digest that looks like a status"])
@pytest.mark.parametrize(
    ("said", "error"),
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
def test_why_nothing_was_copied(program, docker_config, tmp_path, ref, said, error):
    """Only what may pass by itself is tried again; the digits of a digest are no status."""
    tool = program("crane").does(stderr=f"Error: copying registry.test/{ref}: {said}", status=1)

    with pytest.raises(error) as caught:
        Crane(tool, "registry.test", docker_config).copy(ref, "curated/hello", "t")
    with pytest.raises(error):
        Crane(tool, "registry.test", docker_config).export(ref, tmp_path / "image.tar")

    assert type(caught.value) is error
    assert said in str(caught.value) and str(ref) in str(caught.value)


def test_an_image_in_another_registry_has_a_configuration(program):
    """Asked without credentials, for the platform that is built."""
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
def test_a_registry_that_does_not_answer_is_no_missing_base(program, stdout, stderr, status, error):
    """The one may pass by itself; the other wants another base."""
    with pytest.raises(error, match=r"(?s)docker\.io/python.*curated base"):
        read_upstream_config(
            program("crane").does(stdout=stdout, stderr=stderr, status=status), "docker.io/python", "linux/amd64"
        )
