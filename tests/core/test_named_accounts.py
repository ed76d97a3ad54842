"""Named accounts: what their file may hold, who may read it, and that no answer holds a key."""

from pathlib import Path

import pytest

from orchestrator.bootstrap import Fleet
from vecfleet.connections import connection, connections
from vecfleet.errors import BadInput
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import Accounts

KEY = "pcsk_secret"


def settings(tmp_path: Path, text: str, mode: int = 0o600) -> Settings:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    path.chmod(mode)
    return Settings(pinecone_connections=path, pinecone_api_key="home", pinecone_host="https://home")  # type: ignore[arg-type]


def test_an_account_takes_the_place_of_the_default_one(tmp_path: Path) -> None:
    own = settings(tmp_path, f'[eu]\napi_key = "{KEY}"\nproject = "abc"\n[dev]\napi_key = "x"\n')
    assert sorted(connections(own)) == ["dev", "eu"]
    account = connection(own, "eu").settings(own)
    assert account.pinecone_api_key is not None and account.pinecone_api_key.get_secret_value() == KEY
    assert (account.pinecone_project, account.pinecone_controller_host, account.pinecone_host) == ("abc", None, None)
    assert Fleet(own).store_named("pinecone@eu").name == "pinecone@eu"
    assert KEY not in repr(account) + repr(connections(own))


def test_an_index_is_reached_by_the_private_endpoint_that_its_account_names(tmp_path: Path) -> None:
    own = settings(tmp_path, f'[eu]\napi_key = "{KEY}"\nhosts = {{ brain = "brain-abc.svc.private.example" }}\n')
    eu = Accounts(own).store("pinecone@eu")
    public = "other-abc.svc.example"
    assert (
        eu.host(IndexInfo("brain", Kind.DENSE, 8, "cosine", "brain-abc.svc.example")) == "brain-abc.svc.private.example"
    )
    assert eu.host(IndexInfo("other", Kind.DENSE, 8, "cosine", public)) == public


def test_without_a_file_there_are_none() -> None:
    assert connections(Settings(pinecone_connections=None)) == {}
    unset = "there is no account 'pinecone@eu' here: PINECONE_CONNECTIONS is not set"
    with pytest.raises(BadInput, match=unset) as refused:
        Fleet(Settings(pinecone_connections=None)).store_named("pinecone@eu")
    way = "add [eu] with its api_key to a file, set PINECONE_CONNECTIONS to its whole path, then start this again"
    assert refused.value.next_step == way


def test_a_file_without_accounts_is_said_to_name_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no account 'pinecone@eu' here: .*accounts.toml names none"):
        Fleet(settings(tmp_path, "")).store_named("pinecone@eu")


def test_an_account_that_the_file_lacks_is_to_be_added_to_that_file(tmp_path: Path) -> None:
    own = settings(tmp_path, f'[eu]\napi_key = "{KEY}"\n')
    with pytest.raises(BadInput, match="there is no account 'pinecone@us' here; there are: pinecone@eu") as refused:
        Fleet(own).store_named("pinecone@us")
    assert refused.value.next_step == f"add [us] with its api_key to {tmp_path / 'accounts.toml'}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(BadInput, match="others than its owner") as refused:
        connections(settings(tmp_path, f'[eu]\napi_key = "{KEY}"\n', mode))
    assert refused.value.next_step == f"chmod 600 {tmp_path / 'accounts.toml'}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'[eu]\nkey = "{KEY}"\n', "eu.api_key: Field required; eu.key: Extra inputs are not permitted"),
        ('[eu]\napi_key = ""\n', "eu.api_key: "),
        (f'["e u"]\napi_key = "{KEY}"\n', "'e u' cannot be the name of an account"),
        (f"[eu]\napi_key = {KEY}\n", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_said_without_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        connections(settings(tmp_path, text))
    assert KEY not in refused.value.message and refused.value.next_step


@pytest.mark.parametrize(
    ("host", "project"),
    [
        ("brain-abc1234.svc.aped-4627-b74a.pinecone.io", "abc1234"),
        ("https://brain-abc1234.svc.us-east-1.byoc.pinecone.io", "abc1234"),
        ("brain-abc1234.svc.private.aped-4627-b74a.pinecone.io", "abc1234"),
        ("http://127.0.0.1:5081", None),
        ("other-abc1234.svc.aped-4627-b74a.pinecone.io", None),
        ("parquet:brain", None),
    ],
)
def test_the_host_of_an_index_tells_its_project(host: str, project: str | None) -> None:
    assert IndexInfo("brain", Kind.DENSE, 8, "cosine", host).project == project
