"""A session at a terminal: prompt_toolkit edits lines that an SSH channel carries.

What is typed ahead stays unread, and so unechoed, until somebody asks for it: a password that a
script sends early is never shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.output.vt100 import Vt100_Output

from conclave import faults
from conclave.errors import BadInput
from conclave.lunash.completion import completions
from conclave.lunash.grammar import Node, holds_secret
from conclave.lunash.terminal import EndOfInput, Idle, Interrupted

MAX_TYPED_CHARACTERS = 4096
"""Of one line at a terminal, whose every key is drawn; longer lines come through plain input."""
MAX_AHEAD_CHARACTERS = 64 * 1024
MAX_HISTORY = 500
_INTERRUPT = "\x03"
_KEYS_AT_ONCE = 256


class ChannelInput(Input):
    """Keys from text that arrives in pieces; no file descriptor stands behind it."""

    _numbers = iter(range(2**62))

    def __init__(self) -> None:
        self._keys: list[KeyPress] = []
        self._parser = Vt100Parser(self._keys.append)
        self._text = ""
        self._ready: Callable[[], None] | None = None
        self._ended = False
        self._length = 0
        self._overlong = False
        self.room = asyncio.Event()
        """Set while not too much is unread."""
        self.room.set()
        self._number = next(self._numbers)

    def feed(self, text: str) -> None:
        """Take what was typed."""
        self._set_text(self._text + text)
        self._tell()

    def end(self) -> None:
        """Nothing will be typed any more."""
        self._ended = True
        self._tell()

    def take_overlong(self) -> bool:
        """Tell whether the line that was just read was cut, once."""
        overlong, self._overlong = self._overlong, False
        return overlong

    def drop(self) -> None:
        """Forget what was typed ahead."""
        self._set_text("")

    def read_keys(self) -> list[KeyPress]:
        """Return the next keys up to the end of a line: what follows is for the next prompt."""
        piece = self._text[:_KEYS_AT_ONCE]
        ends = [place for place in (piece.find("\r"), piece.find("\n")) if place >= 0]
        if ends:
            piece = piece[: min(ends) + 1]
        self._set_text(self._text[len(piece) :])
        self._length += len(piece)
        if self._length > MAX_TYPED_CHARACTERS:
            # Every key is drawn, so what is too long is not even edited.
            self._overlong = True
            piece = piece[-1:] if ends else ""
        if ends:
            self._length = 0
        self._parser.feed(piece)
        keys = list(self._keys)
        self._keys.clear()
        if self._text or self._ended:
            asyncio.get_running_loop().call_soon(self._tell)
        return keys

    def flush_keys(self) -> list[KeyPress]:
        """Return what an unfinished escape sequence came to."""
        self._parser.flush()
        keys = list(self._keys)
        self._keys.clear()
        return keys

    @property
    def closed(self) -> bool:
        """Tell whether all was read."""
        return self._ended and not self._text

    def fileno(self) -> int:
        """Refuse: there is none."""
        raise OSError("A channel has no descriptor.")

    def typeahead_hash(self) -> str:
        """Return a key of this input's own."""
        return f"lunash-{self._number}"

    def raw_mode(self) -> AbstractContextManager[None]:
        """Return nothing: the client's terminal is raw already."""
        return nullcontext()

    def cooked_mode(self) -> AbstractContextManager[None]:
        """Return nothing."""
        return nullcontext()

    def attach(self, input_ready_callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Call back whenever keys wait."""
        return _Attached(self, input_ready_callback)

    def detach(self) -> AbstractContextManager[None]:
        """Call nobody back meanwhile."""
        return _Attached(self, None)

    def _set_text(self, text: str) -> None:
        self._text = text
        if len(text) < MAX_AHEAD_CHARACTERS:
            self.room.set()
        else:
            self.room.clear()

    def _tell(self) -> None:
        if self._ready is not None and (self._text or self._ended):
            self._ready()


class _Attached(AbstractContextManager[None]):
    def __init__(self, source: ChannelInput, ready: Callable[[], None] | None) -> None:
        self._source = source
        self._ready = ready
        self._before: Callable[[], None] | None = None

    def __enter__(self) -> None:
        self._before = self._source._ready
        self._source._ready = self._ready
        if self._ready is not None:
            asyncio.get_running_loop().call_soon(self._source._tell)

    def __exit__(self, *_error: object) -> None:
        self._source._ready = self._before


class _Screen:
    """The text stream that prompt_toolkit draws on."""

    encoding = "utf-8"

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def write(self, text: str) -> int:
        """Draw."""
        self._write(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the channel keeps nothing back."""

    def isatty(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Refuse: there is none."""
        raise OSError("A channel has no descriptor.")


class SecretlessHistory(InMemoryHistory):
    """The lines of this session, without those that may hold a secret."""

    def __init__(self, root: Node) -> None:
        super().__init__()
        self._root = root

    def append_string(self, string: str) -> None:
        """Keep a line, unless it may hold a secret."""
        if not holds_secret(string, self._root):
            super().append_string(string)
            del self._loaded_strings[MAX_HISTORY:]


class GrammarCompleter(Completer):
    """Offer commands and options."""

    def __init__(self, root: Node) -> None:
        self._root = root

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterator[Completion]:
        """Return what may stand at the cursor."""
        begun, offered = completions(document.text_before_cursor, self._root)
        for each in offered:
            yield Completion(each, start_position=-len(begun))


class EditingTerminal:
    """A terminal on an SSH channel; `use` gives it the grammar before the first command."""

    def __init__(
        self,
        write: Callable[[str], None],
        drain: Callable[[], Awaitable[None]],
        size: Callable[[], tuple[int, int]],
        *,
        kind: str,
        idle_seconds: float,
    ) -> None:
        self._write = write
        self._drain = drain
        self._idle_seconds = idle_seconds
        self._input = ChannelInput()
        self._interrupt = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        """Runs out at a prompt unless something is typed; None while nothing is asked."""

        def measure() -> Size:
            columns, rows = size()
            return Size(rows=max(rows, 1), columns=max(columns, 20))

        screen = cast(TextIO, _Screen(self.write_raw))
        self._output = Vt100_Output(screen, measure, term=kind, enable_cpr=False)
        self._lines: PromptSession[str] | None = None
        self._secrets: PromptSession[str] = PromptSession(input=self._input, output=self._output)
        self._answers: PromptSession[str] = PromptSession(input=self._input, output=self._output)

    def use(self, root: Node) -> None:
        """Complete by these commands from now on."""
        self._lines = PromptSession(
            input=self._input,
            output=self._output,
            history=SecretlessHistory(root),
            completer=GrammarCompleter(root),
            complete_while_typing=False,
        )

    @property
    def interactive(self) -> bool:
        """Somebody reads along."""
        return True

    def typed(self, text: str) -> None:
        """Take what arrived from the user."""
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + self._idle_seconds)
        elif _INTERRUPT in text:
            self._interrupt.set()
            text = text.rpartition(_INTERRUPT)[2]
            self._input.drop()
        self._input.feed(text)

    async def room(self) -> None:
        """Wait while more is typed ahead than is kept."""
        await self._input.room.wait()

    def ended(self) -> None:
        """The user will type nothing more."""
        self._input.end()

    def close(self) -> None:
        """Forget what was typed ahead."""
        self._input.drop()
        clear_typeahead(self._input)

    def write_raw(self, text: str) -> None:
        """Draw."""
        self._write(text)

    def write(self, text: str) -> None:
        """Print text; a terminal needs a carriage return at each line's end."""
        self._write(text.replace("\n", "\r\n"))

    def write_error(self, text: str) -> None:
        """Print text: a terminal has one place only."""
        self.write(text)

    async def command(self, prompt: str) -> str:
        """Return a command line."""
        assert self._lines is not None  # noqa: S101 - the session gives the grammar first
        return await self._ask(self._lines, prompt, secret=False)

    async def answer(self, *, secret: bool) -> str:
        """Return an answer; a secret is shown as asterisks."""
        session = self._secrets if secret else self._answers
        return await self._ask(session, "> ", secret=secret)

    async def interrupted(self) -> None:
        """Return when the user presses Ctrl-C."""
        self._interrupt.clear()
        await self._interrupt.wait()

    async def drain(self) -> None:
        """Wait until what was printed is on its way."""
        await self._drain()

    async def _ask(self, session: PromptSession[str], prompt: str, *, secret: bool) -> str:
        try:
            async with asyncio.timeout(self._idle_seconds) as self._patience:
                line = await session.prompt_async(
                    prompt, is_password=secret, handle_sigint=False, set_exception_handler=False
                )
        except TimeoutError:
            raise Idle from None
        except EOFError:
            raise EndOfInput from None
        except KeyboardInterrupt:
            raise Interrupted from None
        finally:
            self._patience = None
        if self._input.take_overlong():
            message = (
                f"A line may have {MAX_TYPED_CHARACTERS} characters at a terminal; this one has"
                " more."
            )
            raise BadInput(faults.COMMAND_LINE, message)
        return line
