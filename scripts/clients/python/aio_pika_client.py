#!/usr/bin/env python3
"""Publishes invoices as jobs for irn-worker, waits for their results and checks what the portal signed. Library: aio-pika.

    AMQP_URL=amqp://user:password@host/vhost SIGNING_KEY=portal.pem python3 aio_pika_client.py INVOICE.json...

REPLY_TO (erp.demo) is your own queue for results, TIMEOUT (60) how many seconds to wait for them.
Exit codes: 0 all signed and genuine; 1 some are not; 2 wrong usage; 3 no broker, or no result in time.
"""
import asyncio
import hashlib
import json
import os
import sys
from datetime import datetime, timezone

import aio_pika
import jwt
import segno
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
REPLY_TO = os.environ.get("REPLY_TO", "erp.demo")
TIMEOUT = float(os.environ.get("TIMEOUT", "60"))


async def publish(exchange, path):
    """A job is the worker's once the broker has confirmed it; until then publish it again."""
    with open(path, "rb") as file:
        body = file.read()  # sent byte for byte: amounts are never parsed and printed again
    invoice = json.loads(body)
    seller, document = invoice["SellerDtls"]["Gstin"], invoice["DocDtls"]
    # Your own id: the same for the same bytes, another one once the invoice has been corrected.
    job_id = f"{seller} {document['Typ']} {document['No']} {document['Dt']} {hashlib.sha256(body).hexdigest()[:8]}"
    message = aio_pika.Message(
        body, message_id=job_id, reply_to=REPLY_TO, content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT, timestamp=datetime.now(timezone.utc))
    # Waits for the broker's word, and raises if it is a no or the job has no queue.
    await exchange.publish(message, "generate", mandatory=True)
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


async def collect(queue, waiting, key):
    """Takes results until every job has one; whether all of these are good."""
    seen, all_good = set(), True
    async with queue.iterator() as results:
        async for message in results:
            async with message.process(requeue=True):  # acknowledged when the block ends well; else it comes again
                result = json.loads(message.body)
                if message.message_id not in seen:  # a repeated result says the same: once is enough
                    seen.add(message.message_id)
                    good = show(result, key)
                    if result["job_id"] in waiting:
                        waiting.discard(result["job_id"])
                        all_good &= good
            if not waiting:
                return all_good


async def main(paths):
    if not paths or "SIGNING_KEY" not in os.environ:
        return print(__doc__, file=sys.stderr) or 2
    with open(os.environ["SIGNING_KEY"], "rb") as file:
        key = file.read()
    async with await aio_pika.connect(URL) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await channel.declare_queue(REPLY_TO, durable=True, arguments={"x-queue-type": "quorum"})
        exchange = await channel.get_exchange("irn.jobs")
        waiting = set(await asyncio.gather(*(publish(exchange, path) for path in paths)))
        try:
            return 0 if await asyncio.wait_for(collect(queue, waiting, key), TIMEOUT) else 1
        except asyncio.TimeoutError:
            return print(f"no result in {TIMEOUT:.0f} s: {', '.join(sorted(waiting))}", file=sys.stderr) or 3


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1:])))
    except (DeliveryError, PublishError):
        sys.exit(print("the broker did not take a job: is the worker's topology declared?", file=sys.stderr) or 3)
    except (ValueError, KeyError, TypeError) as error:  # and it stays in the queue
        sys.exit(print(f"a message in {REPLY_TO} cannot be shown as a result: {error!r}", file=sys.stderr) or 3)
    except (AMQPError, OSError) as error:
        sys.exit(print(f"broker: {error!r}", file=sys.stderr) or 3)
