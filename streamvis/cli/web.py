"""`streamvis web`: the web server beside a run, or on a finished one."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import RunName
from streamvis.cli.output import say


def web(
    out: Annotated[Path, Argument(help="The --out of a run, under way or finished.")],
    address: Annotated[
        str, Option("--web", metavar="ADDRESS:PORT", help="Where to serve.")
    ] = "127.0.0.1:8080",
    token_file: Annotated[
        Path | None,
        Option(help="File with the token that clients need; it is created. Mode 0600."),
    ] = None,
    name: Annotated[
        list[str] | None, Option(help="Host name by which clients reach it; repeatable.")
    ] = None,
    keys: Annotated[
        Path | None,
        Option(help="The client's keys, where the feed of the run asks for them (publish.keys)."),
    ] = None,
    run: RunName = None,
) -> None:
    """Serve the state and the events of a run over HTTP and WebSocket, until Ctrl-C."""
    from contextlib import closing

    from streamvis.web.server import WebServer
    from streamvis.web.settings import WebSettings

    settings = WebSettings(
        out=out, address=address, run=run, token_file=token_file, names=name or [], keys=keys
    )
    with closing(WebServer(settings)) as server:
        say(f"{server.url} serves {out}; Ctrl-C ends it")
        if token_file is not None:
            say(f"clients need the token in {token_file}")
        server.run()
