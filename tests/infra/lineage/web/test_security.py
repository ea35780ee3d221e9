"""Who may ask the lineage page for what, and what the answers can do."""

import asyncio
import hashlib
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

import infra.lineage.web as web
from infra.lineage.web.app import lineage_app
from infra.lineage.web.security import COOKIE, LONGEST_FORM, PUBLIC
from infra.lineage.web.server import ServerConfig, check_reach
from infra.lineage.web.site import Site
from infra.sandbox.token import TokenRefused
from infra.store.store import object_prefix
from tests.infra.lineage.web.page_site import FIRST, HOSTILE, Outline, client, every_page, made_up_site

TOKEN = "0123456789abcdef-a-token"
FOLDER = Path(web.__file__).parent


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = made_up_site(tmp_path_factory.mktemp("hostile"), hostile=True)
    yield made
    made.index.close()


def test_every_answer_forbids_scripts_and_loads_from_elsewhere(site: Site) -> None:
    visitor, guarded = client(site), client(site, TOKEN)
    answers = [visitor.get(page) for page in [*every_page(site), "/", "/static/style.css", "/static/nothing"]]
    answers += [
        visitor.get("/graph.json?node=nothing"),
        visitor.post("/runs"),
        visitor.get("/runs", headers={"Host": "evil.example"}),
        guarded.get("/runs"),
        guarded.post("/login", data={"token": "wrong"}),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, answer.url
        assert "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


def test_a_page_that_breaks_says_so_without_its_traceback(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(site.index, "models", broken)
    answer = client(site).get("/models")
    assert answer.status_code == 500 and "a secret" not in answer.text and "Internal error" in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8600", "", "127.0.0.1@evil", "[::2]"]
)
def test_a_name_that_is_not_this_machines_is_refused(site: Site, host: str) -> None:
    answer = client(site).get("/runs", headers={"Host": host})
    assert answer.status_code == 400 and "--allow-host" in answer.text


def test_two_names_at_once_are_refused(site: Site) -> None:
    answer = client(site).get("/runs", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost:8600", "LOCALHOST", "127.0.0.1", "[::1]:8600", "ml-box.local:80"])
def test_names_of_this_machine_are_answered(site: Site, host: str) -> None:
    assert client(site, hosts=("ML-box.local",)).get("/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    assert client(site).request(method, "/runs").status_code == 405
    assert client(site).head("/runs").status_code == 200


def test_beyond_loopback_it_does_not_start_without_a_token() -> None:
    with pytest.raises(TokenRefused, match="LONGHAUL_LINEAGE_TOKEN"):
        check_reach(ServerConfig(host="0.0.0.0"), None)
    check_reach(ServerConfig(host="0.0.0.0"), TOKEN)
    check_reach(ServerConfig(host="::1"), None)


def test_without_the_token_there_is_a_form_and_nothing_else(site: Site) -> None:
    visitor = client(site, TOKEN)
    for page in [*every_page(site), "/graph.json?node=x", "/static/graph.js"]:
        answer = visitor.get(page)
        assert answer.status_code == 401 and 'name="token"' in answer.text and FIRST not in _visible(answer.text)
    assert visitor.get("/static/style.css").status_code == 200


def _visible(html: str) -> str:
    return re.sub(r'<input type="hidden"[^>]*>', "", html)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer ", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_the_token_opens_the_page(site: Site, header: str, status: int) -> None:
    assert client(site, TOKEN).get("/runs", headers={"Authorization": header}).status_code == status


def test_the_form_sets_a_cookie_that_no_script_reads_and_that_is_not_the_token(site: Site) -> None:
    visitor = client(site, TOKEN)
    answer = visitor.post("/login", data={"token": TOKEN, "to": "/models?search=rl"})
    assert answer.status_code == 303 and answer.headers["location"] == "/models?search=rl"
    cookie = answer.headers["set-cookie"]
    assert COOKIE in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert visitor.get("/runs").status_code == 200
    other = client(site, TOKEN[::-1])
    other.cookies.set(COOKIE, visitor.cookies[COOKIE])
    assert other.get("/runs").status_code == 401


@pytest.mark.parametrize(
    ("address", "root"),
    [
        ("static/style.css", ""),
        ("@x/static/style.css", ""),
        ("http://127.0.0.1/static/style.css", ""),
        ("//static/style.css", ""),
        ("/static/style%0A.css", ""),
        ("/static/theme.js%09", ""),
        ("/static/style.css%3F", ""),
        ("/static/icon.svg%23", ""),
        ("/static/style.css/../../runs", ""),
        ("/static/style.css/runs", "/static/style.css"),
        ("/runs?/static/style.css", ""),
        ("/runs", "/static/style.css"),
        ("/runs%0A", ""),
        ("login", ""),
    ],
)
def test_no_spelling_of_an_address_gets_round_the_token(site: Site, address: str, root: str) -> None:
    status, body = request(site, address, TOKEN, root)
    assert status == 401 and b'name="token"' in body and FIRST.encode() not in body


@pytest.mark.parametrize("address", [*PUBLIC, "/static/st%79le.css"])
def test_what_the_form_needs_is_open_under_its_own_name(site: Site, address: str) -> None:
    assert client(site, TOKEN).get(address).status_code == 200


@pytest.mark.parametrize("address", ["/tags/a%253Fb", "/tags/50%25", "/tags/a%3Fb%23c?sort=x%26y", "/tags/%C3%A9"])
def test_the_form_leads_back_to_the_address_that_was_asked_for(site: Site, address: str) -> None:
    form = Outline(request(site, address, TOKEN)[1].decode())
    (back,) = [each["value"] for each in form.of("input") if each["name"] == "to"]
    answer = client(site, TOKEN).post("/login", data={"token": TOKEN, "to": back})
    assert answer.headers["location"] == address


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/%09/evil.example",
        "/%2f/evil.example",
        "",
    ],
)
def test_the_form_leads_nowhere_else(site: Site, to: str) -> None:
    answer = client(site, TOKEN).post("/login", data={"token": TOKEN, "to": to})
    assert answer.status_code == 303 and answer.headers["location"] == "/"


def test_a_wrong_token_and_an_endless_form_are_refused(site: Site) -> None:
    visitor = client(site, TOKEN)
    assert "not the token" in visitor.post("/login", data={"token": "é" * 20}).text
    assert visitor.post("/login", content=b"token=" + b"x" * LONGEST_FORM).status_code == 413
    assert not visitor.cookies


PATHS = [
    "../../../../etc/passwd",
    "..",
    "/etc/passwd",
    "deep/../config.json",
    "./config.json",
    "config.json\0",
    "%2e%2e/manifest.json",
    "../manifest.json",
    "",
]


@pytest.mark.parametrize("path", PATHS)
def test_only_files_of_the_manifest_are_shown(site: Site, path: str) -> None:
    model = site.index.tags()[0].model
    assert model is not None
    for written in (quote(path), quote(path, safe=""), quote(quote(path, safe=""), safe="")):
        answer = client(site).get(f"/artifacts/{model.digest}/file?path={written}")
        assert answer.status_code == 404 and "root:" not in answer.text
    assert "plain" in client(site).get(f"/artifacts/{model.digest}/file?path=deep/a.txt").text


@pytest.mark.parametrize(
    "address",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/index.py",
        "/static//etc/passwd",
        "/runs/..%2F..%2Fsecret/report",
        "/runs/%2e%2e/report",
        "/artifacts/..%2f..%2f/file?path=config.json",
        f"/artifacts/{'0' * 64}%00/file?path=config.json",
    ],
)
def test_no_address_leads_out_of_its_folder(site: Site, address: str) -> None:
    (site.home / "secret").mkdir(exist_ok=True)
    (site.home / "secret" / "report.html").write_text("secret")
    status, body = request(site, address)
    assert status == 404 and b"secret" not in body and b"import" not in body


def request(site: Site, address: str, token: str | None = None, root: str = "") -> tuple[int, bytes]:
    """Status and body of an address that is sent as it is: clients take `..` out of it."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root,
        "headers": [(b"host", b"127.0.0.1")],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def ask() -> None:
        await lineage_app(site, token)(scope, receive, send)

    asyncio.run(ask())
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_a_report_that_links_out_of_its_folder_is_not_served(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    link = site.home / "runs" / "linked" / "report.html"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "secret")
    assert client(site).get("/runs/linked/report").status_code == 404
    answer = client(site).get(f"/runs/{FIRST}/report")
    assert answer.text.endswith("A report") and "sandbox" in answer.headers["content-security-policy"]


def test_a_file_that_is_not_what_was_put_is_not_shown(tmp_path: Path) -> None:
    site = made_up_site(tmp_path)
    model = site.index.tags()[0].model
    assert model is not None
    file = Path(site.store.backend.address) / object_prefix(model.digest) / "content" / "config.json"
    file.chmod(0o644)
    file.write_text("another text")
    answer = client(site).get(f"/artifacts/{model.digest}/file?path=config.json")
    assert answer.status_code == 502 and "another text" not in answer.text and "not what was put" in answer.text


def test_hostile_texts_are_text_on_every_page(hostile: Site) -> None:
    visitor = client(hostile)
    seen = 0
    for page in [*every_page(hostile), "/runs?search=" + quote(HOSTILE), "/graph?find=" + quote(HOSTILE)]:
        html = visitor.get(page).text
        seen += "&lt;script&gt;" in html
        assert "<script>" not in html and "<img src=x" not in html and "{{" not in html.replace("{{7*7}}", "")
        assert "49" not in re.findall(r"`(\d+)", html)
        # What turns the direction of writing, hides, or drives a terminal is named in its place.
        assert not set("\u202e\u200b\x1b") & set(html), page
    assert seen > 20


def test_hostile_texts_are_plain_in_what_scripts_draw(hostile: Site) -> None:
    answer = client(hostile).get("/graph.json", params={"node": f"execution:{FIRST}:rl", "hops": 4})
    assert answer.headers["content-type"] == "application/json"
    assert not set("\u202e\u200b\x1b") & set(str([node["label"] for node in answer.json()["nodes"]]))


def test_pages_hold_no_script_style_or_handler_of_their_own(hostile: Site) -> None:
    for page in every_page(hostile):
        html = client(hostile).get(page).text
        outline = Outline(html)
        assert not outline.of("style", "iframe", "object", "embed", "base")
        for tag, attributes in outline.tags:
            assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc")], tag
            for name in ("href", "src", "action", "hx-get"):
                address = attributes.get(name, "/")
                assert address.startswith(("/", "#")) and not address.startswith("//"), address
        assert all(attributes["src"].startswith("/static/") for attributes in outline.of("script"))
        assert not re.search(r"<script[^>]*>[^<]", html)


def test_no_template_and_no_script_goes_round_escaping() -> None:
    templates = list((FOLDER / "templates").glob("*.html"))
    assert templates
    for file in templates:
        assert not re.search(r"\|\s*safe|autoescape|hx-on|hx-vals='?js", file.read_text()), file
    for file in (FOLDER / "static").glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|eval\(|Function\(", file.read_text()
        )


def test_vendored_files_are_the_ones_that_are_named() -> None:
    folder = FOLDER / "static" / "vendor"
    named = dict(
        re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.MULTILINE)
    )
    there = {file.name for file in folder.iterdir() if file.suffix in (".js", ".css")}
    assert there == named.keys()
    for name, digest in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
