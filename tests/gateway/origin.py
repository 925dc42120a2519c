#!/usr/bin/env python3
"""The odd origin: servers that do what nginx would never do. Standard library only, a thread per connection.

    origin.py --http ADDR:PORT ... --https ADDR:PORT ... --cert PEM --key PEM
              --banner ADDR:PORT ... --echo ADDR:PORT ...  --loopback ADDR:PORT ...

HTTP paths (the query gives the numbers; every answer closes nothing unless it says so):
    /pattern?n=N             N bytes of the pattern, content-length
    /chunked?sizes=1,2,3     the pattern, in chunks of just these sizes, with a trailer
    /close?n=N               the pattern, no length: the end of the connection is the end of the body
    /echo                    JSON about the request: method, framing, length and sha256 of its body
    /sink?stall=S            as /echo, and reads nothing for S seconds after the first MB
    /head                    the request's head, byte for byte, as text
    /slow?n=N&parts=P&seconds=S   head at once, then P parts spread over S seconds
    /late?seconds=S          the head itself comes S seconds late
    /sse?n=N&every=S         N events, one every S seconds, chunked
    /never                   reads the request, never answers
    /reset  /reset-mid       RST instead of a head, RST in the middle of a body
    /truncated               half of the announced body, then a clean close
    /garbage                 bytes that are no HTTP
    /hugehead                a response head of 1 MB

--banner greets before the client says a word, then echoes lines; --echo sends everything back and, once the
client has shut down its side, says how much that was; --loopback is an HTTP server nobody outside may reach.
"""
import argparse, hashlib, json, socket, ssl, struct, threading, time
from urllib.parse import parse_qs, urlsplit

PATTERN = bytes(i * 7 % 251 for i in range(251 * 256))


def pattern(n):
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


class Gone(Exception):
    """The peer went away, or said something we do not read further."""


class Reader:
    def __init__(self, conn):
        self.conn, self.buf = conn, b""

    def more(self):
        data = self.conn.recv(262144)
        if not data:
            raise Gone
        return data

    def until(self, mark, limit=1 << 21):
        while mark not in self.buf:
            if len(self.buf) > limit:
                raise Gone
            self.buf += self.more()
        head, self.buf = self.buf.split(mark, 1)
        return head

    def body(self, n):
        """n bytes, in the pieces they arrive in."""
        while n:
            if not self.buf:
                self.buf = self.more()
            piece, self.buf = self.buf[:n], self.buf[n:]
            n -= len(piece)
            yield piece


def request_body(reader, headers):
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while True:
            size = int(reader.until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                while reader.until(b"\r\n"):
                    pass
                return
            yield from reader.body(size)
            reader.until(b"\r\n")
    else:
        yield from reader.body(int(headers.get("content-length", 0)))


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # a TLS socket would say goodbye first
    socket.socket(fileno=conn.detach()).close()


def head(conn, status="200 OK", **fields):
    lines = [f"HTTP/1.1 {status}"] + [f"{k.replace('_', '-')}: {v}" for k, v in fields.items()]
    conn.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def answer(conn, reader, method, path, raw, headers):
    """One exchange; True keeps the connection."""
    url = urlsplit(path)
    q = {k: v[0] for k, v in parse_qs(url.query).items()}
    n, seconds = int(q.get("n", 10000)), float(q.get("seconds", 1))

    if url.path in ("/echo", "/sink"):
        if headers.get("expect", "").lower() == "100-continue":
            conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        total, sha, stall = 0, hashlib.sha256(), float(q.get("stall", 0))
        for piece in request_body(reader, headers):
            sha.update(piece)
            total += len(piece)
            if stall and total > 1 << 20:
                time.sleep(stall)
                stall = 0
        said = json.dumps(dict(method=method, length=total, sha256=sha.hexdigest(),
                               content_length=headers.get("content-length"),
                               transfer_encoding=headers.get("transfer-encoding"))).encode()
        head(conn, content_type="application/json", content_length=len(said))
        conn.sendall(said)
        return True

    for _ in request_body(reader, headers):
        pass
    if url.path == "/pattern":
        head(conn, content_length=n, x_sha256=digest(pattern(n)))
        if method != "HEAD":
            conn.sendall(pattern(n))
    elif url.path == "/chunked":
        sizes = [int(s) for s in q["sizes"].split(",")]
        body = pattern(sum(sizes))
        head(conn, transfer_encoding="chunked", trailer="x-checked", x_sha256=digest(body))
        at = 0
        for size in sizes:
            conn.sendall(f"{size:x}\r\n".encode() + body[at:at + size] + b"\r\n")
            at += size
        conn.sendall(b"0\r\nx-checked: " + digest(body).encode() + b"\r\n\r\n")
    elif url.path == "/close":
        head(conn, connection="close", x_sha256=digest(pattern(n)))
        conn.sendall(pattern(n))
        return False
    elif url.path == "/head":
        head(conn, content_type="text/plain", content_length=len(raw))
        conn.sendall(raw)
    elif url.path == "/slow":
        parts = int(q.get("parts", 10))
        body = pattern(n)
        head(conn, content_length=n, x_sha256=digest(body))
        for i in range(parts):
            conn.sendall(body[n * i // parts:n * (i + 1) // parts])
            time.sleep(seconds / parts)
    elif url.path == "/late":
        time.sleep(seconds)
        head(conn, content_length=4)
        conn.sendall(b"late")
    elif url.path == "/sse":
        head(conn, content_type="text/event-stream", transfer_encoding="chunked", cache_control="no-store")
        for i in range(n):
            event = f"data: {i}\n\n".encode()
            conn.sendall(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            time.sleep(float(q.get("every", 0.2)))
        conn.sendall(b"0\r\n\r\n")
    elif url.path == "/never":
        reader.more()
    elif url.path == "/reset":
        reset(conn)
        return False
    elif url.path == "/reset-mid":
        head(conn, content_length=n)
        conn.sendall(pattern(n // 2))
        time.sleep(0.05)
        reset(conn)
        return False
    elif url.path == "/unasked":
        # a second response that nobody asked for, at once or a moment later
        head(conn, content_length=2)
        conn.sendall(b"ok")
        time.sleep(float(q.get("after", 0)))
        head(conn, content_length=7)
        conn.sendall(b"unasked")
    elif url.path == "/bodied-204":
        head(conn, "204 No Content")
        head(conn, content_length=7)
        conn.sendall(b"unasked")
    elif url.path == "/switch":
        head(conn, "101 Switching Protocols", connection="upgrade", upgrade="other")
        conn.sendall(b"something else")
    elif url.path == "/close-reset":
        head(conn, connection="close")
        conn.sendall(pattern(n))
        time.sleep(0.2)
        reset(conn)
        return False
    elif url.path == "/truncated":
        head(conn, content_length=n)
        conn.sendall(pattern(n // 2))
        return False
    elif url.path == "/garbage":
        conn.sendall(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        return False
    elif url.path == "/hugehead":
        head(conn, x_huge="h" * (1 << 20), content_length=0)
    else:
        head(conn, "404 Not Found", content_length=0)
    return True


def http(conn):
    reader = Reader(conn)
    while True:
        raw = reader.until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        if not answer(conn, reader, method, path, raw, headers):
            return


def banner(conn):
    conn.sendall(b"220 the odd origin is ready\r\n")
    reader = Reader(conn)
    while True:
        line = reader.until(b"\r\n")
        conn.sendall(b"250 " + line + b"\r\n")
        if line == b"QUIT":
            return


def echo(conn):
    total = 0
    while data := conn.recv(65536):
        total += len(data)
        conn.sendall(data)
        if data == b"\x00reset":
            time.sleep(0.2)
            reset(conn)
    conn.sendall(b"\nyou sent %d bytes\n" % total)


def handle(conn, talk, tls):
    try:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            conn.settimeout(20)
            conn = tls.wrap_socket(conn, server_side=True)
            conn.settimeout(None)
        talk(conn)
        if tls:
            # a proper end: close_notify, and then the connection's
            conn.settimeout(5)
            conn = conn.unwrap()
        conn.shutdown(socket.SHUT_WR)
    except (OSError, Gone, ValueError):
        pass
    finally:
        conn.close()


def serve(where, talk, tls=None):
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    sock = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)

    def loop():
        while True:
            conn, _ = sock.accept()
            threading.Thread(target=handle, args=(conn, talk, tls), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in ("http", "https", "banner", "echo", "loopback"):
        ap.add_argument(f"--{kind}", nargs="+", default=[], metavar="ADDR:PORT")
    ap.add_argument("--cert")
    ap.add_argument("--key")
    a = ap.parse_args()
    threading.stack_size(1 << 20)
    tls = None
    if a.https:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(a.cert, a.key)
    for where in a.http + a.loopback:
        serve(where, http)
    for where in a.https:
        serve(where, http, tls)
    for where in a.banner:
        serve(where, banner)
    for where in a.echo:
        serve(where, echo)
    threading.Event().wait()


if __name__ == "__main__":
    main()
