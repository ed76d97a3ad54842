"""Room of a fetch: as many ids as its answer may hold bytes, by the size of the records answered lately."""

# An answer that came lets the next one be larger by this: after 14 of them a halved room is whole again.
_GROWTH = 1.05
_LEAST_BYTES = 500_000
# Metadata of a record before any was seen; the values are known by the dimension.
_FIRST_METADATA_BYTES = 2_000
# The weight that records seen before keep beside those of one more answer.
_MEMORY = 0.5


class FetchRoom:
    """The ids that one fetch of an index asks for. Only a hint: threads may overwrite each other's observations."""

    def __init__(self, most_ids: int, answer_bytes: int, values_bytes: int) -> None:
        self._most_ids = most_ids
        self._most_bytes = self._bytes = float(answer_bytes)
        self._seen = 1.0, float(values_bytes + _FIRST_METADATA_BYTES)  # records and their bytes, the latest first

    @property
    def ids(self) -> int:
        records, size = self._seen
        return max(1, min(self._most_ids, int(self._bytes * records / size)))

    def answered(self, records: int, size: int) -> None:
        """Note an answer of so many records and bytes."""
        if records:
            earlier_records, earlier_bytes = self._seen
            self._seen = _MEMORY * earlier_records + records, _MEMORY * earlier_bytes + size
        self._bytes = min(self._most_bytes, self._bytes * _GROWTH)

    def was_too_much(self) -> None:
        """Ask for half from now on: an answer was refused for its size, or did not come inside the deadline."""
        self._bytes = min(self._bytes, max(_LEAST_BYTES, self._bytes / 2))
