"""A reward of one's own, in processes and in the sandbox: whatever it does, it costs its own response alone."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from steps.configs.custom_reward import CustomRewardConfig
from steps.problem import Problem, load_problems
from steps.rewards.custom import CustomReward, CustomRewardRefused
from steps.rewards.custom_source import function_fault
from steps.rewards.score import NoVerdict
from steps.rewards.scorer import NoSuchVerifier, Scorer

EXAMPLE = Path(__file__).parents[3] / "examples" / "custom_reward" / "word_count.py"

BEHAVIOURS = r"""
import math, os, subprocess, sys, time

def score(prompt, response, answer, problem):
    if response == "right":
        return True
    if response == "half":
        return 0.5
    if response == "fields":
        return float((prompt, answer, problem["extra"]["goal"], problem["id"]) == ("Do it.", "a", 3, "one"))
    if response == "raises":
        raise KeyError("no such thing")
    if response == "hangs":
        time.sleep(60)
    if response == "computes":
        while True: pass
    if response == "prints":
        print('{"value": 0.25}' * 200_000)
        sys.stderr.write("x" * 1_000_000)
        os.write(1, b'{"value": 0.25}\n')
        return 1
    if response == "exits":
        sys.exit(0)
    if response == "ends":
        os._exit(0)
    if response == "imports":
        import a_package_that_is_missing
    if response == "moves":
        os.chdir("/")
        return 1
    if response == "place":
        return float(os.getcwd() != "/")
    if response == "recurses":
        return score(prompt, response, answer, problem)
    if response == "starts":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "left by a reward"])
        time.sleep(60)
    return {"nan": math.nan, "inf": math.inf, "none": None, "text": "1", "above": 1.5, "below": -0.1}[response]
"""

FAULTS = {
    "raises": ("raised KeyError", "no such thing"),
    "exits": ("raised SystemExit", ""),
    "imports": ("raised ModuleNotFoundError", "a_package_that_is_missing"),
    "recurses": ("raised RecursionError", ""),
    "nan": ("returned nan", ""),
    "inf": ("returned a number outside 0 to 1", "inf"),
    "above": ("returned a number outside 0 to 1", "1.5"),
    "below": ("returned a number outside 0 to 1", "-0.1"),
    "none": ("returned no number", "NoneType"),
    "text": ("returned no number", "str"),
    "ends": ("ended its process", ""),
    "computes": ("timed out", ""),
}
PROBLEM = Problem(id="one", prompt="Do it.", answer="a", verifier="custom", extra={"goal": 3})


def write(folder: Path, text: str) -> Path:
    path = folder / "my_reward.py"
    path.write_text(text)
    return path


def opened(path: Path, **changes: Any) -> CustomReward:
    config = CustomRewardConfig(file=str(path), **{"seconds": 1.0, **changes})
    return CustomReward(path, str(path), config, workers=1)


@pytest.fixture(scope="module", params=[False, True], ids=["process", "sandbox"])
def reward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomReward]:
    path = write(tmp_path_factory.mktemp("reward"), BEHAVIOURS)
    reward = opened(path, untrusted=request.param)
    yield reward
    reward.close()


@pytest.mark.parametrize("response", FAULTS)
def test_what_a_function_does_wrong_gives_no_verdict_but_a_reason_and_the_next_response_is_judged(
    reward: CustomReward, response: str
) -> None:
    reason, detail = FAULTS[response]
    with pytest.raises(NoVerdict, match=f"problem 'one': {reason}") as error:
        reward.judge(PROBLEM, response)
    assert error.value.reason == reason and detail in str(error.value)
    assert reward.judge(PROBLEM, "half") == 0.5


def test_it_gets_the_prompt_the_answer_and_the_problems_own_fields(reward: CustomReward) -> None:
    assert [reward.judge(PROBLEM, response) for response in ("fields", "right")] == [1.0, 1.0]


def test_what_it_prints_is_not_its_answer(reward: CustomReward) -> None:
    assert reward.judge(PROBLEM, "prints") == 1.0


def test_a_folder_that_it_leaves_is_not_where_the_next_call_begins(reward: CustomReward) -> None:
    assert [reward.judge(PROBLEM, response) for response in ("moves", "place")] == [1.0, 1.0]


def test_a_function_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    reward = opened(write(tmp_path, BEHAVIOURS))
    started = time.monotonic()
    for response in ("hangs", "starts"):
        with pytest.raises(NoVerdict, match="timed out"):
            reward.judge(PROBLEM, response)
    assert time.monotonic() - started < 15
    reward.close()
    left = [one for one in psutil.process_iter(["cmdline"]) if "left by a reward" in (one.info["cmdline"] or [])]
    assert not psutil.wait_procs(left, 10)[1]


@pytest.mark.parametrize("untrusted", [False, True])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import a_package_that_is_missing\ndef score(p, r, a, q): return 1", "a_package_that_is_missing.*line 1"),
        ("from random import score", "cannot import name"),
        ("score = 3", "has no function 'score'"),
        ("import os\nos._exit(3)\ndef score(p, r, a, q): return 1", "ended its process"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused_with_the_key_before_anything_is_sampled(
    tmp_path: Path, text: str, words: str, untrusted: bool
) -> None:
    with Scorer(custom=opened(write(tmp_path, text), untrusted=untrusted)) as scorer:
        for _ in range(2):
            with pytest.raises(
                CustomRewardRefused, match=f"judging.custom.file: score of .* cannot be loaded.*{words}"
            ):
                scorer.check([PROBLEM])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def score(:", "is not Python"),
        ("def other(p, r, a, q): return 1", "has no function 'score' at its top level; it defines: other"),
        ("def score(response): return 1", "takes 1 arguments, and is called with 4"),
        ("def score(p, r, a, q, x): return 1", "takes 5 arguments"),
        ("def score(p, r, a, q, *, x): return 1", "keyword argument without a default"),
        ("async def score(p, r, a, q): return 1", "is not a plain function"),
        ("def score(p, r, a, q, x=1): return 1", None),
        ("def score(*everything): return 1", None),
        ("from somewhere import score", None),
        ("from somewhere import *", None),
        ("try:\n    def score(p, r, a, q): return 1\nexcept Exception: pass", None),
    ],
)
def test_what_a_files_text_says_is_said_before_anything_runs(tmp_path: Path, text: str, words: str | None) -> None:
    fault = function_fault(write(tmp_path, text), "score")
    assert fault is None if words is None else fault is not None and words in fault


ODD = r"""
import json, os, signal, sys, threading, time

left = []

def to_its_judge(text):
    for number in range(3, 20):
        try:
            os.write(number, text)
        except OSError:
            pass

def score(prompt, response, answer, problem):
    if response == "floods":
        while True:
            to_its_judge(b"x\n" * 100)
    if response == "forges":
        token = sys._getframe(1).f_locals["request"].get("token")
        to_its_judge(b"\n" + json.dumps({"token": token, "value": 7, "detail": "\ud800"}).encode() + b"\n")
        time.sleep(60)
    if response == "leaves":
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(60)
        open(prompt, "w").write(str(child))
        time.sleep(60)
    if response == "looks later":
        threading.Timer(0.3, lambda: left.append(signal.getitimer(signal.ITIMER_REAL)[0])).start()
    if response == "looked":
        return float(left == [0.0])
    return 1
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomReward]:
    reward = opened(write(tmp_path_factory.mktemp("odd"), ODD))
    yield reward
    reward.close()


@pytest.mark.parametrize(("response", "reason"), [("floods", "timed out"), ("forges", "gave no reward")])
def test_what_is_written_in_place_of_an_answer_is_none(odd: CustomReward, response: str, reason: str) -> None:
    with pytest.raises(NoVerdict, match=reason):
        odd.judge(PROBLEM, response)
    assert odd.judge(PROBLEM, "right") == 1.0


def test_a_process_that_left_the_functions_group_holds_nobody_up(odd: CustomReward, tmp_path: Path) -> None:
    started = time.monotonic()
    problem = PROBLEM.model_copy(update={"prompt": str(tmp_path / "pid")})
    with pytest.raises(NoVerdict, match="timed out"):
        odd.judge(problem, "leaves")
    assert time.monotonic() - started < 10
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_the_limit_of_one_judgement_does_not_run_on_while_the_process_waits(odd: CustomReward) -> None:
    odd.judge(PROBLEM, "looks later")
    time.sleep(0.6)
    assert odd.judge(PROBLEM, "looked") == 1.0


def test_failed_judgements_are_counted_and_count_as_wrong_where_others_were_judged(tmp_path: Path) -> None:
    reward = opened(write(tmp_path, BEHAVIOURS))
    with Scorer(custom=reward) as scorer:
        scores = scorer.score_many([(PROBLEM, response) for response in ("right", "raises", "half", "nan")])
        assert [(score.value, score.right, score.judged) for score in scores] == [
            (1.0, True, True),
            (0.0, False, False),
            (0.5, True, True),
            (0.0, False, False),
        ]
        assert scorer.counts == {
            f"{reward.version}: {reason}": 1 for reason in ("right", "raised KeyError", "partly right", "returned nan")
        }
        with pytest.raises(NoVerdict, match="raised KeyError"):
            scorer.score_many([(PROBLEM, "raises"), (PROBLEM, "none")])


def test_without_a_function_the_way_out_is_named() -> None:
    with Scorer() as scorer, pytest.raises(NoSuchVerifier, match=r"set judging\.custom\.file"):
        scorer.check([PROBLEM])


def test_the_version_that_scores_carry_is_the_files_content(tmp_path: Path) -> None:
    one = opened(write(tmp_path, "def score(p, r, a, q): return 1"))
    other = opened(write(tmp_path, "def score(p, r, a, q): return 0"))
    assert one.version != other.version and one.version.startswith("custom@1:")
    assert one.judge(PROBLEM, "") == 1.0, "what was read when it was opened"
    one.close()
    other.close()


def test_the_example_judges_the_row_that_it_describes(tmp_path: Path) -> None:
    lines = (EXAMPLE.read_text().split('"""')[1]).splitlines()
    row = json.loads(next(line for line in lines if line.strip().startswith("{")))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [problem] = load_problems(path)
    reward = opened(EXAMPLE)
    with Scorer(custom=reward) as scorer:
        texts = ["<think>Let me count.</think>One two three four five six seven eight", "One two", "A very short one"]
        assert [score.value for score in scorer.score_many([(problem, text) for text in texts])] == [1.0, 0.25, 0.0]
