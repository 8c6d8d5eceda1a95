"""What tests of the documentation's pages run, and how they compare what was printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from supply_chain.model.documents import parse_document
from supply_chain.policy.documents import PolicyDocument
from supply_chain.policy.loading import check_policy
from supply_chain.policy.people import PeopleDocument
from tests.support.command import ROOT
from tests.support.pages import FENCE, Step, find_mistakes, move_dates, read_files, read_steps, run_steps, use_keys
from tests.support.policies import ENVIRONMENTS

PAGE = """\
# Page

```sh
exit 1
```

## Begin

```yaml
# deployments/waivers/one.yaml
expires: 2026-12-28T00:00:00Z
```

```yaml
# a part of supply-chain.yaml
limits: {}
```

```sh
cat deployments/waivers/one.yaml
echo after 4 s >&2
```

It prints:

```text
expires: 2027-01-07T00:00:00Z
after 7 s
```
"""
HOW_TO = ("approvals", "freeze", "vex", "waivers")


def page_block(page: str, file: str) -> str:
    """Return the content of a file on a how-to page."""
    blocks = FENCE.findall((ROOT / f"docs/how-to/{page}.md").read_text(encoding="utf-8"))
    return next(str(content) for _, content in blocks if content.startswith(f"# {file}\n"))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with a file, commands and output."""
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    return file


def test_steps_of_page_write_its_files_and_run_its_commands(page: Path, tmp_path: Path) -> None:
    """Blocks before the heading and parts of other files do not run."""
    steps = read_steps(page, "## Begin", lambda text: move_dates(text, 10))
    printed = run_steps(steps, tmp_path, {})

    assert (tmp_path / "deployments/waivers/one.yaml").read_text().endswith("expires: 2027-01-07T00:00:00Z\n")
    assert [step.printed for step in steps] == [(), ("expires: 2027-01-07T00:00:00Z", "after 7 s")]
    assert [*find_mistakes(steps, printed)] == []
    assert read_files(page) == [ROOT / "deployments/waivers/one.yaml"]


def test_step_that_did_not_run_is_a_mistake(page: Path, tmp_path: Path) -> None:
    """The shell ended before it."""
    steps = read_steps(page)

    assert len([*find_mistakes(steps, run_steps(steps, tmp_path, {}))]) == len(steps) == 3


@pytest.mark.parametrize("output", ["second\n", "second\nfirst 1\n", ""])
def test_output_that_lacks_line_of_page_is_a_mistake(output: str) -> None:
    """The order counts."""
    step = Step("command", ("first 2", "second"))

    assert len([*find_mistakes([step], [output])]) == 1
    assert [*find_mistakes([step], ["first 1\nother\nsecond\n"])] == []


def test_change_of_a_command_that_the_page_lacks_fails(page: Path, tmp_path: Path) -> None:
    """A page that was rewritten would run something else unnoticed."""
    with pytest.raises(AssertionError):
        run_steps(read_steps(page), tmp_path, {"cosign": "crane"})


@pytest.mark.parametrize("name", HOW_TO)
def test_how_to_page_has_commands_files_and_output(name: str) -> None:
    """`tests/integration/test_how_to.py` runs them."""
    page = ROOT / f"docs/how-to/{name}.md"
    steps = read_steps(page)

    assert read_files(page) != [] and sum(len(step.printed) for step in steps) > 2


def keys_of(content: str) -> dict[str, str]:
    """Return the key of each person and issuer of a people document."""
    document = parse_document(content, PeopleDocument, "people.yaml")
    issuers = document.vex.issuers if document.vex else {}
    return {
        **{name: person.keys[0] for name, person in document.people.items()},
        **{name: issuer.keys[0] for name, issuer in issuers.items()},
    }


@pytest.mark.parametrize("name", ["approvals", "vex", "waivers"])
def test_people_of_page_get_the_keys_of_the_test(name: str) -> None:
    """The private keys of the page are lost."""
    content = page_block(name, "deployments/people.yaml")
    before = keys_of(content)
    keys = dict(zip(before, reversed(before.values()), strict=True))

    assert keys_of(use_keys(content, keys)) == keys
    with pytest.raises(KeyError):
        use_keys(content, {})


@pytest.mark.parametrize("days", [-5, 13, 400])
def test_moved_window_of_freeze_passes_its_own_tests(days: int) -> None:
    """The day on which a test runs does not matter."""
    content = move_dates(page_block("freeze", "deployments/policies/holiday.yaml"), days)

    assert check_policy(parse_document(content, PolicyDocument, "holiday.yaml"), ENVIRONMENTS)
