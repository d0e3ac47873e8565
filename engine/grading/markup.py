"""Remove LaTeX, Markdown and HTML that changes only how an answer looks."""

from __future__ import annotations

import re

# Commands of one argument, which stays.
_LOOK = (
    "mathbf|textbf|mathit|textit|boldsymbol|bm|pmb|emph|mathsf|textsf|mathtt|texttt|textsc|textsl|textup|textmd|textbb"
    "|underline|uline|uwave|underbar|underbrace|overbrace|boxed|fbox|framebox|ensuremath|mathord|mathinner|mathstrut"
    "|smash|mathclap|mathrlap|mathllap|centerline|mathnormal|mathversion|hl|textnormal|framed|Large|large"
)
_COLOURED = re.compile(
    r"\\(?:textcolor|colorbox|color)\s*(?:\[[^][]*\])?\s*\{[^{}]*\}|\\fcolorbox\s*(?:\{[^{}]*\}\s*){2}"
)
_LOOKS = re.compile(rf"\\(?:{_LOOK})\s*(?:\[[^][]*\]\s*)?(?=\{{)")
_LOOKS_AT_ONE = re.compile(r"\\(?:mathbf|boldsymbol|bm|pmb|mathit|mathsf)(?![A-Za-z])\s*(?=[A-Za-z0-9])")
_UNSEEN = re.compile(
    r"\\(?:phantom|hphantom|vphantom|label|tag\*?|hspace\*?|vspace\*?|kern|mkern|mskip|hskip|vskip|rule|require|cite|ref)"
    r"\s*(?:(?=\{)|-?[\d.]+\s*(?:pt|em|ex|mu|cm|mm|in))"
)
_SWITCHES = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|scriptscriptstyle|displaylimits|limits|nolimits|strut|mathstrut|noindent"
    r"|centering|nonumber|notag|normalsize|small|footnotesize|tiny|large|Large|LARGE|huge|Huge|bf|rm|it|sf|tt|bfseries"
    r"|itshape|mdseries|normalfont|upshape|allowbreak|relax|hfill|hfil|null|q?quad|enspace|enskip|thinspace|negthinspace|checkmark"
    r"|medspace|thickspace|space|nobreak|nobreakspace|left|right|middle|[Bb]igg?[lrm]?)(?![A-Za-z])"
)
_EMPTY_DELIMITER = re.compile(r"(\\(?:left|right|middle|[Bb]igg?[lrm]?))\s*\.")
_SPACING = re.compile(r"(?<!\\)\\[,;:> ]|~")
_THIN = re.compile(r"(?<=\d)(?:\\[,;: ]|~|\\thinspace|\{[\\, ~]+\})(?=\d{3})")
_THOUSANDS = re.compile(r"(?<=\d),\s*\\!\s*(?=\d{3})|(?<=\d)\{,\}(?=\d{2,3})")
_FRACTION = re.compile(r"\\[dtcs]frac(?![A-Za-z])|\\nicefrac(?![A-Za-z])")
_BINOMIAL = re.compile(r"\\[dt]binom(?![A-Za-z])")
_HTML = re.compile(
    r"</?(?:b|strong|i|em|u|span|font|mark|small|big|code|p|div|center)(?:\s[^<>]*)?>|<br\s*/?>",
    re.IGNORECASE,
)
_HTML_SCRIPT = re.compile(r"<(su[pb])>([^<>]*)</su[pb]>", re.IGNORECASE)
_MARKDOWN = re.compile(r"(?<![\w)}])(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?![\w({])")
_INNER_MATH = re.compile(r"(?<!\\)\$([^$]*?)(?<!\\)\$")
_ELLIPSIS = re.compile(r"\.{3,}")
_MAX_NESTED = 50
_BRACE = re.compile(r"\\[{}\\]|[{}]")
# Names of the same thing.
_NAMES = (
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\\{\s*\\\}"), r"\\emptyset"),
    (re.compile(r"\\(?:R|reals)(?![A-Za-z])"), r"\\mathbb{R}"),
    (re.compile(r"\\l?angle(?![A-Za-z])(?=.*\\r?angle)"), "("),
    (re.compile(r"\\rangle(?![A-Za-z])"), ")"),
    (re.compile(r"\\(?:text|math)bb\s*(?:\{\s*R\s*\}|R)"), r"\\mathbb{R}"),
    (re.compile(r"\\(?:leqslant|leqq|leq)(?![A-Za-z])"), r"\\le"),
    (re.compile(r"\\(?:geqslant|geqq|geq)(?![A-Za-z])"), r"\\ge"),
    (re.compile(r"\\neq(?![A-Za-z])|\\not\s*="), r"\\ne"),
    (re.compile(r"\\textsuperscript(?![A-Za-z])"), "^"),
    (re.compile(r"\\textsubscript(?![A-Za-z])"), "_"),
    (re.compile(r"\\text(?:dollar|euro)(?![A-Za-z])\s*(?:\{\})?"), "$"),
    (re.compile(r"\\(?:pounds|textsterling)(?![A-Za-z])"), "£"),
    (re.compile(r"\\euro?(?![A-Za-z])"), "€"),
    (re.compile(r"\\(?:smallsetminus|backslash)(?![A-Za-z])"), r"\\setminus"),
    (re.compile(r"\\(?:l|r)vert(?![A-Za-z])|\\vert(?![A-Za-z])"), "|"),
    (re.compile(r"\\hat\s*\{\s*\\?([ijk])(?:math)?\s*\}"), r"\1"),
    (re.compile(r"\\hat\s*\\?([ijk])(?:math)?(?![A-Za-z])"), r"\1"),
    (re.compile(r"\\lbrack(?![A-Za-z])"), "["),
    (re.compile(r"\\rbrack(?![A-Za-z])"), "]"),
    (re.compile(r"\\(?:mathrm|operatorname)\s*\{\s*(e|i)\s*\}"), r"\1"),
)


def braced(text: str, at: int) -> int:
    """Return the index after the brace that closes the one at `text[at]`.

    Return −1 if the brace is not closed.
    """
    depth = 0
    for brace in _BRACE.finditer(text, at):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth <= 0:
            return brace.end() if brace.group() == "}" else -1
    return -1


def without_markup(text: str) -> str:
    """Return `text` without commands that change only its look.

    They are colours, fonts, frames, invisible parts, spacing and sizes.
    """
    text = _HTML_SCRIPT.sub(lambda tag: f"{'^' if tag[1].lower() == 'sup' else '_'}{{{tag[2]}}}", text)
    text = _MARKDOWN.sub(r"\2", _HTML.sub(" ", text))
    text = _INNER_MATH.sub(r" \1 ", text)
    text = _ELLIPSIS.sub(r"\\ldots ", text)
    text = _THIN.sub(" ", _THOUSANDS.sub(",", text)).replace("\\!", "")
    text = _without_arguments(_UNSEEN, text)
    text = _bare(_COLOURED, text)
    text = _SPACING.sub(" ", _SWITCHES.sub(" ", _EMPTY_DELIMITER.sub(r"\1 ", text)))
    text = _BINOMIAL.sub(r"\\binom", _FRACTION.sub(r"\\frac", text))
    text = _LOOKS_AT_ONE.sub("", _bare(_LOOKS, text))
    for pattern, name in _NAMES:
        text = pattern.sub(name, text)
    return _without_idle_braces(text)


def _without_arguments(command: re.Pattern[str], text: str) -> str:
    """Return `text` without each `command` and its braced arguments."""
    out: list[str] = []
    at = 0
    for match in command.finditer(text):
        if match.start() < at:
            continue
        out.append(text[at : match.start()])
        at = match.end()
        while text.startswith("{", at) and braced(text, at) > 0:
            at = braced(text, at)
    return "".join(out) + text[at:]


def _bare(command: re.Pattern[str], text: str) -> str:
    """Return `text` without each `command` and without its argument's braces.

    The braces stay if a power or an index needs them.
    """
    for _ in range(_MAX_NESTED):
        match = command.search(text)
        if match is None:
            return text
        end = braced(text, match.end()) if text.startswith("{", match.end()) else -1
        head, tail = text[: match.start()], text[match.end() :]
        if end < 0 or head.rstrip().endswith(("^", "_")):
            text = f"{head} {tail}"
        else:
            text = head + text[match.end() + 1 : end - 1] + text[end:]
    return text


def _without_idle_braces(text: str) -> str:
    """Return `text` without braces that group nothing.

    They are not the argument of a command, power or index.
    """
    if "{" not in text:
        return text
    drop: set[int] = set()
    # Places that become the braces of a set.
    keep: set[int] = set()
    stack: list[tuple[int, bool]] = []
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            stack.append((brace.start(), _is_argument(text, brace.start())))
        elif brace.group() == "}" and stack:
            opened, argument = stack.pop()
            inner = text[opened + 1 : brace.start()]
            if argument or "\\choose" in inner or not inner.strip():
                continue
            drop |= {opened, brace.start()}
            if "\\cup" in text or _LISTED.match(inner):
                keep |= {opened, brace.start()}
    return "".join(
        f"\\{character}" if place in keep else "" if place in drop else character
        for place, character in enumerate(text)
    )


_LISTED = re.compile(r"[^(){}\[\]]+,[^(){}\[\]]+\Z")
_COMMAND_BEFORE = re.compile(
    r"\\(?!(?:cup|cap|times|cdot|div|pm|mp|le|ge|lt|gt|ne|in|setminus|to)\s*\Z)[A-Za-z]+\*?\s*\Z"
)


def _is_argument(text: str, at: int) -> bool:
    before = text[max(0, at - 24) : at].rstrip()
    return before.endswith(("^", "_", "]", "}")) or _COMMAND_BEFORE.search(before) is not None
