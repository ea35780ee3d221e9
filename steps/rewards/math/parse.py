r"""An answer's text as a form: here, and nowhere else, is decided what shape it has.

From the outside in: separators (a list), relations, unions of sets, ratios, brackets, matrices, and at last a number
with its unit. What is none of these is unreadable, hedges (`≈`) among them.
"""

import functools
import re

from steps.rewards.math.evaluate import plain_number
from steps.rewards.math.forms import (
    Assignment,
    Collection,
    Form,
    Named,
    Region,
    Unreadable,
    Value,
    Word,
)
from steps.rewards.math.matrices import read_matrix
from steps.rewards.math.quantities import read_based, read_compound, read_ratio, read_remainder, read_value
from steps.rewards.math.regions import REALS, from_inequality, intersection, region
from steps.rewards.math.relations import RELATIONS, read_congruence, read_relation
from steps.rewards.math.sets import flatten, has_comma, read_brackets, read_union
from steps.rewards.math.signs import without_sign
from steps.rewards.math.split import CLOSING, OPENING, Tokens, enclosed, joined, split, symbol
from steps.rewards.math.tokens import Token, plain, tokenise
from steps.rewards.math.units import CHANGING
from steps.rewards.math.words import ALL_REALS, EMPTY_SET, read_word

_HEDGES = frozenset(("\\approx", "\\cong", "\\simeq", "\\sim", "\\doteq", "\\propto", "\\to", "\\ldots", "\\dots"))
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
            # `{2}`: someone's set, and not the number.
            return _form((Token("command", "\\{"), *tokens[1:-1], Token("command", "\\}")))
        return _form(_without_font(_turned(tokens)))
    except RecursionError as error:
        raise Unreadable("nested too deep") from error


@functools.lru_cache(4096)
def read_reference(text: str) -> Form:
    """A reference answer as a form. Its unit need not be in the list: no policy wrote it. Raises Unreadable."""
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
    if tokens[0] == Token("begin", "cases") and tokens[-1].kind == "end" and not any(one.text == "&" for one in tokens):
        tokens = tokens[1:-1]  # a system: one equation a line
    parts, separators = split(tokens, _separates)
    if separators:
        return _listing(parts, [_separator(one) for one in separators])
    sides, relations = split(tokens, lambda token: symbol(token) in RELATIONS)
    if relations:
        return read_relation(sides, [RELATIONS[one.text] for one in relations], _form)
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
    return token.text in (",", ";", "&", "\\land", "\\lor", "\\wedge", "\\vee") or token.kind == "row"


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
    return Collection(tuple(item for form in forms for item in flatten(form)), braces=False)


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
    items = tuple(item for value in values for item in flatten(value))
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


def _single(tokens: Tokens) -> Form:
    """What holds no separator and no relation at its outermost level."""
    if symbol(tokens[0]) in ("\\emptyset", "\\varnothing") and len(tokens) == 1:
        return Collection((), braces=True)
    if joined(tokens).replace(" ", "") in ("\\mathbb{R}", "\\mathbb R", "\\mathbbR"):
        return REALS
    united = read_union(tokens, _form)
    if united is not None:
        return united
    if sum(token.kind == "begin" for token in tokens) == 1 and not has_comma(tokens):
        matrix = read_matrix(tokens)
        if matrix is not None:
            return matrix
    bracketed = read_brackets(tokens, _form)
    if bracketed is not None:
        return bracketed
    for attempt in (read_congruence, read_based, read_ratio):
        form = attempt(tokens)
        if form is not None:
            return form
    return without_sign(read_value(tokens))
