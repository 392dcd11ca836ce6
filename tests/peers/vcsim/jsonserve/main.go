// Command jsonserve answers prepared JSON from memory with Go's net/http: what an inventory service costs at least when
// it is written in Go. It reads a JSON list of objects with an `id` each and serves
//
//	GET …/vms/{id}        the object
//	GET …/vms?detail=4    the whole list
//	GET …/vms?encode=1    the whole list, encoded anew from decoded objects by encoding/json
//
// below any path, over plain HTTP on loopback. It prints one line of JSON when it is ready and ends when its standard
// input is closed.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	listen := flag.String("l", "127.0.0.1:0", "listen address")
	file := flag.String("file", "", "the list of objects")
	flag.Parse()
	text, err := os.ReadFile(*file)
	check(err)
	var list []json.RawMessage
	check(json.Unmarshal(text, &list))
	var decoded []any
	check(json.Unmarshal(text, &decoded))
	objects := map[string][]byte{}
	for _, o := range list {
		var key struct {
			ID string `json:"id"`
		}
		check(json.Unmarshal(o, &key))
		objects[key.ID] = append([]byte(nil), o...)
	}
	l, err := net.Listen("tcp", *listen)
	check(err)
	go func() {
		check(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at := strings.LastIndex(r.URL.Path, "/vms")
			if at < 0 || r.Method != http.MethodGet {
				http.NotFound(w, r)
				return
			}
			if r.URL.Query().Get("encode") != "" {
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(decoded)
				return
			}
			body := text
			if id := strings.Trim(r.URL.Path[at+len("/vms"):], "/"); id != "" {
				if body = objects[id]; body == nil {
					http.NotFound(w, r)
					return
				}
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
		})))
	}()
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"address": l.Addr().String(), "objects": len(objects)}))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
