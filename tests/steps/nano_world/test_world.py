"""The nano world: reproducible, split cleanly, and right in every line that its authors write."""

import re
import statistics
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from steps.configs.data import NanoWorldConfig
from steps.evaluation import percentile
from steps.long_cot import behaviours
from steps.nano_world.arithmetic import LARGEST, make_chain
from steps.nano_world.congruence import TRIES, candidates, make_search
from steps.nano_world.programs import make_program
from steps.nano_world.task import Task
from steps.nano_world.unsuitable import KINDS, make_unsuitable
from steps.nano_world.world import DIFFICULTIES, DOMAINS, MAKERS, NanoWorld, generate, tasks
from steps.problem import Example, Problem, load_examples, load_problems
from steps.question_form import question_form
from steps.rewards.scorer import Scorer

SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module")
def world() -> NanoWorld:
    return generate(NanoWorldConfig(), 0)


def prompt_digest(example: Example) -> str:
    return Problem(id="x", prompt=example.prompt, answer="1", verifier="math").digest


def test_equal_seeds_give_equal_worlds_and_others_do_not() -> None:
    config = NanoWorldConfig(train_problems=60, test_problems=20, sft_examples=40, long_cot_paths=30)
    assert generate(config, 3) == generate(config, 3)
    assert not {p.digest for p in generate(config, 3).test} <= {p.digest for p in generate(config, 4).test}


def test_a_world_has_the_sizes_that_were_asked_for(world: NanoWorld) -> None:
    config = NanoWorldConfig()
    sizes = (len(world.train), len(world.test), len(world.sft), len(world.long_cot))
    assert sizes == (config.train_problems, config.test_problems, config.sft_examples, config.long_cot_paths)
    ids = [problem.id for problem in world.train + world.test]
    assert len(ids) == len(set(ids))


def test_no_prompt_is_in_two_of_train_test_and_sft(world: NanoWorld) -> None:
    train, test = ([problem.digest for problem in problems] for problems in (world.train, world.test))
    sft = [prompt_digest(example) for example in world.sft]
    together = Counter([*train, *test, *sft])
    assert max(together.values()) == 1


def test_long_paths_belong_to_suitable_training_problems_and_ask_their_prompt(world: NanoWorld) -> None:
    train = {problem.id: problem for problem in world.train}
    for path in world.long_cot:
        assert train[path.problem_id].text == path.prompt and train[path.problem_id].domain in DOMAINS


def test_saved_worlds_come_back_equal(world: NanoWorld, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("world")
    world.save(folder)
    assert load_problems(folder / "train.jsonl") == world.train and load_problems(folder / "test.jsonl") == world.test
    assert (
        load_examples(folder / "sft.jsonl") == world.sft and load_examples(folder / "long_cot.jsonl") == world.long_cot
    )


def test_all_domains_and_difficulties_occur_and_a_sixth_of_the_prompts_is_unsuitable(world: NanoWorld) -> None:
    domains = Counter(problem.domain for problem in world.train)
    assert domains.keys() == {*DOMAINS, *KINDS}
    assert sum(domains[kind] for kind in KINDS) == 1200 // 6 and min(domains[kind] for kind in KINDS) >= 20
    for domain in MAKERS:
        assert {p.difficulty for p in world.train if p.domain == domain} == set(DIFFICULTIES)
    assert {problem.domain for problem in world.test} == set(DOMAINS)


def test_curation_sees_the_form_of_every_unsuitable_prompt_and_of_no_other(world: NanoWorld) -> None:
    rng = Random(0)
    for problem in [*world.train, *world.test, *(make_unsuitable(rng) for _ in range(200))]:
        expected = problem.domain if problem.domain in KINDS and problem.domain != "guessable" else None
        assert question_form(problem.text) == expected, problem.text


def test_answers_of_unsuitable_prompts_are_right() -> None:
    rng = Random(1)
    for problem in (make_unsuitable(rng) for _ in range(300)):
        numbers = [int(number) for number in re.findall(r"\d+", problem.text)]
        if problem.domain == "guessable":
            assert int(problem.answer) == (numbers[0] + numbers[1]) * numbers[2] % 2
        elif problem.domain == "multiple choice":
            place = "ABCD".index(problem.answer)
            assert numbers[2 + place] == numbers[0] + numbers[1] and len(set(numbers[2:])) == 4
        elif problem.domain == "true or false":
            assert problem.answer == str(numbers[0] % numbers[1] == numbers[2])


def boxed(response: str) -> str | None:
    results = re.findall(r"\\boxed\{([^}]*)\}", response)
    return results[-1] if results else None


@settings(max_examples=200)
@given(SEEDS, st.integers(1, 10))
def test_chains_stay_in_bounds_and_give_the_answer_that_their_words_ask_for(seed: int, steps: int) -> None:
    task = make_chain(Random(seed), steps)
    start, *sentences = task.problem.text.removesuffix(" What is the result?").split(". ")
    value = int(start.removeprefix("Start with "))
    assert len(sentences) == steps
    for words in sentences:
        number = int(re.findall(r"\d+", words)[0])
        if words.startswith("Divide"):
            assert value % number == 0
        value = {"A": value + number, "S": value - number, "M": value * number, "D": value // number}.get(
            words[0] if not words.startswith("Take") else "T", value % number
        )
        assert 0 <= value <= LARGEST
    assert task.problem.answer == str(value) == boxed(task.short) == boxed(task.long(Random(seed)))


@settings(max_examples=200)
@given(SEEDS, st.integers(1, 5))
def test_searches_have_the_smallest_solution_and_the_length_of_their_difficulty(seed: int, difficulty: int) -> None:
    task = make_search(Random(seed), difficulty)
    small, rest, large, other = map(int, re.findall(r"\d+", task.problem.text))
    smallest = next(x for x in range(1, 1000) if x % small == rest and x % large == other)
    assert task.problem.answer == str(smallest) == boxed(task.short) == boxed(task.long(Random(seed)))
    least, most = TRIES[difficulty]
    assert least <= len(candidates(small, rest, smallest)) <= most


EQUATION = re.compile(r"(-?\d+) (\+|-|\*|/|mod) (-?\d+) = (-?\d+)")


def assert_true_equations(text: str) -> None:
    for a, sign, b, result in EQUATION.findall(text):
        x, y, z = int(a), int(b), int(result)
        right = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else None, "mod": x % y if y else None}[sign]
        assert right == z, f"{a} {sign} {b} = {result} in {text!r}"


@settings(max_examples=300)
@given(SEEDS, st.sampled_from(sorted(MAKERS)), st.sampled_from(DIFFICULTIES))
def test_every_line_of_a_path_is_true_but_for_slips_that_it_takes_back(seed: int, domain: str, difficulty: int) -> None:
    task = MAKERS[domain](Random(seed), difficulty)
    assert_true_equations(task.short)
    for line in task.long(Random(seed + 1)).splitlines():
        slip, taken_back, fixed = line.partition("Wait: ")
        if taken_back:
            # The slip itself is wrong; what follows from it, going back, is true and does not return to the start.
            first, *back = EQUATION.findall(slip)
            assert first[:3] == EQUATION.findall(fixed)[0][:3] and first[3] != EQUATION.findall(fixed)[0][3]
            assert all(step[3] != first[0] for step in back)
            assert_true_equations(fixed)
        else:
            assert_true_equations(line)


def some_tasks(count: int) -> list[Task]:
    rng, taken = Random(11), set[str]()
    fresh = tasks(rng, taken)
    return [next(fresh) for _ in range(count)]


def test_every_authors_path_is_accepted_by_the_verifier() -> None:
    made = some_tasks(100)
    pairs = [(task.problem, response) for task in made for response in (task.short, task.long(Random(5)))]
    with Scorer() as scorer:
        scores = scorer.score_many(pairs)
    assert [pair[1] for pair, score in zip(pairs, scores, strict=True) if score.value != 1.0] == []


def test_the_verifier_refuses_another_tasks_path() -> None:
    made = [task for task in some_tasks(60) if task.problem.verifier == "math"]
    pairs = [
        (task.problem, other.short) for task, other in pairwise(made) if task.problem.answer != other.problem.answer
    ]
    with Scorer() as scorer:
        assert {score.value for score in scorer.score_many(pairs)} == {0.0}


def test_a_few_long_paths_are_wrong_so_that_verification_has_something_to_find(world: NanoWorld) -> None:
    answers = {problem.id: problem.answer for problem in world.train if problem.verifier == "math"}
    judged = [boxed(path.response) == answers[path.problem_id] for path in world.long_cot if path.problem_id in answers]
    assert 0.01 < 1 - statistics.fmean(judged) < 0.08


@settings(max_examples=100)
@given(SEEDS, st.integers(1, 5))
def test_hidden_tests_of_a_program_are_not_all_shown_in_its_prompt(seed: int, difficulty: int) -> None:
    problem = make_program(Random(seed), difficulty).problem
    examples = {f"{x}\n" for x in re.findall(r"f\((\d+)\)", problem.text)}
    hidden = [stdin for stdin, _ in problem.tests if stdin not in examples]
    assert len(examples) == 3 and len(hidden) == 3 and len(problem.tests) == 4


def test_long_paths_show_the_four_behaviours(world: NanoWorld) -> None:
    counts = Counter(name for path in world.long_cot for name in behaviours(path.response))
    assert len(counts) == 4 and min(counts.values()) >= 0.05 * len(world.long_cot), counts


def test_lengths_of_long_paths_have_a_heavy_tail(nano_tokenizer: PreTrainedTokenizerFast) -> None:
    worlds = [generate(NanoWorldConfig(), seed) for seed in range(4)]
    paths = [path.response for world in worlds for path in world.long_cot]
    lengths = [len(ids) for ids in nano_tokenizer(paths)["input_ids"]]
    assert percentile(lengths, 0.99) >= 5 * statistics.median(lengths)
