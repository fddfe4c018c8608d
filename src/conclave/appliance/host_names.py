"""What names another host: labels of RFC 1123 (and `_`) with dots between, or `[IPv6 address]`."""

from __future__ import annotations

from typing import Final

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
HOST_PATTERN: Final = rf"({_LABEL}(\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\])"
"""Without anchors; longer or empty labels could not be asked for at all."""
