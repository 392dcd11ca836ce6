// Evaluates expressions with the Go original of the tree search language: an oracle for crates/lang.
//
// A line in is {"expression": "…", "values": {"name": …}}; the line out is {"value": …} or {"parse": "…"} or
// {"error": "…"}. Times come out as {"time": nanoseconds}, objects as {"object": true}.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/yaacov/tree-search-language/v6/pkg/tsl"
	"github.com/yaacov/tree-search-language/v6/pkg/walkers/semantics"
)

type question struct {
	Expression string                 `json:"expression"`
	Values     map[string]interface{} `json:"values"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		var asked question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		line, err := json.Marshal(answer(asked))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Write(line)
		out.WriteByte('\n')
		out.Flush()
	}
}

func answer(asked question) (told map[string]interface{}) {
	// two objects compared with each other panic in the original
	defer func() {
		if panicked := recover(); panicked != nil {
			told = map[string]interface{}{"error": fmt.Sprint("panic: ", panicked)}
		}
	}()
	tree, err := tsl.ParseTSL(asked.Expression)
	if err != nil {
		return map[string]interface{}{"parse": err.Error()}
	}
	value, err := semantics.Walk(tree, func(name string) (interface{}, bool) {
		return asked.Values[name], true
	})
	if err != nil {
		return map[string]interface{}{"error": err.Error()}
	}
	return map[string]interface{}{"value": plain(value)}
}

func plain(value interface{}) interface{} {
	switch v := value.(type) {
	case []interface{}:
		list := make([]interface{}, len(v))
		for i, element := range v {
			list[i] = plain(element)
		}
		return list
	case time.Time:
		// seconds and nanoseconds: the years that can be written do not fit into 64 bits of nanoseconds
		return map[string]interface{}{"time": fmt.Sprintf("%d.%09d", v.Unix(), v.Nanosecond())}
	case map[string]interface{}:
		return map[string]interface{}{"object": true}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return value
}
