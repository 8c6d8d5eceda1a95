"""The mutation test: which mutants it makes, how it names them, and what it reports."""

from collections import Counter

import pytest
from cosmic_ray.mutating import mutate_code
from coverage import CoverageData

from supply_chain.model.documents import read_document
from tests.mutation.__main__ import ROOT, first_tests
from tests.mutation.mutants import Mutant, Name, changed_lines, drawn, mutants_of, seed_of
from tests.mutation.operators import operators
from tests.mutation.review import Review, Reviewed, objections
from tests.mutation.trial import executed

FIRST = Name("a.py", "f", "if a:", "if not (a):")
SECOND = Name("a.py", "f", "if a:", "if not (a):", nth=2)

GATE = """
LIMIT = 1

class Gate:
    def judge(self, reasons) -> bool:
        if len(reasons) > LIMIT:
            return False
        return not reasons

    def first(self):
        return self.reasons
"""


def mutants(tmp_path, text):
    (tmp_path / "gate.py").write_text(text)
    return {mutant.name: mutant.text for mutant in mutants_of(tmp_path, "gate.py")}


@pytest.mark.parametrize("operator", operators(), ids=lambda operator: type(operator).__name__)
def test_operator_changes_its_examples_as_documented(operator):
    """This covers the operators of the library too, which use its own syntax tree."""
    for example in operator.examples():
        changed = mutate_code(example.pre_mutation_code, operator, example.occurrence)
        assert changed == example.post_mutation_code


def test_every_decision_has_mutants(tmp_path):
    """A mutant is named by its function and the old and new line."""
    found = {(name.function, name.line, name.becomes) for name in mutants(tmp_path, GATE)}

    assert found == {
        ("-", "LIMIT = 1", "LIMIT = 2"),
        ("-", "LIMIT = 1", "LIMIT = 0"),
        ("Gate.judge", "if len(reasons) > LIMIT:", "if len(reasons) >= LIMIT:"),
        ("Gate.judge", "if len(reasons) > LIMIT:", "if len(reasons) <= LIMIT:"),
        ("Gate.judge", "return False", "return True"),
        ("Gate.judge", "return not reasons", "return reasons"),
        ("Gate.first", "return self.reasons", "return None"),
    }


DIFF = """diff --git src/a.py src/a.py
index 1..2 100644
--- src/a.py
+++ src/a.py
@@ -1 +1,2 @@ def f():
-old
+new
+newer
@@ -9,2 +10,0 @@
-gone
-gone
@@ -20 +20 @@
-x
+y
diff --git src/b.py src/b.py
deleted file mode 100644
--- src/b.py
+++ /dev/null
@@ -1 +0,0 @@
-gone
"""


def test_changed_lines_are_those_that_a_diff_adds():
    """Only mutants in them are tried with --since; a deleted file has none."""
    assert changed_lines(DIFF) == {"src/a.py": frozenset({1, 2, 20})}


def test_mutant_knows_the_lines_of_its_statement(tmp_path):
    """The tests that execute them run first; a statement with a body has only the lines before it."""
    text = "def f(a,\n      b):\n    if (a or\n            b):\n        return g(a,\n                 b)\n"
    (tmp_path / "gate.py").write_text(text)

    lines = {(mutant.name.line, *sorted(mutant.lines)) for mutant in mutants_of(tmp_path, "gate.py")}

    assert {("if (a or", 3, 4), ("return g(a, b)", 5, 6)} <= lines


def test_executed_lines_have_their_tests(tmp_path):
    """Any test may depend on a line that an import executes."""
    data = CoverageData(tmp_path / "record")
    for context, lines in (("", [1, 2]), ("test_a.py::a", [2, 3]), ("test_a.py::b", [3])):
        data.set_context(context)
        data.add_lines({str(tmp_path / "gate.py"): lines})
    data.write()

    assert executed(tmp_path / "record", tmp_path / "gate.py") == {1: [], 2: [], 3: ["test_a.py::a", "test_a.py::b"]}


def test_own_tests_of_a_module_run_first():
    """They notice most, and the trial ends with the first test that fails."""
    file = "src/supply_chain/policy/gate.py"
    mutant = Mutant(Name(file, "f", "if a:", "if not (a):"), "", lines=frozenset({7, 8}))
    own, others = "tests/unit/policy/test_gate.py", "tests/unit/policy/test_blocked.py"
    executing = {file: {1: [], 7: [f"{others}::a", f"{own}::b"], 8: [f"{own}::a", f"{others}::b"]}}

    assert first_tests(mutant, executing) == (f"{own}::b", f"{own}::a", f"{others}::a", f"{others}::b")
    assert first_tests(mutant, {file: {1: []}}) == (own,)


def test_mutant_name_is_independent_of_other_lines(tmp_path):
    """A reviewed mutant stays known if lines move."""
    moved = GATE.replace("class Gate:", '"""Bytes."""\n\n\nclass Gate:\n    """A gate."""\n')

    assert set(mutants(tmp_path, moved)) == set(mutants(tmp_path, GATE))


def test_mutants_of_equal_lines_are_numbered(tmp_path):
    """A function may have the same line twice."""
    twice = "def f(a, b):\n    if a:\n        g()\n    if b:\n        g()\n"

    dropped = {name.nth: text for name, text in mutants(tmp_path, twice).items() if name.becomes == "pass"}

    assert dropped == {
        1: twice.replace("if a:\n        g()", "if a:\n        pass"),
        2: twice.replace("if b:\n        g()", "if b:\n        pass"),
    }


def reviewed(*names):
    return [
        Reviewed(
            file=n.file, function=n.function, line=n.line, becomes=n.becomes, nth=n.nth, reason="it is " + "x" * 20
        )
        for n in names
    ]


@pytest.mark.parametrize(
    ("listed", "survived", "words"),
    [
        ([], [], []),
        ([FIRST], [FIRST], []),
        ([FIRST, SECOND], [SECOND, FIRST], []),
        ([], [FIRST], ["no test notices: a.py f:"]),
        ([FIRST], [FIRST, SECOND], ["no test notices: a.py f (2):"]),
        ([FIRST], [], ["reviewed, and a test notices it: a.py f:"]),
        ([FIRST, FIRST], [FIRST], ["reviewed twice: a.py f:"]),
        ([Name("a.py", "f", "if b:", "if not (b):")], [], ["reviewed, and there is no such mutant: a.py f:"]),
    ],
)
def test_survivor_needs_reason_and_reason_needs_survivor(listed, survived, words):
    """An outdated list would hide the next survivor of the same name."""
    wrong = objections(reviewed(*listed), {FIRST, SECOND}, {FIRST, SECOND}, set(survived))

    assert [each.partition("\n")[0] for each in wrong] == words


def test_reviewed_mutant_outside_sample_is_accepted():
    """It stays in the list as long as the mutant exists."""
    assert objections(reviewed(FIRST), {FIRST, SECOND}, {SECOND}, set()) == []
    assert objections(reviewed(FIRST), {SECOND}, {SECOND}, set()) != []


def test_lines_of_reviewed_mutants_exist():
    """A changed line has other mutants, which somebody has to look at. To make all mutants would take minutes."""
    reviewed = read_document(ROOT / "tests/mutation/reviewed.yaml", Review).survivors
    texts = {each.file: " ".join((ROOT / each.file).read_text().split()) for each in reviewed}

    assert [str(each.name) for each in reviewed if each.line not in texts[each.file]] == []


def test_same_sources_have_the_same_sample():
    """So a survivor in a sample is found again, and each change to a module draws others."""
    first, second = (Mutant(Name("a.py", "f", "if a:", becomes), "") for becomes in "12")

    assert seed_of([first, second]) == seed_of([first, second])
    assert len({seed_of([first]), seed_of([second]), seed_of([first, second])}) == 3


def test_sample_covers_each_module_and_is_reproducible():
    """A small module is sampled too."""
    sizes = {"large.py": 90, "small.py": 9, "tiny.py": 1}
    mutants = [Mutant(Name(file, "f", "if a:", f"{n}"), "") for file, size in sizes.items() for n in range(size)]

    sample = drawn(mutants, 20, seed=1)

    assert Counter(each.name.file for each in sample) == {"large.py": 18, "small.py": 2, "tiny.py": 1}
    assert len({each.name for each in sample}) == 21
    assert sample == drawn(mutants, 20, seed=1) != drawn(mutants, 20, seed=2)
    assert {each.name for each in drawn(mutants, 1000, seed=1)} == {each.name for each in mutants}
