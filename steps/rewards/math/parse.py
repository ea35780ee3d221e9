r"""An answer's text as a form: here, and nowhere else, is decided what shape it has.

From the outside in: separators (a list), relations, unions of sets, ratios, brackets, matrices, and at last a number
with its unit. What is none of these is unreadable, hedges (`≈`) among them.
"""

import functools
import re

from steps.rewards.math.evaluate import plain_number
from steps.rewards.math.expression import read_expression
from steps.rewards.math.forms import (
    INFINITY,
    Assignment,
    Chain,
    Collection,
    Congruence,
    Expr,
    Form,
    Named,
    Operation,
    Piece,
    Region,
    Relation,
    Row,
    Symbol,
    Unreadable,
    Value,
    Word,
    negative,
    symbols,
)
from steps.rewards.math.matrices import read_matrix
from steps.rewards.math.quantities import read_based, read_compound, read_ratio, read_remainder, read_value
from steps.rewards.math.regions import (
    REALS,
    as_region,
    between,
    from_inequality,
    intersection,
    region,
    without_point,
)
from steps.rewards.math.split import CLOSING, OPENING, Tokens, enclosed, joined, outermost, split, symbol
from steps.rewards.math.tokens import Token, plain, tokenise
from steps.rewards.math.units import CHANGING
from steps.rewards.math.words import ALL_REALS, EMPTY_SET, read_word

_RELATIONS = (
    {
        "=": "=",
        "==": "=",
        "<": "<",
        ">": ">",
        "\\lt": "<",
        "\\gt": ">",
        "<=": "≤",
        ">=": "≥",
        "!=": "≠",
        "\\ne": "≠",
        "\\neq": "≠",
        "\\in": "∈",
        "\\equiv": "≡",
    }
    | dict.fromkeys(("\\le", "\\leq", "\\leqslant"), "≤")
    | dict.fromkeys(("\\ge", "\\geq", "\\geqslant"), "≥")
)
_HEDGES = frozenset(("\\approx", "\\cong", "\\simeq", "\\sim", "\\doteq", "\\propto", "\\to", "\\ldots", "\\dots"))
_MIRROR = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "=": "=", "≠": "≠"}
_AND, _OR = frozenset(("and", "\\land", "\\wedge", "&")), frozenset(("or", "\\lor", "\\vee"))


@functools.lru_cache(4096)
def read(text: str) -> Form:
    """An answer as a form. Raises Unreadable."""
    prepared = plain(text)
    if not prepared:
        raise Unreadable("empty")
    try:
        tokens = tokenise(prepared)
        if len(tokens) > 1 and enclosed(tokens) and symbol(tokens[0]) == "{":
            return Collection(_items(tokens[1:-1]), braces=True)  # `{2}`: someone's set, and not the number
        return _form(_without_font(_turned(tokens)))
    except RecursionError as error:
        raise Unreadable("nested too deep") from error


@functools.lru_cache(4096)
def read_reference(text: str) -> Form:
    """A reference answer as a form. Its unit need not be in the list: it is no policy's. Raises Unreadable."""
    try:
        return read(text)
    except Unreadable:
        counted = re.fullmatch(
            r"(.*[0-9}])\s*(?:\\(?:text|mathrm)\{)?\s*([a-z]{3,}s)\s*\}?", text.strip().strip("$").rstrip(".")
        )
        if not counted or counted[2] in CHANGING:
            raise
        value = read(counted[1])
        if not isinstance(value, Value) or value.unit or plain_number(value.expr) is None:
            raise
        return Value(value.expr, counted[2])


def _turned(tokens: Tokens) -> Tokens:
    """`]1, 2[` as `(1, 2)`: brackets that stand where the other kind does are open ends of intervals."""
    if not any(token.kind == "op" and token.text in "[]" for token in tokens):
        return tokens
    done = list(tokens)
    depth = 0
    for place, token in enumerate(tokens):
        sign = symbol(token)
        if sign == "]" and depth == 0:
            done[place] = Token("op", "(", token.space)
            depth += 1
        elif sign == "[" and depth > 0 and symbol(tokens[place - 1]) not in ("\\sqrt", "(", "[", ",", ";", "\\{", "{"):
            after = tokens[place + 1] if place + 1 < len(tokens) else None
            if after is None or symbol(after) in ("\\cup", "\\cap", ",", ";", "\\}") or after.kind in ("text", "run"):
                done[place] = Token("op", ")", token.space)
                depth -= 1
            else:
                depth += 1
        else:
            depth += (sign in OPENING) - (sign in CLOSING)
    return tuple(done)


def _without_font(tokens: Tokens) -> Tokens:
    """Without a font around all of it, and with the text of a lone `\\text{12 cm}` read as what it holds."""
    while len(tokens) > 2 and symbol(tokens[0]) in ("\\mathbf", "\\boldsymbol", "\\bm") and enclosed(tokens[1:]):
        tokens = tokens[2:-1]
    if len(tokens) == 1 and tokens[0].kind == "text":
        content = tokens[0].text.strip()
        single = re.fullmatch(r"\(?([A-Za-z])[).]?", content)
        if single:
            return (Token("run", single[1]),)
        if re.search("[0-9]", content):
            try:
                inside = tokenise(plain(content))
                _form(inside)
                return inside
            except Unreadable:
                return tokens
    return tokens


def _form(tokens: Tokens) -> Form:
    if not tokens:
        raise Unreadable("empty")
    if any(symbol(token) in _HEDGES or token.kind == "dots" for token in tokens):
        raise Unreadable("hedged")
    words = read_word(tokens)
    if words is not None:
        return _worded(words)
    for attempt in (read_remainder, read_compound):
        form = attempt(tokens)
        if form is not None:
            return form
    parts, separators = split(tokens, _separates)
    if separators:
        return _listing(parts, [_separator(one) for one in separators])
    sides, relations = split(tokens, lambda token: symbol(token) in _RELATIONS)
    if relations:
        return _related(sides, [_RELATIONS[one.text] for one in relations])
    return _single(tokens)


def _worded(words: str) -> Form:
    if words in EMPTY_SET:
        return Collection((), braces=True)
    if words in ALL_REALS:
        return REALS
    parts = re.split(r", and | and |, or | or |, ", words)
    if len(parts) > 1 and all(re.fullmatch(r"[^\W\d_][\w'\-]*(?: [\w'\-]+){0,2}", part) for part in parts):
        return Collection(tuple(Word(part) for part in parts), braces=False)
    return Word(words)


def _separator(token: Token) -> str:
    text = token.text.strip(" ,;").casefold() if token.kind in ("text", "run") else token.text
    if text in _AND:
        return "and"
    if text in _OR or text == ";":
        return "or"
    return ","


def _separates(token: Token) -> bool:
    if token.kind in ("text", "run"):
        return token.text.strip(" ,;").casefold() in ("and", "or", "")
    return token.text in (",", ";", "\\land", "\\lor", "\\wedge", "\\vee") or token.kind == "row"


def _items(tokens: Tokens) -> tuple[Form, ...]:
    """The items in a set's braces."""
    if not tokens:
        return ()
    parts, _ = split(tokens, lambda token: symbol(token) in (",", ";"))
    return tuple(item for part in parts for item in _flat(_form(part)))


def _flat(form: Form) -> tuple[Form, ...]:
    """Two items for an item with ±."""
    return form.items if isinstance(form, Collection) and not form.braces else (form,)


def _listing(parts: list[Tokens], separators: list[str]) -> Form:
    """Parts with separators between them; `, and` is one separator."""
    joined_parts: list[Tokens] = []
    between_parts: list[str] = []
    for place, part in enumerate(parts):
        if not part:
            # Only between `,` and the word that follows it may nothing stand.
            if place == 0 or place == len(parts) - 1 or separators[place - 1] != "," or separators[place] == ",":
                raise Unreadable("an item is missing")
            between_parts[-1] = separators[place]
            continue
        joined_parts.append(part)
        if place < len(separators):
            between_parts.append(separators[place])
    forms = [_form(part) for part in joined_parts]
    names = {form.name for form in forms if isinstance(form, Named)}
    if len(names) > 1 and "or" in between_parts and ("," in between_parts or "and" in between_parts):
        groups: list[list[Form]] = [[forms[0]]]
        for form, separator in zip(forms[1:], between_parts, strict=True):
            if separator == "or":
                groups.append([form])
            else:
                groups[-1].append(form)
        return Collection(tuple(_assigned(group) for group in groups), braces=False)
    if len(names) > 1:
        return _assigned(forms)
    if names:
        return _of_one_name(forms, between_parts)
    return Collection(tuple(item for form in forms for item in _flat(form)), braces=False)


def _assigned(forms: list[Form]) -> Form:
    """`x = 3, y = 4` as one form. Raises Unreadable for two values of one name, or a part without one."""
    if len(forms) == 1:
        return forms[0]
    values = [form for form in forms if isinstance(form, Named)]
    if len(values) < len(forms) or len({value.name for value in values}) < len(values):
        raise Unreadable("values without a name")
    return Assignment(tuple(values), ordered=False)


def _of_one_name(forms: list[Form], separators: list[str]) -> Form:
    """`x = 5 or x = -2`, `x = 5, -2`, `x < -2 or x > 2`."""
    first = forms[0]
    if not isinstance(first, Named):
        raise Unreadable("values without a name")
    values = [form.form if isinstance(form, Named) else form for form in forms]
    if any(isinstance(value, Region) for value in values):
        if not all(isinstance(form, Named) for form in forms):
            raise Unreadable("values without a name")
        return Named(first.name, _combined(values, separators), first.symbol)
    items = tuple(item for value in values for item in _flat(value))
    return Named(first.name, Collection(items, braces=False), first.symbol)


def _combined(values: list[Form], separators: list[str]) -> Region:
    """Regions united by `or`, intersected by `and`; by a comma whichever says something."""
    done: Region | None = None
    for place, value in enumerate(values):
        if isinstance(value, Value):
            value = from_inequality("=", value.expr)
        if not isinstance(value, Region):
            raise Unreadable("a region and something else")
        if done is None:
            done = value
            continue
        separator = separators[place - 1]
        common = None if separator == "or" else intersection(done, value)
        if common is None and separator == "and":
            raise Unreadable("nothing is in both")
        done = common if common is not None else region((*done.pieces, *value.pieces))
    assert done is not None
    return done


def name_of(tokens: Tokens) -> str | None:
    r"""The left side of `name = value` as text: `x`, `f(x)`, `AB`, `|AB|`, `\text{Area}`, `S_1:S_2`; None for a formula
    that would make it an equation."""
    text = joined(tokens).replace(" ", "")
    if read_word(tokens) is not None:
        return text.casefold()
    if re.fullmatch(
        r"[A-Za-z](?:\^\{?-1\}?|'*)\([A-Za-z0-9\\][A-Za-z_0-9,]*\)|\\frac\{d[a-z]\}\{d[a-z]\}|[a-z]'+", text
    ):
        return text
    if re.fullmatch(
        r"\[[A-Z]{3,}\]|m\\angle[A-Z]+|P\([^()]*\)|[A-Z](?:\^\{?-1\}?|\^\{?T\}?)|\([a-z]\\circ[a-z]\)\([a-z]\)", text
    ):
        return text
    sides, colons = split(tokens, lambda token: symbol(token) == ":")
    if colons:
        names = [name_of(side) for side in sides]
        return None if None in names else text
    try:
        expr = read_expression(tokens)
    except Unreadable:
        return None
    if isinstance(expr, Operation) and expr.head in ("abs", "/"):
        # |AB| and NO/BO: names of what is measured. Fractions of variables make an equation.
        inner = [arg.name for arg in expr.args if isinstance(arg, Symbol)]
        capitals = [name for name in inner if re.fullmatch("[A-Z]{2,}", name)]
        return text if len(inner) == len(expr.args) and (expr.head == "abs" or len(capitals) == 2) else None
    if isinstance(expr, Symbol) and expr.name not in ("π", "e", "i", "∞"):
        return expr.name
    return None


def _variable(tokens: Tokens) -> Symbol | None:
    try:
        expr = read_expression(tokens)
    except Unreadable:
        return None
    return expr if isinstance(expr, Symbol) else None


def _related(sides: list[Tokens], ops: list[str]) -> Form:
    if any(not side for side in sides):
        raise Unreadable("half a relation")
    if "≡" in ops:
        return _congruence(sides, ops)
    if "∈" in ops:
        name = name_of(sides[0])
        form = _form(sides[1]) if len(sides) == 2 else None
        if name is None or not isinstance(form, (Region, Row, Collection, Value)):
            raise Unreadable("not a set")
        if isinstance(form, Value) and not (isinstance(form.expr, Symbol) and form.expr.name.startswith("mathbb")):
            raise Unreadable("not a set")
        return Named(name, form, _variable(sides[0]))
    if ops == ["="]:
        return _equation(*sides)
    if len(ops) <= 2 and "=" not in ops:
        bounded = _bounded(sides, ops)
        if bounded is not None:
            return bounded
    links = tuple(_link(op, left, right) for op, left, right in zip(ops, sides[:-1], sides[1:], strict=True))
    return links[0] if len(links) == 1 else Chain(links)


def _link(op: str, left: Tokens, right: Tokens) -> Relation:
    one, other = read_expression(left), read_expression(right)
    return Relation(_MIRROR[op], other, one) if op in (">", "≥") else Relation(op, one, other)


def _equation(left: Tokens, right: Tokens) -> Form:
    if enclosed(left) and symbol(left[0]) == "(":
        names, _ = split(left[1:-1], lambda token: symbol(token) in (",", ";"))
        named = [name_of(name) for name in names]
        if len(names) > 1 and all(named):
            return _tuple_equation([name or "" for name in named], _form(right))
    for side, other in ((left, right), (right, left)):
        name = name_of(side)
        if name is None:
            continue
        try:
            form, variable = _form(other), _variable(side)
        except Unreadable:
            if other is left:
                raise
            continue
        if variable and isinstance(form, Value) and variable.name in symbols(form.expr):
            break  # x = 2x + 1 says nothing of x as it stands
        return Named(name, form, variable)
    return _link("=", left, right)


def _tuple_equation(names: list[str], form: Form) -> Form:
    """`(x, y) = (3, 4)`; several points stay a list."""
    if isinstance(form, Collection) and not form.braces:
        return Collection(tuple(_tuple_equation(names, item) for item in form.items), braces=False)
    if not isinstance(form, Row) or len(form.items) != len(names):
        raise Unreadable("not as many values as names")
    return Assignment(tuple(Named(name, item) for name, item in zip(names, form.items, strict=True)), ordered=True)


def _bounded(sides: list[Tokens], ops: list[str]) -> Form | None:
    """`x < 3`, `3 > x`, `1 < x \\le 2` as a region; None where no name alone is bounded by numbers."""
    names = [name_of(side) for side in sides]
    at = next((place for place, name in enumerate(names) if name is not None), None)
    if at is None or sum(name is not None for name in names) > 1 or (len(sides) == 3 and at != 1):
        return None
    bounds = [read_expression(side) for place, side in enumerate(sides) if place != at]
    if any(symbols(bound) - {INFINITY} for bound in bounds):
        return None  # y > 2x + 1
    name = names[at] or ""
    try:
        if len(sides) == 2:
            made = from_inequality(ops[0] if at == 0 else _MIRROR[ops[0]], bounds[0])
            return Named(name, region(made.pieces), _variable(sides[at]))
        if all(op in ("<", "≤") for op in ops):
            return Named(name, between(bounds[0], ops[0], ops[1], bounds[1]), _variable(sides[at]))
        if all(op in (">", "≥") for op in ops):
            return Named(name, between(bounds[1], _MIRROR[ops[1]], _MIRROR[ops[0]], bounds[0]), _variable(sides[at]))
    except Unreadable:
        return None
    return None


def _congruence(sides: list[Tokens], ops: list[str]) -> Form:
    if ops != ["≡"]:
        raise Unreadable("a chain of congruences")
    form = _single(sides[1])
    if not isinstance(form, Congruence):
        raise Unreadable("no modulus")
    name = name_of(sides[0])
    if name is None:
        raise Unreadable("not a name")
    return Named(name, form, _variable(sides[0]))


def _modulo(tokens: Tokens) -> Form | None:
    for place, token in outermost(tokens):
        if symbol(token) in ("\\pmod", "\\bmod", "\\mod") or (
            token.kind in ("run", "text") and token.text.strip() == "mod"
        ):
            return Congruence(read_expression(tokens[:place]), read_expression(tokens[place + 1 :]))
    inside = tokens[-1:] and symbol(tokens[-1]) == ")"
    opening = next((place for place, token in enumerate(tokens) if symbol(token) == "("), None)
    if inside and opening and tokens[opening + 1].text.strip() in ("mod", "\\bmod", "\\mod"):
        return Congruence(read_expression(tokens[:opening]), read_expression(tokens[opening + 2 : -1]))
    return None


def _single(tokens: Tokens) -> Form:
    """What holds no separator and no relation at its outermost level."""
    if symbol(tokens[0]) in ("\\emptyset", "\\varnothing") and len(tokens) == 1:
        return Collection((), braces=True)
    if joined(tokens).replace(" ", "") in ("\\mathbb{R}", "\\mathbb R", "\\mathbbR"):
        return REALS
    united = _united(tokens)
    if united is not None:
        return united
    if sum(token.kind == "begin" for token in tokens) == 1 and not _has_comma(tokens):
        matrix = read_matrix(tokens)
        if matrix is not None:
            return matrix
    bracketed = _bracketed(tokens)
    if bracketed is not None:
        return bracketed
    for attempt in (_modulo, read_based, read_ratio):
        form = attempt(tokens)
        if form is not None:
            return form
    return _without_sign(read_value(tokens))


def _united(tokens: Tokens) -> Form | None:
    """`A \\cup B`, `\\mathbb{R} \\setminus \\{0\\}`; None where no sets are joined."""
    parts, joints = split(
        tokens, lambda token: symbol(token) in ("\\cup", "\\setminus", "\\backslash") or _cup(token, tokens)
    )
    if not joints:
        return None
    if any(symbol(joint) in ("\\setminus", "\\backslash") for joint in joints):
        if len(parts) != 2:
            raise Unreadable("a difference of several sets")
        whole, points = as_region(_form(parts[0])), _form(parts[1])
        if whole is None or not isinstance(points, Collection):
            raise Unreadable("not a set")
        for point in points.items:
            if not isinstance(point, Value):
                raise Unreadable("not a set of numbers")
            whole = without_point(whole, point.expr)
        return whole
    pieces: list[Piece] = []
    for part in parts:
        piece = as_region(_form(part))
        if piece is None:
            raise Unreadable("not a set of numbers")
        pieces += piece.pieces
    return region(pieces)


def _cup(token: Token, tokens: Tokens) -> bool:
    """A capital U between brackets, as people write ∪."""
    if token.kind != "run" or token.text not in ("U", "u"):
        return False
    place = next(place for place, one in enumerate(tokens) if one is token)
    return 0 < place < len(tokens) - 1 and tokens[place - 1].text in (")", "]") and tokens[place + 1].text in ("(", "[")


def _bracketed(tokens: Tokens) -> Form | None:
    """A set, a point, an interval, a list in brackets; None for an expression."""
    first, last = symbol(tokens[0]), symbol(tokens[-1])
    if not enclosed(tokens):
        return None
    inside = tokens[1:-1]
    if (first, last) == ("\\{", "\\}"):
        return _set_builder(inside) or Collection(_items(inside), braces=True)
    if (first, last) not in (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\langle", "\\rangle")):
        return None
    parts, commas = split(inside, lambda token: symbol(token) in (",", ";"))
    if not commas and (first, last) == ("[", "]"):
        return Row("[]", (_form(inside),))  # a list of one
    if not commas:
        return _form(inside) if (first, last) == ("(", ")") and _is_form(inside) else None
    items = tuple(_form(part) for part in parts)
    if (first, last) in (("(", "]"), ("[", ")")):
        if len(items) != 2 or not all(isinstance(item, Value) and not item.unit for item in items):
            raise Unreadable("not an interval")
        low, high = (item.expr for item in items if isinstance(item, Value))
        return region((Piece(low, high, first == "(", last == ")"),))
    brackets = {"(": "()", "[": "[]", "\\langle": "⟨⟩"}[first]
    signed = [place for place, item in enumerate(items) if isinstance(item, Collection) and not item.braces]
    if len(signed) > 1:
        raise Unreadable("several signs")
    if signed:
        both = items[signed[0]]
        assert isinstance(both, Collection)
        rows = (tuple(one if place == signed[0] else item for place, item in enumerate(items)) for one in both.items)
        return Collection(tuple(Row(brackets, row) for row in rows), braces=False)
    return Row(brackets, items)


def _has_comma(tokens: Tokens) -> bool:
    return enclosed(tokens) and any(symbol(token) in (",", ";") for _, token in outermost(tokens[1:-1]))


def _is_form(tokens: Tokens) -> bool:
    """Whether brackets hold more than an expression: `(101_2)`, `([1, 2])`, a matrix."""
    return bool(tokens) and (
        enclosed(tokens) or any(symbol(one) in _RELATIONS or one.kind == "begin" for one in tokens)
    )


def _set_builder(inside: Tokens) -> Form | None:
    r"""`x \mid 1 < x < 2`, `x \in \mathbb{R} : x \ne 3`; None where the braces hold a list."""
    parts, bars = split(inside, lambda token: symbol(token) in ("\\mid", "|", ":", "\\colon"))
    if len(bars) != 1 or not all(parts):
        return None
    name, condition = parts
    domain, members = split(name, lambda token: symbol(token) == "\\in")
    if members and _form(domain[1]) != REALS:
        raise Unreadable("not a set of reals")
    variable = _variable(domain[0])
    form = _form(condition)
    if variable is None or not isinstance(form, Named) or form.name != variable.name:
        raise Unreadable("not a set of numbers")
    found = form.form if isinstance(form.form, Region) else as_region(form.form)
    if isinstance(form.form, Collection):
        return Collection(form.form.items, braces=True)
    if isinstance(form.form, Value):
        return Collection((form.form,), braces=True)
    if found is None:
        raise Unreadable("not a set of numbers")
    return found


def _without_sign(value: Value) -> Form:
    """A value with ± as its two values. Several signs could be two or four values."""
    signs = _count(value.expr)
    if not signs:
        return value
    if signs > 1:
        raise Unreadable("several signs")
    both = tuple(Value(_signed(value.expr, head), value.unit) for head in ("+", "-"))
    return Collection(both, braces=False)


def _count(expr: Expr) -> int:
    return (expr.head == "±") + sum(_count(arg) for arg in expr.args) if isinstance(expr, Operation) else 0


def _signed(expr: Expr, sign: str) -> Expr:
    if not isinstance(expr, Operation):
        return expr
    args = tuple(_signed(arg, sign) for arg in expr.args)
    if expr.head != "±":
        return Operation(expr.head, args)
    last = args[-1] if sign == "+" else negative(args[-1])
    return last if len(args) == 1 else Operation("+", (args[0], last))
