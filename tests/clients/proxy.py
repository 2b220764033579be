"""A proxy that loses answers."""

from __future__ import annotations

import re
import socket
import struct
import threading
from urllib.parse import urlsplit

# Longest wait for a peer, in seconds.
PATIENCE_S = 60
CHUNK_BYTES = 65536


class LosingProxy:
    """Carries requests to a server, one to a connection, and loses the first answers to POST.

    An answer is lost when it is complete: the server has done what it was asked to do.
    """

    def __init__(self, base_url: str, lost: int) -> None:
        upstream = urlsplit(base_url)
        self.upstream = (upstream.hostname, upstream.port)
        self.lost = lost
        self.heads: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self.listener.getsockname()[1]}{upstream.path}"
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self) -> LosingProxy:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def posts(self) -> list[str]:
        """The heads of the POST requests that came."""
        return [head for head in self.heads if head.startswith("POST ")]

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(PATIENCE_S)
                self.carry(client)

    def carry(self, client: socket.socket) -> None:
        head, body = message(client)
        if not head:
            return
        self.heads.append(head)
        with socket.create_connection(self.upstream, PATIENCE_S) as server:
            # One request to a connection: the server ends it after the answer.
            head = re.sub(r"(?im)^connection:[^\r]*\r\n", "", head)
            server.sendall(head.encode("latin-1")[:-2] + b"connection: close\r\n\r\n" + body)
            answer = b"".join(iter(lambda: server.recv(CHUNK_BYTES), b""))
        if head.startswith("POST ") and self.lost > 0:
            self.lost -= 1
            # A reset, as of a machine that has gone.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        client.sendall(answer)


def message(peer: socket.socket) -> tuple[str, bytes]:
    """The head and the body of a request."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = peer.recv(CHUNK_BYTES)
        if not part:
            return "", b""
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    text = head.decode("latin-1") + "\r\n\r\n"
    length = re.search(r"(?im)^content-length: *(\d+)", text)
    while length and len(body) < int(length[1]):
        body += peer.recv(CHUNK_BYTES)
    return text, body
