r"""What a verifier says of a response, and where in a response its answer stands.

The answer stands after the thinking: in the last `\boxed{…}` for mathematics, in the last closed ```python block for
code. A response whose think block never closes has no answer, whatever it wrote on the way.
"""

import re
from dataclasses import dataclass

THINK, END_THINK = "<think>", "</think>"
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]*\n?[ \t]*")
_UNBRACED = re.compile(r"[-+]?(?:[0-9][0-9,]*(?:\.[0-9]+)?|[A-Za-z](?![A-Za-z])|\\[A-Za-z]+(?:\{[^{}]*\})*)")
_UNBRACED_END = re.compile(r"\s*(?:$|[$.;:!?*]|,(?![0-9])|\\[)\]]|\n)|\s+[A-Za-z]{2,}")
_BETWEEN_BOXES = re.compile(r"(?:[\s$,;]|\\[()\[\],;: ]|\\q?quad|and|or|\\text\{\s*(?:and|or)\s*\})*")
_PYTHON_FENCES = ("```python", "```python3", "```py")


@dataclass(frozen=True)
class Verdict:
    """Right or wrong, and why in a few words: the words are counted, so they hold nothing of the response."""

    right: bool
    reason: str


RIGHT_FROM = 0.5
"""A reward from here on counts as right where the question is right or wrong."""


@dataclass(frozen=True)
class Score:
    """A judged response."""

    value: float  # 1.0 right, 0.0 wrong; a custom reward may lie between
    reason: str
    seconds: float  # that the judging took
    verifier: str  # name and version, as in "math@3": another version may judge the same response otherwise
    judged: bool = True  # False where there is no verdict: the value is 0, and says nothing of the response

    @property
    def right(self) -> bool:
        """Whether the response counts as right."""
        return self.value >= RIGHT_FROM


class NoVerdict(RuntimeError):
    """What judges came to no verdict. In RL the response goes without a reward, and nothing is learned from it."""

    def __init__(self, message: str, reason: str = "no verdict") -> None:
        """`reason` is what is counted: a few words that hold nothing of the response."""
        super().__init__(message)
        self.reason = reason


def after_thinking(response: str) -> str | None:
    """The part of a response after its thinking; all of it where there is none; None where it never closes.

    The last `</think>` ends the thinking; a response may close a block that its prompt opened, which `Chat.text` writes
    out. After that `<think>` is a word of the answer where it stands like one, behind a space or a quote within a line;
    anywhere else it opens a block again.
    """
    _, closed, text = response.rpartition(END_THINK)
    if not closed:
        return None if THINK in response else response
    for place in (match.start() for match in re.finditer(THINK, text)):
        line = text[text.rfind("\n", 0, place) + 1 : place]
        if not line.strip() or not (line[-1].isspace() or line[-1] in "`'\"“‘(«"):
            return None
    return text


def boxed_answer(response: str) -> str | None:
    r"""The text in the last `\boxed{…}` that is not empty; None where there is none or its braces do not close.

    `\boxed 5` and `\fbox{5}` are boxes too. Boxes with only "and", "or" or a comma between them hold one list.

    NOTE: a last box that is cut off is not an answer, and does not make an earlier one the answer.
    """
    text = after_thinking(response)
    if text is None:
        return None
    boxes: list[tuple[int, int, str]] = []
    # From the end: only the last boxes count, and each is read in one pass.
    for match in reversed(list(_BOX.finditer(text))):
        box = _box(text, match)
        if box is None:
            if not boxes:
                return None
            break
        start, end, content = box
        if boxes and boxes[-1][2] and not _continues(text[end : boxes[-1][0]]):
            break
        boxes.append((start, end, content))
        if len(boxes) > 1 and not boxes[-2][2]:
            boxes.pop(-2)
    if not boxes:
        return None
    contents = [content for _, _, content in reversed(boxes)]
    return ", ".join(dict.fromkeys(contents)) if len(contents) > 1 else contents[0]


def _continues(between: str) -> bool:
    """Whether what stands between two boxes makes them one list."""
    return (
        len(between) < 60
        and _BETWEEN_BOXES.fullmatch(between) is not None
        and re.search("[,;a]|or", between) is not None
    )


def _box(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """Where a box starts and ends, and what it holds; None where its braces do not close, or none say where it ends."""
    position = match.end()
    if position == len(text):
        return None
    if text[position] != "{":
        bare = _UNBRACED.match(text, position)
        # More that follows would belong to the answer: `\boxed 5x`.
        if bare is None or not _UNBRACED_END.match(text, bare.end()):
            return None
        return match.start(), bare.end(), bare[0]
    start = position = position + 1
    depth = 1
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2  # \{ and \} are characters of the answer, not its end
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return match.start(), position + 1, text[start:position].strip()
        position += 1
    return None


def python_program(response: str) -> str | None:
    """The text of the last closed ```python block; None where there is none."""
    text = after_thinking(response)
    if text is None:
        return None
    program: str | None = None
    block: list[str] | None = None
    fence = ""
    # Not splitlines, which also splits at form feeds and other characters that a string of the program may hold.
    for line in text.split("\n"):
        marker = line.strip()
        if block is None:
            if marker.startswith("```"):
                block, fence = [], marker.lower()
        elif marker == "```":
            if fence in _PYTHON_FENCES:
                program = "\n".join(block) + "\n"
            block = None
        else:
            block.append(line)
    return program
