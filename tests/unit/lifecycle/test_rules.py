"""Lifecycle rules: their decisions, their order, and the documents that do not load."""

from pathlib import Path

import pytest
import yaml

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.lifecycle.rules import Action, ExampleFacts, Rules, decide, list_guards, read_rules
from supply_chain.model.image import StorageStatus

SHIPPED = Path(__file__).parents[3] / "deployments" / "lifecycle"
NAMES = sorted(p.stem for p in SHIPPED.glob("*.yaml") if not p.stem.endswith(".tests"))
NIGHTLY = read_rules(SHIPPED, "nightly")


def facts(**given):
    """Return the facts of an ordinary old image with what is given."""
    return ExampleFacts(**given).facts


@pytest.mark.parametrize("name", NAMES)
def test_shipped_rules_pass_their_tests(name):
    """`read_rules` runs the tests beside the rules and fails if one does."""
    assert read_rules(SHIPPED, name).name == name


@pytest.mark.parametrize(
    ("guard", "rule"),
    [
        ({"age_days": 1}, "keep.floor"),
        ({"runs": ("staging",)}, "keep.in-use"),
        ({"rollback": ("staging",)}, "keep.rollback"),
        ({"held": "by ann"}, "keep.hold"),
        ({"unreadable": "damaged"}, "keep.unreadable"),
        ({"status": StorageStatus.ACTIVATING}, "keep.restoring"),
    ],
)
@pytest.mark.parametrize(
    "bad", [{"exploited": ("CVE-1",)}, {"verdict": "failed", "signed": False}, {"tagged": False}, {"ran_days": 700}]
)
def test_guard_overrides_every_rule(guard, rule, bad):
    """A guard has precedence over every reason to delete, archive or block."""
    assert decide(facts(**{**bad, **guard}), NIGHTLY).rule == rule


def test_signed_block_has_precedence_over_guards():
    """A person decided it, and no gate lets the image run again."""
    found = decide(facts(blocked="by ann", runs=("production",), held="by bob", age_days=0), NIGHTLY)

    assert (found.action, found.rule) == (Action.BLOCK, "block.in-force")


def test_guards_lists_every_guard_of_an_image():
    """The reader of the plan sees them all."""
    found = list_guards(facts(age_days=1, runs=("staging",), rollback=("production",), held="by ann: audit"), NIGHTLY)

    assert found == (
        "it was pushed or restored less than 14 days ago",
        "it runs: staging",
        "a rollback may need it: production",
        "it is held by ann: audit",
    )
    assert list_guards(facts(), NIGHTLY) == ()


@pytest.mark.parametrize(("days", "action"), [(13.9, Action.KEEP), (14, Action.AGE_OUT)])
def test_minimum_age_ends_on_its_last_day(days, action):
    """No other rule keeps the image in this test."""
    rules = Rules(name="x", floor_days=14, keep={"pushed_days": 1}, age_out={"untagged_days": 1})

    assert decide(facts(age_days=days, tagged=False), rules).action is action


@pytest.mark.parametrize(("days", "action"), [(30, Action.KEEP), (30.1, Action.AGE_OUT)])
def test_age_rule_applies_after_its_days(days, action):
    """The last allowed day still counts."""
    rules = Rules(name="x", floor_days=1, keep={"pushed_days": 1}, age_out={"untagged_days": 30})

    assert decide(facts(age_days=days, tagged=False), rules).action is action


@pytest.mark.parametrize(("ran", "status", "rule"), [
    (365, "ACTIVE", "archive.retention"), (365, "ARCHIVED", "keep.retention"), (366, "ARCHIVED", "age-out.not-pulled"),
    (None, "ACTIVE", "age-out.not-pulled"),
])  # fmt: skip
def test_retained_image_is_archived_until_retention_ends(ran, status, rule):
    """Afterwards the image is deleted."""
    rules = Rules(name="x", floor_days=1, age_out={"not_pulled_days": 30})

    assert decide(facts(ran_days=ran, status=status), rules).rule == rule


def test_retained_refused_image_is_blocked_and_not_deleted():
    """An audit may ask for it."""
    rules = Rules(name="x", floor_days=1, age_out={"refused_days": 30})
    refused = {"verdict": "failed", "verdict_days": 60}

    assert decide(facts(**refused, ran_days=60), rules).rule == "block.revoked"
    assert decide(facts(**refused), rules).rule == "age-out.refused"


@pytest.mark.parametrize("rule", ["revoked", "exploited", "refused"])
def test_block_rule_can_be_switched_off(rule):
    """Each rule has its own switch."""
    bad = {
        "revoked": {"verdict": "failed", "rank": 1},
        "exploited": {"exploited": ("CVE-1",), "rank": 1},
        "refused": {"verdict": "failed", "signed": False, "rank": 1},
    }[rule]

    assert decide(facts(**bad), Rules(name="x", floor_days=1)).rule == f"block.{rule}"
    assert decide(facts(**bad), Rules(name="x", floor_days=1, block={rule: False})).rule == "keep.newest"


def test_restored_image_does_not_count_as_unused():
    """The restoration counts, however long ago the last pull was."""
    rules = Rules(name="x", floor_days=1, archive={"not_pulled_days": 60}, keep={"pushed_days": 1})

    assert decide(facts(age_days=59, pulled_days=100, ran_days=100), rules).rule == "keep.no-rule"
    assert decide(facts(age_days=61, pulled_days=100, ran_days=100), rules).rule == "archive.cold"


def test_image_without_matching_rule_stays():
    """An image is deleted only for a reason."""
    assert decide(facts(), Rules(name="x", floor_days=1)).rule == "keep.no-rule"


@pytest.fixture
def written(tmp_path):
    """Return a function that writes rules and their tests, with changes."""

    def write(rules=None, tests=None):
        document = {"name": "own", "floor_days": 1, "block": {"revoked": False, "refused": False}, **(rules or {})}
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(document))
        image = {
            "keep.floor": {"age_days": 0}, "keep.in-use": {"runs": ["x"]}, "keep.rollback": {"rollback": ["x"]},
            "keep.hold": {"held": "x"}, "keep.newest": {"rank": 1}, "keep.pushed": {"age_days": 2},
            "keep.pulled": {"pulled_days": 2},
        }  # fmt: skip
        expected = [{"name": rule, "image": facts, "action": "keep", "rule": rule} for rule, facts in image.items()]
        blocked = {"name": "b", "image": {"exploited": ["x"]}, "action": "block", "rule": "block.exploited"}
        (tmp_path / "own.tests.yaml").write_text(yaml.safe_dump({"tests": [*expected, blocked, *(tests or [])]}))
        return tmp_path

    return write


def test_rules_with_a_test_for_each_rule_load(written):
    """The name of the rules is the name of the file."""
    assert read_rules(written(), "own").name == "own"


def test_rules_without_a_test_for_each_rule_do_not_load(written):
    """Nobody would notice what the untested rule does."""
    with pytest.raises(DeclarationInvalid, match=r"age-out\.untagged: there is no test for it"):
        read_rules(written({"age_out": {"untagged_days": 3}}), "own")


def test_rules_that_fail_their_test_do_not_load(written):
    """The message shows the expected and the actual decision."""
    wrong = {"name": "a wish", "image": {}, "action": "archive", "rule": "archive.cold"}

    with pytest.raises(DeclarationInvalid, match=r"a wish: expected archive by archive\.cold, found keep by keep\.no-"):
        read_rules(written(tests=[wrong]), "own")


@pytest.mark.parametrize(
    "change",
    [{"floor_days": 0}, {"keep": {"in_use": False}}, {"keep": {"on_hold": False}}, {"keep": {"rollback": 0}},
     {"limits": {"share": 2}}, {"purge": True}],
    ids=str,
)  # fmt: skip
def test_rules_without_a_required_guard_do_not_load(written, change):
    """The document is checked strictly, with its line in the error."""
    with pytest.raises(DeclarationInvalid, match=r"own\.yaml:\d+"):
        read_rules(written(change), "own")


def test_unknown_rules_error_lists_existing_rules(written):
    """A test document is not listed."""
    with pytest.raises(SettingInvalid, match="There are: own"):
        read_rules(written(), "other")


def test_rules_with_name_other_than_file_do_not_load(written):
    """Rules have one name."""
    with pytest.raises(SettingInvalid, match="has the name 'other'"):
        read_rules(written({"name": "other"}), "own")
