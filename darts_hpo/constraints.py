"""Constraints over named parameters: arithmetic and comparisons, read without ``eval``."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_hpo.errors import SpaceError, unknown_name

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_LONGEST = 1000
_DEEPEST = 50


def _power(base: float, exponent: float) -> float:
    """A power in floats: ``9**9**9`` in integers would never come back."""
    try:
        return math.pow(base, exponent)
    except ValueError:  # not real, such as (-8) ** 0.5
        raise OverflowError("the power is not a real number") from None


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True)
class Constraint:
    """A comparison over parameter names, read without ``eval``: arithmetic, comparisons, and / or / not."""

    text: str
    tree: ast.expr
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str, known: Iterable[str]) -> Constraint:
        """Read a constraint. Dotted parameter names are written as they are: ``neck.p4 == '3x3_silu'``.

        Raises:
            SpaceError: the text is no comparison, calls something, or names an unknown parameter.
        """
        if len(text) > _LONGEST:
            raise SpaceError(f"A constraint of {len(text)} characters is too long; expected at most {_LONGEST}.")
        names: set[str] = set()
        try:
            tree = ast.parse(text.strip(), mode="eval").body
            cls._check(tree, text, set(known), names)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise SpaceError(f"The constraint {text!r} is no expression; write for example 'a + b <= 1'.") from None
        if not cls._is_condition(tree):
            raise SpaceError(f"The constraint {text!r} compares nothing; write for example 'a + b <= 1'.")
        if not names:
            raise SpaceError(f"The constraint {text!r} names no parameter.")
        return cls(text, tree, frozenset(names))

    @classmethod
    def _check(cls, node: ast.expr, text: str, known: set[str], names: set[str], depth: int = 0) -> None:
        if depth > _DEEPEST:  # evaluation is recursive and may start deep inside a trainer
            raise SpaceError(f"The constraint {text!r} is nested deeper than {_DEEPEST} levels.")
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = _dotted(node)
            if name not in known:
                raise SpaceError(unknown_name(f"parameter in the constraint {text!r}", name, known))
            names.add(name)
            return
        children: Sequence[ast.expr]
        match node:
            case ast.Constant(value=int() | float() | str()):
                return
            case ast.Compare(left=left, ops=ops, comparators=right) if all(type(op) in _COMPARE for op in ops):
                children = [left, *right]
            case ast.BoolOp(values=values):
                children = values
            case ast.BinOp(left=left, op=op, right=right_) if type(op) in _ARITHMETIC:
                children = [left, right_]
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                children = [operand]
            case _:
                raise SpaceError(
                    f"The constraint {text!r} uses {type(node).__name__}; only names, numbers, "
                    "+ - * / ** // %, comparisons, and/or/not are understood."
                )
        for child in children:
            cls._check(child, text, known, names, depth + 1)

    @classmethod
    def _is_condition(cls, node: ast.expr) -> bool:
        match node:
            case ast.BoolOp(values=values):
                return all(cls._is_condition(value) for value in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return cls._is_condition(operand)
        return isinstance(node, (ast.Compare, ast.Name, ast.Attribute))  # a name alone: a boolean option

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether the constraint holds; true where it names a parameter the point does not have.

        Raises:
            SpaceError: text is compared or combined with a number.
        """
        if any(name not in point for name in self.names):
            return True
        try:
            return bool(self._value(self.tree, point))
        except (ZeroDivisionError, OverflowError):
            return False
        except TypeError as error:
            raise SpaceError(f"The constraint {self.text!r} cannot be computed: {error}.") from None

    def _value(self, node: ast.expr, point: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name() | ast.Attribute():
                return point[_dotted(node)]
            case ast.BoolOp(op=ast.And(), values=values):
                return all(self._value(v, point) for v in values)
            case ast.BoolOp(values=values):
                return any(self._value(v, point) for v in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand, point)
            case ast.UnaryOp(operand=operand):
                return -self._number(operand, point)
            case ast.BinOp(left=left, op=op, right=right):
                return _ARITHMETIC[type(op)](self._number(left, point), self._number(right, point))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                current = self._value(left, point)
                for op_, comparator in zip(ops, comparators, strict=True):
                    following = self._value(comparator, point)
                    if not _COMPARE[type(op_)](current, following):
                        return False
                    current = following
                return True
        raise SpaceError(f"The constraint {self.text!r} cannot be evaluated.")  # parse() lets nothing else in

    def _number(self, node: ast.expr, point: Mapping[str, Any]) -> float:
        """An operand of arithmetic; ``'text' * 10**9`` and ``'%s' % x`` are never computed."""
        value = self._value(node, point)
        if not isinstance(value, (int, float)):
            raise TypeError(f"{value!r} is not a number")
        return value


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"
