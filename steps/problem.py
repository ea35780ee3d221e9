"""A problem with a verifiable answer: the row that every data set, real or generated, is converted to.

The report asks three things of a prompt set (§2.1): coverage, so rows carry domain and discipline tags; balanced
difficulty, so they carry a difficulty; and answers that can be evaluated, so they name a verifier.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.errors import LonghaulError
from infra.files import write_text_atomically
from infra.lineage.prompt_digest import prompt_digest


class MalformedRow(LonghaulError, ValueError):
    """A row of a data file cannot be read; the message names file, line and reason."""


class Part(BaseModel):
    """One part of a prompt that mixes text and images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["text", "image"]
    text: str | None = None
    image: str | None = Field(
        None,
        description="Address of the image: in rows, a file or a data: URI; from the data stage on, images/DIGEST.png "
        "(infra/images.py).",
    )

    @model_validator(mode="after")
    def _holds_what_it_says(self) -> "Part":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type!r} needs the field {self.type!r}")
        if self.text is not None and self.image is not None:
            raise ValueError("a part is text or an image: make two of it")
        return self


Prompt = str | tuple[Part, ...]
"""A prompt of text alone, or of parts in the order in which the model reads them."""


def text_of(prompt: Prompt) -> str:
    """A prompt's text parts, joined by line breaks."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(part.text for part in prompt if part.text is not None)


def images_of(prompt: Prompt) -> list[str]:
    """Addresses of a prompt's images, in order."""
    if isinstance(prompt, str):
        return []
    return [part.image for part in prompt if part.image is not None]


def digest_of(prompt: Prompt) -> str:
    """What a prompt is recognised by: SHA-256 of its normalised text and of its images' addresses. From the data stage
    on these are made of the images' pixels."""
    return prompt_digest(text_of(prompt), images_of(prompt))


class FunctionTests(BaseModel):
    """Tests that call a function: HumanEval's form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry_point: str = Field(
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*(\(\))?\.)?[A-Za-z_][A-Za-z0-9_]*$",
        description="The function that the program defines; `Solution().name`: a method of a new instance each time.",
    )
    check: str = Field(min_length=1, description="Python source that defines check(candidate), which asserts.")
    setup: str = Field("", description="Python source that runs before it, with what it uses.")
    prelude: str = Field(
        "",
        description="Python source that runs before the program and before the set-up: imports, classes like ListNode.",
    )
    in_place: bool = Field(
        False,
        description="Whether the tests see arguments that the function changes also where it returns something; "
        "they see them where it returns None.",
    )


class Problem(BaseModel):
    """One prompt, its reference answer, and how a response to it is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    system: str = Field("", description="A system turn before the prompt; empty: the chat template's own, if any.")
    prompt: Prompt
    answer: str = Field("", description="Reference answer; empty where tests decide.")
    verifier: Literal["math", "code", "custom", "classic_rm", "cot_rm"] = Field(
        description="Which verifier judges responses (steps/rewards). RL may put a reward model in place of the rules."
    )
    tests: tuple[tuple[str, str], ...] = Field((), description="For code: pairs of stdin and expected stdout.")
    function: FunctionTests | None = Field(None, description="For code: tests that call a function.")
    compare: str = Field(
        "exact",
        pattern=r"^(exact|tokens|floats ([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?|checker)$",
        description="For code: how outputs are compared: exact, tokens, floats TOLERANCE or checker.",
    )
    checker: str = Field(
        "",
        description="For code: a Python program that says by its exit code whether output.txt is right (0) or not (1).",
    )
    form: Literal["exact", "simplified", "factored", "expanded"] | None = Field(
        None, description="For math: how the answer must be written; left out, any equal answer is right."
    )
    extra: dict[str, Any] = Field({}, description="For custom: whatever else the function needs.")
    solution: str | None = Field(None, description="A worked solution, where the data set has one.")
    twin: str | None = Field(
        None, description="Of text drawn as an image, the id of the problem that has the same text as text."
    )
    domain: str = "unknown"
    discipline: str = "unknown"
    difficulty: int = Field(0, ge=0, le=5, description="1 (easy) to 5 (hard); 0 where unknown.")
    source: str = "unknown"
    licence: str = "unknown"

    @model_validator(mode="after")
    def _can_be_verified(self) -> "Problem":
        if not self.text.strip() and not self.images:
            raise ValueError("prompt is empty")
        if self.verifier == "code" and not self.tests and self.function is None:
            raise ValueError("verifier 'code' needs at least one test, or a function's tests")
        if (self.compare == "checker") != bool(self.checker.strip()):
            raise ValueError("compare: checker and a program in the field 'checker' need each other")
        if self.verifier not in ("code", "custom") and not self.answer.strip():
            raise ValueError(f"verifier {self.verifier!r} needs an answer")
        return self

    @property
    def text(self) -> str:
        """The prompt's text parts, joined."""
        return text_of(self.prompt)

    @property
    def images(self) -> list[str]:
        """Addresses of the prompt's images, in order."""
        return images_of(self.prompt)

    @property
    def digest(self) -> str:
        """What the prompt is recognised by (digest_of)."""
        return digest_of(self.prompt)


class Turn(BaseModel):
    """A turn of a conversation before its last prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: Prompt = Field(description="Of a user's turn, text or parts; of the assistant's, text.")

    @model_validator(mode="after")
    def _answers_in_text(self) -> "Turn":
        if self.role == "assistant" and not isinstance(self.content, str):
            raise ValueError("content: the assistant's turns are text alone")
        return self


class Example(BaseModel):
    """One supervised example: a prompt and the response to imitate, the last ones of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem_id: str
    system: str = Field("", description="A system turn before all others; empty: the chat template's own, if any.")
    history: tuple[Turn, ...] = Field(
        (), description="Turns before the prompt: prompts, each with a response, which is imitated as well."
    )
    prompt: Prompt
    response: str = Field(min_length=1)
    kind: str = Field("general", description="'reasoning' examples are the ones that rejection sampling expands.")
    source: str = "unknown"
    licence: str = "unknown"

    @model_validator(mode="after")
    def _takes_turns(self) -> "Example":
        roles = [turn.role for turn in self.history]
        if roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError("history: expected prompts of the user, each with a response of the assistant")
        return self

    @property
    def exchanges(self) -> list[tuple[Prompt, str]]:
        """All prompts of the conversation, each with its response."""
        said = [turn.content for turn in self.history]
        return [*zip(said[::2], map(text_of, said[1::2]), strict=True), (self.prompt, self.response)]

    @property
    def text(self) -> str:
        """The last prompt's text parts, joined."""
        return text_of(self.prompt)

    @property
    def images(self) -> list[str]:
        """Addresses of the images of all prompts of the conversation, in order."""
        return [image for prompt, _ in self.exchanges for image in images_of(prompt)]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and objects of a JSONL file, compressed where its name ends in .gz.

    Raises MalformedRow at the first other line, and where the compression is damaged.
    """
    for number, line in _lines(path):
        if line.strip():
            yield number, parse_row(line, f"{path}:{number}")


def parse_row(line: bytes, place: str) -> dict[str, Any]:
    """The object in a line of JSON. Raises MalformedRow for any other line, naming its place."""
    try:
        row = json.loads(line)
        if b"\\ud" in line.lower() or b"\xed" in line:
            # Escaped or as raw bytes (which begin with ED), half a surrogate pair is read without a word, and fails
            # wherever the text is written or hashed.
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedRow(f"{place}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise MalformedRow(f"{place}: expected an object, found {type(row).__name__}")
    return row


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, 1):
                yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise MalformedRow(
                f"{path}: cannot be decompressed after line {number} ({error}); copy or download the file again"
            ) from error


def invalid(error: ValueError) -> str:
    """Why a row is not a problem or an example, in one line."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in error.errors())
    return " ".join(str(error).split())


def load_problems(path: Path) -> list[Problem]:
    """Problems of a JSONL file. Raises MalformedRow naming file, line and reason, also for an id that occurs twice."""
    problems: dict[str, Problem] = {}
    for number, row in read_rows(path):
        try:
            problem = Problem.model_validate(row)
        except ValueError as error:
            raise MalformedRow(f"{path}:{number}: {invalid(error)}") from error
        if problem.id in problems:
            raise MalformedRow(f"{path}:{number}: id {problem.id!r} occurs twice")
        problems[problem.id] = problem
    return list(problems.values())


def load_examples(path: Path) -> list[Example]:
    """Supervised examples of a JSONL file. Raises MalformedRow naming file, line and reason."""
    examples = []
    for number, row in read_rows(path):
        try:
            examples.append(Example.model_validate(row))
        except ValueError as error:
            raise MalformedRow(f"{path}:{number}: {invalid(error)}") from error
    return examples


def save_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write models as JSONL, whole or not at all."""
    write_text_atomically(path, "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows))
