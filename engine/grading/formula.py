"""Parse a formula to an exact sympy expression, by latex2sympy2_extended.

The text is first rewritten in the part of LaTeX that the library reads in only one way: arguments in
brackets, decimals as fractions, no shorthand. A command outside the list of those that it reads well is
rejected, so the parser never guesses. Only the child process imports this module.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig

from engine.grading.repeating import as_fractions

_CONFIG = ConversionConfig(lowercase_symbols=False)
_FUNCTION_NAMES = (
    "ln log exp sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch "
    "arsinh arcosh artanh arcsinh arccosh arctanh cis"
)
_OTHER_NAMES = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega frac sqrt pi infty "
    "cdot times binom lfloor rfloor lceil rceil gcd lcm max min sum prod int lim to mod det le ge lt gt ne choose"
)
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_KNOWN = frozenset(f"\\{name}" for name in (*_FUNCTIONS, *_OTHER_NAMES.split()))
_WORDS = {
    "pi": "\\pi ",
    "infinity": "\\infty ",
    "inf": "\\infty ",
    "sqrt": "\\sqrt ",
    "lg": "\\lg ",
    "oo": "\\infty ",
} | {name: f"\\{name} " for name in _FUNCTIONS}
_TOKEN = re.compile(
    r"\\(?:begin|end)\{pmatrix\}|\\[A-Za-z]+|\\.|\d+(?:\.\d*)?|\.\d+|[A-Za-z]+|\s+|.", re.DOTALL
)
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")
_COMBINATIONS = re.compile(
    r"(?<![A-Za-z])C\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)|(?:\{\})?_\{?(\w+)\}?\s*C\s*_\{?(\w+)\}?|\^\{?(\w+)\}?\s*C\s*_\{?(\w+)\}?"
)
_BRACED_LIST = re.compile(r"\\(max|min|gcd|lcm)\s*\\\{([^{}]*)\\\}")
# Example: \log_28 is \log_2 8.
_LOG_BASE = re.compile(r"\\log\s*_\s*(\d)(\d+)\s*\Z")
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))")
_DOUBLE_FACTORIAL = re.compile(r"(?<![\w.])(\d{1,3})!!(?!!)")
_MATRIX = re.compile(r"\\(begin|end)\s*\{(?:small|b|B|p)?(?:matrix|array)\*?\}(?:\s*\{[lcr| ]*\})?")
_AROUND_MATRIX = re.compile(r"[(\[]\s*(?=\\begin)|(?<=matrix\})\s*[)\]]")
_ENDS_ARGUMENT = frozenset("+-=<>,;)]}|&/*:") | {"\\cdot", "\\times", "\\\\", "\\end{pmatrix}", "\\to"}
_ENDS_ARGUMENT |= {"\\le", "\\ge", "\\lt", "\\gt", "\\ne", "\\}", "\\rfloor", "\\rceil"}
_MAX_DEPTH = 20
_MAX_LENGTH = 500
# The library drops the sign of a transposed or conjugate matrix. It would divide ":" from left to right.
_MISREAD = re.compile(
    r"[A-Z})\]]\s*\^\s*\{?\s*(?:T(?![A-Za-z])|\\top|\\prime|\\dagger|\\ast|\*)|:.*:", re.DOTALL
)
# Digits of a binomial's upper number.
_MAX_BINOMIAL_DIGITS = 4


class NotRead(ValueError):
    """The parser cannot read the formula with certainty.

    A comparison with such a formula counts as different.
    """


@lru_cache(512)
def parse(text: str, base: str = "10") -> sympy.Basic | sympy.MatrixBase:
    r"""Return `text` as an unevaluated expression with exact numbers.

    Args:
        base: base of a `\log` without one.
    Raises: NotRead if it cannot be read with certainty. The library raises a bare Exception for text without
        meaning.
    """
    return _exact(
        latex2sympy(
            written_out(text, base),
            is_real=True,
            convert_degrees=True,
            normalization_config=None,
            conversion_config=_CONFIG,
        )
    )


def written_out(text: str, base: str = "10") -> str:
    """Return `text` in the library's own LaTeX.

    Raises: NotRead if it cannot be expressed there.
    """
    if len(text) > _MAX_LENGTH or _depth(text) > _MAX_DEPTH:
        raise NotRead("too long or too deep")
    if _MISREAD.search(text):
        raise NotRead("a transpose, or a ratio of several terms")
    text = _GROUPED.sub(lambda number: number.group().replace(",", ""), text)
    text = as_fractions(text).replace("**", "^").replace("$", " ")
    text = _BRACED_LIST.sub(r"\\\1(\2)", text)
    text = _DOUBLE_FACTORIAL.sub(lambda match: str(sympy.factorial2(int(match[1]))), text)
    text = _DEGREES.sub(
        r"(\\frac{\\pi}{180})", _LOG_BASE.sub(r"\\log_\1 \2", _COMBINATIONS.sub(_binomial, text))
    )
    _refuse_large_binomials(text)
    text = _AROUND_MATRIX.sub("", _MATRIX.sub(r"\\\1{pmatrix}", text))
    tokens = [token for found in _TOKEN.findall(text) for token in _spelled(found, base)]
    return "".join(_with_arguments(_braced_scripts(tokens)))


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _refuse_large_binomials(text: str) -> None:
    """Raise NotRead for a binomial with too many digits to compare."""
    if any(len(top) > _MAX_BINOMIAL_DIGITS for top in re.findall(r"binom\s*\{?\s*(\d+)", text)):
        raise NotRead("a binomial of large numbers")


def _binomial(match: re.Match[str]) -> str:
    above, below = [group for group in match.groups() if group][:2]
    return f"\\binom{{{above}}}{{{below}}}"


def _spelled(token: str, base: str) -> list[str]:
    """Return `token` as tokens that the library knows."""
    if token.endswith("{pmatrix}"):
        return [token]
    if token[0] == "\\" and len(token) > 1:
        return _command(token, base)
    if token[0].isdigit() or (token[0] == "." and len(token) > 1):
        return [_decimal(token)] if "." in token else [token]
    if token.isalpha():
        return _letters(token)
    if token == "*":
        return ["\\cdot "]
    if token == "%":
        return ["\\cdot ", "\\frac", "{", "1", "}", "{", "100", "}"]
    if token in "'\"@#_^" and token not in "_^":
        raise NotRead(f"{token} has no value")
    return [" "] if token.isspace() else [token]


def _command(token: str, base: str) -> list[str]:
    if token == "\\lg":
        return ["\\log", "_", "{", "10", "}"]
    if token == "\\log" and base == "e":
        return ["\\ln"]
    if token == "\\bmod":
        return ["\\mod "]
    if token == "\\div":
        return ["/"]
    if token == "\\dots" or token == "\\ldots" or token == "\\cdots":
        raise NotRead("an ellipsis has no value")
    if token in ("\\\\", "\\{", "\\}"):
        return [token]
    if token not in _KNOWN:
        raise NotRead(f"{token} is not known")
    return [token]


def _letters(token: str) -> list[str]:
    if token in _WORDS:
        return [_WORDS[token].strip(), " "]
    if len(token) > 3:
        for word in sorted(_WORDS, key=len, reverse=True):
            if token.startswith(word) and len(token) - len(word) <= 2 and word != "inf":
                return [*_letters(word), *token[len(word) :]]
        raise NotRead(f"{token} is a word")
    return list(token)


def _decimal(token: str) -> str:
    value = Fraction(token.rstrip(".") if token[0] != "." else f"0{token}")
    return f"(\\frac{{{value.numerator}}}{{{value.denominator}}})" if value.denominator > 1 else str(value)


def _braced_scripts(tokens: list[str]) -> list[str]:
    r"""Put powers, indices and arguments of commands in braces.

    The commands are `\frac`, `\sqrt` and `\binom`.
    Examples: `^12`, `\frac12`, `\sqrt 2`.
    """
    out: list[str] = []
    # Number of arguments that the last command still takes.
    wanted = 0
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token in ("\\frac", "\\binom", "\\sqrt"):
            wanted = 1 if token == "\\sqrt" else 2
            out.append(token)
            if token == "\\sqrt":
                at = _copy_index(tokens, at, out)
        elif token in "^_" and token.strip():
            out.append(token)
            at = _script(tokens, at, out)
        elif not wanted or token == " ":
            out.append(token)
        elif token == "{":
            inner, at = _group(tokens, at)
            out.extend(["{", *_braced_scripts(inner), "}"])
            wanted -= 1
        elif token.isdigit() and len(token) >= 1:
            digits, rest = token[:wanted] if wanted == 2 else token, token[wanted:] if wanted == 2 else ""
            for digit in digits if wanted == 2 else [digits]:
                out.extend(["{", digit, "}"])
            wanted -= len(digits) if wanted == 2 else 1
            out.extend([rest] if rest else [])
        elif token == "(" and out[-1].strip() == "\\sqrt":
            inner, at = _group(tokens, at, "(", ")")
            out.extend(["{", *_braced_scripts(inner), "}"])
            wanted = 0
        else:
            out.extend(["{", token, "}"])
            wanted -= 1
    return out


def _copy_index(tokens: list[str], at: int, out: list[str]) -> int:
    """Copy the `[3]` of a root."""
    while at < len(tokens) and tokens[at] == " ":
        at += 1
    if at < len(tokens) and tokens[at] == "[" and "]" in tokens[at:]:
        end = tokens.index("]", at)
        out.extend(tokens[at : end + 1])
        return end + 1
    return at


def _script(tokens: list[str], at: int, out: list[str]) -> int:
    """Put the group, token or signed token after `^` or `_` in braces."""
    while at < len(tokens) and tokens[at] == " ":
        at += 1
    if at >= len(tokens):
        raise NotRead("a power or an index is missing")
    if tokens[at] == "{":
        inner, at = _group(tokens, at + 1)
        out.extend(["{", *_braced_scripts(inner), "}"])
        return at
    sign = []
    if tokens[at] in "+-" and at + 1 < len(tokens):
        sign, at = [tokens[at]], at + 1
    if tokens[at] == "(" and out[-1] == "^":
        inner, at = _group(tokens, at + 1, "(", ")")
        out.extend(["{", *sign, "(", *_braced_scripts(inner), ")", "}"])
        return at
    if tokens[at] in ("\\frac", "\\sqrt", "\\binom"):
        end = at + 1
        for _ in range(1 if tokens[at] == "\\sqrt" else 2):
            _, end = _group(tokens, end + 1) if tokens[end : end + 1] == ["{"] else ([], end + 1)
        out.extend(["{", *sign, *_braced_scripts(tokens[at:end]), "}"])
        return end
    out.extend(["{", *sign, tokens[at], "}"])
    return at + 1


def _group(tokens: list[str], at: int, opening: str = "{", closing: str = "}") -> tuple[list[str], int]:
    """Return the tokens up to the closing brace, and the place after it."""
    depth, start = 1, at
    while at < len(tokens):
        depth += (tokens[at] == opening) - (tokens[at] == closing)
        at += 1
        if depth == 0:
            return tokens[start : at - 1], at
    raise NotRead("a bracket is not closed")


def _with_arguments(tokens: list[str]) -> list[str]:
    r"""Put each function's argument in brackets: `\ln 2` is `\ln(2)`."""
    out: list[str] = []
    at = 0
    while at < len(tokens):
        if tokens[at][1:] in _FUNCTIONS and tokens[at][0] == "\\":
            application, at = _application(tokens, at)
            out.extend(application)
        else:
            out.append(tokens[at] + (" " if tokens[at][0] == "\\" and tokens[at][1:].isalpha() else ""))
            at += 1
    return out


def _application(tokens: list[str], at: int) -> tuple[list[str], int]:
    """Return a function with index, power and argument, and its end.

    The end is the place after it.
    It starts at `tokens[at]`.
    """
    if tokens[at] == "\\cis":
        cosine, end = _application(["\\cos", *tokens[at + 1 :]], 0)
        sine, _ = _application(["\\sin", *tokens[at + 1 :]], 0)
        return ["(", *cosine, "+i\\cdot ", *sine, ")"], at + end
    out = [tokens[at]]
    trigonometric = tokens[at][1:] not in ("ln", "log", "exp")
    at = _spaces(tokens, at + 1)
    while at < len(tokens) and tokens[at] in "^_" and tokens[at].strip():
        inner, end = _group(tokens, at + 2)
        out.extend([tokens[at], "{", *_with_arguments(inner), "}"])
        at = _spaces(tokens, end)
    if at < len(tokens) and tokens[at] in "([{":
        closing = {"(": ")", "[": "]", "{": "}"}[tokens[at]]
        inner, at = _group(tokens, at + 1, tokens[at], closing)
        return [*out, "(", *_with_arguments(inner), ")"], at
    if at < len(tokens) and tokens[at][0] == "\\" and tokens[at][1:] in _FUNCTIONS:
        inner, at = _application(tokens, at)
        return [*out, "(", *inner, ")"], at
    end = _argument_end(tokens, at, trigonometric)
    if not "".join(tokens[at:end]).strip():
        raise NotRead(f"{out[0]} has no argument")
    return [*out, "(", *_with_arguments(tokens[at:end]), ")"], end


def _argument_end(tokens: list[str], at: int, trigonometric: bool) -> int:
    """Return the end of an argument without brackets.

    It ends at the next sum, product sign, relation or function.
    """
    depth, start = 0, at
    while at < len(tokens):
        token = tokens[at].strip()
        if depth == 0 and at > start:
            angle = trigonometric and token == "/" and "\\pi" in tokens[start:at]
            if (token in _ENDS_ARGUMENT and not angle) or (token[:1] == "\\" and token[1:] in _FUNCTIONS):
                return at
        if depth == 0 and token in (")", "]", "}"):
            return at
        depth += (token in ("(", "{", "[")) - (token in (")", "}", "]"))
        at += 1
    return at


def _spaces(tokens: list[str], at: int) -> int:
    while at < len(tokens) and tokens[at] == " ":
        at += 1
    return at


def _exact(tree: sympy.Basic | sympy.MatrixBase) -> sympy.Basic | sympy.MatrixBase:
    """Return `tree` with `i` as the imaginary unit, unless `i` is an index."""
    if isinstance(tree, sympy.MatrixBase):
        return tree.applyfunc(_exact)
    if not isinstance(tree, sympy.Basic) or tree.has(sympy.Float):
        raise NotRead("a number that is not exact")
    counters = {
        symbol for node in tree.atoms(sympy.Sum, sympy.Product, sympy.Integral) for symbol in node.variables
    }
    tree = _real_roots(tree)
    imaginary = [symbol for symbol in tree.free_symbols if str(symbol) == "i" and symbol not in counters]
    return _replaced(tree, dict.fromkeys(imaginary, sympy.I)) if imaginary else tree


def _real_roots(tree: sympy.Basic) -> sympy.Basic:
    """Return `tree` with real odd roots: the cube root of −8 is −2."""
    if not tree.args:
        return tree
    arguments = [_real_roots(argument) for argument in tree.args]
    if isinstance(tree, sympy.Pow) and isinstance(arguments[1], sympy.Rational) and arguments[1].q % 2:
        base, power = arguments
        if (
            power.q > 1
            and not base.free_symbols
            and not base.has(sympy.factorial)
            and base.doit().is_negative
        ):
            root = sympy.Pow(sympy.Mul(-1, base, evaluate=False), power, evaluate=False)
            return sympy.Mul((-1) ** power.p, root, evaluate=False)
    return _rebuilt(tree, arguments)


def _rebuilt(tree: sympy.Basic, arguments: list[sympy.Basic]) -> sympy.Basic:
    try:
        return tree.func(*arguments, evaluate=False)
    except TypeError:
        return tree.func(*arguments)


def _replaced(tree: sympy.Basic, values: dict[sympy.Basic, sympy.Basic]) -> sympy.Basic:
    """Return `tree` with leaves replaced and nothing evaluated."""
    if tree in values:
        return values[tree]
    if not tree.args:
        return tree
    return _rebuilt(tree, [_replaced(argument, values) for argument in tree.args])
