"""Chat templates that hang, use up memory, leave the message out or change with the day."""

import time

import pytest

from steps.checkpoint_refused import CheckpointRefused
from steps.checkpoint_template import MESSAGE, fix_date, own_words, render_message

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = "{% set ns = namespace(s='x' * 1024) %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
TODAY = "{{ strftime_now('%d %B %Y') }} {{ strftime_now(\"%Y\") }} "
SAYS = "{{ messages[0].content }}"


def test_a_template_is_rendered_with_its_special_tokens() -> None:
    assert render_message("{{ bos_token }}" + SAYS, {"bos_token": "<s>"}) == f"<s>{MESSAGE}"


def test_nested_loops_end_at_a_limit_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.checkpoint_template.CPU_SECONDS", 2)
    start = time.monotonic()
    with pytest.raises(CheckpointRefused, match=r"chat_template\.jinja: .*more than 2 seconds"):
        render_message(LOOPS + SAYS, {})
    assert time.monotonic() - start < 60


def test_doubling_a_text_ends_at_a_limit_of_memory() -> None:
    with pytest.raises(CheckpointRefused, match=r"chat_template\.jinja: .*more than 512 MB"):
        render_message(DOUBLING + SAYS, {})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("hello", "leaves out what the user says"),
        ("{# #}", "leaves nothing"),
        ("{% for", "fails on one user message"),
        ("{{ ['red', 'blue'] | random }}" + SAYS, "from call to call"),
        ("{{ 'x' * 2000000 }}" + SAYS, "more than 1,000,000 characters"),
        ("{{ strftime_now('%d' ~ ' %Y') }}" + SAYS, "changes with the day"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}" + SAYS, "SecurityError"),
    ],
)
def test_a_template_of_no_use_is_refused(template: str, message: str) -> None:
    with pytest.raises(CheckpointRefused, match=rf"chat_template\.jinja: .*{message}"):
        render_message(template, {})


def test_todays_date_becomes_a_fixed_one() -> None:
    with pytest.raises(CheckpointRefused, match="changes with the day"):
        render_message(TODAY + SAYS, {})
    assert render_message(fix_date(TODAY) + SAYS, {}) == f"26 July 2024 2024 {MESSAGE}"
    guarded = "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}{{ day }} " + SAYS
    assert render_message(fix_date(guarded), {}) == f"26 Jul 2024 {MESSAGE}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"<|im_start|>user\n{MESSAGE}<|im_end|>\n", ""),
        (f"<s>[INST] {MESSAGE} [/INST]", ""),
        (f"### Instruction:\n{MESSAGE}", ""),
        (
            f"<|im_start|>system\nYou are Q, made by A.<|im_end|>\n<|im_start|>user\n{MESSAGE}<|im_end|>",
            "system You are Q, made by A. user",
        ),
    ],
)
def test_a_default_system_prompt_is_distinguished_from_roles(text: str, words: str) -> None:
    assert own_words(text, ["<s>", "<|im_start|>", "<|im_end|>"]) == words
