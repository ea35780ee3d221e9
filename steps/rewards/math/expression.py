r"""Expressions from tokens, by recursive descent. What has no sure meaning (`1/2x`, a word, `\sum`) is unreadable."""

import re
from collections.abc import Sequence
from fractions import Fraction

from steps.rewards.math.forms import INFINITY, Expr, Number, Operation, Symbol, Unreadable, negative
from steps.rewards.math.numerals import Cursor
from steps.rewards.math.tokens import Token
from steps.rewards.math.vocabulary import (
    APPLIED,
    ARCUS,
    BINOMIALS,
    CLOSING,
    DECORATIONS,
    ENDS,
    FONTS,
    FRACTIONS,
    FUNCTIONS,
    GREEK,
    INFIX,
    ROOTS,
    SAME_FUNCTION,
    TIMES,
    product_of_letters,
)

MAX_DEPTH = 40


class Reader(Cursor):
    """Reads expressions from tokens, from left to right."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__(tokens)
        self._depth = 0
        self._bars = 0

    def whole(self) -> Expr:
        """All tokens as one expression. Raises Unreadable."""
        expr = self.sum()
        if self._place < len(self._tokens):
            raise Unreadable("not one expression")
        return expr

    def sum(self) -> Expr:
        """Terms joined by + and -; ± binds as they do."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        sign = self._accept("+", "-", "\\pm")
        terms = [self._product()]
        if sign == "-":
            terms[0] = negative(terms[0])
        elif sign == "\\pm":
            terms[0] = Operation("±", (terms[0],))
        while sign := self._accept("+", "-", "\\pm"):
            term = self._product()
            if sign == "\\pm":
                left = terms[0] if len(terms) == 1 else Operation("+", tuple(terms))
                terms = [Operation("±", (left, term))]
            else:
                terms.append(negative(term) if sign == "-" else term)
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Operation("+", tuple(terms))

    def _product(self) -> Expr:
        factors = [self._signed_power()]
        while True:
            if self._accept(*TIMES):
                factors.append(self._signed_power())
            elif self._accept("/", "\\div"):
                bottom = self._signed_power()
                top = factors[0] if len(factors) == 1 else Operation("*", tuple(factors))
                if self._starts_factor():
                    raise Unreadable("a fraction without brackets")  # 1/2x is x/2 for one and 1/(2x) for another
                factors = [Operation("/", (top, bottom))]
            elif self._starts_factor():
                number = self._token()
                after_number = isinstance(factors[-1], Number) and self._tokens[self._place - 1].kind == "number"
                if number and number.kind == "number" and after_number:
                    factors[-1] = self._mixed(factors[-1])
                elif number and number.kind == "number" and isinstance(factors[-1], Number):
                    raise Unreadable("numbers side by side")
                elif self._peek() in FRACTIONS and after_number:
                    factors[-1] = self._mixed(factors[-1])
                else:
                    factors.append(self._power())
            else:
                break
        return factors[0] if len(factors) == 1 else Operation("*", tuple(factors))

    def _mixed(self, whole: Expr) -> Expr:
        """`1 1/2` and `1\\frac{1}{2}` after their whole number."""
        assert isinstance(whole, Number)
        if self._peek() in FRACTIONS:
            fraction = self._power()
        else:
            top = self._power()
            if not self._accept("/"):
                raise Unreadable("numbers side by side")
            fraction = Operation("/", (top, self._power()))
        if isinstance(fraction, Operation) and fraction.head == "/":
            top, bottom = fraction.args
            if isinstance(top, Number) and isinstance(bottom, Number):
                plain = all(one.value.denominator == 1 and not one.decimal for one in (whole, top, bottom))
                if plain and 0 < top.value < bottom.value:
                    return Operation("mixed", (whole, top, bottom))
                raise Unreadable("not a mixed number")
        return Operation("*", (whole, fraction))

    def _starts_factor(self) -> bool:
        token = self._token()
        if token is None:
            return False
        if token.kind in ("number", "run", "text"):
            return True
        if token.text == "|":
            return self._bars == 0
        return token.text in ("(", "[", "{") or (token.kind == "command" and token.text not in ENDS | INFIX)

    def _signed_power(self) -> Expr:
        """A factor after an operator; its sign needs no brackets in `3 \\cdot -2` and `\\frac{3}{-4}`."""
        if self._accept("-"):
            return negative(self._power())
        self._accept("+")
        return self._power()

    def _power(self) -> Expr:
        base = self._postfix(self._atom())
        if self._accept("^"):
            exponent = self._argument(whole_number=True)
            if exponent == Symbol("°"):
                return self._postfix(Operation("°", (base,)))
            base = self._postfix(Operation("^", (base, exponent)))
            if self._peek() == "^":
                raise Unreadable("two exponents")
        return base

    def _postfix(self, expr: Expr) -> Expr:
        while self._accept("!"):
            expr = Operation("!", (expr,))
        return expr

    def _argument(self, whole_number: bool = False) -> Expr:
        """What a command takes: a group or one token. LaTeX takes one digit; `whole_number` takes all of them."""
        if self._accept("{"):
            expr = self.sum()
            self._expect("}")
            return expr
        token = self._token()
        if token is None:
            raise Unreadable("an argument is missing")
        if token.kind == "number":
            if len(token.text) > 1 and not whole_number:
                raise Unreadable("digits without braces")
            self._place += 1
            return self._number(token)
        if token.text in ("-", "+") and whole_number:
            self._place += 1
            return negative(self._argument(True)) if token.text == "-" else self._argument(True)
        if token.kind == "run" and len(token.text) > 1:
            raise Unreadable("letters without braces")
        if token.text in ("\\circ", "\\prime"):
            self._place += 1
            return Symbol("°" if token.text == "\\circ" else "'")
        return self._atom()

    def _atom(self) -> Expr:
        token = self._token()
        if token is None:
            raise Unreadable("an operand is missing")
        self._place += 1
        if token.kind == "number":
            return self._number(token)
        if token.kind == "run":
            return self._letters(token)
        if token.kind == "text":
            name = token.text.strip()
            if name in FUNCTIONS:
                return self._function(name)
            if re.fullmatch(r"[A-Za-z]|[A-Z]{2,}", name):
                return self._subscripted(name)
            raise Unreadable("words in a formula")
        if token.text == "{":
            expr = self._over(self.sum())
            self._expect("}")
            return expr
        if token.text in ("(", "[", "\\lfloor", "\\lceil", "\\lvert", "|"):
            return self._bracketed(token.text)
        if token.kind == "command":
            return self._command(token.text)
        raise Unreadable("an operand is missing")

    def _over(self, top: Expr) -> Expr:
        return Operation("/", (top, self.sum())) if self._accept("\\over") else top

    def _bracketed(self, opening: str) -> Expr:
        closing = "|" if opening == "|" else CLOSING[opening]
        outer, self._bars = self._bars, int(opening == "|")
        expr = self.sum()
        self._expect(closing)
        self._bars = outer
        head = {"\\lfloor": "floor", "\\lceil": "ceil", "\\lvert": "abs", "|": "abs"}.get(opening)
        return Operation(head, (expr,)) if head else expr

    def _letters(self, token: Token) -> Expr:
        """A run of letters: a function, a name of upper-case letters, a product of variables."""
        run = token.text
        if run in FUNCTIONS:
            return self._function(run)
        if run == "sqrt":
            return self._root(run)
        if run == "pi":
            return Symbol("π")
        if not run.isascii():
            raise Unreadable("words in a formula")
        if len(run) == 1 and run in APPLIED and self._peek() == "(":
            return self._applied(run)
        if run.isupper():
            return self._subscripted(self._upper_case(run))
        if not product_of_letters(run):
            raise Unreadable("words in a formula")
        # What binds to the last letter does not bind to those before it: xy^2.
        first, *others = re.findall("[A-Z]{2,}|[A-Za-z]", run)
        if not others:
            return self._subscripted(first)
        rest = tuple(Token("run", one) for one in others)
        self._tokens = (*self._tokens[: self._place], *rest, *self._tokens[self._place :])
        return Symbol(first)

    def _upper_case(self, run: str) -> str:
        """Upper-case letters side by side are a name: the segment AB, not A times B. `A B` is set as `AB` is."""
        token = self._token()
        while token and token.kind == "run" and token.text.isupper() and token.text.isascii():
            run += token.text
            self._place += 1
            token = self._token()
        return run

    def _applied(self, name: str) -> Expr:
        self._expect("(")
        args = [self.sum()]
        while self._accept(","):
            args.append(self.sum())
        self._expect(")")
        return Operation("call", (Symbol(name), *args))

    def _subscripted(self, name: str) -> Symbol:
        """A name with its subscript and its primes."""
        if self._accept("_"):
            name += "_" + self._subscript()
        while self._accept("'"):
            name += "'"
        if self._peek() == "^" and self._tokens[self._place + 1 : self._place + 2] == (Token("command", "\\prime"),):
            self._place += 2
            name += "'"
        return Symbol(name)

    def _subscript(self) -> str:
        token = self._token()
        if token is None:
            raise Unreadable("a subscript is missing")
        self._place += 1
        if token.text != "{":
            if token.kind == "number" and len(token.text) > 1:
                raise Unreadable("digits without braces")
            return token.text.strip().lstrip("\\")
        parts = []
        while not self._accept("}"):
            inner = self._token()
            if inner is None or inner.text in ("{", "_", "^"):
                raise Unreadable("a subscript")
            parts.append(inner.text.strip().lstrip("\\"))
            self._place += 1
        return "".join(parts)

    def _command(self, command: str) -> Expr:
        name = command.lstrip("\\")
        if command in FRACTIONS:
            return Operation("/", self._two_arguments())
        if command in BINOMIALS:
            return Operation("binom", self._two_arguments())
        if command in ROOTS:
            return self._root(command)
        if name in FUNCTIONS:
            return self._function(name)
        if name == "infty":
            return Symbol(INFINITY)
        if name == "pi":
            return Symbol("π")
        if name in GREEK:
            return self._subscripted(name)
        if command in DECORATIONS:
            return self._subscripted(f"{name} {self._plain_name()}")
        if command in FONTS:
            inner = self._plain_name()
            return self._subscripted(f"vec {inner}" if inner in ("i", "j", "k") else inner)
        if name in ("imath", "jmath"):
            return Symbol(name[0])
        if command == "\\mathbb":
            return Symbol("mathbb " + self._plain_name())
        if name in ("angle", "triangle", "measuredangle"):
            return Symbol(f"{name} {self._plain_name()}")
        raise Unreadable("an unknown command")

    def _plain_name(self) -> str:
        """One name in braces or without: `{AB}`, `x`."""
        braces = self._accept("{")
        expr = self._atom()
        if braces:
            self._expect("}")
        if not isinstance(expr, Symbol):
            raise Unreadable("not a name")
        return expr.name

    def _two_arguments(self) -> tuple[Expr, Expr]:
        token = self._token()
        if token and token.kind == "number" and re.fullmatch("[0-9]{2}", token.text):
            self._place += 1
            return Number(Fraction(token.text[0])), Number(Fraction(token.text[1]))
        return self._argument(), self._argument()

    def _root(self, command: str) -> Expr:
        index: Expr = Number(Fraction(ROOTS[command]))
        if command == "\\sqrt" and self._accept("["):
            index = self.sum()
            self._expect("]")
        if command in ("\\surd", "\\cuberoot", "sqrt") and self._peek() != "{":
            if command == "sqrt" and self._peek() != "(":
                raise Unreadable("a root without brackets")
            return Operation("root", (self._atom(), index))
        return Operation("root", (self._argument(whole_number=True), index))

    def _function(self, name: str) -> Expr:
        name = SAME_FUNCTION.get(name, name)
        base: Expr | None = None
        power: Expr | None = None
        while True:
            if self._accept("_") and name == "log" and base is None:
                base = self._argument(whole_number=True)
            elif self._accept("^") and power is None:
                power = self._argument(whole_number=True)
            else:
                break
        if power == Number(Fraction(-1)) and name in ARCUS:
            name, power = ARCUS[name], None
        argument = self._atom() if self._peek() in ("(", "[", "{") else self._bare_argument()
        if name == "log":
            done = Operation("log", (argument, base if base is not None else Number(Fraction(10))))
        else:
            done = Operation(name, (argument,))
        return done if power is None else Operation("^", (done, power))

    def _bare_argument(self) -> Expr:
        """`2x` in `\\sin 2x \\cos x`: factors up to an operator, brackets or the next function."""
        factors = [self._power()]
        while self._starts_factor() and self._peek() not in ("(", "[") and not self._at_function():
            factors.append(self._power())
        argument = factors[0] if len(factors) == 1 else Operation("*", tuple(factors))
        if self._peek() == "/":
            raise Unreadable("a function without brackets")
        return argument

    def _at_function(self) -> bool:
        return self._peek().lstrip("\\") in FUNCTIONS


def read_expression(tokens: Sequence[Token]) -> Expr:
    """Tokens as one expression. Raises Unreadable."""
    return Reader(tuple(tokens)).whole()
