import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.net.URL;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** HTTPS by Java's own TLS: {@code Tls client PORT FOLDER PATH...} or {@code Tls server PORT FOLDER}. */
public final class Tls {
    private static final byte[] SMALL = "small\n".getBytes();
    private static final char[] SECRET = "secret".toCharArray();

    private Tls() {}

    public static void main(String[] words) throws Exception {
        if (words[0].equals("server")) {
            serve(Integer.parseInt(words[1]), words[2]);
            return;
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trusting(words[2] + "/ca.pem").getTrustManagers(), null);
        HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
        for (int i = 3; i < words.length; i++) {
            URL url = new URL("https://localhost:" + words[1] + words[i]);
            HttpsURLConnection connection = (HttpsURLConnection) url.openConnection();
            connection.getInputStream().readAllBytes();
            System.out.println(connection.getResponseCode());
        }
    }

    private static TrustManagerFactory trusting(String path) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(path)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(store);
        return factory;
    }

    private static void serve(int port, String folder) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (FileInputStream file = new FileInputStream(folder + "/server.p12")) {
            store.load(file, SECRET);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, SECRET);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        HttpsServer server = HttpsServer.create(new InetSocketAddress("127.0.0.1", port), 100);
        server.setHttpsConfigurator(new HttpsConfigurator(context));
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, SMALL.length);
            exchange.getResponseBody().write(SMALL);
            exchange.close();
        });
        server.start();
    }
}
