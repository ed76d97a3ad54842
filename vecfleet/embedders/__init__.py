"""Embedders, which turn texts into vectors: services over HTTP, Pinecone's models, a local one, or hashes.

base       `Embedder`, what an application embeds with, and the checks of its answers
openai     OpenAI's models and those of services that speak its API, for applications
services   OpenAI, Cohere and Voyage: how each is asked and answers, its models, limits and prices
endpoint   one request to such a service, and every answer understood
remote     a model behind such a service, for the fleet
hashing    vectors without a model, for rehearsals
models     `EmbeddingModel`, what the fleet asks one request at a time, and the checks of its answers
local      `wordllama`: a model without a network
tokens     OpenAI's tokenizer
texts      one form and one digest for what says the same; requests of the right size
batching   many texts for a command that somebody waits for
opening    models by their names; not imported here, because it loads Pinecone's SDK

An embedder is asked for vectors of the table's dimension, and vectors of another dimension are refused: else a model of
3,072 dimensions could fill a table of 1,536 unnoticed.
"""

from vecfleet.embedders.base import TEXTS_AT_ONCE, Embedder, embed, embed_one
from vecfleet.embedders.batching import vectors_of
from vecfleet.embedders.hashing import HashEmbedder
from vecfleet.embedders.local import LOCAL_MODEL, LocalEmbedder
from vecfleet.embedders.models import Answer, EmbeddingModel, Vectors
from vecfleet.embedders.openai import DEFAULT_MODEL, OpenAIEmbedder, openai_embedder
from vecfleet.embedders.texts import normalised, text_digest

__all__ = [
    "DEFAULT_MODEL",
    "LOCAL_MODEL",
    "TEXTS_AT_ONCE",
    "Answer",
    "Embedder",
    "EmbeddingModel",
    "HashEmbedder",
    "LocalEmbedder",
    "OpenAIEmbedder",
    "Vectors",
    "embed",
    "embed_one",
    "normalised",
    "openai_embedder",
    "text_digest",
    "vectors_of",
]
