"""Small damages to bytes, from a generator of random numbers: what files and messages go through."""

from __future__ import annotations

import random
from collections.abc import Sequence

#: What breaks readers more often than chance would find it.
TOKENS = (
    *(b"\x00", b"\xff", b"\xff\xd8", b"\xff\xd9", b"IEND", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00"),
    *(b"null", b"true", b"-1", b"0", b"1e999", b"-1e400", b"NaN", b"inf", b"9" * 30, b"9" * 5000),
    *(b"0x" + b"f" * 4000, b"[]", b"{}", b"[" * 2000, b'{"a":' * 400, b'""', b'"\\ud800"', b"\xc3\x28"),
    *(b"\n~~\n", b"\n~~\n\n~~\n", b"../", b"%00", b"http://[", b'encoding="utf-7"', b"a" * 5000),
)


def mutate(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """``data`` with one to six damages; ``others`` are inputs to take pieces from."""
    out = bytearray(data)
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(out))
        match random.randrange(7):
            case 0 if out:
                out[at % len(out)] ^= 1 << random.randrange(8)
            case 1:
                del out[at : at + random.randint(1, 1 + len(out) // 4)]
            case 2:
                out[at:at] = random.choice(TOKENS)
            case 3:
                token = random.choice(TOKENS)
                out[at : at + len(token)] = token
            case 4:
                length = random.randint(1, 32)
                out[at:at] = out[at : at + length]
            case 5:
                other = random.choice(others)
                start = random.randint(0, len(other))
                out[at:at] = other[start : start + random.randint(1, 64)]
            case _:
                out[at:at] = random.randbytes(random.randint(1, 8))
    return bytes(out[: 1 << 16])


def mutate_value(random: random.Random, data: bytes) -> bytes:
    """Text with one JSON or TOML value replaced by another, still well-formed more often than not."""
    starts = [i + 1 for i, byte in enumerate(data) if byte in b":=,[" and i + 1 < len(data)]
    if not starts:
        return data
    start = random.choice(starts)
    end = next((i for i in range(start + 1, len(data)) if data[i] in b",]}\n"), len(data))
    value = random.choice(
        [
            *(b" null", b" []", b" {}", b" [[]]", b' "x"', b" true", b" -1", b" 0", b" 1e308", b" 1.5"),
            *(b" 99999999999999999999999999", b" 1" + b"0" * 400, b' "http://["', b' ""', b' "\\u0000"'),
            *(b" 1979-05-27", b" inf", b" nan", b" 0xffffffffffffffffffff", b' ["a", 1, {}]', b" [1, 2]"),
            *(b' "' + b"x" * 5000 + b'"', b" " + b"[" * 600 + b"]" * 600),
        ]
    )
    return data[:start] + value + data[end:]
