from __future__ import annotations

import msgspec
import pytest

from dance_ondevice.documents import DocumentError, decode

DEEP = b"[" * 100_000
#: What another process may have written in place of a document, and a word of the message about it.
WRONG = {
    b"": "truncated",
    b"{": "truncated",
    b"\xff": "malformed",
    b'{"name": "\xff"}': "UTF-8",
    b'{"name": ' + DEEP: "array",
    b'{"name": "a", "size": 1e999}': "range",
    b'{"name": "a", "size": "b"}': "size",
    b"[]": "object",
    b"{}": "name",
}


class Form(msgspec.Struct):
    name: str
    size: float = 0.0


@pytest.mark.parametrize("data", WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_whatever_is_wrong_is_one_error_that_says_it(data: bytes) -> None:
    for form in (Form, msgspec.json.Decoder(Form)):
        with pytest.raises(DocumentError, match=WRONG[data]):
            decode(data, form)


def test_nesting_without_an_end_is_an_error_of_the_same_kind() -> None:
    with pytest.raises(DocumentError, match="nested too deeply"):
        decode(DEEP, object)


def test_a_document_is_read_from_bytes_and_text() -> None:
    assert (
        decode(b'{"name": "a", "size": 2}', Form) == decode('{"name": "a", "size": 2}', Form) == Form("a", 2)
    )
