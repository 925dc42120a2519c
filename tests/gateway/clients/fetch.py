#!/usr/bin/env python3
"""Python's HTTP clients against the odd origin: requests, httpx, aiohttp. Prints their versions.

    fetch.py ORIGIN CA [PROXY]
"""
import asyncio, hashlib, ssl, sys

import aiohttp, httpx, requests

ORIGIN, CA = sys.argv[1:3]
PROXY = sys.argv[3] if len(sys.argv) > 3 else None
CHUNKED, ECHO = f"{ORIGIN}/chunked?sizes=1,2,3,70000", f"{ORIGIN}/echo"
BODY = bytes(range(256)) * 4000


def check(who, status, headers, body, echoed):
    assert status == 200, (who, status, body[:300])
    assert hashlib.sha256(body).hexdigest() == headers["x-sha256"], who
    assert echoed["sha256"] == hashlib.sha256(BODY).hexdigest(), (who, echoed)


def pieces():
    for at in range(0, len(BODY), 10_000):
        yield BODY[at:at + 10_000]


def with_requests():
    with requests.Session() as session:
        session.verify, session.trust_env = CA, False
        session.proxies = {"http": PROXY, "https": PROXY} if PROXY else {}
        for data in (BODY, pieces()):
            got, echoed = session.get(CHUNKED), session.post(ECHO, data=data)
            check("requests", got.status_code, got.headers, got.content, echoed.json())


def with_httpx():
    with httpx.Client(verify=ssl.create_default_context(cafile=CA), proxy=PROXY, trust_env=False) as client:
        for data in (BODY, pieces()):
            got, echoed = client.get(CHUNKED), client.post(ECHO, content=data)
            check("httpx", got.status_code, got.headers, got.content, echoed.json())


async def with_aiohttp():
    context = ssl.create_default_context(cafile=CA)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for _ in range(2):
            async with session.get(CHUNKED, proxy=PROXY) as got:
                status, headers, body = got.status, got.headers, await got.read()
            async with session.post(ECHO, data=BODY, proxy=PROXY, expect100=True) as got:
                check("aiohttp", status, headers, body, await got.json())


with_requests()
with_httpx()
asyncio.run(with_aiohttp())
print(f"requests {requests.__version__}, httpx {httpx.__version__}, aiohttp {aiohttp.__version__}")
