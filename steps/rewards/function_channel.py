"""Calls between the two boxes of function tests.

Never imported where tests run: the text of this file is part of both programs (see steps/rewards/function_tests.py).

A message is one line of JSON: a call of a function by its reference, or the reply to one, with values as in
steps/rewards/function_values.py. The tests' side gives each call a random token, which its reply and the calls within
it repeat: what a program writes ahead of a call, or onto a descriptor that it found, is not a reply to it.
"""

import builtins
import json
from _thread import RLock
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from steps.rewards.function_values import NotEncodable, Values


class NoReply(BaseException):
    """The other side gave no usable reply; the reason is its argument. No `except Exception` of a test catches it."""


class UnknownException(Exception):
    """An exception of the other side whose class is not known on this one."""


class Channel:
    """One side's end.

    Args:
        reader, writer: where the other side's messages come from, and this one's go.
        prefix, module, find_class: see `Values`.
        longest: characters of the longest message that is read; -1 for any.
        new_token: makes the token of a call; None on the program's side, whose calls repeat the one they are within.
        in_place: whether arguments that a call changed are changed here also where it returns something; without it,
            only where it returns None. On the program's side they always are.
    """

    def __init__(
        self,
        reader: TextIO,
        writer: TextIO,
        prefix: str,
        module: str,
        find_class: Callable[[str], type[Any] | None],
        longest: int = -1,
        new_token: Callable[[], str] | None = None,
        in_place: bool = False,
    ) -> None:
        self._reader, self._writer, self._longest = reader, writer, longest
        self._find_class, self._new_token, self._in_place = find_class, new_token, in_place
        self._values = Values(prefix, module, find_class, self._function, self._iterator)
        self._lock = RLock()
        self._token = ""
        self._depth = 0
        self.raised: Exception | None = None
        """The last exception that a call raised here because the other side did."""
        self.raised_name = ""
        self.fault: str | None = None
        """Why there are no more replies; it stays so, whatever a test catches."""
        self.unfit: str | None = None
        """What on this side could not pass."""

    def offer(self, function: Callable[..., Any], reference: str) -> None:
        """Let the other side call a function by this reference."""
        self._values.own[reference] = function

    def call(self, reference: str, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the other side. Raises what it raises, NoReply and NotEncodable."""
        return self._request({"call": reference}, list(positional), named)

    def serve(self) -> None:
        """Answer the other side's calls until there are no more."""
        while True:
            try:
                message = self._receive()
            except NoReply:
                return
            self._values.forget()
            self._serve(message)

    def _function(self, reference: str, name: str) -> Callable[..., Any]:
        def function(*positional: Any, **named: Any) -> Any:
            return self.call(reference, positional, named)

        function.__name__ = function.__qualname__ = name
        return function

    def _iterator(self, reference: str) -> Iterator[Any]:
        while True:
            item = self._request({"call": reference, "next": True}, [], {})
            if item is _STOPPED:
                return
            yield item

    def _request(self, message: dict[str, Any], positional: list[Any], named: dict[str, Any]) -> Any:
        with self._lock:
            if self.fault:
                raise NoReply(self.fault)
            outer = self._token
            if self._new_token:
                self._token = self._new_token()
            if not self._depth:
                self._values.forget()
            self._depth += 1
            try:
                values, nodes = self._values.encode([*positional, *named.values()], {})
                if self._depth == 1:
                    self._values.passed = nodes
                self._send({**message, "token": self._token, "values": values, "names": list(named)}, nodes)
                while "call" in (answer := self._receive()):
                    self._serve(answer)
                return self._result(answer)
            except NoReply as error:
                self.fault = self.fault or str(error)
                raise
            except NotEncodable as error:
                self.unfit = self.fault = str(error)
                raise
            finally:
                self._depth -= 1
                self._token = outer

    def _result(self, answer: dict[str, Any]) -> Any:
        """What a reply says: a result, or an exception, which it raises."""
        if answer.get("stop"):
            return _STOPPED
        if "fault" in answer:
            raise NoReply("result is not a plain value")
        changes = self._new_token is None
        try:
            values, nodes = answer["values"], answer["nodes"]
            names = answer.get("error")
            if names is None:
                return self._values.decode(values, nodes, changes or self._in_place or values[0] is None)[0]
            error = self._exception(names, self._values.decode(values, nodes, changes))
        except Exception as malformed:
            raise NoReply("no result") from malformed
        self.raised, self.raised_name = error, names[0] if names[0].isidentifier() else "Exception"
        raise error

    def _exception(self, names: list[str], arguments: list[Any]) -> Exception:
        """An exception of the first class that is known here."""
        for name in names:
            kind = self._find_class(name) or getattr(builtins, name, None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                return kind.__new__(kind, *arguments)
        return UnknownException(*arguments)

    def _serve(self, message: dict[str, Any]) -> None:
        """Answer a call."""
        nested, outer = self._depth > 0, self._token
        changes = self._new_token is None
        self._depth += 1
        try:
            try:
                if changes:
                    self._token = message["token"]
                function = self._values.own[message["call"]]
                arguments = self._values.decode(message["values"], message["nodes"], changes)
                first_named = len(arguments) - len(message["names"])
                named = dict(zip(message["names"], arguments[first_named:], strict=True))
            except Exception as malformed:
                raise NoReply("no result") from malformed
            if not nested:
                self._values.passed = {name: json.dumps(node) for name, node in message["nodes"].items()}
            answer: dict[str, Any] = {"token": self._token}
            try:
                results = [next(function) if message.get("next") else function(*arguments[:first_named], **named)]
            except Exception as error:
                if isinstance(error, StopIteration) and message.get("next"):
                    answer["stop"], results = True, []
                else:
                    answer["error"] = [kind.__name__ for kind in type(error).__mro__]
                    results = list(error.args)
            unless = {} if nested else self._values.passed
            try:
                values, nodes = self._values.encode([*results, *arguments], unless)
            except NotEncodable as unfit:
                if "error" in answer:
                    results = [str(item) for item in results]
                    values, nodes = self._values.encode(results, {})
                else:
                    self.unfit = str(unfit)
                    answer["fault"], values, nodes = True, [], {}
            self._send({**answer, "values": values[: len(results)]}, nodes)
        finally:
            self._depth -= 1
            self._token = outer

    def _send(self, message: dict[str, Any], nodes: dict[str, str]) -> None:
        """Send a message. Raises NoReply where nobody reads it."""
        texts = ", ".join(f"{json.dumps(reference)}: {text}" for reference, text in nodes.items())
        try:
            self._writer.write(f'{json.dumps(message)[:-1]}, "nodes": {{{texts}}}}}\n')
            self._writer.flush()
        except (BrokenPipeError, ValueError):
            raise NoReply("gone") from None

    def _receive(self) -> dict[str, Any]:
        """The other side's next message. Raises NoReply where it is not one, or belongs to no call that is open."""
        try:
            line = self._reader.readline(self._longest)
        except UnicodeDecodeError:
            raise NoReply("no result") from None
        if not line.endswith("\n"):
            raise NoReply("result too long" if line else "gone")
        try:
            message = json.loads(line)
            expected = self._new_token is None or message["token"] == self._token
        except Exception:
            raise NoReply("no result") from None
        if not expected or not isinstance(message, dict):
            raise NoReply("no result")
        return message


_STOPPED = object()
"""What a request returns where an iterator has ended."""
