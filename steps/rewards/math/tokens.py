r"""An answer's text as tokens: LaTeX, the Unicode that people write in its place, and plain text.

What only sets or spaces (`\left`, `\displaystyle`, `\,`, `$`) is gone afterwards; words in `\text{…}` stay together.
"""

import re
import unicodedata
from dataclasses import dataclass

from steps.rewards.math.forms import Unreadable

MAX_TOKENS = 400

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ", "0123456789+-()ni", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ", "0123456789+-()n", strict=True))
_FRACTIONS = {
    one: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", one).split("⁄")) for one in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒"
}
_GREEK = {
    letter: f"\\{unicodedata.name(letter).rsplit(' ', 1)[1].lower().replace('lamda', 'lambda')} "
    for letter in "αβγδεζηθικλμνξπρστυφχψω"
} | {
    letter: f"\\{unicodedata.name(letter).rsplit(' ', 1)[1].capitalize().replace('Lamda', 'Lambda')} "
    for letter in "ΓΔΘΛΞΠΣΦΨΩ"
}
_CHARACTERS = (
    _FRACTIONS
    | _GREEK
    | {
        "−": "-",
        "－": "-",
        "﹣": "-",
        "‐": "-",
        "‑": "-",
        "×": "\\times ",
        "·": "\\cdot ",
        "⋅": "\\cdot ",
        "∙": "\\cdot ",
        "÷": "\\div ",
        "⁄": "/",
        "∕": "/",
        "∞": "\\infty ",
        "≤": "\\le ",
        "⩽": "\\le ",
        "≥": "\\ge ",
        "⩾": "\\ge ",
        "≠": "\\ne ",
        "≈": "\\approx ",
        "≅": "\\cong ",
        "≃": "\\simeq ",
        "∼": "\\sim ",
        "≡": "\\equiv ",
        "∈": "\\in ",
        "∉": "\\notin ",
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∅": "\\emptyset ",
        "∖": "\\setminus ",
        "ℝ": "\\mathbb{R}",
        "ℤ": "\\mathbb{Z}",
        "ℚ": "\\mathbb{Q}",
        "ℕ": "\\mathbb{N}",
        "ℂ": "\\mathbb{C}",
        "±": "\\pm ",
        "∓": "\\mp ",
        "°": "^\\circ ",
        "º": "^\\circ ",
        "∘": "^\\circ ",
        "′": "'",
        "″": "''",
        "’": "'",
        "‘": "'",
        "∠": "\\angle ",
        "△": "\\triangle ",
        "√": "\\surd ",
        "∛": "\\cuberoot ",
        "⟨": "\\langle ",
        "⟩": "\\rangle ",
        "〈": "\\langle ",
        "〉": "\\rangle ",
        "⌊": "\\lfloor ",
        "⌋": "\\rfloor ",
        "⌈": "\\lceil ",
        "⌉": "\\rceil ",
        "…": "\\ldots ",
        "∧": "\\land ",
        "∨": "\\lor ",
        "€": "\\euro ",
        "£": "\\sterling ",
        "¥": "\\yen ",
        "₹": "\\rupee ",
        "¢": "\\cent ",
        "％": "%",
    }
)
_UNICODE_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff]")
_RAISED = re.compile("[" + "".join(_SUPERSCRIPTS) + "]+")
_LOWERED = re.compile("[" + "".join(_SUBSCRIPTS) + "]+")
_RANGE = re.compile(r"(?<=[0-9])\s*[–—]\s*(?=[0-9])")
_LATEX_ACCENT = re.compile(r"\\(['`^\"~])(?:\s*\{([A-Za-z])\}|([A-Za-z]))|\\(c)\{([A-Za-z])\}")
_COMBINING = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "c": "\u0327"}

_DROPPED = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|!)(?![A-Za-z])"
)
_SPELLED = {"\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\lparen": "(", "\\rparen": ")"}
_LEFT_DOT = re.compile(r"\\(?:left|right)\s*\.(?![0-9])")
_SPACING = re.compile(r"\\(?:[ ,;:>]|q?quad|thinspace(?![A-Za-z])|(?:hspace|vspace)\*?\{[^{}]*\})|~")
_GROUPING = re.compile(r"(?<=[0-9])(?:\{,\}|\s*,\s*\\!\s*|\\[,;:!]|\\ |~|\{\\[,;:]\})(?=[0-9]{3}(?![0-9]))")
_ESCAPED_TWICE = re.compile(r"\\\\(?=[A-Za-z]{2})")
_ROW_END = "\ue001"
_GROUP = "\ue000"

_QUOTED = re.compile(
    r"\\(?:text(?:rm|bf|it|tt|sf|sc|up|normal)?|mbox|hbox|mathrm|mathit|mathsf|mathtt|operatorname\*?|emph)\s*(?=\{)"
)
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
    | (?P<number>
        (?:[1-9][0-9]{{0,2}}(?:{_GROUP}[0-9]{{3}})+|[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+)
        (?:\.(?!\.)[0-9]*)?
        | \.[0-9]+
      )
    | (?P<begin>\\begin\s*\{{[a-zA-Z]+\*?\}})
    | (?P<end>\\end\s*\{{[a-zA-Z]+\*?\}})
    | (?P<command>\\[A-Za-z]+|\\[{{}}|$%])
    | (?P<row>{_ROW_END})
    | (?P<dots>\.\.\.*)
    | (?P<run>[^\W\d_]+)
    | (?P<op><=|>=|!=|==|[-+*/^_{{}}()\[\]|=<>,;:!'&%$.])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    r"""`kind` is number, run (letters outside \text), text (what is in it), command, op, begin, end, row or dots."""

    kind: str
    text: str
    space: bool = False  # before it


def balanced(text: str, start: int) -> int:
    """The place after the brace group that opens at `start`. Raises Unreadable where it does not close."""
    depth, position = 0, start
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        depth += (text[position] == "{") - (text[position] == "}")
        position += 1
        if depth == 0:
            return position
    raise Unreadable("braces do not close")


def _raised(match: re.Match[str]) -> str:
    return "^{" + "".join(_SUPERSCRIPTS[one] for one in match[0]) + "}"


def _lowered(match: re.Match[str]) -> str:
    return "_{" + "".join(_SUBSCRIPTS[one] for one in match[0]) + "}"


def _accented(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", (match[2] or match[3] or match[5]) + _COMBINING[match[1] or match[4]])


def _unwrapped(text: str) -> str:
    """Without the brackets of math mode and a box around all of it."""
    while True:
        text = text.strip()
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            inside = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and inside and left not in inside:
                text = inside
                break
        else:
            for box in ("\\boxed", "\\fbox"):
                if text.startswith(box + "{") and balanced(text, len(box)) == len(text):
                    text = text[len(box) + 1 : -1]
                    break
            else:
                return text


def plain(text: str) -> str:
    """A text in the characters that the tokens are made of, without what is around it: math mode, a full stop."""
    if any(character.isdigit() and not character.isascii() and character not in _RAISED_DIGITS for character in text):
        raise Unreadable("digits of another script")
    text = _INVISIBLE.sub("", _UNICODE_SPACES.sub(" ", unicodedata.normalize("NFC", text)))
    text = _unwrapped(text)
    if text.startswith("~"):
        raise Unreadable("hedged")  # in LaTeX a space, but here it is meant to be read
    text = _GROUPING.sub(_GROUP, text)
    if "\\begin" not in text:
        text = _ESCAPED_TWICE.sub(r"\\", text)
    text = text.replace("\\\\", _ROW_END)
    if _RANGE.search(text):
        raise Unreadable("a range")  # `–5` is minus five, but `3–5` no difference
    text = text.replace("–", "-").replace("—", "-")
    text = _LOWERED.sub(_lowered, _RAISED.sub(_raised, text))
    text = "".join(_CHARACTERS.get(character, character) for character in text)
    text = re.sub(r"\\not\s*=", r"\\ne ", text)
    for command, bracket in _SPELLED.items():
        text = text.replace(command, bracket)
    if len(text) > 2 and (text[0], text[-1]) in (('"', '"'), ("“", "”"), ("«", "»")):
        text = text[1:-1].strip()
    text = _DROPPED.sub(" ", _LEFT_DOT.sub(" ", text)) if "\\" in text else text
    text = _LATEX_ACCENT.sub(_accented, text)
    text = _SPACING.sub(" ", text).strip()
    text = re.sub(r"(?<![0-9])\.(?=\\(?:overline|bar|dot)(?![A-Za-z]))", "0.", text)
    dollars = re.sub(r"\\\$", "", text).count("$")
    if dollars and dollars % 2 == 0:
        text = re.sub(r"(?<!\\)\$", " ", text)
    while text.endswith(_ROW_END) or (text.endswith(".") and not text.endswith("..")):
        text = text[:-1].rstrip()
    return text.rstrip("\\").strip() if text.endswith("\\") else text


_RAISED_DIGITS = frozenset((*_SUPERSCRIPTS, *_SUBSCRIPTS))


def tokenise(text: str) -> tuple[Token, ...]:
    """The tokens of a text that `plain` has prepared. Raises Unreadable."""
    tokens: list[Token] = []
    position, depth, space = 0, 0, False
    while position < len(text):
        quoted = _QUOTED.match(text, position)
        if quoted:
            end = balanced(text, quoted.end())
            content = text[quoted.end() + 1 : end - 1].replace("$", "")
            tokens.append(Token("text", re.sub(r"\s+", " ", content), space))
            position, space = end, False
            continue
        match = _TOKEN.match(text, position)
        if not match:
            raise Unreadable("an unknown character")
        kind = match.lastgroup or ""
        position = match.end()
        if kind == "space":
            space = True
            continue
        content = match[0]
        depth += (content in ("(", "[", "\\{")) - (content in (")", "]", "\\}"))
        if depth > 0 and kind == "number" and "," in content:
            # In brackets a comma separates: (1,234) is a pair.
            content = content[: content.index(",")]
            position = match.start() + len(content)
        if kind in ("begin", "end"):
            content = content[content.index("{") + 1 : -1]
            if kind == "begin" and content == "array":
                position = balanced(text, text.index("{", position))
        tokens.append(Token(kind, content, space))
        space = False
        if len(tokens) > MAX_TOKENS:
            raise Unreadable("too long")
    return tuple(_spaced_thousands(tokens))


def _spaced_thousands(tokens: list[Token]) -> list[Token]:
    """`1 234` as one number, where it stands for itself: before `/` it may be a mixed number."""
    done: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        following = place + 1
        if token.kind == "number" and re.fullmatch("[1-9][0-9]{0,2}", token.text):
            while (
                following < len(tokens)
                and tokens[following].kind == "number"
                and tokens[following].space
                and re.fullmatch(r"[0-9]{3}(?:\.[0-9]*)?", tokens[following].text)
                and "." not in tokens[following - 1].text
            ):
                following += 1
            if following > place + 1 and not (following < len(tokens) and tokens[following].text == "/"):
                token = Token("number", _GROUP.join(one.text for one in tokens[place:following]), token.space)
            else:
                following = place + 1
        done.append(token)
        place = following
    return done


def digits(number: str) -> str:
    """A number token without its marks of grouping."""
    return number.replace(_GROUP, "").replace(",", "")


def grouped_by_commas(text: str) -> bool:
    """Whether a number of the text has commas that could also separate numbers: 100,200."""
    return re.search(r"[0-9],[0-9]{3}(?![0-9])", text) is not None
