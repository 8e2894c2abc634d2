"""What a function's code holds of ways out of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Code:
    """What a function's code holds of ways out of it, by their places in it.

    `jumps`: places elsewhere, relative to its beginning, at which it goes on; `leaps`: whether it may go on where only
    a register tells.
    """

    returns: list[int] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)
    leaps: bool = False
