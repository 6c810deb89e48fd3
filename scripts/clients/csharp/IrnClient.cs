using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Security;
using System.Security.Cryptography;
using System.Text;
using Newtonsoft.Json;
using Newtonsoft.Json.Linq;
using QRCoder;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;
using RabbitMQ.Client.Exceptions;

/// <summary>
/// Publishes invoices as jobs for irn-worker, waits for their results and checks what the portal signed.
/// Library: RabbitMQ.Client 6 (7 has other calls, all asynchronous).
///
///   AMQP_URL=amqp://user:password@host/vhost SIGNING_KEY=portal.pem dotnet run INVOICE.json...
///
/// REPLY_TO (erp.demo) is your own queue for results, TIMEOUT (60) how many seconds to wait for them.
/// Exit codes: 0 all signed and genuine; 1 some are not; 2 wrong usage; 3 no broker, or no result in time.
/// </summary>
static class IrnClient
{
    static readonly string ReplyTo = Env("REPLY_TO", "erp.demo");
    static readonly TimeSpan Timeout = TimeSpan.FromSeconds(double.Parse(Env("TIMEOUT", "60"), CultureInfo.InvariantCulture));

    static string Env(string name, string otherwise) => Environment.GetEnvironmentVariable(name) ?? otherwise;

    /// <summary>A job is the worker's once the broker has confirmed it; until then publish it again.</summary>
    static string Publish(IModel channel, string path)
    {
        var body = File.ReadAllBytes(path); // sent byte for byte: amounts are never parsed and printed again
        var invoice = Json(body);
        JObject seller = (JObject)invoice["SellerDtls"], document = (JObject)invoice["DocDtls"];
        string digest;
        using (var sha = SHA256.Create()) digest = BitConverter.ToString(sha.ComputeHash(body), 0, 4).Replace("-", "").ToLowerInvariant();
        // Your own id: the same for the same bytes, another one once the invoice has been corrected.
        var id = $"{Text(seller, "Gstin")} {Text(document, "Typ")} {Text(document, "No")} {Text(document, "Dt")} {digest}";
        var properties = channel.CreateBasicProperties();
        properties.MessageId = id;
        properties.ReplyTo = ReplyTo;
        properties.ContentType = "application/json";
        properties.DeliveryMode = 2; // persistent
        properties.Timestamp = new AmqpTimestamp(DateTimeOffset.UtcNow.ToUnixTimeSeconds());
        channel.BasicPublish("irn.jobs", "generate", mandatory: true, basicProperties: properties, body: body);
        return id;
    }

    /// <summary>Whether the portal signed both tokens, and both for this registration.</summary>
    static bool Genuine(JObject result, RSA key)
    {
        try
        {
            return new[] { "signed_invoice", "signed_qr_code" }.All(name =>
            {
                var parts = Text(result, name).Split('.');
                var signed = Encoding.ASCII.GetBytes($"{parts[0]}.{parts[1]}");
                var data = Text(Json(FromBase64Url(parts[1])), "data");
                return parts.Length == 3 && Text(Json(FromBase64Url(parts[0])), "alg") == "RS256"
                    && key.VerifyData(signed, FromBase64Url(parts[2]), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
                    && Text(Json(Encoding.UTF8.GetBytes(data)), "Irn") == Text(result, "irn");
            });
        }
        catch (Exception)
        {
            return false; // whatever is the matter with it, it is no token of the portal
        }
    }

    /// <summary>Prints what became of a job; whether it is signed and genuine. Store it before you acknowledge it.</summary>
    static bool Show(JObject result, RSA key)
    {
        var status = Text(result, "status");
        if (status == "signed")
        {
            var proven = Genuine(result, key);
            var verdict = proven ? "genuine" : "NOT GENUINE: do not use it";
            Console.WriteLine($"{Text(result, "job_id")}: signed {result["irn"]} ({verdict})");
            if (proven) Draw(Text(result, "signed_qr_code"));
            return proven;
        }
        var kept = (bool)result["dead_lettered"] ? " (kept, an operator can replay it)" : "";
        Console.WriteLine($"{Text(result, "job_id")}: {status}{kept}");
        foreach (JObject error in result["errors"])
        {
            Console.WriteLine($"  {Text(error, "source")} {Text(error, "code")} {error["path"]} {Text(error, "message")}");
        }
        return false;
    }

    /// <summary>Two rows of modules in a line; the margin is part of the matrix.</summary>
    static void Draw(string token)
    {
        var rows = QRCodeGenerator.GenerateQrCode(token, QRCodeGenerator.ECCLevel.L).ModuleMatrix;
        Func<int, int, bool> light = (x, y) => y == rows.Count || !rows[y][x];
        for (var y = 0; y < rows.Count; y += 2)
        {
            var line = new StringBuilder();
            for (var x = 0; x < rows.Count; x++)
            {
                line.Append(light(x, y) ? (light(x, y + 1) ? '█' : '▀') : (light(x, y + 1) ? '▄' : ' '));
            }
            Console.WriteLine(line);
        }
    }

    static JObject Json(byte[] text)
    {
        var asWritten = new JsonSerializerSettings { DateParseHandling = DateParseHandling.None }; // no text is taken for a date
        return JsonConvert.DeserializeObject<JObject>(Encoding.UTF8.GetString(text), asWritten);
    }

    static string Text(JObject json, string member) => (string)json[member] ?? throw new JsonException($"no {member}");

    static byte[] FromBase64Url(string text)
    {
        var padding = new string('=', (4 - text.Length % 4) % 4);
        return Convert.FromBase64String(text.Replace('-', '+').Replace('_', '/') + padding);
    }

    static int Run(string[] paths, RSA key, IConnection connection)
    {
        var jobs = connection.CreateModel(); // and another one for results: a channel is not for two threads
        var quorum = new Dictionary<string, object> { ["x-queue-type"] = "quorum" };
        jobs.QueueDeclare(ReplyTo, durable: true, exclusive: false, autoDelete: false, arguments: quorum);
        jobs.ConfirmSelect();
        var returned = new ConcurrentQueue<string>();
        jobs.BasicReturn += (_, job) => returned.Enqueue(job.BasicProperties.MessageId);
        var waiting = new HashSet<string>();
        foreach (var path in paths) waiting.Add(Publish(jobs, path));
        jobs.WaitForConfirmsOrDie(Timeout); // what has no queue comes back before it is confirmed
        if (!returned.IsEmpty)
        {
            throw new IOException($"no queue for {string.Join(", ", returned)}: is the worker's topology declared?");
        }

        var results = connection.CreateModel();
        var arrived = new BlockingCollection<(ulong Tag, string Id, byte[] Body)>();
        var consumer = new EventingBasicConsumer(results);
        consumer.Received += (_, message) => // the library takes the body's memory back when this returns
            arrived.Add((message.DeliveryTag, message.BasicProperties.MessageId, message.Body.ToArray()));
        results.BasicConsume(ReplyTo, autoAck: false, consumer: consumer);
        var seen = new HashSet<string>();
        var allGood = true;
        var clock = Stopwatch.StartNew();
        while (waiting.Count > 0)
        {
            var left = Timeout - clock.Elapsed;
            if (left <= TimeSpan.Zero || !arrived.TryTake(out var message, left))
            {
                Console.Error.WriteLine($"no result in {Timeout.TotalSeconds} s: {string.Join(", ", waiting)}");
                return 3;
            }
            if (seen.Add(message.Id)) // a repeated result says the same: once is enough
            {
                var result = Json(message.Body);
                var good = Show(result, key);
                if (waiting.Remove(Text(result, "job_id"))) allGood &= good;
            }
            results.BasicAck(message.Tag, multiple: false);
        }
        return allGood ? 0 : 1;
    }

    static int Main(string[] paths)
    {
        var keyFile = Environment.GetEnvironmentVariable("SIGNING_KEY");
        if (paths.Length == 0 || keyFile == null)
        {
            Console.Error.WriteLine("usage: AMQP_URL=... SIGNING_KEY=portal.pem dotnet run INVOICE.json...");
            return 2;
        }
        Console.OutputEncoding = new UTF8Encoding(false);
        var key = RSA.Create();
        key.ImportFromPem(File.ReadAllText(keyFile));
        var factory = new ConnectionFactory { Uri = new Uri(Env("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")) };
        factory.Ssl.AcceptablePolicyErrors = SslPolicyErrors.None; // an amqps URI sets it to accept another host's certificate
        try
        {
            using (var connection = factory.CreateConnection()) return Run(paths, key, connection);
        }
        catch (Exception error) when (error is IOException || error is OperationInterruptedException || error is TimeoutException)
        {
            Console.Error.WriteLine($"broker: {error.GetBaseException().Message}");
            return 3;
        }
    }
}
