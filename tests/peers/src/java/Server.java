import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.concurrent.Executors;

/** The JDK's own server: Server PORT. One log line for each answered request. */
public final class Server {
    private static final byte[] USERS =
            text("[{\"id\": 1, \"name\": \"Ada\"}, {\"id\": 2, \"name\": \"Grace\"}]\n");
    private static final byte[] BIG = new byte[1024 * 1024];

    private record Answer(int status, byte[] body) {}

    private static byte[] text(String value) {
        return value.getBytes(StandardCharsets.UTF_8);
    }

    private static Answer answer(HttpExchange exchange, byte[] body) {
        String path = exchange.getRequestURI().getPath();
        if (path.equals("/echo")) {
            return new Answer(200, body);
        }
        if (exchange.getRequestMethod().equals("DELETE")) {
            return new Answer(200, text("deleted\n"));
        }
        if (path.startsWith("/id/")) {
            return new Answer(200, text(path + "\n"));
        }
        return switch (path) {
            case "/api/users" -> new Answer(200, USERS);
            case "/boom" -> new Answer(500, text("boom\n"));
            case "/big" -> new Answer(200, BIG);
            case "/empty" -> new Answer(204, new byte[0]);
            case "/slow" -> slow(exchange.getRequestURI().getQuery());
            default -> new Answer(404, text("missing\n"));
        };
    }

    private static Answer slow(String query) {
        pause(Integer.parseInt(query.substring("ms=".length())));
        return new Answer(200, text("slow\n"));
    }

    private static void pause(int milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    /** Returns the size of the body that was sent. */
    private static int send(HttpExchange exchange, Answer answer) throws IOException {
        int size = answer.body().length;
        if (exchange.getRequestMethod().equals("HEAD")) {
            exchange.getResponseHeaders().set("Content-Length", Integer.toString(size));
            exchange.sendResponseHeaders(answer.status(), -1);
            return 0;
        }
        exchange.sendResponseHeaders(answer.status(), size == 0 ? -1 : size);
        if (size > 0) {
            exchange.getResponseBody().write(answer.body());
        }
        return size;
    }

    private static int sendChunks(HttpExchange exchange) throws IOException {
        exchange.sendResponseHeaders(200, 0);
        OutputStream out = exchange.getResponseBody();
        int sent = 0;
        for (String chunk : new String[] {"one\n", "two\n", "three\n"}) {
            out.write(text(chunk));
            out.flush();
            sent += chunk.length();
            pause(10);
        }
        return sent;
    }

    private static void handle(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readAllBytes();
        String line = exchange.getRequestMethod() + " " + exchange.getRequestURI();
        int status = 200;
        int sent;
        if (exchange.getRequestURI().getPath().equals("/chunked")) {
            sent = sendChunks(exchange);
        } else {
            Answer answer = answer(exchange, body);
            status = answer.status();
            sent = send(exchange, answer);
        }
        exchange.close();
        System.out.println("\"" + line + " HTTP/1.1\" " + status + " " + sent + " " + body.length);
    }

    public static void main(String[] words) throws IOException {
        Arrays.fill(BIG, (byte) 'x');
        int port = Integer.parseInt(words[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 128);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", Server::handle);
        server.start();
    }
}
