"""Values of function tests as they pass between boxes, in a closed encoding: nothing that arrives is ever run.

Never imported where tests run: the text of this file is part of both programs (see steps/rewards/function_tests.py).

A value is a JSON atom, or a list that begins with the name of its kind; what has an identity (lists, sets, dicts,
instances, functions, iterators) is `["@", reference]`, and nodes say what the references hold. So an argument that a
function changes, or returns, is recognised by its reference. Functions and iterators stay where they are; the other
side has stubs that call them (steps/rewards/function_channel.py).
"""

import enum
import json
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from typing import Any

SMALL_INTEGER = 2**53
_VIEWS = {"keys": type({}.keys()), "values": type({}.values()), "items": type({}.items())}
_DICTS: dict[str, type[Any]] = {
    "dict": dict,
    "Counter": Counter,
    "OrderedDict": OrderedDict,
    "defaultdict": defaultdict,
}
_TYPES = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    list,
    tuple,
    dict,
    set,
    frozenset,
    range,
    object,
    type(None),
)
_NAMED_TYPES: dict[str, Any] = {kind.__name__: kind for kind in (*_TYPES, *_DICTS.values(), deque)}


class NotEncodable(BaseException):
    """A value of a kind that does not pass between the boxes. No `except Exception` of a test catches it."""


class Values:
    """One side's values.

    Args:
        prefix: a letter before this side's references, other than the other side's.
        module: the name of the module whose instances may pass.
        find_class: the class that an instance or exception of this name becomes; None where there is none.
        function: makes the stub of a function of the other side from its reference and name.
        iterator: makes the stub of an iterator of the other side from its reference.
    """

    def __init__(
        self,
        prefix: str,
        module: str,
        find_class: Callable[[str], type[Any] | None],
        function: Callable[[str, str], Callable[..., Any]],
        iterator: Callable[[str], Iterator[Any]],
    ) -> None:
        self._prefix, self._module, self._find_class = prefix, module, find_class
        self._function, self._iterator = function, iterator
        self._count = 0
        self.own: dict[str, Any] = {}
        """Functions and iterators by reference, for as long as the boxes last."""
        self._references: dict[int, str] = {}
        """References by `id`; what they are of is in `own` or `_shared`, which keep it alive."""
        self._shared: dict[str, Any] = {}
        """What else has an identity, by reference, within one outermost call."""
        self.passed: dict[str, str] = {}
        """The nodes of the outermost call's arguments, as JSON."""

    def forget(self) -> None:
        """Forget what was shared within the last outermost call."""
        for value in self._shared.values():
            self._references.pop(id(value), None)
        self._shared.clear()
        self.passed = {}

    def encode(self, roots: list[Any], unless: Mapping[str, str]) -> tuple[list[Any], dict[str, str]]:
        """Values, and as JSON the nodes that they refer to, except those that are the same in `unless`.

        Raises NotEncodable.
        """
        pending: list[tuple[str, Any]] = []
        nodes: dict[str, str] = {}
        seen: set[str] = set()

        def refer(value: Any, lasting: bool = False) -> list[Any]:
            reference = self._references.get(id(value))
            if reference is None:
                self._count += 1
                reference = f"{self._prefix}{self._count}"
                self._references[id(value)] = reference
                (self.own if lasting else self._shared)[reference] = value
            if reference not in seen:
                seen.add(reference)
                pending.append((reference, value))
            return ["@", reference]

        def entries(value: dict[Any, Any]) -> list[Any]:
            return [[encode(key), encode(item)] for key, item in dict.items(value)]

        def encode(value: Any) -> Any:
            kind = type(value)
            if value is None or kind is bool or kind is str:
                return value
            if isinstance(value, int):
                value = int(value)
                return value if -SMALL_INTEGER < value < SMALL_INTEGER else ["int", hex(value)]
            if isinstance(value, str):
                return str.__str__(value)
            if isinstance(value, enum.Enum) and kind.__module__ == self._module:
                return ["enum", kind.__name__, value.name, encode(value.value)]
            if isinstance(value, float):
                return ["float", float.hex(value)]
            if isinstance(value, complex):
                return ["complex", float.hex(value.real), float.hex(value.imag)]
            if isinstance(value, bytes):
                return ["bytes", bytes.hex(value)]
            if isinstance(value, tuple):
                items = [encode(item) for item in tuple.__iter__(value)]
                fields = getattr(kind, "_fields", None)
                return ["namedtuple", kind.__name__, list(fields), items] if fields else ["tuple", items]
            if isinstance(value, frozenset):
                return ["frozenset", [encode(item) for item in frozenset.__iter__(value)]]
            if kind is range:
                return ["range", encode(value.start), encode(value.stop), encode(value.step)]
            if kind is slice:
                return ["slice", encode(value.start), encode(value.stop), encode(value.step)]
            if value is Ellipsis or value is NotImplemented:
                return ["constant", repr(value)]
            for name, view in _VIEWS.items():
                if kind is view:
                    return [name, [encode(item) for item in value]]
            if isinstance(value, type) and value in _NAMED_TYPES.values():
                return ["type", value.__name__]
            for module, name in (("fractions", "Fraction"), ("decimal", "Decimal")):
                # Neither is imported unless the program did.
                known = getattr(sys.modules.get(module), name, None)
                if known is not None and isinstance(value, known):
                    return [name, str(value)] if name == "Decimal" else [name, *map(encode, value.as_integer_ratio())]
            if isinstance(value, list | set | dict | deque | bytearray):
                return refer(value)
            if callable(value) or isinstance(value, Iterator):
                return refer(value, lasting=True)
            if kind.__module__ == self._module:
                return refer(value)
            raise NotEncodable(f"a value of type {kind.__name__}")

        def node(value: Any) -> list[Any]:
            if isinstance(value, list):
                return ["list", [encode(item) for item in list.__iter__(value)]]
            if isinstance(value, set):
                return ["set", [encode(item) for item in set.__iter__(value)]]
            if isinstance(value, dict):
                name = next((n for n, kind in reversed(_DICTS.items()) if isinstance(value, kind)), "dict")
                factory = encode(value.default_factory) if isinstance(value, defaultdict) else None
                return [name, entries(value), factory]
            if isinstance(value, deque):
                return ["deque", [encode(item) for item in deque.__iter__(value)], value.maxlen]
            if isinstance(value, bytearray):
                return ["bytearray", bytes(value).hex()]
            if isinstance(value, Iterator):
                return ["iterator"]
            if callable(value):
                return ["function", str(getattr(value, "__name__", ""))]
            attributes = _attributes(value)
            return ["object", type(value).__name__, [[name, encode(item)] for name, item in attributes.items()]]

        try:
            values = [encode(root) for root in roots]
            while pending:
                reference, value = pending.pop()
                text = json.dumps(node(value))
                if unless.get(reference) != text:
                    nodes[reference] = text
        except RecursionError as error:
            raise NotEncodable("a value that is nested too deeply") from error
        return values, nodes

    def decode(self, roots: list[Any], nodes: Mapping[str, list[Any]], change: bool) -> list[Any]:
        """Values of a message. `change`: its nodes change what is shared; otherwise they are of copies.

        Raises any Exception where the message is malformed.
        """
        known = self._shared
        if not change and any(reference in known for reference in nodes):
            # All of it is copied: what did not change may hold what did.
            nodes = {name: json.loads(text) for name, text in self.passed.items()} | dict(nodes)
            known = {}
        places = {reference: self._place(node, reference, known.get(reference)) for reference, node in nodes.items()}

        def find(reference: str) -> Any:
            for table in (places, known, self._shared, self.own):
                if reference in table:
                    return table[reference]
            raise ValueError(f"no {reference}")

        def decode(value: Any) -> Any:
            if value is None or isinstance(value, bool | int | str):
                return value
            kind, *rest = value
            if kind == "@":
                return find(rest[0])
            if kind == "int":
                return int(rest[0], 16)
            if kind == "float":
                return float.fromhex(rest[0])
            if kind == "complex":
                return complex(*map(float.fromhex, rest))
            if kind == "bytes":
                return bytes.fromhex(rest[0])
            if kind in ("tuple", "frozenset"):
                return (tuple if kind == "tuple" else frozenset)([decode(item) for item in rest[0]])
            if kind == "namedtuple":
                return self._namedtuple(rest[0], rest[1], [decode(item) for item in rest[2]])
            if kind in ("range", "slice"):
                return (range if kind == "range" else slice)(*map(decode, rest))
            if kind == "constant":
                return {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}[rest[0]]
            if kind in _VIEWS:
                items = [decode(item) for item in rest[0]]
                if kind == "keys":
                    return dict.fromkeys(items).keys()
                return dict(enumerate(items)).values() if kind == "values" else dict(items).items()
            if kind == "type":
                return _NAMED_TYPES[rest[0]]
            if kind == "Fraction":
                from fractions import Fraction

                return Fraction(decode(rest[0]), decode(rest[1]))
            if kind == "Decimal":
                from decimal import Decimal

                return Decimal(rest[0])
            if kind == "enum":
                shared = self._find_class(rest[0])
                if shared is not None and issubclass(shared, enum.Enum):
                    return shared[rest[1]]
                record = self._instance(None, rest[0])
                record.__dict__.update(name=rest[1], value=decode(rest[2]))
                return record
            raise ValueError(f"no kind {kind!r}")

        # Members of sets and keys of dicts are hashed, for which they have to be whole.
        for reference, node in sorted(nodes.items(), key=lambda item: item[1][0] in ("set", *_DICTS)):
            place, (kind, *rest) = places[reference], node
            if kind == "object":
                for name, item in rest[1]:
                    _set_attribute(place, name, decode(item))
            elif kind in ("list", "deque"):
                items = [decode(item) for item in rest[0]]
                place.clear()
                place.extend(items)
            elif kind == "set":
                items = [decode(item) for item in rest[0]]
                place.clear()
                place.update(items)
            elif kind in _DICTS:
                pairs = [(decode(key), decode(item)) for key, item in rest[0]]
                place.clear()
                for key, item in pairs:
                    place[key] = item
                if kind == "defaultdict":
                    place.default_factory = decode(rest[1])
            elif kind == "bytearray":
                place[:] = bytes.fromhex(rest[0])
        for reference, place in places.items():
            if known is self._shared and reference not in self.own:
                self._shared[reference] = place
                self._references[id(place)] = reference
        return [decode(root) for root in roots]

    def _place(self, node: list[Any], reference: str, present: Any) -> Any:
        """What a node's content goes into: what has this reference already, or something new and empty."""
        kind = node[0]
        if kind in ("iterator", "function"):
            if reference not in self.own:
                self._expect_theirs(reference)
                stub: Any = self._iterator(reference) if kind == "iterator" else self._function(reference, node[1])
                self.own[reference] = stub
                self._references[id(stub)] = reference
            return self.own[reference]
        if reference in self.own:
            raise ValueError(f"{reference} is of another kind")
        if present is None and not self._shared.get(reference):
            self._expect_theirs(reference, self.passed)
        if kind == "object":
            return self._instance(self._find_class(node[1]), node[1]) if present is None else present
        new = deque(maxlen=node[2]) if kind == "deque" else _NAMED_TYPES[kind]()
        if present is not None and not isinstance(present, type(new)):
            raise ValueError(f"{reference} is of another kind")
        return new if present is None else present

    def _expect_theirs(self, reference: str, known: Mapping[str, str] = types.MappingProxyType({})) -> None:
        if reference.startswith(self._prefix) and reference not in known:
            raise ValueError(f"{reference} was never given")

    def _namedtuple(self, name: str, fields: list[str], items: list[Any]) -> Any:
        kind = self._find_class(name)
        make: Any = namedtuple  # its fields are known only now
        if kind is None or not issubclass(kind, tuple) or list(getattr(kind, "_fields", ())) != fields:
            kind = make(name, fields)
        return tuple.__new__(kind, items)

    def _instance(self, shared: type[Any] | None, name: str) -> Any:
        """An instance of a class that both sides know, or a record of its attributes that equals another such one."""
        if shared is None or issubclass(shared, type | int | str | float | tuple | list | dict | set | BaseException):
            shared = type(name, (_Record,), {})
        return object.__new__(shared)


class _Record:
    """An instance of a class that this side does not have: its attributes."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Record) or type(self).__name__ != type(other).__name__:
            return NotImplemented
        return self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


def _attributes(value: Any) -> dict[str, Any]:
    """What an instance holds, in its dictionary and its slots."""
    names = [name for kind in type(value).__mro__ for name in _slots(kind)]
    slots = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return slots | getattr(value, "__dict__", {})


def _slots(kind: type[Any]) -> list[str]:
    return [name for name, item in vars(kind).items() if isinstance(item, types.MemberDescriptorType)]


def _set_attribute(instance: Any, name: str, value: Any) -> None:
    """Set an attribute as it was read, but never one that would stand in for what the class defines."""
    present = getattr(type(instance), name, None)
    if isinstance(present, types.MemberDescriptorType):
        object.__setattr__(instance, name, value)
    elif not (name.startswith("__") or callable(present) or hasattr(type(present), "__get__")):
        instance.__dict__[name] = value
