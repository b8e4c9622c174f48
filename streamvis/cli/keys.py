"""`streamvis keys`: who may subscribe to a feed that other machines can reach."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from streamvis.cli.options import Json
from streamvis.cli.output import command, put_result, say

app = Typer(help="Make, list and revoke the keys of a feed.", no_args_is_help=True)
Directory = Annotated[Path, Argument(help="The directory of keys, as in publish.keys.")]


@command(app)
def new(
    directory: Directory,
    client: Annotated[str | None, Option(help="Name of the client; default: client.")] = None,
    json: Json = False,
) -> None:
    """Make keys for a client, and for the server where there are none.

    The client's file holds its secret key: move it to the client, by a safe way, and subscribe with
    it (events tail --keys FILE). The server does not need it.
    """
    from streamvis.errors import UsageError
    from streamvis.transport import keys

    made = keys.new_server(directory)
    if not made and client is None:
        raise UsageError(
            f"{directory} has keys of a server already. For another client: "
            f"streamvis keys new {directory} --client NAME"
        )
    path = keys.new_client(directory, client or "client")
    if made:
        say(f"wrote {directory / keys.SERVER}: the server's key pair, which stays here")
    say(f"wrote {path}: for the client alone; move it there")
    found = {"client": str(path), "server": keys.server_keys(directory).public}
    put_result(found, [str(path)], json=json)


@command(app, "list")
def list_keys(directory: Directory, json: Json = False) -> None:
    """List the clients that are served."""
    from streamvis.runners.tables import Table
    from streamvis.transport import keys

    found = keys.clients(directory)
    rows = [(one.name, one.public, "yes" if one.secret_here else "no") for one in found]
    table = Table("", ("client", "public key", "secret key is here"), rows)
    value = {
        "server": keys.server_keys(directory).public,
        "clients": [one._asdict() for one in found],
    }
    put_result(value, [f"server {value['server']}", table], json=json)


@command(app)
def revoke(
    directory: Directory, name: Annotated[str, Argument(help="Name of the client.")]
) -> None:
    """Lock a client out: a running server ends its connections within a second."""
    from streamvis.transport import keys

    keys.revoke(directory, name)
    say(f"{name} is not served any more")
