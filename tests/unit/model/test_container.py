"""What is asked of an engine, and how it is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.model.container import (
    Change,
    Logs,
    configuration_digest,
    container_name,
    labels,
    outside,
    profile,
    slug,
)
from supply_chain.model.manifest import Runtime

DIGEST = "sha256:" + "ab" * 32


def test_everything_is_taken_away_that_is_not_declared():
    """The least a declaration can say gives the hardest profile."""
    hardest = profile(Runtime())

    assert hardest.read_only
    assert hardest.no_new_privileges
    assert hardest.dropped == ("ALL",)
    assert hardest.capabilities == ()
    assert hardest.writable == ()
    assert hardest.user == "10001:10001"
    assert (hardest.privileged, hardest.host_namespaces, hardest.devices) == (False, (), ())


def test_the_order_of_a_declaration_makes_no_other_configuration():
    """The same configuration has one digest however it is written down."""
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
def test_any_difference_is_another_configuration(settings, runtime):
    """A value, a name, a missing one or another profile changes the digest."""
    assert configuration_digest(settings, profile(runtime)) != configuration_digest({"A": "1"}, profile(Runtime()))


def test_every_label_is_set_in_place_of_an_images_own():
    """A probe belongs to no environment, whatever its image says."""
    assert labels("probe", "hello", DIGEST, "run")["cscm.environment"] == ""
    assert labels("front", "hello", DIGEST, "run", environment="staging")["cscm.environment"] == "staging"


def test_a_container_is_named_after_what_it_runs():
    """Environment, application, digest and a number: an operator sees all of it."""
    assert container_name("staging", "hello", DIGEST, 3) == "staging-hello-abababababab-3"


def test_two_applications_never_share_a_name():
    """A slash cannot stand in a container's name, and its replacement must not collide."""
    assert slug("a/b") != slug("a-b")
    assert "/" not in slug("a/b")
    assert slug("a" * 61) != slug("a" * 62) and slug("hello_world.x") == "hello_world.x"


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(PATHS, PATHS)
def test_a_change_is_outside_unless_it_is_related_to_a_writable_path(path, writable):
    """Neither at nor below nor a directory above: then, and only then, nobody declared it."""
    related = path == writable or path.startswith(writable + "/") or writable.startswith(path + "/")

    assert outside([Change(kind="added", path=path)], [writable]) == (
        () if related else (Change(kind="added", path=path),)
    )


def test_a_name_that_only_begins_alike_is_outside():
    """/data2 is not below /data."""
    assert outside([Change(kind="added", path="/data2")], ["/data"])


def test_a_removed_directory_above_a_writable_path_is_outside():
    """The engine makes directories for mounts and never removes one."""
    assert outside([Change(kind="deleted", path="/var")], ["/var/cache"])


def test_the_last_words_are_of_both_streams():
    """Standard error speaks last, where the reason usually is."""
    assert Logs("1\n2\n3\n", "oops\n").tail(2) == "2\n3\noops"
