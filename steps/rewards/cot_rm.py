"""The chain-of-thought reward model (§2.3.5): reads question, reference answer and response, reasons, then judges in
JSON. RL in the report uses this one.

Trained by SFT on written judgements. What it writes is read strictly: one flat JSON object after the reasoning, with
the one key `right`. Anything else is malformed, is asked for again with another seed, and then counts as no verdict.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

from infra.inference.requests import Completion, Request
from steps.chat import Chat
from steps.configs.judging import CotJudging
from steps.rewards.reward_model import Reader, RewardModel, Tokens
from steps.rewards.score import NoVerdict, Verdict, after_thinking
from steps.token_example import TokenExample

VERSION = "cot_rm@1"

LONGEST_VERDICT = 64
"""Characters; the verdict that the model learns has 15."""


class MalformedVerdict(ValueError):
    """What a judge wrote is not a verdict; the message says in a few words why not."""


def verdict_text(right: bool) -> str:
    """The verdict as the model learns to write it."""
    return json.dumps({"right": right})


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != len(dict(pairs)):
        raise MalformedVerdict("a key twice")
    return dict(pairs)


def parse_verdict(text: str) -> bool:
    """The verdict in a judgement. Raises MalformedVerdict.

    NOTE: the text is a model's, and may hold anything. It is parsed as JSON alone, and only if it is short and flat.
    """
    verdict = after_thinking(text)
    if verdict is None:
        raise MalformedVerdict("reasoning without an end")
    verdict = verdict.strip()
    if len(verdict) > LONGEST_VERDICT:
        raise MalformedVerdict("too long")
    if verdict.count("{") > 1 or "[" in verdict:
        raise MalformedVerdict("not flat")
    try:
        parsed = json.loads(verdict, object_pairs_hook=_without_duplicates)
    except MalformedVerdict:
        raise
    except ValueError as error:
        raise MalformedVerdict("not JSON") from error
    if not isinstance(parsed, dict) or list(parsed) != ["right"] or not isinstance(parsed["right"], bool):
        raise MalformedVerdict("not an object with the key right, true or false")
    return parsed["right"]


def judgement_example(chat: Chat, prompt: Tokens, judgement: str) -> TokenExample:
    """What the model is fine-tuned on."""
    return TokenExample([*prompt, *chat.encode_response(judgement), chat.end_token], len(prompt))


class Generates(Protocol):
    """What the model asks of an engine; described at `infra.inference.engine.Engine`."""

    def generate_all(self, requests: Sequence[Request]) -> list[Completion]: ...

    def close(self) -> None: ...


class CotRm(RewardModel):
    """The trained model."""

    def __init__(self, reader: Reader, version: str, engine: Generates, config: CotJudging) -> None:
        super().__init__(reader, version)
        self._engine = engine
        self._config = config
        self._chat = reader.chat
        self.malformed = 0
        """Judgements so far that were no verdict; some of them were asked for again."""

    def decide(self, prompts: Sequence[Tokens]) -> list[Verdict | NoVerdict]:
        """Each prompt's first well-formed verdict."""
        outcomes: dict[int, Verdict | NoVerdict] = {}
        for attempt in range(self._config.attempts):
            left = [i for i in range(len(prompts)) if not isinstance(outcomes.get(i), Verdict)]
            requests = [self._request(prompts[i], attempt) for i in left]
            for i, completion in zip(left, self._engine.generate_all(requests) if left else [], strict=True):
                outcomes[i] = self._outcome(completion)
        return [outcomes[i] for i in range(len(prompts))]

    def _request(self, prompt: Tokens, attempt: int) -> Request:
        # From the question alone: the verdict must not depend on what is judged beside it, or before.
        digest = hashlib.sha256(json.dumps([attempt, *prompt]).encode()).digest()
        seed = int.from_bytes(digest[:4], "big") % 2**31
        return Request(prompt, self._config.max_response_tokens, seed, self._config.temperature)

    def _outcome(self, completion: Completion) -> Verdict | NoVerdict:
        try:
            if completion.ended != "stop":
                raise MalformedVerdict("cut off")
            right = parse_verdict(self._chat.text(completion.tokens))
        except MalformedVerdict as error:
            self.malformed += 1
            return NoVerdict(f"{self._config.attempts} malformed judgements; the last: {error}")
        return Verdict(right, "right" if right else "wrong")

    def close(self) -> None:
        """End the engine."""
        self._engine.close()
