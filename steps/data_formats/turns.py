"""Conversations as rows have them: lists of turns, OpenAI's (role, content) or ShareGPT's (from, value)."""

from collections.abc import Mapping
from typing import Any

from steps.data_formats.fields import kind
from steps.data_formats.pictures import Content, Pictures

ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant"} | {
    "gpt": "assistant"
}
"""Names of roles, and what they mean."""

THINKING = ("reasoning_content", "reasoning", "thinking")
"""Names under which some sets have a response's thinking beside its content."""

PAIR = 2


def turns(messages: Any, where: str, pictures: Pictures | None = None) -> list[tuple[str, Content]]:
    """Roles and contents of a conversation: at most one system turn, and then the user's and the model's in turn.

    The row's images stand in the user's turns.

    Raises ValueError naming the turn, from 1, that is something else.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"field {where!r} is {kind(messages)}, and a list of turns is expected, with at least one")
    pictures = pictures or Pictures({})
    result: list[tuple[str, Content]] = []
    for place, message in enumerate(messages, 1):
        at = f"turn {place} of {where}"
        if not isinstance(message, Mapping):
            raise ValueError(f"{at} is {kind(message)}, and role and content are expected")
        name = message.get("role", message.get("from"))
        role = ROLES.get(str(name))
        if role is None:
            raise ValueError(f"{at} has the role {name!r}, and system, user and assistant are read")
        if message.get("tool_calls"):
            raise ValueError(f"{at} calls tools, which are not read")
        if thinking := next((key for key in THINKING if message.get(key)), None):
            raise ValueError(
                f"{at} has its thinking in {thinking!r}, which is not read: write it into the content, between <think> "
                "and </think>"
            )
        expected = "assistant" if result and result[-1][0] == "user" else "user"
        if role not in (expected, "system" if not result else expected):
            raise ValueError(f"{at} is the {role}'s, and the {expected}'s is expected")
        content = message.get("content", message.get("value"))
        result.append((role, _content(content, at, pictures if role == "user" else None)))
    return _finished(result, pictures)


def _content(content: Any, at: str, pictures: Pictures | None) -> Content:
    if isinstance(content, str):
        return pictures.split(content) if pictures else content
    if not isinstance(content, list):
        raise ValueError(f"{at} is {kind(content)}, and text is expected")
    if pictures is None and any(isinstance(part, Mapping) and part.get("type") != "text" for part in content):
        raise ValueError(
            f"{at} has parts that are not text, and images are read in the user's turns alone: leave it out"
        )
    return (pictures or Pictures({})).parts(content, at)


def _finished(said: list[tuple[str, Content]], pictures: Pictures) -> list[tuple[str, Content]]:
    """The turns, with images that have no place before the first question."""
    first = next((place for place, (role, _) in enumerate(said) if role == "user"), None)
    if first is not None:
        said[first] = ("user", pictures.finish(said[first][1]))
    return said


def question(messages: Any, where: str, pictures: Pictures | None = None) -> dict[str, Any]:
    """`prompt` and `system` of a problem: one question, after a system turn or not. Raises ValueError for more."""
    pictures = pictures or Pictures({})
    if isinstance(messages, str):
        return {"prompt": pictures.finish(pictures.split(messages))}
    said = turns(messages, where, pictures)
    system = said.pop(0)[1] if said[0][0] == "system" else ""
    if len(said) != 1 or said[0][0] != "user":
        raise ValueError(f"field {where!r} has {len(said)} turns, and one question of the user is expected")
    return {"prompt": said[0][1]} | ({"system": system} if system else {})


def conversation(said: list[tuple[str, Content]], where: str) -> dict[str, Any]:
    """`system`, `history`, `prompt` and `response` of an example. Raises ValueError where no response is last."""
    said = list(said)
    system = said.pop(0)[1] if said[0][0] == "system" else ""
    if len(said) < PAIR or said[-1][0] != "assistant":
        raise ValueError(f"{where} does not end with a response of the assistant: there is nothing to learn from")
    history = [{"role": role, "content": content} for role, content in said[:-2]]
    fields: dict[str, Any] = {"prompt": said[-2][1], "response": said[-1][1]}
    return fields | ({"system": system} if system else {}) | ({"history": history} if history else {})
