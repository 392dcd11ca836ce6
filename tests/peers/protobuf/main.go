// Kubernetes' protobuf form, as its published Go types have it.
//
//	protobuf table           writes the table of messages for embedded/apiserver/src/protobuf/messages.txt
//	protobuf samples N SEED  writes N random objects of every kind: KIND, the protobuf body in base64, the same as JSON
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"
)

func main() {
	known := runtime.NewScheme()
	must(scheme.AddToScheme(known))
	must(apiext.AddToScheme(known))
	types := kinds(known)
	switch {
	case len(os.Args) == 2 && os.Args[1] == "table":
		table(types)
	case len(os.Args) == 4 && os.Args[1] == "samples":
		count, err := strconv.Atoi(os.Args[2])
		must(err)
		seed, err := strconv.ParseInt(os.Args[3], 10, 64)
		must(err)
		samples(known, types, count, seed)
	default:
		must(fmt.Errorf("usage: protobuf table | samples N SEED"))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// kinds returns every kind that a client may send as a body: no lists, no alpha and beta versions.
func kinds(known *runtime.Scheme) map[schema.GroupVersionKind]reflect.Type {
	found := map[schema.GroupVersionKind]reflect.Type{}
	for kind, goType := range known.AllKnownTypes() {
		_, marshals := reflect.New(goType).Interface().(interface{ Marshal() ([]byte, error) })
		unstable := strings.Contains(kind.Version, "alpha") || strings.Contains(kind.Version, "beta")
		if marshals && !unstable && kind.Version != runtime.APIVersionInternal && !strings.HasSuffix(kind.Kind, "List") && kind.Kind != "WatchEvent" && kind.Kind != "PodStatusResult" {
			found[kind] = goType
		}
	}
	return found
}

func short(goType reflect.Type) string {
	path := goType.PkgPath()
	for _, prefix := range []string{"k8s.io/api/", "k8s.io/apimachinery/pkg/", "k8s.io/apiextensions-apiserver/pkg/apis/"} {
		path = strings.TrimPrefix(path, prefix)
	}
	return strings.ReplaceAll(path, "/", ".") + "." + goType.Name()
}

func scalar(goType reflect.Type) string {
	switch goType.Kind() {
	case reflect.String:
		return "s"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "i"
	case reflect.Bool:
		return "b"
	case reflect.Float32, reflect.Float64:
		return "d"
	}
	return ""
}

// table writes a line for each kind, `@GROUP/VERSION/KIND MESSAGE`, and one for each message: its name and a word for
// each field, `NUMBER:JSON NAME:FORM`. The form is `*` for a list or `%` for a map, then s text, i whole number,
// b boolean, d number, y bytes or the name of a message; `?` behind it: JSON leaves it out when it is zero.
// A field without a name stands in the message around it.
func table(types map[schema.GroupVersionKind]reflect.Type) {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var lines []string
	pending, seen := []reflect.Type{}, map[reflect.Type]bool{}
	want := func(goType reflect.Type) string {
		if !seen[goType] {
			seen[goType] = true
			pending = append(pending, goType)
		}
		return short(goType)
	}
	for kind, goType := range types {
		lines = append(lines, fmt.Sprintf("@%s/%s %s", kind.GroupVersion(), kind.Kind, want(goType)))
	}
	for len(pending) > 0 {
		goType := pending[0]
		pending = pending[1:]
		if goType.Kind() != reflect.Struct {
			// a list under a name of its own: [] stands for the message itself
			lines = append(lines, short(goType)+" 1:[]:*"+scalar(goType.Elem()))
			continue
		}
		words := []string{short(goType)}
		for i := range goType.NumField() {
			field := goType.Field(i)
			tag := strings.Split(field.Tag.Get("protobuf"), ",")
			if len(tag) < 2 {
				continue
			}
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" && !strings.Contains(options, "inline") && !field.Anonymous {
				name = field.Name
			}
			of, shape, omit := field.Type, "", ""
			if strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") {
				omit = "?"
			}
			if of.Kind() == reflect.Pointer {
				of, omit = of.Elem(), ""
			} else if of.Kind() == reflect.Struct && !strings.Contains(options, "omitzero") {
				omit = ""
			}
			message := of.Kind() == reflect.Slice && of.Name() != ""
			if message {
				if _, ok := reflect.New(of).Interface().(interface{ Marshal() ([]byte, error) }); !ok {
					message = false
				}
			}
			switch {
			case message:
			case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Uint8:
			case of.Kind() == reflect.Slice:
				of, shape = of.Elem(), "*"
			case of.Kind() == reflect.Map:
				of, shape = of.Elem(), "%"
			}
			for of.Kind() == reflect.Pointer {
				of = of.Elem()
			}
			form := scalar(of)
			switch {
			case of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Uint8:
				form = "y"
			case form == "":
				form = want(of)
			}
			words = append(words, fmt.Sprintf("%s:%s:%s%s%s", tag[1], name, shape, form, omit))
		}
		lines = append(lines, strings.Join(words, " "))
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
}

func samples(known *runtime.Scheme, types map[schema.GroupVersionKind]reflect.Type, count int, seed int64) {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	text := func(c randfill.Continue) string { return []string{"", "a", "b-1", "text with ü", "x.y/z"}[c.Intn(5)] }
	raw := func(c randfill.Continue) []byte {
		return []byte([]string{`"s"`, `{"a":1}`, `true`, `[1,"x"]`}[c.Intn(4)])
	}
	filler := randfill.NewWithSeed(seed).NilChance(0.4).NumElements(1, 3).MaxDepth(14).Funcs(
		func(s *string, c randfill.Continue) { *s = text(c) },
		func(f *float64, c randfill.Continue) { *f = float64(c.Intn(9)) / 2 },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse([]string{"1", "500m", "3Gi", "0"}[c.Intn(4)])
		},
		func(i *intstr.IntOrString, c randfill.Continue) {
			*i = []intstr.IntOrString{intstr.FromInt32(0), intstr.FromInt32(8080), intstr.FromString("50%")}[c.Intn(3)]
		},
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(1_700_000_000+c.Int63n(1000), 0) },
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(metav1.Unix(1_700_000_000, 123456000).Time)
		},
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw, r.Object = []byte(`{"k":"v"}`), nil },
		func(j *apiext.JSON, c randfill.Continue) { j.Raw = raw(c) },
		func(j *apiext.JSONSchemaPropsOrBool, c randfill.Continue) {
			if c.Bool() {
				j.Allows, j.Schema = true, &apiext.JSONSchemaProps{Type: "string"}
			} else {
				j.Allows = c.Bool()
			}
		},
		func(j *apiext.JSONSchemaPropsOrArray, c randfill.Continue) {
			if c.Bool() {
				j.Schema = &apiext.JSONSchemaProps{Type: "string"}
			} else {
				j.JSONSchemas = []apiext.JSONSchemaProps{{Type: "string"}, {Type: "integer"}}
			}
		},
		func(j *apiext.JSONSchemaPropsOrStringArray, c randfill.Continue) { j.Property = []string{"a", "b"} },
		func(f *metav1.FieldsV1, c randfill.Continue) { must(json.Unmarshal([]byte(`{"f:a":{}}`), f)) },
		func(t *metav1.TypeMeta, c randfill.Continue) {},
	)
	encoder := protobuf.NewSerializer(known, known)
	var order []schema.GroupVersionKind
	for kind := range types {
		order = append(order, kind)
	}
	sort.Slice(order, func(i, j int) bool { return order[i].String() < order[j].String() })
	random := rand.New(rand.NewSource(seed))
	for _, kind := range order {
		for range count {
			object := reflect.New(types[kind]).Interface().(runtime.Object)
			filler.MaxDepth(3 + random.Intn(10)).Fill(object)
			object.GetObjectKind().SetGroupVersionKind(kind)
			body, err := runtime.Encode(encoder, object)
			must(err)
			// what a server reads out of the body, which is what has to be matched
			back, _, err := encoder.Decode(body, nil, nil)
			must(err)
			back.GetObjectKind().SetGroupVersionKind(kind)
			text, err := json.Marshal(back)
			must(err)
			fmt.Fprintf(out, "%s %s %s\n", kind.Kind, base64.StdEncoding.EncodeToString(body), text)
		}
	}
}
