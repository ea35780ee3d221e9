"""A client of an OpenAI-compatible server: many questions at once, within a rate and a budget.

Invariant: an answer that the server gave is handed over at once, whatever happens to the other requests, and no request
is begun that could exceed the budget. The key stands in the header alone: in no message, record or file.

Failures that may pass (429, 408, 5xx, a lost connection, a body without an answer) are tried again, later each time; a
Retry-After is obeyed by all requests. What cannot pass (a wrong key, a wrong address) ends everything at once.
"""

import asyncio
import email.utils
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import httpx

from infra.errors import LonghaulError
from infra.inference.chat_answer import ChatAnswer, ChatRequest, UnreadableAnswer, error_message, read_answer
from infra.inference.endpoint_config import EndpointConfig
from infra.inference.spending import Spending

LONGEST_PAUSE = 900.0
"""Seconds of Retry-After that are waited for; a server that wants more ends the work."""

FIRST_PAUSE, LONGEST_BACKOFF = 1.0, 60.0
"""Seconds before the second attempt, twice as many before each further one, and at most."""

UNREADABLE_ATTEMPTS = 3
"""Attempts for a body without an answer, and for an answer that does not come in time: each may be billed."""

LATE = (504, 524)
"""What a gateway says where the server behind it took too long, which may still answer, and bill."""

HOPELESS = 5
"""Requests without an answer after which, with no answer at all, the server is taken not to be the right one."""


class EndpointFailed(LonghaulError, RuntimeError):
    """The server gives no further answers; the message says why and the way out."""


class _Passing(Exception):
    """The same request may be answered later."""

    def __init__(self, reason: str, *, pause: float = 0.0, billed: bool = False, all_fail: bool = True) -> None:
        super().__init__(reason)
        self.pause = pause
        """Seconds that the server asks all to wait."""
        self.billed = billed
        """Whether it may have been answered, and counts as spent."""
        self.all_fail = all_fail
        """Whether the server is taken to be gone after the last attempt; otherwise this one request has no answer, and
        is tried less often where it may be billed."""


@dataclass
class _Lost:
    """Tokens, of prompt and answer, of a request's attempts that may have been billed and gave nothing."""

    tokens: tuple[int, int] = (0, 0)

    def add(self, tokens: tuple[int, int]) -> None:
        self.tokens = (self.tokens[0] + tokens[0], self.tokens[1] + tokens[1])


class ChatEndpoint:
    """A server, and one model on it."""

    def __init__(self, config: EndpointConfig, key: str | None = None, spending: Spending | None = None) -> None:
        """`spending` is what was used before."""
        self.config = config
        self.spending = spending or Spending(config)
        self._key = key
        self._random = random.Random()  # its own: the global one belongs to what a run's seed decides

    def ask(
        self, requests: Sequence[ChatRequest], answered: Callable[[int, ChatAnswer], None], usable: int = 0
    ) -> None:
        """Ask all, and call `answered` with a request's place and its answer as soon as it is there.

        Args:
            usable: answers that this server gave before.

        Raises EndpointFailed, after the answers that were on their way, where there are no further ones.
        """
        asyncio.run(self._ask(requests, answered, usable))

    async def _ask(
        self, requests: Sequence[ChatRequest], answered: Callable[[int, ChatAnswer], None], usable: int
    ) -> None:
        self._failure: EndpointFailed | None = None
        self._over, self._settled = asyncio.Event(), asyncio.Event()
        self._next_start = self._paused_until = 0.0
        self._usable, self._reasons = usable, Counter[str]()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx.Limits(max_connections=self.config.concurrency)
        # The whole request has one limit, in _attempt; connecting has a shorter one of its own.
        timeout = httpx.Timeout(None, connect=min(30.0, self.config.timeout_seconds))
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout) as client:
            places = iter(enumerate(requests))
            workers = min(self.config.concurrency, len(requests))
            await asyncio.gather(*(self._work(client, places, answered) for _ in range(workers)))
        if self._failure is not None:
            raise self._failure

    async def _work(
        self,
        client: httpx.AsyncClient,
        requests: Iterator[tuple[int, ChatRequest]],
        answered: Callable[[int, ChatAnswer], None],
    ) -> None:
        for place, request in requests:
            lost = _Lost()
            try:
                answer = await self._answer(client, request, lost)
            except (EndpointFailed, asyncio.CancelledError) as failure:
                if lost.tokens != (0, 0):  # they may be billed, and count when the work is resumed
                    answered(place, ChatAnswer("failed", reason="interrupted", lost=lost.tokens, passing=True))
                if not isinstance(failure, EndpointFailed):
                    raise
                self._end(failure)
            else:
                answered(place, answer)
                self._judge(answer)
            if self._failure is not None:
                return

    def _end(self, failure: EndpointFailed) -> None:
        """Begin nothing more; the first reason counts."""
        self._failure = self._failure or failure
        self._over.set()
        self._settled.set()

    def _judge(self, answer: ChatAnswer) -> None:
        if answer.ended != "failed":
            self._usable += 1
            return
        self._reasons[answer.reason] += 1
        if not self._usable and self._reasons.total() >= HOPELESS:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in self._reasons.most_common())
            self._end(
                EndpointFailed(
                    f"{self.config.url} gave no answer to the first {self._reasons.total()} requests ({reasons}): "
                    "check url, model and parameters"
                )
            )

    async def _answer(self, client: httpx.AsyncClient, request: ChatRequest, lost: _Lost) -> ChatAnswer:
        """Attempts until there is an answer, or there will be none. Raises EndpointFailed."""
        for attempt in itertools.count(1):
            await self._turn()
            reserved = await self._reserve(request)
            try:
                answer = await self._attempt(client, request)
            except _Passing as passing:
                self._settle(reserved, reserved if passing.billed else (0, 0))
                if passing.billed:
                    lost.add(reserved)
                most = self.config.retries + 1
                if passing.billed and not passing.all_fail:
                    most = min(UNREADABLE_ATTEMPTS, most)
                if attempt < most:
                    await self._pause(passing, attempt)
                elif passing.all_fail:
                    raise EndpointFailed(
                        f"{self.config.url}: {passing}, {attempt} times: run again later, which resumes with the "
                        "answers that are there, or raise retries or lower concurrency"
                    ) from passing
                else:
                    return ChatAnswer("failed", reason=str(passing), lost=lost.tokens, passing=True)
            except EndpointFailed:
                self._settle(reserved, (0, 0))
                raise
            except asyncio.CancelledError:
                lost.add(reserved)
                raise
            else:
                self._settle(reserved, (answer.prompt_tokens, answer.completion_tokens))
                return self._hidden(replace(answer, lost=lost.tokens))
        raise AssertionError

    async def _reserve(self, request: ChatRequest) -> tuple[int, int]:
        """Reserve what a request may need, once what is under way leaves room for it. Raises EndpointFailed."""
        needed = request.most_prompt_tokens, max(request.max_tokens, self.config.most_completion_tokens)
        while self._failure is None:
            if self.spending.reserve(*needed):
                return needed
            if not self.spending.under_way:
                raise EndpointFailed(
                    f"{self.spending.limits}, and the next request could exceed that ({sum(needed):,} tokens): raise "
                    "the limit to resume with the answers that are there, or lower problems or samples"
                )
            self._settled.clear()
            await self._settled.wait()
        raise self._failure

    def _settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        self.spending.settle(reserved, used)
        self._settled.set()

    async def _pause(self, passing: _Passing, attempt: int) -> None:
        """Wait before the next attempt. Raises EndpointFailed where the server wants it to take too long."""
        if passing.pause > LONGEST_PAUSE:
            raise EndpointFailed(
                f"{self.config.url} asks to wait {passing.pause:.0f} s ({passing}): run again later, which resumes "
                "with the answers that are there"
            )
        pause = min(LONGEST_BACKOFF, FIRST_PAUSE * 2 ** (attempt - 1)) * self._random.uniform(0.5, 1.0)
        if passing.pause:
            self._paused_until = max(self._paused_until, time.monotonic() + passing.pause)
        await self._sleep(max(pause, passing.pause))

    async def _sleep(self, seconds: float) -> None:
        """Wait so long, or until everything ends."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return

    async def _turn(self) -> None:
        """Wait until a request may be begun: a pause may have been asked for while it waited for its turn."""
        while self._failure is None:
            start = max(time.monotonic(), self._next_start, self._paused_until)
            if self.config.requests_per_minute is not None:
                self._next_start = start + 60 / self.config.requests_per_minute
            if (wait := start - time.monotonic()) > 0:
                await self._sleep(wait)
            if self._paused_until <= time.monotonic():
                return

    async def _attempt(self, client: httpx.AsyncClient, request: ChatRequest) -> ChatAnswer:
        """One request. Raises _Passing and EndpointFailed."""
        config = self.config
        usual = {"max_tokens": request.max_tokens, "temperature": request.temperature, "seed": request.seed}
        body = {name: value for name, value in {**usual, **config.parameters}.items() if value is not None}
        body |= {"model": config.model, "messages": request.messages, "stream": False}
        most = 2**20 + 64 * request.max_tokens
        try:
            async with (
                asyncio.timeout(config.timeout_seconds),
                client.stream("POST", f"{config.url}/chat/completions", json=body) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > most:
                        return ChatAnswer(
                            "failed", "", "", "an answer that is too long", request.estimated_tokens, request.max_tokens
                        )
                return self._read(response, bytes(content), request)
        except TimeoutError as error:
            reason = f"no answer within {config.timeout_seconds:g} s"
            raise _Passing(reason, billed=True, all_fail=False) from error
        except httpx.InvalidURL as error:
            raise EndpointFailed(f"{config.url} is not an address ({error}): correct url") from error
        except httpx.TransportError as error:
            # Its text can name the address, and nothing of the header.
            reason = self._without_key(" ".join(str(error).split())) or "the connection was lost"
            billed = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise _Passing(f"{type(error).__name__}: {reason}", billed=billed) from error

    def _read(self, response: httpx.Response, body: bytes, request: ChatRequest) -> ChatAnswer:
        """The answer of a whole response. Raises _Passing and EndpointFailed."""
        status, url = response.status_code, self.config.url
        if status == 200:
            try:
                return read_answer(body, request)
            except UnreadableAnswer as error:
                raise _Passing(str(error), billed=True, all_fail=False) from error
        reason = f"HTTP {status}"
        said = self._without_key(error_message(body))[:300]  # cut last: a part of the key would be left
        if status in (401, 403):
            variable = self.config.key_variable
            key = (
                f"the key in {variable}" if variable else "a request without a key (name its variable in key_variable)"
            )
            raise EndpointFailed(f"{url} refuses {key}: {reason}: {said}")
        if 300 <= status < 400:
            place = self._without_key(response.headers.get("Location", "another address"))[:300]
            raise EndpointFailed(f"{url} leads to {place}, which is not followed: give the right address as url")
        if status in (404, 405):
            raise EndpointFailed(f"{url}/chat/completions: {reason}: {said}: check url and model ({self.config.model})")
        if status == 402 or b'"insufficient_quota"' in body:
            raise EndpointFailed(f"{url}: {reason}: {said}: the account has no credit left; what is answered is kept")
        if status in (408, 425, 429) or status >= 500:
            pause = _retry_after(response.headers.get("Retry-After"))
            raise _Passing(f"{reason}: {said}", pause=pause, billed=status in LATE, all_fail=status != 500)
        return ChatAnswer("failed", reason=f"{reason}: {said}"[:200])

    def _hidden(self, answer: ChatAnswer) -> ChatAnswer:
        """An answer without the key, which a server that repeats the request would give."""
        return replace(answer, text=self._without_key(answer.text), thinking=self._without_key(answer.thinking))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as such or as a date (RFC 9110, 10.2.3); 0 where it does not."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(0.0, seconds) if seconds == seconds else 0.0  # not NaN
