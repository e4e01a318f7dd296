"""The bodies of requests, read within bounds."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ["form", "json_body"]

#: The largest body: a label as the daemon takes it, with its frame of JSON.
_MOST_BYTES = 7 << 18
_FIELDS = 300


async def form(request: Request) -> dict[str, list[str]]:
    """The fields of a form, which is read once and remembered with its request.

    Raises:
        HTTPException: The body is too large or has too many fields.
    """
    known: dict[str, list[str]] | None = getattr(request.state, "form", None)
    if known is not None:
        return known
    data = await _read(request)
    try:
        fields = parse_qs(data.decode("utf-8"), keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read") from error
    request.state.form = fields
    return fields


async def json_body(request: Request) -> dict[str, Any]:
    """The object that a script sent.

    Raises:
        HTTPException: The body is too large or no JSON object.
    """
    try:
        return msgspec.json.decode(await _read(request), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise HTTPException(400, f"the request is no JSON object: {error}") from error


async def _read(request: Request) -> bytes:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MOST_BYTES:
            raise HTTPException(413, "the request is too large")
        parts.append(chunk)
    return b"".join(parts)
