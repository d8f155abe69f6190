"""What schemathesis has to know beside the description; it loads this file by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import requests
import requests.adapters
import requests.sessions
import schemathesis


def zstd(data: bytes) -> bytes:
    """A frame of raw blocks (RFC 8878): nothing of it is compressed, all of it is read as zstd."""
    blocks = [data[at : at + 100_000] for at in range(0, len(data), 100_000)] or [b""]
    last = len(blocks) - 1
    heads = [((len(block) << 3) | (at == last)).to_bytes(3, "little") for at, block in enumerate(blocks)]
    head = bytes.fromhex("28b52ffd") + b"\xa0" + len(data).to_bytes(4, "little")
    return head + b"".join(head + block for head, block in zip(heads, blocks, strict=True))


COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd}


def as_text(_: Any, value: Any) -> bytes:
    """A body that is described as text; anything else stands for what is no such text."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "surrogatepass")


for content_type in ("application/x-ndjson", "text/csv"):
    schemathesis.serializer(content_type)(as_text)


class CompressingAdapter(requests.adapters.HTTPAdapter):
    """Compresses what goes out as its header says: what is not compressed would be refused before anybody has looked at it. Here and not in a
    hook, as schemathesis looks at its own body again, to see whether it had to be refused."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        compress = COMPRESS.get(str(request.headers.get("Content-Encoding")))
        if compress is not None and request.body:
            body = request.body.encode() if isinstance(request.body, str) else request.body
            request.body = compress(body)
            request.headers["Content-Length"] = str(len(request.body))
        return super().send(request, *arguments, **named)


# Every session begins with this one.
requests.sessions.HTTPAdapter = CompressingAdapter  # type: ignore[misc]
