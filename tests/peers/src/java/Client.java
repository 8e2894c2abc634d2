import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/** java.net.http, one request after the other. See "Client programs" in the README. */
public final class Client {
    private static final HttpClient CLIENT =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private static BodyPublisher publisher(String body, String framing) {
        if (body.equals("-")) {
            return BodyPublishers.noBody();
        }
        byte[] content = Base64.getDecoder().decode(body);
        if (framing.equals("chunked")) {
            return BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(content));
        }
        return BodyPublishers.ofByteArray(content);
    }

    private static String call(String line) throws InterruptedException {
        String[] fields = line.split("\t");
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(fields[1]))
                .method(fields[0], publisher(fields[2], fields[3]));
        for (int index = 4; index < fields.length; index++) {
            String[] header = fields[index].split(": ", 2);
            request.setHeader(header[0], header[1]);
        }
        try {
            HttpResponse<byte[]> response =
                    CLIENT.send(request.build(), BodyHandlers.ofByteArray());
            return response.statusCode() + " " + response.body().length;
        } catch (IOException error) {
            System.err.println(error);
            return "0 0";
        }
    }

    public static void main(String[] words) throws IOException, InterruptedException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        List<String> plan = new ArrayList<>();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (!line.isEmpty()) {
                plan.add(line);
                continue;
            }
            for (String one : plan) {
                System.out.println(call(one));
            }
            plan.clear();
        }
    }
}
