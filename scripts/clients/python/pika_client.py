#!/usr/bin/env python3
"""Publishes invoices as jobs for irn-worker, waits for their results and checks what the portal signed. Library: pika.

    AMQP_URL=amqp://user:password@host/vhost SIGNING_KEY=portal.pem python3 pika_client.py INVOICE.json...

REPLY_TO (erp.demo) is your own queue for results, TIMEOUT (60) how many seconds to wait for them.
Exit codes: 0 all signed and genuine; 1 some are not; 2 wrong usage; 3 no broker, or no result in time.
"""
import hashlib
import json
import os
import sys
import time

import jwt
import pika
import segno

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
REPLY_TO = os.environ.get("REPLY_TO", "erp.demo")
TIMEOUT = float(os.environ.get("TIMEOUT", "60"))


def publish(channel, path):
    """A job is the worker's once the broker has confirmed it; until then publish it again."""
    with open(path, "rb") as file:
        body = file.read()  # sent byte for byte: amounts are never parsed and printed again
    invoice = json.loads(body)
    seller, document = invoice["SellerDtls"]["Gstin"], invoice["DocDtls"]
    # Your own id: the same for the same bytes, another one once the invoice has been corrected.
    job_id = f"{seller} {document['Typ']} {document['No']} {document['Dt']} {hashlib.sha256(body).hexdigest()[:8]}"
    properties = pika.BasicProperties(
        message_id=job_id, reply_to=REPLY_TO, content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent, timestamp=int(time.time()))
    # With confirms on, this waits for the broker's word, and raises if it is a no or the job has no queue.
    channel.basic_publish("irn.jobs", "generate", body, properties, mandatory=True)
    return job_id


def genuine(result, key):
    """Whether the portal signed both tokens, and both for this registration."""
    try:
        for name in ("signed_invoice", "signed_qr_code"):
            data = json.loads(jwt.decode(result[name], key, algorithms=["RS256"])["data"])
            if data["Irn"] != result["irn"]:
                return False
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
        return False
    return True


def show(result, key):
    """Prints what became of a job; whether it is signed and genuine. Store the result before you acknowledge it."""
    job_id, status = result["job_id"], result["status"]
    if status == "signed":
        proven = genuine(result, key)
        print(f"{job_id}: signed {result.get('irn')} ({'genuine' if proven else 'NOT GENUINE: do not use it'})")
        if proven:
            segno.make(result["signed_qr_code"], error="l", micro=False).terminal(compact=True)
        return proven
    print(f"{job_id}: {status}" + (" (kept, an operator can replay it)" if result["dead_lettered"] else ""))
    for error in result["errors"]:
        print(f"  {error['source']} {error['code']} {error.get('path', '')} {error['message']}")
    return False


def main(paths):
    if not paths or "SIGNING_KEY" not in os.environ:
        sys.exit(print(__doc__, file=sys.stderr) or 2)
    with open(os.environ["SIGNING_KEY"], "rb") as file:
        key = file.read()
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    channel.queue_declare(REPLY_TO, durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    waiting = {publish(channel, path) for path in paths}
    seen, all_good, end = set(), True, time.monotonic() + TIMEOUT
    for method, properties, body in channel.consume(REPLY_TO, inactivity_timeout=1):
        if method is not None:
            result = json.loads(body)
            if properties.message_id not in seen:  # a repeated result says the same: once is enough
                seen.add(properties.message_id)
                good = show(result, key)
                if result["job_id"] in waiting:
                    waiting.discard(result["job_id"])
                    all_good &= good
            channel.basic_ack(method.delivery_tag)
        if not waiting or time.monotonic() > end:
            break
    connection.close()
    if waiting:
        sys.exit(print(f"no result in {TIMEOUT:.0f} s: {', '.join(sorted(waiting))}", file=sys.stderr) or 3)
    sys.exit(0 if all_good else 1)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except pika.exceptions.UnroutableError:
        sys.exit(print("the job has no queue: is the worker's topology declared?", file=sys.stderr) or 3)
    except (ValueError, KeyError, TypeError) as error:  # and it stays in the queue
        sys.exit(print(f"a message in {REPLY_TO} cannot be shown as a result: {error!r}", file=sys.stderr) or 3)
    except pika.exceptions.AMQPError as error:
        sys.exit(print(f"broker: {error!r}", file=sys.stderr) or 3)
