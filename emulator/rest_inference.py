"""Hosted embedding models on their own: their descriptions, and texts turned into vectors by stand-ins."""

from typing import Any

import numpy as np

from emulator.errors import invalid, not_found
from emulator.gate import Outcome
from emulator.http import Request
from emulator.text import MODELS, embed_dense, words
from emulator.wire_json import encode

# As the service describes its models; a token of the stand-ins is a word.
_TEXTS = 96
_TOKENS = {"multilingual-e5-large": 507, "llama-text-embed-v2": 2_048}
_DIMENSIONS = {"multilingual-e5-large": [1_024], "llama-text-embed-v2": [384, 512, 768, 1_024, 2_048]}


def describe_model(request: Request) -> Outcome:
    return Outcome(encode(_description(_known(request.segments[1]))))


def list_models(request: Request) -> Outcome:
    return Outcome(encode({"models": [_description(model) for model in MODELS]}))


def embed(request: Request) -> Outcome:
    """Embed texts. A text that is too long is refused, unless the request says to cut it."""
    body = request.json()
    model, inputs, parameters = _known(body.get("model")), body.get("inputs"), body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise invalid("parameters must be an object")
    if model not in _DIMENSIONS:
        raise invalid(f"{model} is not emulated: it gives sparse vectors")
    if parameters.get("input_type") not in ("query", "passage"):
        raise invalid("Missing or invalid value for parameter 'input_type': must be one of query, passage")
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= _TEXTS:
        raise invalid(f"Input length must be between 1 and {_TEXTS} for model '{model}'")
    dimension = parameters.get("dimension", MODELS[model])
    if dimension not in _DIMENSIONS[model]:
        raise invalid(f"Invalid value for parameter 'dimension': must be one of {_DIMENSIONS[model]}")
    texts = [_text(item, model, str(parameters.get("truncate", "END"))) for item in inputs]
    vectors = [np.frombuffer(embed_dense(" ".join(text), dimension), "<f4").tolist() for text in texts]
    data = [{"values": vector, "vector_type": "dense"} for vector in vectors]
    usage = {"total_tokens": sum(map(len, texts))}
    return Outcome(encode({"model": model, "vector_type": "dense", "data": data, "usage": usage}))


def _text(item: Any, model: str, truncate: str) -> list[str]:
    text = item.get("text") if isinstance(item, dict) else None
    if not isinstance(text, str) or not text:
        raise invalid("Each input must be an object with a non-empty 'text'")
    read, most = words(text), _TOKENS[model]
    if len(read) > most and truncate == "NONE":
        raise invalid(f"Input text exceeds the maximum of {most} tokens for model '{model}' and truncate is NONE")
    return read[:most]


def _known(model: object) -> str:
    if not isinstance(model, str) or model not in MODELS:
        raise not_found(f"Model '{model}' not found")
    return model


def _description(model: str) -> dict[str, Any]:
    dense = model in _DIMENSIONS
    return {
        "model": model,
        "short_description": "A stand-in of the emulator",
        "type": "embed",
        "vector_type": "dense" if dense else "sparse",
        "default_dimension": MODELS[model],
        "supported_dimensions": _DIMENSIONS.get(model),
        "modality": "text",
        "max_sequence_length": _TOKENS.get(model, 512),
        "max_batch_size": _TEXTS,
        "provider_name": "Pinecone",
        "supported_metrics": ["cosine"] if dense else ["dotproduct"],
        "supported_parameters": [],
    }
