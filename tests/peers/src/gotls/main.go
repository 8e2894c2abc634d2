// A server and a client of HTTPS by crypto/tls, and a server that reads into its stack.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
)

var (
	address     = flag.String("address", "", "of the server, to listen on or to ask")
	folder      = flag.String("folder", ".", "with certificates and www")
	maximum     = flag.String("tls", "1.3", "version")
	h2          = flag.Bool("h2", false, "allow HTTP/2")
	certificate = flag.Bool("certificate", false, "server: ask for one; client: show one")
	connections = flag.Int("connections", 1, "at once")
	each        = flag.Int("each", 1, "requests on each connection")
	upload      = flag.Int("upload", 0, "bytes of each request's body")
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func config() *tls.Config {
	pem, err := os.ReadFile(*folder + "/ca.pem")
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	version := uint16(tls.VersionTLS13)
	if *maximum == "1.2" {
		version = tls.VersionTLS12
	}
	return &tls.Config{RootCAs: pool, ClientCAs: pool, MinVersion: version, MaxVersion: version}
}

func pair(name string) []tls.Certificate {
	one, err := tls.LoadX509KeyPair(*folder+"/"+name, *folder+"/"+name)
	must(err)
	return []tls.Certificate{one}
}

func serverConfig() *tls.Config {
	c := config()
	c.Certificates = pair("server.pem")
	if *certificate {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c
}

type logged struct {
	http.ResponseWriter
	status int
}

func (l *logged) WriteHeader(status int) {
	l.status = status
	l.ResponseWriter.WriteHeader(status)
}

var files http.Handler

func answer(w http.ResponseWriter, r *http.Request) {
	out := &logged{w, 200}
	if r.Method == "PUT" {
		io.Copy(io.Discard, r.Body)
		out.WriteHeader(201)
	} else {
		files.ServeHTTP(out, r)
	}
	os.Stdout.WriteString(fmt.Sprintf("\"%s %s %s\" %d\n", r.Method, r.RequestURI, r.Proto, out.status))
}

func serve() {
	files = http.FileServer(http.Dir(*folder + "/www"))
	server := &http.Server{Addr: *address, Handler: http.HandlerFunc(answer), TLSConfig: serverConfig()}
	if !*h2 {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	must(server.ListenAndServeTLS("", ""))
}

// The handshake is made within the first Read, whose stack grows and is moved, and with it what is read into.
func answerFromStack(conn *tls.Conn) {
	defer conn.Close()
	var head [4096]byte
	n := 0
	for !bytes.Contains(head[:n], []byte("\r\n\r\n")) {
		more, err := conn.Read(head[n:])
		if err != nil {
			return
		}
		n += more
	}
	line := strings.TrimSpace(string(head[:bytes.IndexByte(head[:n], '\n')]))
	os.Stdout.WriteString(fmt.Sprintf("\"%s\" 200\n", line))
	conn.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nsmall\n"))
}

func serveFromStack() {
	listener, err := net.Listen("tcp", *address)
	must(err)
	for {
		raw, err := listener.Accept()
		must(err)
		go answerFromStack(tls.Server(raw, serverConfig()))
	}
}

func ask(client *http.Client, number int) {
	for turn := 0; turn < *each; turn++ {
		method, path, body := "GET", "small", io.Reader(nil)
		if *upload > 0 {
			method, path, body = "PUT", "upload/x", bytes.NewReader(make([]byte, *upload))
		}
		url := fmt.Sprintf("https://%s/%s?%d.%d", *address, path, number, turn)
		request, err := http.NewRequest(method, url, body)
		must(err)
		response, err := client.Do(request)
		must(err)
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		runtime.Gosched()
	}
}

func client() {
	var all sync.WaitGroup
	for number := 0; number < *connections; number++ {
		c := config()
		if *certificate {
			c.Certificates = pair("client.pem")
		}
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: *h2}
		all.Add(1)
		go func(number int) {
			defer all.Done()
			ask(&http.Client{Transport: transport}, number)
			transport.CloseIdleConnections()
		}(number)
	}
	all.Wait()
}

// Connections that are dropped unclosed, for the collector to take, and their memory to be another's.
func clientThatForgets() {
	for number := 0; number < *each; number++ {
		conn, err := tls.Dial("tcp", *address, config())
		must(err)
		fmt.Fprintf(conn, "GET /small?%d.0 HTTP/1.1\r\nHost: localhost\r\n\r\n", number)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(err)
		io.Copy(io.Discard, response.Body)
		if number%2 == 1 {
			fmt.Fprintf(conn, "GET /small?unread.%d HTTP/1.1\r\nHost: localhost\r\n\r\n", number)
		}
		conn = nil
		runtime.GC()
		runtime.GC()
	}
}

func main() {
	what := os.Args[1]
	must(flag.CommandLine.Parse(os.Args[2:]))
	map[string]func(){
		"serve": serve, "serve-from-stack": serveFromStack, "client": client, "client-that-forgets": clientThatForgets,
	}[what]()
}
