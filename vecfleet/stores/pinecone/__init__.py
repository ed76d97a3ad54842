"""Pinecone, through its official SDK; nothing outside this folder imports that.

`store` is the control plane and `index` the data plane, `document_index` that of document indexes, `texts_in` that of
indexes that embed texts themselves; `accounts` has one store for each account, `serving` answers an application,
`conversions` and `bulk_imports` are the service's own. `clients` builds the SDK's clients, `kinds` tells the kind of an
index, `regions` where one may be, `records` turns records into requests and answers into records, `errors` is the one
table of errors.
"""

from vecfleet.stores.pinecone.accounts import Accounts
from vecfleet.stores.pinecone.index import PineconeIndex
from vecfleet.stores.pinecone.serving import AsyncPineconeServing, PineconeServing
from vecfleet.stores.pinecone.store import PineconeStore

__all__ = ["Accounts", "AsyncPineconeServing", "PineconeIndex", "PineconeServing", "PineconeStore"]
