"""`serve`, and the tokens of those who ask it."""

from typing import Annotated, Literal

import typer

from orchestrator import logs
from orchestrator.cli.output import err
from orchestrator.cli.session import fleet
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.settings import Settings

# Pages that are looked at hold a connection for ever; nothing is lost by cutting it.
_STOPS_WITHIN_S = 2


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Default: API_PORT.")] = None,
) -> None:
    """Serve the operator's page at /, the tenants' API at /delphi, and /metrics, until Ctrl-C."""
    import uvicorn

    from orchestrator.web.app import TOKENS, create
    from orchestrator.web.sessions import OperatorTokens

    with fleet() as parts:
        logs.configure(parts.settings)
        listening = port or parts.settings.api_port
        application = create(parts)
        err.print(f"serving on http://{host}:{listening}; Ctrl-C stops it")
        if not OperatorTokens(parts.settings.vecfleet_home / TOKENS, parts.settings.operator_token).any_operator():
            err.print("next: vecfleet token create --role operator, to sign in at the page")
        uvicorn.run(
            application,
            host=host,
            port=listening,
            log_config=None,
            access_log=False,  # it would quote ids out of addresses
            server_header=False,
            timeout_graceful_shutdown=_STOPS_WITHIN_S,
        )


def token_create(
    creator: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Whose records it reaches; may be repeated.")
    ] = None,
    user: Annotated[str, typer.Option(help="Who holds it, for the audit.")] = "an application",
    role: Annotated[
        Literal["user", "service", "operator", "viewer", "admin"],
        typer.Option(
            help="user: these creators; service: reads routes; operator: steers jobs on the page; "
            "viewer: looks at them; admin: reaches everything, and is logged."
        ),
    ] = "user",
) -> None:
    """Make a token: a bearer for the API, or what signs in at the page. Printed this once; only its hash is kept."""
    from orchestrator.web.app import TOKENS
    from vecfleet.tenancy.api.users import TokenFile

    if role == "user" and not creator:
        raise BadInput("a user's token needs a creator", next_step="`--creator ID`")
    for one in creator or ():
        names.build(one)
    home = Settings.load().vecfleet_home
    token = TokenFile(home / TOKENS).create({"id": user, "role": role, "creator_ids": list(creator or ())})
    typer.echo(token)
    how = "sign in with it at /" if role in ("operator", "viewer") else "send it as `Authorization: Bearer …`"
    err.print(f"next: vecfleet serve; {how}")
