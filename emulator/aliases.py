"""Namespace aliases (API 2026-07): repointable names that reads, and only reads, may use for a namespace."""

import re
from collections.abc import Container
from datetime import UTC, datetime

from emulator.errors import Refusal, invalid, not_found
from emulator.records import DEFAULT_NAMESPACE, check_id
from emulator.tokens import make_token, read_token

ALIASES_PER_INDEX = 1_000
LIST_LIMIT = 100
_URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")

Alias = dict[str, str]  # name, target_namespace, created_at, updated_at: as the service answers


class Aliases:
    def __init__(self, namespaces: Container[str]) -> None:
        self._namespaces = namespaces
        self.by_name: dict[str, Alias] = {}

    def resolve(self, name: str) -> str:
        """Return the namespace that a read of this name reaches."""
        alias = self.by_name.get(name)
        return alias["target_namespace"] if alias else name

    def refuse_write(self, name: str) -> None:
        if name in self.by_name:
            raise Refusal(
                400,
                f"'{name}' is an alias of namespace '{self.resolve(name)}'; write to the namespace itself",
                reason="WRITE_TO_ALIAS",
            )

    def refuse_name(self, name: str) -> None:
        """Refuse to give a namespace the name of an alias."""
        if name in self.by_name:
            raise Refusal(409, f"'{name}' is the name of an alias", reason="NAME_IN_USE_BY_ALIAS")

    def refuse_deletion(self, namespace: str) -> None:
        pointing = sorted(name for name in self.by_name if self.resolve(name) == namespace)
        if pointing:
            raise Refusal(
                400,
                f"Namespace '{namespace}' is the target of alias '{pointing[0]}'; delete or repoint the alias first",
                reason="NAMESPACE_HAS_ALIAS",
            )

    def create(self, name: object, target: object) -> Alias:
        name = check_id(name, "Alias name")
        if not _URL_SAFE.fullmatch(name) or name == DEFAULT_NAMESPACE:
            raise invalid(f"'{name}' cannot be an alias: use letters, digits and . _ ~ - only")
        if name in self._namespaces:
            raise Refusal(409, f"A namespace is named '{name}'", reason="NAME_IN_USE_BY_NAMESPACE")
        present = self.by_name.get(name)
        if present:
            raise Refusal(
                409,
                f"Alias '{name}' already exists",
                reason="ALIAS_ALREADY_EXISTS",
                metadata={"target_namespace": present["target_namespace"]},
            )
        if len(self.by_name) >= ALIASES_PER_INDEX:
            raise Refusal(403, f"The index has reached its {ALIASES_PER_INDEX} aliases", reason="ALIAS_QUOTA_EXCEEDED")
        now = _now()
        target = self._target(target)
        self.by_name[name] = {"name": name, "target_namespace": target, "created_at": now, "updated_at": now}
        return self.by_name[name]

    def repoint(self, name: str, target: object) -> Alias:
        alias = self.find(name)
        alias |= {"target_namespace": self._target(target), "updated_at": _now()}
        return alias

    def delete(self, name: str) -> None:
        """Delete an alias. Readers that still use the name get empty answers, not errors."""
        self.find(name)
        del self.by_name[name]

    def find(self, name: str) -> Alias:
        alias = self.by_name.get(name)
        if alias is None:
            raise Refusal(404, f"Alias '{name[:80]}' not found", reason="ALIAS_NOT_FOUND")
        return alias

    def list(
        self, prefix: str, target: str | None, token: str | None, limit: int
    ) -> tuple[list[Alias], str | None, int]:
        """Return a page by name, the token of the next one, and the number of aliases in all."""
        if not 1 <= limit <= LIST_LIMIT:
            raise invalid(f"limit must be between 1 and {LIST_LIMIT}, got {limit}")
        after = read_token(token, "aliases")
        chosen = [
            alias
            for name, alias in sorted(self.by_name.items())
            if name.startswith(prefix) and target in (None, alias["target_namespace"])
        ]
        rest = [alias for alias in chosen if alias["name"] > after]
        page = rest[:limit]
        return page, make_token("aliases", page[-1]["name"]) if len(rest) > limit else None, len(chosen)

    def _target(self, target: object) -> str:
        target = check_id(target, "target_namespace")
        if target in self.by_name:
            raise Refusal(400, f"'{target}' is an alias; aliases cannot be chained", reason="TARGET_IS_ALIAS")
        if target not in self._namespaces:
            raise not_found(f"Namespace '{target}' not found")
        return target


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
