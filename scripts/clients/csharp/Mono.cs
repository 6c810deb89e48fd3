// What IrnClient.cs takes from .NET 5 and NuGet (RabbitMQ.Client 6, QRCoder 1), made of what Debian has for Mono: an early
// RabbitMQ.Client, from before publisher confirms, and the program qrencode. It is how the tests run IrnClient.cs; with NuGet's
// packages leave it out.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using RabbitMQ.Client;

static class Channels
{
    public static void QueueDeclare(this IModel channel, string queue, bool durable, bool exclusive, bool autoDelete,
        IDictionary<string, object> arguments) =>
        channel.QueueDeclare(queue, false, durable, exclusive, autoDelete, false, (IDictionary)arguments);

    public static void BasicPublish(this IModel channel, string exchange, string routingKey, bool mandatory,
        IBasicProperties basicProperties, byte[] body) =>
        channel.BasicPublish(exchange, routingKey, mandatory, false, basicProperties, body);

    public static void BasicConsume(this IModel channel, string queue, bool autoAck, IBasicConsumer consumer) =>
        channel.BasicConsume(queue, autoAck, null, consumer);

    // A committed transaction is as good as confirms: every job in it is stored, or has come back. It takes in what the channel
    // acknowledges too, so results need a channel of their own.
    public static void ConfirmSelect(this IModel channel) => channel.TxSelect();

    public static void WaitForConfirmsOrDie(this IModel channel, TimeSpan timeout)
    {
        var commit = Task.Run(() => channel.TxCommit());
        if (Task.WaitAny(new Task[] { commit }, timeout) < 0) throw new IOException("Timed out waiting for acks");
        commit.GetAwaiter().GetResult();
    }
}

// These two hide the classes of the same names in RabbitMQ.Client.
class ConnectionFactory : RabbitMQ.Client.ConnectionFactory
{
    public Uri Uri
    {
        set
        {
            if (value.Scheme != "amqp") throw new NotSupportedException("only amqp, with this old library");
            Protocol = Protocols.AMQP_0_9;
            HostName = value.Host;
            if (value.Port > 0) Port = value.Port;
            var login = value.UserInfo.Split(':').Select(Uri.UnescapeDataString).ToArray();
            if (login.Length == 2) (UserName, Password) = (login[0], login[1]);
            if (value.AbsolutePath.Length > 1) VirtualHost = Uri.UnescapeDataString(value.AbsolutePath.Substring(1));
        }
    }
}

class EventingBasicConsumer : RabbitMQ.Client.Events.EventingBasicConsumer
{
    public EventingBasicConsumer(IModel channel)
    {
        Model = channel;
    }
}

static class Keys
{
    // .NET Framework lacks it as well: reads an RSA key of `BEGIN PUBLIC KEY`.
    public static void ImportFromPem(this RSA key, string pem)
    {
        var base64 = Regex.Replace(pem, @"-----[A-Z ]+-----|\s", "");
        using (var der = new BinaryReader(new MemoryStream(Convert.FromBase64String(base64))))
        {
            Length(der); // of all of it
            der.ReadBytes(Length(der)); // the algorithm
            Length(der); // of the bit string with the key
            der.ReadByte(); // no unused bits
            Length(der); // of the key: two numbers
            key.ImportParameters(new RSAParameters { Modulus = Number(der), Exponent = Number(der) });
        }
    }

    static byte[] Number(BinaryReader der) => der.ReadBytes(Length(der)).SkipWhile(each => each == 0).ToArray();

    static int Length(BinaryReader der)
    {
        der.ReadByte(); // the tag
        int first = der.ReadByte();
        return first < 128 ? first : der.ReadBytes(first - 128).Aggregate(0, (length, each) => length << 8 | each);
    }
}

namespace QRCoder
{
    class QRCodeGenerator
    {
        public enum ECCLevel { L, M, Q, H }

        public static QRCodeData GenerateQrCode(string text, ECCLevel level)
        {
            var start = new ProcessStartInfo("qrencode", $"--8bit --level={level} --margin=4 --type=ASCII --output=-")
            {
                UseShellExecute = false,
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
            };
            using (var process = Process.Start(start))
            {
                process.StandardInput.Write(text);
                process.StandardInput.Close();
                var lines = process.StandardOutput.ReadToEnd().Split(new[] { '\n' }, StringSplitOptions.RemoveEmptyEntries);
                process.WaitForExit();
                if (process.ExitCode != 0) throw new InvalidOperationException("qrencode failed");
                return new QRCodeData { ModuleMatrix = lines.Select(Row).ToList() };
            }
        }

        // Two characters for a module.
        static BitArray Row(string line) => new BitArray(line.Where((_, x) => x % 2 == 0).Select(each => each == '#').ToArray());
    }

    class QRCodeData
    {
        public List<BitArray> ModuleMatrix { get; set; }
    }
}
