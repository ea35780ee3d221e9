r"""Plain numbers, read exactly: integers, decimals, fractions, mixed numbers, powers of ten; with a unit or without.

Most reference answers are one of these, and to compare them needs neither a process nor a computer-algebra system.
What is not plain is not a quantity: `7*8`, `2^3`, `\{2\}` and `1=2` are None here.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

PERCENT = "%"

_DIGITS = r"(?:[1-9][0-9]{0,2}(?:(?:,|\{,\})[0-9]{3})+|[0-9]+)"  # not \d, which also matches other scripts' digits
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_FRACTION = (
    rf"\\[dt]?frac\s*(?:\{{\s*(?P<top>-?\s*{_DIGITS})\s*\}}|(?P<top1>[0-9]))"
    rf"\s*(?:\{{\s*(?P<bottom>{_DIGITS})\s*\}}|(?P<bottom1>[0-9]))"
)
_NUMBER = re.compile(
    r"(?P<sign>[+\-−]?)\s*(?P<currency>\\?\$|€|£)?\s*(?:"
    rf"(?:(?P<whole>[0-9]+)\s*)?{_FRACTION}"
    rf"|(?:(?P<whole2>[0-9]+)\s+)?(?P<top2>{_DIGITS})\s*/\s*(?P<bottom2>{_DIGITS})"
    rf"|(?P<decimal>{_DECIMAL})(?:\s*(?:\\times|\\cdot)\s*10\^(?:\{{(?P<power>[+\-]?[0-9]{{1,3}})\}}|(?P<power1>[0-9]))"
    r"|[eE](?P<exponent>[+\-]?[0-9]{1,3}))?"
    r")"
)
_SPACES = re.compile(r"(?<!\\)\\(?:[ ;:,]|q?quad(?![A-Za-z]))|~")  # but not the \\\\ that ends a matrix's row
_NOTHING = re.compile(r"\\(?:!|left(?![A-Za-z])|right(?![A-Za-z]))")
_DIGIT_SEPARATOR = re.compile(r"(?<=[0-9])\\[,!](?=[0-9]{3})")
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textbf|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_POWER = re.compile(r"\^\{?([0-9])\}?$")
_UNIT_WORD = re.compile(r"[A-Za-z]+(?:[ /][A-Za-z]+)*")

_BARE_UNITS = frozenset(
    re.findall(
        "[a-z]+",
        """mm cm m km in ft yd mi mg g kg lb oz ml l s ms h hr min mph inch foot feet yard mile meter metre kilometer
        kilometre centimeter centimetre gram kilogram pound ounce liter litre second minute hour day week month year
        dollar cent euro degree percent unit people""",
    )
)
r"""Units that may follow a number outside \text{…}. Any other word there may be a product of variables."""

_NOT_UNITS = frozenset(
    re.findall(
        "[a-z]+",
        """or and to of out than not more less over under between about half halve third fourth quarter fifth tenth
        dozen hundred thousand million billion trillion score pair plus minus squared cubed pi mod base""",
    )
)
"""Words that change a number or hedge it."""


@dataclass(frozen=True)
class Quantity:
    """An exact value and its unit, empty where none is written. A percentage's value is the number before the sign."""

    value: Fraction
    unit: str

    def equals(self, other: "Quantity") -> bool:
        """Same value and same unit; a unit that only one side writes is taken as understood.

        A percentage also equals the number that it stands for: 50% is 50 (percent) and 0.5.
        """
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if self.value == other.value:
            return True
        return (self.unit == PERCENT) != (other.unit == PERCENT) and self.absolute == other.absolute

    @property
    def absolute(self) -> Fraction:
        """The value, a percentage's divided by 100."""
        return self.value / 100 if self.unit == PERCENT else self.value


def without_wrapping(text: str) -> str:
    """A formula without its dollar signs or brackets of math mode, kinds of space, or a final full stop."""
    text = text.strip()
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(left) and text.endswith(right) and len(text) > len(left) + len(right):
            text = text[len(left) : -len(right)]
            break
    text = _DIGIT_SEPARATOR.sub("", text)
    text = _SPACES.sub(" ", _NOTHING.sub("", text))
    return re.sub(r"\s+", " ", text.strip().removesuffix(".")).strip()


def _unit(text: str) -> str | None:
    """The normal form of what follows a number; None where it is no unit."""
    text = text.strip()
    if text in ("", "%", "\\%"):
        return text.removeprefix("\\")
    if text in ("°", "^\\circ", "^{\\circ}"):
        return "degree"
    power = _POWER.search(text)
    if power:
        text = text[: power.start()]
    quoted = _TEXT.fullmatch(text)
    words = (quoted[1] if quoted else text).strip()
    if not _UNIT_WORD.fullmatch(words):
        return None
    # Case tells short units apart (mW, MW); a plural is the same unit.
    plain = [word if len(word) < 3 else word.casefold() for word in re.split("[ /]", words)]
    singular = [word if len(word) < 3 else word.removesuffix("s") for word in plain]
    if _NOT_UNITS.intersection(plain + singular) or not (quoted or _BARE_UNITS.issuperset(singular)):
        return None
    unit = " ".join(singular) + (f"^{power[1]}" if power else "")
    return PERCENT if unit == "percent" else unit


def _value(match: re.Match[str]) -> Fraction | None:
    def number(*names: str) -> str | None:
        found = next((match[name] for name in names if match[name]), None)
        return re.sub(r"[,{}\s]", "", found) if found else None

    top, bottom = number("top", "top1", "top2"), number("bottom", "bottom1", "bottom2")
    if top is not None and bottom is not None:
        whole = number("whole", "whole2")
        if int(bottom) == 0 or (whole and (top.startswith("-") or int(top) >= int(bottom))):
            return None  # 1 3/2 is no mixed number
        value = Fraction(int(top), int(bottom)) + int(whole or 0)
    else:
        power = int(number("power", "power1", "exponent") or 0)
        value = Fraction((number("decimal") or "").removesuffix(".")) * Fraction(10) ** power
    return value if match["sign"] in ("", "+") else -value


def read_quantity(text: str) -> Quantity | None:
    """A plain number and its unit, exactly; None where the text is anything else."""
    text = without_wrapping(text)
    match = _NUMBER.match(text)
    if not match:
        return None
    rest = text[match.end() :]
    if rest[:1].isalpha() and len(rest) == 1:
        return None  # 12m is twelve times m; 12 m is a length
    unit = _unit(rest)
    value = _value(match)
    if value is None or unit is None:
        return None
    if match["currency"]:
        if unit not in ("", "dollar") or (unit and not match["currency"].endswith("$")):
            return None
        unit = {"€": "euro", "£": "pound"}.get(match["currency"], "dollar")
    return Quantity(value, unit)
