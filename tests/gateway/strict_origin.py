#!/usr/bin/env python3
"""An origin whose parser is not ours: h11, which is strict. Answers every request it reads.

    strict_origin.py ADDR:PORT LOG

Every connection becomes a line in LOG: how many requests were answered, and what h11 refused, if it did.
"""
import json, socket, sys, threading

import h11


def serve(conn, log):
    peer, answered, refused = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), 0, None
    conn.settimeout(20)
    try:
        while True:
            event = peer.next_event()
            if event is h11.NEED_DATA:
                if peer.they_are_waiting_for_100_continue:
                    conn.sendall(peer.send(h11.InformationalResponse(status_code=100, headers=[])))
                peer.receive_data(conn.recv(65536))
            elif isinstance(event, h11.EndOfMessage):
                answered += 1
                headers = [("x-strict", "yes"), ("content-length", "2")]
                conn.sendall(peer.send(h11.Response(status_code=200, headers=headers)))
                conn.sendall(peer.send(h11.Data(data=b"ok")) + peer.send(h11.EndOfMessage()))
                if peer.our_state is h11.MUST_CLOSE:
                    break
            elif event is h11.PAUSED:
                if peer.our_state is not h11.DONE:
                    break
                peer.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError as error:
        refused = str(error)
    except h11.LocalProtocolError:
        # an answer to HEAD or CONNECT has no body; the request was read all the same
        pass
    except OSError:
        pass
    finally:
        conn.close()
        with lock:
            log.write(json.dumps(dict(answered=answered, refused=refused)) + "\n")
            log.flush()


lock = threading.Lock()


def main():
    host, _, port = sys.argv[1].rpartition(":")
    with open(sys.argv[2], "w", encoding="utf-8") as log:
        listener = socket.create_server((host, int(port)), backlog=256)
        while True:
            conn, _ = listener.accept()
            threading.Thread(target=serve, args=(conn, log), daemon=True).start()


if __name__ == "__main__":
    main()
