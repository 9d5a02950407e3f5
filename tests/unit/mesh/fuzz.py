"""Strategies for damaged input: what a broken or hostile peer makes of sound bytes."""

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    """Give sound bytes with some replaced, dropped, inserted, or cut off."""
    data = bytearray(draw(sound))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("replace", "drop", "insert", "cut"))):
            case "replace" if position < len(data):
                data[position] = draw(st.integers(0, 255))
            case "drop":
                del data[position : position + draw(st.integers(1, 8))]
            case "insert":
                data[position:position] = draw(st.binary(min_size=1, max_size=8))
            case _:
                del data[position:]
    return bytes(data)


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut bytes as a network may."""
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
