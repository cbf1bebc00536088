"""Which bodies in the blob store an event refers to, so that they go wherever it goes."""

from ostler.domain.session.events import AgentStarted, InputReceived, SessionEvent, ToolCompleted


def bodies_of(event: SessionEvent) -> tuple[str, ...]:
    """Their hashes."""
    match event:
        case ToolCompleted(blob=str(blob)):
            return (blob,)
        case AgentStarted() | InputReceived():
            return tuple([image.blob for image in event.images])
        case _:
            return ()
