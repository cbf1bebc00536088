"""Server-sent events from bytes as they arrive (WHATWG HTML, section 9.2).

Only `data` fields are read: no dialect needs more.
"""


class EventDecoder:
    """Cuts a stream of bytes into events, wherever the chunks begin and end.

    Feeding is linear in the bytes fed. What follows the last empty line is never an event, so a stream that breaks off
    in the middle of one does not yield it.
    """

    def __init__(self) -> None:
        self._unfinished_line = bytearray()
        self._after_cr = False
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completes."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not end:
            self._unfinished_line += chunk
            return []
        whole = bytes(self._unfinished_line) + chunk[:end]
        self._unfinished_line = bytearray(chunk[end:])
        return self._events(whole.splitlines())

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return [event for event in events if event]
