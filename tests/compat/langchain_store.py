"""LangChain's Pinecone vector store against the emulator: `python langchain_store.py CONTROL`. Prints what is done."""

import sys

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_pinecone import PineconeVectorStore
from pinecone import Pinecone, ServerlessSpec


class Plain(Embeddings):
    """Vectors as lists of Python's numbers: the SDK takes none of NumPy's."""

    made = DeterministicFakeEmbedding(size=8)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(value) for value in self.made.embed_query(text)]


pc = Pinecone(api_key="any", host=sys.argv[1])
pc.create_index(name="notes", dimension=8, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1"))
index = pc.Index(host=pc.describe_index("notes").host)
store = PineconeVectorStore(index=index, embedding=Plain(), namespace="alma")

notes = [Document(f"note {n}", metadata={"page": n, "done": n % 2 == 0}) for n in range(5)]
assert store.add_documents(notes, ids=[f"n-{n}" for n in range(5)]) == [f"n-{n}" for n in range(5)]
print("added")

[best, *_] = store.similarity_search("note 3", k=3)
assert (best.id, best.page_content, best.metadata) == ("n-3", "note 3", {"page": 3.0, "done": False}), best
found = store.similarity_search("note 3", k=5, filter={"done": True})
assert {note.metadata["page"] for note in found} == {0.0, 2.0, 4.0}, found
print("searched")

store.delete(ids=["n-3"])
assert {note.id for note in store.similarity_search("note 3", k=5)} == {"n-0", "n-1", "n-2", "n-4"}
print("deleted")
