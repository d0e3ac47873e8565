"""Sentences that state an answer without a box.

Examples: "The answer is 42.", "答案是42。", "Final Answer: n is 34."
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.grading.clock import read_time
from engine.grading.remarks import comment_at

STATED = re.compile(
    r"""
    (?=[FARfar答结結解正정해답])  # most places are passed over at once
    (?:
      \b(?:final\s+answers?|answers?|result|ans)\b[\s*_)}]*
        (?:(?:is|are|equals|will\s+be|would\s+be|must\s+be|should\s+be|comes\s+(?:out\s+)?to|(?:is|turns\s+out)\s+to\s+be)\b|[:=：])
      | \bfinal\s+answers?\b[\s*_)}]*\n
      | (?:答案|结果|結果)\s*(?:应该|應該|應|应)?(?:就?是|为|為|等于|等於|[:：=])
      | (?<![\w问問回])答\s*[:：]
      | (?:答え|答|解答|正解)\s*(?:は|[:：=])
      | (?:정답|해답|답)\s*(?:은|는|이|[:：=])
    )
    [\s*_]*[:：、]?[\s*_]*(?:(?:therefore|thus|then|simply|just|indeed|clearly|exactly|equal\s+to|given\s+by|approximately|about|roughly|around|not\s+[^\s,.;]+,?\s+but(?:\s+rather)?)\b[\s:]*)?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SENTENCE_END = re.compile(
    r"(?<![A-Z\s.])(?<!\bRs)(?<!\bNo)(?<!\bi\.e)(?<!\be\.g)(?<!\b[ap])(?:[.?](?=\s|\*|$)|(?<!\\)!(?=\s+[A-Z]|\*|\s*$))|(?<=m)\.(?=\s+[A-Z]|\s*$)"
    r"|(?<=^[A-Z])\.(?=\s)|[。！？]"
)
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[-−]?[$€£¥₹]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?"
    r"(?:\s*(?:hundred|thousand|million|billion|trillion)\b|[万萬亿億만억]\d*)?(?![A-Za-z0-9_]|!(?!\s*\Z))"
)
_ALTERNATIVE = re.compile(
    r"\b(?:or|either|maybe|perhaps|between|not|cannot|never|\w+n['’]t|at\s+(?:least|most)|less\s+than|more\s+than)\b"
    r"|或|不是|または|ではな|ではあり|또는|이나|아니|아닙|보다|より|大于|小于|大於|小於|超过|超過|至少|最多|不到",
    re.IGNORECASE,
)
_CALCULATION = re.compile(r"<<[^<>\n]*>>")
_DISPLAY = (("\\[", "\\]"), ("$$", "$$"), ("\\begin{equation}", "\\end{equation}"))
_WORDS = re.compile(r"[A-Za-z][A-Za-z'’]+")
_COPULA = re.compile(
    r"\b(?:is|are|was|were|equals|will\s+be|would\s+be|must\s+be|be|becomes)\b\s*(?:(?:equal\s+to|at|given\s+by)\b)?[\s:]*"
)
_POLITE = re.compile(
    r"\s*(?:です|だ|である|になります|となります|입니다|이다|이에요|예요|이예요|임|입니당)\s*\Z"
)
_EASTERN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_VALUE = re.compile(r"[\d$\\(\[{+−-]")
# A line's equation, y = 3x - 2.
_EQUATION = re.compile(r"(?<![\w$\\])[A-Za-z](?:\([a-z]\))?\s*=\s*[^=\s$][^=,;$]*[A-Za-z][^=,;$]*\Z")
_LETTER_IN_MATH = re.compile(r"\$([A-Za-z])\$")
_OPERATED = re.compile(
    r"\b(?:close|near|nearly|almost|half|twice|double|triple|squared?|cubed?|root|factorial|times|plus|minus|sum|product"
    r"|difference|than)\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*(?!\w)|(?<!\w)\*\*")
# Characters from the end in which an answer without a marker is searched.
MAX_TAIL = 4000


def stated(tail: str, finished: bool) -> str:
    """Return the value of the last whole "the answer is ..." in `tail`, or "".

    A statement is whole if its sentence or line ends. At the end of a finished text it is whole too.
    """
    for match in reversed(list(STATED.finditer(tail))):
        text, whole = _sentence(tail[match.end() :])
        if text and (whole or finished) and "\\boxed" not in text:
            return value_of(text)
    return ""


def _sentence(text: str) -> tuple[str, bool]:
    """Return the rest of the first sentence of `text`.

    The second value is True if `text` ends there.
    A displayed formula is whole.
    """
    for opening, closing in _DISPLAY:
        if text.startswith(opening) and closing in text[len(opening) :]:
            inner = text[len(opening) :].partition(closing)[0]
            return inner.strip(), True
    line, newline, _ = text.partition("\n")
    end = _SENTENCE_END.search(line)
    # A question states nothing.
    if end and end.group() in "?？":
        return "", True
    return _BOLD.sub("", line[: end.start()] if end else line).strip(" *_"), bool(end or newline)


def value_of(sentence: str) -> str:
    """Return the value in a sentence: "The largest $n$ is 34" states 34.

    A sentence that is itself a value is returned unchanged.
    """
    sentence = _LETTER_IN_MATH.sub(r"\1", _POLITE.sub("", sentence))
    if _EASTERN.match(sentence) and read_time(sentence) is None:
        return only_number(sentence) or sentence
    if len(_WORDS.findall(_leading_prose(sentence))) < 2:
        return sentence
    if equation := _EQUATION.search(sentence):
        return equation.group().strip()
    copulas = [
        match.end()
        for match in _COPULA.finditer(sentence)
        if match.end() < (comment_at(sentence) or len(sentence))
    ]
    if copulas:
        valued = [end for end in copulas if _VALUE.match(sentence, end)]
        return sentence[valued[-1] if valued else copulas[0] :].strip()
    return sentence if _OPERATED.search(sentence) else only_number(sentence) or sentence


def _leading_prose(sentence: str) -> str:
    """Return the text before the first digit, formula or bracket."""
    return re.split(r"[\d\\([{=]|\$(?![A-Za-z]\$)", sentence, maxsplit=1)[0]


def last_sentence(tail: str) -> str:
    """Return the only number of the last sentence, or "".

    If the sentence has "=", only the part after the last one counts.
    """
    lines = tail.strip().splitlines()
    if not lines:
        return ""
    line = _CALCULATION.sub("", lines[-1]).strip(" *")
    sentence = [
        part
        for part in re.split(r"(?<=[.?])\s+|(?<=!)(?<!\\!)\s+(?=[A-Z])|(?<=[。！？])", line)
        if part.strip()
    ][-1:] or [""]
    return _only_formula(sentence[0]) or only_number(sentence[0])


def _only_formula(sentence: str) -> str:
    """Return the only formula of `sentence` that is more than a letter.

    Return "" if a number occurs outside it.
    """
    formulas = [str(match[match.lastindex or 0]) for match in _FORMULA.finditer(sentence)]
    outside = _FORMULA.sub(" ", sentence)
    if len(formulas) > 1:
        formulas = [formula for formula in formulas if len(formula.strip()) > 1]
    if len(formulas) != 1 or re.search(r"\d", outside) or _ALTERNATIVE.search(outside):
        return ""
    return formulas[0].strip()


def only_number(sentence: str) -> str:
    """Return the only number of `sentence` (of its part after the last "=").

    Return "" if it holds several, or offers a choice.
    """
    numbers = set(_found(sentence.rpartition("=")[2]))
    if len(numbers) != 1 or _ALTERNATIVE.search(sentence):
        return ""
    return numbers.pop().rstrip(",")


def _found(statement: str) -> Iterator[str]:
    return (number.group() for number in _NUMBER.finditer(statement))
