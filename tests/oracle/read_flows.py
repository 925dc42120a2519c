"""Reads a flow file with mitmproxy's own reader: one JSON object per flow on standard output.

    read_flows.py FILE [COPY]

With COPY, mitmproxy's own writer writes what was read there. Bytes are printed as Latin-1, which keeps every
byte; bodies as length and SHA-256. Exits with 1 and the reader's words if the file is not to its liking.
"""

import hashlib
import json
import sys

from mitmproxy import exceptions, io


def latin(data):
    return None if data is None else data.decode("latin-1")


def body(data):
    return None if data is None else {"len": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def pairs(headers):
    return None if headers is None else [[latin(name), latin(value)] for name, value in headers.fields]


def connection(conn):
    return {
        "id": conn.id,
        "peername": conn.peername,
        "sockname": conn.sockname,
        "transport": conn.transport_protocol,
        "error": conn.error,
        "tls": conn.tls,
        "certificates": [hashlib.sha256(cert.to_pem()).hexdigest() for cert in conn.certificate_list],
        "alpn": latin(conn.alpn),
        "alpn_offers": [latin(offer) for offer in conn.alpn_offers],
        "cipher": conn.cipher,
        "cipher_list": list(conn.cipher_list),
        "tls_version": conn.tls_version,
        "sni": conn.sni,
        "timestamps": [repr(conn.timestamp_start), repr(conn.timestamp_end), repr(conn.timestamp_tls_setup)],
    }


def http_message(message):
    return {
        "http_version": latin(message.data.http_version),
        "headers": pairs(message.headers),
        "content": body(message.raw_content),
        "trailers": pairs(message.trailers),
        "timestamps": [repr(message.timestamp_start), repr(message.timestamp_end)],
    }


def http(flow):
    request, response, websocket = flow.request, flow.response, flow.websocket
    yield "request", http_message(request) | {
        "host": request.host,
        "port": request.port,
        "method": latin(request.data.method),
        "scheme": latin(request.data.scheme),
        "authority": latin(request.data.authority),
        "path": latin(request.data.path),
    }
    yield "response", response and http_message(response) | {
        "status_code": response.status_code,
        "reason": latin(response.data.reason),
    }
    yield "websocket", websocket and {
        "messages": [
            [int(m.type), m.from_client, body(m.content), repr(m.timestamp), m.dropped, m.injected]
            for m in websocket.messages
        ],
        "close": [websocket.closed_by_client, websocket.close_code, websocket.close_reason],
        "timestamp_end": repr(websocket.timestamp_end),
    }


def dns_message(message):
    return message and {
        "id": message.id,
        "flags": [
            message.query,
            message.authoritative_answer,
            message.truncation,
            message.recursion_desired,
            message.recursion_available,
        ],
        "codes": [message.op_code, message.reserved, message.response_code],
        "questions": [[q.name, q.type, q.class_] for q in message.questions],
        "records": [
            [[r.name, r.type, r.class_, r.ttl, latin(r.data)] for r in section]
            for section in (message.answers, message.authorities, message.additionals)
        ],
        "timestamp": repr(message.timestamp),
    }


def describe(flow):
    found = {
        "type": flow.type,
        "id": flow.id,
        "error": flow.error and [flow.error.msg, repr(flow.error.timestamp)],
        "intercepted": flow.intercepted,
        "is_replay": flow.is_replay,
        "marked": flow.marked,
        "comment": flow.comment,
        "metadata": repr(flow.metadata),
        "timestamp_created": repr(flow.timestamp_created),
        "client_conn": connection(flow.client_conn) | {"proxy_mode": flow.client_conn.proxy_mode.full_spec},
        "server_conn": connection(flow.server_conn)
        | {
            "address": flow.server_conn.address,
            "via": flow.server_conn.via,
            "timestamp_tcp_setup": repr(flow.server_conn.timestamp_tcp_setup),
        },
    }
    if flow.type == "http":
        found |= http(flow)
    elif flow.type == "dns":
        found |= {"request": dns_message(flow.request), "response": dns_message(flow.response)}
    else:
        found["messages"] = [[m.from_client, body(m.content), repr(m.timestamp)] for m in flow.messages]
    return found


def main(path, copy=None):
    with open(path, "rb") as file:
        try:
            flows = list(io.FlowReader(file).stream())
        except exceptions.FlowReadException as error:
            sys.exit(f"mitmproxy: {error}")
    for flow in flows:
        print(json.dumps(describe(flow)))
    if copy:
        with open(copy, "wb") as file:
            writer = io.FlowWriter(file)
            for flow in flows:
                writer.add(flow)


main(*sys.argv[1:])
