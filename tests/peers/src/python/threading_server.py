"""The standard library's ThreadingHTTPServer, speaking HTTP/1.1: threading_server.py PORT."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from answers import PAUSE, Answer, answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self) -> None:
        url = urlsplit(self.path)
        found = answer(self.command, url.path, url.query, self.read_body())
        time.sleep(found.sleep)
        sent = sum(map(len, found.chunks)) + len(found.body)
        self.log_request(found.status, 0 if self.command == "HEAD" else sent)
        self.send_response_only(found.status)
        self.send_header("Content-Type", found.kind)
        self.send_body(found)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = reply

    def send_body(self, found: Answer) -> None:
        if found.chunks:
            self.send_header("Transfer-Encoding", "chunked")
        elif found.status != 204:
            self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for chunk in found.chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            time.sleep(PAUSE)
        self.wfile.write(b"0\r\n\r\n" if found.chunks else found.body)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
