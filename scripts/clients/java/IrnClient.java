import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.rabbitmq.client.*;
import io.nayuki.qrcodegen.QrCode;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.*;
import java.security.spec.X509EncodedKeySpec;
import java.util.*;
import java.util.concurrent.*;
import javax.net.ssl.*;

/**
 * Publishes invoices as jobs for irn-worker, waits for their results and checks what the portal signed. Library: amqp-client.
 *
 *   AMQP_URL=amqp://user:password@host/vhost SIGNING_KEY=portal.pem java -cp ... IrnClient.java INVOICE.json...
 *
 * REPLY_TO (erp.demo) is your own queue for results, TIMEOUT (60) how many seconds to wait for them.
 * Exit codes: 0 all signed and genuine; 1 some are not; 2 wrong usage; 3 no broker, or no result in time.
 */
public class IrnClient {
    static final String REPLY_TO = env("REPLY_TO", "erp.demo");
    static final long TIMEOUT = Long.parseLong(env("TIMEOUT", "60"));

    static String env(String name, String otherwise) {
        return Optional.ofNullable(System.getenv(name)).orElse(otherwise);
    }

    /** A job is the worker's once the broker has confirmed it; until then publish it again. */
    static String publish(Channel channel, Path path) throws IOException, NoSuchAlgorithmException {
        byte[] body = Files.readAllBytes(path); // sent byte for byte: amounts are never parsed and printed again
        JsonObject invoice = json(new String(body, StandardCharsets.UTF_8)), document = invoice.getAsJsonObject("DocDtls");
        String digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body)).substring(0, 8);
        // Your own id: the same for the same bytes, another one once the invoice has been corrected.
        String id = String.join(" ", text(invoice.getAsJsonObject("SellerDtls"), "Gstin"), text(document, "Typ"),
            text(document, "No"), text(document, "Dt"), digest);
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().messageId(id).replyTo(REPLY_TO)
            .contentType("application/json").deliveryMode(2).timestamp(new Date()).build();
        channel.basicPublish("irn.jobs", "generate", true, properties, body);
        return id;
    }

    static PublicKey publicKey(String file) throws Exception {
        String pem = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]+-----|\\s", "");
        return KeyFactory.getInstance("RSA").generatePublic(new X509EncodedKeySpec(Base64.getDecoder().decode(pem)));
    }

    /** Whether the portal signed both tokens, and both for this registration. */
    static boolean genuine(JsonObject result, PublicKey key) {
        try {
            for (String name : List.of("signed_invoice", "signed_qr_code")) {
                String[] parts = text(result, name).split("\\.");
                String header = new String(Base64.getUrlDecoder().decode(parts[0]), StandardCharsets.UTF_8);
                Signature rs256 = Signature.getInstance("SHA256withRSA");
                rs256.initVerify(key);
                rs256.update((parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII));
                String payload = new String(Base64.getUrlDecoder().decode(parts[1]), StandardCharsets.UTF_8);
                if (parts.length != 3 || !text(json(header), "alg").equals("RS256") || !rs256.verify(Base64.getUrlDecoder().decode(parts[2]))
                    || !text(json(text(json(payload), "data")), "Irn").equals(text(result, "irn"))) {
                    return false;
                }
            }
            return true;
        } catch (GeneralSecurityException | RuntimeException notAToken) {
            return false;
        }
    }

    /** Prints what became of a job; whether it is signed and genuine. Store the result before you acknowledge it. */
    static boolean show(JsonObject result, PublicKey key) {
        String status = text(result, "status");
        if (status.equals("signed")) {
            boolean proven = genuine(result, key);
            System.out.printf("%s: signed %s (%s)%n", text(result, "job_id"), optional(result, "irn"),
                proven ? "genuine" : "NOT GENUINE: do not use it");
            if (proven) draw(QrCode.encodeText(text(result, "signed_qr_code"), QrCode.Ecc.LOW));
            return proven;
        }
        boolean kept = result.get("dead_lettered").getAsBoolean();
        System.out.printf("%s: %s%s%n", text(result, "job_id"), status, kept ? " (kept, an operator can replay it)" : "");
        for (JsonElement each : result.getAsJsonArray("errors")) {
            JsonObject error = each.getAsJsonObject();
            System.out.printf("  %s %s %s %s%n", text(error, "source"), text(error, "code"), optional(error, "path"), text(error, "message"));
        }
        return false;
    }

    /** Two rows of modules in a line; outside of the code everything is light. */
    static void draw(QrCode qr) {
        for (int y = -2; y < qr.size + 2; y += 2) {
            StringBuilder line = new StringBuilder();
            for (int x = -2; x < qr.size + 2; x++) {
                boolean top = !qr.getModule(x, y), bottom = !qr.getModule(x, y + 1);
                line.append(top ? (bottom ? '\u2588' : '\u2580') : (bottom ? '\u2584' : ' '));
            }
            System.out.println(line);
        }
    }

    static JsonObject json(String text) {
        return JsonParser.parseString(text).getAsJsonObject();
    }

    static String text(JsonObject object, String member) {
        return object.get(member).getAsString();
    }

    static String optional(JsonObject object, String member) {
        return object.has(member) && object.get(member).isJsonPrimitive() ? text(object, member) : "";
    }

    static int run(String[] paths, PublicKey key, Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        channel.queueDeclare(REPLY_TO, true, false, false, Map.of("x-queue-type", "quorum"));
        channel.confirmSelect();
        Set<String> returned = ConcurrentHashMap.newKeySet();
        channel.addReturnListener((code, why, exchange, route, properties, body) -> returned.add(properties.getMessageId()));
        Set<String> waiting = ConcurrentHashMap.newKeySet(), seen = new HashSet<>();
        for (String path : paths) waiting.add(publish(channel, Path.of(path)));
        channel.waitForConfirmsOrDie(TIMEOUT * 1000); // what has no queue comes back before it is confirmed
        if (!returned.isEmpty()) throw new IOException("no queue for " + returned + ": is the worker's topology declared?");
        BlockingQueue<Boolean> done = new LinkedBlockingQueue<>();
        boolean[] allGood = {true};
        channel.basicConsume(REPLY_TO, false, (tag, message) -> {
            JsonObject result = json(new String(message.getBody(), StandardCharsets.UTF_8));
            if (seen.add(message.getProperties().getMessageId())) { // a repeated result says the same: once is enough
                boolean good = show(result, key);
                if (waiting.remove(text(result, "job_id"))) allGood[0] &= good;
            }
            channel.basicAck(message.getEnvelope().getDeliveryTag(), false);
            if (waiting.isEmpty()) done.add(allGood[0]);
        }, tag -> { });
        Boolean good = done.poll(TIMEOUT, TimeUnit.SECONDS);
        if (good == null) System.err.printf("no result in %d s: %s%n", TIMEOUT, String.join(", ", waiting));
        return good == null ? 3 : good ? 0 : 1;
    }

    public static void main(String[] paths) throws Exception {
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8));
        if (paths.length == 0 || System.getenv("SIGNING_KEY") == null) {
            System.err.println("usage: AMQP_URL=... SIGNING_KEY=portal.pem java -cp ... IrnClient.java INVOICE.json...");
            System.exit(2);
        }
        PublicKey key = publicKey(System.getenv("SIGNING_KEY"));
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(env("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"));
        if (factory.isSSL()) { // as it is, it would trust anybody
            factory.useSslProtocol(SSLContext.getDefault());
            factory.setSocketConfigurator(socket -> {
                SSLParameters parameters = ((SSLSocket) socket).getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS"); // the certificate has to be the host's
                ((SSLSocket) socket).setSSLParameters(parameters);
            });
        }
        int code = 3;
        try (Connection connection = factory.newConnection()) {
            code = run(paths, key, connection);
        } catch (IOException | TimeoutException | ShutdownSignalException error) {
            System.err.println("broker: " + error);
        }
        System.exit(code);
    }
}
