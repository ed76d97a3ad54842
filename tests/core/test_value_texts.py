"""Values as text and back: the bits of every float32, whether a reader rounds its text once or, by a float64, twice."""

import struct
from fractions import Fraction

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.contracts.making import documents_like
from vecfleet.records import Record, Sparse
from vecfleet.stores import document_text
from vecfleet.stores.base import Kind
from vecfleet.stores.documents import Layout
from vecfleet.stores.value_text import floats, pack

HALFWAY = 0x15AE43FD  # its shortest text, 7.038531e-26, is as a float64 halfway between it and the next float32
BITS = st.integers(0, 0x7F7FFFFF) | st.integers(0x80000000, 0xFF7FFFFF)


def of_bits(bits: int) -> bytes:
    return struct.pack("<I", bits)


@given(BITS)
@example(HALFWAY)
@example(HALFWAY | 1 << 31)
@example(HALFWAY + 1)
def test_the_text_of_every_value_reads_back_to_its_bits(bits: int) -> None:
    text = floats(of_bits(bits))
    (number,) = orjson.loads(text)
    assert struct.pack("<f", number) == of_bits(bits), f"a reader that rounds {text!r} twice has another value"
    assert is_nearest(text.decode().strip("[]"), bits), f"a reader that rounds {text!r} once has another value"
    assert pack([number]) == of_bits(bits)
    assert pack(struct.unpack("<f", of_bits(bits))) == of_bits(bits)


def is_nearest(text: str, bits: int) -> bool:
    """Say whether the number that the text names is nearer to this value than to its neighbours."""
    magnitude, value = bits & 0x7FFFFFFF, abs(Fraction(text))
    below, at, above = (exactly(each) for each in (max(magnitude - 1, 0), magnitude, magnitude + 1))
    return (below + at) / 2 <= value <= (at + above) / 2


def exactly(magnitude: int) -> Fraction:
    if magnitude == 0x7F800000:
        return Fraction(2) ** 128
    return Fraction(struct.unpack("<f", of_bits(magnitude))[0])


@pytest.mark.parametrize("sign", ["", "-"])
def test_the_shortest_text_of_a_value_that_another_program_wrote_is_read_as_that_value(sign: str) -> None:
    (number,) = orjson.loads(f"[{sign}7.038531e-26]")
    assert pack([1.0, number]) == struct.pack("<f", 1.0) + of_bits(HALFWAY | (1 << 31 if sign else 0))


def test_a_document_comes_back_with_its_bits() -> None:
    layout = Layout.of(documents_like(Kind.HYBRID))
    assert layout is not None
    values = struct.pack("<3If", HALFWAY, HALFWAY | 1 << 31, HALFWAY + 1, 0.5)
    record = Record("r", values, Sparse(struct.pack("<4I", 1, 2, 3, 4), values))
    line = document_text.write(layout, record)
    fields = {name: orjson.dumps(value) for name, value in orjson.loads(line).items()}
    assert document_text.read(layout, "r", fields) == record  # type: ignore[arg-type]
