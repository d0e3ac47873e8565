"""Units of measure: recognise them after a value, and relate two units.

A known unit has base dimensions and a factor, so 1 m is 100 cm and 25 °C is not 25 °F. Unknown words ("eggs",
"students") are units too, but nothing follows from them.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


class UnitFactor(NamedTuple):
    """Powers of base dimensions; one unit is `factor` · π ** `pi` of them."""

    bases: tuple[tuple[str, int], ...]
    factor: Fraction
    pi: int = 0


# One line per unit: its base, its size in that base, its spellings.
_TABLE = """
m 1 m meter metre 米 公尺 メートル 미터
m 1/100 cm centimeter centimetre 厘米 公分 センチ センチメートル 센티미터
m 1/1000 mm millimeter millimetre 毫米 ミリ 밀리미터
m 1000 km kilometer kilometre 千米 公里 キロメートル 킬로미터
m 127/5000 in inch inche
m 381/1250 ft foot feet
m 1143/1250 yd yard
m 1609344/1000 mi mile
kg 1 kg kilogram kilo 千克 公斤 キログラム 킬로그램
kg 1/1000 g gram 克 グラム 그램
kg 1/1000000 mg milligram 毫克
kg 45359237/100000000 lb pound_mass
kg 45359237/1600000000 oz ounce
s 1 s sec second 秒 초
s 60 min minute 分钟 分鐘 分 분
s 3600 h hr hour 小时 小時 時間 시간
s 86400 day 天 日 일
s 604800 week 周 週間 주
year 1 yr year 年 년
year 1/12 month 个月 個月 ヶ月 か月 개월
litre 1 l liter litre 升 リットル 리터
litre 1/1000 ml milliliter millilitre 毫升 ミリリットル 밀리리터
gallon 1 gal gallon
gallon 1/4 qt quart
gallon 1/8 pt pint
dollar 1 $ usd us$ dollar 美元 달러 ドル
dollar 1/100 cent ¢ 美分
euro 1 € eur euro 欧元 ユーロ 유로
pound 1 £ gbp
rupee 1 ₹ rs rs. inr rupee
yuan 1 元 yuan rmb 人民币
jpy 1 円 jpy
won 1 원 ₩ krw
turn 1/360 deg degree ^\\circ ° 度 도
celsius 1 celsius centigrade ^\\circc 摄氏度 ℃
fahrenheit 1 fahrenheit ^\\circf 华氏度 ℉
kelvin 1 kelvin
joule 1 j joule
watt 1 w watt
newton 1 n newton
byte 1 byte
byte 1024 kb
"""
# π radians are half a turn.
_RADIAN = UnitFactor((("turn", 1),), Fraction(1, 2), -1)
_RATES = {"mph": ("mi", "h"), "kph": ("km", "h"), "kmh": ("km", "h")}


def _units() -> dict[str, UnitFactor]:
    table = {"rad": _RADIAN, "radian": _RADIAN}
    for line in _TABLE.strip().splitlines():
        base, size, *names = line.split()
        table |= {name: UnitFactor(((base, 1),), Fraction(size)) for name in names}
    for name, (above, below) in _RATES.items():
        table[name] = _product([(table[above], 1), (table[below], -1)])
    return table


def _product(powers: list[tuple[UnitFactor, int]]) -> UnitFactor:
    bases: dict[str, int] = {}
    factor, pi = Fraction(1), 0
    for unit, power in powers:
        factor *= unit.factor**power
        pi += unit.pi * power
        for base, exponent in unit.bases:
            bases[base] = bases.get(base, 0) + exponent * power
    return UnitFactor(tuple(sorted((base, power) for base, power in bases.items() if power)), factor, pi)


UNITS = _units()
DEGREE = UNITS["deg"]
_TOKEN = re.compile(
    r"\^\s*\\circ\s*[CFcf](?![A-Za-z])|\^\s*\\circ|\^\s*\{?\s*(?P<power>-?\d)\s*\}?|\\cdot(?![A-Za-z])|[/*]"
    r"|(?P<name>us\$|[A-Za-z'’.]+|[$€£¥₹¢₩]|[^\W\d_]+)|(?P<digit>\d)|\s+",
    re.IGNORECASE,
)
_POWER_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3, "제곱": 2, "세제곱": 3}
_POWER_BEHIND = {"squared": 2, "cubed": 3}
_EMPTY_WORDS = frozenset({"unit", "of"})
# Words after which the text is more than a value with a unit: alternatives, arithmetic, conditions, doubt.
NO_UNIT = re.compile(
    r"\A\s*(?:squared|cubed|factorial|doubled|tripled|halved)\b"
    r"|\b(?:or|and|to|not|nor|either|neither|maybe|perhaps|probably|possibly|unless|than|if|when|where|for\s+all|is|are|was"
    r"|minus|plus|times|through|over|divided|choose|mod|modulo|below|negative|pi|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp"
    r"|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|infinity|i|at\s+(?:least|most)|but|otherwise|with|then|so|because|since|which|such|that|only|true|false)\b",
    re.IGNORECASE,
)
CJK_NO_UNIT = re.compile(
    r"或|和|不|または|ではな|じゃな|ではあり|또는|이나|아니|아닙|以上|以下|未満|이상|이하|미만|보다|より|大于|小于|分之|분의|分の"
)


@lru_cache(4096)
def read_unit(words: str) -> UnitFactor | None:
    """Return the unit that `words` name; None if a word is not in the table."""
    powers: list[tuple[UnitFactor, int]] = []
    side, before, at = 1, 1, 0
    while at < len(words):
        token = _TOKEN.match(words, at)
        if token is None:
            return None
        at = token.end()
        name = (token["name"] or "").casefold().replace("'", "").replace("’", "")
        if token["power"] or token["digit"] or name in _POWER_BEHIND:
            if not powers:
                return None
            power = int(token["power"] or token["digit"] or _POWER_BEHIND[name])
            powers[-1] = (powers[-1][0], powers[-1][1] * power)
        elif token.group() == "/" or name in ("per", "a", "an", "each"):
            side = -1
        elif name in _POWER_BEFORE:
            before = _POWER_BEFORE[name]
        elif name in _EMPTY_WORDS or not (token.group().strip("*").strip() and token.group() != "\\cdot"):
            continue
        else:
            unit = _named(name or re.sub(r"\s", "", token.group()).casefold(), token.group())
            if unit is None:
                return None
            powers.append((unit, side * before))
            before = 1
    return _joined(powers) if powers else None


def _named(name: str, spelling: str) -> UnitFactor | None:
    if len(spelling) == 1 and spelling.isascii() and spelling.isupper() and spelling != "L":
        return {"C": UNITS["celsius"], "F": UNITS["fahrenheit"], "K": UNITS["kelvin"]}.get(spelling)
    for form in (name, name.rstrip("."), name.rstrip(".").removesuffix("s"), name.removesuffix("es")):
        if form in UNITS:
            return UNITS[form]
    for prefix, power in _POWER_BEFORE.items():
        if name.startswith(prefix) and name.removeprefix(prefix) in UNITS and not prefix.isascii():
            return _product([(UNITS[name.removeprefix(prefix)], power)])
    return None


def _joined(powers: list[tuple[UnitFactor, int]]) -> UnitFactor:
    """Return the product.

    "$ 5 dollars" and "degrees Celsius" name one unit twice.
    """
    if len(powers) == 2 and powers[0][1] == powers[1][1] == 1:
        first, second = powers[0][0], powers[1][0]
        if first.bases == second.bases or first == DEGREE:
            return second
    return _product(powers)


def conflict(left: UnitFactor | None, right: UnitFactor | None) -> bool:
    """Return True if two stated units measure different things.

    A unit that is not stated never conflicts.
    """
    return left is not None and right is not None and left.bases != right.bases


def ratio(left: UnitFactor | None, right: UnitFactor | None) -> tuple[Fraction, int]:
    """Return how many of `right` equal one `left`.

    The result is a fraction and a power of π.
    It is (1, 0) unless both are stated.
    """
    if left is None or right is None:
        return Fraction(1), 0
    return left.factor / right.factor, left.pi - right.pi


_WORDS_BEHIND = re.compile(
    r"(?P<body>.*?[\w})\]!])\s+(?P<unit>[A-Za-z]{2,}(?:[\s/*.]+[A-Za-z]+)*(?:\s*\^\s*\{?[23]\}?)?)\.?\s*\Z",
    re.DOTALL,
)
_EASTERN_BEHIND = re.compile(
    r"(?P<body>.*[A-Za-z0-9})\]!])\s*(?P<unit>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+)\Z", re.DOTALL
)
_FUNCTION_BEHIND = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|ln|lg|log|exp|sqrt)\s*\Z|[-+*/^_=<>(]\s*\Z")
_POINTS = re.compile(r"\s*(?:[A-Z]{2,3})\b")


def named_points(words: str) -> bool:
    """Return True if `words` name a segment or a figure by its corners, 2 AB.

    Units such as USD or MPH give False.
    """
    return _POINTS.match(words) is not None and read_unit(words) is None


_CURRENCY = re.compile(r"\A\s*([$€£¥₹])\s*(?=[\w\\(])")


def split_unit(text: str) -> tuple[str, str]:
    r"""Split `text` into a formula and its unit ("" without one).

    The unit is plain words after the formula ("2x dollars", "16\pi cm^2") or a currency sign before it.
    """
    currency = _CURRENCY.match(text)
    if currency and "$" not in text[currency.end() :]:
        return text[currency.end() :], currency[1]
    eastern = _EASTERN_BEHIND.match(text)
    if eastern and not CJK_NO_UNIT.search(eastern["unit"]):
        return eastern["body"], eastern["unit"]
    match = _WORDS_BEHIND.match(text) if len(text) <= 200 else None
    if match is None or NO_UNIT.search(match["unit"]) or not re.search(r"\d|\\", match["body"]):
        return text, ""
    words = re.findall(r"[A-Za-z]+", match["unit"])
    if (
        _FUNCTION_BEHIND.search(match["body"])
        or named_points(match["unit"])
        or not (read_unit(match["unit"]) or all(len(word) > 2 for word in words))
    ):
        return text, ""
    return match["body"], match["unit"]
