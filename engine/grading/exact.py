"""Decide exactly whether two formulas have the same value.

Only the child process imports this module.
Constants: the difference is evaluated with as many digits as the size of the two requires (sympy's evalf
tracks its accuracy). It is zero, or it has a digit.
Formulas with variables: they are compared at rational points of both signs, so a float never replaces a
value.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import sympy
from sympy.core.evalf import PrecisionExhausted

from engine.grading.formula import NotRead, parse

# Digits of a value; a larger one is not compared.
_MAX_DIGITS = 20_000
_POINTS = ((3, 7), (-11, 5), (29, 3), (-2, 13), (2, 1), (5, 1), (-3, 1), (41, 17), (1, 19), (-23, 4))
_ENOUGH_POINTS = 4
_DECIMALS = Decimal("0.000001")
_CLOSE = Decimal("1e-5")


class Undecided(ValueError):
    """The values are too large to compare, or cannot be evaluated.

    `equal`, `rounds_to` and `same_region` catch it and return False. A completion is marked `undecided` only
    after a deadline.
    """


def equal(left: str, right: str) -> bool:
    r"""Return True if two formulas are equal.

    A bare `\log` may have either usual base, the same in both formulas.
    """
    bases = ("10", "e") if "\\log" in left + right else ("10",)
    for base in bases:
        try:
            if same(parse(left, base), parse(right, base)):
                return True
        except (NotRead, Undecided):
            continue
    return False


def same(left: sympy.Basic | sympy.MatrixBase, right: sympy.Basic | sympy.MatrixBase) -> bool:
    """Return True if two parsed formulas are equal, matrices by element.

    Raises: Undecided if a value is too large to evaluate.
    """
    left, right = _explicit(left), _explicit(right)
    if isinstance(left, sympy.MatrixBase) or isinstance(right, sympy.MatrixBase):
        return (
            isinstance(left, sympy.MatrixBase)
            and isinstance(right, sympy.MatrixBase)
            and left.shape == right.shape
            and all(same(a, b) for a, b in zip(left.flat(), right.flat(), strict=True))
        )
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return bool(left == right)
    return zero_difference(value(left), value(right))


def _explicit(tree: sympy.Basic | sympy.MatrixBase) -> sympy.Basic | sympy.MatrixBase:
    """Return a number times a matrix, or a sum of matrices, as one matrix."""
    if not isinstance(tree, sympy.MatrixExpr) or isinstance(tree, sympy.MatrixBase):
        return tree
    _magnitude(tree)
    return tree.doit().as_explicit()


def value(tree: sympy.Expr) -> sympy.Expr:
    """Return `tree` evaluated.

    Raises: Undecided if it would have more than 20,000 digits.
    """
    _magnitude(tree)
    return tree.doit()


def zero_difference(left: sympy.Expr, right: sympy.Expr) -> bool:
    """Return True if two evaluated expressions are equal.

    Expressions with symbols are compared at sample points. Infinities and NaN never equal another expression.
    """
    if left == right:
        return True
    if left.is_Rational and right.is_Rational:
        return False
    if (
        left.is_infinite
        or right.is_infinite
        or left.has(sympy.nan, sympy.zoo)
        or right.has(sympy.nan, sympy.zoo)
    ):
        return False
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    if not symbols:
        return _zero(left - right)
    return _same_at_points(left, right, symbols)


def rounds_to(formula: str, decimal: str) -> bool:
    """Return True if the irrational value of `formula` rounds to `decimal`.

    Both must agree to six decimals, and to one part in 100,000.
    """
    try:
        number = value(parse(formula))
    except (NotRead, Undecided):
        return False
    if not isinstance(number, sympy.Expr) or number.is_Rational or number.free_symbols or not number.is_real:
        return False
    with localcontext() as context:
        context.prec = 60
        exact, stated = Decimal(str(number.evalf(40))), Decimal(decimal)
        if abs(exact - stated) > _CLOSE * abs(exact):
            return False
        return exact.quantize(_DECIMALS, ROUND_HALF_EVEN) == stated.quantize(_DECIMALS, ROUND_HALF_EVEN)


def same_equation(left: list[str], right: list[str]) -> bool:
    """Return True if two equations [side, side] are equivalent.

    The difference of the sides of one must be a multiple of the other's.
    """
    try:
        first, second = (value(parse(a)) - value(parse(b)) for a, b in (left, right))
    except (NotRead, Undecided):
        return False
    if not first.free_symbols or first.free_symbols != second.free_symbols:
        return False
    factor = sympy.cancel(sympy.together(first / second))
    return not factor.free_symbols and factor != 0 and factor.is_finite is not False


def _zero(difference: sympy.Expr) -> bool:
    """Return True if a constant is zero.

    Zero has no first digits, so an evaluation of them fails.
    """
    if difference.is_Rational:
        return bool(difference == 0)
    digits = 120 + 2 * math.ceil(_magnitude(difference))
    try:
        difference.evalf(2, maxn=digits, strict=True)
    except PrecisionExhausted:
        return True
    except (NotImplementedError, ValueError, TypeError, AttributeError):
        return bool(sympy.simplify(difference) == 0)
    return False


def _magnitude(tree: sympy.Basic) -> float:
    """Bound the decimal digits of the numbers in `tree`, |log10| of each.

    Raises: Undecided above _MAX_DIGITS, before anything is computed.
    """
    total = 0.0
    if isinstance(tree, sympy.Rational):
        total = (tree.p.bit_length() + tree.q.bit_length()) * 0.302
    elif isinstance(tree, (sympy.Pow, sympy.exp)):
        base, exponent = tree.as_base_exp()
        total = _magnitude(base) + _magnitude(exponent)
        total += _rough(exponent) * max(1.0, math.log10(max(_rough(base), 1.0)), _magnitude(base))
    elif isinstance(tree, (sympy.factorial, sympy.gamma, sympy.factorial2)):
        size = _rough(tree.args[0])
        total = _magnitude(tree.args[0]) + size * math.log10(size + 2)
    elif isinstance(tree, (sympy.sinh, sympy.cosh)):
        total = _magnitude(tree.args[0]) + _rough(tree.args[0])
    elif isinstance(tree, sympy.binomial):
        total = sum(map(_magnitude, tree.args)) + _rough(tree.args[0])
    else:
        total = sum(_magnitude(argument) for argument in tree.args if isinstance(argument, sympy.Basic))
    if total > _MAX_DIGITS:
        raise Undecided("too many digits")
    return total


def _rough(tree: sympy.Basic) -> float:
    """Return |tree| roughly; 1 if it holds a variable."""
    if tree.free_symbols or not isinstance(tree, sympy.Expr):
        return 1.0
    if isinstance(tree, sympy.Rational):
        return min(abs(tree.p) / tree.q, 1e300) if tree.p.bit_length() - tree.q.bit_length() < 1000 else 1e300
    _magnitude(tree)
    try:
        return min(float(abs(tree.evalf(8))), 1e300)
    except (TypeError, ValueError, OverflowError):
        return 1e300


def _same_at_points(left: sympy.Expr, right: sympy.Expr, symbols: list[sympy.Symbol]) -> bool:
    """Return True if both have the same value at enough points.

    Both must be defined there, and real unless one of them holds i.
    """
    complex_values = left.has(sympy.I) or right.has(sympy.I)
    agreed = 0
    for shift in range(len(_POINTS)):
        point = {
            symbol: sympy.Rational(*_POINTS[(shift + 3 * place) % len(_POINTS)]) + place // len(_POINTS)
            for place, symbol in enumerate(symbols)
        }
        one, other = _at(left, point), _at(right, point)
        if one is None or other is None or not (complex_values or (_real(one) and _real(other))):
            continue
        if one != other and not _zero(one - other):
            return False
        agreed += 1
        if agreed >= _ENOUGH_POINTS + len(symbols):
            return True
    return agreed >= 2 or bool(sympy.simplify(left - right) == 0)


def _at(tree: sympy.Expr, point: dict[sympy.Symbol, sympy.Rational]) -> sympy.Expr | None:
    result = tree.subs(point)
    if result.free_symbols or result.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        return None
    return result


def _real(number: sympy.Expr) -> bool:
    real = number.is_real
    if real is None:
        return bool(abs(sympy.im(number.evalf(15))) < 1e-10)
    return bool(real)


# Forms: ["span", low, low_open, high, high_open], ["point", ...], ["not", ...], ["relation", text, ...].
RegionForm = list[object]


def same_region(left: list[list[RegionForm]], right: list[list[RegionForm]]) -> bool:
    """Return True if two unions of pieces are the same set of real numbers."""
    try:
        first, second = _set(left), _set(right)
        if first == second:
            return True
        return bool(first.symmetric_difference(second) == sympy.EmptySet) or _same_spans(first, second)
    except (NotRead, Undecided):
        return False
    except (TypeError, ValueError, NotImplementedError):
        return _same_pieces(left, right)


def _set(union: list[list[RegionForm]]) -> sympy.Set:
    return sympy.Union(*(sympy.Intersection(*map(_piece, pieces)) for pieces in union))


def _piece(piece: RegionForm) -> sympy.Set:
    kind, low = str(piece[0]), str(piece[1])
    if kind == "relation":
        solved = parse(low).as_set()
        if not isinstance(solved, sympy.Set):
            raise NotRead(low)
        return solved
    start = value(parse(low))
    if kind == "span":
        return sympy.Interval(start, value(parse(str(piece[3]))), bool(piece[2]), bool(piece[4]))
    return sympy.FiniteSet(start) if kind == "point" else sympy.S.Reals - sympy.FiniteSet(start)


def _same_spans(first: sympy.Set, second: sympy.Set) -> bool:
    """Compare sets of the same shape by their ends.

    It is used if sympy does not see that they are equal.
    """
    if (
        isinstance(first, sympy.Union)
        and isinstance(second, sympy.Union)
        and len(first.args) == len(second.args)
    ):
        return all(any(_same_spans(a, b) for b in second.args) for a in first.args)
    if isinstance(first, sympy.Interval) and isinstance(second, sympy.Interval):
        return (first.left_open, first.right_open) == (second.left_open, second.right_open) and all(
            zero_difference(a, b) for a, b in ((first.start, second.start), (first.end, second.end))
        )
    if (
        isinstance(first, sympy.FiniteSet)
        and isinstance(second, sympy.FiniteSet)
        and len(first) == len(second)
    ):
        return all(any(zero_difference(a, b) for b in second) for a in first)
    return False


def _same_pieces(left: list[list[RegionForm]], right: list[list[RegionForm]]) -> bool:
    """Compare pieces with variables in their ends, one by one."""
    if len(left) != len(right) or any(len(a) != len(b) for a, b in zip(left, right, strict=True)):
        return False
    flat = ((a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True))
    return all(
        (a[0], a[2], a[4]) == (b[0], b[2], b[4]) and all(equal(str(a[end]), str(b[end])) for end in (1, 3))
        for a, b in flat
    )
