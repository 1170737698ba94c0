"""OpenTelemetry traces, when configured: spans of requests, of labelling and of commits. Ids and lengths, never text.

Without PROBEWATCH_TRACES_URL nothing is traced and OpenTelemetry is not imported. Stands before `scorer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from classifier.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext


class Traces:
    """Makes spans, and sends them to a collector in threads of its own."""

    def __init__(self, url: str) -> None:
        """`url`: OTLP/HTTP endpoint of a collector. Raises UsageError without the extra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise UsageError(
                "PROBEWATCH_TRACES_URL needs the traces extra: pip install 'probewatch[traces]'."
            ) from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": "probewatch"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url)))
        self._tracer = self._provider.get_tracer("probewatch")

    def note(self, name: str, links: Sequence[SpanContext | None], began: int, ended: int, **lengths: int) -> None:
        """A span of work that was done for several requests at once, which it links to; `began`, `ended`: ns since
        1970."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Link

        given = {f"probewatch.{key}": value for key, value in lengths.items()}
        made = [Link(one) for one in links if one is not None]
        self._tracer.start_span(name, Context(), links=made, attributes=given, start_time=began).end(ended)

    @contextmanager
    def request(self, scope: Scope) -> Iterator[dict[str, str | int]]:
        """The span of a request, a child of the caller's if its `traceparent` says so. What is put into the dictionary
        becomes its attributes."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = TraceContextTextMapPropagator().extract(carrier)
        attributes: dict[str, str | int] = {"http.request.method": scope["method"]}
        with self._tracer.start_as_current_span(
            scope["method"], parent, kind=SpanKind.SERVER, record_exception=False
        ) as span:
            try:
                yield attributes
            finally:
                span.update_name(f"{scope['method']} {attributes.get('http.route', 'other')}")
                span.set_attributes(attributes)

    def here(self) -> SpanContext:
        """What a span of work for several requests links to."""
        from opentelemetry.trace import get_current_span

        return get_current_span().get_span_context()

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class TraceRequests:
    """The middleware around all others that makes the spans of requests."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app, self._traces = app, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._traces.request(scope) as attributes:

            async def send_noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    attributes["http.response.status_code"] = message["status"]
                await send(message)

            await self._app(scope, receive, send_noting)
            route = getattr(scope.get("route"), "path", None)  # ids in a path are no name of a span
            if route is not None:
                attributes["http.route"] = route
