"""Tasks in long texts: what they ask for is in the text, their lengths are exact, and figures are counted by hand."""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.errors import LonghaulError
from infra.store.evaluation import LengthResult
from steps import context_evaluation
from steps.configs.evaluation import ContextConfig, ContextKind, EvaluationConfig
from steps.context_evaluation import context_tasks, effective_length, evaluate_context, share_held
from steps.context_tasks import make_task
from steps.nano_world.context import make_nano_task
from steps.nano_world.long import count_tokens
from tests.steps.nano_world.test_long import answer_from
from tests.steps.scripted import Answer, scripted_bench

KINDS: tuple[ContextKind, ...] = ("needles", "tracing", "aggregation", "questions")
SEEDS = st.integers(0, 10**6)


def expected_of(kind: ContextKind, text: str) -> set[str]:
    """What a reader finds who knows the form of the text alone."""
    body, _, question = text.rpartition("\n")
    if kind == "needles":
        numbers = dict(re.findall(r"The special number for (\w+) is (\d+)\.", body))
        assert len(numbers) == 4
        return {number for key, number in numbers.items() if key in question}
    if kind == "tracing":
        value = re.findall(r"value (\d+)", question)[0]
        values: dict[str, str] = {}
        for name, source in re.findall(r"^(\w+) = (\w+)$", body, re.M):
            values[name] = values.get(source, source)
        return {name for name, own in values.items() if own == value}
    if kind == "aggregation":
        return {word for word, _ in Counter(body.split()).most_common(3)}
    person = re.findall(r"does (\w+ \w+) live", question)[0]
    return set(re.findall(rf"^{person} lives in (\w+) ", body, re.M))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, room=st.sampled_from([300, 900, 5000]))
@settings(max_examples=15, deadline=None)
def test_an_english_task_fills_its_room_and_its_answer_is_in_its_text(kind: ContextKind, seed: int, room: int) -> None:
    def words(text: str) -> int:
        return len(re.findall(r"\w+|\S", text))

    task = make_task(kind, Random(seed), room, words)
    assert room - 15 <= words(task.prompt) <= room
    assert expected_of(kind, task.prompt) == set(task.expected)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, room=st.sampled_from([256, 1000]))
@settings(max_examples=15, deadline=None)
def test_a_nano_task_fills_its_room_and_its_answer_is_in_its_text(kind: ContextKind, seed: int, room: int) -> None:
    task = make_nano_task(kind, Random(seed), room)
    assert room - 12 <= count_tokens(task.prompt) <= room
    if kind == "aggregation":
        names = Counter(task.prompt.splitlines()[:-1])
        assert [name for name, _ in names.most_common(1)] == list(task.expected)
    else:
        assert (str(answer_from(task.prompt)),) == task.expected


def test_a_nano_text_longer_than_all_names_has_equations_between_them() -> None:
    task = make_nano_task("questions", Random(0), 60_000)
    assert 59_980 <= count_tokens(task.prompt) <= 60_000
    assert (str(answer_from(task.prompt)),) == task.expected


def test_nano_texts_are_refused_for_a_tokenizer_that_makes_other_lengths_of_them(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_evaluation, "count_tokens", lambda text: 2 * count_tokens(text))
    config = ContextConfig(lengths=(400,), tasks=1, words="nano_world", max_response_tokens=100)
    with (
        scripted_bench(base, lambda prompt, turn: "") as (bench, _, _),
        pytest.raises(LonghaulError, match=r"evaluation\.context\.words is nano_world, .* set it to english"),
    ):
        context_tasks(bench, config, "needles", 400)


def test_prompts_leave_room_for_the_longest_response_and_are_the_same_for_every_model(base: Path) -> None:
    config = ContextConfig(lengths=(400, 500), tasks=2, max_response_tokens=100)
    with scripted_bench(base, lambda prompt, turn: "") as (bench, _, _):
        for kind in KINDS:
            tasks = context_tasks(bench, config, kind, 400)
            assert tasks == context_tasks(bench, config, kind, 400) != context_tasks(bench, config, kind, 500)
    with scripted_bench(base, lambda prompt, turn: "") as (bench, engine, _):
        evaluate_context(bench, config)
    sizes = [len(request.tokens) + request.max_tokens for request in engine.requests]
    assert len(sizes) == 2 * len(KINDS) * 2
    assert all(360 < size <= 400 for size in sizes[:8]) and all(460 < size <= 500 for size in sizes[8:])


def test_accuracies_by_kind_and_length_are_as_counted_by_hand(base: Path) -> None:
    """The scripted model finds the facts of a shorter text, and half of what longer ones are asked for."""
    config = ContextConfig(
        lengths=(300, 450), kinds=("needles", "questions"), tasks=2, words="nano_world", max_response_tokens=40
    )

    def script(prompt: str, turn: int) -> Answer:
        text = prompt.split("user\n")[1].split("<|im_end|>")[0]
        long = count_tokens(text) > 300
        right = not long or "+" in text.splitlines()[-1] or " - " in text.splitlines()[-1]
        return Answer(f"\\boxed{{{answer_from(text) if right else 'x'}}}")

    with scripted_bench(base, script, seed=3) as (bench, _, _):
        result = evaluate_context(bench, config)
    short, long = result.lengths
    assert (short.tokens, short.tasks, short.accuracy, short.kinds) == (300, 4, 1, {"needles": 1, "questions": 1})
    assert long.kinds["questions"] == 0 and long.accuracy == long.kinds["needles"] / 2
    assert result.effective_length == 300


@pytest.mark.parametrize(
    ("expected", "response", "share"),
    [
        (("57",), "<think>\n57\n</think>\n\\boxed{57}", 1),
        (("57",), "<think>\n57\n</think>\n\\boxed{157}", 0),
        (("57",), "<think>\n57\n", 0),
        (("57", "8"), "They are 57 and 9.", 0.5),
        (("57", "8"), "\\boxed{8, 57}", 1),
        (("57",), "57 \\boxed{8}", 0),
        (("Riga",), "\\boxed{riga}", 1),
        (("a12",), "\\boxed{a1}", 0),
    ],
)
def test_an_answer_holds_a_share_of_what_is_expected(expected: tuple[str, ...], response: str, share: float) -> None:
    assert share_held(expected, response) == share


def test_the_effective_length_ends_before_the_first_length_below_the_threshold() -> None:
    def of(*accuracies: float) -> int:
        results = [
            LengthResult(tokens=1000 * (place + 1), tasks=4, accuracy=accuracy, kinds={})
            for place, accuracy in enumerate(accuracies)
        ]
        return effective_length(results, 0.85)

    assert (of(0.9, 0.85, 0.84), of(0.9, 0.5, 0.9), of(0.84, 0.9), of()) == (2000, 1000, 0, 0)


def test_settings_that_cannot_work_are_refused_and_stages_have_their_own() -> None:
    with pytest.raises(ValidationError, match=r"\[512, 300\] do not rise"):
        ContextConfig(lengths=(512, 300))
    with pytest.raises(ValidationError, match="300 leaves 200 tokens for a text beside max_response_tokens 100"):
        ContextConfig(lengths=(300,), max_response_tokens=100)
    config = EvaluationConfig(context=ContextConfig(stages=("rl",)))
    assert config.for_stage("import").context is None
    assert config.for_stage("rl") == config.for_stage(None) == EvaluationConfig(context=ContextConfig())
