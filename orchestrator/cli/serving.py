"""`serve`, and the tokens of its clients."""

from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Any, Literal

import typer

from orchestrator.cli.output import Json, err, say, say_json, say_next, say_table
from orchestrator.cli.session import fleet
from orchestrator.core.two_persons import UNNAMED
from orchestrator.telemetry import logs, tracing
from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.settings import Settings
from vecfleet.tenancy import tokens
from vecfleet.tenancy.tokens import LASTS_DAYS, Token, TokenFile

# An open page holds its connection for ever; nothing is lost by cutting it.
_STOPS_WITHIN_S = 2
_LONGEST_DAYS = 3_650
_CONNECTIONS = 900  # at once; a process may usually open 1,024 files


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 in a container.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Default: API_PORT.")] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="The proxy in front that speaks TLS, or its network: trust the client addresses it reports, and send "
            "cookies over TLS only. May be repeated.",
        ),
    ] = None,
) -> None:
    """Serve the operator's page at /, the tenants' API at /delphi, and /metrics, until Ctrl-C."""
    import uvicorn

    from orchestrator.web.app import create
    from orchestrator.web.sessions import OperatorTokens

    proxies = [_network(address) for address in trusted_proxy or ()]
    with fleet() as parts:
        logs.configure(parts.settings)
        tracing.start(parts.settings, "web")
        listening = port or parts.settings.api_port
        application = create(parts, behind_proxy=bool(proxies))
        err.print(f"serving on http://{host}:{listening}; Ctrl-C stops it")
        if not OperatorTokens(parts.settings.vecfleet_home / tokens.FILE, parts.settings.operator_token).any_operator():
            err.print("next: vecfleet token create --role operator, to sign in at the page")
        uvicorn.run(application, **listening_options(host, listening, proxies))


def listening_options(host: str, port: int, proxies: list[str]) -> dict[str, Any]:
    """Return uvicorn's options: how many connections at once, how patient, and which proxies it believes."""
    from orchestrator.web.protocol import Impatient

    return {
        "host": host,
        "port": port,
        "log_config": None,
        "access_log": False,  # it would log ids that stand in addresses
        "server_header": False,
        "proxy_headers": bool(proxies),
        "forwarded_allow_ips": proxies,
        "http": Impatient,
        "ws": "none",
        "limit_concurrency": _CONNECTIONS,
        "timeout_graceful_shutdown": _STOPS_WITHIN_S,
    }


def token_create(
    creator: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Whose records it reaches; may be repeated.")
    ] = None,
    user: Annotated[str, typer.Option(help="Who holds it, for the audit.")] = UNNAMED,
    role: Annotated[
        Literal["user", "service", "evidence", "fencing", "operator", "viewer", "read", "operate", "approve", "admin"],
        typer.Option(
            help="user: these creators; service: reads routes; evidence: reports shadow reads, too; fencing: raises "
            "the fence of erasures, too; operator: steers jobs on the page; viewer: looks at them; read, operate, "
            "approve: for programs, see docs/http-api.md; admin: reaches everything, and is logged."
        ),
    ] = "user",
    days: Annotated[
        int, typer.Option(min=1, max=_LONGEST_DAYS, help="The token ends after so many days.")
    ] = LASTS_DAYS,
) -> None:
    """Make a token, for the API or to sign in at the page. It is printed once; only its hash is kept."""
    if role == "user" and not creator:
        raise BadInput("a user's token needs a creator", next_step="`--creator ID`")
    if role != "user" and creator:
        raise BadInput(
            f"--creator limits a user's token to some creators' records; the role {role} has no such limit",
            next_step="leave out --creator; or make another token for them, of the role user",
        )
    for creator_id in creator or ():
        names.build(creator_id)
    file = _file()
    token = file.create({"id": user, "role": role, "creator_ids": list(creator or ())}, days)
    typer.echo(token)
    name = tokens.name_of(token)
    ends = next(_day(kept.expires) for kept in file.every() if kept.name == name)
    err.print(f"it ends on {ends}; `vecfleet token revoke {name}` ends it now")
    how = "sign in with it at /" if role in ("operator", "viewer") else "send it as `Authorization: Bearer …`"
    err.print(f"next: vecfleet serve; {how}")


def token_list(as_json: Json = False) -> None:
    """List the tokens: who holds each, what it may do, when it ends, and when it was last used."""
    known_tokens = _file().every()
    steps = ["vecfleet token revoke TOKEN"] if known_tokens else ["vecfleet token create --role operator"]
    if as_json:
        say_json({"tokens": [_json(token) for token in known_tokens], "next_steps": steps})
        return
    if known_tokens:
        say_table(
            ("token", "user", "role", "creators", "made", "ends", "last used"),
            (
                (
                    token.name,
                    token.user,
                    token.role,
                    ", ".join(token.creators),
                    *map(_day, (token.made, token.expires, token.last_used)),
                )
                for token in known_tokens
            ),
        )
    else:
        say("there are no tokens")
    say_next(steps)


def token_revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name, as `vecfleet token list` has it.")],
) -> None:
    """End a token now: its holder is refused from the next request on, and its sessions end."""
    ended = _file().revoke(token)
    say(f"the token {ended.name} of {ended.user}, role {ended.role}, opens nothing any more")
    say_next(["vecfleet token list"])


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise BadInput(
            f"{text!r} is neither an address nor a network", next_step="--trusted-proxy 10.0.0.7, or 10.0.0.0/24"
        ) from error


def _file() -> TokenFile:
    return TokenFile(Settings.load().vecfleet_home / tokens.FILE)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment is not None else "never"


def _json(token: Token) -> dict[str, object]:
    stamps = {"made": token.made, "expires": token.expires, "last_used": token.last_used}
    body = {"token": token.name, "user": token.user, "role": token.role, "creators": list(token.creators)}
    return body | {name: moment.isoformat() if moment is not None else None for name, moment in stamps.items()}
