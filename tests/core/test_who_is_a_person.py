"""The rule of two persons: who counts as one, and whom another makes two with."""

import pytest

from orchestrator.core.two_persons import alone, other_person

POLICY, SETTINGS, UNNAMED = "policy", "operator", "an application (0f3a9c21)"

ASKED = {
    "nobody has asked": ((), "ana", None),
    "an account, and a token of another": (("ana",), "ben (1b2c3d4e)", "ana"),
    "two tokens of two": (("ana (0f3a9c21)",), "ben (1b2c3d4e)", "ana (0f3a9c21)"),
    "the same account": (("ana",), "ana", None),
    "an account, and a token of its name": (("ana",), "ana (0f3a9c21)", None),
    "two tokens of one": (("ana (0f3a9c21)",), "ana (1b2c3d4e)", None),
    "a name in capitals": (("ana",), "Ana (0f3a9c21)", None),
    "the second of two that asked": (("ben", "ana"), "ben", "ana"),
    "a policy after a person": (("ana",), POLICY, None),
    "a person after a policy": ((POLICY,), "ana", None),
    "an account, and OPERATOR_TOKEN": (("ana",), SETTINGS, None),
    "OPERATOR_TOKEN, and an account": ((SETTINGS,), "ana", None),
    "a token that is named as OPERATOR_TOKEN is": (("ana",), "operator (0f3a9c21)", None),
    "a token without a name": (("ana",), UNNAMED, None),
    "two tokens without a name": ((UNNAMED,), "an application (1b2c3d4e)", None),
    "users of one application": (("shop (0f3a9c21), for ana",), "shop (0f3a9c21), for ben", None),
    "an application's user, and a person": (("shop (0f3a9c21), for ana",), "ben", "shop (0f3a9c21), for ana"),
    "no name at all": (("ana",), " (0f3a9c21)", None),
}


@pytest.mark.parametrize(("asked", "who", "other"), ASKED.values(), ids=ASKED)
def test_two_persons_are_two_names_that_are_somebodys(asked: tuple[str, ...], who: str, other: str | None) -> None:
    assert other_person(who, asked) == other


def test_it_is_told_who_asked_and_a_policy_is_not_named() -> None:
    assert alone("erasure", (POLICY, "ana")) == "waits for a second person for the erasure: ana asked for it"
    assert alone("erasure", (POLICY,)) == "waits for two persons for the erasure"
