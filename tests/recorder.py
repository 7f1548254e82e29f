"""A company's TLS-intercepting proxy: answers CONNECT, opens the TLS itself and hands what is in it to one other server.

usage: recorder.py CERTIFICATE KEY HOST:PORT

Prints `recorder on PORT`, then `CONNECT HOST:PORT` for each tunnel that is asked for.
"""

import socket
import ssl
import sys
import threading


def main():
    certificate, key, target = sys.argv[1:]
    host, port = target.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"recorder on {listener.getsockname()[1]}", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=tunnel, args=(client, context, (host, int(port))), daemon=True).start()


def tunnel(client, context, target):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return
        head += byte
    print(" ".join(head.decode().split()[:2]), flush=True)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        inside = context.wrap_socket(client, server_side=True)
    except (ssl.SSLError, OSError):
        return
    server = socket.create_connection(target)
    threading.Thread(target=pump, args=(server, inside), daemon=True).start()
    pump(inside, server)


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


if __name__ == "__main__":
    main()
