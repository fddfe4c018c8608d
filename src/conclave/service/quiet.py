"""What all messages of the internal channels share: none shows what it holds."""

from __future__ import annotations

import msgspec


class Quiet(msgspec.Struct, frozen=True, gc=False):
    """A message whose repr names its fields only."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class Nothing(Quiet, frozen=True):
    """No parameter or no result."""
