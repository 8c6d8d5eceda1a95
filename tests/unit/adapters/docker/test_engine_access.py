"""What an engine's answers say of what a container reaches, and of what was done with it."""

from datetime import UTC, datetime

import pytest

from supply_chain.adapters.docker.engine_reading import access_from, history_from
from tests.unit.adapters.docker.test_engine import INSPECTED

PLAIN = {"NetworkMode": "bridge", "IpcMode": "private", "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"]}


def access(*, mounts=(), device_of=None, private_cgroups=True, **host):
    attrs = {**INSPECTED, "HostConfig": {**PLAIN, **host}, "Mounts": list(mounts)}
    return access_from(attrs, device_of or {}, private_cgroups=private_cgroups)


def test_container_as_anybody_starts_it_reaches_nothing():
    """Of what it is and where it comes from, all the same."""
    found = access(CapAdd=["CAP_CHOWN"], SecurityOpt=["no-new-privileges:true", "seccomp=default"])

    assert (found.name, found.image, found.status) == ("staging-hello-1", INSPECTED["Image"], "exited")
    assert found.model_dump(exclude_defaults=True).keys() == {"container", "name", "image", "status"}


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ({"Privileged": True, "MaskedPaths": None, "ReadonlyPaths": None}, {"privileged": True}),
        ({"CapAdd": ["CAP_SYS_ADMIN", "NET_RAW", "all"]}, {"capabilities": ("ALL", "SYS_ADMIN")}),
        ({"Devices": [{"PathOnHost": "/dev/kmsg"}]}, {"devices": ("/dev/kmsg",)}),
        ({"DeviceCgroupRules": ["b *:* rwm"]}, {"devices": ("cgroup rule b *:* rwm",)}),
        ({"DeviceRequests": [{"Driver": "nvidia"}, {}]}, {"devices": ("device request", "nvidia")}),
        ({"PidMode": "host", "UTSMode": "host", "SecurityOpt": ["label=disable"]}, {"host_namespaces": ("pid", "uts")}),
        ({"UsernsMode": "host", "CgroupnsMode": "host"}, {"host_namespaces": ("cgroup", "user")}),
        ({"NetworkMode": "container:abc", "IpcMode": "container:abc"}, {"shared": {"ipc": "abc", "network": "abc"}}),
        ({"SecurityOpt": ["apparmor:unconfined"]}, {"unconfined": ("apparmor=unconfined",)}),
        ({"SecurityOpt": ["label=disable"]}, {"unconfined": ("label=disable",)}),
        ({"MaskedPaths": [], "ReadonlyPaths": []}, {"unconfined": ("/proc/kcore is open", "/proc/sys is open")}),
    ],
)
def test_what_a_container_was_given_is_read(host, reached):
    """And nothing else."""
    found = access(**host).model_dump(exclude_defaults=True)

    assert {
        key: value for key, value in found.items() if key not in ("container", "name", "image", "status")
    } == reached


def test_with_the_first_version_of_cgroups_all_share_their_namespace():
    """Nobody asked for that."""
    assert access(CgroupnsMode="host", private_cgroups=False).host_namespaces == ()


def test_directory_of_the_host_is_read_from_mounts_and_volumes():
    """A volume may stand for one."""
    mounts = [
        {"Type": "bind", "Source": "/etc", "Destination": "/x"},
        {"Type": "volume", "Name": "disguised", "Destination": "/y"},
        {"Type": "volume", "Name": "plain", "Destination": "/z"},
        {"Type": "tmpfs", "Destination": "/tmp"},
    ]

    found = access(mounts=mounts, device_of={"disguised": "/root", "other": "/"})

    assert (found.paths, found.volumes) == (("/etc", "/root"), ("disguised", "plain"))


def event(number, action, kind="container"):
    return {"Type": kind, "Action": action, "Actor": {"ID": "c" * 64}, "timeNano": number}


def test_events_that_let_somebody_in_are_read():
    """With the whole command, which may hold colons."""
    at = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9
    found = history_from(
        [event(at, "exec_create: sh"), event(at + 1, "exec_start: sh -c 'a: b'"), event(at + 2, "start"),
         event(at + 3, "attach"), event(at + 4, "export", kind="image")],
        0,
    )  # fmt: skip

    assert [(each.kind, each.command) for each in found.actions] == [("exec_start", "sh -c 'a: b'"), ("attach", "")]
    assert found.actions[0].at == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert (found.last, found.complete) == (at + 4, True)


@pytest.mark.parametrize(("after", "new", "complete"), [(0, 2, True), (5, 1, True), (4, 2, False), (9, 0, False)])
def test_what_is_new_is_what_is_later_and_all_of_it_where_the_event_before_is_still_there(after, new, complete):
    """An engine that was restarted, or had many events, does not know that one any more."""
    found = history_from([event(5, "attach"), event(7, "attach")], after)

    assert (len(found.actions), found.complete, found.last) == (new, complete, max(after, 7))


def test_engine_without_events_knows_nothing():
    """It was started just now."""
    assert history_from([], 0).complete and not history_from([], 5).complete
