"""A real S3 server on this machine, moto's: shared by the tests of object stores."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow.fs

BUCKET = "gateway-logs"


@dataclass(frozen=True)
class Store:
    """A bucket on a local server; `options` come after the question mark of its URIs."""

    port: int
    files: pyarrow.fs.S3FileSystem

    @property
    def options(self) -> str:
        return f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def put(self, key: str, content: bytes) -> str:
        """Store an object; its URI."""
        with self.files.open_output_stream(f"{BUCKET}/{key}") as target:
            target.write(content)
        return self.uri(key)

    def uri(self, key: str, bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{key}?{self.options}"

    def require_credentials(self) -> None:
        """From now on the server checks who asks."""
        self.answer_anybody("0")

    def answer_anybody(self, times: str) -> None:
        """So many times, and then check who asks; it holds for all servers of this process."""
        url, kind = f"http://127.0.0.1:{self.port}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, times.encode(), kind, method="POST")).close()


@contextmanager
def running_store(moto_server: Any) -> Iterator[Store]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        files = pyarrow.fs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True,
            access_key="any", secret_key="any",
        )  # fmt: skip
        store = Store(port, files)
        store.answer_anybody("inf")
        files.create_dir(BUCKET)
        yield store
    finally:
        server.stop()
