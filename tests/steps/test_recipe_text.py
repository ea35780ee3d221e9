"""A recipe's text: what YAML would read otherwise than it looks is refused, with key and line."""

import re
from typing import Any

import pytest

from steps.recipe import ConfigRefused, parse_recipe
from steps.recipe_text import UnreadableText, load_mapping


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rl:\n  iterations: 3\n  tau: 0.1\n  iterations: 4\n", "rl.iterations: stands twice, in lines 2 and 4"),
        ("rl:\n  tau: 1\nseed: 1\nrl:\n  tau: 2\n", "rl: stands twice, in lines 1 and 4"),
        ('{"rl": {"tau": 1, "tau": 2}}', "rl.tau: stands twice, in lines 1 and 1"),
        ("vanilla_sft:\n  phases:\n    - epochs: 1\n      epochs: 2\n", "vanilla_sft.phases.0.epochs: stands twice"),
        ('store: "a\\0b"\n', "store: line 1: a NUL character"),
        ('seed: 1\nstore: "\\ud800"\n', "store: line 2: half of a surrogate pair"),
        ("name: x\nseed: 010\n", "seed: line 2: YAML reads 010 as an octal or sexagesimal number"),
        ("rl:\n  groups: 1:30\n", "rl.groups: line 2: YAML reads 1:30 as an octal or sexagesimal number"),
        ("name: x\nseed: 2026-13-01\n", "line 2"),
        ("name: x\nseed: !!int twelve\n", "line 2"),
        (f"name: x\nseed: {'1' * 5000}\n", "line 2"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "{b: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("a: [", "is not YAML"),
        ("- a", "holds list; expected a mapping of sections"),
        ("", "holds NoneType; expected a mapping"),
    ],
)
def test_text_that_reads_otherwise_than_it_looks_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigRefused, match=re.escape(message)):
        parse_recipe(text, "test.yaml")


def test_every_key_that_stands_twice_is_named_at_once() -> None:
    with pytest.raises(UnreadableText) as refused:
        load_mapping("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert "a: stands twice" in str(refused.value) and "b.c: stands twice" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.1 takes 1e-5 for text, and the type of the key makes a number of it.
        ("rl: {learning_rate: 1e-5}", {"rl": {"learning_rate": "1e-5"}}),
        ("a: &one {x: 1}\nb: *one\nc: *one\n", {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}}),
        ("base: &base {x: 1, y: 2}\na:\n  <<: *base\n  x: 3\n", {"base": {"x": 1, "y": 2}, "a": {"x": 3, "y": 2}}),
        ("a: {x: 1}\nb: {x: 1}\n", {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_other_text_reads_as_before(text: str, value: dict[str, Any]) -> None:
    assert load_mapping(text) == value
