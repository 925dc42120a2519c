"""Asks mitmproxy which flows its filters match, and writes the answers down: tests/filter.rs compares ours.

    filter_verdicts.py RECORDED OUT

RECORDED is a directory of flow files. OUT gets made.mitm, flows made for this purpose and written by mitmproxy,
and verdicts.json: for each expression, per file, a string with one character per flow: 1 matches, 0 does not. An
expression that mitmproxy refuses has null. Files of older formats are left out: text messages of WebSockets stay
text when mitmproxy reads them, and its own filters break on them. Needs mitmproxy 12.2; nothing here needs the network.
"""

import gzip
import json
import os
import sys
import uuid

import mitmproxy.version
from mitmproxy import connection, dns, flow, flowfilter, http, io, tcp, udp, websocket
from mitmproxy.net import encoding

# What a flow has is worth asking for: every operator meets flows that match and flows that do not.
EXPRESSIONS = r"""
~all
!~all
~http
~tcp
~udp
~dns
~websocket
~e
~q
~s
!~q
!~s
! ~q
!!~q
!(~q )
~a
~marked
~replay
~replayq
~replays
~http & ~q
~http & ~s
~dns & ~q
~dns & ~s
~e & ~q
~e & ~s
~e | ~marked
~http & !~websocket
~tcp | ~udp
~tcp | ~udp | ~dns
~marked & ~http
~replay | ~replayq | ~replays
~c 200
~c 204
~c 404
~c 0200
~c 500
~c 101
~c 302
~c 2xx
~c 99999999
~c 200 | ~c 404
!~c 200
~s & !~c 200
~m GET
~m get
~m POST
~m GET|POST
~m ^P
~m "^(GET|HEAD)$"
~m CONNECT
~m .
~m T$
~u example
~u EXAMPLE
~u ^https
~u ^http:
~u \?
~u /$
~u "\\?.*="
~u \.js
~u \.(js|css)
~u "\\.(js|css)"
~u :8080
~u ""
~u ü
~u %C3
~u "a b"
~u xn--
~u api
example
"example"
'example'
EXAMPLE
^http://
http & example
http &
& http
http && example
!
!example
! example
foo&bar
a|b
a | b
zzz | example
"zzz"|"example"
"example"&"http"
"example" zzz
"exam\ple"
"\\d+"
"\d+"
\d+
[0-9]{3}
{
}
a{,2}
a{2
~d example
~d ^example
~d ^www\.
~d 127.0.0.1
~d "^127\\.0\\.0\\.1$"
~d ^$
~d \.test$
~d .
~h x-
~h "Content-Type: text"
~h ^host
~h "^Host: .*$"
~h "^Host: .*\\r$"
~h "gzip$"
~h "gzip\\s$"
~h set-cookie
~h "ACCEPT: \\*/\\*"
~h "^x-.*: "
~hq host
~hq content-type
~hq ^user-agent
~hq cookie
~hs server
~hs content-type
~hs "^Content-Length: 0"
~hs location
~hs content-encoding
~hs host
~h ""
~hq ""
~hs ""
~b secret
~b SECRET
~b ^secret$
~b "one.two"
~b "one\\ntwo"
~b .
~b ""
~b \x00
~b \xff
~b "\\x00"
~b "[\\x80-\\xff]"
~b "\\w{5}"
~b "^\\W"
~b {
~b {"
~b "{\"k\""
~b }
~b hello
~b "hello world"
~b ü
~b [ü]
~b example
~b 192.0.2
~b "192\\.0\\.2\\.\\d+"
~b 2001:db8
~b v=spf1
~b 0x
~b alpn
~b invalid
~bq secret
~bq hello
~bq .
~bq ""
~bq example
~bs secret
~bs hello
~bs .
~bs ""
~bs "</html>"
~bs zipped
~bs "^zipped"
~bs \x1f\x8b
~bs "\\x1f\\x8b"
~t text
~t json
~t ^text/html
~t charset
~t "application/(json|xml)"
~t ""
~t .
~tq json
~tq form
~tq .
~ts json
~ts html
~ts image/
~ts .
~src 127.0.0.1
~src ^127
~src ::1
~src "^::1:"
~src :5
~src "^.+:\\d+$"
~src 192.0.2
~dst 127.0.0.1
~dst example
~dst :443$
~dst ":443$"
~dst :80
~dst 2001:db8
~dst "^.+:\\d+$"
~dst .
~marker .
~marker .*
~marker default
~marker red
~marker ^:
~marker 🍇
~comment .
~comment .*
~comment note
~comment "two words"
~comment ^second
~comment first$
~comment "^$"
~meta .
~meta .*
~meta key
~meta "key: value"
~meta ^list
~meta "list: \\[1, 'two', None, True\\]"
~meta "bytes: b'a\\\\x00'"
~meta "float: 1e\\+16"
~meta "dict: \\{'k': 1\\.5\\}"
~meta "none: None"
~meta "^n.*: "
~meta value$
~meta int
(~http )
(~q )
( ~q )
(~c 200)
((~c 200))
(a) | (b)
(~u example | ~u www) & ~m GET
(~u example | ~u www) & !~m GET
~u example | ~u www & ~m GET
~http & (~c 200 | ~c 404)
!(~c 200 | ~c 404)
!(~u example) & ~s
~s !~a
~s ! ~a
~m GET ~c 200
~m GET ~c 200 ~t html
~m GET | ~m POST ~c 200
~q | ~s & ~tcp
!~q & ~tcp
!~q | ~tcp
a(b)
(http)(example)
~c 200~s
http~s
~u a ~s
~u "a"~s
~d "example"&~s
~s &~q
~s |~q
~b "(?i)SECRET"
~b "(?s)one.two"
~b "(?m)^two"
~b "(?x) one . two "
~u "(?P<scheme>https?)://"
~u "(?:https?)://"
~u "(?#comment)example"
~b "\\Asecret"
~b "secret\\Z"
~b "secret\\b"
~b "\\Becret"
~b "se[c]ret"
~b "[^a-z]+"
~b "[]s]ecret"
~b "[a&&s]ecret"
~b "s{1,2}e{1}c"
~b "x*?secret"
~b "sec(ret|RET)"
~b "\\u0073"
~u "\\u0065xample"
~b "\\163ecret"
~b "\\0"
~http\t
~m  GET
~h "((" 
~h ((
~foo
~
~u
~u ~q
~u (foo)
~u"foo"
~c
~c abc
~c -1
~c 200)
~c200
(
()
)
(~q ~s)
(http example)
"open
~all)
~s~s
~Q
~b (?=a)
~b "(?=a)"
~b "(?!zzz)"
~b "(?<=s)e"
~b "(s)\\1"
~b "a++"
~b "(?>a)"
(~q)
~q|~s
~q&~s
(~u example|~u www)
~b "\\y"
~b "[a"
~b "a**"
"""


def made():
    """Flows that have what the recorded ones lack."""
    number = 0

    def conns(host="example.test", port=80, client=("192.0.2.9", 51000), tls=False):
        c = connection.Client(peername=client, sockname=("192.0.2.1", 8080), timestamp_start=1.0, tls=tls)
        s = connection.Server(address=(host, port), timestamp_start=2.0, tls=tls)
        return c, s

    def finish(f, **attributes):
        nonlocal number
        number += 1
        f.id = f.client_conn.id = str(uuid.UUID(int=number, version=4))
        f.server_conn.id = str(uuid.UUID(int=1000 + number, version=4))
        f.timestamp_created = 3.0
        for name, value in attributes.items():
            setattr(f, name, value)
        return f

    def request(url="http://example.test/", method="GET", body=b"", headers=(), version=b"HTTP/1.1", host=None):
        r = http.Request.make("GET", url, b"")
        r.headers = http.Headers([(b"Host", (host or r.host).encode()), *headers])
        r.data.method, r.data.content, r.data.http_version = method.encode(), body, version
        r.timestamp_start, r.timestamp_end = 4.0, 5.0
        return r

    def response(code=200, body=b"", headers=(), content_type=b"text/html"):
        return http.Response(
            b"HTTP/1.1", code, b"OK", http.Headers([(b"Content-Type", content_type), *headers]), body, None, 6.0, 7.0
        )

    def exchange(req, resp=None, conn=None, **attributes):
        f = http.HTTPFlow(*(conn or conns()))
        f.request, f.response = req, resp
        return finish(f, **attributes)

    text = b"zipped: the secret is 42\n" * 20
    for coding in ("gzip", "deflate", "br", "zstd"):
        ce = [(b"Content-Encoding", coding.encode())]
        yield exchange(request(f"http://www.example.test/{coding}.js"), response(200, encoding.encode(text, coding), ce, b"text/javascript"))
    yield exchange(request(), response(200, b"\x1f\x8bnot really", [(b"content-encoding", b"gzip")]))
    yield exchange(request(), response(200, b"\x00\xffone\ntwo", [(b"content-encoding", b"klingon")], b"application/octet-stream"))
    yield exchange(request(), response(200, None, content_type=b"image/png"))
    yield exchange(request("https://api.example.test:8080/v1?a=b", "POST", b'{"k": "secret"}', [(b"Content-Type", b"application/json"), (b"X-Api", b"1")]), response(404, b'{"error": 1}', content_type=b"application/json; charset=utf-8"))
    yield exchange(request("http://example.test/form", "post", b"a=b&c=d", [(b"content-type", b"application/x-www-form-urlencoded")]), response(302, b"", [(b"Location", b"/done"), (b"Set-Cookie", b"a=b")]))
    yield exchange(request("http://127.0.0.1:81/", host="www.example.com:8080"), response(204, b""), conns("127.0.0.1", 81, ("::1", 5000, 0, 0)))
    yield exchange(request("http://192.0.2.7/", host="b\u00fccher.test"), response(500, "gr\u00fc\u00dfe".encode()))
    yield exchange(request("http://192.0.2.7/p", host="a b"), response(200, b"<html></html>"))
    yield exchange(request("http://example.test/%C3%BC?x=y%20z", "DELETE"), None, error=flow.Error("broken", 8.0))
    connect = request("http://example.test:443/", "CONNECT")
    connect.data.scheme, connect.data.path, connect.data.authority = b"", b"", b"example.test:443"
    yield exchange(connect, response(200, b"", content_type=b""))
    h2 = request("https://h2.example.test/x.css", version=b"HTTP/2.0")
    del h2.headers["host"]
    h2.data.authority = b"h2.example.test"
    yield exchange(h2, response(200, b"h1 {}", content_type=b"text/css"), conns("h2.example.test", 443, tls=True))
    star = request("http://example.test/", "OPTIONS")
    star.data.path = b"*"
    yield exchange(star, response(200, b"hello world"))
    several = request("http://example.test/several")
    several.headers = http.Headers([(b"host", b"one.test"), (b"Host", b"two.test"), (b"X-A", b"1"), (b"x-a", b"2")])
    yield exchange(several, response(200, b"s", [(b"content-type", b"font/woff2"), (b"Server", b"s")]))
    bare = request("http://bare.test:8080/")
    bare.headers = http.Headers([])
    yield exchange(bare, response(101, b""), is_replay="request")
    yield exchange(request("http://example.test/replay"), response(200, b"secret"), is_replay="response", marked=":default:", comment="first\nsecond note")
    yield exchange(request("http://example.test/marked"), None, marked=":red_circle:", comment="two words")
    yield exchange(request("http://example.test/grapes"), None, marked="\U0001f347", comment="Note \u00fc")
    values = {"key": "value", "list": [1, "two", None, True], "bytes": b"a\x00", "float": 1e16, "none": None, "dict": {"k": 1.5}, "int": -7, "text": "line\nvalue"}
    yield exchange(request("http://example.test/meta"), response(), metadata=values)
    yield exchange(request("http://example.test/meta2"), response(), metadata={"key": "other", "q": "it's \"so\""})
    ws = exchange(request("http://example.test/ws"), response(101, b""))
    ws.websocket = websocket.WebSocketData([
        websocket.WebSocketMessage(1, True, b"hello from the client", 9.0),
        websocket.WebSocketMessage(2, False, b"secret \x00\xff", 9.5),
    ])
    yield ws
    for kind, message in ((tcp.TCPFlow, tcp.TCPMessage), (udp.UDPFlow, udp.UDPMessage)):
        f = finish(kind(*conns("2001:db8::1", 443)))
        f.messages = [message(True, b"hello\none", 9.0), message(False, b"two secret", 9.5), message(False, b"", 9.6)]
        yield f
        yield finish(kind(*conns()), error=flow.Error("gone", 8.0))

    def question(name, kind=1):
        return dns.DNSMessage(1, True, 0, False, False, True, False, 0, 0, [dns.Question(name, kind, 1)], [], [], [], 9.0)

    def answer(q, *records, code=0):
        return dns.DNSMessage(1, False, 0, False, False, True, True, 0, code, q.questions, list(records), [], [], 9.5)

    def record(name, kind, data):
        return dns.ResourceRecord(name, kind, 1, 60, data)

    for name, kind, records in (
        ("www.example.test", 1, [record("www.example.test", 1, b"\xc0\x00\x02\x07"), record("www.example.test", 5, b"\x07example\x04test\x00")]),
        ("six.example.test", 28, [record("six.example.test", 28, bytes.fromhex("20010db8000000000000000000000001"))]),
        ("mail.test", 15, [record("mail.test", 15, b"\x00\x0a\x04mail\x04test\x00")]),
        ("broken.test", 1, [record("broken.test", 1, b"\x01\x02")]),
        ("spf.test", 16, [record("spf.test", 16, b"\x0av=spf1 -al")]),
    ):
        f = dns.DNSFlow(*conns("192.0.2.53", 53))
        f.request = question(name, kind)
        f.response = answer(f.request, *records)
        yield finish(f)
    f = dns.DNSFlow(*conns("192.0.2.53", 53))
    f.request = question("unanswered.example.test")
    f.response = None
    yield finish(f)


def main():
    recorded, out = sys.argv[1:]
    path = os.path.join(out, "made.mitm")
    with open(path, "wb") as file:
        writer = io.FlowWriter(file)
        for f in made():
            writer.add(f)
    files = {"made": path}
    for name in sorted(os.listdir(recorded)):
        if name.endswith(".mitm") and "old-format" not in name:
            files[name.removesuffix(".mitm")] = os.path.join(recorded, name)
    flows = {}
    for name, path in files.items():
        with open(path, "rb") as file:
            flows[name] = list(io.FlowReader(file).stream())
    verdicts = []
    for expression in (line.replace("\\t", "\t") if line.endswith("\\t") else line for line in EXPRESSIONS.strip("\n").split("\n")):
        try:
            compiled = flowfilter.parse(expression)
        except ValueError:
            verdicts.append([expression, None])
            continue
        found = {name: "".join("1" if compiled(f) else "0" for f in of) for name, of in flows.items()}
        verdicts.append([expression, {name: bits for name, bits in found.items() if bits}])
    with open(os.path.join(out, "verdicts.json"), "w") as file:
        file.write('{\n"mitmproxy": "%s",\n"verdicts": [\n' % mitmproxy.version.VERSION)
        file.write(",\n".join(json.dumps(verdict, ensure_ascii=False) for verdict in verdicts))
        file.write("\n]\n}\n")
    print(len(verdicts), "expressions,", sum(map(len, flows.values())), "flows")


main()
