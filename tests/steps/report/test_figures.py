"""The report's figures, from made-up records of a whole run."""

import itertools
import math
import re

from infra.store.records import ForkPoint, StageRecord
from steps.report import canvas, figures
from steps.report.labels import Box, place
from steps.report.page import render_report
from tests.steps.report.made_up_run import STAGES, record


def test_rl_curves_are_left_out_where_the_history_lacks_their_metric(run: list[StageRecord]) -> None:
    captions = [figure.caption for figure in figures.rl_figures(run[STAGES.index("rl")])]
    assert captions[0] == "Accuracy" and captions[-1] == "Seconds per iteration" and len(captions) == 10
    assert "Reward, mean" not in captions
    with_reward = record(
        "rl", history=[{"rl/reward": 0.5, "rl/accuracy": None}, {"rl/reward": math.nan}, {"rl/reward": 1}]
    )
    (only,) = figures.rl_figures(with_reward)
    assert only.alt == "Reward, mean over 3 iterations. reward: first 0.5, last 1, least 0.5, most 1."
    assert figures.rl_figures(record("import")) == []


def test_iterations_of_the_run_that_rl_continued_from_are_marked_in_every_curve(run: list[StageRecord]) -> None:
    rl = run[STAGES.index("rl")]
    forked = rl.model_copy(update={"forked_from": ForkPoint(run="run-1", stage="rl", iteration=2)})
    for before, after in zip(figures.rl_figures(rl), figures.rl_figures(forked), strict=True):
        assert '-earlier-run"' in after.svg and '-earlier-run"' not in before.svg
        assert after.alt == f"{before.alt} The first 2 are of run run-1."
    page = render_report("nano", [forked])
    assert "Continued from iteration 2 of run run-1: the shaded iterations are that run" in page
    assert "continued from run-1:rl@2" in page


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


def test_ids_hold_nothing_but_letters_digits_and_dashes_whatever_a_stage_is_called(run: list[StageRecord]) -> None:
    hostile = '<b>rl" onload="x'
    history = [{f"{hostile}/loss": 1.0, "rl/accuracy": 0.1}, {f"{hostile}/loss": 0.5, "rl/accuracy": 0.2}]
    loss = figures.loss_figure(record(hostile, history=history))
    curves = figures.rl_figures(record(hostile, history=history))
    assert loss and curves
    drawn = [loss.svg, *(figure.svg for figure in curves), (figures.token_efficiency(run) or b"").decode()]
    for svg in drawn:
        ids = re.findall(r'\bid="([^"]*)"', svg)
        assert ids and all(re.fullmatch(r"[\w-]+", id, re.ASCII) for id in ids)
        assert 'onload="' not in svg and "<b>" not in svg


def test_the_token_efficiency_figure_takes_the_page_s_colour_and_also_comes_as_png(run: list[StageRecord]) -> None:
    svg, png = figures.token_efficiency(run), figures.token_efficiency(run, "png")
    assert svg is not None and b"currentColor" in svg and canvas.INK.encode() not in svg
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
