"""The result of one check of ``dance-ondevice doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One result: ``remedy`` says what to do and is empty when all is well."""

    name: str
    status: Literal["ok", "warning", "failure"]
    detail: str
    remedy: str = ""
