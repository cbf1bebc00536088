"""A Kafka topic as a bus: a session is one key, so that its events stay in order on one partition."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from ostler.adapters.bus.envelope import CONTENT_TYPE, Envelope, envelope, reason
from ostler.kernel.errors import BusError, EventRefused
from ostler.kernel.event import Record

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""What the library lets through; the broker has a limit of its own (`message.max.bytes`)."""
POLL_S = 0.1
"""How soon a hand-over that is cancelled stops."""

_HEADERS: Any = [("content-type", CONTENT_TYPE.encode())]
_REFUSED = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD)


class KafkaBus:
    """Produces to one topic, idempotently and acknowledged by all replicas in sync; keyed by tenant and session.

    A batch that fails in the middle stops there (`enable.gapless.guarantee`), and its producer is given up, so that
    nothing of it is written later.
    """

    def __init__(
        self,
        servers: str,
        *,
        topic: str = "ostler",
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 30.0,
        options: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        """`servers` are `host:port`, separated by commas. `options` are further ones of librdkafka; they win."""
        self._servers = servers
        self._topic = topic
        self._password = password or ""
        self._timeout_s = timeout_s
        secured = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
        self._options: dict[str, Any] = {
            "bootstrap.servers": servers,
            "client.id": "ostler",
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "partitioner": "murmur2_random",  # as the Java clients do, so that they find a key where we put it
            "linger.ms": 0,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "message.timeout.ms": int(timeout_s * 1000),
            "log_level": 0,
            **({**secured, "sasl.username": user or "", "sasl.password": self._password} if password else {}),
            **(options or {}),
        }
        self._producer: Producer | None = None
        self._said = ""
        self._handing_over: asyncio.Future[None] | None = None

    async def publish(self, records: Sequence[Record]) -> None:
        if not records:
            return
        envelopes = [envelope(record) for record in records]
        stop = threading.Event()
        # In a thread, because the library waits for its deliveries only in calls that block.
        work = asyncio.get_running_loop().run_in_executor(None, self._hand_over, envelopes, stop)
        self._handing_over = work
        try:
            await asyncio.shield(work)
        finally:
            if not work.done():
                stop.set()
                await asyncio.wait([work])
                work.exception()

    async def close(self) -> None:
        if self._handing_over is not None and not self._handing_over.done():
            await asyncio.wait([self._handing_over])
        self._drop()

    def _hand_over(self, envelopes: Sequence[Envelope], stop: threading.Event) -> None:
        """Produce all, wait until each is acknowledged. Runs in a thread."""
        errors: dict[int, KafkaError] = {}
        left = len(envelopes)

        def delivered(number: int, error: KafkaError | None) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                errors[number] = error

        refused: tuple[Envelope, KafkaError] | None = None
        try:
            producer = self._made()
            for number, one in enumerate(envelopes):
                try:
                    self._produce(producer, one, lambda error, _, number=number: delivered(number, error))
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                        raise
                    left -= len(envelopes) - number
                    refused = one, error.args[0]
                    break
            while left and not stop.is_set():
                producer.poll(POLL_S)
        except KafkaException as error:
            self._drop()
            raise self._failed(error.args[0]) from error
        if left or errors:
            self._drop()
        if errors:
            self._check(envelopes, errors)
        if refused is not None:
            raise self._refused(*refused)

    def _produce(self, producer: Producer, one: Envelope, on_delivery: Any) -> None:
        key = one.id.rpartition("/")[0]
        while True:
            try:
                producer.produce(self._topic, one.body, key=key, headers=_HEADERS, on_delivery=on_delivery)
            except BufferError:  # the queue of the library is full
                producer.poll(POLL_S)
            else:
                return

    def _check(self, envelopes: Sequence[Envelope], errors: Mapping[int, KafkaError]) -> None:
        """Raise what is wrong, by the first that failed."""
        first = min(errors)
        if errors[first].code() in _REFUSED:
            raise self._refused(envelopes[first], errors[first])
        telling = [error for error in errors.values() if error.code() not in _CONSEQUENCES]
        raise self._failed((telling or [errors[first]])[0], kept=envelopes[first - 1].position if first else 0)

    def _made(self) -> Producer:
        if self._producer is None:
            self._said = ""
            self._producer = Producer({**self._options, "error_cb": self._on_error})
        return self._producer

    def _on_error(self, error: KafkaError) -> None:
        """The library says here why it cannot connect; the delivery only says that it took too long."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._said = error.str()

    def _drop(self) -> None:
        """Give up the producer and what is under way, so that nothing of it is written after what comes next."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.poll(0)

    def _refused(self, one: Envelope, error: KafkaError) -> EventRefused:
        return EventRefused(
            f"Kafka at {self._servers} does not take the event at position {one.position} of {len(one.body)} bytes: "
            f"{reason_of(error)}.",
            position=one.position,
            hint="Raise `max.message.bytes` of the topic.",
        )

    def _failed(self, error: KafkaError, *, kept: int = 0) -> BusError:
        said = reason_of(error)
        if self._said and error.code() in (KafkaError._MSG_TIMED_OUT, *_CONSEQUENCES):
            said = self._said
        if self._password:
            said = said.replace(self._password, "[secret]")
        hint = "Check the address, and that the brokers run."
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            hint = f"Create the topic {self._topic!r}."
        elif error.code() in (KafkaError._AUTHENTICATION, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            hint = "Check the user, what `secret_env` names, and the rights on the topic."
        return BusError(
            f"Kafka at {self._servers} did not take the events within {self._timeout_s:g} s: {said}.",
            kept=kept,
            hint=hint,
        )


_CONSEQUENCES = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._GAPLESS_GUARANTEE, KafkaError._FATAL)
"""What is said of events because of another that failed."""


def reason_of(error: KafkaError) -> str:
    """What the library says."""
    return reason(RuntimeError(error.str()))
