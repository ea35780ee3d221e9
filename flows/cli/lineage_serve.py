"""`longhaul lineage serve`: the lineage as a web page."""

import webbrowser
from pathlib import Path

import click

from flows.cli.terminal import fail, printable, store_option
from flows.home import HOME, open_store


@click.command()
@store_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback with a token."
)
@click.option("--port", default=8600, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--index",
    metavar="URL",
    envvar="LONGHAUL_LINEAGE_INDEX",
    help="The index, sqlite:///FILE or postgresql+psycopg://…; a file below the home without it.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token that visitors must know; LONGHAUL_LINEAGE_TOKEN holds it otherwise.",
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name that this machine is visited by."
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser.")
def serve(
    store: str,
    host: str,
    port: int,
    index: str | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    open_browser: bool,
) -> None:
    """Serve the lineage as a web page: runs, models and data, the graph, comparisons, and stages while they run.

    It reads and never writes, and asks for nothing from elsewhere. New records appear within seconds.
    """
    from infra.lineage.index import LineageIndex
    from infra.lineage.tables import LineageError
    from infra.lineage.web.server import TOKEN_VARIABLE, ServerConfig, check_reach
    from infra.lineage.web.server import serve as serve_page
    from infra.lineage.web.site import Site
    from infra.sandbox.token import TokenRefused, read_token
    from infra.store.store import StoreError

    config = ServerConfig(host=host, port=port, hosts=hosts)

    def listening(address: str) -> None:
        click.echo(f"the lineage page is at {address} ({'with' if token else 'without'} a token; Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(address)

    def complain(text: str) -> None:
        click.secho(printable(text), fg="yellow", err=True)

    try:
        token = read_token(token_file, TOKEN_VARIABLE)
        check_reach(config, token)
        opened = open_store(store)
        found = LineageIndex.of(opened, HOME, index)
        synced = found.sync(opened)
    except (TokenRefused, StoreError, LineageError) as error:
        fail(printable(str(error)))
    for problem in synced.problems:
        click.secho(f"passed over: {printable(problem.splitlines()[0])}", fg="yellow", err=True)
    try:
        serve_page(Site.of(opened, found, HOME), config, token, listening, complain)
    except OSError as error:
        fail(f"cannot listen on {host}, port {port}: {error.strerror}")
    finally:
        found.close()
