// go-client: net/http, eight requests at once. See "Client programs" in the README.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

const atOnce = 8

var client = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}

// request reads one line of a plan: method, url, body, framing and headers, parted by tabs.
func request(line string) (*http.Request, error) {
	fields := strings.Split(line, "\t")
	var body io.Reader
	if fields[2] != "-" {
		content, err := base64.StdEncoding.DecodeString(fields[2])
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(content)
		if fields[3] == "chunked" {
			body = io.MultiReader(body) // hides the length
		}
	}
	made, err := http.NewRequest(fields[0], fields[1], body)
	if err != nil {
		return nil, err
	}
	for _, header := range fields[4:] {
		name, value, _ := strings.Cut(header, ": ")
		made.Header.Set(name, value)
	}
	return made, nil
}

func call(line string) string {
	made, err := request(line)
	if err != nil {
		return failed(err)
	}
	response, err := client.Do(made)
	if err != nil {
		return failed(err)
	}
	defer response.Body.Close()
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return failed(err)
	}
	return fmt.Sprintf("%d %d", response.StatusCode, size)
}

func failed(err error) string {
	fmt.Fprintln(os.Stderr, err)
	return "0 0"
}

func run(plan []string) {
	results := make([]string, len(plan))
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for index, line := range plan {
		group.Add(1)
		slots <- struct{}{}
		go func() {
			defer group.Done()
			results[index] = call(line)
			<-slots
		}()
	}
	group.Wait()
	for _, result := range results {
		fmt.Println(result)
	}
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	var plan []string
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			plan = append(plan, line)
			continue
		}
		run(plan)
		plan = nil
	}
}
