"""The schema of a document index: the fields that are searched, each in its way. All else in a document is metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from emulator.errors import Refusal, invalid
from emulator.text import MODELS

MAX_DIMENSION = 20_000
METRICS = ("cosine", "dotproduct", "euclidean")
NAME_BYTES = 64
DESCRIPTION_BYTES = 256
TEXT_FIELDS = 100
_RESPONSE_ONLY = ("float", "boolean", "string_list", "semantic_text")
_LANGUAGES = ("en", "english")
_DENSE_MODEL, _SPARSE_MODEL = "llama-text-embed-v2", "pinecone-sparse-english-v0"

Config = Mapping[str, object]


@dataclass(frozen=True)
class Text:
    """A string field."""

    stored: bool  # then it can be read, and found by its words
    whole_words: bool  # false: by stems or parts of words, which the emulator does not score


@dataclass(frozen=True)
class DocumentFields:
    """The searched fields of a document index. A dense vector is given, or made of a text; so is a sparse one."""

    dense: str | None = None
    sparse: str | None = None
    embed: str | None = None
    sparse_embed: str | None = None
    texts: Mapping[str, Text] = field(default_factory=dict)

    def searched(self, name: str) -> bool:
        return name in self.texts or name in (self.dense, self.sparse)

    def required(self) -> list[str]:
        return [name for name in (self.dense, self.embed) if name is not None]

    def is_dense_only(self) -> bool:
        return self.dense is not None and self.names() == [self.dense]

    def has_sparse(self) -> bool:
        return (self.sparse or self.sparse_embed) is not None

    def embeds(self) -> bool:
        return (self.embed or self.sparse_embed) is not None

    def names(self) -> list[str]:
        return [name for name in (self.dense, self.sparse, *self.texts) if name is not None]


def read_fields(fields: Mapping[str, Config]) -> DocumentFields:
    """Return what `resolve` has checked, as the data plane uses it."""
    return DocumentFields(
        dense=_holder(fields, "dense_vector"),
        sparse=_holder(fields, "sparse_vector"),
        embed=_holder(fields, "embed"),
        sparse_embed=_holder(fields, "sparse_embed"),
        texts={name: _text(config) for name, config in fields.items() if config["type"] == "string"},
    )


def dense_slot(fields: Mapping[str, Config]) -> tuple[int | None, str]:
    """Return the dimension and the metric of the one dense vector that a document has; None: it has none."""
    for config in fields.values():
        slot = config if config["type"] == "dense_vector" else config.get("embed")
        if isinstance(slot, Mapping):
            return cast(int, slot["dimension"]), str(slot["metric"])
    return None, "dotproduct"


def resolve(fields: Mapping[str, Config]) -> dict[str, Config]:
    """Return the schema as the service describes it, with every default filled in; refuse one that is none."""
    resolved = {name: _resolve(name, config) for name, config in fields.items()}
    for slot, kinds in (("dense", ("dense_vector", "embed")), ("sparse", ("sparse_vector", "sparse_embed"))):
        holders = [name for name, config in resolved.items() if any(_holds(config, kind) for kind in kinds)]
        if len(holders) > 1:
            raise invalid(f"A schema may have one {slot} vector field, got {', '.join(map(repr, holders))}")
    if sum("full_text_search" in config for config in resolved.values()) > TEXT_FIELDS:
        raise invalid(f"A schema may have at most {TEXT_FIELDS} full_text_search fields")
    return resolved


def _holder(fields: Mapping[str, Config], slot: str) -> str | None:
    return next((name for name, config in fields.items() if _holds(config, slot)), None)


def _holds(config: Config, slot: str) -> bool:
    return config["type"] == slot or slot in config


def _text(config: Config) -> Text:
    search = config.get("full_text_search")
    whole = not isinstance(search, Mapping) or not (search.get("stemming") or search.get("ngram"))
    return Text(stored=config.get("store_text") is not False, whole_words=whole)


def _resolve(name: str, config: Config) -> Config:
    where, kind = f"schema.fields.{name}", config.get("type")
    if not 1 <= len(name.encode()) <= NAME_BYTES or name.startswith(("_", "$")):
        raise invalid(
            f"Field name '{name[:80]}' must have 1 to {NAME_BYTES} bytes and may not start with '_' or '$'; "
            "'_values' and '_sparse_values' are for schemas of nothing else"
        )
    if kind == "string":
        return _string(where, config)
    if config.get("filterable") is not None or kind in _RESPONSE_ONLY:
        raise invalid(f"{where}: only searched fields are declared; metadata is filterable without a declaration")
    if kind == "dense_vector":
        dimension = _dimension(where, config.get("dimension"))
        return {
            "type": kind,
            "dimension": dimension,
            "metric": _metric(where, config.get("metric")),
            "description": _description(where, config),
        }
    if kind == "sparse_vector":
        return {"type": kind, "description": _description(where, config)}
    raise Refusal(
        422, f"{where}.type: unknown variant `{str(kind)[:40]}`, expected one of the types of a schema", plain=True
    )


def _string(where: str, config: Config) -> Config:
    search, embed, sparse = (_options(where, config, key) for key in ("full_text_search", "embed", "sparse_embed"))
    if search is None and embed is None and sparse is None:
        raise Refusal(422, f"{where}: a string field needs full_text_search, embed or sparse_embed")
    if config.get("filterable") is not None:
        raise invalid(f"{where}: a field is filtered or searched, not both")
    stored = config.get("store_text") is not False
    if not stored and (search is not None or (embed is None and sparse is None)):
        raise invalid(
            f"{where}: store_text can be false on a field with embed or sparse_embed, without full_text_search"
        )
    resolved: dict[str, object] = {"type": "string", "description": _description(where, config), "store_text": stored}
    if stored:
        resolved["full_text_search"] = _search(where, search or {})
    if embed is not None:
        resolved["embed"] = _embed(where, embed)
    if sparse is not None:
        resolved["sparse_embed"] = {"model": _model(where, sparse, _SPARSE_MODEL, is_dense=False)} | _parameters(sparse)
    return resolved


def _options(where: str, config: Config, key: str) -> Config | None:
    options = config.get(key)
    if options is not None and not isinstance(options, Mapping):
        raise Refusal(422, f"{where}.{key}: invalid type, expected an object", plain=True)
    return options


def _search(where: str, options: Config) -> Config:
    stemming, stop_words = options.get("stemming") is True, options.get("stop_words") is True
    language, ngram = options.get("language") or "en", options.get("ngram")
    if stop_words and not stemming:
        raise invalid(f"{where}: stop_words needs stemming")
    resolved: dict[str, object] = {
        "language": "en" if language in _LANGUAGES else language,
        "stemming": stemming,
        "stop_words": stop_words,
    }
    if ngram is None:
        return resolved
    if not isinstance(ngram, Mapping):
        raise Refusal(422, f"{where}.full_text_search.ngram: invalid type, expected an object", plain=True)
    low, high = ngram.get("min_gram"), ngram.get("max_gram")
    if stemming or stop_words:
        raise invalid(f"{where}: ngram excludes stemming and stop_words")
    if type(low) is not int or type(high) is not int or not 1 <= low <= high <= 10:
        raise invalid(f"{where}: ngram needs 1 <= min_gram <= max_gram <= 10")
    return resolved | {"ngram": {"min_gram": low, "max_gram": high, "prefix_only": ngram.get("prefix_only") is True}}


def _embed(where: str, options: Config) -> Config:
    model = _model(where, options, _DENSE_MODEL, is_dense=True)
    dimension = _dimension(where, options.get("dimension") or MODELS[model])
    metric = _metric(where, options.get("metric") or "cosine")
    return {"model": model, "dimension": dimension, "metric": metric} | _parameters(options)


def _model(where: str, options: Config, default: str, is_dense: bool) -> str:
    model = options.get("model") or default
    models = [name for name, dimension in MODELS.items() if (dimension is not None) is is_dense]
    if model not in models:
        raise invalid(f"{where}: model must be one of {', '.join(models)}, got {str(model)[:80]!r}")
    return str(model)


def _parameters(options: Config) -> dict[str, object]:
    return {key: options.get(key) or {} for key in ("write_parameters", "read_parameters")}


def _dimension(where: str, dimension: object) -> int:
    if type(dimension) is not int or not 1 <= dimension <= MAX_DIMENSION:
        raise invalid(f"{where}: dimension must be an integer between 1 and {MAX_DIMENSION}, got {dimension!r}")
    return dimension


def _metric(where: str, metric: object) -> str:
    if metric not in METRICS:
        raise invalid(f"{where}: metric must be one of {', '.join(METRICS)}, got {metric!r}")
    return str(metric)


def _description(where: str, config: Config) -> str | None:
    text = config.get("description")
    if text is None:
        return None
    if not isinstance(text, str) or len(text.encode()) > DESCRIPTION_BYTES:
        raise invalid(f"{where}: description may have at most {DESCRIPTION_BYTES} bytes")
    return text
