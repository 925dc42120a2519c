// Java's HttpClient against the odd origin: java -Djavax.net.ssl.trustStore=... Fetch.java ORIGIN [PROXY-HOST PORT]
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.util.HexFormat;

public class Fetch {
    static String sum(byte[] bytes) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    }

    public static void main(String[] args) throws Exception {
        var builder = HttpClient.newBuilder();
        if (args.length > 1) {
            builder.proxy(ProxySelector.of(new InetSocketAddress(args[1], Integer.parseInt(args[2]))));
        }
        var client = builder.build();
        var body = "java".repeat(250_000).getBytes();
        for (int turn = 0; turn < 2; turn++) {
            var get = HttpRequest.newBuilder(URI.create(args[0] + "/chunked?sizes=1,2,3,70000")).build();
            var got = client.send(get, BodyHandlers.ofByteArray());
            if (got.statusCode() != 200 || !sum(got.body()).equals(got.headers().firstValue("x-sha256").get())) {
                throw new Exception("GET: " + got.statusCode());
            }
            var post = HttpRequest.newBuilder(URI.create(args[0] + "/echo")).expectContinue(turn == 1)
                .POST(HttpRequest.BodyPublishers.ofByteArray(body)).build();
            var said = client.send(post, BodyHandlers.ofString()).body();
            if (!said.contains(sum(body))) {
                throw new Exception("POST: " + said);
            }
        }
        System.out.println("java " + System.getProperty("java.version"));
    }
}
