"""The rules: what each says of an image, in which order, and what does not load."""

from pathlib import Path

import pytest
import yaml

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.lifecycle.rules import Action, Facts, Rules, decide, guards, read_rules
from supply_chain.model.image import StorageStatus

SHIPPED = Path(__file__).parents[3] / "deployments" / "lifecycle"
NAMES = sorted(p.stem for p in SHIPPED.glob("*.yaml") if not p.stem.endswith(".tests"))
NIGHTLY = read_rules(SHIPPED, "nightly")


@pytest.mark.parametrize("name", NAMES)
def test_the_rules_that_ship_do_what_their_tests_expect(name):
    """And change nothing until somebody says so."""
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
def test_no_rule_touches_what_is_guarded(guard, rule, bad):
    """Whatever is wrong with it."""
    assert decide(Facts(**{**bad, **guard}), NIGHTLY).rule == rule


def test_a_signed_block_is_stronger_than_a_guard():
    """Somebody decided it; no gate lets it run again, so that nothing is taken from anybody."""
    found = decide(Facts(blocked="by ann", runs=("production",), held="by bob", age_days=0), NIGHTLY)

    assert (found.action, found.rule) == (Action.BLOCK, "block.stands")


def test_everything_that_guards_is_told():
    """For whoever reads the plan."""
    found = guards(Facts(age_days=1, runs=("staging",), rollback=("production",), held="by ann: audit"), NIGHTLY)

    assert found == (
        "it was pushed or restored less than 14 days ago",
        "it runs: staging",
        "it is what ran before: production",
        "it is held by ann: audit",
    )
    assert guards(Facts(), NIGHTLY) == ()


@pytest.mark.parametrize(("days", "action"), [(13.9, Action.KEEP), (14, Action.AGE_OUT)])
def test_the_floor_ends_on_its_day(days, action):
    """Nothing else asks for it here."""
    rules = Rules(name="x", floor_days=14, keep={"pushed_days": 1}, age_out={"untagged_days": 1})

    assert decide(Facts(age_days=days, tagged=False), rules).action is action


@pytest.mark.parametrize(("days", "action"), [(30, Action.KEEP), (30.1, Action.AGE_OUT)])
def test_days_are_over_after_the_last(days, action):
    """So many are allowed."""
    rules = Rules(name="x", floor_days=1, keep={"pushed_days": 1}, age_out={"untagged_days": 30})

    assert decide(Facts(age_days=days, tagged=False), rules).action is action


@pytest.mark.parametrize(("ran", "status", "rule"), [
    (365, "ACTIVE", "archive.owed"), (365, "ARCHIVED", "keep.owed"), (366, "ARCHIVED", "age-out.not-pulled"),
    (None, "ACTIVE", "age-out.not-pulled"),
])  # fmt: skip
def test_what_is_owed_is_archived_and_stays_so_for_its_time(ran, status, rule):
    """Then it goes."""
    rules = Rules(name="x", floor_days=1, age_out={"not_pulled_days": 30})

    assert decide(Facts(ran_days=ran, status=status), rules).rule == rule


def test_what_is_owed_and_refused_is_blocked_rather_than_removed():
    """An audit may ask for it."""
    rules = Rules(name="x", floor_days=1, age_out={"refused_days": 30})
    refused = {"verdict": "failed", "verdict_days": 60}

    assert decide(Facts(**refused, ran_days=60), rules).rule == "block.revoked"
    assert decide(Facts(**refused), rules).rule == "age-out.refused"


@pytest.mark.parametrize("rule", ["revoked", "exploited", "refused"])
def test_what_is_not_to_be_blocked_is_not(rule):
    """Each has its switch."""
    bad = {
        "revoked": {"verdict": "failed", "rank": 1},
        "exploited": {"exploited": ("CVE-1",), "rank": 1},
        "refused": {"verdict": "failed", "signed": False, "rank": 1},
    }[rule]

    assert decide(Facts(**bad), Rules(name="x", floor_days=1)).rule == f"block.{rule}"
    assert decide(Facts(**bad), Rules(name="x", floor_days=1, block={rule: False})).rule == "keep.newest"


def test_what_came_back_from_the_archive_lately_is_not_idle():
    """However long ago somebody pulled it."""
    rules = Rules(name="x", floor_days=1, archive={"not_pulled_days": 60}, keep={"pushed_days": 1})

    assert decide(Facts(age_days=59, pulled_days=100, ran_days=100), rules).rule == "keep.no-rule"
    assert decide(Facts(age_days=61, pulled_days=100, ran_days=100), rules).rule == "archive.cold"


def test_without_a_rule_an_image_stays():
    """Nothing is taken for want of a reason to keep it."""
    assert decide(Facts(), Rules(name="x", floor_days=1)).rule == "keep.no-rule"


@pytest.fixture
def written(tmp_path):
    """Rules that are written down, and what is expected of them; changed as a test says."""

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


def test_rules_with_a_test_for_each_load(written):
    """The name is the file's."""
    assert read_rules(written(), "own").name == "own"


def test_a_rule_that_no_test_is_about_does_not_load(written):
    """Nobody would notice what it does."""
    with pytest.raises(DeclarationInvalid, match=r"age-out\.untagged: no test is about it"):
        read_rules(written({"age_out": {"untagged_days": 3}}), "own")


def test_rules_that_do_otherwise_than_expected_do_not_load(written):
    """It says what was expected and what was found."""
    wrong = {"name": "a wish", "image": {}, "action": "archive", "rule": "archive.cold"}

    with pytest.raises(DeclarationInvalid, match=r"a wish: expected archive by archive\.cold, found keep by keep\.no-"):
        read_rules(written(tests=[wrong]), "own")


@pytest.mark.parametrize(
    "change",
    [{"floor_days": 0}, {"keep": {"in_use": False}}, {"keep": {"on_hold": False}}, {"keep": {"rollback": 0}},
     {"limits": {"share": 2}}, {"purge": True}],
    ids=str,
)  # fmt: skip
def test_what_would_take_a_guard_away_does_not_load(written, change):
    """Read as strictly as everything that people write."""
    with pytest.raises(DeclarationInvalid, match=r"own\.yaml:\d+"):
        read_rules(written(change), "own")


def test_unknown_rules_are_told_with_those_there_are(written):
    """A document of tests is none of them."""
    with pytest.raises(SettingInvalid, match="There are: own"):
        read_rules(written(), "other")


def test_rules_go_by_one_name(written):
    """The file's."""
    with pytest.raises(SettingInvalid, match="calls itself 'other'"):
        read_rules(written({"name": "other"}), "own")
