// Command smd answers what structured-merge-diff makes of an update or an apply, one JSON line for each line read.
//
// A line {"schema": S} sets the OpenAPI v3 schema of the objects that follow and is not answered. Every other line is
// one operation: {"op": "update"|"apply", "live": O, "object": O, "manager": M, "force": B, "ignored": F,
// "managers": [{"name": M, "applied": B, "fields": F}]}, F being FieldsV1. Its answer is {"object": O, "managers": […]},
// without object where the live one stays, or {"conflicts": [{"manager": M, "path": P}]}, or {"error": "…"}.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sort"

	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/merge"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

const version = fieldpath.APIVersion("v1")

type manager struct {
	Name    string          `json:"name"`
	Applied bool            `json:"applied"`
	Fields  json.RawMessage `json:"fields"`
}

type conflict struct {
	Manager string `json:"manager"`
	Path    string `json:"path"`
}

type request struct {
	Schema   json.RawMessage `json:"schema"`
	Op       string          `json:"op"`
	Live     json.RawMessage `json:"live"`
	Object   json.RawMessage `json:"object"`
	Manager  string          `json:"manager"`
	Force    bool            `json:"force"`
	Ignored  json.RawMessage `json:"ignored"`
	Managers []manager       `json:"managers"`
}

type answer struct {
	Object    *interface{} `json:"object,omitempty"`
	Managers  []manager    `json:"managers,omitempty"`
	Conflicts []conflict   `json:"conflicts,omitempty"`
	Error     string       `json:"error,omitempty"`
}

// same is the converter between versions: there is one.
type same struct{}

func (same) Convert(object *typed.TypedValue, _ fieldpath.APIVersion) (*typed.TypedValue, error) {
	return object, nil
}

func (same) IsMissingVersionError(error) bool { return false }

func objectType(raw json.RawMessage) (typed.ParseableType, error) {
	model := &spec.Schema{}
	if err := json.Unmarshal(raw, model); err != nil {
		return typed.ParseableType{}, err
	}
	converted, err := schemaconv.ToSchemaFromOpenAPI(map[string]*spec.Schema{"root": model}, false)
	if err != nil {
		return typed.ParseableType{}, err
	}
	name := "root"
	return typed.ParseableType{Schema: converted, TypeRef: schema.TypeRef{NamedType: &name}}, nil
}

func decode(raw json.RawMessage) (interface{}, error) {
	var out interface{}
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &out)
	return out, err
}

func fieldSet(raw json.RawMessage) (*fieldpath.Set, error) {
	set := fieldpath.NewSet()
	if len(raw) == 0 {
		return set, nil
	}
	return set, set.FromJSON(bytes.NewReader(raw))
}

func operate(objects typed.ParseableType, r *request) (*answer, error) {
	live, err := decode(r.Live)
	if err != nil {
		return nil, err
	}
	object, err := decode(r.Object)
	if err != nil {
		return nil, err
	}
	managers := fieldpath.ManagedFields{}
	for _, m := range r.Managers {
		set, err := fieldSet(m.Fields)
		if err != nil {
			return nil, err
		}
		managers[m.Name] = fieldpath.NewVersionedSet(set, version, m.Applied)
	}
	ignored, err := fieldSet(r.Ignored)
	if err != nil {
		return nil, err
	}
	updater := (&merge.UpdaterBuilder{
		Converter:    same{},
		IgnoreFilter: map[fieldpath.APIVersion]fieldpath.Filter{version: fieldpath.NewExcludeSetFilter(ignored)},
	}).BuildUpdater()
	before, err := objects.FromUnstructured(live, typed.AllowDuplicates)
	if err != nil {
		return nil, err
	}
	var after *typed.TypedValue
	switch r.Op {
	case "update":
		object, err := objects.FromUnstructured(object, typed.AllowDuplicates)
		if err != nil {
			return nil, err
		}
		after, managers, err = updater.Update(before, object, version, managers, r.Manager)
		if err != nil {
			return nil, err
		}
	case "apply":
		object, err := objects.FromUnstructured(object)
		if err != nil {
			return nil, err
		}
		after, managers, err = updater.Apply(before, object, version, managers, r.Manager, r.Force)
		if found, ok := err.(merge.Conflicts); ok {
			out := &answer{}
			for _, c := range found {
				out.Conflicts = append(out.Conflicts, conflict{c.Manager, c.Path.String()})
			}
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown operation %q", r.Op)
	}
	out := &answer{}
	if after != nil {
		object := after.AsValue().Unstructured()
		out.Object = &object
	}
	for name, set := range managers {
		fields, err := set.Set().ToJSON()
		if err != nil {
			return nil, err
		}
		out.Managers = append(out.Managers, manager{name, set.Applied(), fields})
	}
	sort.Slice(out.Managers, func(i, j int) bool { return out.Managers[i].Name < out.Managers[j].Name })
	return out, nil
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	var objects typed.ParseableType
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		r := &request{}
		if err := json.Unmarshal(line, r); err != nil {
			fmt.Fprintln(os.Stderr, "smd: not a request:", err)
			os.Exit(1)
		}
		if len(r.Schema) > 0 {
			if objects, err = objectType(r.Schema); err != nil {
				fmt.Fprintln(os.Stderr, "smd: not a schema:", err)
				os.Exit(1)
			}
			continue
		}
		a, err := operate(objects, r)
		if err != nil {
			a = &answer{Error: err.Error()}
		}
		encoded, err := json.Marshal(a)
		if err != nil {
			fmt.Fprintln(os.Stderr, "smd: cannot answer:", err)
			os.Exit(1)
		}
		out.Write(encoded)
		out.WriteByte('\n')
		if err := out.Flush(); err != nil {
			return
		}
	}
}
