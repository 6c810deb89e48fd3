#!/usr/bin/env node
'use strict';
const USAGE = `Publishes invoices as jobs for irn-worker, waits for their results and checks what the portal signed. Library: amqplib.

    AMQP_URL=amqp://user:password@host/vhost SIGNING_KEY=portal.pem node client.js INVOICE.json...

REPLY_TO (erp.demo) is your own queue for results, TIMEOUT (60) how many seconds to wait for them.
Exit codes: 0 all signed and genuine; 1 some are not; 2 wrong usage; 3 no broker, or no result in time.`;

const crypto = require('node:crypto');
const fs = require('node:fs');
const amqp = require('amqplib');
const qrcode = require('qrcode-terminal');

qrcode.setErrorLevel('L');

const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672/%2f';
const replyTo = process.env.REPLY_TO ?? 'erp.demo';
const timeout = Number(process.env.TIMEOUT ?? 60);

/** A job is the worker's once the broker has confirmed it; until then publish it again. */
function publish(channel, path) {
  const body = fs.readFileSync(path); // sent byte for byte: amounts are never parsed and printed again
  const { SellerDtls: { Gstin }, DocDtls: { Typ, No, Dt } } = JSON.parse(body);
  const digest = crypto.createHash('sha256').update(body).digest('hex').slice(0, 8);
  // Your own id: the same for the same bytes, another one once the invoice has been corrected.
  const messageId = `${Gstin} ${Typ} ${No} ${Dt} ${digest}`;
  const options = {
    messageId, replyTo, contentType: 'application/json', persistent: true, mandatory: true,
    timestamp: Math.floor(Date.now() / 1000),
  };
  return new Promise((resolve, reject) => {
    // A job without a queue comes back as `return` before it is confirmed.
    channel.once(`return ${messageId}`, () => reject(new Error("the job has no queue: is the worker's topology declared?")));
    channel.publish('irn.jobs', 'generate', body, options, (error) => (error ? reject(error) : resolve(messageId)));
  });
}

/** What a token says, if the portal signed it. */
function verified(token, key) {
  const [header, payload, signature, ...more] = token.split('.');
  const { alg } = JSON.parse(Buffer.from(header, 'base64url'));
  const good = more.length === 0 && alg === 'RS256' &&
    crypto.verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature ?? '', 'base64url'));
  return good ? JSON.parse(JSON.parse(Buffer.from(payload, 'base64url')).data) : null;
}

/** Whether the portal signed both tokens, and both for this registration. */
function genuine(result, key) {
  try {
    return [result.signed_invoice, result.signed_qr_code].every((token) => {
      const data = verified(token, key);
      return data !== null && typeof data.Irn === 'string' && data.Irn === result.irn;
    });
  } catch {
    return false;
  }
}

/** Prints what became of a job; whether it is signed and genuine. Store the result before you acknowledge it. */
function show(result, key) {
  if (result.status === 'signed') {
    const proven = genuine(result, key);
    console.log(`${result.job_id}: signed ${result.irn} (${proven ? 'genuine' : 'NOT GENUINE: do not use it'})`);
    if (proven) {
      qrcode.generate(result.signed_qr_code, { small: true }, (drawn) => console.log(drawn));
    }
    return proven;
  }
  console.log(`${result.job_id}: ${result.status}${result.dead_lettered ? ' (kept, an operator can replay it)' : ''}`);
  for (const { source, code, path = '', message } of result.errors) {
    console.log(`  ${source} ${code} ${path} ${message}`);
  }
  return false;
}

/** Publishes, and takes results until every job has one. */
async function run(channel, paths, key) {
  await channel.assertQueue(replyTo, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  channel.on('return', ({ properties }) => channel.emit(`return ${properties.messageId}`));
  const waiting = new Set(await Promise.all(paths.map((path) => publish(channel, path))));
  const seen = new Set();
  let allGood = true;
  return new Promise((resolve) => {
    const late = setTimeout(() => {
      console.error(`no result in ${timeout} s: ${[...waiting].join(', ')}`);
      resolve(3);
    }, timeout * 1000);
    channel.consume(replyTo, (message) => {
      const result = JSON.parse(message.content);
      if (!seen.has(message.properties.messageId)) { // a repeated result says the same: once is enough
        seen.add(message.properties.messageId);
        const good = show(result, key);
        if (waiting.delete(result.job_id)) allGood &&= good;
      }
      channel.ack(message);
      if (waiting.size === 0) {
        clearTimeout(late);
        resolve(allGood ? 0 : 1);
      }
    });
  });
}

async function main(paths) {
  if (paths.length === 0 || !process.env.SIGNING_KEY) {
    console.error(USAGE);
    return 2;
  }
  const key = crypto.createPublicKey(fs.readFileSync(process.env.SIGNING_KEY));
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const broken = new Promise((_, reject) => [connection, channel].forEach((part) => part.on('error', reject)));
  const code = await Promise.race([run(channel, paths, key), broken]);
  await channel.close(); // and with it what was acknowledged is sent
  await connection.close();
  return code;
}

main(process.argv.slice(2)).then(
  (code) => { process.exitCode = code; },
  (error) => { console.error(`broker: ${error.message || error.code}`); process.exit(3); },
);
