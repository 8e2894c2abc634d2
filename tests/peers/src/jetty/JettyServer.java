import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.eclipse.jetty.http.HttpHeader;
import org.eclipse.jetty.io.Content;
import org.eclipse.jetty.server.CustomRequestLog;
import org.eclipse.jetty.server.Handler;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Response;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.Callback;

/** Jetty: JettyServer PORT, with Jetty's own request log on standard output. */
public final class JettyServer extends Handler.Abstract {
    // request line, status, body bytes sent, body bytes received
    private static final String LOG_FORMAT = "\"%r\" %s %O %I";
    private static final byte[] USERS =
            text("[{\"id\": 1, \"name\": \"Ada\"}, {\"id\": 2, \"name\": \"Grace\"}]\n");
    private static final byte[] BIG = new byte[1024 * 1024];

    private static byte[] text(String value) {
        return value.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public boolean handle(Request request, Response response, Callback callback)
            throws IOException {
        byte[] body = Content.Source.asInputStream(request).readAllBytes();
        String path = Request.getPathInContext(request);
        if (path.equals("/chunked")) {
            sendChunks(response);
            callback.succeeded();
            return true;
        }
        byte[] content = answer(request, response, path, body);
        boolean head = request.getMethod().equals("HEAD");
        if (response.getStatus() != 204) {
            response.getHeaders().put(HttpHeader.CONTENT_LENGTH, content.length);
        }
        response.write(true, ByteBuffer.wrap(head ? new byte[0] : content), callback);
        return true;
    }

    private static byte[] answer(Request request, Response response, String path, byte[] body) {
        response.setStatus(200);
        if (path.equals("/echo")) {
            return body;
        }
        if (request.getMethod().equals("DELETE")) {
            return text("deleted\n");
        }
        if (path.startsWith("/id/")) {
            return text(path + "\n");
        }
        return switch (path) {
            case "/api/users" -> USERS;
            case "/big" -> BIG;
            case "/slow" -> slow(request.getHttpURI().getQuery());
            case "/boom" -> failure(response, 500, "boom\n");
            case "/empty" -> failure(response, 204, "");
            default -> failure(response, 404, "missing\n");
        };
    }

    private static byte[] failure(Response response, int status, String body) {
        response.setStatus(status);
        return text(body);
    }

    private static byte[] slow(String query) {
        pause(Integer.parseInt(query.substring("ms=".length())));
        return text("slow\n");
    }

    private static void pause(int milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private static void sendChunks(Response response) throws IOException {
        response.setStatus(200);
        for (String chunk : new String[] {"one\n", "two\n", "three\n"}) {
            Content.Sink.write(response, false, ByteBuffer.wrap(text(chunk)));
            pause(10);
        }
    }

    public static void main(String[] words) throws Exception {
        Arrays.fill(BIG, (byte) 'x');
        Server server = new Server();
        HttpConnectionFactory http = new HttpConnectionFactory(new HttpConfiguration());
        ServerConnector connector = new ServerConnector(server, http);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(words[0]));
        server.addConnector(connector);
        server.setHandler(new JettyServer());
        server.setRequestLog(new CustomRequestLog(System.out::println, LOG_FORMAT));
        server.start();
        server.join();
    }
}
