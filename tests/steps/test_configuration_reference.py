"""docs/configuration.md is written from the types."""

from scripts.configuration_reference import DOCUMENT, render, sections, undescribed


def test_every_key_says_what_it_means() -> None:
    assert undescribed() == []


def test_the_document_is_current() -> None:
    message = "write it again: python -m scripts.configuration_reference"
    assert DOCUMENT.read_text(encoding="utf-8") == render(), message


def test_every_mapping_of_a_recipe_is_listed_once() -> None:
    keys = [key for key, _ in sections()]
    assert len(keys) == len(set(keys))
    assert {"", "rl", "rl.sampling", "data.nano_world", "vanilla_sft.phases", "cluster.default"} <= set(keys)
    assert "long2short.rl" not in keys, "it has the type of `rl`, and is linked to it"
