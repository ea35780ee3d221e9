"""A served site for each module of tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from infra.lineage.web.site import Site
from tests.infra.lineage.web.page_browser import Tab, served
from tests.infra.lineage.web.page_site import made_up_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = made_up_site(tmp_path_factory.mktemp("site"))
    yield made
    made.index.close()


@pytest.fixture(scope="module")
def address(site: Site) -> Iterator[str]:
    with served(site) as address:
        yield address


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    opened = Tab(browser, address, viewport={"width": 1300, "height": 900}, reduced_motion="reduce")
    yield opened
    opened.context.close()
    assert opened.outside == [] and opened.complaints == []
