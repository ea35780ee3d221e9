"""Conversations as rows have them: lists of turns, OpenAI's (role, content) or ShareGPT's (from, value)."""

from collections.abc import Mapping
from typing import Any

from steps.data_formats.fields import kind

ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant"} | {
    "gpt": "assistant"
}
"""Names of roles, and what they mean."""

THINKING = ("reasoning_content", "reasoning", "thinking")
"""Names under which some sets have a response's thinking beside its content."""

PAIR = 2


def turns(messages: Any, where: str) -> list[tuple[str, str]]:
    """Roles and texts of a conversation: at most one system turn, and then the user's and the model's in turn.

    Raises ValueError naming the turn, from 1, that is something else.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"field {where!r} is {kind(messages)}, and a list of turns is expected, with at least one")
    result: list[tuple[str, str]] = []
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
        result.append((role, _content(message.get("content", message.get("value")), at)))
    return result


def _content(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"{at} is {kind(content)}, and text is expected")
    parts = []
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            name = part.get("type") if isinstance(part, Mapping) else kind(part)
            raise ValueError(f"{at} has a part of type {name!r}, and this recipe trains on text alone: leave it out")
        parts.append(part["text"])
    return "\n".join(parts)


def question(messages: Any, where: str) -> dict[str, Any]:
    """`prompt` and `system` of a problem: one question, after a system turn or not. Raises ValueError for more."""
    if isinstance(messages, str):
        return {"prompt": messages}
    said = turns(messages, where)
    system = said.pop(0)[1] if said[0][0] == "system" else ""
    if len(said) != 1 or said[0][0] != "user":
        raise ValueError(f"field {where!r} has {len(said)} turns, and one question of the user is expected")
    return {"prompt": said[0][1]} | ({"system": system} if system else {})


def conversation(said: list[tuple[str, str]], where: str) -> dict[str, Any]:
    """`system`, `history`, `prompt` and `response` of an example. Raises ValueError where no response is last."""
    said = list(said)
    system = said.pop(0)[1] if said[0][0] == "system" else ""
    if len(said) < PAIR or said[-1][0] != "assistant":
        raise ValueError(f"{where} does not end with a response of the assistant: there is nothing to learn from")
    history = [{"role": role, "content": content} for role, content in said[:-2]]
    fields: dict[str, Any] = {"prompt": said[-2][1], "response": said[-1][1]}
    return fields | ({"system": system} if system else {}) | ({"history": history} if history else {})
