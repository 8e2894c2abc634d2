// go-server PORT: net/http with the common routes, one log line for each answered request.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const users = `[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]` + "\n"

var big = bytes.Repeat([]byte("x"), 1024*1024)

// answer says what to send; /chunked is sent by sendChunks instead.
func answer(request *http.Request, body []byte) (int, []byte) {
	switch path := request.URL.Path; {
	case path == "/echo":
		return http.StatusOK, body
	case request.Method == http.MethodDelete:
		return http.StatusOK, []byte("deleted\n")
	case path == "/api/users":
		return http.StatusOK, []byte(users)
	case strings.HasPrefix(path, "/id/"):
		return http.StatusOK, []byte(path + "\n")
	case path == "/boom":
		return http.StatusInternalServerError, []byte("boom\n")
	case path == "/big":
		return http.StatusOK, big
	case path == "/empty":
		return http.StatusNoContent, nil
	case path == "/slow":
		milliseconds, _ := strconv.Atoi(request.URL.Query().Get("ms"))
		time.Sleep(time.Duration(milliseconds) * time.Millisecond)
		return http.StatusOK, []byte("slow\n")
	}
	return http.StatusNotFound, []byte("missing\n")
}

func sendChunks(response http.ResponseWriter) (int, int) {
	sent := 0
	for _, chunk := range []string{"one\n", "two\n", "three\n"} {
		size, _ := io.WriteString(response, chunk)
		response.(http.Flusher).Flush()
		sent += size
		time.Sleep(10 * time.Millisecond)
	}
	return http.StatusOK, sent
}

func send(response http.ResponseWriter, request *http.Request, body []byte) (int, int) {
	if request.URL.Path == "/chunked" {
		return sendChunks(response)
	}
	status, content := answer(request, body)
	if status != http.StatusNoContent {
		response.Header().Set("Content-Length", strconv.Itoa(len(content)))
	}
	response.WriteHeader(status)
	if request.Method == http.MethodHead {
		return status, 0
	}
	sent, _ := response.Write(content)
	return status, sent
}

func handle(response http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	status, sent := send(response, request, body)
	line := request.Method + " " + request.RequestURI + " " + request.Proto
	fmt.Printf("\"%s\" %d %d %d\n", line, status, sent, len(body))
}

func main() {
	err := http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handle))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
