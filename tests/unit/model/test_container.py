"""Container profiles, labels, names, changes and logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.model.container import (
    Change,
    Logs,
    configuration_digest,
    container_name,
    find_outside,
    labels,
    profile,
    slug,
)
from supply_chain.model.manifest import Runtime

DIGEST = "sha256:" + "ab" * 32


def test_default_profile_is_the_most_restricted():
    """A declaration must state everything that it needs."""
    hardest = profile(Runtime())

    assert hardest.read_only
    assert hardest.no_new_privileges
    assert hardest.dropped == ("ALL",)
    assert hardest.capabilities == ()
    assert hardest.writable == ()
    assert hardest.user == "10001:10001"
    assert (hardest.privileged, hardest.host_namespaces, hardest.devices) == (False, (), ())


def test_configuration_digest_ignores_order():
    """The same configuration has one digest, however it is written."""
    one = profile(Runtime(writable=("/a", "/b"), capabilities=("CHOWN", "SETUID")))
    other = profile(Runtime(writable=("/b", "/a"), capabilities=("SETUID", "CHOWN")))

    assert configuration_digest({"A": "1", "B": "2"}, one) == configuration_digest({"B": "2", "A": "1"}, other)


@pytest.mark.parametrize(
    ("settings", "runtime"),
    [
        ({"A": "2"}, Runtime()),
        ({"B": "1"}, Runtime()),
        ({}, Runtime()),
        ({"A": "1"}, Runtime(pids=65)),
        ({"A": "1"}, Runtime(cpu=2)),
    ],
)
def test_configuration_digest_changes_with_each_setting(settings, runtime):
    """Each value, name and part of the profile counts."""
    assert configuration_digest(settings, profile(runtime)) != configuration_digest({"A": "1"}, profile(Runtime()))


def test_labels_always_set_environment():
    """An empty label overrides a label of the image."""
    assert labels("probe", "hello", DIGEST, "run")["cscm.environment"] == ""
    assert labels("probe", "hello", DIGEST, "run")["cscm.owner"] == ""
    assert labels("reverse-proxy", "hello", DIGEST, "run", environment="staging")["cscm.environment"] == "staging"


def test_container_name_has_environment_application_and_digest():
    """An operator can read them from the name."""
    assert container_name("staging", "hello", DIGEST, 3) == "staging-hello-abababababab-3"


def test_slugs_of_two_applications_differ():
    """A container name cannot contain a slash, and its replacement must not collide."""
    assert slug("a/b") != slug("a-b")
    assert "/" not in slug("a/b")
    assert slug("a" * 61) != slug("a" * 62) and slug("hello_world.x") == "hello_world.x"


@pytest.mark.parametrize("application", ["shop/api", "a" * 61])
def test_slug_of_one_application_cannot_be_name_of_another(application):
    """Whoever takes such a name would remove the other application's containers."""
    assert slug(slug(application)) != slug(application)


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(PATHS, PATHS)
def test_change_is_outside_unless_related_to_writable_path(path, writable):
    """A path is related if it equals, is below or is above a writable path."""
    related = path == writable or path.startswith(writable + "/") or writable.startswith(path + "/")

    assert find_outside([Change(kind="added", path=path)], [writable]) == (
        () if related else (Change(kind="added", path=path),)
    )


def test_path_with_same_prefix_is_outside():
    """`/data2` is not below `/data`."""
    assert find_outside([Change(kind="added", path="/data2")], ["/data"])


def test_deleted_directory_above_writable_path_is_outside():
    """The engine creates directories for mounts and never removes one."""
    assert find_outside([Change(kind="deleted", path="/var")], ["/var/cache"])


def test_log_tail_has_standard_error_last():
    """The cause of a failure is usually there."""
    assert Logs("1\n2\n3\n", "oops\n").tail(2) == "2\n3\noops"
