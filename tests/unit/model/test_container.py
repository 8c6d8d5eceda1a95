"""Container profiles, labels, names, changes and logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.model.container import (
    Change,
    Logs,
    compute_configuration_digest,
    find_outside,
    make_container_name,
    make_labels,
    make_profile,
    make_slug,
)
from supply_chain.model.declaration import Runtime

DIGEST = "sha256:" + "ab" * 32


def test_default_profile_is_the_most_restricted():
    """A declaration must state everything that it needs."""
    hardest = make_profile(Runtime())

    assert hardest.read_only
    assert hardest.no_new_privileges
    assert hardest.dropped == ("ALL",)
    assert hardest.capabilities == ()
    assert hardest.writable == ()
    assert hardest.user == "10001:10001"
    assert (hardest.privileged, hardest.host_namespaces, hardest.devices) == (False, (), ())


def test_configuration_digest_ignores_order():
    """The same configuration has one digest, however it is written."""
    one = make_profile(Runtime(writable=("/a", "/b"), capabilities=("CHOWN", "SETUID")))
    other = make_profile(Runtime(writable=("/b", "/a"), capabilities=("SETUID", "CHOWN")))

    assert compute_configuration_digest({"A": "1", "B": "2"}, one) == compute_configuration_digest(
        {"B": "2", "A": "1"}, other
    )


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
    assert compute_configuration_digest(settings, make_profile(runtime)) != compute_configuration_digest(
        {"A": "1"}, make_profile(Runtime())
    )


def test_labels_always_set_environment():
    """An empty label overrides a label of the image."""
    assert make_labels("probe", "hello", DIGEST, "run")["cscm.environment"] == ""
    assert make_labels("probe", "hello", DIGEST, "run")["cscm.owner"] == ""
    assert make_labels("reverse-proxy", "hello", DIGEST, "run", environment="staging")["cscm.environment"] == "staging"


def test_container_name_has_environment_application_and_digest():
    """An operator can read them from the name."""
    assert make_container_name("staging", "hello", DIGEST, 3) == "staging-hello-abababababab-3"


def test_slugs_of_two_applications_differ():
    """A container name cannot contain a slash, and its replacement must not collide."""
    assert make_slug("a/b") != make_slug("a-b")
    assert "/" not in make_slug("a/b")
    assert make_slug("a" * 61) != make_slug("a" * 62) and make_slug("hello_world.x") == "hello_world.x"


@pytest.mark.parametrize("application", ["shop/api", "a" * 61])
def test_slug_of_one_application_cannot_be_name_of_another(application):
    """Whoever takes such a name would remove the other application's containers."""
    assert make_slug(make_slug(application)) != make_slug(application)


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
