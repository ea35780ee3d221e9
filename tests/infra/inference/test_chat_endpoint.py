"""The client of an OpenAI-compatible server, against a server that misbehaves over real sockets."""

import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from infra.inference import chat_endpoint
from infra.inference.chat_answer import ChatAnswer, ChatRequest
from infra.inference.chat_endpoint import ChatEndpoint, EndpointFailed
from infra.inference.endpoint_config import EndpointConfig, KeyUnusable
from infra.inference.spending import Spending
from tests.chat_server import ChatServer, Reply, answer, chat_server

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_endpoint, "FIRST_PAUSE", 0.02)


def queries(count: int, max_tokens: int = 100) -> list[ChatRequest]:
    return [ChatRequest(f"question {number}", max_tokens, 0.5, number) for number in range(count)]


def ask(
    server: ChatServer, requests: list[ChatRequest], key: str | None = None, usable: int = 0, **config: Any
) -> dict[int, ChatAnswer]:
    """The answers by place; the failure, if any, is raised with them as `answers`."""
    answers: dict[int, ChatAnswer] = {}
    endpoint = ChatEndpoint(EndpointConfig(url=server.url, model="teacher", **config), key)
    try:
        endpoint.ask(requests, answers.__setitem__, usable)
    except EndpointFailed as failure:
        failure.answers = answers  # type: ignore[attr-defined]
        raise
    return answers


def first_then(first: Reply, times: int = 1) -> Callable[[str, int], Reply]:
    """The same reply so many times, and then an answer."""
    return lambda question, turn: first if turn < times else answer(f"to {question}")


def test_each_question_gets_its_answer_and_the_request_says_what_is_wanted_of_it() -> None:
    with chat_server(lambda question, turn: answer(f"to {question}")) as server:
        answers = ask(server, queries(20), KEY, concurrency=4)
    assert {place: one.text for place, one in answers.items()} == {n: f"to question {n}" for n in range(20)}
    assert set(server.keys) == {f"Bearer {KEY}"} and server.most_at_once <= 4
    (request,) = [one for one in server.requests if one["messages"][0]["content"] == "question 7"]
    assert request == {
        "model": "teacher",
        "messages": [{"role": "user", "content": "question 7"}],
        "stream": False,
        "max_tokens": 100,
        "temperature": 0.5,
        "seed": 7,
    }


def test_parameters_replace_and_leave_out_fields() -> None:
    with chat_server(lambda question, turn: answer("yes")) as server:
        ask(server, queries(1), parameters={"max_tokens": None, "seed": None, "max_completion_tokens": 70})
    assert server.keys == [None]
    assert server.requests[0].keys() == {"model", "messages", "stream", "temperature", "max_completion_tokens"}


PASSING = {
    "429": Reply(b'{"error": {"message": "slow down"}}', 429),
    "500": Reply(b"", 500),
    "503": Reply(b"<html>busy</html>", 503),
    "connection cut": Reply(b'{"choices": [', cut=True),
    "HTML instead of JSON": Reply(b"<html>Welcome</html>"),
    "another JSON": Reply(b'["choices"]'),
    "no JSON": Reply(b'{"choices": '),
    "deep JSON": Reply(b"[" * 100_000),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_pass_is_tried_again(kind: str) -> None:
    with chat_server(first_then(PASSING[kind])) as server:
        answers = ask(server, queries(3))
    assert [answers[place].text for place in range(3)] == [f"to question {place}" for place in range(3)]
    assert len(server.requests) == 6


UNUSABLE = {
    "no choices": Reply(b'{"choices": []}'),
    "a choice without a message": Reply(b'{"choices": [7]}'),
    "an answer that is not text": answer([{"type": "text", "text": "7"}]),
    "an empty answer": answer(None),
    "half of a surrogate pair in the answer": answer("7 \ud800"),
    "finished for another reason than its end": answer("7", finish="content_filter"),
    "an answer that is too long": answer("7" * 2_000_000),
    "HTTP 400: too many tokens": Reply(b'{"error": {"message": "too many\\ntokens"}}', 400),
    "HTTP 400: red [31m half": Reply(b'{"error": {"message": "red \\u001b[31m half \\ud800"}}', 400),
}


@pytest.mark.parametrize("reason", UNUSABLE)
def test_an_answer_that_cannot_be_used_says_why_and_is_not_asked_for_again(reason: str) -> None:
    with chat_server(lambda q, turn: UNUSABLE[reason] if q == "question 1" else answer("7")) as server:
        answers = ask(server, queries(3))
    assert answers[1].ended == "failed" and answers[1].reason == reason and not answers[1].passing
    assert answers[0].text == answers[2].text == "7" and len(server.requests) == 3


def test_a_cut_answer_and_separate_reasoning_are_recognised() -> None:
    replies = {
        "question 0": answer("7", "length"),
        "question 1": answer("7", reasoning_content="3 + 4"),
        "question 2": answer("7", reasoning_content=None, reasoning="3 + 4"),
    }
    with chat_server(lambda question, turn: replies[question]) as server:
        answers = ask(server, queries(3))
    assert answers[0].ended == "length"
    assert (answers[1].thinking, answers[1].text) == (answers[2].thinking, answers[2].text) == ("3 + 4", "7")


def test_a_system_turn_goes_before_the_question() -> None:
    with chat_server(lambda question, turn: answer("7")) as server:
        ask(server, [ChatRequest("How many?", 10, 0.5, 0, system="You count.")])
    assert server.requests[0]["messages"] == [
        {"role": "system", "content": "You count."},
        {"role": "user", "content": "How many?"},
    ]


@pytest.mark.parametrize("kind", ["connection cut", "HTML instead of JSON", "504"])
def test_an_attempt_that_may_be_billed_counts_in_full(kind: str) -> None:
    replies = PASSING | {"504": Reply(b"", 504)}
    with chat_server(first_then(replies[kind])) as server:
        answers = ask(server, queries(1))
    assert answers[0].text and answers[0].lost == (queries(1)[0].most_prompt_tokens, 100)


def test_an_attempt_that_may_be_billed_is_handed_over_where_the_budget_ends_its_request() -> None:
    needed = queries(1)[0].most_prompt_tokens + 100
    with (
        chat_server(lambda question, turn: Reply(seconds=30)) as server,
        pytest.raises(EndpointFailed, match="max_total_tokens") as failed,
    ):
        ask(server, queries(3), concurrency=1, timeout_seconds=0.2, max_total_tokens=needed + 10)
    (lost,) = failed.value.answers.values()  # type: ignore[attr-defined]
    assert (lost.ended, lost.passing, sum(lost.lost)) == ("failed", True, needed)


def test_a_pause_holds_back_who_waits_for_a_turn() -> None:
    times: list[float] = []

    def script(question: str, turn: int) -> Reply:
        times.append(time.monotonic())
        return Reply(b"", 429, {"Retry-After": "1"}) if len(times) == 1 else answer("7")

    with chat_server(script) as server:
        ask(server, queries(3), concurrency=3, requests_per_minute=200)
    assert times[1] - times[0] >= 0.95


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_holds_back_all_requests(form: str) -> None:
    times: list[float] = []

    def script(question: str, turn: int) -> Reply:
        times.append(time.monotonic())
        if len(times) > 1:
            return answer("7")
        # Dates have whole seconds.
        after = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
        return Reply(b"", 429, {"Retry-After": after})

    with chat_server(script) as server:
        ask(server, queries(3), concurrency=1)
    assert times[1] - times[0] >= 0.95


def test_a_pause_of_hours_ends_the_work_with_what_is_there() -> None:
    long = Reply(b"", 429, {"Retry-After": "7200"})
    with (
        chat_server(lambda question, turn: long if question == "question 2" else answer("7")) as server,
        pytest.raises(EndpointFailed, match=r"asks to wait 7200 s .*resumes with the answers that are there") as failed,
    ):
        ask(server, queries(9), concurrency=1)
    assert set(failed.value.answers) == {0, 1}  # type: ignore[attr-defined]


def test_a_wrong_key_is_named_at_once_and_never_shown() -> None:
    refusal = Reply(f'{{"error": {{"message": "Incorrect API key: {KEY}"}}}}'.encode(), 401)
    with (
        chat_server(lambda question, turn: refusal) as server,
        pytest.raises(EndpointFailed, match="refuses the key in TEACHER_KEY: HTTP 401: Incorrect API key: ") as failed,
    ):
        ask(server, queries(9), KEY, concurrency=1, key_variable="TEACHER_KEY")
    assert len(server.requests) == 1, "a wrong key was tried again"
    assert KEY not in str(failed.value)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"", 302, {"Location": f"https://elsewhere.example/?key={KEY}"}),
        Reply(f"{'x' * 290}{KEY}".encode(), 403),
    ],
)
def test_a_server_that_repeats_the_key_does_not_bring_it_into_messages(reply: Reply) -> None:
    with chat_server(lambda question, turn: reply) as server, pytest.raises(EndpointFailed) as failed:
        ask(server, queries(1), KEY)
    assert KEY[:6] not in str(failed.value)


def test_a_server_that_repeats_the_key_does_not_bring_it_into_answers() -> None:
    with chat_server(lambda question, turn: answer(f"7, Bearer {KEY}", reasoning=KEY)) as server:
        answers = ask(server, queries(1), KEY)
    assert (answers[0].text, answers[0].thinking) == ("7, Bearer ***", "***")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"{}", 404), "HTTP 404.*check url and model"),
        (Reply(b"", 307, {"Location": "https://elsewhere.example/v1"}), "leads to https://elsewhere.example/v1"),
        (Reply(b'{"error": {"code": "insufficient_quota", "message": "pay"}}', 429), "no credit left"),
        (Reply(b"{}", 400), "gave no answer to the first 5 requests"),
        (Reply(b"<html>"), r"gave no answer to the first 5 requests \(5 × HTML in place of an answer\)"),
        (Reply(b"", 502), "HTTP 502: , 7 times"),
    ],
)
def test_a_server_that_gives_no_answers_is_given_up_with_the_way_out(reply: Reply, message: str) -> None:
    with chat_server(lambda question, turn: reply) as server, pytest.raises(EndpointFailed, match=message):
        ask(server, queries(30), concurrency=1)
    assert len(server.requests) <= 15


def test_a_server_that_is_not_there_is_named() -> None:
    with chat_server(lambda question, turn: answer("7")) as server:
        pass
    with pytest.raises(EndpointFailed, match=r"ConnectError: .*, 3 times"):
        ask(server, queries(2), retries=2)


def test_a_slow_answer_costs_its_own_time_and_not_the_others() -> None:
    with chat_server(lambda q, turn: Reply(seconds=30) if q == "question 0" else answer("7")) as server:
        start = time.monotonic()
        answers = ask(server, queries(6), timeout_seconds=0.3, retries=1)
        assert time.monotonic() - start < 5
    assert answers[0].reason == "no answer within 0.3 s" and answers[0].passing
    # It may have been answered, and be billed: twice, with all that it was allowed to write.
    assert answers[0].lost == (2 * queries(1)[0].most_prompt_tokens, 200)
    assert all(answers[place].text == "7" for place in range(1, 6))


def test_requests_are_begun_no_faster_than_the_rate() -> None:
    with chat_server(lambda question, turn: answer("7")) as server:
        start = time.monotonic()
        ask(server, queries(5), requests_per_minute=600)
        assert time.monotonic() - start >= 0.39


def test_no_request_is_begun_that_could_exceed_the_tokens() -> None:
    needed = queries(50)[49].most_prompt_tokens + 100
    with (
        chat_server(lambda question, turn: answer("7")) as server,
        pytest.raises(
            EndpointFailed, match=r"tokens; max_total_tokens is 400, and the next .* raise the limit"
        ) as failed,
    ):
        ask(server, queries(50), concurrency=8, max_total_tokens=400)
    # An answer used 15; while several are under way, each may still need all that it is allowed.
    assert len(failed.value.answers) == len(server.requests) == (400 - needed) // 15 + 1  # type: ignore[attr-defined]


def test_no_request_is_begun_that_could_exceed_the_cost_counting_what_was_spent_before() -> None:
    config = EndpointConfig(url="http://127.0.0.1:1/v1", model="m", max_cost=1.0, prompt_price=1, completion_price=10)
    assert Spending(config).reserve(100_000, 80_000)
    spent = Spending(config, 500_000, 30_000)
    assert spent.cost == pytest.approx(0.8)
    assert not spent.reserve(10_000, 20_000) and spent.reserve(100_000, 10_000)
    assert not spent.reserve(1_000, 100), "what is reserved counts"
    spent.settle((100_000, 10_000), (50_000, 0))
    assert spent.reserve(1_000, 100) and "which cost 0.85; max_cost is 1" in spent.limits


def test_a_count_of_tokens_that_cannot_be_right_is_estimated() -> None:
    body = b'{"choices": [{"message": {"content": "7"}}], "usage": {"prompt_tokens": -5, "completion_tokens": true}}'
    with chat_server(lambda question, turn: Reply(body)) as server:
        answers = ask(server, queries(1))
    assert (answers[0].prompt_tokens, answers[0].completion_tokens) == (
        queries(1)[0].estimated_tokens,
        len(body) // 3,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "https://user:key@host/v1"}, "name an environment variable in key_variable"),
        ({"url": "host/v1"}, "not an http address"),
        ({"url": "https://host:port/v1"}, "is not an address"),
        ({"url": "https://host/v1?key=7"}, "has a query"),
        ({"url": "https://host/v1/chat/completions"}, "already names the call"),
        ({"parameters": {"model": "other", "n": 2}}, "model, n cannot be set here"),
        ({"max_cost": 1.0}, "max_cost needs prompt_price"),
        ({"max_total_tokens": 9, "parameters": {"max_tokens": None}}, "give parameters.max_completion_tokens"),
        ({"key_variable": "sk-secret"}, "should match pattern"),
    ],
)
def test_a_section_that_cannot_work_is_refused_with_the_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EndpointConfig(**{"url": "https://host/v1", "model": "m", **changes})


def test_a_limit_of_answers_that_parameters_give_is_what_is_reserved() -> None:
    config = {"max_tokens": None, "max_completion_tokens": 2000.0}
    assert EndpointConfig(url="https://host/v1", model="m", parameters=config).most_completion_tokens == 2000
    with (
        chat_server(lambda question, turn: answer("7")) as server,
        pytest.raises(EndpointFailed, match=r"\(2,060 tokens\)"),
    ):
        ask(server, queries(1), max_total_tokens=2050, parameters=config)
    assert not server.requests


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no environment variable has that name"),
        (" \n", "or it is empty"),
        ("k\u00e9y", "beyond printable ASCII"),
    ],
)
def test_a_key_that_is_missing_or_cannot_be_sent_is_refused_by_its_variables_name(
    value: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEACHER_KEY", value)
    config = EndpointConfig(url="https://host/v1", model="m", key_variable="TEACHER_KEY")
    with pytest.raises(KeyUnusable, match=f"here.key_variable names TEACHER_KEY, .*{message}"):
        config.read_key("here")
