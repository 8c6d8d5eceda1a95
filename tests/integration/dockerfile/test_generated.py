"""Generated Dockerfiles: the project's reader and the engine's BuildKit agree, or both refuse."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supply_chain.development.record import Expected, check_record
from supply_chain.errors import SupplyChainError
from tests.support.buildkit import NAMESPACE, BuildKit

pytestmark = pytest.mark.real

IMAGES = st.sampled_from(
    ["one/a", "one/b:1", "one/c:2", "ONE/d", "two", "$IMAGE", "${IMAGE}", "${NONE:-one/e}", "first"]
)
STAGES = st.sampled_from(["first", "Second", "third", "two"])
FROMS = st.sampled_from(["first", "second", "THIRD", "0", "1", "one/a", "one/f:1", "scratch", "two"])
GAPS = st.sampled_from(["", "", "# x ESCAPE\n", "\n", "  # FROM one/z\n", "\t\n"])


@st.composite
def continued(draw: st.DrawFn, words: list[str]) -> str:
    """An instruction on one or several lines, with comments and empty lines in between."""
    text = words[0]
    for word in words[1:]:
        text += draw(st.sampled_from([" ", " ", "  ", "\t", " ESCAPE\n", " ESCAPE\t\n"]))
        if text.endswith("\n"):
            text += draw(GAPS)
        text += word
    return text


@st.composite
def instruction(draw: st.DrawFn) -> str:
    """COPY, RUN, ARG, ENV or a heredoc in any case, with flags that name images, stages and caches."""
    kind = draw(st.sampled_from(["copy", "RUN", "Arg", "ENV", "heredoc", "split", "comment"]))
    cased = draw(st.sampled_from([str.upper, str.lower, str.title]))
    if kind == "copy":
        source = draw(
            st.sampled_from(
                [["file"], [f"--from={draw(FROMS)}", "/bin/sh"], ["--link", f"--from={draw(FROMS)}", "/bin/sh"]]
            )
        )
        return draw(continued([cased("copy"), *source, "/d/"]))
    if kind == "RUN":
        mounts = [
            "target=/m",
            "type=tmpfs,target=/t",
            *(f"type=cache{i},target=/c" for i in ("", ",id=$ID", ',id="q"')),
        ]
        mounts += [f"from={draw(FROMS)},target=/m", f"type=cache,from={draw(FROMS)},target=/c"]
        network = draw(st.sampled_from([[], ["--network=none"]]))
        return draw(
            continued([cased("run"), f"--mount={draw(st.sampled_from(mounts))}", *network, "x", "FROM", "one/z"])
        )
    if kind == "Arg":
        return f"{cased('arg')} {draw(st.sampled_from(['ID=i', 'ID', 'IMAGE=one/y', 'X=$ID']))}"
    if kind == "ENV":
        return f"{cased('env')} {draw(st.sampled_from(['ID=e', 'ID e f', 'PATH=/bin']))}"
    if kind == "heredoc":
        return draw(
            st.sampled_from(
                [
                    "RUN <<E\nFROM one/z\nE",
                    "COPY <<'E' /h\nFROM one/z ESCAPE\nE",
                    "RUN <<-E\n\tCOPY --from=one/z a b\n\tE",
                    "COPY <<A <<B /h/\nB\nA\nA\nB",
                ]
            )
        )
    if kind == "split":
        return f"CO ESCAPE\nPY --fr{'ESCAPE'}\nom={draw(FROMS)} /bin/sh /d/".replace("CO ESCAPE", "COESCAPE")
    return "# COPY --from=one/z /a /b ESCAPE"


@st.composite
def dockerfile(draw: st.DrawFn) -> bytes:
    """Several stages, with either escape character and either line ending."""
    lines = [draw(st.sampled_from(["", "ARG IMAGE=one/g", "ARG IMAGE", "arg IMAGE=one/h:$V"]))]
    for _ in range(draw(st.integers(1, 3))):
        words = [
            "FROM",
            *draw(st.sampled_from([[], ["--platform=$TARGETPLATFORM"]])),
            draw(st.one_of(IMAGES, STAGES, st.just("scratch"))),
        ]
        lines.append(
            draw(continued([*words, *draw(st.sampled_from([[], ["AS", draw(STAGES)], ["as", draw(STAGES)]]))]))
        )
        lines += draw(st.lists(instruction(), max_size=4))
    escape = draw(st.sampled_from(["\\", "\\", "`"]))
    head = draw(st.sampled_from(["", "\ufeff"])) + (
        "# escape=`\n" if escape == "`" else draw(st.sampled_from(["", "# x\n", "#escape=\\\n"]))
    )
    text = head + "\n".join(lines).replace("ESCAPE", escape) + draw(st.sampled_from(["", "\n"]))
    return text.replace("\n", draw(st.sampled_from(["\n", "\n", "\r\n"]))).encode()


@settings(
    max_examples=40, derandomize=True, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(content=dockerfile())
def compare(buildkit: BuildKit, read: list[bool], content: bytes) -> None:
    """Compare the reading of a Dockerfile with BuildKit's record; add to `read` whether neither refused it."""
    reading = buildkit.read(content)
    target = reading.targets.get("")
    images = target.images if target else ()

    result = buildkit.run(content, buildkit.policy(images))

    if reading.error or target is None or target.error:
        read.append(False)
        assert result.done.status != 0, (reading.error, target and target.error)
        return
    if result.done.status:
        read.append(False)
        assert "denied by policy" not in result.done.stderr, result.done.stderr[-2000:]
        return
    if not (target.sources or target.execs or target.others):
        return  # BuildKit keeps no record of an empty build
    read.append(True)
    expected = Expected(target, dict.fromkeys(images, buildkit.image), {}, NAMESPACE)
    try:
        check_record("", result.record, expected)
    except SupplyChainError as error:
        raise AssertionError(f"{error}\n{content.decode()}") from error


@pytest.mark.timeout(1200)
def test_reader_agrees_with_the_build_record_of_generated_dockerfiles(buildkit: BuildKit) -> None:
    """Stages, images, mounts and caches in BuildKit's record are those that the reader found, mostly not refused."""
    read: list[bool] = []
    compare(buildkit, read)

    assert read.count(True) > read.count(False) / 2
