"""`serve`, and the tokens of those who ask it."""

from typing import Annotated, Literal

import typer

from orchestrator import logs
from orchestrator.cli.output import err
from orchestrator.cli.session import fleet
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Default: API_PORT.")] = None,
) -> None:
    """Serve the operator's page at /, the tenants' API at /delphi, and /metrics, until Ctrl-C."""
    import uvicorn

    from orchestrator.web.app import create

    with fleet() as parts:
        logs.configure(parts.settings.log_format)
        listening = port or parts.settings.api_port
        application = create(parts)
        err.print(f"serving on http://{host}:{listening}; Ctrl-C stops it")
        uvicorn.run(application, host=host, port=listening, log_level="warning", server_header=False)


def token_create(
    creator: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Whose records it reaches; may be repeated.")
    ] = None,
    user: Annotated[str, typer.Option(help="Who holds it, for the audit.")] = "an application",
    role: Annotated[
        Literal["user", "service", "admin"],
        typer.Option(help="user: these creators; service: reads routes; admin: reaches everything, and is logged."),
    ] = "user",
) -> None:
    """Make a bearer token for the API. It is printed this once; only its hash is kept."""
    from orchestrator.web.app import TOKENS
    from vecfleet.tenancy.api.users import TokenFile

    if role == "user" and not creator:
        raise BadInput("a user's token needs a creator", next_step="`--creator ID`")
    for one in creator or ():
        names.build(one)
    home = Settings.load().vecfleet_home
    token = TokenFile(home / TOKENS).create({"id": user, "role": role, "creator_ids": list(creator or ())})
    typer.echo(token)
    err.print("next: vecfleet serve; send it as `Authorization: Bearer …`")
