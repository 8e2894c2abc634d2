// go-relay PORT UPSTREAM: asks UPSTREAM for the path that it is asked for, and hands the answer on; of /later/ after its own.
// Its own transport keeps connections; each is made by a goroutine of its own.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// ask hands an answer on; an upstream that cannot be reached is a 502.
func ask(to io.Writer, url string) int {
	answer, err := client.Get(url)
	if err != nil {
		return http.StatusBadGateway
	}
	defer answer.Body.Close()
	io.Copy(to, answer.Body)
	return answer.StatusCode
}

func main() {
	upstream := os.Args[2]
	http.HandleFunc("/", func(to http.ResponseWriter, request *http.Request) {
		url := upstream + request.URL.Path
		if strings.HasPrefix(request.URL.Path, "/later/") {
			go func() {
				time.Sleep(3 * time.Millisecond)
				ask(io.Discard, url)
			}()
			return
		}
		var text strings.Builder
		to.WriteHeader(ask(&text, url))
		io.WriteString(to, text.String())
	})
	fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
