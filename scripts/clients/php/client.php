#!/usr/bin/env php
<?php
const USAGE = <<<'TEXT'
Publishes invoices as jobs for irn-worker, waits for their results and checks what the portal signed. Library: php-amqplib.

    AMQP_URL=amqp://user:password@host/vhost SIGNING_KEY=portal.pem php client.php INVOICE.json...

REPLY_TO (erp.demo) is your own queue for results, TIMEOUT (60) how many seconds to wait for them.
Exit codes: 0 all signed and genuine; 1 some are not; 2 wrong usage; 3 no broker, or no result in time.

TEXT;

// Composer's autoloader (vendor/autoload.php), or the one that the distribution's packages bring.
require getenv('AUTOLOAD') ?: __DIR__ . '/vendor/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

define('REPLY_TO', getenv('REPLY_TO') ?: 'erp.demo');
define('TIMEOUT', (float) (getenv('TIMEOUT') ?: 60));

/** A job is the worker's once the broker has confirmed it; until then publish it again. */
function publish(AMQPChannel $channel, string $path): string
{
    $body = file_get_contents($path); // sent byte for byte: amounts are never parsed and printed again
    ['SellerDtls' => $seller, 'DocDtls' => $document] = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    $digest = substr(hash('sha256', $body), 0, 8);
    // Your own id: the same for the same bytes, another one once the invoice has been corrected.
    $id = "{$seller['Gstin']} {$document['Typ']} {$document['No']} {$document['Dt']} $digest";
    $message = new AMQPMessage($body, [
        'message_id' => $id, 'reply_to' => REPLY_TO, 'content_type' => 'application/json',
        'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT, 'timestamp' => time(),
    ]);
    $channel->basic_publish($message, 'irn.jobs', 'generate', true);
    return $id;
}

function from_base64url(string $text): string
{
    return base64_decode(strtr($text, '-_', '+/'));
}

/** Whether the portal signed both tokens, and both for this registration. */
function genuine(array $result, OpenSSLAsymmetricKey $key): bool
{
    foreach (['signed_invoice', 'signed_qr_code'] as $name) {
        $parts = explode('.', $result[$name] ?? '');
        if (count($parts) !== 3) {
            return false;
        }
        [$header, $payload, $signature] = $parts;
        $alg = json_decode(from_base64url($header), true)['alg'] ?? null;
        $signed = openssl_verify("$header.$payload", from_base64url($signature), $key, OPENSSL_ALGO_SHA256) === 1;
        $data = json_decode(json_decode(from_base64url($payload), true)['data'] ?? '', true);
        if ($alg !== 'RS256' || !$signed || !isset($data['Irn']) || $data['Irn'] !== $result['irn']) {
            return false;
        }
    }
    return true;
}

/** Prints what became of a job; whether it is signed and genuine. Store the result before you acknowledge it. */
function show(array $result, OpenSSLAsymmetricKey $key): bool
{
    if ($result['status'] === 'signed') {
        $proven = genuine($result, $key);
        echo "{$result['job_id']}: signed ", $result['irn'] ?? '', ' (', $proven ? 'genuine' : 'NOT GENUINE: do not use it', ")\n";
        if ($proven) {
            draw($result['signed_qr_code']);
        }
        return $proven;
    }
    echo "{$result['job_id']}: {$result['status']}", $result['dead_lettered'] ? ' (kept, an operator can replay it)' : '', "\n";
    foreach ($result['errors'] as $error) {
        echo "  {$error['source']} {$error['code']} ", $error['path'] ?? '', " {$error['message']}\n";
    }
    return false;
}

/** Two rows of modules in a line; outside of the code everything is light. */
function draw(string $token): void
{
    $rows = BaconQrCode\Encoder\Encoder::encode($token, BaconQrCode\Common\ErrorCorrectionLevel::L())->getMatrix();
    $size = $rows->getWidth();
    $light = fn (int $x, int $y) => min($x, $y) < 0 || max($x, $y) >= $size || $rows->get($x, $y) === 0;
    for ($y = -2; $y < $size + 2; $y += 2) {
        for ($x = -2; $x < $size + 2; $x++) {
            echo $light($x, $y) ? ($light($x, $y + 1) ? '█' : '▀') : ($light($x, $y + 1) ? '▄' : ' ');
        }
        echo "\n";
    }
}

function run(array $paths): int
{
    $key = openssl_pkey_get_public(file_get_contents(getenv('SIGNING_KEY')));
    $url = parse_url(getenv('AMQP_URL') ?: 'amqp://guest:guest@127.0.0.1:5672/%2f');
    if (($url['scheme'] ?? '') !== 'amqp') { // a password for amqps must not go out in clear
        fwrite(STDERR, "this program speaks amqp:// only; for amqps:// use php-amqplib's AMQPSSLConnection\n");
        return 2;
    }
    $connection = new AMQPStreamConnection($url['host'], $url['port'] ?? 5672, urldecode($url['user'] ?? 'guest'),
        urldecode($url['pass'] ?? 'guest'), urldecode(substr($url['path'] ?? '/%2f', 1)));
    $channel = $connection->channel();
    $quorum = new AMQPTable(['x-queue-type' => 'quorum']);
    $channel->queue_declare(REPLY_TO, false, true, false, false, arguments: $quorum);
    $channel->confirm_select();
    $channel->set_nack_handler(fn () => throw new RuntimeException('the broker did not take a job'));
    $channel->set_return_listener(fn () => throw new RuntimeException("the job has no queue: is the worker's topology declared?"));
    $waiting = array_flip(array_map(fn ($path) => publish($channel, $path), $paths));
    $channel->wait_for_pending_acks_returns(TIMEOUT); // what has no queue comes back before it is confirmed
    [$seen, $all_good, $end] = [[], true, microtime(true) + TIMEOUT];
    $channel->basic_consume(REPLY_TO, callback: function (AMQPMessage $message) use (&$waiting, &$seen, &$all_good, $key) {
        $result = json_decode($message->getBody(), true);
        $id = $message->get('message_id');
        if (!isset($seen[$id])) { // a repeated result says the same: once is enough
            $seen[$id] = true;
            $good = show($result, $key);
            if (isset($waiting[$result['job_id']])) {
                unset($waiting[$result['job_id']]);
                $all_good = $all_good && $good;
            }
        }
        $message->ack();
    });
    while ($waiting && ($left = $end - microtime(true)) > 0) {
        try {
            $channel->wait(null, false, $left);
        } catch (AMQPTimeoutException) {
            break;
        }
    }
    $connection->close();
    if ($waiting) {
        fprintf(STDERR, "no result in %d s: %s\n", TIMEOUT, implode(', ', array_keys($waiting)));
        return 3;
    }
    return $all_good ? 0 : 1;
}

if ($argc < 2 || !getenv('SIGNING_KEY')) {
    fwrite(STDERR, USAGE);
    exit(2);
}
try {
    exit(run(array_slice($argv, 1)));
} catch (TypeError $error) { // and it stays in the queue
    fwrite(STDERR, 'a message in ' . REPLY_TO . " cannot be shown as a result: {$error->getMessage()}\n");
    exit(3);
} catch (Exception $error) {
    fwrite(STDERR, "broker: {$error->getMessage()}\n");
    exit(3);
}
