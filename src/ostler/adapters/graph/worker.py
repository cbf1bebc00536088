"""The process that computes on graphs: asked and answered in frames, on its standard input and output.

It ends when its input does, when a question takes longer than was allowed for it, or when it needs more memory than it
may have.
"""

import resource
import signal
import sys
from array import array
from collections import OrderedDict
from typing import BinaryIO

import msgspec

from ostler.adapters.graph.frames import HEADER, Answered, Asked, Loaded, framed
from ostler.adapters.graph.native import NativeGraph
from ostler.domain.knowledge.graph import Net
from ostler.kernel.errors import GraphTooLarge

GRAPHS_MAX = 4
RELATIONS_MAX = 2_000_000
"""Of all graphs that are kept together: some 500 MB. The one that was asked about last is kept in any case."""


class Shelf:
    """The graphs that were asked about last."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, NativeGraph] = OrderedDict()

    def put(self, loaded: Loaded) -> None:
        columns = array("q", loaded.sources), array("q", loaded.targets), array("d", loaded.weights)
        graph = NativeGraph(Net(loaded.key, loaded.size, *columns))
        self._graphs[loaded.key] = graph
        while len(self._graphs) > 1 and (len(self._graphs) > GRAPHS_MAX or self._relations() > RELATIONS_MAX):
            self._graphs.popitem(last=False)

    def answer(self, asked: Asked) -> Answered:
        graph = self._graphs.get(asked.key)
        if graph is None:
            return Answered(is_missing=True)
        self._graphs.move_to_end(asked.key)
        try:
            value = getattr(graph, asked.method)(*asked.arguments)
        except GraphTooLarge as error:
            return Answered(problem=error.message, hint=error.hint, facts=error.facts)
        return Answered(msgspec.Raw(msgspec.msgpack.encode(value)))

    def _relations(self) -> int:
        return sum(graph.relations for graph in self._graphs.values())


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Say that all is ready, then answer until the input ends."""
    shelf, decoder = Shelf(), msgspec.msgpack.Decoder(Loaded | Asked)
    sink.write(framed(Answered()))
    sink.flush()
    while len(header := source.read(HEADER)) == HEADER:
        frame = decoder.decode(source.read(int.from_bytes(header)))
        if isinstance(frame, Loaded):
            shelf.put(frame)
            continue
        # Nobody has to be awake for it: a library that holds the interpreter is ended, too.
        signal.alarm(frame.timeout_s)
        answer = framed(shelf.answer(frame))
        signal.alarm(0)
        sink.write(answer)
        sink.flush()


def main() -> None:
    """Run until the input ends, in no more memory than the only argument allows, in bytes."""
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked ends it
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
