"""What an OpenAI-compatible server is asked and answers, read with distrust: types, and the reading of a body.

The protocol is OpenAI's "Create chat completion": POST /chat/completions.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ChatRequest:
    """A question."""

    content: str
    max_tokens: int
    temperature: float
    seed: int
    system: str = ""
    """A system turn before it; empty: none."""

    @property
    def estimated_tokens(self) -> int:
        """Of the prompt, about so many: three bytes a token, and those of a chat format."""
        return self._bytes // 3 + 50

    @property
    def most_prompt_tokens(self) -> int:
        """No tokenizer makes more of it: a token holds a byte at least, and digits are often tokens of their own."""
        return self._bytes + 50

    @property
    def _bytes(self) -> int:
        return len(self.system.encode()) + len(self.content.encode())

    @property
    def messages(self) -> list[dict[str, str]]:
        """As the protocol has them."""
        turns = [("system", self.system), ("user", self.content)]
        return [{"role": role, "content": content} for role, content in turns if content]


@dataclass(frozen=True)
class ChatAnswer:
    """What came of a request."""

    ended: Literal["stop", "length", "failed"]
    """`length`: cut at max_tokens. `failed`: there is no answer, for `reason`."""
    text: str = ""
    thinking: str = ""
    """Reasoning that the server gives apart from the answer."""
    reason: str = ""
    """Why there is none; a few words, which hold nothing of the answer."""
    prompt_tokens: int = 0
    """As the server counts them; estimated where it does not say."""
    completion_tokens: int = 0
    lost: tuple[int, int] = (0, 0)
    """Tokens, of prompt and answer, of attempts that may have been billed and gave nothing."""
    passing: bool = False
    """Whether the same request may be answered another time."""


class UnreadableAnswer(ValueError):
    """A body is not an answer; the message says why in a few words, and holds nothing of the body."""


def read_answer(body: bytes, request: ChatRequest) -> ChatAnswer:
    """The answer in a response's body.

    An answer that was refused or is empty is `failed`. Raises UnreadableAnswer for a body that is none, a page of HTML
    or what a proxy writes, which another attempt may get past.
    """
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError) as error:
        kind = "HTML" if body.lstrip()[:1] == b"<" else "no JSON"
        raise UnreadableAnswer(f"{kind} in place of an answer") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("choices"), list):
        raise UnreadableAnswer("JSON without the list `choices`")
    prompt_tokens, completion_tokens = _usage(whole.get("usage"), body, request)

    def failed(reason: str) -> ChatAnswer:
        return ChatAnswer("failed", "", "", reason, prompt_tokens, completion_tokens)

    if not whole["choices"]:
        return failed("no choices")
    choice = whole["choices"][0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return failed("a choice without a message")
    content = message.get("content")
    # A server may give both names, one of them null.
    names = ("reasoning_content", "reasoning")
    thinking = next((message[name] for name in names if message.get(name) is not None), None)
    if not isinstance(content, str | None) or not isinstance(thinking, str | None):
        return failed("an answer that is not text")
    content, thinking = content or "", thinking or ""
    try:
        f"{content}{thinking}".encode()
    except UnicodeEncodeError:
        return failed("half of a surrogate pair in the answer")
    finish = choice.get("finish_reason")
    if finish == "length":
        return ChatAnswer("length", content, thinking, "", prompt_tokens, completion_tokens)
    if finish not in ("stop", None):
        return failed("finished for another reason than its end")
    if not content.strip():
        return failed("an empty answer")
    return ChatAnswer("stop", content, thinking, "", prompt_tokens, completion_tokens)


def _usage(usage: Any, body: bytes, request: ChatRequest) -> tuple[int, int]:
    """Tokens of prompt and answer: the server's count, or an estimate where it gives none that can be right."""

    def count(name: str, estimate: int) -> int:
        value = usage.get(name) if isinstance(usage, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else estimate

    return count("prompt_tokens", request.estimated_tokens), count("completion_tokens", len(body) // 3)


def error_message(body: bytes) -> str:
    """What a server says of a refusal, in one line without what a terminal would obey or a file cannot hold."""
    try:
        whole = json.loads(body)
        error = whole.get("error", whole) if isinstance(whole, dict) else whole
        text = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        text = "a page of HTML" if body.lstrip()[:1] == b"<" else body.decode("utf-8", "replace")
    return " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())
