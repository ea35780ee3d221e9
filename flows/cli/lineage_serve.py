"""`longhaul lineage serve`: the lineage as a web page."""

import webbrowser
from pathlib import Path

import click

from flows.cli.command import Command
from flows.cli.terminal import fail, index_option, store_option, warn
from flows.home import HOME, open_store, synced_index


@click.command(cls=Command)
@store_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback with a token."
)
@click.option("--port", default=8600, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@index_option
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token that visitors need (default: LONGHAUL_LINEAGE_TOKEN).",
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Another host name of this machine; may be repeated."
)
@click.option(
    "--allow-actions",
    is_flag=True,
    help="Let visitors with the token rerun and stop runs, trigger and pause schedules, and set tags.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
def serve(
    store: str,
    host: str,
    port: int,
    url: str | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    allow_actions: bool,
    open_browser: bool,
) -> None:
    """Serve the lineage as a web page.

    It shows runs, models and data, the graph, comparisons, and stages while they run. It loads nothing from
    other servers, and writes nothing unless --allow-actions is given, which needs a token. New records appear within
    seconds.
    """
    from flows.cli.lineage_host import page_host
    from infra.lineage.web.server import TOKEN_VARIABLE, ServerConfig, check_reach
    from infra.lineage.web.server import serve as serve_page
    from infra.lineage.web.site import Site
    from infra.sandbox.token import how_to_set_a_token, read_token

    config = ServerConfig(host=host, port=port, hosts=hosts)

    def listening(address: str) -> None:
        click.echo(f"the lineage page is at {address} ({'with' if token else 'without'} a token; Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(address)

    token = read_token(token_file, TOKEN_VARIABLE)
    check_reach(config, token)
    if allow_actions and token is None:
        fail(f"--allow-actions needs a token, also on this machine: {how_to_set_a_token(TOKEN_VARIABLE)}")
    opened = open_store(store)
    with synced_index(opened, url) as (index, _):
        try:
            serve_page(Site.of(opened, index, HOME, page_host(opened, allow_actions)), config, token, listening, warn)
        except OSError as error:
            fail(f"cannot listen on {host}, port {port}: {error.strerror}")
