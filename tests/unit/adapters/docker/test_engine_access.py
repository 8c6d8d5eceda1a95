"""Tests of what the engine reports about the access of a container and about actions on it."""

from datetime import UTC, datetime

import pytest

from supply_chain.adapters.docker.engine_reading import parse_access, parse_history
from tests.unit.adapters.docker.inspected import INSPECTED

PLAIN = {"NetworkMode": "bridge", "IpcMode": "private", "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"]}


def access(*, mounts=(), device_of=None, private_cgroups=True, **host):
    attrs = {**INSPECTED, "HostConfig": {**PLAIN, **host}, "Mounts": list(mounts)}
    return parse_access(attrs, device_of or {}, private_cgroups=private_cgroups)


def test_access_of_default_container_is_empty():
    """The identity and the image of the container are read in any case."""
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
def test_access_from_reads_granted_privileges(host, reached):
    """The result contains nothing but the granted privilege."""
    found = access(**host).model_dump(exclude_defaults=True)

    assert {
        key: value for key, value in found.items() if key not in ("container", "name", "image", "status")
    } == reached


def test_access_from_ignores_shared_cgroup_namespace_of_version_1():
    """With cgroup version 1 all containers share the namespace, so nobody asked for it."""
    assert access(CgroupnsMode="host", private_cgroups=False).host_namespaces == ()


def test_access_from_reads_host_paths_of_mounts_and_volumes():
    """A volume may be a bind mount of a host directory."""
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


def test_history_from_reads_exec_and_attach_events():
    """The full command is kept, including colons."""
    at = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9
    found = parse_history(
        [event(at, "exec_create: sh"), event(at + 1, "exec_start: sh -c 'a: b'"), event(at + 2, "start"),
         event(at + 3, "attach"), event(at + 4, "export", kind="image")],
        0,
    )  # fmt: skip

    assert [(each.kind, each.command) for each in found.actions] == [("exec_start", "sh -c 'a: b'"), ("attach", "")]
    assert found.actions[0].at == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert (found.last, found.complete) == (at + 4, True)


@pytest.mark.parametrize(("after", "new", "complete"), [(0, 2, True), (5, 1, True), (4, 2, False), (9, 0, False)])
def test_history_is_complete_if_last_known_event_is_still_listed(after, new, complete):
    """An engine that restarted or had many events no longer lists the event that was read last."""
    found = parse_history([event(5, "attach"), event(7, "attach")], after)

    assert (len(found.actions), found.complete, found.last) == (new, complete, max(after, 7))


def test_history_without_events_is_complete_only_at_first_read():
    """An engine without events has just been started."""
    assert parse_history([], 0).complete and not parse_history([], 5).complete
