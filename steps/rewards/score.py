r"""What a verifier says of a response, and where in a response its answer stands.

The answer stands after the thinking: in the last `\boxed{…}` for mathematics, in the last closed ```python block for
code. A response whose think block never closes has no answer, whatever it wrote on the way.
"""

from dataclasses import dataclass

THINK, END_THINK = "<think>", "</think>"
_BOXED = "\\boxed{"
_PYTHON_FENCES = ("```python", "```python3", "```py")


@dataclass(frozen=True)
class Verdict:
    """Right or wrong, and why in a few words: the words are counted, so they hold nothing of the response."""

    right: bool
    reason: str


@dataclass(frozen=True)
class Score:
    """A judged response."""

    value: float  # 1.0 right, 0.0 wrong
    reason: str
    seconds: float  # that the judging took
    verifier: str  # name and version, as in "math@2": another version may judge the same response otherwise


def after_thinking(response: str) -> str | None:
    """The part of a response after its last think block; all of it where there is none; None where it never closes.

    A response may close a block that its prompt opened.
    """
    opened, closed = response.rfind(THINK), response.rfind(END_THINK)
    if opened > closed:
        return None
    return response if closed < 0 else response[closed + len(END_THINK) :]


def boxed_answer(response: str) -> str | None:
    r"""The text in the last `\boxed{…}`; None where there is none or its braces do not close.

    NOTE: a last box that is cut off is no answer, and does not make an earlier one the answer.
    """
    text = after_thinking(response)
    if text is None:
        return None
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    start += len(_BOXED)
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2  # \{ and \} are characters of the answer, not its end
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[start:position].strip()
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
