#!/usr/bin/env bash
# paho-mqtt 2.2.0: `publish` without a connection returns one code, MQTT_ERR_NO_CONN, "The client is not currently connected.", for two
# opposite outcomes. A message of QoS 0 is gone. One of QoS 1 or 2 is kept in memory, without a limit unless one is set, and sent
# on the next connection: a program that keeps what failed and publishes it again delivers it twice, one that counts the code
# as sent loses QoS 0. A number of messages above `max_queued_messages_set` has a code of its own (15), QoS 0 still 4.
#
#   published before the connection: QoS 0 code 4, QoS 1 code 4; QoS 1 again for its code; received: QoS 0 never, QoS 1 twice
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'paho-mqtt==2.2.0'
"$folder/venv/bin/python" - <<'PY'
import socket
import struct
import threading
from importlib.metadata import version

import paho.mqtt.client as mqtt

received = []


def serve(listener):
    """What of a broker (MQTT 3.1.1) is needed: accept one client, acknowledge what it publishes."""
    client, _ = listener.accept()
    stream = client.makefile("rb")
    while first := stream.read(1):
        length = stream.read(1)[0]  # short packets only
        body = stream.read(length)
        kind, quality = first[0] >> 4, first[0] >> 1 & 3
        if kind == 1:
            client.sendall(b"\x20\x02\x00\x00")
        elif kind == 3:
            rest = body[2 + struct.unpack(">H", body[:2])[0] :]
            received.append((quality, rest[2:].decode() if quality else rest.decode()))
            if quality:
                client.sendall(b"\x40\x02" + rest[:2])


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
connected = threading.Event()
client.on_connect = lambda *_: connected.set()

codes = [int(client.publish("kept", text, quality).rc) for text, quality in (("zero", 0), ("one", 1))]
client.connect("127.0.0.1", listener.getsockname()[1])
client.loop_start()
assert connected.wait(30)
client.publish("kept", "one", 1).wait_for_publish(30)  # again, since it was told that it was not sent
client.publish("kept", "last", 1).wait_for_publish(30)
client.disconnect()
client.loop_stop()
print(f"paho-mqtt {version('paho-mqtt')}: before the connection, codes of QoS 0 and 1: {codes}, {mqtt.error_string(codes[1])}")
print("received (QoS, text):", received)
raise SystemExit(0 if codes == [4, 4] and received == [(1, "one"), (1, "one"), (1, "last")] else "this has changed")
PY
