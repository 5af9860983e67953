#!/usr/bin/env python3
"""An agency in a page: it uploads its bets, each exactly once, and prints its winners.

    python3 agency.py ID BETS.csv [HOST:PORT [CA.pem [CERT.pem KEY.pem]]]    (Python 3.8 or later)

With CA.pem, the authority of the server's certificate, it connects by TLS. CERT.pem and KEY.pem are
its own, for a server that asks who it is. The columns of the CSV are first name, last name, document, birthdate and number. The protocol is in
codec/PROTOCOL.md. Only one batch at a time is unanswered, so the window is 1.
"""
import csv
import socket
import ssl
import sys
import time

BET_BYTES_MAX = 310  # the longest line of a bet, with its line end
FAILURES_MAX = 40  # in a row, at most 2 s apart: a minute or so
NOT_YET = b"ERROR_LOTTERY_HASNT_ENDED"
LATER = b"ERROR_STORAGE", b"ERROR_TIMEOUT", b"ERROR_TOO_MANY_CONNECTIONS"


def crc32c(data):
    """The checksum of WELCOME. zlib.crc32 has another polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def ask(server, payload):
    """Sends a frame and returns the payload of the answer."""
    server.write(b"%d\n%b" % (len(payload), payload))
    server.flush()
    header = server.readline()
    if not header.endswith(b"\n") or len(answer := server.read(int(header))) < int(header):
        raise ConnectionError("the server has hung up")
    if answer in LATER:
        raise ConnectionError(answer.decode())
    is_bet = answer.count(b"|") >= 5  # a winner's first name may begin with ERROR_
    if answer.startswith(b"ERROR_") and answer != NOT_YET and not is_bet:
        sys.exit(f"rejected: {answer.decode()}")
    return answer


def tell(server, payload):
    """Sends a frame and wants an ACK, after which the server has it on its disk."""
    if (answer := ask(server, payload)) != b"ACK":
        sys.exit(f"not an acknowledgement: {answer.decode()}")


def show(winners):
    """Prints the winners. If that fails it exits, so that they are not confirmed."""
    try:
        print(winners.decode(), end="\n" if winners else "", flush=True)
    except OSError as unseen:
        sys.exit(f"the winners can't be printed: {unseen}")


def secure(authority, *own):
    """How to connect by TLS, with our own certificate and its key if there are any."""
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["loteria/1"])
    if own:
        context.load_cert_chain(*own)
    return context


def connect(host, port, context):
    """Connects to the server, by TLS if there is a context."""
    link = socket.create_connection((host, port))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # for the long wait
    if context is None:
        return link
    link = context.wrap_socket(link, server_hostname=host)
    if link.selected_alpn_protocol() != "loteria/1":
        sys.exit(f"{host}:{port} is another server")
    return link


def main(agency, path, address="localhost:12345", *files):
    context = secure(*files) if files else None
    with open(path, encoding="utf-8-sig", newline="") as file:
        bets = ["|".join([*row, agency]).encode() for row in csv.reader(file) if row]
    agency, host, port = agency.encode(), *address.rsplit(":", 1)
    stored, winners, failures = 0, None, 0
    while failures < FAILURES_MAX:
        try:
            with connect(host, port, context) as link, link.makefile("rwb") as server:
                # The server knows how many bets it has; we continue from there.
                _, durable, _, frame_bytes, checksum = ask(server, b"HELLO|" + agency).split(b"|")
                ours = b"".join(bet + b"\n" for bet in bets[:int(durable)])
                if not stored <= int(durable) <= len(bets) or crc32c(ours) != int(checksum, 16):
                    sys.exit(f"the {int(durable)} bets that the server has are not our first ones")
                stored, failures = int(durable), 0
                while stored < len(bets):
                    batch = bets[stored:stored + max(1, int(frame_bytes) // BET_BYTES_MAX)]
                    tell(server, b"\n".join(batch))
                    stored += len(batch)
                # No more bets. The answer comes with the draw, or right away if the server polls.
                while winners is None:
                    if (answer := ask(server, b"GET_WINNERS|" + agency)) == NOT_YET:
                        time.sleep(1)
                        continue
                    winners = answer
                    show(winners)
                tell(server, b"RECEIVED|" + agency)  # only once the winners are printed
                return
        except OSError as broken:
            failures += 1
            print(f"again, after: {broken}", file=sys.stderr)
            time.sleep(min(2, 2 ** failures / 20))
    if winners is None:  # otherwise we have our winners, and only the server doesn't know
        sys.exit(f"{address} is not reachable")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 5, 7):
        sys.exit(__doc__)
    main(*sys.argv[1:])
