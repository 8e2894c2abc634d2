import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.concurrent.Executors;

/** The JDK's own server with a pool of threads: Relay PORT UPSTREAM asks UPSTREAM for the path that it is asked for. */
public final class Relay {
    private static final int THREADS = 32;

    private static int ask(String url) {
        try {
            HttpURLConnection asked = (HttpURLConnection) URI.create(url).toURL().openConnection();
            int status = asked.getResponseCode();
            try (var body = asked.getInputStream()) {
                body.readAllBytes();
            }
            return status;
        } catch (IOException error) {
            return 502;
        }
    }

    private static void relay(HttpExchange exchange, String upstream) throws IOException {
        try (exchange) {
            exchange.sendResponseHeaders(ask(upstream + exchange.getRequestURI().getPath()), -1);
        }
    }

    public static void main(String[] arguments) throws IOException {
        var address = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]));
        HttpServer server = HttpServer.create(address, 512);
        server.setExecutor(Executors.newFixedThreadPool(THREADS));
        server.createContext("/", exchange -> relay(exchange, arguments[1]));
        server.start();
    }
}
