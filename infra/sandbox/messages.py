"""What the sandbox's service and its client say to each other, as JSON.

`POST /v1/run` takes a RunRequest and answers with a result. `POST /v1/run-each` takes a RunEachRequest and answers with
lines, one result each, as they are done; `POST /v1/run-joined` takes a RunJoinedRequest and answers with two. What is
no result is `{"error": "what and the way out"}`, with a status of its own or, where results came before it, as the last
line.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from infra.sandbox.interface import Limits, Result

WAIT_SECONDS = 60.0
"""The longest that the service lets a request wait for a slot before it refuses it; the client waits no less."""

_RESULT = TypeAdapter(Result)
_ENVELOPE_BYTES = 4096
_ESCAPED = 12
"""The most bytes of JSON for one byte that a program writes: U+FFFD for what is not UTF-8 takes six, and of stdout and
stderr each may be cut to the limit."""


def _decode(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("expected base64 in a string")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from error


Base64 = Annotated[
    bytes, PlainValidator(_decode), PlainSerializer(lambda value: base64.b64encode(value).decode(), return_type=str)
]


Files = Annotated[dict[str, Base64], Field(max_length=64)]
"""Read-only files by name, as base64."""


class _Request(BaseModel):
    # NOTE: no text here has constraints: with some, pydantic refuses lone surrogates, which a model may write.
    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: Limits = Field(Limits(), description="Of each run; the service's own maxima bound them.")


class _ProgramRequest(_Request):
    program: str = Field(description="The program's text.")
    language: str = Field("python", pattern=r"^[a-z][a-z0-9_]{0,31}$", description="The image to run in.")
    files: Files = {}


class RunRequest(_ProgramRequest):
    """One run."""

    stdin: str = Field("", description="The program's standard input.")


class RunEachRequest(_ProgramRequest):
    """Several runs of one program, one after the other."""

    stdins: tuple[str, ...] = Field(max_length=10_000, description="Standard inputs, one for each run.")


class RunJoinedRequest(_Request):
    """Two Python programs, each the other's standard input and output."""

    first: str = Field(description="A program's text.")
    second: str = Field(description="A program's text.")
    first_files: Files = {}
    second_files: Files = {}


AnyRequest = RunRequest | RunEachRequest | RunJoinedRequest


class Malformed(ValueError):
    """A request that is not one; the message names the key."""


def parse_request(body: bytes, model: type[AnyRequest], maxima: Limits) -> AnyRequest:
    """A request from its body. Raises Malformed naming the first bad key, also where a limit is above its maximum.

    A limit that is too high is refused and not lowered: a run that ends too early would be a wrong verdict.
    """
    try:
        # Not pydantic's own parser, which refuses lone surrogates.
        request = model.model_validate(json.loads(body))
    except RecursionError as error:
        raise Malformed("the body is nested too deeply to be a request") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Malformed(f"{key}: {first['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    for name, most in asdict(maxima).items():
        value = getattr(request.limits, name)
        if value > most:
            raise Malformed(f"limits.{name} is {value}; this service allows at most {most}")
    return request


def request_body(limits: Limits, **fields: object) -> bytes:
    """The body of a request with these fields; mappings are files."""
    body: dict[str, object] = {"limits": asdict(limits)}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            value = {file: base64.b64encode(content).decode() for file, content in value.items()}
        body[name] = value
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def result_line(result: Result) -> bytes:
    """A result as one line of ASCII."""
    return json.dumps(asdict(result)).encode() + b"\n"


def error_line(message: str) -> bytes:
    """An error as one line of ASCII."""
    return json.dumps({"error": message}).encode() + b"\n"


def longest_line(limits: Limits) -> int:
    """Bytes that the line of a result within limits may have at most."""
    return _ESCAPED * limits.output_bytes + _ENVELOPE_BYTES


def parse_line(line: bytes) -> Result | str:
    """A result, or an error's message. Raises ValueError where it is neither."""
    answer = json.loads(line)
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return str(answer["error"])
    return _RESULT.validate_json(line, strict=True)
