"""What is mutated: cosmic-ray's operators that flip a decision, and those of ours that it does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import parso
from cosmic_ray.operators import binary_operator_replacement as binary
from cosmic_ray.operators import (
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    number_replacer,
    remove_decorator,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from cosmic_ray.operators.operator import Example, Operator

Position = tuple[tuple[int, int], tuple[int, int]]
Node = Any
"""parso and cosmic-ray have no types."""

FLIPS = (
    "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is",
    "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt",
)  # fmt: skip
"""A comparison becomes its opposite, or moves its boundary by one."""


class _Changes(Operator):  # type: ignore[misc]
    """An operator that gives, for a node, the texts that may stand in its place."""

    def changes(self, node: Node) -> Iterable[str]:
        """What a node may become."""
        raise NotImplementedError

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        return ((node.start_pos, node.end_pos) for _ in self.changes(node))

    def mutate(self, node: Node, index: int) -> Node:
        prefix = node.get_first_leaf().prefix
        return parso.parse(prefix + list(self.changes(node))[index])  # type: ignore[no-untyped-call]


def _text(node: Node) -> str:
    return str(node.get_code(include_prefix=False))


class FlipMembership(_Changes):
    """`in` becomes `not in`, and the other way round."""

    def changes(self, node: Node) -> Iterable[str]:
        if node.parent is None or node.parent.type != "comparison" or node not in node.parent.children[1::2]:
            return ()
        return {"in": ("not in",), "not in": ("in",)}.get(" ".join(_text(node).split()), ())

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("a in b", "a not in b"), Example("a not in b", "a in b"))


class DropOperand(_Changes):
    """One part of a condition is left out."""

    def changes(self, node: Node) -> Iterable[str]:
        if node.type not in ("and_test", "or_test"):
            return ()
        word = f" {node.children[1].value} "
        parts = [_text(part) for part in node.children[::2]]
        return tuple(word.join(parts[:n] + parts[n + 1 :]) for n in range(len(parts)))

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("x = a and b or c", "x = b or c", 2), Example("x = a or b", "x = a", 1))


def _is_condition(node: Node) -> bool:
    if node.parent is None or node.type == "keyword":
        return False
    before = node.get_previous_sibling()
    return getattr(before, "value", None) in ("if", "elif", "while") and node.parent.type in (
        "if_stmt", "while_stmt", "test", "comp_if",
    )  # fmt: skip


class NegateCondition(_Changes):
    """What is done is left out, and the other way round. (cosmic-ray's own leaves out `elif` and comprehensions.)"""

    def changes(self, node: Node) -> Iterable[str]:
        other = _is_condition(node) and node.type not in ("not_test", "comparison")
        return (f"not ({_text(node)})",) if other else ()

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (
            Example("if a:\n    b\nelif c:\n    d\n", "if a:\n    b\nelif not (c):\n    d\n", 1),
            Example("while a and b:\n    c\n", "while not (a and b):\n    c\n"),
            Example("x = a if b else c", "x = a if not (b) else c"),
            Example("x = [a for a in b if a]", "x = [a for a in b if not (a)]"),
        )


class DropFilter(_Changes):
    """A comprehension takes everything."""

    def changes(self, node: Node) -> Iterable[str]:
        return ("True",) if _is_condition(node) and node.parent.type == "comp_if" else ()

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("x = [a for a in b if a == c]", "x = [a for a in b if True]"),)


class DropException(_Changes):
    """One error is let through. (cosmic-ray's own does not read `except a.b`.)"""

    def changes(self, node: Node) -> Iterable[str]:
        if node.parent is None or node.parent.type != "except_clause" or node is not node.parent.children[1]:
            return ()
        several = node.type == "atom" and node.children[1].type == "testlist_comp"
        caught = [_text(each) for each in node.children[1].children[::2]] if several else [_text(node)]
        return tuple(f"({''.join(f'{each}, ' for each in caught[:n] + caught[n + 1 :])})" for n in range(len(caught)))

    @classmethod
    def examples(cls) -> Sequence[Example]:
        code = "try:\n    f()\nexcept {}:\n    pass\n"
        return (
            Example(code.format("E"), code.format("()")),
            Example(code.format("(E, a.b, F)"), code.format("(E, F, )"), 1),
        )


class FlipReturn(_Changes):
    """A function answers nothing, or the opposite where it answers yes or no."""

    def changes(self, node: Node) -> Iterable[str]:
        if node.type != "return_stmt" or _text(node.children[1]) == "None":
            return ()
        function = node.search_ancestor("funcdef")
        if not (function and function.annotation and _text(function.annotation) == "bool"):
            return ("return None",)
        answer = node.children[1]
        return () if answer.type in ("keyword", "not_test") else (f"return not ({_text(answer)})",)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        asked = "def f() -> bool:\n    return a\n"
        return (
            Example("def f():\n    return a", "def f():\n    return None"),
            Example(asked, asked.replace("return a", "return not (a)")),
        )


class DropStatement(_Changes):
    """An error is not raised, a reason not given, a function not left early, a call not made."""

    def changes(self, node: Node) -> Iterable[str]:
        alone = node.parent is not None and node.parent.type == "simple_stmt"
        bare = node.type == "keyword" and node.value in ("return", "raise")
        call = node.type in ("atom_expr", "await") and node.children[-1].type == "trailer"
        return ("pass",) if alone and (bare or call or node.type in ("raise_stmt", "yield_expr")) else ()

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return tuple(
            Example(f"def f():\n    {code}\n", "def f():\n    pass\n")
            for code in ("raise E", "raise", "return", "yield a", "yield from a", "f(1)", "a.b(c)", "await f(1)")
        )


class SwapWord(_Changes):
    """The first for the last, any for all."""

    swaps: ClassVar = {"any": "all", "all": "any", "min": "max", "max": "min"}

    def changes(self, node: Node) -> Iterable[str]:
        return (self.swaps[node.value],) if node.type == "name" and node.value in self.swaps else ()

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (Example("max(a)", "min(a)"), Example("all(a)", "any(a)"))


def operators() -> tuple[Operator, ...]:
    """All of them."""
    named = {
        each.__name__: each
        for module in (binary, comparison_operator_replacement, unary_operator_replacement)
        for each in module.operators()
    }
    return tuple(
        each()
        for each in (
            *(named[f"ReplaceComparisonOperator_{flip}"] for flip in FLIPS),
            named["ReplaceBinaryOperator_Add_Sub"],
            named["ReplaceBinaryOperator_Sub_Add"],
            named["ReplaceUnaryOperator_Delete_Not"],
            named["ReplaceUnaryOperator_Delete_USub"],
            boolean_replacer.ReplaceAndWithOr,
            boolean_replacer.ReplaceOrWithAnd,
            boolean_replacer.ReplaceTrueWithFalse,
            boolean_replacer.ReplaceFalseWithTrue,
            break_continue.ReplaceBreakWithContinue,
            break_continue.ReplaceContinueWithBreak,
            number_replacer.NumberReplacer,
            remove_decorator.RemoveDecorator,
            zero_iteration_for_loop.ZeroIterationForLoop,
            *_Changes.__subclasses__(),
        )
    )
