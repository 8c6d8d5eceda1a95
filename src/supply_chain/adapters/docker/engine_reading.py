"""Parsers from the Docker engine's and the kernel's answers to the model; pure, except for reads of /proc."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from supply_chain.errors import CheckIncomplete
from supply_chain.model.container import (
    LINES,
    LOG,
    Action,
    ActionKind,
    Change,
    Container,
    History,
    HostAccess,
    Listener,
    LocalImage,
    Process,
    Profile,
    Published,
    Transport,
)
from supply_chain.model.image import Digest

PROC = Path("/proc")
LONGEST_COMMAND = 8192
"""Maximum characters of a process's command that are read; it may have two MiB (execve(2))."""
PS = f"-eo pid,ppid,uid,args --cols {LONGEST_COMMAND}"
"""Arguments of `ps` on the engine's host."""
NANO = 1_000_000_000
"""Units in which the engine counts one processor."""
OPEN: Mapping[Transport, str] = {"tcp": "0A", "udp": "07", "udplite": "07"}
"""State of a socket without a peer (the kernel's `tcp_states.h`): TCP_LISTEN; a UDP socket has TCP_CLOSE."""
REQUIRED = ("tcp", "udp")
"""Tables that every kernel has; of UDP-Lite, SCTP and IPv6 there is none if the kernel does not have the protocol."""
SCTP = Path("sctp/eps")
"""Table of SCTP's endpoints, of both families, in decimal numbers: the state is TCP_LISTEN too."""
SCTP_LISTEN = "10"
NAME_SERVER = "127.0.0.11"
INIT = ("/sbin/docker-init", "/usr/sbin/docker-init")
"""Paths at which a container sees the engine's init: where the image's /sbin is a directory, and where it is a link."""
DEFAULT_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
"""Capabilities that the engine gives to every container (Docker documentation, "Runtime privilege and Linux
capabilities")."""
ACTIONS = frozenset(get_args(ActionKind))
KINDS: tuple[Literal["changed", "added", "deleted"], ...] = ("changed", "added", "deleted")
"""Kinds of changes by number (Docker Engine API 1.45, ContainerChanges): 0 modified, 1 added, 2 deleted."""


def parse_container(attrs: Mapping[str, Any]) -> Container:
    """Return the container in the engine's inspect answer."""
    state, config, host = attrs["State"], attrs["Config"], attrs["HostConfig"]
    networks = attrs["NetworkSettings"].get("Networks") or {}
    return Container(
        id=attrs["Id"],
        name=attrs["Name"].lstrip("/"),
        image=attrs["Image"],
        labels=config.get("Labels") or {},
        status=state["Status"],
        pid=state.get("Pid") or 0,
        exit_code=state.get("ExitCode") or 0,
        out_of_memory=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        restarts=attrs.get("RestartCount") or 0,
        restart=(host.get("RestartPolicy") or {}).get("Name") == "unless-stopped",
        created_at=_time(attrs["Created"]) or datetime.fromtimestamp(0, UTC),
        started_at=_time(state.get("StartedAt")),
        finished_at=_time(state.get("FinishedAt")),
        profile=parse_profile(attrs),
        environment=_environment(config.get("Env")),
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        networks={name: each.get("IPAddress") or "" for name, each in networks.items()},
        published=_published(host.get("PortBindings") or {}),
    )


def parse_profile(attrs: Mapping[str, Any]) -> Profile:
    """Return the container's permissions and limits as the engine stored them."""
    host = attrs["HostConfig"]
    options = [str(option) for option in host.get("SecurityOpt") or ()]
    quiet = [option for option in options if option.split(":")[0].split("=")[0] == "no-new-privileges"]
    spaces = {"network": "NetworkMode", "pid": "PidMode", "ipc": "IpcMode", "uts": "UTSMode", "user": "UsernsMode"}
    mounts = [m["Destination"] for m in attrs.get("Mounts") or () if m.get("Type") != "tmpfs"]
    return Profile(
        user=attrs["Config"].get("User") or "0:0",
        read_only=bool(host.get("ReadonlyRootfs")),
        writable=tuple(sorted(host.get("Tmpfs") or ())),
        capabilities=_capabilities(host.get("CapAdd")),
        dropped=_capabilities(host.get("CapDrop")),
        no_new_privileges=any(not option.endswith("false") for option in quiet),
        memory=host.get("Memory") or 0,
        pids=host.get("PidsLimit") or 0,
        cpu=(host.get("NanoCpus") or 0) / NANO,
        init=bool(host.get("Init")),
        privileged=bool(host.get("Privileged")),
        host_namespaces=tuple(sorted(name for name, key in spaces.items() if host.get(key) == "host")),
        mounts=tuple(sorted(mounts)),
        devices=tuple(sorted(d["PathInContainer"] for d in host.get("Devices") or ())),
        security_options=tuple(sorted(set(options) - set(quiet))),
    )


def parse_access(attrs: Mapping[str, Any], device_of: Mapping[str, str], *, private_cgroups: bool) -> HostAccess:
    """Return what a container can reach of its host and of other containers.

    `device_of` maps a volume's name to the host path that it is bound to, if any. `private_cgroups` is whether
    containers by default have their own cgroup namespace, as with cgroup version 2.
    """
    host, mounts = attrs["HostConfig"], attrs.get("Mounts") or ()
    spaces = {"cgroup": "CgroupnsMode", "ipc": "IpcMode", "network": "NetworkMode", "pid": "PidMode",
              "user": "UsernsMode", "uts": "UTSMode"}  # fmt: skip
    modes = {space: str(host.get(key) or "") for space, key in spaces.items()}
    if not private_cgroups:
        del modes["cgroup"]
    volumes = sorted(each["Name"] for each in mounts if each.get("Type") == "volume" and each.get("Name"))
    binds = {each["Source"] for each in mounts if each.get("Type") == "bind"}
    devices = [each["PathOnHost"] for each in host.get("Devices") or ()]
    devices += [f"cgroup rule {rule}" for rule in host.get("DeviceCgroupRules") or ()]
    devices += [str(each.get("Driver") or "device request") for each in host.get("DeviceRequests") or ()]
    return HostAccess(
        container=attrs["Id"],
        name=attrs["Name"].lstrip("/"),
        image=attrs["Image"],
        status=attrs["State"]["Status"],
        privileged=bool(host.get("Privileged")),
        capabilities=tuple(sorted(set(_capabilities(host.get("CapAdd"))) - DEFAULT_CAPABILITIES)),
        paths=tuple(sorted(binds | {device_of[name] for name in volumes if name in device_of})),
        devices=tuple(sorted(devices)),
        host_namespaces=tuple(space for space, mode in modes.items() if mode == "host"),
        shared={s: m.partition(":")[2] for s, m in sorted(modes.items()) if m.startswith("container:")},
        volumes=tuple(volumes),
        unconfined=_unconfined(host, modes),
    )


def _unconfined(host: Mapping[str, Any], modes: Mapping[str, str]) -> tuple[str, ...]:
    """Return the settings that disable a protection.

    The engine itself sets `label=disable` for a privileged container and for one in the host's pid or ipc namespace;
    that is not reported.
    """
    options = {str(option).replace(":", "=", 1) for option in host.get("SecurityOpt") or ()}
    if host.get("Privileged") or "host" in (modes["pid"], modes["ipc"]):
        options.discard("label=disable")
    gaps = {each for each in options if each.partition("=")[2] in ("unconfined", "disable")}
    for key, path in (("MaskedPaths", "/proc/kcore"), ("ReadonlyPaths", "/proc/sys")):
        if host.get(key) is not None and path not in host[key] and not host.get("Privileged"):
            gaps.add(f"{path} is open")
    return tuple(sorted(gaps))


def parse_history(events: Sequence[Mapping[str, Any]], after: int) -> History:
    """Return the actions on containers, from all the events that an engine keeps, oldest first."""
    times = [int(event["timeNano"]) for event in events]
    new = [event for event, at in zip(events, times, strict=True) if at > after]
    return History(
        actions=tuple(action for event in new if (action := _action(event))),
        last=max((after, *times)),
        complete=not after or after in times,
    )


def _action(event: Mapping[str, Any]) -> Action | None:
    """Return the action of an event; None if the event gives nobody access to a container."""
    kind, _, command = str(event.get("Action") or "").partition(": ")
    if event.get("Type") != "container" or kind not in ACTIONS:
        return None
    at = datetime.fromtimestamp(int(event["timeNano"]) // 1000 / 1_000_000, UTC)
    return Action(at=at, container=event["Actor"]["ID"], kind=kind, command=command)


def parse_image(attrs: Mapping[str, Any]) -> LocalImage:
    """Return the image in the engine's inspect answer."""
    config = attrs.get("Config") or {}
    return LocalImage(
        digest=attrs["Id"],
        environment=_environment(config.get("Env")),
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        volumes=tuple(sorted(config.get("Volumes") or ())),
        labels=config.get("Labels") or {},
    )


def parse_image_names(entry: Mapping[str, Any]) -> tuple[Digest, tuple[str, ...]]:
    """Return an image's digest and names, from the engine's inspect answer.

    For an image that was pulled by digest, the engine reports the digest as its tag; later engines report no tag.
    """
    return entry["Id"], tuple(entry.get("RepoTags") or entry.get("RepoDigests") or ())


def parse_change(entry: Mapping[str, Any]) -> Change:
    """Return the change in an entry of the engine's list."""
    return Change(kind=KINDS[entry["Kind"]], path=entry["Path"])


def parse_changes(entries: Iterable[Mapping[str, Any]] | None) -> tuple[Change, ...]:
    """Return the changes in the engine's list, which is null if there are none."""
    return tuple(map(parse_change, entries or ()))


def drop_init(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes without the mount point of the engine's init and the directories created only for it."""
    others = [each for each in changes if each.path not in INIT]
    parents = {str(above) for each in changes if each.path in INIT for above in PurePosixPath(each.path).parents}
    more = [each.path for each in others if each.path not in parents]
    needed = {above for above in parents if any(path.startswith(f"{above.rstrip('/')}/") for path in more)}
    return tuple(each for each in others if each.kind == "deleted" or each.path not in parents - needed)


def parse_processes(answer: Mapping[str, Any]) -> tuple[Process, ...]:
    """Return the processes from `ps` with the arguments `PS`, as the engine passes them on."""
    return tuple(
        Process(pid=int(row[0]), parent=int(row[1]), uid=int(row[2]), command=row[3][:LONGEST_COMMAND])
        for row in answer["Processes"]
    )


def read_listeners(container: Container, proc: Path = PROC) -> tuple[Listener, ...]:
    """Return the TCP and SCTP sockets that listen in the container's network namespace, and UDP sockets without a peer.

    They are read through the container's process on this machine, in tcp, udp, udplite, the same with 6, and sctp/eps
    of /proc/PID/net (proc(5)). To prove that the process belongs to the container, the container's address has to be
    in that namespace. Raises `CheckIncomplete`.
    """
    net = proc / str(container.pid) / "net"
    try:
        addresses = (net / "fib_trie").read_text()
        sockets = [each for protocol in OPEN for each in parse_listeners(_read_sockets(net, protocol), protocol)]
        sockets += parse_endpoints(_read_rows(net / SCTP)) if (net / SCTP).exists() else ()
    except OSError as error:
        raise CheckIncomplete(
            f"The listening ports of {container.name} cannot be read: {error}\n"
            "The container has to run, and its engine on this machine, not in a virtual one."
        ) from error
    if not any(re.search(rf"\b{re.escape(a)}\b", addresses) for a in container.networks.values() if a):
        raise CheckIncomplete(
            f"Process {container.pid} is not {container.name} on this machine.\n"
            "Run development where its engine runs, not in another machine or namespace."
        )
    return tuple(sockets)


def _read_sockets(net: Path, protocol: Transport) -> list[str]:
    """Return the rows of a protocol's sockets, of IPv4 and of IPv6, as far as the kernel has them."""
    files = (net / protocol, net / f"{protocol}6")
    return [line for file in files if file.name in REQUIRED or file.exists() for line in _read_rows(file)]


def _read_rows(file: Path) -> list[str]:
    """Return the lines of a table without its header."""
    return file.read_text().splitlines()[1:]


def parse_endpoints(lines: Iterable[str]) -> tuple[Listener, ...]:
    """Return the listening endpoints in rows of /proc/net/sctp/eps, one for each of their addresses."""
    pairs: set[tuple[int, str]] = set()
    for line in lines:
        _, _, _, state, _, port, _, _, *addresses = line.split()
        if state == SCTP_LISTEN:
            pairs.update((int(port), str(ipaddress.ip_address(each.strip("*")))) for each in addresses)
    return tuple(Listener(address=address, port=port, protocol="sctp") for port, address in sorted(pairs))


def parse_listeners(lines: Iterable[str], protocol: Transport = "tcp") -> tuple[Listener, ...]:
    """Return the open sockets in rows of /proc/net/tcp, tcp6, udp and so on, without the engine's name server."""
    pairs = set()
    for line in lines:
        _, local, _, state, *_ = line.split()
        if state == OPEN[protocol]:
            address, _, port = local.partition(":")
            pairs.add((_address(address), int(port, 16)))
    in_order = sorted(pairs, key=lambda x: (x[1], x[0]))
    return tuple(Listener(address=a, port=p, protocol=protocol) for a, p in in_order if a != NAME_SERVER)


def _address(text: str) -> str:
    """Return the address for hexadecimal groups of four bytes in the machine's byte order."""
    groups = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(struct.pack("=I", group) for group in groups)))


def _capabilities(names: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(sorted(name.upper().removeprefix("CAP_") for name in names or ()))


def _environment(pairs: Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs or ())}


def _published(bindings: Mapping[str, Any]) -> tuple[Published, ...]:
    return tuple(
        Published(
            address=each.get("HostIp") or "0.0.0.0",  # noqa: S104 # nosec B104 - the meaning of an empty address
            port=int(each.get("HostPort") or 0),
            container_port=int(inside.partition("/")[0]),
        )
        for inside, outer in sorted(bindings.items())
        for each in outer or ()
    )


def _time(text: str | None) -> datetime | None:
    """Return an RFC 3339 time with nanoseconds; None for the engine's year 1, which means never."""
    return None if not text or text.startswith("0001-") else datetime.fromisoformat(text)


def read_last_lines(stream: Iterable[bytes]) -> tuple[str, bool]:
    """Return the last `LOG` bytes of the last `LINES` lines, and whether there may be more before them.

    They start at the beginning of a line. If a single line is longer, return the end of the line.
    """
    end, cut = bytearray(), False
    for chunk in stream:
        end += chunk
        if len(end) > LOG:
            del end[:-LOG]
            cut = True
    if cut:
        end = end.partition(b"\n")[2] or end
    return end.decode("utf-8", "replace"), cut or len(end.splitlines()) >= LINES
