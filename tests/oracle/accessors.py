"""Asks mitmproxy what its accessors of requests and responses give, and writes the answers down: tests/accessors.rs
compares ours.

    accessors.py OUT.json

Needs mitmproxy 12.2; nothing here needs the network. The random cases come from a fixed seed.
"""

import email.utils
import json
import random
import sys

import mitmproxy.version
from mitmproxy import http
from mitmproxy.net.http import cookies, headers, url

random.seed(20)


def texts(alphabet, count, longest):
    return ["".join(random.choice(alphabet) for _ in range(random.randint(1, longest))) for _ in range(count)]


def attempt(what, *args):
    try:
        return what(*args)
    except Exception:
        return None


def printable(value):
    """Bytes that are no UTF-8, which Python keeps as lone surrogates, as replacement characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def request(method="GET", scheme="http", host="192.0.2.7", port=80, path="/", authority="", version="HTTP/1.1", fields=(), content=b""):
    return http.Request(host, port, method.encode(), scheme.encode(), authority.encode(), path.encode(), version.encode(), http.Headers([(n.encode(), v.encode()) for n, v in fields]), content, None, 1.0, 2.0)


def pairs(view):
    return [list(pair) for pair in view.fields]


def requests():
    hosts = ["example.test", "example.test:80", "example.test:8080", "example.test:443", "[2001:db8::1]:81", "a b", "", "b\u00fccher.test", "x:y", "a:99999", "a_b.test", "[::1]", "a:b:80", ":80", "x" * 64, "a..b", "example.test.", "192.0.2.1:0"]
    for host in hosts:
        for scheme, port in (("http", 80), ("http", 8080), ("https", 443), ("https", 80)):
            yield dict(scheme=scheme, port=port, path="/p?q", fields=[("Host", host)])
        yield dict(scheme="https", port=443, version="HTTP/2.0", authority=host)
        yield dict(method="CONNECT", scheme="", port=443, path="", authority=host, fields=[("Host", "other.test")])
    yield dict()
    yield dict(method="OPTIONS", path="*")
    yield dict(authority="example.test", path="/x")
    yield dict(version="HTTP/2.0", authority="xn--bcher-kva.test", fields=[("host", "other.test")])
    yield dict(version="HTTP/2.0", fields=[("host", "other.test")])
    yield dict(fields=[("Host", "a.test"), ("host", "b.test")])
    for path in ["", "/", "//", "/a//b", "/a%2Fb/c%20d", "/a;b/c;d?e;f#g", "?a", "/?a=b&a=c&&d&=e&f=", "/#?a", "/?a+b=%2B+%zz%4", "/%", "/a?b#c?d", "/?%C3%BC=\u00fc"]:
        yield dict(path=path)
    for path in texts("/a;?#&=+%2F.", 150, 14):
        yield dict(path="/" + path)


def main():
    out = {"mitmproxy": mitmproxy.version.VERSION}
    out["requests"] = []
    for case in requests():
        r = request(**case)
        found = dict(url=r.url, pretty_url=r.pretty_url, pretty_host=r.pretty_host, host_header=r.host_header, first_line_format=r.first_line_format, query=pairs(r.query), path_components=list(r.path_components))
        r.query["new"] = "x y&"
        found["path_with_query"] = r.path
        r = request(**case)
        r.path_components = ["one", "t/o"]
        found["path_with_components"] = r.path
        out["requests"].append([case, found])

    urls = ["http://example.test", "HTTP://Example.Test:81/A?b#c", "https://example.test:443", "https://u:p@example.test/x", "http://[2001:db8::1]:82/", "http://b\u00fccher.test/", "http://example.test?q", "example.test", "/path", "http://", "http://:80/", "http://a:b/", "http://a:99999/", "http://exa mple/", "http://a_b/", "ftp://a.test/x", "http://a..b/", "http://" + "x" * 64 + "/"]
    out["urls"] = [[text, attempt(lambda: [x.decode() if isinstance(x, bytes) else x for x in url.parse(text)])] for text in urls]

    fields = ["a=b", "a=b; c=d", "a", "a=", "=b", "a=\"b;c\"; d=e", "a=\"\\\"\\\\\"", " a = b ;c", ";;", "a=b=c", "\u00fc=\u00f6"] + texts("ab=;\" \\", 300, 12)
    out["cookies"] = [[text, [list(p) for p in cookies.parse_cookie_header(text)]] for text in fields]
    out["cookies_formatted"] = [[text, cookies.format_cookie_header(cookies.parse_cookie_header(text))] for text in fields]
    fields = ["a=b", "a=b; Path=/; Secure; HttpOnly", "a=b; expires=Wed, 21 Oct 2015 07:28:00 GMT; x=y, c=d", "a=b, c=d", "a", "a=\"b,c\"; d", "", "a=b; Expires=Wed", ",a=b"] + texts("ab=;,\" \\", 300, 12) + ["x=1; expires=" + t for t in texts("abcd,; =", 60, 10)]
    parsed = [[text, cookies.parse_set_cookie_header(text)] for text in fields]
    out["set_cookies"] = [[text, [[n, v, pairs(a)] for n, v, a in found]] for text, found in parsed]
    out["set_cookies_formatted"] = [[text, cookies.format_set_cookie_header(found)] for text, found in parsed]

    types = ["", "text/plain", "text/html", "text/html; charset=latin1", "text/html;charset=utf-8", "text/css", "application/json", "application/json; charset=utf-16", "text/javascript", "application/xml", "image/svg+xml", "text/plain; charset=ascii", "text/plain; charset=gbk", "text/plain; charset=shift_jis", "text/plain; charset=koi8-r", "text/plain; charset=windows-1252", "text/plain; charset=utf-32", "text/plain; charset=nonsense", "text/plain; charset=", "nonsense", "text/plain; a=b; charset=euc-kr; c=d"]
    bodies = [b"", b"plain", "gr\u00fc\u00dfe".encode(), b"caf\xe9", b"\xef\xbb\xbfbom", b"\xff\xfea\x00", b"\xfe\xff\x00a", b"\xff\xfe\x00\x00a\x00\x00\x00", b"\x00\x00\xfe\xff\x00\x00\x00a", b"<meta charset=gb2312>\xd6\xd0", b"<META charset='koi8-r'>\xd0", b"<meta a=b charset=\"utf-8\">", b"<?xml version='1.0' encoding='iso-8859-1'?>\xe9", b"<?xml version='1.0'?>", b"@charset \"iso-8859-1\";\xe9", b" @charset \"iso-8859-1\";", b"\xd6\xd0\xce\xc4", b"\x83\x65"]
    out["texts"] = []
    for kind in types:
        for body in bodies:
            r = http.Response(b"HTTP/1.1", 200, b"OK", http.Headers([(b"content-type", kind.encode())] if kind else []), body, None, 1.0, 2.0)
            out["texts"].append([kind, body.decode("latin-1"), headers.infer_content_encoding(kind, body), attempt(r.get_text)])

    dates = ["Wed, 21 Oct 2015 07:28:00 GMT", "Wednesday, 21-Oct-15 07:28:00 GMT", "Wed Oct 21 07:28:00 2015", "21 Oct 2015 07:28:00 +0200", "Wed, 21 Oct 2015 07:28 GMT", "Wed, 21-Oct-2015 07:28:00 GMT", "-1", "0", "", "never", "Wed, 21 Oct 99 07:28:00 GMT", "Wed, 21 Oct 68 07:28:00 GMT", "Wed, 21 Oct 69 07:28:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Tue, 29 Feb 2000 12:00:00 EST"]
    out["dates"] = [[text, (lambda d: email.utils.mktime_tz(d) if d else None)(email.utils.parsedate_tz(text))] for text in dates]

    out["forms"] = []
    for body in ["a=b&c=d", "a", "a&b=c", "", "a=b=c&&", "%C3%BC=+", "a=%26"] + texts("a=&+%2", 100, 10):
        r = request(method="POST", fields=[("Content-Type", "application/x-www-form-urlencoded")], content=body.encode())
        found = pairs(r.urlencoded_form)
        r.urlencoded_form["new"] = ""
        out["forms"].append([body, found, r.content.decode()])

    with open(sys.argv[1], "w") as file:
        file.write("{\n")
        file.write(",\n".join(
            json.dumps(key) + ": " + (json.dumps(value) if isinstance(value, str) else "[\n" + ",\n".join(json.dumps(printable(item)) for item in value) + "\n]")
            for key, value in out.items()
        ))
        file.write("\n}\n")
    print({key: len(value) for key, value in out.items()})


main()
