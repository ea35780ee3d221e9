"""What people come for is at most three clicks from the first page."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.infra.lineage.web.page_browser import Tab
from tests.infra.lineage.web.page_site import FIRST, RUNNING, SECOND

MOST = 3


class Clicks:
    """Clicks from the first page on, counted."""

    def __init__(self, tab: Tab) -> None:
        self.page: Page = tab.page
        self.count = 0
        self.page.goto("/")

    def link(self, name: str, within: str = "main, header") -> None:
        self.on(self.page.locator(within).get_by_role("link", name=name, exact=True).first)

    def on(self, link: Locator) -> None:
        link.click()
        self._counted()

    def choose(self, label: str, value: str) -> None:
        """Choose from a list that submits its form."""
        self.page.get_by_label(label).select_option(value)
        self._counted()

    def _counted(self) -> None:
        self.count += 1
        assert self.count <= MOST
        self.page.wait_for_load_state()


def test_the_prompts_that_a_model_was_trained_on(tab: Tab) -> None:
    clicks = Clicks(tab)
    clicks.link("rl", "section[aria-labelledby=production]")
    clicks.link("Prompts and responses it was trained on")
    expect(tab.page.get_by_text("What is 0 + 2?").first).to_be_visible()


def test_what_changed_between_two_runs(tab: Tab) -> None:
    clicks = Clicks(tab)
    clicks.link(f"What changed since {SECOND}")
    expect(tab.page.get_by_role("region", name="Stages of both runs")).to_be_visible()
    assert RUNNING in tab.page.url


def test_which_model_is_in_production_and_why(tab: Tab) -> None:
    clicks = Clicks(tab)
    production = tab.page.locator("section[aria-labelledby=production]")
    expect(production).to_contain_text(re.compile(rf"rl 64\.0%.*of {FIRST}", re.DOTALL))
    clicks.link("production", "section[aria-labelledby=production]")
    expect(tab.page.get_by_role("cell", name="it is the best").first).to_be_visible()


def test_five_failed_responses_of_iteration_3_with_their_rewards(tab: Tab) -> None:
    clicks = Clicks(tab)
    clicks.link("Responses that it was trained on (production)")
    clicks.link("Failed responses")
    clicks.choose("Iteration", "3")
    failed = tab.page.locator("article", has_text=re.compile(r"reward 0\b")).filter(has_text="iteration 3")
    expect(failed).to_have_count(6)
    assert failed.count() >= 5


def test_every_run_that_used_a_data_file(tab: Tab) -> None:
    clicks = Clicks(tab)
    clicks.link("Data")
    clicks.on(tab.page.locator("tbody th a", has_text="/data/train.jsonl").first)
    runs = tab.page.get_by_role("region", name="Runs", exact=True)
    for run in (FIRST, SECOND, RUNNING):
        expect(runs.get_by_role("link", name=re.compile(run))).to_be_visible()


def test_the_command_that_reruns_from_here(tab: Tab) -> None:
    clicks = Clicks(tab)
    clicks.link("curation", "section[aria-labelledby=chain]")
    expect(tab.page.get_by_role("region", name="Run again")).to_contain_text("longhaul run --from curation")


def test_from_a_failed_response_to_its_prompt_its_file_and_all_answers(tab: Tab) -> None:
    clicks = Clicks(tab)
    clicks.link("rl", "section[aria-labelledby=production]")
    clicks.link("Prompts and responses it was trained on")
    count = clicks.count
    answer = tab.page.locator("article", has_text="What is 4 + 2?").first
    clicks.on(answer.get_by_role("link", name=re.compile("^Prompt, data file")))
    expect(tab.page.get_by_role("region", name="Text of the prompt")).to_have_text("What is 4 + 2?")
    expect(tab.page.get_by_role("link", name="/data/train.jsonl")).to_be_visible()
    expect(tab.page.get_by_role("heading", name=re.compile("^Left: rl"))).to_be_visible()
    expect(tab.page.get_by_role("heading", name=re.compile("^Right: "))).to_be_visible()
    assert clicks.count - count == 1
