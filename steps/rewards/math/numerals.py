r"""A cursor over tokens that reads numbers: digits, decimals, powers of ten as `1.5e-3`, digits that repeat."""

import re
from collections.abc import Sequence
from fractions import Fraction

from steps.rewards.math.forms import Expr, Number, Unreadable
from steps.rewards.math.tokens import Token, digits
from steps.rewards.math.vocabulary import REPEATING


class Cursor:
    """Where reading stands in a sequence of tokens."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._place = 0

    def _peek(self) -> str:
        token = self._token()
        return token.text if token and token.kind not in ("text", "number") else ""

    def _token(self) -> Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _accept(self, *texts: str) -> str:
        text = self._peek()
        if text and text in texts:
            self._place += 1
            return text
        return ""

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise Unreadable("brackets do not close")

    def _number(self, token: Token) -> Expr:
        text = digits(token.text)
        value = Fraction(text.removesuffix("."))
        decimal = "." in text
        if self._peek() in REPEATING and decimal:
            return self._repeating(text)
        following = self._tokens[self._place : self._place + 3]
        if decimal and [one.text for one in following[::2]] == ["(", ")"] and following[1].kind == "number":
            return self._repeating_in_brackets(value, text, following[1].text)
        letters = self._token()
        exponent = letters and not letters.space and re.fullmatch("[eE]", letters.text)
        if exponent:
            rest = self._tokens[self._place + 1 : self._place + 3]
            signed = bool(rest) and rest[0].text in ("+", "-") and len(rest) == 2 and not rest[0].space
            number = rest[1] if signed else (rest[0] if rest else None)
            if number and number.kind == "number" and not number.space and re.fullmatch("[0-9]{1,3}", number.text):
                self._place += 3 if signed else 2
                power = int(number.text) * (-1 if signed and rest[0].text == "-" else 1)
                return Number(value * Fraction(10) ** power, decimal)
        return Number(value, decimal)

    def _repeating(self, text: str) -> Expr:
        """`0.1\\overline{6}`, and a dot over the first and last digit that repeats or over the one."""
        repeated = ""
        while self._peek() in REPEATING:
            dot = self._accept(*REPEATING) == "\\dot"
            braces = self._accept("{")
            token = self._token()
            if token is None or not re.fullmatch("[0-9]+", token.text) or (dot and len(token.text) > 1):
                raise Unreadable("no digits repeat")
            self._place += 1
            repeated += token.text
            if braces:
                self._expect("}")
            following = self._token()
            if dot and following and following.kind == "number" and len(self._tokens) > self._place + 1:
                # 0.\dot{1}4285\dot{7}
                if self._tokens[self._place + 1].text != "\\dot" or not re.fullmatch("[0-9]+", following.text):
                    raise Unreadable("no digits repeat")
                repeated += following.text
                self._place += 1
            elif not dot:
                break
        after = self._token()
        if after and after.kind == "number":
            raise Unreadable("digits after those that repeat")
        places = len(text.partition(".")[2])
        tail = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10**places)
        return Number(Fraction(text.removesuffix(".")) + tail)

    def _repeating_in_brackets(self, value: Fraction, text: str, repeated: str) -> Expr:
        """`0.(3)`; in `0.1(6)` the brackets could also be a factor."""
        if not text.endswith(".") or not repeated.isdigit():
            raise Unreadable("digits in brackets")
        self._place += 3
        return Number(value + Fraction(int(repeated), 10 ** len(repeated) - 1))
